//! Files that are written piece by piece: under another name until they are whole.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// For its owner alone: it holds records and the audit trail.
const MODE: u32 = 0o600;

/// A file that is not whole yet. Removed unless it is finished, also where the command is interrupted.
pub struct Part {
    file: File,
    path: PathBuf,
    goal: PathBuf,
    finished: bool,
}

impl Part {
    /// Begins `goal` as `goal.part`. Without `force` a file that is there stays as it is.
    pub fn create(goal: &Path, force: bool) -> Result<Self, Failure> {
        if goal.file_name().is_none() || goal.is_dir() {
            return Err(Failure::usage(
                format!("{} is not the name of a file", goal.display()),
                "name the file to write",
            ));
        }
        if !force && goal.symlink_metadata().is_ok() {
            return Err(Failure::found(
                "already_exists",
                format!("{} is there already", goal.display()),
                "name another file, or replace it with --force",
            ));
        }
        let mut name: OsString = goal.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&path);
        let file = opened.map_err(|error| cannot(&path, "be written", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::found(
                    "already_exists",
                    format!("{} is being written by another `mesh`", path.display()),
                    "wait for it, or name another file",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(&path, "be locked", &error)),
        }
        // What an earlier one left, that was killed.
        file.set_len(0)
            .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)))
            .map_err(|error| cannot(&path, "be written", &error))?;
        Ok(Self {
            file,
            path,
            goal: goal.to_owned(),
            finished: false,
        })
    }

    /// Adds to it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all(bytes)
            .map_err(|error| cannot(&self.path, "be written", &error))
    }

    /// Gives it its name, once all of it is on disk.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.file
            .sync_all()
            .map_err(|error| cannot(&self.path, "be synced", &error))?;
        std::fs::rename(&self.path, &self.goal).map_err(|error| cannot(&self.goal, "be written", &error))?;
        self.finished = true;
        let parent = match self.goal.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| cannot(parent, "be synced", &error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about it; the next one takes its place.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn cannot(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::usage(
        format!("{} cannot {what}: {error}", path.display()),
        "name a file on a disk with room, in a directory that you can write to",
    )
}

//! `mesh backup save`

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use api_client::backup::Receiver;
use proto::v1::SaveBackupRequest;

use super::{Document, mebibytes, progress, show};
use crate::{app::App, failure::Failure};

/// For its owner alone: it holds every record and the audit trail.
const MODE: u32 = 0o600;

/// Where to, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write. Until it is whole it is called FILE.part
    file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    reason: String,
    /// Change ticket, for the audit trail
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    ticket: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    if args.file.file_name().is_none() || args.file.is_dir() {
        return Err(Failure::usage(
            format!("{} is not the name of a file", args.file.display()),
            "name the file to write",
        ));
    }
    if !args.force && args.file.symlink_metadata().is_ok() {
        return Err(Failure::found(
            "already_exists",
            format!("{} is there already", args.file.display()),
            "name another file, or replace it with --force",
        ));
    }
    // A place to write to before anything is asked for: taking a backup is recorded.
    let mut part = Part::create(&args.file)?;
    let bar = progress(app);
    let request = SaveBackupRequest {
        reason: args.reason,
        ticket: args.ticket,
    };
    let mut stream = client.save_backup(request).await?;
    let mut receiver = Receiver::new();
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await? {
        receiver.take(&chunk.data)?;
        part.write(&chunk.data)?;
        bytes += chunk.data.len() as u64;
        let revision = receiver.header().map_or(0, |header| header.position.revision.0);
        bar.set_message(format!("revision {revision}: {}", mebibytes(bytes)));
    }
    let (header, end) = receiver.finish()?;
    part.finish()?;
    bar.finish_and_clear();
    show(app, "the backup is whole", &Document::new(&args.file, &header, end))
}

/// A file that is not whole yet. Removed unless it is finished, also where the command is interrupted.
struct Part {
    file: File,
    path: PathBuf,
    goal: PathBuf,
    finished: bool,
}

impl Part {
    fn create(goal: &Path) -> Result<Self, Failure> {
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

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all(bytes)
            .map_err(|error| cannot(&self.path, "be written", &error))
    }

    /// Gives it its name, once all of it is on disk.
    fn finish(mut self) -> Result<(), Failure> {
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

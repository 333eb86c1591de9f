//! Writing certificates and secrets to disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Its owner alone: mode 0600.
    Secret,
    /// Everybody: mode 0644.
    Public,
}

impl Secrecy {
    const fn mode(self) -> u32 {
        match self {
            Self::Secret => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Writes a file whole or not at all, and durably: beside it, synced, then renamed.
///
/// # Errors
/// [`Error::Exists`] when the file is there and `force` is not given.
pub fn write(path: &Path, content: &[u8], secrecy: Secrecy, force: bool) -> Result<(), Error> {
    if !force && path.symlink_metadata().is_ok() {
        return Err(Error::Exists(path.to_owned()));
    }
    replace(path, content, secrecy).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

/// Replaces a file as [`write`] does, whatever was there.
pub fn replace(path: &Path, content: &[u8], secrecy: Secrecy) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let beside = beside(path);
    // Left over from a writer that was killed; the mode of an existing file would stay as it was.
    match std::fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(secrecy.mode())
        .open(&beside)?;
    let replaced = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = replaced {
        // Half a file is of no use to anybody; on a full disk it would even be in the way.
        std::fs::remove_file(&beside).ok();
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Reads a small text file.
pub fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

//! The ballast: a file whose only content is space.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Its name in the data directory.
pub(super) const NAME: &str = "BALLAST";

/// Its length; 0 where there is none.
pub(super) fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Makes it this long, with blocks behind every byte; 0 removes it.
pub(super) fn set(path: &Path, bytes: u64) -> io::Result<()> {
    // Anew each time: what is shorter or longer than asked for may have been cut short in the making.
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if bytes == 0 {
        return Ok(());
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| fill(&file, bytes));
    if made.is_err() {
        // A part of it would only be in the way.
        std::fs::remove_file(path).ok();
    }
    made
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // This file system knows no such thing; written bytes take space on any.
        Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(bytes), &mut &*file).map(drop),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_takes_space_and_gives_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        assert_eq!(length(&path), 0);
        for bytes in [1 << 20, 1 << 16] {
            set(&path, bytes).unwrap();
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!(found.len(), bytes);
            assert!(found.blocks() * 512 >= bytes, "it has no blocks: {}", found.blocks());
            assert_eq!(found.mode() & 0o777, 0o600);
        }
        set(&path, 0).unwrap();
        assert!(!path.exists());
        set(&path, 0).unwrap();
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        set(&path, i64::MAX.unsigned_abs()).unwrap_err();
        assert!(!path.exists());
    }
}

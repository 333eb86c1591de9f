//! The directory of a development mesh.
//!
//! ```text
//! <dir>/.meshkit-dev         says that the directory is ours to delete; locked while in use
//! <dir>/dev.json             everything a program needs to use the mesh, once it is ready
//! <dir>/context.toml         the same for the mesh CLI
//! <dir>/ca.crt, ca.key       the mesh's certificate authority
//! <dir>/jwt.pub, jwt.key     the key tokens are signed with
//! <dir>/tokens/<name>.jwt    tokens
//! <dir>/<cluster>/node-<n>/  node.toml, node.crt, node.key, node.log, data/
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Failure};

const MARKER: &str = ".meshkit-dev";

/// What the marker file says to whoever finds it.
const MARKER_TEXT: &str = "This directory belongs to `meshkit-node dev`, which deletes it when told --fresh.\n";

/// A directory in use by a development mesh.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    _lock: File,
}

impl Layout {
    /// Takes the directory into use. It has to be absent or empty, or ours and `fresh` given.
    pub fn prepare(directory: &Path, fresh: bool) -> Result<Self, Failure> {
        let failed = |doing: &str, error: &io::Error| {
            Failure::new(Exit::Directory, format!("{}: {doing}: {error}", directory.display()))
        };
        let marker = directory.join(MARKER);
        if marker.is_file() {
            let held = hold(&marker, directory)?;
            if !fresh {
                return Err(Failure::new(
                    Exit::Directory,
                    format!(
                        "{} holds an earlier development mesh; --fresh deletes it",
                        directory.display()
                    ),
                ));
            }
            // The marker goes last: a deletion that was interrupted can be repeated.
            empty(directory, &marker).map_err(|error| failed("cannot be emptied", &error))?;
            drop(held);
        } else if !is_empty(directory).map_err(|error| failed("cannot be read", &error))? {
            return Err(Failure::new(
                Exit::Directory,
                format!(
                    "{} is neither empty nor a development mesh's directory, and is left alone; choose another with \
                     --data-dir",
                    directory.display()
                ),
            ));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| failed("cannot be made", &error))?;
        let root = directory
            .canonicalize()
            .map_err(|error| failed("cannot be used", &error))?;
        let marker = root.join(MARKER);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&marker)
            .map_err(|error| failed("cannot be written", &error))?;
        file.write_all(MARKER_TEXT.as_bytes())
            .map_err(|error| failed("cannot be written", &error))?;
        drop(file);
        let lock = hold(&marker, &root)?;
        Ok(Self { root, _lock: lock })
    }

    /// A file or directory right below the root.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a cluster's nodes are.
    pub fn cluster(&self, cluster: &str) -> PathBuf {
        self.root.join(cluster)
    }

    /// Where a node's files are.
    pub fn node(&self, cluster: &str, node: u16) -> PathBuf {
        self.cluster(cluster).join(format!("node-{node}"))
    }

    /// Makes a directory that only its owner can look into.
    pub fn make(&self, directory: &Path) -> Result<(), Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| {
                Failure::new(
                    Exit::Directory,
                    format!("{}: cannot be made: {error}", directory.display()),
                )
            })
    }
}

fn hold(marker: &Path, directory: &Path) -> Result<File, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Exit::Directory,
            format!("{}: cannot be locked: {error}", marker.display()),
        )
    };
    let file = File::open(marker).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::new(
            Exit::Directory,
            format!(
                "{} is in use by a running development mesh; stop it first",
                directory.display()
            ),
        )),
        Err(error) => Err(failed(error.into())),
    }
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn empty(directory: &Path, marker: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if path == marker {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_absent_empty_and_own_directories_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("mesh");
        let used = Layout::prepare(&ours, false).unwrap();
        std::fs::write(ours.join("left-over"), "x").unwrap();
        let busy = Layout::prepare(&ours, true).unwrap_err();
        assert!(busy.message.contains("running development mesh"), "{busy}");
        drop(used);
        assert!(Layout::prepare(&ours, false).unwrap_err().message.contains("--fresh"));
        drop(Layout::prepare(&ours, true).unwrap());
        assert!(!ours.join("left-over").exists());

        let foreign = dir.path().join("home");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("thesis"), "x").unwrap();
        assert_eq!(Layout::prepare(&foreign, true).unwrap_err().exit, Exit::Directory);
        assert!(foreign.join("thesis").exists());
    }
}

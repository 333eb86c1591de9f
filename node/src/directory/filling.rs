//! An empty directory that is being filled with a restored mesh.
//!
//! Until it is whole there is a file [`UNFINISHED`] in it and no `IDENTITY`: no node starts on it, and the restore can
//! be run again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Marker, disk, fresh, lock, read_marker, refused, write_marker};
use crate::certs::files::{self, Secrecy};
use crate::config::Config;
use crate::exit::Failure;

/// Says that a restore was begun and not finished.
const UNFINISHED: &str = "RESTORING";

/// The same while it is being written.
const BEGINNING: &str = "RESTORING.new";

/// What a restore that was not finished may have left: all of it is made again.
const LEFT: [&str; 3] = ["log", "state", "IDENTITY"];

/// An identity that was never finished.
const NAMELESS: &str = "IDENTITY.new";

/// What the file says to whoever finds it.
const TEXT: &str = "A restore was begun here and not finished. Run `meshkit-node restore` again.\n";

/// A directory that nobody but this process uses, and that no node can be started on yet.
#[derive(Debug)]
pub struct Filling {
    path: PathBuf,
    marker: Marker,
    _lock: File,
}

impl Filling {
    /// Takes an empty directory, or one whose restore was not finished.
    ///
    /// # Errors
    /// Exit 3 when there is anything in it, or it is in use.
    pub fn begin(config: &Config) -> Result<Self, Failure> {
        let path = &config.node.data_dir;
        let lock = lock(path)?;
        let unfinished = is_unfinished(path);
        if !unfinished && let Some(marker) = read_marker(path)? {
            let why = format!(
                "holds the data of node {} of cluster {} of mesh {}; restore only fills an empty one",
                marker.node, marker.cluster, marker.mesh
            );
            return Err(refused(path, &why));
        }
        let unreadable = |error: io::Error| disk(path, "cannot be read", &error);
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name == "LOCK" || name == UNFINISHED || name == BEGINNING {
                continue;
            }
            // A node that was killed when it first started leaves that much, and nothing else.
            let nobody = name == NAMELESS;
            let left = unfinished && LEFT.iter().any(|left| name == *left);
            if !(nobody || left) {
                let why = format!(
                    "is not empty: {} is in it; restore only fills an empty one",
                    name.display()
                );
                return Err(refused(path, &why));
            }
            let left = entry.path();
            let removed = if left.is_dir() {
                std::fs::remove_dir_all(&left)
            } else {
                std::fs::remove_file(&left)
            };
            removed.map_err(|error| disk(path, "what an unfinished restore left cannot be removed", &error))?;
        }
        files::replace(&path.join(UNFINISHED), TEXT.as_bytes(), Secrecy::Public)
            .map_err(|error| disk(path, "cannot be written to", &error))?;
        Ok(Self {
            path: path.clone(),
            marker: Marker {
                founder: true,
                ..fresh(config)?
            },
            _lock: lock,
        })
    }

    /// Where a store is kept.
    pub fn store(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes it the directory of the node that founds the restored cluster. The stores have to be closed and synced.
    ///
    /// # Errors
    /// Exit 5 when it cannot be written.
    pub fn done(self) -> Result<(), Failure> {
        write_marker(&self.path, &self.marker)?;
        let unfinished = self.path.join(UNFINISHED);
        std::fs::remove_file(&unfinished)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(|error| disk(&self.path, "cannot be written to", &error))
    }
}

/// Whether a restore was begun in a directory and not finished.
pub(super) fn is_unfinished(path: &Path) -> bool {
    path.join(UNFINISHED).exists()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::DataDirectory;
    use super::*;
    use crate::exit::Exit;

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        config.node.data_dir = dir.to_owned();
        config
    }

    #[test]
    fn only_an_empty_directory_is_filled_and_none_is_used_half_full() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let filling = Filling::begin(&config).unwrap();
        std::fs::create_dir(filling.store("log")).unwrap();
        std::fs::write(filling.store("log").join("half"), "x").unwrap();
        drop(filling);
        for refused in [
            DataDirectory::open(&config).unwrap_err(),
            DataDirectory::init(&config).unwrap_err(),
        ] {
            assert_eq!(refused.exit, Exit::Directory);
            assert!(refused.message.contains("restore"), "{refused}");
        }

        let again = Filling::begin(&config).unwrap();
        assert!(!again.store("log").exists());
        again.done().unwrap();
        assert!(DataDirectory::open(&config).unwrap().marker().founder);
        let refused = Filling::begin(&config).unwrap_err();
        assert_eq!(refused.exit, Exit::Directory);
        assert!(refused.message.contains("holds the data of node 1"), "{refused}");
    }

    #[test]
    fn it_may_be_ended_at_any_step_and_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        // While the first file was written, for lack of space say.
        std::fs::write(dir.path().join(BEGINNING), "A rest").unwrap();
        std::fs::write(dir.path().join(NAMELESS), "meshkit-da").unwrap();
        let filling = Filling::begin(&config).unwrap();
        assert!(!dir.path().join(BEGINNING).exists());
        // With the marker half written, and with the marker there and the note of what is unfinished too.
        std::fs::write(dir.path().join(NAMELESS), "meshkit-da").unwrap();
        write_marker(dir.path(), &filling.marker).unwrap();
        drop(filling);
        let refused = DataDirectory::open(&config).unwrap_err();
        assert!(
            refused.exit == Exit::Directory && refused.message.contains("restore"),
            "{refused}"
        );
        Filling::begin(&config).unwrap().done().unwrap();
        assert!(DataDirectory::open(&config).unwrap().marker().founder);
    }

    #[test]
    fn what_is_in_the_way_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis"), "x").unwrap();
        let refused = Filling::begin(&config(dir.path())).unwrap_err();
        assert!(refused.message.contains("thesis is in it"), "{refused}");
        assert!(dir.path().join("thesis").exists());
    }
}

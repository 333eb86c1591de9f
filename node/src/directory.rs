//! The data directory: one node's, one process's at a time.
//!
//! ```text
//! <data_dir>/LOCK       held by the process that uses the directory
//! <data_dir>/IDENTITY   whose directory this is; checksummed, replaced whole
//! <data_dir>/log/       the log store
//! <data_dir>/state/     the state store
//! ```

mod filling;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use statemachine::cluster::Incarnation;

pub use self::filling::Filling;
use crate::certs::files::{self, Secrecy};
use crate::config::Config;
use crate::exit::{Exit, Failure};

/// The layout of the directory that this program reads and writes.
const FORMAT: u64 = 1;

/// First line of the marker file; the number is the format.
const HEADER: &str = "meshkit-data-directory ";

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// The mesh.
    pub mesh: String,
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: u64,
    /// Drawn at random when the directory was made: an old copy has the same, a new one not.
    pub directory: String,
    /// How often a process has started on it.
    pub boots: u64,
    /// Whether it was made by `init`, for the node that founds the cluster.
    pub founder: bool,
}

impl Marker {
    /// The life of the directory, as the cluster knows it. `life` is drawn at random, once for each process.
    pub fn incarnation(&self, life: u64) -> Incarnation {
        Incarnation {
            // Written by this program as 32 hexadecimal digits; anything else stands for a directory that nobody knows.
            directory: u128::from_str_radix(&self.directory, 16).unwrap_or_default(),
            boots: self.boots,
            life,
        }
    }
}

/// A data directory in use by this process.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    marker: Marker,
    /// Released with the process, however it ends.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory of the node that founds a cluster (`meshkit-node init`).
    ///
    /// # Errors
    /// Where a node has data already, or the directory cannot be made or used.
    pub fn init(config: &Config) -> Result<Self, Failure> {
        let path = &config.node.data_dir;
        let lock = lock(path)?;
        refuse_unfinished(path)?;
        if let Some(marker) = read_marker(path)? {
            let whose = format!(
                "node {} of cluster {} of mesh {}",
                marker.node, marker.cluster, marker.mesh
            );
            return Err(refused(
                path,
                &format!("holds the data of {whose} already; init makes only new ones"),
            ));
        }
        refuse_stores_without_marker(path)?;
        let marker = Marker {
            founder: true,
            ..fresh(config)?
        };
        write_marker(path, &marker)?;
        Ok(Self {
            path: path.clone(),
            marker,
            _lock: lock,
        })
    }

    /// Takes the directory into use, and makes it if there is none.
    ///
    /// # Errors
    /// Exit 3 when it is locked, another node's or of a newer format; 4 when its marker is
    /// damaged; 5 when it cannot be written.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let path = &config.node.data_dir;
        let lock = lock(path)?;
        refuse_unfinished(path)?;
        let marker = match read_marker(path)? {
            Some(found) => {
                check_owner(path, &found, config)?;
                Marker {
                    boots: found.boots.saturating_add(1),
                    ..found
                }
            }
            None => {
                refuse_stores_without_marker(path)?;
                Marker {
                    boots: 1,
                    ..fresh(config)?
                }
            }
        };
        write_marker(path, &marker)?;
        Ok(Self {
            path: path.clone(),
            marker,
            _lock: lock,
        })
    }

    /// Takes a directory into use that is a node's already.
    ///
    /// # Errors
    /// As [`DataDirectory::open`]; exit 3 also where it is nobody's.
    pub fn open_existing(config: &Config) -> Result<Self, Failure> {
        let path = &config.node.data_dir;
        if !marker_path(path).exists() {
            return Err(refused(path, "holds no node's data"));
        }
        Self::open(config)
    }

    /// Whose it is.
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Where a store is kept.
    pub fn store(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::Directory, format!("data directory {}: {why}", path.display()))
}

fn disk(path: &Path, doing: &str, error: &io::Error) -> Failure {
    // Being refused by permissions or a missing parent is the operator's mistake, not the disk's.
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Exit::Directory,
        _ => Exit::Disk,
    };
    Failure::new(exit, format!("data directory {}: {doing}: {error}", path.display()))
}

fn lock(path: &Path) -> Result<File, Failure> {
    // Records and the audit trail are for those who hold a scope, not for everybody on the machine.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| disk(path, "cannot be made", &error))?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("LOCK"))
        .map_err(|error| disk(path, "its LOCK file cannot be opened", &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = std::fs::read_to_string(path.join("LOCK")).unwrap_or_default();
            let holder = holder.trim();
            let holder = if holder.is_empty() {
                String::new()
            } else {
                format!(" (process {holder})")
            };
            return Err(refused(
                path,
                &format!("is in use by another process{holder}; stop it first"),
            ));
        }
        Err(error) => return Err(disk(path, "cannot be locked", &error.into())),
    }
    // For people who wonder who holds the lock. Not being able to say it harms nobody.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn fresh(config: &Config) -> Result<Marker, Failure> {
    let mut id = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut id)
        .map_err(|_| Failure::new(Exit::Failed, "the operating system gives no randomness"))?;
    Ok(Marker {
        mesh: config.mesh.id.clone(),
        cluster: config.mesh.cluster.clone(),
        node: config.node.id,
        directory: hex(&id),
        boots: 0,
        founder: false,
    })
}

fn check_owner(path: &Path, found: &Marker, config: &Config) -> Result<(), Failure> {
    let expected = [
        ("mesh", found.mesh.as_str(), config.mesh.id.as_str()),
        ("cluster", found.cluster.as_str(), config.mesh.cluster.as_str()),
    ];
    for (what, found, configured) in expected {
        if found != configured {
            let why = format!("belongs to {what} {found}, but the configuration says {configured}");
            return Err(refused(path, &why));
        }
    }
    if found.node != config.node.id {
        let why = format!(
            "belongs to node {}, but the configuration says node {}",
            found.node, config.node.id
        );
        return Err(refused(path, &why));
    }
    Ok(())
}

/// What a restore fills may be emptied by the next one until it is done, so nothing may be put into it before.
fn refuse_unfinished(path: &Path) -> Result<(), Failure> {
    if filling::is_unfinished(path) {
        let why = "holds a restore that was not finished: run `meshkit-node restore` again, or empty it";
        return Err(refused(path, why));
    }
    Ok(())
}

fn refuse_stores_without_marker(path: &Path) -> Result<(), Failure> {
    for store in ["log", "state"] {
        if path.join(store).exists() {
            return Err(Failure::new(
                Exit::Corrupt,
                format!(
                    "{}: missing, though the store {store}/ beside it is there. If this node's disk was damaged, \
                     empty the directory and let the node be rebuilt by the others",
                    marker_path(path).display()
                ),
            ));
        }
    }
    Ok(())
}

fn marker_path(path: &Path) -> PathBuf {
    path.join("IDENTITY")
}

fn read_marker(path: &Path) -> Result<Option<Marker>, Failure> {
    let file = marker_path(path);
    let text = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(path, "its IDENTITY cannot be read", &error)),
    };
    decode(&text).map(Some).map_err(|unreadable| match unreadable {
        Unreadable::Newer(format) => refused(
            path,
            &format!("has format {format}, this program knows {FORMAT}: it was used by a newer release; run that one"),
        ),
        Unreadable::Damaged(why) => Failure::new(
            Exit::Corrupt,
            format!(
                "{}: {why}. Nothing was changed. Empty the directory and let the node be rebuilt by the others, or \
                 restore the file",
                file.display()
            ),
        ),
    })
}

fn write_marker(path: &Path, marker: &Marker) -> Result<(), Failure> {
    let text = encode(marker)?;
    files::replace(&marker_path(path), text.as_bytes(), Secrecy::Public)
        .map_err(|error| disk(path, "its IDENTITY cannot be written", &error))
}

/// Why a marker could not be read.
#[derive(Debug, PartialEq, Eq)]
enum Unreadable {
    Newer(u64),
    Damaged(String),
}

/// Header with format, one line of JSON, one line with the SHA-256 of what is above it.
fn encode(marker: &Marker) -> Result<String, Failure> {
    let json = serde_json::to_string(marker)
        .map_err(|error| Failure::new(Exit::Failed, format!("the data directory's marker: {error}")))?;
    let body = format!("{HEADER}{FORMAT}\n{json}\n");
    let sum = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
    Ok(format!("{body}sha256 {sum}\n"))
}

fn decode(bytes: &[u8]) -> Result<Marker, Unreadable> {
    let damaged = |why: &str| Unreadable::Damaged(why.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("is not text"))?;
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let format = header
        .strip_prefix(HEADER)
        .and_then(|format| format.parse::<u64>().ok());
    let format = format.ok_or_else(|| damaged("does not begin as a data directory's marker does"))?;
    let (body, sum) = text
        .rsplit_once("sha256 ")
        .ok_or_else(|| damaged("is truncated: its checksum is missing"))?;
    let expected = format!("{}\n", hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref()));
    if sum != expected {
        return Err(damaged("its checksum does not match its content"));
    }
    // Only now is the format what somebody wrote, and not a flipped bit.
    if format != FORMAT {
        return Err(Unreadable::Newer(format));
    }
    let json = lines.next().unwrap_or_default();
    serde_json::from_str(json).map_err(|error| damaged(&format!("its content is not a marker: {error}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(dir: &Path, node: u64) -> Config {
        let mut config = Config::default();
        config.node.data_dir = dir.to_owned();
        config.node.id = node;
        config
    }

    #[test]
    fn a_directory_is_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDirectory::open(&config(dir.path(), 1)).unwrap();
        let refused = DataDirectory::open(&config(dir.path(), 1)).unwrap_err();
        assert_eq!(refused.exit, Exit::Directory);
        assert!(refused.message.contains("in use by another process"), "{refused}");
        assert!(refused.message.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        assert_eq!(DataDirectory::open(&config(dir.path(), 1)).unwrap().marker().boots, 2);
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDirectory::init(&config(dir.path(), 1)).unwrap());
        let refused = DataDirectory::open(&config(dir.path(), 2)).unwrap_err();
        assert_eq!(refused.exit, Exit::Directory);
        assert!(refused.message.contains("belongs to node 1"), "{refused}");
        let mut other = config(dir.path(), 1);
        other.mesh.id = "other".to_owned();
        assert!(
            DataDirectory::open(&other)
                .unwrap_err()
                .message
                .contains("belongs to mesh mesh-1")
        );
        assert!(
            DataDirectory::init(&config(dir.path(), 1))
                .unwrap_err()
                .message
                .contains("already")
        );
        assert!(DataDirectory::open(&config(dir.path(), 1)).unwrap().marker().founder);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(&config(dir.path(), 1)).unwrap());
        let file = marker_path(dir.path());
        let good = std::fs::read(&file).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bad), Err(Unreadable::Damaged(_))), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(
                matches!(decode(&good[..length]), Err(Unreadable::Damaged(_))),
                "length {length}"
            );
        }
        std::fs::write(&file, &good[..good.len() / 2]).unwrap();
        let corrupt = DataDirectory::open(&config(dir.path(), 1)).unwrap_err();
        assert_eq!(corrupt.exit, Exit::Corrupt);
        assert!(corrupt.message.contains("IDENTITY"), "{corrupt}");
    }

    #[test]
    fn a_newer_format_is_refused_as_such() {
        let body = format!("{HEADER}9\nwhatever comes\n");
        let sum = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        assert_eq!(
            decode(format!("{body}sha256 {sum}\n").as_bytes()),
            Err(Unreadable::Newer(9))
        );
    }

    #[test]
    fn stores_without_a_marker_are_not_taken_for_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        assert_eq!(
            DataDirectory::open(&config(dir.path(), 1)).unwrap_err().exit,
            Exit::Corrupt
        );
    }
}

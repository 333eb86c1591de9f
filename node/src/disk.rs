//! The disk under the data directory: how much of it is left, and the reserve that is kept on it.
//!
//! A node that runs out of space in the middle of a write has to stop. So it stops taking mutations well before, at the
//! soft mark, and holds a file in reserve, the ballast, whose space it gives back at the hard mark: votes, entries that
//! a majority has already accepted, purging and snapshots then still have somewhere to go.

mod ballast;
mod gauge;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use raft::{Health, Threads};

pub use gauge::{Marks, Reserve};

/// What a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// All of its bytes.
    pub total_bytes: u64,
}

/// A disk with a reserve on it.
pub trait Disk: Send + Sync + 'static {
    /// What is left, measured now.
    ///
    /// # Errors
    /// It cannot be measured.
    fn space(&self) -> io::Result<Space>;

    /// Bytes that the reserve holds now.
    fn reserved_bytes(&self) -> u64;

    /// Makes the reserve this large; 0 gives its space back.
    ///
    /// # Errors
    /// There is no room, or the disk fails. The reserve is then as it was, or gone.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
}

/// The disk of a data directory.
#[derive(Debug)]
pub struct DataDisk {
    directory: PathBuf,
    ballast: PathBuf,
}

impl DataDisk {
    /// The disk that this directory is on.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            ballast: directory.join(ballast::NAME),
        }
    }
}

impl Disk for DataDisk {
    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    fn reserved_bytes(&self) -> u64 {
        ballast::length(&self.ballast)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        ballast::set(&self.ballast, bytes)
    }
}

/// Measures once, and gives the reserve back or makes it as that says. Blocks.
pub fn look(disk: &dyn Disk, marks: &Marks, health: &Health) {
    let space = match disk.space() {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!(%error, "the space on the disk could not be measured");
            return;
        }
    };
    let was = health.disk();
    let (found, reserve) = gauge::judge(marks, space, disk.reserved_bytes(), was.is_some_and(|was| was.short));
    if found.short != was.is_some_and(|was| was.short) {
        let (free, mark) = (found.free_bytes, found.mark_bytes);
        if found.short {
            tracing::warn!(
                free,
                mark,
                "the disk is nearly full: no mutations are taken, and leading is left to others"
            );
        } else {
            tracing::info!(free, mark, "there is space on the disk again");
        }
    }
    health.set_disk(found);
    let set = match reserve {
        Reserve::Keep => Ok(()),
        Reserve::Release => {
            tracing::warn!(free = space.free_bytes, "the disk is full: the ballast is given up");
            disk.reserve(0)
        }
        Reserve::Make => disk.reserve(marks.ballast_bytes),
    };
    if let Err(error) = set {
        tracing::warn!(%error, "the ballast could not be changed");
    }
}

/// Gives the reserve back before the stores are opened, where that is what it takes to open them. Blocks.
pub fn before_opening(disk: &dyn Disk, marks: &Marks) {
    let Ok(space) = disk.space() else { return };
    if let (_, Reserve::Release) = gauge::judge(marks, space, disk.reserved_bytes(), true) {
        tracing::warn!(free = space.free_bytes, "the disk is full: the ballast is given up");
        if let Err(error) = disk.reserve(0) {
            tracing::warn!(%error, "the ballast could not be given up");
        }
    }
}

/// Looks at the disk again and again, until the task is ended.
pub async fn watch(disk: Arc<dyn Disk>, marks: Marks, every: Duration, health: Arc<Health>, threads: Threads) {
    loop {
        let (disk, health) = (disk.clone(), health.clone());
        let work = move || look(&*disk, &marks, &health);
        match threads {
            Threads::Own => {
                if let Err(error) = tokio::task::spawn_blocking(work).await {
                    tracing::warn!(%error, "the disk could not be looked at");
                }
            }
            Threads::Inline => work(),
        }
        tokio::time::sleep(every).await;
    }
}

//! What a simulated disk holds, and what happens to it: writes that wait to be safe, crashes that
//! take them, and faults.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::{Batch, Change, Durability, Table};

pub(super) type RowKey = (Table, Vec<u8>);
pub(super) type Rows = BTreeMap<RowKey, Bytes>;

/// A fault that a [`Disk`](super::Disk) can be told to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A write fails with EIO.
    WriteError,
    /// A write fails with ENOSPC.
    NoSpace,
    /// A sync fails with EIO; what it should have made durable is not.
    SyncError,
    /// A read fails with EIO.
    ReadError,
    /// A sync reports success and does nothing: a disk that lies, or a missing fsync.
    LyingSync,
    /// A synced write takes as long as [`Disk::set_delay`](super::Disk::set_delay) says.
    Slow,
}

/// Writes that a crash took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Logged, but not synced since.
    pub logged: usize,
    /// Unlogged, and not flushed since.
    pub unlogged: usize,
}

/// The device itself: what it holds, what of it is safe, and what ails it.
#[derive(Default)]
pub(super) struct Device {
    /// Counts crashes: engines of an earlier life are dead.
    pub(super) life: u64,
    /// What a process reads.
    pub(super) current: Rows,
    /// What is safe whatever happens.
    pub(super) safe: Rows,
    /// Not safe yet, in order.
    pending: Vec<(Batch, Durability)>,
    faults: BTreeMap<Fault, u64>,
    fired: BTreeMap<Fault, u64>,
    pub(super) delay: Duration,
    pub(super) writes: u64,
    pub(super) syncs: u64,
    pub(super) checkpoints: BTreeMap<PathBuf, Rows>,
}

impl Device {
    /// A device that holds these rows, safely.
    pub(super) fn holding(rows: Rows) -> Self {
        Self {
            current: rows.clone(),
            safe: rows,
            ..Self::default()
        }
    }

    pub(super) fn inject(&mut self, fault: Fault, times: u64) {
        self.faults.insert(fault, times);
    }

    pub(super) fn fired(&self, fault: Fault) -> u64 {
        self.fired.get(&fault).copied().unwrap_or(0)
    }

    /// Writes that are not safe yet.
    pub(super) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// Whether `fault` is to happen now.
    pub(super) fn fires(&mut self, fault: Fault) -> bool {
        match self.faults.get_mut(&fault) {
            Some(left) if *left > 0 => {
                *left -= 1;
                *self.fired.entry(fault).or_default() += 1;
                true
            }
            _ => false,
        }
    }

    pub(super) fn pending_logged(&self) -> usize {
        self.pending.iter().filter(|(_, d)| *d != Durability::Unlogged).count()
    }

    /// Begins a new life with what is safe and the first `keep` logged writes.
    pub(super) fn restart(&mut self, keep: usize) -> Lost {
        let logged = self.pending_logged();
        let unlogged = self.pending.len() - logged;
        let pending = std::mem::take(&mut self.pending);
        let survivors = pending.into_iter().filter(|(_, d)| *d != Durability::Unlogged);
        for (batch, _) in survivors.take(keep) {
            apply(&mut self.safe, &batch);
        }
        self.current = self.safe.clone();
        self.life += 1;
        Lost {
            logged: logged.saturating_sub(keep),
            unlogged,
        }
    }

    /// A write-ahead log sync: every logged write so far is safe.
    pub(super) fn sync_log(&mut self) {
        // Unlogged writes are not covered. While there are any, logged writes stay queued behind
        // them so that a later flush replays all in order; `restart` counts them as survivors.
        if self.pending.iter().all(|(_, d)| *d != Durability::Unlogged) {
            self.sync_all();
        } else {
            self.sync_logged_only();
        }
    }

    fn sync_logged_only(&mut self) {
        // Replaying a logged write both now and at the next flush is harmless: it is idempotent,
        // and the flush replays everything after it as well.
        for (batch, durability) in &self.pending {
            if *durability != Durability::Unlogged {
                apply(&mut self.safe, batch);
            }
        }
    }

    pub(super) fn sync_all(&mut self) {
        for (batch, _) in std::mem::take(&mut self.pending) {
            apply(&mut self.safe, &batch);
        }
    }

    pub(super) fn write(&mut self, batch: Batch, durability: Durability) -> io::Result<()> {
        if self.fires(Fault::WriteError) {
            return Err(eio());
        }
        if self.fires(Fault::NoSpace) {
            return Err(io::Error::from_raw_os_error(28));
        }
        apply(&mut self.current, &batch);
        self.pending.push((batch, durability));
        self.writes += 1;
        if durability == Durability::Synced {
            self.sync(Self::sync_log)?;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, how: fn(&mut Self)) -> io::Result<()> {
        if self.fires(Fault::SyncError) {
            return Err(eio());
        }
        if !self.fires(Fault::LyingSync) {
            how(self);
        }
        self.syncs += 1;
        Ok(())
    }
}

/// What a device answers that does not work.
pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn apply(rows: &mut Rows, batch: &Batch) {
    for change in batch.changes() {
        match change {
            Change::Put { table, key, value } => {
                rows.insert((*table, key.clone()), value.clone());
            }
            Change::Delete { table, key } => {
                rows.remove(&(*table, key.clone()));
            }
            Change::DeleteRange { table, from, to } => {
                if from < to {
                    let range = (*table, from.clone())..(*table, to.clone());
                    let doomed: Vec<_> = rows.range(range).map(|(k, _)| k.clone()).collect();
                    for key in doomed {
                        rows.remove(&key);
                    }
                }
            }
        }
    }
}

//! The storage this crate stands on: a small, blocking, ordered key-value engine.
//!
//! Everything that touches a disk goes through [`Engine`], so that a simulated disk can stand in
//! for the real one and every fault a disk can have is reachable in a test. A node opens two
//! engines, one per [`Store`]: the log must be synced all the time, the state almost never.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Fatal, FatalKind};

#[cfg(feature = "simulation")]
pub mod memory;

/// The two engines of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Store {
    /// The Raft log, the vote, and what else must survive a power cut.
    Log,
    /// The replicated state and its history: can always be rebuilt from log and snapshots.
    State,
}

impl Store {
    /// The tables of this store.
    pub fn tables(self) -> &'static [Table] {
        match self {
            Self::Log => &[Table::Log, Table::LogMeta],
            Self::State => &[
                Table::StateMeta,
                Table::Records,
                Table::History,
                Table::Index,
                Table::Cluster,
            ],
        }
    }

    /// Its name, as directory and in errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::State => "state",
        }
    }
}

/// A table: an ordered map from bytes to bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Log index (u64, big-endian) to checksummed entry.
    Log,
    /// Vote, committed and purged log ids, and the format marker of the log store.
    LogMeta,
    /// Which generation is current, its position and checks, and the format marker.
    StateMeta,
    /// Generation and record key to record.
    Records,
    /// Generation and revision to everything that happened in that revision.
    History,
    /// Generation, record key and revision: which revisions touched a record.
    Index,
    /// Generation and key to the cluster's own partition of the state.
    Cluster,
}

impl Table {
    /// Its name on disk, in errors and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::LogMeta => "log_meta",
            Self::StateMeta => "state_meta",
            Self::Records => "records",
            Self::History => "history",
            Self::Index => "index",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a write has to survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Durability {
    /// A power cut, from the moment `write` returns.
    Synced,
    /// The death of the process. A power cut may take it, but only together with everything
    /// written after it.
    Logged,
    /// Nothing, until the next [`Engine::flush`].
    Unlogged,
}

/// One change of a [`Batch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// Key.
        key: Vec<u8>,
        /// Value.
        value: Bytes,
    },
    /// Removes a key, if present.
    Delete {
        /// Where.
        table: Table,
        /// Key.
        key: Vec<u8>,
    },
    /// Removes all keys in `from..to`.
    DeleteRange {
        /// Where.
        table: Table,
        /// First key removed.
        from: Vec<u8>,
        /// First key kept.
        to: Vec<u8>,
    },
}

/// Changes that become visible and durable together or not at all, in order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put { table, key, value });
    }

    /// Removes `key`, if present.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push(Change::Delete { table, key });
    }

    /// Removes all keys in `from..to`.
    pub fn delete_range(&mut self, table: Table, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        let (from, to) = (from.into(), to.into());
        self.bytes += from.len() + to.len();
        self.changes.push(Change::DeleteRange { table, from, to });
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes, in order.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// The keys `from..to` of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The table.
    pub table: Table,
    /// First key.
    pub from: Vec<u8>,
    /// First key that is not part of it any more.
    pub to: Vec<u8>,
}

/// What [`Engine::export`] shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Visit {
    /// From here on every row is shown as it was at this instant.
    Pinned,
    /// A row.
    Row(Table, Row),
}

/// A blocking, ordered key-value engine with atomic batches.
///
/// Calls block for as long as the disk takes; callers keep them off async worker threads. A write
/// is visible to every read that starts after it returned. After an error from `write`, `flush`
/// or `delete_range` the engine's content is unknown until it is opened anew: callers stop.
pub trait Engine: Send + Sync + 'static {
    /// Applies a batch.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// Removes all keys in `from..to`, durable no later than the next synced write or flush.
    fn delete_range(&self, table: Table, from: &[u8], to: &[u8]) -> Result<(), EngineError>;

    /// Makes everything written so far durable, all tables at one point in the order of writes.
    fn flush(&self) -> Result<(), EngineError>;

    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The first `limit` rows with keys in `from..to`, ascending.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, EngineError>;

    /// The last row with a key in `from..to`.
    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, EngineError>;

    /// Visits the rows of `ranges`, in order, all as they are at the instant at which `visit` is
    /// first called, with [`Visit::Pinned`]; writes go on meanwhile and are not seen. Ends early
    /// when `visit` breaks.
    fn export(&self, ranges: &[KeyRange], visit: &mut dyn FnMut(Visit) -> ControlFlow<()>) -> Result<(), EngineError>;

    /// Reads all that is on the disk once more, past whatever is held in memory, also what no other call would show
    /// any more, and checks it as far as the engine itself can. `visit` is told of bytes as they are read, and breaks
    /// it off. An engine that has nothing between itself and its disk leaves this as it is: [`Engine::export`] shows
    /// what there is.
    fn verify(&self, visit: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<(), EngineError> {
        let _ = visit;
        Ok(())
    }

    /// Writes a consistent copy of everything written so far into the directory `to`, which must
    /// not exist. The copy opens as an engine of its own.
    fn checkpoint(&self, to: &Path) -> Result<(), EngineError>;

    /// How long the next synced write takes, on an engine whose time is not the machine's: a
    /// simulated slow disk. The log writer waits that long without blocking. A real engine
    /// blocks instead, and leaves this as it is.
    fn simulated_delay(&self) -> Option<Duration> {
        None
    }
}

/// A failed call to an [`Engine`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk refused, is full, or failed to sync.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, to which file or table.
        context: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error("{place}: {detail}")]
    Corrupt {
        /// File or table.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The directory is in use, belongs to something else, or has a newer format.
    #[error("{place}: {detail}")]
    Foreign {
        /// The directory.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl EngineError {
    /// An I/O error.
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            context: context.into(),
            source,
        }
    }

    /// Found corruption.
    pub fn corrupt(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Corrupt {
            place: place.into(),
            detail: detail.into(),
        }
    }

    /// As a reason to stop the node.
    pub fn to_fatal(&self) -> Fatal {
        let kind = match self {
            Self::Io { .. } => FatalKind::Disk,
            Self::Corrupt { .. } => FatalKind::Corrupt,
            Self::Foreign { .. } => FatalKind::Foreign,
        };
        Fatal::new(kind, self.to_string())
    }
}

impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::Io { source, .. } => source.kind(),
            EngineError::Corrupt { .. } | EngineError::Foreign { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

//! The replicated state on an [`Engine`](crate::engine::Engine): in memory for reading, as rows
//! on disk, with its history.
//!
//! Apply writes one batch per run of entries, without a log of its own: what a crash takes is
//! applied again from the Raft log, which is never purged beyond what was flushed here. All rows
//! carry a generation number in front of their key; one row says which generation is current,
//! where in the log it stands, and the head of the state. A snapshot is installed by writing a
//! new generation beside the current one and then that one row.

pub(crate) mod apply;
pub(crate) mod history;
pub(crate) mod install;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod prune;
pub(crate) mod publish;
pub(crate) mod rows;
pub mod scrub;
pub(crate) mod snapshot;

use std::time::Duration;

/// Limits of the state store.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries applied and written as one batch.
    pub batch_entries: usize,
    /// Bytes of entries applied and written as one batch.
    pub batch_bytes: usize,
    /// Bytes of rows after which they are flushed to disk.
    pub flush_bytes: usize,
    /// Time after which applied rows are flushed to disk, if more arrive.
    pub flush_interval: Duration,
    /// Units held for receivers of the broadcast that are behind.
    pub broadcast: usize,
    /// Bytes of rows in one chunk of a snapshot.
    pub chunk_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_entries: 1024,
            batch_bytes: 1 << 20,
            flush_bytes: 12 << 20,
            flush_interval: Duration::from_secs(10),
            broadcast: 8192,
            chunk_bytes: 512 << 10,
        }
    }
}

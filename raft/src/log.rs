//! The Raft log on an [`Engine`](crate::engine::Engine): one writer, group commit, a tail in
//! memory.
//!
//! Appends, truncations, purges, votes and the committed mark go through one bounded queue in the
//! order openraft issued them. [`writer::LogWriter`] drains whatever waits, writes it as one
//! batch, syncs once, and answers all. What was appended can be read at once, from [`tail`], and
//! stays there at least until it is durable.

pub(crate) mod open;
pub(crate) mod reader;
pub(crate) mod row;
pub(crate) mod store;
pub(crate) mod tail;
pub(crate) mod writer;

/// Limits of the log store.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Operations that may wait for the writer; more make openraft wait.
    pub queue: usize,
    /// Bytes of rows in one batch. A batch takes the next operation only below it.
    pub batch_bytes: usize,
    /// Bytes of durable entries kept in memory for replication and apply.
    pub tail_bytes: usize,
    /// Bytes of entries read at once for one follower, or for apply.
    pub read_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 4096,
            batch_bytes: 4 << 20,
            tail_bytes: 4 << 20,
            read_bytes: 1 << 20,
        }
    }
}

/// Key of an entry's row.
pub(crate) fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// Keys in [`Table::LogMeta`](crate::engine::Table::LogMeta).
pub(crate) mod meta {
    pub(crate) const VOTE: &[u8] = b"vote";
    pub(crate) const COMMITTED: &[u8] = b"committed";
    pub(crate) const PURGED: &[u8] = b"purged";
}

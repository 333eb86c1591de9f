//! The keys of everything that is stored. The store below knows tables and bytes, and nothing of what they mean.

use serde::{Deserialize, Serialize};

use crate::{Hash, Idempotency, Revision, record::Kind};

/// The tables of a state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Current records and idempotency entries: what the digest is over.
    Records,
    /// One row per revision ([`crate::Recorded`]).
    History,
    /// Which revisions changed a record; empty values.
    Index,
    /// The cluster's own partition.
    Cluster,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 4] = [Self::Records, Self::History, Self::Index, Self::Cluster];
}

/// One change to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The value; absent to delete.
    pub value: Option<Vec<u8>>,
}

/// First byte of an idempotency entry's key; above every [`Kind`].
pub(crate) const IDEMPOTENCY: u8 = 0xf0;

/// Key of a current record in [`Table::Records`].
#[must_use]
pub fn record_key(kind: Kind, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + id.len());
    key.push(kind as u8);
    key.extend_from_slice(id.as_bytes());
    key
}

/// Key of an idempotency entry in [`Table::Records`].
#[must_use]
pub(crate) fn idempotency_key(principal: &str, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + principal.len() + key.len());
    bytes.push(IDEMPOTENCY);
    bytes.extend_from_slice(principal.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// Key of a revision in [`Table::History`].
#[must_use]
pub fn history_key(revision: Revision) -> [u8; 8] {
    revision.0.to_be_bytes()
}

/// Key of a record's change in [`Table::Index`]. Ids hold no NUL, so one id's keys never run into another's.
#[must_use]
pub fn index_key(kind: Kind, id: &str, revision: Revision) -> Vec<u8> {
    let mut key = index_prefix(kind, id);
    key.extend_from_slice(&history_key(revision));
    key
}

/// What all keys of a record in [`Table::Index`] begin with.
#[must_use]
pub fn index_prefix(kind: Kind, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(10 + id.len());
    key.push(kind as u8);
    key.extend_from_slice(id.as_bytes());
    key.push(0);
    key
}

/// The revision at the end of a key of [`Table::Index`].
#[must_use]
pub fn index_revision(key: &[u8]) -> Option<Revision> {
    key.last_chunk::<8>().map(|bytes| Revision(u64::from_be_bytes(*bytes)))
}

/// The value of an idempotency entry's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdempotencyRow {
    pub principal: String,
    pub idempotency: Idempotency,
    pub revision: Revision,
    pub expires_ms: u64,
}

/// The head of the mesh state: all that is not in the rows. Written with every batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRow {
    pub position: crate::Position,
    pub stamp: crate::Stamp,
    pub chain: Hash,
    pub digest: Hash,
    pub vector: Vec<(crate::ClusterId, crate::Epoch, u64)>,
    pub cluster_chain: Hash,
    pub cluster_sequence: u64,
}

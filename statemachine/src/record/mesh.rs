//! The mesh itself: what holds for all of it.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::{Epoch, MeshId, Revision, Timeline};

/// Limits that apply reads, and which therefore have to be the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The most peers.
    pub peers_max: u64,
    /// The most operations that run at once.
    pub operations_running_max: u64,
    /// The most operations that are kept, ended ones included. Their history stays when they go.
    pub operations_max: u64,
    /// The most idempotency keys that are kept for one principal.
    pub idempotency_keys_per_principal_max: u64,
    /// How long a ULID key is kept, in ms of mesh time.
    pub idempotency_ulid_ttl_ms: u64,
    /// How long any other key is kept, in ms of mesh time.
    pub idempotency_key_ttl_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            peers_max: 10_000,
            operations_running_max: 1_000,
            operations_max: 10_000,
            // 60 s at 30,000 writes a second by one principal.
            idempotency_keys_per_principal_max: 1_800_000,
            idempotency_ulid_ttl_ms: 60_000,
            idempotency_key_ttl_ms: 15 * 60_000,
        }
    }
}

/// The one record of the mesh itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// The mesh's name; also the audience of its tokens.
    pub id: MeshId,
    /// Every timeline from the first to the one being written.
    pub timelines: Vec<Timeline>,
    /// The oldest revision whose history is kept.
    pub floor: Revision,
    /// The level of behaviour that every node has to follow.
    pub feature_level: u32,
    /// Limits.
    pub settings: Settings,
    /// Changes of the record.
    pub meta: Meta,
}

impl Mesh {
    /// The timeline being written.
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timelines.last()
    }

    /// The mesh's fencing number now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.timeline().map_or(Epoch(0), |timeline| timeline.epoch)
    }
}

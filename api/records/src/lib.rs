//! Records of the state machine in the contract's form: what a node shows, and what a client makes of the canonical bytes
//! of the audit trail to compare it with.
//!
//! Owns the one translation from [`statemachine`] to [`proto`]. Deliberately has no requests, no errors and no IO.

mod approval;
mod audit;
mod cluster;
mod config;
mod namespace;
mod operation;
mod peer;
mod shard;

use std::collections::BTreeMap;

use prost_types::Timestamp;
use statemachine::{MeshState, record::Checkpoint};

pub use approval::{approval, approvers, has_status};
pub use audit::{audit, change, of_unit, of_unit_without_changes, record};
pub use cluster::{cluster, cluster_phase};
pub use config::{choice, config};
pub use namespace::{hand_off, namespace, namespace_phase};
pub use operation::{is_in_state, operation};
pub use peer::{peer, peer_status};
pub use shard::{shard, shard_status};

/// Milliseconds since 1970 as a time.
#[must_use]
pub fn time(wall_ms: u64) -> Timestamp {
    let nanos = (wall_ms % 1000) * 1_000_000;
    Timestamp {
        seconds: i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// A length of time.
#[must_use]
pub fn duration(ms: u64) -> prost_types::Duration {
    let nanos = (ms % 1000) * 1_000_000;
    prost_types::Duration {
        seconds: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// A signed point of the chain, with the certificate that it was signed under.
#[must_use]
pub fn checkpoint(mesh: &MeshState, checkpoint: &Checkpoint) -> proto::v1::AuditCheckpoint {
    let certificate = mesh.certificate(checkpoint.certificate);
    proto::v1::AuditCheckpoint {
        revision: checkpoint.revision.0,
        hash: checkpoint.hash.to_string(),
        node: checkpoint.node.to_string(),
        certificate: certificate.map(|found| found.der.clone()).unwrap_or_default(),
        signature: checkpoint.signature.clone(),
        recorded_revision: checkpoint.meta.changed.revision.0,
    }
}

/// What each cluster originated, as far as a state contains it.
#[must_use]
pub fn version_vector(mesh: &MeshState) -> BTreeMap<String, u64> {
    mesh.version_vector()
        .map(|(cluster, _, sequence)| (cluster.to_string(), sequence))
        .collect()
}

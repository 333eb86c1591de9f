//! One file per command. Each knows its own fields and rules, and nothing of the pipeline.

mod advance_drain;
mod apply_cluster;
mod cancel_operation;
mod checkpoint_audit;
mod compact_history;
mod cordon_peer;
mod demote_cluster;
mod deregister_peer;
mod drain_peer;
mod finalize_upgrade;
mod init_mesh;
mod patch_peer;
mod promote_cluster;
mod record_backup;
mod record_refusals;
mod register_peer;
mod restore_mesh;
mod set_config;
mod uncordon_peer;
mod undrain_peer;

pub use self::{
    advance_drain::AdvanceDrain,
    apply_cluster::ApplyCluster,
    cancel_operation::CancelOperation,
    checkpoint_audit::CheckpointAudit,
    compact_history::CompactHistory,
    cordon_peer::CordonPeer,
    demote_cluster::DemoteCluster,
    deregister_peer::DeregisterPeer,
    drain_peer::DrainPeer,
    finalize_upgrade::FinalizeUpgrade,
    init_mesh::{FEATURE_LEVEL, InitMesh},
    patch_peer::PatchPeer,
    promote_cluster::PromoteCluster,
    record_backup::RecordBackup,
    record_refusals::{REFUSALS_MAX, RecordRefusals},
    register_peer::RegisterPeer,
    restore_mesh::{RecoverMesh, RestoreMesh},
    set_config::{RollbackConfig, SetConfig},
    uncordon_peer::UncordonPeer,
    undrain_peer::UndrainPeer,
};
use crate::{
    ClusterId, MeshState, PeerId, Rejection, View,
    record::{Cluster, Peer, PeerStatus},
};

/// The peer, or the refusal that says there is none.
fn peer<'a>(mesh: &'a MeshState, id: &PeerId) -> Result<&'a Peer, Rejection> {
    mesh.peer(id).ok_or_else(|| Rejection::NotFound {
        kind: "peer".to_owned(),
        id: id.to_string(),
    })
}

/// The cluster's descriptor, or the refusal that says there is none.
fn cluster<'a>(mesh: &'a MeshState, id: &ClusterId) -> Result<&'a Cluster, Rejection> {
    mesh.cluster(id).ok_or_else(|| Rejection::NotFound {
        kind: "cluster".to_owned(),
        id: id.to_string(),
    })
}

/// What is kept of why a peer is not active. Feature level 1 keeps nothing.
fn status_reason(view: &View<'_>, status: PeerStatus) -> String {
    match status {
        PeerStatus::Active => String::new(),
        PeerStatus::Cordoned | PeerStatus::Draining | PeerStatus::Drained if view.mesh.feature_level() < 2 => {
            String::new()
        }
        PeerStatus::Cordoned | PeerStatus::Draining | PeerStatus::Drained => view.origin.reason.clone(),
    }
}

/// Refuses for a peer that is draining or drained.
fn refuse_draining(peer: &Peer) -> Rejection {
    Rejection::PeerDraining {
        peer: peer.id.clone(),
        operation: peer.operation.clone(),
    }
}

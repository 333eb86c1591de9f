//! One file per command. Each knows its own fields and rules, and nothing of the pipeline.

mod advance_drain;
mod cancel_operation;
mod checkpoint_audit;
mod cordon_peer;
mod deregister_peer;
mod drain_peer;
mod init_mesh;
mod patch_peer;
mod record_refusals;
mod register_peer;
mod uncordon_peer;
mod undrain_peer;

pub use self::{
    advance_drain::AdvanceDrain,
    cancel_operation::CancelOperation,
    checkpoint_audit::CheckpointAudit,
    cordon_peer::CordonPeer,
    deregister_peer::DeregisterPeer,
    drain_peer::DrainPeer,
    init_mesh::{FEATURE_LEVEL, InitMesh},
    patch_peer::PatchPeer,
    record_refusals::{REFUSALS_MAX, RecordRefusals},
    register_peer::RegisterPeer,
    uncordon_peer::UncordonPeer,
    undrain_peer::UndrainPeer,
};
use crate::{MeshState, PeerId, Rejection, record::Peer};

/// The peer, or the refusal that says there is none.
fn peer<'a>(mesh: &'a MeshState, id: &PeerId) -> Result<&'a Peer, Rejection> {
    mesh.peer(id).ok_or_else(|| Rejection::NotFound {
        kind: "peer".to_owned(),
        id: id.to_string(),
    })
}

/// Refuses for a peer that is draining or drained.
fn refuse_draining(peer: &Peer) -> Rejection {
    Rejection::PeerDraining {
        peer: peer.id.clone(),
        operation: peer.operation.clone(),
    }
}

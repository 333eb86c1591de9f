//! Peers.

use proto::v1;
use statemachine::record::{Health, Peer, PeerStatus};

use crate::time;

/// A peer.
#[must_use]
pub fn peer(peer: &Peer) -> v1::Peer {
    let status = match peer.status {
        PeerStatus::Active => v1::peer::Status::Active,
        PeerStatus::Cordoned => v1::peer::Status::Cordoned,
        PeerStatus::Draining => v1::peer::Status::Draining,
        PeerStatus::Drained => v1::peer::Status::Drained,
    };
    let health = match peer.health {
        Health::Unknown => v1::peer::Health::Unknown,
        Health::Alive => v1::peer::Health::Alive,
        Health::Suspect => v1::peer::Health::Suspect,
        Health::Dead => v1::peer::Health::Dead,
    };
    let (spec, meta) = (&peer.spec, &peer.meta);
    v1::Peer {
        id: peer.id.to_string(),
        cluster: spec.cluster.to_string(),
        role: spec.role.clone(),
        region: spec.region.clone(),
        zone: spec.zone.clone(),
        endpoints: spec.endpoints.clone(),
        labels: spec.labels.to_map(),
        metadata: spec.metadata.to_map(),
        weight: spec.weight,
        status: status.into(),
        health: health.into(),
        version: meta.version,
        etag: meta.etag().to_string(),
        operation: peer.operation.as_ref().map(ToString::to_string).unwrap_or_default(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
        status_reason: peer.status_reason.clone(),
    }
}

/// The status that a filter names; none where it names none.
#[must_use]
pub fn peer_status(status: v1::peer::Status) -> Option<PeerStatus> {
    match status {
        v1::peer::Status::Unspecified => None,
        v1::peer::Status::Active => Some(PeerStatus::Active),
        v1::peer::Status::Cordoned => Some(PeerStatus::Cordoned),
        v1::peer::Status::Draining => Some(PeerStatus::Draining),
        v1::peer::Status::Drained => Some(PeerStatus::Drained),
    }
}

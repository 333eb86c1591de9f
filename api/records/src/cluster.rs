//! Clusters.

use proto::v1;
use statemachine::record::{Cluster, ClusterPhase, Fencing};

use crate::time;

/// The descriptor of a cluster.
#[must_use]
pub fn cluster(cluster: &Cluster) -> v1::Cluster {
    let state = match cluster.state {
        ClusterPhase::Active => v1::cluster::State::Active,
        ClusterPhase::Passive => v1::cluster::State::Passive,
        ClusterPhase::Draining => v1::cluster::State::Draining,
        ClusterPhase::Maintenance => v1::cluster::State::Maintenance,
    };
    let fencing = match cluster.spec.fencing {
        Fencing::Manual => v1::cluster::Fencing::Manual,
        Fencing::Lease => v1::cluster::Fencing::Lease,
    };
    // The active one serves; of others nothing is known before they follow it.
    let readiness = match cluster.state {
        ClusterPhase::Active => v1::cluster::Readiness::Ready,
        ClusterPhase::Passive => v1::cluster::Readiness::Unknown,
        ClusterPhase::Draining | ClusterPhase::Maintenance => v1::cluster::Readiness::NotReady,
    };
    let (spec, meta) = (&cluster.spec, &cluster.meta);
    v1::Cluster {
        id: cluster.id.to_string(),
        region: spec.region.clone(),
        state: state.into(),
        priority: spec.priority,
        fencing: fencing.into(),
        replication_endpoints: spec.replication_endpoints.clone(),
        owners: spec.owners.clone(),
        annotations: spec.annotations.to_map(),
        ticket: cluster.ticket.clone(),
        readiness: readiness.into(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
    }
}

/// The state that a filter names; none where it names none.
#[must_use]
pub fn cluster_phase(state: v1::cluster::State) -> Option<ClusterPhase> {
    match state {
        v1::cluster::State::Unspecified => None,
        v1::cluster::State::Active => Some(ClusterPhase::Active),
        v1::cluster::State::Passive => Some(ClusterPhase::Passive),
        v1::cluster::State::Draining => Some(ClusterPhase::Draining),
        v1::cluster::State::Maintenance => Some(ClusterPhase::Maintenance),
    }
}

//! `mesh.restore` and `mesh.recover`: a history goes on where others may know a longer one.

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Effects, Epoch, Event, Handler, MeshId, Record, Rejection, Timeline, TimelineId, View,
    record::{Cluster, ClusterPhase, Kind, Mesh, Meta},
};

/// Begins a new timeline on what a backup held, with a new cluster active. The first command after the restored state,
/// applied before the cluster serves anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreMesh {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster that is restored into: one that the mesh has never had.
    pub cluster: ClusterId,
    /// Random.
    pub timeline: TimelineId,
}

/// Begins a new timeline in the same cluster after a majority of its nodes was lost: what they acknowledged and this one
/// never received is gone, and whoever saw it must notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverMesh {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Random.
    pub timeline: TimelineId,
}

impl Handler for RestoreMesh {
    fn action(&self) -> &'static str {
        "mesh.restore"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Mesh, self.mesh.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if let Some(known) = view.mesh.cluster(&self.cluster) {
            return Err(Rejection::AlreadyExists {
                kind: Kind::Cluster.word().to_owned(),
                id: self.cluster.to_string(),
                current: known.meta.etag(),
            });
        }
        let (mesh, timeline) = forked(view, &self.mesh, &self.cluster, self.timeline)?;
        let mut effects = Effects::default().put(Record::Mesh(mesh.into()));
        let mut spec = None;
        for before in view.mesh.clusters_after(None) {
            match before.state {
                ClusterPhase::Active | ClusterPhase::Draining => {
                    // Its nodes may know a longer history than this one: it is not to be promoted.
                    spec.get_or_insert_with(|| before.spec.clone());
                    let left = Cluster {
                        state: ClusterPhase::Maintenance,
                        ..Cluster::clone(before)
                    };
                    effects = effects
                        .put(Record::Cluster(left.into()))
                        .event(Event::ClusterDescribed(before.id.clone()));
                }
                ClusterPhase::Passive | ClusterPhase::Maintenance => {}
            }
        }
        let mut spec = spec.unwrap_or_else(super::init_mesh::first_spec);
        spec.replication_endpoints.clear();
        let cluster = Cluster {
            id: self.cluster.clone(),
            spec,
            state: ClusterPhase::Active,
            ticket: view.origin.ticket.clone(),
            meta: Meta::default(),
        };
        Ok(effects
            .put(Record::Cluster(cluster.into()))
            .event(Event::ClusterDescribed(self.cluster.clone()))
            .event(Event::MeshRestored(timeline)))
    }
}

impl Handler for RecoverMesh {
    fn action(&self) -> &'static str {
        "mesh.recover"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Mesh, self.mesh.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let (mesh, timeline) = forked(view, &self.mesh, &self.cluster, self.timeline)?;
        Ok(Effects::default()
            .put(Record::Mesh(mesh.into()))
            .event(Event::MeshRecovered(timeline)))
    }
}

/// The mesh's record with a new timeline, forked from where the mesh is.
fn forked(
    view: &View<'_>,
    id: &MeshId,
    cluster: &ClusterId,
    timeline: TimelineId,
) -> Result<(Mesh, Timeline), Rejection> {
    let before = view.mesh.mesh().ok_or(Rejection::MeshNotInitialized)?;
    if before.id != *id {
        return Err(Rejection::NotFound {
            kind: Kind::Mesh.word().to_owned(),
            id: id.to_string(),
        });
    }
    if before.timelines.iter().any(|known| known.id == timeline) {
        return Err(Rejection::invalid(
            "timeline",
            format!("timeline {timeline} was used before"),
        ));
    }
    let forked_from = view.mesh.position();
    let timeline = Timeline {
        id: timeline,
        epoch: Epoch(before.epoch().0.saturating_add(1)),
        parent: Some(forked_from.timeline),
        fork: forked_from.revision,
        cluster: cluster.clone(),
    };
    let mut after = before.clone();
    after.timelines.push(timeline.clone());
    Ok((after, timeline))
}

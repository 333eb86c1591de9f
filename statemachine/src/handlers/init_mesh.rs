//! The first command of a mesh.

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Effects, Epoch, Event, Handler, MeshId, Record, Rejection, Revision, Timeline, TimelineId, View,
    record::{Attributes, Cluster, ClusterPhase, ClusterSpec, Config, Fencing, Kind, Mesh, Meta, Overrides},
};

/// Begins a mesh: its first timeline at epoch 1, with this cluster active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitMesh {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster that is active.
    pub cluster: ClusterId,
    /// Random.
    pub timeline: TimelineId,
    /// Settings that differ from their defaults.
    pub settings: Overrides,
    /// The level to begin at: [`FEATURE_LEVEL`] of whoever proposes it. Stamped, since the entry may be applied again by
    /// a newer program.
    pub feature_level: u32,
}

/// The highest level of behaviour that this program can follow, and the level of a mesh that it begins.
pub const FEATURE_LEVEL: u32 = if cfg!(feature = "previous-level") { 1 } else { 2 };

/// Who answers for the first cluster until an operator names somebody.
const FIRST_OWNER: &str = "operators";

/// The descriptor of a cluster that no operator has described yet.
pub(super) fn first_spec() -> ClusterSpec {
    ClusterSpec {
        region: String::new(),
        priority: 100,
        fencing: Fencing::Manual,
        replication_endpoints: Vec::new(),
        owners: vec![FIRST_OWNER.to_owned()],
        annotations: Attributes::new(),
    }
}

impl Handler for InitMesh {
    fn action(&self) -> &'static str {
        "mesh.init"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Mesh, self.mesh.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if view.mesh.mesh().is_some() {
            return Err(Rejection::MeshInitialized);
        }
        let timeline = Timeline {
            id: self.timeline,
            epoch: Epoch(1),
            parent: None,
            fork: Revision(0),
            cluster: self.cluster.clone(),
        };
        let mesh = Mesh {
            id: self.mesh.clone(),
            timelines: vec![timeline],
            floor: Revision(1),
            feature_level: self.feature_level,
            meta: Meta::default(),
        };
        let config = Config {
            overrides: self.settings.clone(),
            rollback_of: None,
            meta: Meta::default(),
        };
        let cluster = Cluster {
            id: self.cluster.clone(),
            spec: first_spec(),
            state: ClusterPhase::Active,
            ticket: String::new(),
            meta: Meta::default(),
        };
        Ok(Effects::default()
            .event(Event::MeshInitialized {
                mesh: self.mesh.clone(),
                epoch: mesh.epoch(),
            })
            .put(Record::Mesh(mesh.into()))
            .put(Record::Config(config.into()))
            .put(Record::Cluster(cluster.into())))
    }
}

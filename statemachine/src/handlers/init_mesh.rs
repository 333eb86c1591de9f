//! The first command of a mesh.

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Effects, Epoch, Event, Handler, MeshId, Record, Rejection, Revision, Timeline, TimelineId, View,
    record::{Kind, Mesh, Meta, Settings},
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
    /// Limits.
    pub settings: Settings,
}

/// The level of behaviour that this program writes for a new mesh.
pub const FEATURE_LEVEL: u32 = 1;

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
            feature_level: FEATURE_LEVEL,
            settings: self.settings.clone(),
            meta: Meta::default(),
        };
        Ok(Effects::default()
            .event(Event::MeshInitialized {
                mesh: self.mesh.clone(),
                epoch: mesh.epoch(),
            })
            .put(Record::Mesh(mesh.into())))
    }
}

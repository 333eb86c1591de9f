//! `backup.save`

use serde::{Deserialize, Serialize};

use crate::{Effects, Event, Handler, MeshId, NodeId, Rejection, View, record::Kind};

/// Notes that somebody takes the whole mesh away as a file. Changes nothing: it is there for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordBackup {
    /// The mesh.
    pub mesh: MeshId,
    /// The node that it is read from.
    pub node: NodeId,
}

impl Handler for RecordBackup {
    fn action(&self) -> &'static str {
        "backup.save"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Mesh, self.mesh.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if view.mesh.mesh().is_none() {
            return Err(Rejection::MeshNotInitialized);
        }
        Ok(Effects::default().event(Event::BackupStarted { node: self.node }))
    }
}

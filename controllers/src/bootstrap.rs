//! The first command of a new mesh.

use std::time::Duration;

use raft::Error;
use statemachine::{Conditions, InitMesh, Request};

use crate::controller::{Controller, Node, Pass};

/// Proposes `InitMesh` until the mesh is there. Only the node that was initialized has it to propose.
pub(crate) struct Bootstrap {
    pub init: InitMesh,
}

impl Controller for Bootstrap {
    fn name(&self) -> &'static str {
        "bootstrap"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        if node.handle.view().state().mesh.mesh().is_some() {
            return Ok(Pass::Idle);
        }
        let request = Request {
            origin: node.origin("bootstrap"),
            conditions: Conditions::default(),
            command: self.init.clone().into(),
        };
        // A mesh that another leader began first refuses this one, which is as good.
        node.handle.propose(request, node.deadline()).await?;
        tracing::info!(mesh = %self.init.mesh, "the mesh is initialized");
        Ok(Pass::Idle)
    }
}

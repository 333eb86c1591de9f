//! `operations.expire`: the drain controller ends a drain whose deadline has passed.

use serde::{Deserialize, Serialize};

use super::{
    operation, peer,
    undrain_peer::{unwind, unwind_all},
};
use crate::{
    Effects, Handler, OperationId, Rejection, View,
    plan::drain,
    record::{Kind, OperationKind, OperationState},
};

/// Fails a drain that has not ended by its deadline, and returns the peer to the status that it had before: a window
/// that was missed must not leave behind a peer that nobody counts on. Refused before the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireDrain {
    /// The operation.
    pub operation: OperationId,
}

super::level_2!(ExpireDrain);

impl Handler for ExpireDrain {
    fn action(&self) -> &'static str {
        "operations.expire"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Operation, self.operation.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let operation = operation(view, &self.operation)?;
        let step = operation.active_step();
        let deadline = operation.terms.deadline;
        let passed = deadline.is_some_and(|deadline| view.stamp.mesh_time_ms >= deadline.mesh_ms);
        let (OperationState::Running, Some(step), true) = (operation.state, step, passed) else {
            return Err(Rejection::OperationMoved {
                operation: self.operation.clone(),
                step: step.and_then(|step| u32::try_from(step).ok()).unwrap_or_default(),
            });
        };
        let name = operation.steps.get(step).map_or("", |step| step.name.as_str());
        match &operation.kind {
            OperationKind::DrainPeer(id) => {
                let left = drain::left(view.mesh, id);
                let why = format!("the deadline passed at the step \"{name}\": {left} were left");
                Ok(unwind(view, peer(view, id)?, OperationState::Failed, &why))
            }
            // It has no deadline.
            OperationKind::ShapeNamespace(_) => Ok(Effects::unchanged()),
            OperationKind::DrainPeers(selection) => {
                let why = "the deadline passed";
                Ok(unwind_all(view, operation, selection, OperationState::Failed, why))
            }
        }
    }
}

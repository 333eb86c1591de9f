//! `operations.cancel`

use serde::{Deserialize, Serialize};

use super::{
    operation, shape_namespace,
    undrain_peer::{undrain, unwind_all},
};
use crate::{
    Effects, Handler, OperationId, Rejection, Rule, View, check,
    record::{Kind, OperationKind, OperationState},
};

/// Cancels a running operation and unwinds what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOperation {
    /// The operation.
    pub id: OperationId,
}

impl Handler for CancelOperation {
    fn action(&self) -> &'static str {
        "operations.cancel"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Operation, self.id.to_string()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::OPERATION_EXISTS, check::OPERATION_RUNS]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let operation = operation(view, &self.id)?;
        let state = operation.state;
        let runs = state == OperationState::Running;
        view.check(check::OPERATION_RUNS, state.word(), "running", runs, || {
            Rejection::OperationFinished {
                operation: self.id.clone(),
                state,
            }
        })?;
        match &operation.kind {
            // No rule of its own: a peer that is being drained is there.
            OperationKind::DrainPeer(id) => {
                view.mesh
                    .peer(id)
                    .map(|peer| undrain(view, peer))
                    .ok_or_else(|| Rejection::NotFound {
                        kind: "peer".to_owned(),
                        id: id.to_string(),
                    })
            }
            OperationKind::DrainPeers(selection) => {
                let why = format!("cancelled by {}", view.origin.actor);
                Ok(unwind_all(view, operation, selection, OperationState::Cancelled, &why))
            }
            OperationKind::ShapeNamespace(namespace) => shape_namespace::unwind(view, operation, namespace),
        }
    }
}

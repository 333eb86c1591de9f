//! `operations.cancel`

use serde::{Deserialize, Serialize};

use super::{peer, undrain_peer::undrain};
use crate::{
    Effects, Handler, OperationId, Rejection, View,
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

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let Some(operation) = view.mesh.operation(&self.id) else {
            return Err(Rejection::NotFound {
                kind: "operation".to_owned(),
                id: self.id.to_string(),
            });
        };
        match operation.state {
            OperationState::Running => {}
            state @ (OperationState::Succeeded | OperationState::Cancelled | OperationState::Failed) => {
                return Err(Rejection::OperationFinished {
                    operation: self.id.clone(),
                    state,
                });
            }
        }
        match &operation.kind {
            OperationKind::DrainPeer(id) => Ok(undrain(view, peer(view.mesh, id)?)),
        }
    }
}

//! `peers.undrain`

use serde::{Deserialize, Serialize};

use super::{peer, status_reason};
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, View,
    record::{Kind, Operation, OperationState, Peer, PeerStatus, Phase},
};

/// Unwinds a running drain, or returns a drained peer to its status before it. Any other peer stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndrainPeer {
    /// The peer.
    pub id: PeerId,
}

impl Handler for UndrainPeer {
    fn action(&self) -> &'static str {
        "peers.undrain"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        Ok(undrain(view, peer(view.mesh, &self.id)?))
    }
}

/// What undoes the drain of a peer. Cancelling the drain's operation is the same.
pub(super) fn undrain(view: &View<'_>, before: &Peer) -> Effects {
    match before.status {
        PeerStatus::Active | PeerStatus::Cordoned => return Effects::unchanged(),
        PeerStatus::Draining | PeerStatus::Drained => {}
    }
    let status = before.status_before_drain.unwrap_or(PeerStatus::Active);
    let after = Peer {
        status,
        status_reason: status_reason(view, status),
        status_before_drain: None,
        operation: None,
        ..before.clone()
    };
    let effects = Effects::default()
        .put(Record::Peer(after.into()))
        .event(Event::PeerUndrained(before.id.clone()));
    let running = before
        .operation
        .as_ref()
        .and_then(|operation| view.mesh.operation(operation))
        .filter(|operation| operation.state == OperationState::Running);
    match running {
        Some(operation) => effects
            .event(Event::OperationFinished {
                operation: operation.id.clone(),
                state: OperationState::Cancelled,
            })
            .put(Record::Operation(cancelled(view, operation).into())),
        None => effects,
    }
}

fn cancelled(view: &View<'_>, operation: &Operation) -> Operation {
    let mut operation = operation.clone();
    operation.state = OperationState::Cancelled;
    operation.detail = format!("cancelled by {}", view.origin.actor);
    operation.finished_wall_ms = Some(view.stamp.wall_ms);
    for step in &mut operation.steps {
        match step.phase {
            Phase::Pending | Phase::Active => step.phase = Phase::Skipped,
            Phase::Done | Phase::Skipped => {}
        }
    }
    operation
}

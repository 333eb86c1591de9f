//! `peers.drain`

use serde::{Deserialize, Serialize};

use super::{peer, status_reason};
use crate::{
    Effects, Event, Handler, OperationId, PeerId, Record, Rejection, View,
    plan::drain,
    record::{Kind, Meta, Operation, OperationKind, OperationState, Peer, PeerStatus},
};

/// Starts moving everything off a peer, as an operation. A peer that is draining or drained stays as it is: asking
/// twice follows the operation that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPeer {
    /// The peer.
    pub id: PeerId,
}

impl Handler for DrainPeer {
    fn action(&self) -> &'static str {
        "peers.drain"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view.mesh, &self.id)?;
        match before.status {
            PeerStatus::Draining | PeerStatus::Drained => return Ok(Effects::unchanged()),
            PeerStatus::Active | PeerStatus::Cordoned => {}
        }
        let (measured, limit) = (
            view.mesh.operations_running(),
            view.mesh.settings().operations_running_max,
        );
        if measured >= limit {
            return Err(Rejection::ResourceExhausted {
                what: "running operations".to_owned(),
                measured,
                limit,
            });
        }
        let plan = drain::plan(view.mesh, before);
        let operation = Operation {
            id: OperationId::at(view.position),
            kind: OperationKind::DrainPeer(self.id.clone()),
            state: OperationState::Running,
            steps: plan.steps,
            done: 0,
            total: plan.moves,
            detail: String::new(),
            actor: view.origin.actor.clone(),
            reason: view.origin.reason.clone(),
            ticket: view.origin.ticket.clone(),
            finished_wall_ms: None,
            meta: Meta::default(),
        };
        let after = Peer {
            status: PeerStatus::Draining,
            status_reason: status_reason(view, PeerStatus::Draining),
            status_before_drain: Some(before.status),
            operation: Some(operation.id.clone()),
            ..before.clone()
        };
        Ok(make_room(view)
            .event(Event::PeerDrainStarted(self.id.clone()))
            .event(Event::OperationStarted(operation.id.clone()))
            .put(Record::Peer(after.into()))
            .put(Record::Operation(operation.into())))
    }
}

/// Takes ended operations away where there are as many as are kept: two for the one that comes, so that a lowered limit
/// is reached in time.
fn make_room(view: &View<'_>) -> Effects {
    let limit = view.mesh.settings().operations_max;
    if view.mesh.operation_count() < limit {
        return Effects::default();
    }
    let oldest = view.mesh.ended().take(2);
    oldest.fold(Effects::default(), |effects, ended| {
        effects.delete(Kind::Operation, ended.id.as_str())
    })
}

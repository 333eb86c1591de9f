//! `peers.undrain`

use serde::{Deserialize, Serialize};

use super::{peer, status_reason};
use crate::{
    Effects, Event, Handler, OperationId, PeerId, Record, Rejection, Rule, View, check,
    record::{Kind, Operation, OperationKind, OperationState, Peer, PeerStatus, Phase, SelectedState, Selection, Step},
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

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::PEER_EXISTS]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        Ok(undrain(view, peer(view, &self.id)?))
    }
}

/// What undoes the drain of a peer. Cancelling the drain's operation is the same.
pub(super) fn undrain(view: &View<'_>, before: &Peer) -> Effects {
    let why = format!("cancelled by {}", view.origin.actor);
    unwind(view, before, OperationState::Cancelled, &why)
}

/// What undoes the drain of a peer, and ends its operation in `state` if it runs.
pub(super) fn unwind(view: &View<'_>, before: &Peer, state: OperationState, why: &str) -> Effects {
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
        Some(operation) => {
            let undone = format!("undo: {} is {} again", before.id, status.word());
            finish(effects, ended(view, operation, state, why, undone))
        }
        None => effects,
    }
}

/// What ends an operation that drains several peers before it is done: drains that it began and that run are unwound;
/// what is drained stays drained, since it may have been taken down already; the others are left as they are.
pub(super) fn unwind_all(
    view: &View<'_>,
    operation: &Operation,
    selection: &Selection,
    state: OperationState,
    why: &str,
) -> Effects {
    let mut effects = Effects::default();
    let mut after = selection.clone();
    let mut returned = 0_usize;
    for selected in &mut after.peers {
        match selected.state {
            SelectedState::Waiting => selected.state = SelectedState::Skipped,
            SelectedState::Draining => {
                let child = selected.operation.as_ref().and_then(|id| view.mesh.operation(id));
                let own = child.filter(|child| child.terms.parent.as_ref() == Some(&operation.id));
                let peer = view.mesh.peer(&selected.peer);
                let drains =
                    peer.filter(|peer| peer.status == PeerStatus::Draining && peer.operation == selected.operation);
                match (own, drains) {
                    (Some(_), Some(peer)) => {
                        effects = effects.and(unwind(view, peer, state, why));
                        selected.state = SelectedState::Returned;
                        returned += 1;
                    }
                    // It ended since the controller looked; or it is somebody else's, and goes on.
                    (Some(_) | None, _) => {
                        selected.state = match peer.map(|peer| peer.status) {
                            Some(PeerStatus::Drained) => SelectedState::Drained,
                            Some(PeerStatus::Active | PeerStatus::Cordoned) => SelectedState::Returned,
                            Some(PeerStatus::Draining) => SelectedState::Skipped,
                            None => SelectedState::Gone,
                        }
                    }
                }
            }
            SelectedState::Drained
            | SelectedState::Returned
            | SelectedState::Failed
            | SelectedState::Gone
            | SelectedState::Skipped => {}
        }
    }
    let (drained, all) = (after.count(SelectedState::Drained), after.peers.len());
    let left =
        format!("{drained} of {all} peers are drained and stay so; returned to what they were before: {returned}");
    let undone = format!("undo: return peers that were being drained: {returned}");
    let mut ended = ended(view, operation, state, &format!("{why}: {left}"), undone);
    ended.done = u32::try_from(drained).unwrap_or(u32::MAX);
    ended.kind = OperationKind::DrainPeers(after.into());
    finish(effects, ended)
}

fn finish(effects: Effects, operation: Operation) -> Effects {
    effects
        .event(Event::OperationFinished {
            operation: OperationId::clone(&operation.id),
            state: operation.state,
        })
        .put(Record::Operation(operation.into()))
}

/// An operation that has come to its end before it was done. What was undone is its last step; at feature level 1 there
/// is no such step.
fn ended(view: &View<'_>, operation: &Operation, state: OperationState, why: &str, undone: String) -> Operation {
    let mut operation = operation.clone();
    operation.state = state;
    operation.detail = why.to_owned();
    operation.finished_wall_ms = Some(view.stamp.wall_ms);
    for step in &mut operation.steps {
        match step.phase {
            Phase::Pending | Phase::Active => step.phase = Phase::Skipped,
            Phase::Done | Phase::Skipped => {}
        }
    }
    if view.mesh.feature_level() >= 2 {
        operation.terms.waiting_since_wall_ms = None;
        operation.steps.push(Step {
            name: undone,
            phase: Phase::Done,
        });
    }
    operation
}

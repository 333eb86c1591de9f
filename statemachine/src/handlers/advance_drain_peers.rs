//! `operations.advance` of an operation that drains several peers.

use serde::{Deserialize, Serialize};

use super::{
    drain_peer::{make_room, started},
    operation,
};
use crate::{
    Effects, Event, Handler, OperationId, Record, Rejection, View,
    plan::drain_peers,
    record::{Kind, Operation, OperationKind, OperationState, Phase, SelectedState, Terms},
};

/// Takes note of the drains that have ended, and begins as many as there is room for.
///
/// Conditioned on the round, so that a deposed leader's command, or one that was sent twice, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvanceDrainPeers {
    /// The operation.
    pub operation: OperationId,
    /// The round that the operation is at.
    pub round: u32,
}

super::level_2!(AdvanceDrainPeers);

impl Handler for AdvanceDrainPeers {
    fn action(&self) -> &'static str {
        "operations.advance"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Operation, self.operation.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let moved = || Rejection::OperationMoved {
            operation: self.operation.clone(),
            step: self.round,
        };
        let before = operation(view, &self.operation)?;
        let selection = drain_peers::selection(before)
            .filter(|selection| selection.round == self.round && before.state == OperationState::Running)
            .ok_or_else(moved)?;
        let round = drain_peers::round(view.mesh, before, selection);
        if round.is_idle(before, selection) {
            return Err(moved());
        }
        let over = round.is_over();
        let mut after = selection.clone();
        after.round = after.round.saturating_add(1);
        after.peers = round.peers;
        let mut effects = make_room(view, round.begin.len());
        for (n, at) in round.begin.into_iter().enumerate() {
            let Some(selected) = after.peers.get_mut(at) else {
                continue;
            };
            let Some(peer) = view.mesh.peer(&selected.peer) else {
                continue;
            };
            let id = OperationId::nth(view.position, n);
            let terms = Terms {
                forced: before.terms.forced,
                parent: Some(before.id.clone()),
                ..Terms::default()
            };
            // It is done in the name of whoever asked for all of it, not of the controller.
            effects = effects.and(in_the_name_of(before, started(view, peer, id.clone(), terms)));
            (selected.state, selected.operation) = (SelectedState::Draining, Some(id));
        }
        let mut operation = before.clone();
        operation.done = u32::try_from(after.count(SelectedState::Drained)).unwrap_or(u32::MAX);
        if operation.detail != round.waits_for {
            operation.detail = round.waits_for;
            operation.terms.waiting_since_wall_ms = Some(view.stamp.wall_ms);
        }
        let step = operation.active_step();
        operation.kind = OperationKind::DrainPeers(after.into());
        if over {
            effects = effects.event(finish(view, &mut operation));
        }
        if let Some(step) = step.and_then(|step| u32::try_from(step).ok()) {
            effects = effects.event(Event::OperationAdvanced {
                operation: operation.id.clone(),
                step,
            });
        }
        Ok(effects.put(Record::Operation(operation.into())))
    }
}

/// The operations and peers of a drain with actor, reason and ticket of the operation that it is a part of.
fn in_the_name_of(parent: &Operation, mut effects: Effects) -> Effects {
    for record in &mut effects.puts {
        match record {
            Record::Operation(operation) => {
                let operation = std::sync::Arc::make_mut(operation);
                operation.actor.clone_from(&parent.actor);
                operation.reason.clone_from(&parent.reason);
                operation.ticket.clone_from(&parent.ticket);
            }
            Record::Peer(peer) => std::sync::Arc::make_mut(peer).status_reason.clone_from(&parent.reason),
            _ => {}
        }
    }
    effects
}

/// Ends the operation, for good if every peer is drained.
fn finish(view: &View<'_>, operation: &mut Operation) -> Event {
    let left: Vec<String> = drain_peers::selection(operation)
        .into_iter()
        .flat_map(|selection| &selection.peers)
        .filter_map(|selected| {
            let why = match selected.state {
                SelectedState::Drained | SelectedState::Gone => return None,
                SelectedState::Returned => "was brought back",
                SelectedState::Failed => "its drain failed",
                SelectedState::Skipped | SelectedState::Waiting | SelectedState::Draining => "not drained",
            };
            Some(format!("{} ({why})", selected.peer))
        })
        .collect();
    let whole = left.is_empty();
    operation.state = if whole {
        OperationState::Succeeded
    } else {
        OperationState::Failed
    };
    let names: Vec<&str> = left.iter().map(String::as_str).collect();
    operation.detail = match whole {
        true => String::new(),
        false => format!(
            "{} of {} peers are not drained: {}",
            left.len(),
            operation.total,
            drain_peers::names(&names)
        ),
    };
    operation.finished_wall_ms = Some(view.stamp.wall_ms);
    operation.terms.waiting_since_wall_ms = None;
    for step in &mut operation.steps {
        step.phase = Phase::Done;
    }
    Event::OperationFinished {
        operation: operation.id.clone(),
        state: operation.state,
    }
}

//! Operations.

use proto::v1;
use statemachine::record::{Operation, OperationKind, OperationState, Phase, Selected, SelectedState, Step};

use crate::time;

/// An operation.
#[must_use]
pub fn operation(operation: &Operation) -> v1::Operation {
    let kind = match operation.kind {
        OperationKind::DrainPeer(_) => v1::operation::Kind::DrainPeer,
        OperationKind::DrainPeers(_) => v1::operation::Kind::DrainPeers,
        OperationKind::ShapeNamespace(_) => v1::operation::Kind::ShapeNamespace,
    };
    let selection = statemachine::plan::drain_peers::selection(operation);
    let terms = &operation.terms;
    let meta = &operation.meta;
    v1::Operation {
        id: operation.id.to_string(),
        kind: kind.into(),
        target: operation.kind.target(),
        state: operation_state(operation.state).into(),
        steps: operation.steps.iter().map(step).collect(),
        done: operation.done,
        total: operation.total,
        detail: operation.detail.clone(),
        actor: operation.actor.clone(),
        reason: operation.reason.clone(),
        ticket: operation.ticket.clone(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
        finished_at: operation.finished_wall_ms.map(time),
        deadline: terms.deadline.map(|deadline| time(deadline.wall_ms)),
        forced: terms.forced,
        parent: terms.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        waiting_since: terms.waiting_since_wall_ms.map(time),
        selector: selection
            .map(|selection| selection.selector.clone())
            .unwrap_or_default(),
        at_once: selection.map_or(0, |selection| selection.at_once),
        items: selection
            .into_iter()
            .flat_map(|selection| &selection.peers)
            .map(item)
            .collect(),
    }
}

fn step(step: &Step) -> v1::operation::Step {
    let phase = match step.phase {
        Phase::Pending => v1::operation::step::Phase::Pending,
        Phase::Active => v1::operation::step::Phase::Active,
        Phase::Done => v1::operation::step::Phase::Done,
        Phase::Skipped => v1::operation::step::Phase::Skipped,
    };
    v1::operation::Step {
        name: step.name.clone(),
        phase: phase.into(),
    }
}

fn item(selected: &Selected) -> v1::operation::Item {
    let state = match selected.state {
        SelectedState::Waiting => v1::operation::item::State::Waiting,
        SelectedState::Draining => v1::operation::item::State::Draining,
        SelectedState::Drained => v1::operation::item::State::Drained,
        SelectedState::Returned => v1::operation::item::State::Returned,
        SelectedState::Failed => v1::operation::item::State::Failed,
        SelectedState::Gone => v1::operation::item::State::Gone,
        SelectedState::Skipped => v1::operation::item::State::Skipped,
    };
    v1::operation::Item {
        peer: selected.peer.to_string(),
        state: state.into(),
        operation: selected.operation.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn operation_state(state: OperationState) -> v1::operation::State {
    match state {
        OperationState::Running => v1::operation::State::Running,
        OperationState::Succeeded => v1::operation::State::Succeeded,
        OperationState::Cancelled => v1::operation::State::Cancelled,
        OperationState::Failed => v1::operation::State::Failed,
    }
}

#[must_use]
/// Whether an operation is in the state that a filter asks for; an unspecified one asks for none.
pub fn is_in_state(operation: &Operation, wanted: v1::operation::State) -> bool {
    wanted == v1::operation::State::Unspecified || operation_state(operation.state) == wanted
}

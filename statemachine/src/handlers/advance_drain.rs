//! `operations.advance`: the drain controller finishes one step, or says what it waits for.

use serde::{Deserialize, Serialize};

use super::{operation, owns_nothing, peer};
use crate::{
    Effects, Event, Handler, OperationId, Record, Rejection, View,
    plan::drain,
    record::{Kind, OperationKind, OperationState, Peer, PeerStatus, Phase},
};

/// Finishes a step of a drain and begins the next; the last one makes the peer drained. While the peer holds shards, says what it
/// waits for where that has changed, and is refused otherwise.
///
/// Conditioned on the step, so that a deposed leader's command, or one that was sent twice, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvanceDrain {
    /// The operation.
    pub operation: OperationId,
    /// The step that is finished, from 0.
    pub step: u32,
}

impl Handler for AdvanceDrain {
    fn action(&self) -> &'static str {
        "operations.advance"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Operation, self.operation.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let moved = || Rejection::OperationMoved {
            operation: self.operation.clone(),
            step: self.step,
        };
        let before = operation(view, &self.operation)?;
        let step = before
            .active_step()
            .filter(|step| *step == self.step as usize)
            .ok_or_else(moved)?;
        if before.state != OperationState::Running {
            return Err(moved());
        }
        let OperationKind::DrainPeer(id) = &before.kind else {
            return Err(moved());
        };
        let drained = peer(view, id)?;
        if let Some(mut noted) = drain::noted(view.mesh, before) {
            noted.terms.waiting_since_wall_ms = Some(view.stamp.wall_ms);
            return Ok(Effects::default().put(Record::Operation(noted.into())));
        }
        if !before.terms.forced {
            owns_nothing(view, id)?;
        }
        let mut operation = before.clone();
        operation.steps[step].phase = Phase::Done;
        let mut effects = Effects::default().event(Event::OperationAdvanced {
            operation: operation.id.clone(),
            step: self.step,
        });
        match operation.steps.get_mut(step + 1) {
            Some(next) => {
                next.phase = Phase::Active;
                if view.mesh.feature_level() >= 2 {
                    operation.detail = drain::waits_for(view.mesh, drained, step + 1, before.terms.forced);
                    operation.terms.waiting_since_wall_ms = Some(view.stamp.wall_ms);
                }
            }
            None => {
                operation.state = OperationState::Succeeded;
                operation.done = operation.total;
                operation.finished_wall_ms = Some(view.stamp.wall_ms);
                operation.detail = match before.terms.forced {
                    true => format!("forced: {} were left behind", drain::left(view.mesh, id)),
                    false => String::new(),
                };
                operation.terms.waiting_since_wall_ms = None;
                let after = Peer {
                    status: PeerStatus::Drained,
                    ..drained.clone()
                };
                effects = effects
                    .event(Event::PeerDrained(id.clone()))
                    .event(Event::OperationFinished {
                        operation: operation.id.clone(),
                        state: OperationState::Succeeded,
                    })
                    .put(Record::Peer(after.into()));
            }
        }
        Ok(effects.put(Record::Operation(operation.into())))
    }
}

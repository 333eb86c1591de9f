//! `operations.advance`: the drain controller finishes one step.

use serde::{Deserialize, Serialize};

use super::peer;
use crate::{
    Effects, Event, Handler, OperationId, Record, Rejection, View,
    record::{Kind, OperationKind, OperationState, Peer, PeerStatus, Phase},
};

/// Finishes a step of a drain and begins the next; the last one makes the peer drained.
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
        let Some(before) = view.mesh.operation(&self.operation) else {
            return Err(Rejection::NotFound {
                kind: "operation".to_owned(),
                id: self.operation.to_string(),
            });
        };
        let step = before
            .active_step()
            .filter(|step| *step == self.step as usize)
            .ok_or_else(moved)?;
        if before.state != OperationState::Running {
            return Err(moved());
        }
        let OperationKind::DrainPeer(id) = &before.kind;
        let drained = peer(view.mesh, id)?;
        let shards = view.mesh.shards_owned(id);
        if shards > 0 {
            return Err(Rejection::PeerOwnsShards {
                peer: id.clone(),
                shards,
            });
        }
        let mut operation = before.clone();
        operation.steps[step].phase = Phase::Done;
        let mut effects = Effects::default().event(Event::OperationAdvanced {
            operation: operation.id.clone(),
            step: self.step,
        });
        match operation.steps.get_mut(step + 1) {
            Some(next) => next.phase = Phase::Active,
            None => {
                operation.state = OperationState::Succeeded;
                operation.done = operation.total;
                operation.finished_wall_ms = Some(view.stamp.wall_ms);
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

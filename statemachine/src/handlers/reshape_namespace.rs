//! `namespaces.reshape`: other peers, another strategy or other copies for a namespace, and the way there.
//!
//! Whoever asks has planned where each shard goes; the command carries it, so that apply only counts, and what was simulated
//! is what is done. The operation that begins with it moves owners first and copies then.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    namespace,
    namespaces::{at_rest, begin},
    on_namespace,
};
use crate::{
    Effects, Event, Handler, NamespaceId, OperationId, Record, Rejection, Rule, View, check,
    plan::{
        reshape::moved,
        shards::{Standing, standing},
    },
    record::{Kind, Namespace, NamespacePhase, NamespaceSpec, Operation, OperationState, Phase, Target},
    rejection::percent,
};

/// Describes a namespace anew, and begins to move its shards to where that wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReshapeNamespace {
    /// The namespace.
    pub id: NamespaceId,
    /// What is said about it from now on. Its policy stays as it is.
    pub spec: NamespaceSpec,
    /// Where its shards go: see [`crate::plan::reshape::target`].
    pub target: Target,
    /// The most that may move although it need not, in tenths of a percent; the policy's ceiling where none.
    pub moved_permille_max: Option<u32>,
}

/// Says how far a reshaping is.
///
/// Conditioned on how far it was, so that a deposed leader's command, or one that was sent twice, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvanceReshape {
    /// The operation.
    pub operation: OperationId,
    /// The step that it is at.
    pub step: u32,
    /// How many shards were where they are to be.
    pub before: u32,
    /// How many are.
    pub done: u32,
    /// The step is over.
    pub over: bool,
}

super::level_2!(ReshapeNamespace, AdvanceReshape);

impl AdvanceReshape {
    fn moved(&self) -> Rejection {
        Rejection::OperationMoved {
            operation: self.operation.clone(),
            step: self.step,
        }
    }
}

impl Handler for ReshapeNamespace {
    fn action(&self) -> &'static str {
        "namespaces.reshape"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Namespace, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::NAMESPACE_EXISTS,
            check::NAMESPACE_AT_REST,
            check::SHARD_COUNT_KEPT,
            check::FORM,
            check::SHARDS_HAVE_A_PLACE,
            check::TARGET_TAKES_SHARDS,
            check::MOVES_BELOW_CEILING,
            check::OPERATIONS_BELOW_LIMIT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = namespace(view, &self.id)?;
        at_rest(view, before)?;
        let (shards, asked) = (before.spec.shards, self.spec.shards);
        view.check(check::SHARD_COUNT_KEPT, asked, shards, asked == shards, || {
            Rejection::ShardCountFixed {
                namespace: self.id.clone(),
                shards,
                asked,
            }
        })?;
        let spec = NamespaceSpec {
            policy: before.spec.policy,
            ..self.spec.clone()
        };
        view.check_form(check::FORM, spec.check().and_then(|()| self.target.check(shards)))?;
        let placed = self
            .target
            .owners
            .iter()
            .filter(|owner| **owner != Target::NOBODY)
            .count();
        let measured = format!("{placed} shards with an owner");
        view.check(check::SHARDS_HAVE_A_PLACE, measured, 1, placed > 0, || {
            Rejection::NoEligiblePeer {
                peer: None,
                namespace: self.id.clone(),
            }
        })?;
        self.fits(view)?;
        let moved = moved(view.mesh, before, &self.target);
        let measured = moved.avoidable_permille(shards);
        let limit = self.moved_permille_max.unwrap_or(before.spec.policy.moved_permille_max);
        let within = measured <= limit;
        view.check(
            check::MOVES_BELOW_CEILING,
            percent(measured),
            percent(limit),
            within,
            || Rejection::MovesTooMany {
                namespace: self.id.clone(),
                measured,
                limit,
            },
        )?;
        if spec == before.spec && moved.all == 0 {
            return Ok(Effects::unchanged());
        }
        let (effects, operation) = begin(view, &self.id, &["move its owners", "move its copies"], moved.all)?;
        let after = Namespace {
            spec,
            phase: NamespacePhase::Reshaping,
            operation: Some(operation),
            target: Some(Box::new(Target {
                before: before.spec.clone(),
                ..self.target.clone()
            })),
            ticket: view.origin.ticket.clone(),
            ..before.clone()
        };
        Ok(effects
            .put(Record::Namespace(after.into()))
            .event(Event::NamespaceChanged(self.id.clone())))
    }
}

impl ReshapeNamespace {
    /// That every peer that shards are moved to takes shards now.
    fn fits(&self, view: &View<'_>) -> Result<(), Rejection> {
        let moving = view.mesh.shards_of(&self.id).filter_map(|shard| {
            let to = self.target.owner(shard.id.index)?;
            (shard.owner.as_ref() != Some(to)).then_some(to)
        });
        let unfit = moving
            .collect::<BTreeSet<_>>()
            .into_iter()
            .find(|to| !view.mesh.peer(to).is_some_and(|peer| standing(peer) == Standing::Takes));
        let refused = unfit.map(|peer| Rejection::TargetUnfit {
            peer: peer.clone(),
            why: "not given shards now: plan again".to_owned(),
        });
        view.check_form(check::TARGET_TAKES_SHARDS, refused.map_or(Ok(()), Err))
    }
}

impl Handler for AdvanceReshape {
    fn action(&self) -> &'static str {
        "namespaces.advance_reshape"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Operation, self.operation.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let (before, namespace) = on_namespace(view, &self.operation, || self.moved())?;
        let at = before.active_step();
        let is_here = namespace.phase == NamespacePhase::Reshaping
            && at == usize::try_from(self.step).ok()
            && before.done == self.before;
        let (true, Some(at)) = (is_here, at) else {
            return Err(self.moved());
        };
        let mut operation = before.clone();
        operation.done = self.done.min(operation.total);
        if !self.over {
            return Ok(Effects::default().put(Record::Operation(operation.into())));
        }
        if let Some(step) = operation.steps.get_mut(at) {
            step.phase = Phase::Done;
        }
        if let Some(next) = operation.steps.get_mut(at + 1) {
            next.phase = Phase::Active;
            return Ok(Effects::default().put(Record::Operation(operation.into())));
        }
        operation.state = OperationState::Succeeded;
        operation.finished_wall_ms = Some(view.stamp.wall_ms);
        let after = Namespace {
            phase: NamespacePhase::Active,
            operation: None,
            target: None,
            ..namespace.clone()
        };
        Ok(Effects::default()
            .event(Event::OperationFinished {
                operation: operation.id.clone(),
                state: operation.state,
            })
            .put(Record::Operation(operation.into()))
            .put(Record::Namespace(after.into()))
            .event(Event::NamespaceReady(namespace.id.clone())))
    }
}

/// Gives a reshaping up: the namespace is described as it was, and shards that have moved stay where they are.
pub(super) fn give_up(view: &View<'_>, operation: &Operation, namespace: &Namespace) -> Effects {
    let mut ended = operation.clone();
    ended.state = OperationState::Cancelled;
    ended.finished_wall_ms = Some(view.stamp.wall_ms);
    ended.detail = format!(
        "cancelled by {}: {} of {} shards have moved, and stay where they are",
        view.origin.actor, operation.done, operation.total
    );
    for step in &mut ended.steps {
        if matches!(step.phase, Phase::Pending | Phase::Active) {
            step.phase = Phase::Skipped;
        }
    }
    let spec = match &namespace.target {
        Some(target) => NamespaceSpec {
            policy: namespace.spec.policy,
            ..target.before.clone()
        },
        None => namespace.spec.clone(),
    };
    let after = Namespace {
        spec,
        phase: NamespacePhase::Active,
        operation: None,
        target: None,
        ..namespace.clone()
    };
    Effects::default()
        .event(Event::OperationFinished {
            operation: ended.id.clone(),
            state: ended.state,
        })
        .put(Record::Operation(ended.into()))
        .put(Record::Namespace(after.into()))
        .event(Event::NamespaceChanged(namespace.id.clone()))
}

//! `namespaces.shape`: the controller goes on with what was begun on a namespace, one batch at a time.

use serde::{Deserialize, Serialize};

use super::{on_namespace, reshape_namespace::give_up};
use crate::{
    Effects, Event, Handler, NamespaceId, OperationId, PeerId, Record, Rejection, View,
    plan::shards::{Standing, standing},
    presence::Terms,
    record::{
        Health, Kind, Meta, Namespace, NamespacePhase, Operation, OperationState, Phase, Shard, ShardId, ShardStatus,
        Step,
    },
};

/// The most shards of one batch: each is a record, and an entry changes at most 1,000.
pub const BATCH_MAX: usize = 500;

/// What an operation says that has taken everything away and waits for peers.
const WAITS: &str = "waits until its peers' leases are over: one that hears nothing may still serve its shards";

/// Where one shard is put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Who owns it; none where nobody can.
    pub owner: Option<PeerId>,
    /// Who holds it beside the owner.
    pub replicas: Vec<PeerId>,
}

/// Goes on with an operation on a namespace: makes the next shards, or takes the next away.
///
/// Conditioned on how far the operation is, so that a deposed leader's command, or one that was sent twice, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeNamespace {
    /// The operation.
    pub operation: OperationId,
    /// How many shards are done before it.
    pub done: u32,
    /// Where the next shards are put. Empty where shards are taken away.
    pub placements: Vec<Placement>,
}

super::level_2!(ShapeNamespace);

impl ShapeNamespace {
    fn moved(&self) -> Rejection {
        Rejection::OperationMoved {
            operation: self.operation.clone(),
            step: self.done,
        }
    }

    /// Whether every peer that is named may be given shards now, and none is named twice for one.
    fn fits(&self, view: &View<'_>, namespace: &Namespace) -> bool {
        let takes = |peer: &PeerId| {
            view.mesh
                .peer(peer)
                .is_some_and(|peer| standing(peer) == Standing::Takes)
        };
        self.placements.iter().all(|placement| {
            let mut all: Vec<&PeerId> = placement.owner.iter().chain(&placement.replicas).collect();
            let (named, few) = (all.len(), placement.replicas.len() <= namespace.spec.replicas as usize);
            all.sort_unstable();
            all.dedup();
            few && all.len() == named && all.into_iter().all(takes)
        })
    }

    fn make(&self, view: &View<'_>, namespace: &Namespace) -> Result<Vec<Record>, Rejection> {
        let left = namespace.spec.shards.saturating_sub(self.done) as usize;
        let count = self.placements.len();
        if count == 0 || count > left.min(BATCH_MAX) || !self.fits(view, namespace) {
            return Err(self.moved());
        }
        // Later than that of any shard that ever was: each takes at least a revision to be raised by one. So a namespace that is made
        // again begins above what peers of the one before may still hold, and data may remember.
        let epoch = view.position.revision.0;
        let placements = (self.done..).zip(&self.placements);
        let shards = placements.map(|(index, placement)| {
            let shard = Shard {
                id: ShardId {
                    namespace: namespace.id.clone(),
                    index,
                },
                owner: placement.owner.clone(),
                replicas: placement.replicas.clone(),
                status: ShardStatus::Active,
                epoch,
                mesh_epoch: view.mesh.epoch(),
                moving: None,
                ticket: view.origin.ticket.clone(),
                meta: Meta::default(),
            };
            Record::Shard(shard.into())
        });
        Ok(shards.collect())
    }
}

impl Handler for ShapeNamespace {
    fn action(&self) -> &'static str {
        "namespaces.shape"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Operation, self.operation.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let (before, namespace) = on_namespace(view, &self.operation, || self.moved())?;
        let id = &namespace.id;
        if before.done != self.done {
            return Err(self.moved());
        }
        let mut effects = Effects::default();
        let after = match namespace.phase {
            NamespacePhase::Creating => {
                effects.puts = self.make(view, namespace)?;
                let done = self
                    .done
                    .saturating_add(u32::try_from(effects.puts.len()).unwrap_or(u32::MAX));
                let whole = done >= namespace.spec.shards;
                let (advanced, ended) = advance(view, before, done, whole);
                effects = effects.and(advanced);
                ended.then(|| Namespace {
                    phase: NamespacePhase::Active,
                    operation: None,
                    ..namespace.clone()
                })
            }
            NamespacePhase::Deleting => {
                let shards: Vec<_> = view.mesh.shards_of(id).take(BATCH_MAX).collect();
                let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
                let mut next = before.clone();
                if shards.iter().any(|shard| may_be_served(view, shard)) {
                    let terms = Terms::of(view.mesh.settings());
                    let until_ms = view.stamp.mesh_time_ms.saturating_add(terms.over_ms(terms.lease_ms));
                    next.terms.served_until_ms = Some(until_ms);
                }
                let gone = shards.len() < BATCH_MAX;
                let quiet = is_quiet(&next, view.stamp.mesh_time_ms);
                if gone && !quiet {
                    if shards.is_empty() {
                        return Err(self.moved());
                    }
                    if next.detail.is_empty() {
                        next.detail = WAITS.to_owned();
                        next.terms.waiting_since_wall_ms = Some(view.stamp.wall_ms);
                    }
                } else if gone && next.detail == WAITS {
                    next.detail.clear();
                    next.terms.waiting_since_wall_ms = None;
                }
                effects.deletes = shards.iter().map(|shard| (Kind::Shard, shard.id.to_string())).collect();
                let (advanced, ended) = advance(view, &next, self.done.saturating_add(count), gone && quiet);
                effects = effects.and(advanced);
                if ended {
                    effects = effects
                        .delete(Kind::Namespace, id.as_str())
                        .event(Event::NamespaceDeleted(id.clone()));
                }
                None
            }
            NamespacePhase::Active | NamespacePhase::Reshaping => return Err(self.moved()),
        };
        Ok(match after {
            Some(after) => effects
                .put(Record::Namespace(after.into()))
                .event(Event::NamespaceReady(id.clone())),
            None => effects,
        })
    }
}

/// Whether a peer may go on serving a shard that is taken away, by a lease that it has.
fn may_be_served(view: &View<'_>, shard: &Shard) -> bool {
    let owner = shard.owner.as_ref().and_then(|owner| view.mesh.peer(owner));
    owner.is_some_and(|owner| match owner.health {
        Health::Alive | Health::Suspect => true,
        Health::Unknown | Health::Dead => false,
    })
}

/// Whether nobody serves any more what an operation has taken away: until then its namespace keeps its name, so that nobody is
/// given a shard that goes by the same.
#[must_use]
pub fn is_quiet(operation: &Operation, now_ms: u64) -> bool {
    operation
        .terms
        .served_until_ms
        .is_none_or(|until_ms| until_ms <= now_ms)
}

/// The operation, further; ended where `last`. One that was turned round has not done what it was begun for.
fn advance(view: &View<'_>, before: &Operation, done: u32, last: bool) -> (Effects, bool) {
    let mut operation = before.clone();
    operation.done = done.min(operation.total);
    let mut effects = Effects::default();
    if last {
        operation.state = if is_turned_round(before) {
            OperationState::Cancelled
        } else {
            OperationState::Succeeded
        };
        operation.finished_wall_ms = Some(view.stamp.wall_ms);
        for step in operation.steps.iter_mut().filter(|step| step.phase == Phase::Active) {
            step.phase = Phase::Done;
        }
        effects = effects.event(Event::OperationFinished {
            operation: operation.id.clone(),
            state: operation.state,
        });
    }
    (effects.put(Record::Operation(operation.into())), last)
}

/// Whether an operation on a namespace was cancelled, and takes away what it had made: the step that it was at is skipped then,
/// which is the mark of it.
fn is_turned_round(operation: &Operation) -> bool {
    operation.steps.iter().any(|step| step.phase == Phase::Skipped)
}

/// What ends an operation on a namespace before it is done: what is being made is taken away again, by the same operation,
/// which ends as cancelled when nothing is left of it; what is being taken away is not brought back.
pub(super) fn unwind(view: &View<'_>, operation: &Operation, id: &NamespaceId) -> Result<Effects, Rejection> {
    let Some(namespace) = view.mesh.namespace(id) else {
        return Ok(Effects::unchanged());
    };
    match namespace.phase {
        NamespacePhase::Creating => {
            let mut ended = operation.clone();
            ended.detail = format!("cancelled by {}: what was made is taken away again", view.origin.actor);
            // The same operation goes on, the other way.
            ended.total = ended.done;
            ended.done = 0;
            for step in &mut ended.steps {
                step.phase = Phase::Skipped;
            }
            ended.steps.push(Step {
                name: "take its shards away again".to_owned(),
                phase: Phase::Active,
            });
            let after = Namespace {
                phase: NamespacePhase::Deleting,
                ..namespace.clone()
            };
            Ok(Effects::default()
                .put(Record::Operation(ended.into()))
                .put(Record::Namespace(after.into())))
        }
        NamespacePhase::Reshaping => Ok(give_up(view, operation, namespace)),
        NamespacePhase::Active | NamespacePhase::Deleting => Err(Rejection::NamespaceBusy {
            namespace: id.clone(),
            phase: namespace.phase,
            operation: Some(operation.id.clone()),
        }),
    }
}

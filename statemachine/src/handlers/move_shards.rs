//! `shards.move`, and the steps that a move goes through.
//!
//! An exclusive move: its target gets ready; then its source stops; when it has, or its lease has run out, the shard has its
//! new owner under the next token. An overlapping move has its new owner as soon as the target is ready. Every step names the
//! move and the step that it ends, so that what a deposed leader or a slow peer says is refused. After the switch there is no
//! way back but another move.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{peer, room, shard, with_progress};
use crate::{
    Effects, Event, Handler, OperationId, PeerId, Record, Rejection, Revision, Rule, View, check,
    plan::{
        room::Running,
        shards::{Standing, is_heard, standing},
    },
    record::{
        Cause, FencingToken, HandOff, Health, Kind, Move, MoveStep, Peer, PeerStatus, Shard, ShardId, ShardStatus,
    },
    selector::Selector,
};

/// The most shards of one batch.
pub const MOVES_BATCH_MAX: usize = 500;

/// Moves a shard to another owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveShard {
    /// The shard.
    pub id: ShardId,
    /// Its next owner.
    pub to: PeerId,
}

/// Begins moves that a controller has planned. Those that can no longer begin are left out: it plans anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginMoves {
    /// Which shards, the epoch that each had when it was planned, where to, and why.
    pub moves: Vec<(ShardId, u64, PeerId, Cause)>,
    /// The operation that they are a part of.
    pub operation: Option<OperationId>,
}

/// What ends a step of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepEnd {
    /// Whom it waits for has done its part.
    Acknowledged,
    /// The source's lease has run out: nobody serves the shard any more.
    LeaseOver,
    /// The move is given up, and the shard stays with its owner.
    Cancelled,
    /// The same, because the step took too long.
    TimedOut,
}

/// Ends a step of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndMoveStep {
    /// The shard.
    pub id: ShardId,
    /// The move: where it began.
    pub begun: Revision,
    /// The step that ends.
    pub step: MoveStep,
    /// How.
    pub end: StepEnd,
    /// The peer that says so, and the token that it holds the shard to have; none where a controller or an operator does.
    pub by: Option<(PeerId, FencingToken)>,
}

super::level_2!(MoveShard, BeginMoves, EndMoveStep);

impl Handler for MoveShard {
    fn action(&self) -> &'static str {
        "shards.move"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Shard, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::SHARD_EXISTS,
            check::PEER_EXISTS,
            check::SHARD_MOVABLE,
            check::TARGET_IS_ANOTHER,
            check::TARGET_TAKES_SHARDS,
            check::MOVES_BELOW_LIMIT,
            check::MOVES_OF_NAMESPACE_BELOW_LIMIT,
            check::MOVES_OF_PEER_BELOW_LIMIT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = shard(view, &self.id)?;
        let target = peer(view, &self.to)?;
        let status = before.status;
        let movable = status == ShardStatus::Active;
        view.check(check::SHARD_MOVABLE, status.word(), "active", movable, || {
            Rejection::ShardTransition {
                shard: self.id.clone(),
                status,
                action: "shards.move".to_owned(),
            }
        })?;
        let another = before.owner.as_ref() != Some(&self.to);
        let owner = before.owner.as_ref().map_or("nobody", PeerId::as_str);
        view.check(check::TARGET_IS_ANOTHER, owner, &self.to, another, || {
            Rejection::ShardThere {
                shard: self.id.clone(),
                peer: self.to.clone(),
            }
        })?;
        let why = cannot_hold(view, before, target);
        let measured = why.unwrap_or("takes shards");
        view.check(
            check::TARGET_TAKES_SHARDS,
            measured,
            "takes shards",
            why.is_none(),
            || Rejection::TargetUnfit {
                peer: target.id.clone(),
                why: measured.to_owned(),
            },
        )?;
        show_silent(view, before, target)?;
        for held in Running::now(view.mesh).held_against(view.mesh, before, &self.to) {
            room(view, held.rule, &held.what, held.now, held.limit)?;
        }
        Ok(with_progress(view, begin(view, before, &self.to, Cause::Asked, None)))
    }
}

impl Handler for BeginMoves {
    fn action(&self) -> &'static str {
        "shards.begin_moves"
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn subject(&self) -> String {
        self.operation
            .as_ref()
            .map(|id| format!("operation/{id}"))
            .unwrap_or_default()
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if self.moves.len() > MOVES_BATCH_MAX {
            let why = format!("{} moves are over the limit of {MOVES_BATCH_MAX}", self.moves.len());
            return Err(Rejection::invalid("moves", why));
        }
        let mut effects = Effects::default();
        let mut running = Running::now(view.mesh);
        let mut seen = BTreeSet::new();
        for (id, epoch, to, cause) in &self.moves {
            let before = view
                .mesh
                .shard(id)
                .filter(|shard| shard.epoch == *epoch && seen.insert(id));
            let (Some(before), Some(target)) = (before, view.mesh.peer(to)) else {
                continue;
            };
            let movable = before.status == ShardStatus::Active && before.owner.as_ref() != Some(to);
            if movable && cannot_hold(view, before, target).is_none() && running.admits(view.mesh, before, to) {
                running.add(before, to);
                effects = effects.and(begin(view, before, to, *cause, self.operation.as_ref()));
            }
        }
        Ok(with_progress(view, effects))
    }
}

impl Handler for EndMoveStep {
    fn action(&self) -> &'static str {
        match self.end {
            StepEnd::Acknowledged => "shards.acknowledge",
            StepEnd::LeaseOver => "shards.lease_over",
            StepEnd::Cancelled => "shards.cancel_move",
            StepEnd::TimedOut => "shards.time_out",
        }
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Shard, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::SHARD_EXISTS,
            check::MOVE_AT_STEP,
            check::WAITED_FOR,
            check::TOKEN_IS_CURRENT,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = shard(view, &self.id)?;
        let moving = before.moving.as_ref();
        let at = moving.map_or_else(
            || "no move".to_owned(),
            |moving| format!("{} {}", moving.begun, moving.step.word()),
        );
        let wanted = format!("{} {}", self.begun, self.step.word());
        let over = || Rejection::MoveOver {
            shard: self.id.clone(),
            begun: self.begun,
            step: self.step,
        };
        view.check(check::MOVE_AT_STEP, &at, &wanted, at == wanted, over)?;
        let moving = moving.ok_or_else(over)?;
        if let Some((peer, token)) = &self.by {
            comes_from(view, before, moving, peer, *token)?;
        }
        match (self.end, moving.step, moving.hand_off) {
            (StepEnd::Acknowledged, MoveStep::Preparing, hand_off) if waits_for_source(view, before, hand_off) => {
                let after = Shard {
                    moving: Some(Move {
                        step: MoveStep::Stopping,
                        deadline_ms: deadline(view, before),
                        ..moving.clone()
                    }),
                    ..before.clone()
                };
                Ok(Effects::default()
                    .put(Record::Shard(after.into()))
                    .event(Event::ShardMoveAdvanced {
                        shard: self.id.clone(),
                        step: MoveStep::Stopping,
                    }))
            }
            (StepEnd::Acknowledged, MoveStep::Preparing, _)
            | (StepEnd::Acknowledged | StepEnd::LeaseOver, MoveStep::Stopping, _) => {
                Ok(with_progress(view, switched(before, moving)))
            }
            (StepEnd::LeaseOver, MoveStep::Preparing, _) => Err(over()),
            (StepEnd::Cancelled | StepEnd::TimedOut, MoveStep::Preparing | MoveStep::Stopping, _) => {
                let after = Shard {
                    status: ShardStatus::Active,
                    moving: None,
                    ..before.clone()
                };
                Ok(Effects::default()
                    .put(Record::Shard(after.into()))
                    .event(Event::ShardMoveGivenUp {
                        shard: self.id.clone(),
                        to: moving.to.clone(),
                    }))
            }
        }
    }
}

/// That a step is ended by the peer that it waits for, and under the token that the shard has.
fn comes_from(
    view: &View<'_>,
    shard: &Shard,
    moving: &Move,
    peer: &PeerId,
    token: FencingToken,
) -> Result<(), Rejection> {
    let awaited = match moving.step {
        MoveStep::Preparing => Some(&moving.to),
        MoveStep::Stopping => shard.owner.as_ref(),
    };
    let waits_for = awaited.map_or("nobody", PeerId::as_str);
    view.check(check::WAITED_FOR, peer, waits_for, awaited == Some(peer), || {
        Rejection::NotWaitedFor {
            shard: shard.id.clone(),
            peer: peer.clone(),
            waits_for: waits_for.to_owned(),
        }
    })?;
    let current = view.mesh.token(shard);
    view.check(check::TOKEN_IS_CURRENT, token, current, token == current, || {
        Rejection::StaleToken {
            shard: shard.id.clone(),
            token,
            current,
        }
    })
}

/// The shard with its new owner.
fn switched(before: &Shard, moving: &Move) -> Effects {
    let after = before.handed_to(moving.to.clone());
    Effects::default()
        .event(Event::ShardMoved {
            shard: before.id.clone(),
            from: before.owner.clone(),
            to: moving.to.clone(),
            epoch: after.epoch,
        })
        .put(Record::Shard(after.into()))
}

/// What begins a move, at the first step that somebody has to be waited for: a peer that was never heard of is not there to
/// get ready or to stop, and one that is dead has stopped.
fn begin(view: &View<'_>, before: &Shard, to: &PeerId, cause: Cause, operation: Option<&OperationId>) -> Effects {
    let namespace = view.mesh.namespace(&before.id.namespace);
    let hand_off = namespace.map_or(HandOff::Exclusive, |namespace| namespace.spec.policy.hand_off);
    let step = match (is_there(view, to), waits_for_source(view, before, hand_off)) {
        (true, _) => Some(MoveStep::Preparing),
        (false, true) => Some(MoveStep::Stopping),
        (false, false) => None,
    };
    let moving = Move {
        begun: view.position.revision,
        to: to.clone(),
        step: step.unwrap_or(MoveStep::Stopping),
        hand_off,
        cause,
        operation: operation.cloned(),
        deadline_ms: deadline(view, before),
        actor: view.origin.actor.clone(),
    };
    let Some(_) = step else {
        return switched(before, &moving);
    };
    let after = Shard {
        status: ShardStatus::Moving,
        moving: Some(moving),
        ticket: view.origin.ticket.clone(),
        ..before.clone()
    };
    Effects::default()
        .put(Record::Shard(after.into()))
        .event(Event::ShardMoveBegun {
            shard: before.id.clone(),
            to: to.clone(),
        })
}

/// When the step that begins now has taken too long, in mesh time.
fn deadline(view: &View<'_>, shard: &Shard) -> u64 {
    let namespace = view.mesh.namespace(&shard.id.namespace);
    let step_ms = namespace.map_or(0, |namespace| namespace.spec.policy.step_ms);
    view.stamp.mesh_time_ms.saturating_add(step_ms)
}

/// Whether a peer sends heartbeats: then it may serve, and can be waited for.
fn is_there(view: &View<'_>, peer: &PeerId) -> bool {
    view.mesh.peer(peer).is_some_and(|peer| match peer.health {
        Health::Alive | Health::Suspect => true,
        Health::Unknown | Health::Dead => false,
    })
}

/// Whether the shard's owner has to stop before the next one begins.
fn waits_for_source(view: &View<'_>, shard: &Shard, hand_off: HandOff) -> bool {
    hand_off == HandOff::Exclusive && shard.owner.as_ref().is_some_and(|owner| is_there(view, owner))
}

/// Shows who previews a move that its target was never heard, where others are that the namespace selects. Refuses nothing: by
/// hand a shard goes wherever it is sent.
fn show_silent(view: &View<'_>, shard: &Shard, target: &Peer) -> Result<(), Rejection> {
    if view.checks.is_none() || is_heard(target) {
        return Ok(());
    }
    let namespace = view.mesh.namespace(&shard.id.namespace);
    let selector = namespace.and_then(|namespace| Selector::parse(&namespace.spec.peers).ok());
    let selected = |peer: &Peer| {
        selector
            .as_ref()
            .is_some_and(|selector| selector.matches(&peer.spec.labels))
    };
    let heard = view
        .mesh
        .peers_after(None)
        .filter(|peer| is_heard(peer) && selected(peer))
        .count();
    if heard == 0 {
        return Ok(());
    }
    let measured = format!(
        "{} was never heard, {heard} others were: it is not asked to get ready",
        target.id
    );
    view.check(check::SILENT_TARGET_NOTED, measured, "any peer", true, || {
        Rejection::MeshNotInitialized
    })
}

/// Why a peer is not given a shard; none where it is.
fn cannot_hold(view: &View<'_>, shard: &Shard, target: &Peer) -> Option<&'static str> {
    if standing(target) != Standing::Takes {
        return Some(match target.status {
            PeerStatus::Active => target.health.word(),
            PeerStatus::Cordoned | PeerStatus::Draining | PeerStatus::Drained => target.status.word(),
        });
    }
    let namespace = view.mesh.namespace(&shard.id.namespace)?;
    let selector = Selector::parse(&namespace.spec.peers).ok()?;
    (!selector.matches(&target.spec.labels)).then_some("not selected by the namespace")
}

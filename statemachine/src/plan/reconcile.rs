//! What is to be done next so that shards are where they can stay: looked at as a whole, again and again, so that nothing has
//! to be remembered and any leader goes on where another was stopped.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    avoid::Avoid,
    room::{Begin, Running},
    shards::{Layout, Members, Purpose, Standing, about_to_drain, keeps, layout, standing},
};
use crate::{
    BeginMoves, EndMoveStep, MeshState, OperationId, PeerId, StepEnd,
    record::{Cause, Health, Move, MoveStep, Namespace, NamespacePhase, Peer, Shard, ShardId, ShardStatus},
};

/// The most of each kind that one round does.
pub const ROUND_MAX: usize = 500;

/// What is to be done next.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Round {
    /// Moves whose step is over: their source is dead, their target can no longer take them, or they took too long.
    pub end: Vec<EndMoveStep>,
    /// Shards that cannot stay with their owner, and that may begin to move now.
    pub begin: Vec<Begin>,
    /// Shards whose replicas cannot stay: which, its version, and its replicas from now on.
    pub copies: Vec<(ShardId, u64, Vec<PeerId>)>,
    /// Shards that would have to move, and wait until fewer others do.
    pub waiting: u64,
    /// Shards that would have to move, and that nobody can take.
    pub stuck: u64,
}

impl Round {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.end.is_empty() && self.begin.is_empty() && self.copies.is_empty()
    }

    /// What begins its moves, at most so many: those of a drain as part of its operation.
    #[must_use]
    pub fn moves(&self, mesh: &MeshState, most: usize) -> Vec<BeginMoves> {
        let mut all: BTreeMap<Option<OperationId>, Vec<Begin>> = BTreeMap::new();
        for begin in self.begin.iter().take(most) {
            all.entry(drain_of(mesh, begin)).or_default().push(begin.clone());
        }
        let all = all.into_iter();
        all.map(|(operation, moves)| BeginMoves { moves, operation }).collect()
    }
}

/// The drain that a move is a part of.
fn drain_of(mesh: &MeshState, (id, _, _, cause): &Begin) -> Option<OperationId> {
    match cause {
        Cause::Drained => {
            let owner = mesh.shard(id)?.owner.as_ref()?;
            mesh.peer(owner)?.operation.clone()
        }
        Cause::Placed | Cause::Asked | Cause::Died => None,
    }
}

/// The next round, as the mesh is at this mesh time.
#[must_use]
pub fn round(mesh: &MeshState, now_ms: u64, avoid: &Avoid) -> Round {
    let ends = mesh.moving().filter_map(|shard| end(mesh, shard, now_ms));
    let mut round = Round {
        end: ends.take(ROUND_MAX).collect(),
        ..Round::default()
    };
    let losing: Vec<&Peer> = mesh
        .peers_after(None)
        .map(|peer| &**peer)
        .filter(|peer| standing(peer) == Standing::Loses)
        .collect();
    let owned = losing.iter().flat_map(|peer| mesh.owned_by(&peer.id));
    let copied = losing.iter().flat_map(|peer| mesh.copied_by(&peer.id));
    let short = mesh
        .namespaces_after(None)
        .flat_map(|namespace| mesh.short_of(namespace));
    let short = short.map(|shard| &shard.id);
    let homeless: BTreeSet<&ShardId> = mesh.unowned().chain(owned).chain(copied).chain(short).collect();
    let leaving = about_to_drain(mesh);
    let mut turn = Turn {
        running: Running::now(mesh),
        slow: slow(mesh, now_ms),
        over: false,
        able: false,
        avoid,
        tried: BTreeSet::new(),
    };
    let avoided = avoid.avoided(mesh, now_ms);
    // In order of namespace, as shards are.
    let homeless: Vec<&ShardId> = homeless.into_iter().collect();
    for homeless in homeless.chunk_by(|one, next| one.namespace == next.namespace) {
        let Some(id) = homeless.first().map(|shard| &shard.namespace) else {
            continue;
        };
        let Some(namespace) = mesh.namespace(id).filter(|namespace| match namespace.phase {
            NamespacePhase::Active | NamespacePhase::Reshaping => true,
            NamespacePhase::Creating | NamespacePhase::Deleting => false,
        }) else {
            continue;
        };
        let members = Members::of(&namespace.spec, mesh.peers_after(None).map(|peer| &**peer)).keeping(&leaving);
        let shards = homeless.iter().filter_map(|id| mesh.shard(id));
        (turn.over, turn.able) = (false, members.members.iter().any(|member| member.takes));
        place(
            mesh,
            namespace,
            members.keeping(&avoided),
            shards,
            &mut turn,
            &mut round,
        );
    }
    round
}

/// What ends the step that a move is at, if anything does.
fn end(mesh: &MeshState, shard: &Shard, now_ms: u64) -> Option<EndMoveStep> {
    let Move {
        begun,
        to,
        step,
        deadline_ms,
        ..
    } = shard.moving.as_ref()?;
    let owner = shard.owner.as_ref().and_then(|owner| mesh.peer(owner));
    let dead = owner.is_none_or(|owner| owner.health == Health::Dead);
    let end = match step {
        _ if !keeps(mesh, to) => StepEnd::Cancelled,
        MoveStep::Stopping if dead => StepEnd::LeaseOver,
        MoveStep::Preparing | MoveStep::Stopping if *deadline_ms <= now_ms => StepEnd::TimedOut,
        MoveStep::Preparing | MoveStep::Stopping => return None,
    };
    Some(EndMoveStep {
        id: shard.id.clone(),
        begun: *begun,
        step: *step,
        end,
        by: None,
    })
}

/// Whose turn it is. Shards of a namespace begin to move in their order, however many may at once: each place depends on those
/// before it, so that where they all go does not depend on how it is cut into rounds, or on who leads. Only where a peer is slow
/// do others go before those that wait for it.
struct Turn<'a> {
    running: Running,
    /// Peers with a move that has used up half of the time for its step.
    slow: BTreeSet<PeerId>,
    /// Somebody in this namespace waits: nobody after it begins.
    over: bool,
    /// Somebody in this namespace takes shards, if only later: who is avoided now.
    able: bool,
    avoid: &'a Avoid,
    /// Those who are tried with a move of this round.
    tried: BTreeSet<PeerId>,
}

impl Turn<'_> {
    /// Whether a shard waits because of a peer that is slow, and not for its turn.
    fn waits_for_slow(&self, mesh: &MeshState, shard: &Shard, to: Option<&PeerId>) -> bool {
        let peers = shard.owner.iter().chain(to);
        peers
            .filter(|peer| self.slow.contains(*peer))
            .any(|peer| !self.running.has_room(mesh, peer))
    }
}

/// Peers that take long over a step of a move.
fn slow(mesh: &MeshState, now_ms: u64) -> BTreeSet<PeerId> {
    let mut slow = BTreeSet::new();
    for shard in mesh.moving() {
        let Some(moving) = &shard.moving else { continue };
        let namespace = mesh.namespace(&shard.id.namespace);
        let step_ms = namespace.map_or(0, |namespace| namespace.spec.policy.step_ms);
        if moving.deadline_ms.saturating_sub(now_ms) < step_ms / 2 {
            slow.extend(shard.owner.clone());
            slow.insert(moving.to.clone());
        }
    }
    slow
}

/// What is to be done about a shard.
enum Need {
    Owner,
    Copies,
}

/// What a shard needs, if anything can be done about it now. Whatever cannot is counted.
fn need(mesh: &MeshState, members: &Members, shard: &Shard, turn: &mut Turn<'_>, round: &mut Round) -> Option<Need> {
    let keeps = |peer: &PeerId| keeps(mesh, peer);
    let stays = shard.owner.as_ref().is_some_and(keeps);
    match shard.status {
        ShardStatus::Active => {}
        ShardStatus::Moving => return None,
        // It stays with its owner; a copy that cannot stay goes elsewhere all the same.
        ShardStatus::Paused | ShardStatus::Disabled => {
            round.stuck += u64::from(!stays);
            return (!shard.replicas.iter().all(keeps)).then_some(Need::Copies);
        }
    }
    let mut takers = members
        .members
        .iter()
        .zip(&members.ids)
        .filter(|(member, _)| member.takes);
    if !stays {
        let some = takers.next().is_some();
        let free = some && !turn.over && turn.running.lets_go(mesh, shard);
        turn.over |= some && !free && !turn.waits_for_slow(mesh, shard, None);
        round.stuck += u64::from(!some && !turn.able);
        round.waiting += u64::from(!free && turn.able);
        return free.then_some(Need::Owner);
    }
    // Nobody new can take a copy: then it is well as it is, unless somebody has to give one up.
    let settled = shard.replicas.iter().all(keeps) && takers.all(|(_, peer)| shard.involves(peer));
    (!settled).then_some(Need::Copies)
}

/// Finds a place for a namespace's shards that have none. Looks at the whole namespace only where that can come to something.
fn place<'a>(
    mesh: &MeshState,
    namespace: &Namespace,
    members: Members,
    homeless: impl Iterator<Item = &'a Shard>,
    turn: &mut Turn<'_>,
    round: &mut Round,
) {
    let needs: Vec<(&Shard, Need)> = homeless
        .filter_map(|shard| need(mesh, &members, shard, turn, round).map(|need| (shard, need)))
        .collect();
    if needs.is_empty() {
        return;
    }
    let layout = layout(mesh, &namespace.id, &namespace.spec, members, Purpose::Repair);
    turn.over = false;
    for (shard, need) in needs {
        match need {
            Need::Owner => own(mesh, &layout, shard, turn, round),
            Need::Copies => {
                let copies = layout.copies(shard, namespace.spec.replicas, |peer| keeps(mesh, peer));
                if round.copies.len() < ROUND_MAX && copies != shard.replicas {
                    round.copies.push((shard.id.clone(), shard.meta.version, copies));
                }
            }
        }
    }
}

fn own(mesh: &MeshState, layout: &Layout, shard: &Shard, turn: &mut Turn<'_>, round: &mut Round) {
    let Some(to) = layout.owner(shard.id.index as usize) else {
        round.stuck += 1;
        return;
    };
    // Who refused others is tried with one: who comes after it finds another place, or waits.
    if turn.tried.contains(to) {
        round.waiting += 1;
        return;
    }
    if round.begin.len() >= ROUND_MAX || turn.over || !turn.running.admits(mesh, shard, to) {
        turn.over |= !turn.waits_for_slow(mesh, shard, Some(to));
        round.waiting += 1;
        return;
    }
    let owner = shard.owner.as_ref().and_then(|owner| mesh.peer(owner));
    let cause = match owner.map(|owner| owner.health) {
        Some(Health::Unknown | Health::Alive | Health::Suspect) => Cause::Drained,
        Some(Health::Dead) | None => Cause::Died,
    };
    turn.running.add(shard, to);
    if turn.avoid.tries(to) {
        turn.tried.insert(to.clone());
    }
    round.begin.push((shard.id.clone(), shard.epoch, to.clone(), cause));
}

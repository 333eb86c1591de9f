//! How a peer is drained, and what that waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    drain_peers,
    shards::{about_to_drain, keeps, somebody_takes},
};
use crate::{
    MeshState, NamespaceId, PeerId, Record,
    record::{
        Move, MoveStep, Operation, OperationKind, OperationState, Peer, Phase, Shard, ShardId, ShardStatus, Step,
    },
};

/// The most shards of a peer that are looked at for what keeps them there. Those behind come within it as others move.
const LOOKED_AT_MAX: usize = 1_000;
/// The most namespaces that are looked at for who could take their shards.
const NAMESPACES_MAX: usize = 4;

/// The plan of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is done, in order. The first is done by the command that starts the drain.
    pub steps: Vec<Step>,
    /// How many shards have to move.
    pub moves: u32,
}

/// Plans the drain of a peer as the mesh is now.
#[must_use]
pub fn plan(mesh: &MeshState, peer: &Peer) -> Plan {
    let step = |name: &str, phase| Step {
        name: name.to_owned(),
        phase,
    };
    Plan {
        steps: vec![
            step("keep new work away", Phase::Done),
            step("move its shards to other peers", Phase::Active),
            step("confirm that it owns nothing", Phase::Pending),
        ],
        moves: u32::try_from(mesh.shards_owned(&peer.id)).unwrap_or(u32::MAX),
    }
}

/// What a drain waits for while `step` is the one that is worked on, in one line.
#[must_use]
pub fn waits_for(mesh: &MeshState, peer: &Peer, step: usize, forced: bool) -> String {
    Seen::now(mesh).waits_for(peer, step, forced)
}

/// A drain that waits for shards, with what it waits for now; none where its record says so already, or where it waits for none.
#[must_use]
pub fn noted(mesh: &MeshState, before: &Operation) -> Option<Operation> {
    let seen = Seen::now(mesh);
    let OperationKind::DrainPeer(peer) = &before.kind else {
        return None;
    };
    let waits = !before.terms.forced && mesh.feature_level() >= 2 && mesh.seats(peer) > 0;
    waits.then(|| seen.further(before)).flatten()
}

/// The drains whose peers hold something else once these records are put, as they are then.
#[must_use]
pub fn progress(mesh: &MeshState, puts: &[Record]) -> Vec<Operation> {
    let mut seen = Seen::now(mesh);
    for put in puts {
        if let Record::Shard(after) = put {
            seen.put(after);
        }
    }
    let touched = seen.seats.iter().filter(|(_, (before, after))| before != after);
    let drains: Vec<&Operation> = touched
        .filter_map(|(peer, _)| mesh.operation(mesh.peer(peer)?.operation.as_ref()?))
        .collect();
    // Every node does this with every entry: however many drain, they share what is looked at.
    seen.looked_at_max = LOOKED_AT_MAX / drains.len().max(1);
    drains.into_iter().filter_map(|drain| seen.further(drain)).collect()
}

/// What a drain that runs out of time leaves with its peer.
#[must_use]
pub fn left(mesh: &MeshState, peer: &PeerId) -> String {
    Seen::now(mesh).seats(peer).left()
}

/// How many shards of peers are paused or disabled, which a drain waits for, and the first few of them in words.
#[must_use]
pub fn held<'a>(mesh: &MeshState, peers: impl IntoIterator<Item = &'a PeerId>) -> (u64, String) {
    let mut causes = Causes::default();
    if is_anything_held(mesh) {
        let owned = peers.into_iter().flat_map(|peer| mesh.owned_by(peer));
        owned
            .filter_map(|id| mesh.shard(id))
            .for_each(|shard| causes.add_held(shard));
    }
    (causes.all as u64, causes.text())
}

/// Whether any shard of the mesh is paused or disabled.
fn is_anything_held(mesh: &MeshState) -> bool {
    mesh.shards_of_status(ShardStatus::Paused) > 0 || mesh.shards_of_status(ShardStatus::Disabled) > 0
}

/// What a peer has to do with a shard.
#[derive(Debug, Clone, Copy)]
enum Seat {
    Owned,
    Copy,
    Incoming,
}

/// What a peer has to do with shards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seats {
    owned: u64,
    copies: u64,
    incoming: u64,
}

impl Seats {
    /// Who has to do with a shard, and as what.
    fn of(shard: &Shard) -> impl Iterator<Item = (&PeerId, Seat)> {
        let target = shard.moving.as_ref().map(|moving| &moving.to);
        let owner = shard.owner.iter().map(|peer| (peer, Seat::Owned));
        let copies = shard.replicas.iter().map(|peer| (peer, Seat::Copy));
        owner.chain(copies).chain(target.map(|peer| (peer, Seat::Incoming)))
    }

    fn add(&mut self, seat: Seat) {
        let count = match seat {
            Seat::Owned => &mut self.owned,
            Seat::Copy => &mut self.copies,
            Seat::Incoming => &mut self.incoming,
        };
        *count += 1;
    }

    /// What it holds, in words.
    fn left(self) -> String {
        match (self.owned, self.copies) {
            (0, copies) if copies > 0 => many(copies, "copy"),
            (owned, 0) => many(owned, "shard"),
            (owned, copies) => format!("{} and {}", many(owned, "shard"), many(copies, "copy")),
        }
    }
}

/// The shards as they are once some are put.
struct Seen<'a> {
    mesh: &'a MeshState,
    puts: BTreeMap<&'a ShardId, &'a Shard>,
    /// By peer: its seats in those shards as they were, and as they are put.
    seats: BTreeMap<&'a PeerId, (Seats, Seats)>,
    /// Peers that are given nothing: their own drain comes.
    leaving: BTreeSet<&'a PeerId>,
    /// How many shards of a peer are looked at for what keeps them there.
    looked_at_max: usize,
}

impl<'a> Seen<'a> {
    fn now(mesh: &'a MeshState) -> Self {
        Self {
            mesh,
            puts: BTreeMap::new(),
            seats: BTreeMap::new(),
            leaving: about_to_drain(mesh),
            looked_at_max: LOOKED_AT_MAX,
        }
    }

    fn put(&mut self, after: &'a Shard) {
        self.puts.insert(&after.id, after);
        let before = self.mesh.shard(&after.id);
        for (peer, seat) in before.into_iter().flat_map(Seats::of) {
            self.seats.entry(peer).or_default().0.add(seat);
        }
        for (peer, seat) in Seats::of(after) {
            self.seats.entry(peer).or_default().1.add(seat);
        }
    }

    fn shard(&self, id: &ShardId) -> Option<&'a Shard> {
        self.puts.get(id).copied().or_else(|| self.mesh.shard(id))
    }

    fn seats(&self, peer: &PeerId) -> Seats {
        let (before, after) = self.seats.get(peer).copied().unwrap_or_default();
        let count = |all: u64, before, after| all.saturating_add(after).saturating_sub(before);
        Seats {
            owned: count(self.mesh.shards_owned(peer), before.owned, after.owned),
            copies: count(self.mesh.shards_copied(peer), before.copies, after.copies),
            incoming: count(self.mesh.shards_coming(peer), before.incoming, after.incoming),
        }
    }

    /// A drain that runs, as far as it is; none where its record says so already.
    fn further(&self, before: &Operation) -> Option<Operation> {
        let OperationKind::DrainPeer(peer) = &before.kind else {
            return None;
        };
        let step = before
            .active_step()
            .filter(|_| before.state == OperationState::Running)?;
        let peer = self.mesh.peer(peer)?;
        let done = u64::from(before.total).saturating_sub(self.seats(&peer.id).owned);
        let after = Operation {
            done: u32::try_from(done).unwrap_or(u32::MAX),
            detail: self.waits_for(peer, step, before.terms.forced),
            ..before.clone()
        };
        (after != *before).then_some(after)
    }

    fn waits_for(&self, peer: &Peer, step: usize, forced: bool) -> String {
        let seats = self.seats(&peer.id);
        let (what, causes) = match seats {
            Seats {
                owned: 0, copies: 0, ..
            } if forced => {
                return "owns nothing; forced, so it waits for nobody".to_owned();
            }
            seats if forced => return format!("forced: leaves {} behind", seats.left()),
            Seats {
                owned: 0,
                copies: 0,
                incoming: 0,
            } if step <= 1 => {
                return "owns nothing; gives data planes time to notice that it takes no new work".to_owned();
            }
            Seats {
                owned: 0,
                copies: 0,
                incoming: 0,
            } => return "owns nothing; sees that it stays so".to_owned(),
            Seats {
                owned: 0,
                copies: 0,
                incoming,
            } => {
                let what = format!(
                    "owns nothing; waits until {} to it are given up",
                    many(incoming, "move")
                );
                (what, Causes::default())
            }
            Seats { owned: 0, copies, .. } => {
                let what = format!(
                    "owns nothing; waits for {} to be placed elsewhere",
                    many(copies, "copy")
                );
                (what, self.keep_copies(peer))
            }
            Seats { owned, .. } => {
                let what = format!("waits for {} to move", many(owned, "shard"));
                (what, self.keep_shards(peer))
            }
        };
        match causes.all {
            0 => what,
            _ => format!("{what}: {}", causes.text()),
        }
    }

    /// Why shards stay with their owner: those that are held, those that nobody takes, those that are on their way.
    fn keep_shards(&self, peer: &Peer) -> Causes {
        let mut causes = Causes::default();
        let is_its = |shard: &&Shard| shard.owner.as_ref() == Some(&peer.id);
        if is_anything_held(self.mesh) {
            let owned = self.mesh.owned_by(&peer.id).take(self.looked_at_max);
            let owned = owned.filter_map(|id| self.shard(id)).filter(is_its);
            owned.for_each(|shard| causes.add_held(shard));
        }
        // From one namespace to the next: there may be tens of thousands of shards of each.
        let next = |last: Option<&'a Shard>| {
            let last = last.map(|shard| ShardId {
                namespace: shard.id.namespace.clone(),
                index: u32::MAX,
            });
            let next = self.mesh.owned_after(&peer.id, last.as_ref()).next();
            next.map(|shard| &**shard)
        };
        let first_of_each = std::iter::successors(next(None), |last| next(Some(last)));
        self.add_stranded(&mut causes, peer, first_of_each.map(|shard| &shard.id));
        let moving = self.mesh.moving().filter_map(|shard| self.shard(&shard.id));
        for shard in moving.filter(is_its) {
            let Some(Move { to, step, .. }) = &shard.moving else {
                continue;
            };
            causes.add(|| match step {
                MoveStep::Preparing => format!("{to} has not said that it is ready for {}", shard.id),
                MoveStep::Stopping => format!("{} has not said that it stopped {}", peer.id, shard.id),
            });
        }
        causes
    }

    /// Why copies stay where they are: their shard is on its way, or has nowhere to go itself.
    fn keep_copies(&self, peer: &Peer) -> Causes {
        let mut causes = Causes::default();
        let mut stranded = Vec::new();
        for id in self.mesh.copied_by(&peer.id).take(self.looked_at_max) {
            let Some(shard) = self.shard(id).filter(|shard| shard.replicas.contains(&peer.id)) else {
                continue;
            };
            let stays = shard.owner.as_ref().is_some_and(|owner| keeps(self.mesh, owner));
            match shard.status {
                ShardStatus::Moving => causes.add(|| format!("{id} is on its way to another owner")),
                ShardStatus::Active if !stays => stranded.push(id),
                ShardStatus::Active | ShardStatus::Paused | ShardStatus::Disabled => {}
            }
        }
        self.add_stranded(&mut causes, peer, stranded.into_iter());
        causes
    }

    /// The namespaces of these shards, in their order, of which no other peer may be given any now.
    fn add_stranded(&self, causes: &mut Causes, peer: &Peer, shards: impl Iterator<Item = &'a ShardId>) {
        let mut namespaces: Vec<&NamespaceId> = Vec::new();
        for id in shards {
            if namespaces.last() != Some(&&id.namespace) {
                if namespaces.len() >= NAMESPACES_MAX {
                    break;
                }
                namespaces.push(&id.namespace);
            }
        }
        for id in namespaces {
            if !somebody_takes(self.mesh, id, &peer.id, &self.leaving) {
                causes.add(|| format!("nobody can take shards of {id}"));
            }
        }
    }
}

/// Why something waits: the first few in words, and how many there are.
#[derive(Debug, Default)]
struct Causes {
    named: Vec<String>,
    all: usize,
}

impl Causes {
    fn add(&mut self, cause: impl FnOnce() -> String) {
        if self.named.len() < drain_peers::NAMED_MAX {
            self.named.push(cause());
        }
        self.all += 1;
    }

    fn add_held(&mut self, shard: &Shard) {
        match shard.status {
            ShardStatus::Paused | ShardStatus::Disabled => {
                self.add(|| format!("{} is {}", shard.id, shard.status.word()));
            }
            ShardStatus::Active | ShardStatus::Moving => {}
        }
    }

    fn text(&self) -> String {
        let named: Vec<&str> = self.named.iter().map(String::as_str).collect();
        drain_peers::first_of(&named, self.all)
    }
}

/// `1 shard`, `2 shards`, `2 copies`.
fn many(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

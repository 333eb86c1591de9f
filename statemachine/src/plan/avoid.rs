//! Peers that are given nothing new for a while, because moves to them came to nothing.
//!
//! A target that cannot get ready says so at once, or never says anything. Either way the best place for the shard is that
//! target again, and nothing in the state says that it was tried: so whoever begins moves remembers it. This memory is soft:
//! the leader's own, bounded by the peers and the moves that run, and a new leader that has none is a few moves behind.

use std::collections::{BTreeMap, BTreeSet};

use super::{room::Begin, shards::keeps};
use crate::{
    MeshState, PeerId, Revision,
    record::{MoveStep, Shard, ShardId},
};

/// How long a peer is given nothing after a move to it came to nothing, in ms of mesh time; twice as long after each more.
const FIRST_MS: u64 = 5_000;
/// The longest that a peer is given nothing, in ms of mesh time.
const LONGEST_MS: u64 = 300_000;

/// What is remembered of moves, and which peers are avoided for it.
#[derive(Debug, Default, Clone)]
pub struct Avoid {
    seen: BTreeMap<ShardId, Seen>,
    struck: BTreeMap<PeerId, Struck>,
}

/// A move that was begun or found.
#[derive(Debug, Clone)]
struct Seen {
    to: PeerId,
    /// The shard's epoch when it was seen: another one means that something else became of the shard.
    epoch: u64,
    at: At,
}

/// How far a move was when it was seen last.
#[derive(Debug, Clone, Copy)]
enum At {
    /// It was about to begin, when the shard's record had this version.
    Planned(u64),
    /// It ran.
    Step(Revision, MoveStep),
}

/// A peer to which a move came to nothing, and none has succeeded since.
#[derive(Debug, Default, Clone, Copy)]
struct Struck {
    times: u32,
    until_ms: u64,
}

/// What became of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    Succeeded,
    /// Given up before the target was ready. Who cancels a move by hand is heard as well: what he took back is not begun anew at
    /// once.
    Refused,
    /// It runs, never began, or ended for another reason than its target.
    Other,
}

impl Seen {
    fn became(&self, mesh: &MeshState, shard: &Shard) -> Became {
        if shard.owner.as_ref() == Some(&self.to) {
            return Became::Succeeded;
        }
        let (given_up, runs) = match self.at {
            // The version counts: one for the beginning, and one for the end.
            At::Planned(version) => (
                shard.meta.version > version.saturating_add(1),
                shard.moving.as_ref().is_some_and(|moving| moving.to == self.to),
            ),
            At::Step(begun, step) => (
                step == MoveStep::Preparing,
                shard.moving.as_ref().is_some_and(|moving| moving.begun == begun),
            ),
        };
        // Of a target that loses its shards, moves are taken back: that says nothing of it.
        match given_up && !runs && keeps(mesh, &self.to) && shard.epoch == self.epoch {
            true => Became::Refused,
            false => Became::Other,
        }
    }
}

impl Avoid {
    /// Looks at what has become of the moves that were seen before, and which run now.
    pub fn look(&mut self, mesh: &MeshState, now_ms: u64) {
        let seen = std::mem::take(&mut self.seen);
        let over: Vec<(PeerId, Became)> = seen
            .into_iter()
            .filter_map(|(id, seen)| {
                let became = seen.became(mesh, mesh.shard(&id)?);
                Some((seen.to, became))
            })
            .collect();
        // Who takes one shard and refuses another is avoided.
        for (peer, became) in &over {
            if *became == Became::Succeeded {
                self.struck.remove(peer);
            }
        }
        for (peer, became) in over {
            if became == Became::Refused {
                self.strike(peer, now_ms);
            }
        }
        self.struck.retain(|peer, _| mesh.peer(peer).is_some());
        for shard in mesh.moving() {
            let Some(moving) = &shard.moving else { continue };
            let seen = Seen {
                to: moving.to.clone(),
                epoch: shard.epoch,
                at: At::Step(moving.begun, moving.step),
            };
            self.seen.insert(shard.id.clone(), seen);
        }
    }

    /// Remembers moves that are about to begin: they may be over before the next look.
    pub fn expect(&mut self, mesh: &MeshState, moves: &[Begin]) {
        for (id, epoch, to, _) in moves {
            let Some(shard) = mesh.shard(id) else { continue };
            let seen = Seen {
                to: to.clone(),
                epoch: *epoch,
                at: At::Planned(shard.meta.version),
            };
            self.seen.insert(id.clone(), seen);
        }
    }

    /// Moves that end while the peer is avoided began before: they are the same story.
    fn strike(&mut self, peer: PeerId, now_ms: u64) {
        let struck = self.struck.entry(peer).or_default();
        if struck.times > 0 && now_ms < struck.until_ms {
            return;
        }
        let wait_ms = FIRST_MS.saturating_mul(1 << struck.times.min(16)).min(LONGEST_MS);
        struck.times = struck.times.saturating_add(1);
        struck.until_ms = now_ms.saturating_add(wait_ms);
    }

    /// Peers that are given nothing now: their time is not over, or a move to them runs that tries them.
    #[must_use]
    pub fn avoided(&self, mesh: &MeshState, now_ms: u64) -> BTreeSet<&PeerId> {
        let struck = self.struck.iter();
        let avoided = struck.filter(|(peer, struck)| now_ms < struck.until_ms || mesh.moving_to(peer).next().is_some());
        avoided.map(|(peer, _)| peer).collect()
    }

    /// Whether a peer is tried with one move, once its time is over, before it is given more.
    #[must_use]
    pub fn tries(&self, peer: &PeerId) -> bool {
        self.struck.contains_key(peer)
    }

    /// How long until a peer may be given something again, in ms; none where none is waited for.
    #[must_use]
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let left = self
            .struck
            .values()
            .map(|struck| struck.until_ms.saturating_sub(now_ms));
        left.filter(|left| *left > 0).min()
    }
}

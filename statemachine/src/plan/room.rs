//! How many shards move at the same time, and who has room for one more: the same for what is asked for, for what a controller
//! plans, and for what apply lets begin.

use std::collections::BTreeMap;

use crate::{
    MeshState, NamespaceId, PeerId, Rule, check,
    record::{Cause, Shard, ShardId},
};

/// A move that could begin: which shard, its epoch, where to, and why.
pub type Begin = (ShardId, u64, PeerId, Cause);

/// How many moves run: in all, by peer that they come from or go to, and by namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Running {
    all: u64,
    peers: BTreeMap<PeerId, u64>,
    namespaces: BTreeMap<NamespaceId, u64>,
}

/// What one limit says of a move.
#[derive(Debug)]
pub struct Held {
    /// The rule.
    pub rule: &'static Rule,
    /// Moves of what.
    pub what: String,
    /// How many there are.
    pub now: u64,
    /// How many there may be.
    pub limit: u64,
}

impl Running {
    /// Those of the mesh as it is.
    #[must_use]
    pub fn now(mesh: &MeshState) -> Self {
        let mut running = Self::default();
        for shard in mesh.moving() {
            if let Some(moving) = &shard.moving {
                running.add(shard, &moving.to);
            }
        }
        running
    }

    /// Counts one more.
    pub fn add(&mut self, shard: &Shard, to: &PeerId) {
        self.all += 1;
        for peer in shard.owner.iter().chain([to]) {
            *self.peers.entry(peer.clone()).or_default() += 1;
        }
        *self.namespaces.entry(shard.id.namespace.clone()).or_default() += 1;
    }

    /// What every limit says of moving a shard to a peer.
    #[must_use]
    pub fn held_against(&self, mesh: &MeshState, shard: &Shard, to: &PeerId) -> Vec<Held> {
        let held = |rule, what, now, limit| Held { rule, what, now, limit };
        let of_peer = |peer: &PeerId| {
            let what = format!("moves of peer {peer}");
            let limit = mesh.settings().moves_per_peer_max;
            held(check::MOVES_OF_PEER_BELOW_LIMIT, what, self.of_peer(peer), limit)
        };
        let id = &shard.id.namespace;
        let (now, limit) = self.of_namespace(mesh, id);
        let all = mesh.settings().moves_max;
        let mut found = vec![
            held(check::MOVES_BELOW_LIMIT, "moves".to_owned(), self.all, all),
            held(
                check::MOVES_OF_NAMESPACE_BELOW_LIMIT,
                format!("moves of namespace {id}"),
                now,
                limit,
            ),
        ];
        found.extend(shard.owner.iter().chain([to]).map(of_peer));
        found
    }

    /// Whether a shard could begin to move, wherever to.
    #[must_use]
    pub fn lets_go(&self, mesh: &MeshState, shard: &Shard) -> bool {
        let (now, limit) = self.of_namespace(mesh, &shard.id.namespace);
        let owner = shard.owner.as_ref().is_none_or(|owner| self.has_room(mesh, owner));
        self.all < mesh.settings().moves_max && now < limit && owner
    }

    /// Whether a shard could begin to move to a peer.
    #[must_use]
    pub fn admits(&self, mesh: &MeshState, shard: &Shard, to: &PeerId) -> bool {
        self.lets_go(mesh, shard) && self.has_room(mesh, to)
    }

    /// Whether a peer may take part in one more move.
    #[must_use]
    pub fn has_room(&self, mesh: &MeshState, peer: &PeerId) -> bool {
        self.of_peer(peer) < mesh.settings().moves_per_peer_max
    }

    fn of_peer(&self, peer: &PeerId) -> u64 {
        self.peers.get(peer).copied().unwrap_or_default()
    }

    fn of_namespace(&self, mesh: &MeshState, id: &NamespaceId) -> (u64, u64) {
        let limit = mesh.namespace(id).map(|namespace| namespace.spec.policy.moves_max);
        let now = self.namespaces.get(id).copied().unwrap_or_default();
        (now, limit.map_or(0, u64::from))
    }
}

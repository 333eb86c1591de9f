//! Shards, listed by a peer that has to do with them.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};

use crate::{
    NamespaceId, PeerId,
    record::{Shard, ShardId},
};

/// Which shards each peer has, in order, and how many: whoever asks only for the number, as apply does with every move, does
/// not walk tens of thousands of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ByPeer {
    all: OrdSet<(PeerId, ShardId)>,
    counts: OrdMap<PeerId, u64>,
}

impl ByPeer {
    pub(super) fn insert(&mut self, peer: &PeerId, shard: &ShardId) {
        if self.all.insert((peer.clone(), shard.clone())).is_none() {
            *self.counts.entry(peer.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, peer: &PeerId, shard: &ShardId) {
        if self.all.remove(&(peer.clone(), shard.clone())).is_none() {
            return;
        }
        match self.count(peer).saturating_sub(1) {
            0 => drop(self.counts.remove(peer)),
            left => drop(self.counts.insert(peer.clone(), left)),
        }
    }

    /// How many a peer has.
    pub(super) fn count(&self, peer: &PeerId) -> u64 {
        self.counts.get(peer).copied().unwrap_or_default()
    }

    /// What a peer has, from the one after `after`.
    pub(super) fn of(&self, peer: &PeerId, after: Option<&ShardId>) -> impl Iterator<Item = &ShardId> {
        let peer = peer.clone();
        let start = after.map_or_else(
            || Bound::Included((peer.clone(), least())),
            |after| Bound::Excluded((peer.clone(), after.clone())),
        );
        self.all
            .range((start, Bound::Unbounded))
            .take_while(move |(other, _)| *other == peer)
            .map(|(_, shard)| shard)
    }

    /// All of them in order of peer, from the one after this shard under its owner; none where that has no owner.
    pub(super) fn from(&self, last: Option<&Shard>) -> impl Iterator<Item = &ShardId> {
        let start = match last {
            None => Some(Bound::Unbounded),
            Some(shard) => shard
                .owner
                .clone()
                .map(|owner| Bound::Excluded((owner, shard.id.clone()))),
        };
        let listed = start.map(|start| self.all.range((start, Bound::Unbounded)));
        listed.into_iter().flatten().map(|(_, shard)| shard)
    }
}

fn least() -> ShardId {
    ShardId {
        namespace: NamespaceId::least(),
        index: 0,
    }
}

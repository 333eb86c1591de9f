//! Namespaces and shards, with the lists that shards are looked up by.

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};

use super::{MeshState, Row, by_peer::ByPeer};
use crate::{
    Hash, NamespaceId, PeerId,
    record::{FencingToken, Namespace, Shard, ShardId, ShardStatus},
};

/// The shards, with lists of who holds them and of those that are on their way.
#[derive(Debug, Default, Clone)]
pub(super) struct Shards {
    pub(super) namespaces: OrdMap<NamespaceId, Row<Namespace>>,
    pub(super) all: OrdMap<ShardId, Row<Shard>>,
    owned: ByPeer,
    copied: ByPeer,
    /// By where they go.
    moving: ByPeer,
    unowned: OrdSet<ShardId>,
    /// How many there are of each status.
    statuses: OrdMap<ShardStatus, u64>,
    /// How many seats beside the owners' are taken.
    copies: OrdMap<NamespaceId, u64>,
}

impl Shards {
    pub(super) fn insert(&mut self, record: Arc<Shard>, hash: Hash) -> Option<Hash> {
        self.forget(&record.id);
        self.note(&record);
        self.all
            .insert(record.id.clone(), Row { record, hash })
            .map(|row| row.hash)
    }

    pub(super) fn remove(&mut self, id: &ShardId) -> Option<Hash> {
        self.forget(id);
        self.all.remove(id).map(|row| row.hash)
    }

    fn note(&mut self, shard: &Shard) {
        let id = &shard.id;
        match &shard.owner {
            Some(owner) => self.owned.insert(owner, id),
            None => drop(self.unowned.insert(id.clone())),
        }
        for replica in &shard.replicas {
            self.copied.insert(replica, id);
        }
        self.count(&id.namespace, |count| count.saturating_add(shard.replicas.len() as u64));
        *self.statuses.entry(shard.status).or_default() += 1;
        if let Some(moving) = &shard.moving {
            self.moving.insert(&moving.to, id);
        }
    }

    fn forget(&mut self, id: &ShardId) {
        let Some(before) = self.all.get(id).map(|row| row.record.clone()) else {
            return;
        };
        match &before.owner {
            Some(owner) => self.owned.remove(owner, id),
            None => drop(self.unowned.remove(id)),
        }
        for replica in &before.replicas {
            self.copied.remove(replica, id);
        }
        self.count(&id.namespace, |count| {
            count.saturating_sub(before.replicas.len() as u64)
        });
        let left = self.statuses.get(&before.status).copied().unwrap_or_default();
        match left.saturating_sub(1) {
            0 => drop(self.statuses.remove(&before.status)),
            left => drop(self.statuses.insert(before.status, left)),
        }
        if let Some(moving) = &before.moving {
            self.moving.remove(&moving.to, id);
        }
    }

    fn count(&mut self, namespace: &NamespaceId, change: impl Fn(u64) -> u64) {
        match change(self.copies.get(namespace).copied().unwrap_or_default()) {
            0 => drop(self.copies.remove(namespace)),
            count => drop(self.copies.insert(namespace.clone(), count)),
        }
    }

    /// Whether the lists are what follows from the shards.
    pub(super) fn follow(&self) -> bool {
        let mut derived = Self::default();
        for row in self.all.values() {
            derived.note(&row.record);
        }
        derived.owned == self.owned
            && derived.copied == self.copied
            && derived.moving == self.moving
            && derived.unowned == self.unowned
            && derived.statuses == self.statuses
            && derived.copies == self.copies
    }
}

impl MeshState {
    /// A namespace.
    #[must_use]
    pub fn namespace(&self, id: &NamespaceId) -> Option<&Namespace> {
        self.shards.namespaces.get(id).map(|row| &*row.record)
    }

    /// Namespaces in order of id, from the one after `after`.
    pub fn namespaces_after(&self, after: Option<&NamespaceId>) -> impl Iterator<Item = &Arc<Namespace>> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        let range = self.shards.namespaces.range((from, Bound::Unbounded));
        range.map(|(_, row)| &row.record)
    }

    /// How many namespaces there are.
    #[must_use]
    pub fn namespace_count(&self) -> u64 {
        self.shards.namespaces.len() as u64
    }

    /// A shard.
    #[must_use]
    pub fn shard(&self, id: &ShardId) -> Option<&Shard> {
        self.shards.all.get(id).map(|row| &*row.record)
    }

    /// Shards in order of namespace and number, from the one after `after`.
    pub fn shards_after(&self, after: Option<&ShardId>) -> impl Iterator<Item = &Arc<Shard>> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.shards
            .all
            .range((from, Bound::Unbounded))
            .map(|(_, row)| &row.record)
    }

    /// A namespace's shards, in order of number.
    pub fn shards_of(&self, namespace: &NamespaceId) -> impl Iterator<Item = &Arc<Shard>> {
        let end = |index| ShardId {
            namespace: namespace.clone(),
            index,
        };
        let range = self.shards.all.range(end(0)..=end(u32::MAX));
        range.map(|(_, row)| &row.record)
    }

    /// How many shards there are.
    #[must_use]
    pub fn shard_count(&self) -> u64 {
        self.shards.all.len() as u64
    }

    /// The shards that a peer owns, in order.
    pub fn owned_by(&self, peer: &PeerId) -> impl Iterator<Item = &ShardId> {
        self.shards.owned.of(peer, None)
    }

    /// The shards that a peer owns, in order, from the one after `after`.
    pub fn owned_after(&self, peer: &PeerId, after: Option<&ShardId>) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.owned.of(peer, after).filter_map(|id| self.row(id))
    }

    /// Shards in order of owner, then of namespace and number, from the one after `after`; those without an owner last.
    pub fn shards_by_owner(&self, after: Option<&Shard>) -> impl Iterator<Item = &Arc<Shard>> {
        let start = match after.filter(|shard| shard.owner.is_none()) {
            None => Bound::Unbounded,
            Some(shard) => Bound::Excluded(shard.id.clone()),
        };
        let unowned = self.shards.unowned.range((start, Bound::Unbounded));
        let all = self.shards.owned.from(after).chain(unowned);
        all.filter_map(|id| self.row(id))
    }

    fn row(&self, id: &ShardId) -> Option<&Arc<Shard>> {
        self.shards.all.get(id).map(|row| &row.record)
    }

    /// How many shards there are of a status.
    #[must_use]
    pub fn shards_of_status(&self, status: ShardStatus) -> u64 {
        self.shards.statuses.get(&status).copied().unwrap_or_default()
    }

    /// The shards that a peer holds as a replica, in order.
    pub fn copied_by(&self, peer: &PeerId) -> impl Iterator<Item = &ShardId> {
        self.shards.copied.of(peer, None)
    }

    /// The shards that are on their way to a peer, in order.
    pub fn moving_to(&self, peer: &PeerId) -> impl Iterator<Item = &ShardId> {
        self.shards.moving.of(peer, None)
    }

    /// All shards that are on their way, in order of where they go.
    pub fn moving(&self) -> impl Iterator<Item = &Shard> {
        self.shards.moving.from(None).filter_map(|id| self.shard(id))
    }

    /// Shards that nobody owns, in order.
    pub fn unowned(&self) -> impl Iterator<Item = &ShardId> {
        self.shards.unowned.iter()
    }

    /// Shards of a namespace that have fewer replicas than it wants. Walks all of them, where there are such.
    pub fn short_of(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<Shard>> {
        let wanted = namespace.spec.replicas;
        let copies = self.shards.copies.get(&namespace.id).copied().unwrap_or_default();
        let short = copies < u64::from(wanted) * u64::from(namespace.spec.shards);
        let shards = short.then(|| self.shards_of(&namespace.id)).into_iter().flatten();
        shards.filter(move |shard| shard.replicas.len() < wanted as usize)
    }

    /// How many shards nobody owns.
    #[must_use]
    pub fn unowned_count(&self) -> u64 {
        self.shards.unowned.len() as u64
    }

    /// How many shards a peer owns.
    #[must_use]
    pub fn shards_owned(&self, peer: &PeerId) -> u64 {
        self.shards.owned.count(peer)
    }

    /// How many seats a peer has in all: shards that it owns, holds as a replica, or is about to own.
    #[must_use]
    pub fn seats(&self, peer: &PeerId) -> u64 {
        self.shards_owned(peer) + self.shards_copied(peer) + self.shards_coming(peer)
    }

    /// How many shards a peer holds as a replica.
    #[must_use]
    pub fn shards_copied(&self, peer: &PeerId) -> u64 {
        self.shards.copied.count(peer)
    }

    /// How many shards are on their way to a peer.
    #[must_use]
    pub fn shards_coming(&self, peer: &PeerId) -> u64 {
        self.shards.moving.count(peer)
    }

    /// The token that the owner of a shard serves it with.
    #[must_use]
    pub fn token(&self, shard: &Shard) -> FencingToken {
        FencingToken {
            mesh: self.epoch(),
            shard: shard.epoch,
        }
    }

    /// How many shards of a namespace are of a status. Walks all of them.
    #[must_use]
    pub fn shards_in(&self, namespace: &NamespaceId, status: ShardStatus) -> u64 {
        self.shards_of(namespace).filter(|shard| shard.status == status).count() as u64
    }
}

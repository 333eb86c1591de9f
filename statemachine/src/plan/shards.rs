//! Which peers hold which shards of a namespace, as the mesh is or as it would be.

use std::collections::BTreeSet;

use super::drain_peers;
use crate::{
    MeshState, NamespaceId, PeerId,
    record::{Health, NamespaceSpec, Peer, PeerStatus, SelectedState, Shard, ShardStatus, StrategyKind},
    selector::Selector,
    strategy::{self, Locality, Map, Member, Pinned, Rendezvous, Ring},
};

/// Who may hold shards, in order of id.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Members {
    /// Their ids.
    pub ids: Vec<PeerId>,
    /// As strategies see them, in the same order.
    pub members: Vec<Member>,
}

impl Members {
    /// Those of a namespace, among peers in order of id: who may be given shards, and who may keep what it has.
    pub fn of<'a>(spec: &NamespaceSpec, peers: impl Iterator<Item = &'a Peer>) -> Self {
        // A selector that was checked when it was written; one that is none selects nobody.
        let selector = Selector::parse(&spec.peers).ok();
        let selects = |peer: &&Peer| {
            selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&peer.spec.labels))
        };
        let peers: Vec<&Peer> = peers.filter(selects).collect();
        let heard = peers.iter().any(|peer| is_heard(peer));
        Self::selected(peers.into_iter(), heard)
    }

    /// The same among peers that were selected already. As soon as one that the namespace selects was `heard`, those that never
    /// were are given nothing: nobody would serve it. Where none ever was, the data plane sends no heartbeats, and all are
    /// given some.
    pub fn selected<'a>(peers: impl Iterator<Item = &'a Peer>, heard: bool) -> Self {
        let mut found = Self::default();
        for peer in peers {
            let takes = match standing(peer) {
                Standing::Takes => true,
                Standing::Keeps => false,
                Standing::Loses => continue,
            };
            found.ids.push(peer.id.clone());
            found.members.push(Member {
                id: peer.id.to_string(),
                weight: peer.spec.weight,
                region: peer.spec.region.clone(),
                zone: peer.spec.zone.clone(),
                takes: takes && (is_heard(peer) || !heard),
            });
        }
        found
    }

    /// The same, where these keep what they have and are given nothing more.
    #[must_use]
    pub fn keeping(mut self, peers: &BTreeSet<&PeerId>) -> Self {
        for (id, member) in self.ids.iter().zip(&mut self.members) {
            member.takes &= !peers.contains(&id);
        }
        self
    }

    /// The same, where these are given shards although nobody has heard them yet: they are still to come.
    #[must_use]
    pub fn with_newcomers(mut self, peers: &BTreeSet<&PeerId>) -> Self {
        for (id, member) in self.ids.iter().zip(&mut self.members) {
            member.takes |= peers.contains(&id);
        }
        self
    }

    /// Where a peer stands in the list.
    #[must_use]
    pub fn index(&self, peer: &PeerId) -> Option<usize> {
        self.ids.binary_search(peer).ok()
    }
}

/// Peers whose turn in a drain of several comes later: what they are given now would have to move twice.
#[must_use]
pub fn about_to_drain(mesh: &MeshState) -> BTreeSet<&PeerId> {
    let selections = mesh.running().filter_map(drain_peers::selection);
    let waiting = selections
        .flat_map(|selection| &selection.peers)
        .filter(|selected| selected.state == SelectedState::Waiting);
    waiting.map(|selected| &selected.peer).collect()
}

/// What a peer is to shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Given shards.
    Takes,
    /// Keeps what it has.
    Keeps,
    /// Its shards go elsewhere.
    Loses,
}

/// What a peer is to shards, by what is intended for it and what is observed of it.
#[must_use]
pub fn standing(peer: &Peer) -> Standing {
    match (peer.status, peer.health) {
        (PeerStatus::Draining | PeerStatus::Drained, _) | (_, Health::Dead) => Standing::Loses,
        (PeerStatus::Cordoned, _) | (_, Health::Suspect) => Standing::Keeps,
        // A peer that was never heard of takes shards as well, by hand and where no other was: see `Members::selected`.
        (PeerStatus::Active, Health::Unknown | Health::Alive) => Standing::Takes,
    }
}

/// Whether what a peer holds can stay there.
#[must_use]
pub fn keeps(mesh: &MeshState, peer: &PeerId) -> bool {
    mesh.peer(peer).is_some_and(|peer| standing(peer) != Standing::Loses)
}

/// Whether a peer was ever heard.
#[must_use]
pub fn is_heard(peer: &Peer) -> bool {
    match peer.health {
        Health::Unknown => false,
        Health::Alive | Health::Suspect | Health::Dead => true,
    }
}

/// Whether another peer is given a namespace's shards now, and not only to keep what it has: see [`Members::selected`].
#[must_use]
pub fn somebody_takes(mesh: &MeshState, namespace: &NamespaceId, but: &PeerId, leaving: &BTreeSet<&PeerId>) -> bool {
    let namespace = mesh.namespace(namespace);
    let Some(selector) = namespace.and_then(|namespace| Selector::parse(&namespace.spec.peers).ok()) else {
        return false;
    };
    let (mut heard, mut unheard_take) = (false, false);
    for peer in mesh.peers_after(None).map(|peer| &**peer) {
        if !selector.matches(&peer.spec.labels) {
            continue;
        }
        let takes = peer.id != *but && standing(peer) == Standing::Takes && !leaving.contains(&peer.id);
        if takes && is_heard(peer) {
            return true;
        }
        heard |= is_heard(peer);
        unheard_take |= takes;
    }
    unheard_take && !heard
}

/// A namespace's shards, placed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Who they are placed on.
    pub members: Members,
    /// By index of member.
    pub map: Map,
}

impl Layout {
    /// Who holds a shard beside its owner from now on, where `keeps` says who can keep what they hold. A shard that moves is left
    /// alone. One that is held gives up only the copies that cannot stay: where its owner is lost, the layout has made one of
    /// the others the owner, and the shard cannot go there yet.
    #[must_use]
    pub fn copies(&self, shard: &Shard, replicas: u32, keeps: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let placed = self.replicas(shard.id.index as usize);
        match shard.status {
            ShardStatus::Active => placed.cloned().collect(),
            ShardStatus::Moving => shard.replicas.clone(),
            ShardStatus::Paused | ShardStatus::Disabled => {
                let kept = shard.replicas.iter().filter(|peer| keeps(peer));
                let mut copies: Vec<PeerId> = kept.cloned().collect();
                if copies.len() < shard.replicas.len() {
                    let free = (replicas as usize).saturating_sub(copies.len());
                    let placed = placed.filter(|peer| !shard.involves(peer));
                    copies.extend(placed.take(free).cloned());
                }
                copies
            }
        }
    }

    /// Who owns a shard.
    #[must_use]
    pub fn owner(&self, shard: usize) -> Option<&PeerId> {
        let owner = self.map.owners.get(shard).copied().flatten()?;
        self.members.ids.get(owner)
    }

    /// Who holds a shard beside its owner.
    pub fn replicas(&self, shard: usize) -> impl Iterator<Item = &PeerId> {
        let width = self
            .map
            .replicas
            .len()
            .checked_div(self.map.owners.len())
            .unwrap_or_default();
        let seats = self
            .map
            .replicas
            .get(shard * width..(shard + 1) * width)
            .unwrap_or_default();
        seats
            .iter()
            .flatten()
            .filter_map(|member| self.members.ids.get(*member))
    }
}

/// What a layout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Loads within their bounds.
    Balance,
    /// A place for what has none; owners that can stay do.
    Repair,
}

/// Places a namespace's shards on members, from where they are now. One that moves, is paused or is disabled stays as it is.
#[must_use]
pub fn layout(
    mesh: &MeshState,
    namespace: &NamespaceId,
    spec: &NamespaceSpec,
    members: Members,
    purpose: Purpose,
) -> Layout {
    layout_while(&|| true, mesh, namespace, spec, members, purpose).unwrap_or_default()
}

/// The same for as long as it is `wanted`; none where it was broken off.
#[must_use]
pub fn layout_while(
    wanted: &dyn Fn() -> bool,
    mesh: &MeshState,
    namespace: &NamespaceId,
    spec: &NamespaceSpec,
    members: Members,
    purpose: Purpose,
) -> Option<Layout> {
    let before = before(mesh, namespace, spec, &members, purpose);
    let seeds: Vec<u64> = (0..spec.shards)
        .map(|shard| strategy::shard_seed(namespace.as_str(), shard))
        .collect();
    let replicas = spec.replicas as usize;
    let all = &members.members;
    let map = match spec.strategy {
        StrategyKind::Ring => strategy::assign_while(wanted, &Ring::new(all), all, &seeds, replicas, &before),
        StrategyKind::Rendezvous => {
            strategy::assign_while(wanted, &Rendezvous::new(all), all, &seeds, replicas, &before)
        }
        StrategyKind::Locality => {
            let strategy = Locality::new(all, &spec.region);
            strategy::assign_while(wanted, &strategy, all, &seeds, replicas, &before)
        }
    };
    map.map(|map| Layout { members, map })
}

/// Where a namespace's shards are, or are on their way to, by index of member.
fn before(mesh: &MeshState, namespace: &NamespaceId, spec: &NamespaceSpec, members: &Members, purpose: Purpose) -> Map {
    let (shards, replicas) = (spec.shards as usize, spec.replicas as usize);
    let mut map = Map {
        owners: vec![None; shards],
        replicas: vec![None; shards * replicas],
        pinned: vec![Pinned::Nothing; shards],
    };
    for shard in mesh.shards_of(namespace).take(shards) {
        let at = shard.id.index as usize;
        let bound_for = shard.moving.as_ref().map(|moving| &moving.to).or(shard.owner.as_ref());
        if let Some(owner) = map.owners.get_mut(at) {
            *owner = bound_for.and_then(|peer| members.index(peer));
        }
        if let Some(pinned) = map.pinned.get_mut(at) {
            *pinned = match (shard.status, purpose) {
                (ShardStatus::Moving, _) => Pinned::All,
                (ShardStatus::Paused | ShardStatus::Disabled, Purpose::Balance) => Pinned::All,
                (ShardStatus::Active | ShardStatus::Paused | ShardStatus::Disabled, Purpose::Repair) => Pinned::Owner,
                (ShardStatus::Active, Purpose::Balance) => Pinned::Nothing,
            };
        }
        let copies = shard.replicas.iter().filter_map(|peer| members.index(peer));
        let seats = map.replicas.iter_mut().skip(at * replicas).take(replicas);
        for (seat, copy) in seats.zip(copies) {
            *seat = Some(copy);
        }
    }
    map
}

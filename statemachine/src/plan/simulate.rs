//! What a change of the peers, or of a namespace, would move: computed as the change itself would be, and nothing of it done.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::shards::{Layout, Members, Purpose, Standing, is_heard, layout_while, standing};
use crate::{
    ClusterId, MeshState, NamespaceId, PeerId, Rejection,
    record::{
        Attributes, Health, Meta, Namespace, NamespaceSpec, Peer, PeerSpec, PeerStatus, ShardStatus, StrategyKind,
        WEIGHT_DEFAULT,
    },
    selector::Selector,
};

/// A peer as it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id: that of a peer that is there, or another.
    pub id: PeerId,
    /// Its weight; that of the peer that is there, or the usual one, where absent.
    pub weight: Option<u32>,
    /// Its region, likewise.
    pub region: Option<String>,
    /// Its zone, likewise.
    pub zone: Option<String>,
}

/// What would be otherwise.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Peers that come, or are described anew.
    pub nodes: Vec<Node>,
    /// Peers that go.
    pub without: Vec<PeerId>,
    /// Zones all of whose peers go.
    pub without_zones: Vec<String>,
    /// Another strategy.
    pub strategy: Option<StrategyKind>,
    /// Another number of replicas.
    pub replicas: Option<u32>,
    /// Another preferred region.
    pub region: Option<String>,
    /// Other peers that may hold shards, by their labels.
    pub peers: Option<String>,
}

impl Scenario {
    /// What the moves are for. Where peers only go, what they had is placed elsewhere, as a drain or a death does it; all
    /// else is balanced, as reshaping does it.
    fn purpose(&self) -> Purpose {
        let Self {
            nodes,
            without,
            without_zones,
            strategy,
            replicas,
            region,
            peers,
        } = self;
        let goes = !(without.is_empty() && without_zones.is_empty());
        let described = strategy.is_some() || replicas.is_some() || region.is_some() || peers.is_some();
        match goes && nodes.is_empty() && !described {
            true => Purpose::Repair,
            false => Purpose::Balance,
        }
    }
}

/// One shard that would have another owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its number.
    pub shard: u32,
    /// Who owns it.
    pub from: Option<PeerId>,
    /// Who would.
    pub to: Option<PeerId>,
    /// Its owner would be gone, or cannot keep it: it has to move.
    pub unavoidable: bool,
}

/// What one peer holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Shards that it owns.
    pub owned: u64,
    /// Shards that it holds beside their owner.
    pub copies: u64,
}

/// What would come of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// Shards that would have another owner, in order.
    pub moved: Vec<Moved>,
    /// Copies that would be made where there is none.
    pub copied: u64,
    /// What each peer holds, and what it would hold.
    pub loads: BTreeMap<PeerId, (Load, Load)>,
    /// Shards of the namespace.
    pub shards: u32,
    /// Shards that nobody could own.
    pub unowned: u64,
    /// Shards that are paused or disabled on a peer that goes: the change waits for them.
    pub held: u64,
}

impl Simulation {
    /// How many shards have to move whatever is done.
    #[must_use]
    pub fn unavoidable(&self) -> u64 {
        self.moved.iter().filter(|moved| moved.unavoidable).count() as u64
    }

    /// How many shards would move beyond those, in tenths of a percent of all, rounded up.
    #[must_use]
    pub fn avoidable_permille(&self) -> u64 {
        let avoidable = self.moved.len() as u64 - self.unavoidable();
        (avoidable * 1_000).div_ceil(u64::from(self.shards.max(1)))
    }
}

/// A scenario with the peers as they would be, which are the same for every namespace.
#[derive(Debug)]
pub struct Stage<'a> {
    scenario: &'a Scenario,
    peers: BTreeMap<PeerId, Peer>,
}

impl<'a> Stage<'a> {
    /// Sets the scenario.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] for a peer that is named twice or is not there, and a weight of 0.
    pub fn new(mesh: &MeshState, scenario: &'a Scenario) -> Result<Self, Rejection> {
        let peers = peers(mesh, scenario)?;
        Ok(Self { scenario, peers })
    }

    /// Plays it on a namespace, for as long as it is `wanted`; none where it was broken off.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] for what the namespace's own form does not allow.
    pub fn play(
        &self,
        mesh: &MeshState,
        namespace: &Namespace,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Simulation>, Rejection> {
        let (scenario, peers) = (self.scenario, &self.peers);
        let spec = NamespaceSpec {
            strategy: scenario.strategy.unwrap_or(namespace.spec.strategy),
            replicas: scenario.replicas.unwrap_or(namespace.spec.replicas),
            region: scenario.region.clone().unwrap_or_else(|| namespace.spec.region.clone()),
            peers: scenario.peers.clone().unwrap_or_else(|| namespace.spec.peers.clone()),
            ..namespace.spec.clone()
        };
        spec.check()?;
        let selector = Selector::parse(&spec.peers)?;
        // Those that go count as well: a drain leaves them registered.
        let heard = mesh
            .peers_after(None)
            .any(|peer| is_heard(peer) && selector.matches(&peer.spec.labels));
        // Nobody knows what labels a peer that is not there yet will have: it is meant to be selected, and to be heard.
        let nodes = scenario.nodes.iter().map(|node| &node.id);
        let newcomers: BTreeSet<&PeerId> = nodes.filter(|id| mesh.peer(id).is_none()).collect();
        let selected = |peer: &&Peer| selector.matches(&peer.spec.labels) || newcomers.contains(&peer.id);
        let members = Members::selected(peers.values().filter(selected), heard).with_newcomers(&newcomers);
        let after = layout_while(wanted, mesh, &namespace.id, &spec, members, scenario.purpose());
        Ok(after.map(|after| compare(mesh, &namespace.id, &spec, peers, &after)))
    }
}

/// The peers as they would be, by id.
fn peers(mesh: &MeshState, scenario: &Scenario) -> Result<BTreeMap<PeerId, Peer>, Rejection> {
    let mut peers: BTreeMap<PeerId, Peer> = mesh
        .peers_after(None)
        .map(|peer| (peer.id.clone(), (**peer).clone()))
        .collect();
    let mut named = BTreeSet::new();
    let nodes = scenario.nodes.iter().map(|node| ("nodes", &node.id));
    for (field, id) in nodes.chain(scenario.without.iter().map(|id| ("without", id))) {
        if !named.insert(id) {
            return Err(Rejection::invalid(field, format!("`{id}` is named twice")));
        }
    }
    for node in &scenario.nodes {
        let peer = match peers.entry(node.id.clone()) {
            Entry::Occupied(peer) => peer.into_mut(),
            Entry::Vacant(place) => place.insert(newcomer(&node.id)?),
        };
        if let Some(weight) = node.weight {
            peer.spec.weight = weight;
        }
        if let Some(region) = &node.region {
            peer.spec.region.clone_from(region);
        }
        if let Some(zone) = &node.zone {
            peer.spec.zone.clone_from(zone);
        }
        peer.spec.check()?;
    }
    // Before anybody goes: a zone may be named beside all of its peers.
    let mut zones = scenario.without_zones.iter();
    let unknown = zones.find(|zone| !peers.values().any(|peer| peer.spec.zone == **zone));
    for id in &scenario.without {
        if peers.remove(id).is_none() {
            return Err(Rejection::invalid("without", format!("there is no peer `{id}`")));
        }
    }
    if let Some(zone) = unknown {
        let why = format!("no peer is in zone `{zone}`");
        return Err(Rejection::invalid("withoutZones", why));
    }
    peers.retain(|_, peer| !scenario.without_zones.contains(&peer.spec.zone));
    Ok(peers)
}

fn newcomer(id: &PeerId) -> Result<Peer, Rejection> {
    let cluster = ClusterId::new("simulated").map_err(|error| Rejection::invalid("nodes", error.to_string()))?;
    Ok(Peer {
        id: id.clone(),
        spec: PeerSpec {
            cluster,
            role: String::new(),
            region: String::new(),
            zone: String::new(),
            endpoints: vec!["simulated:1".to_owned()],
            labels: Attributes::default(),
            metadata: Attributes::default(),
            weight: WEIGHT_DEFAULT,
        },
        status: PeerStatus::Active,
        status_before_drain: None,
        health: Health::Unknown,
        health_since_ms: 0,
        operation: None,
        status_reason: String::new(),
        meta: Meta::default(),
    })
}

fn compare(
    mesh: &MeshState,
    id: &NamespaceId,
    spec: &NamespaceSpec,
    peers: &BTreeMap<PeerId, Peer>,
    after: &Layout,
) -> Simulation {
    let mut simulation = Simulation {
        moved: Vec::new(),
        copied: 0,
        loads: BTreeMap::new(),
        shards: spec.shards,
        unowned: 0,
        held: 0,
    };
    for peer in peers.keys() {
        simulation.loads.entry(peer.clone()).or_default();
    }
    for shard in mesh.shards_of(id) {
        let index = shard.id.index;
        let at = index as usize;
        let keeps = |peer: &PeerId| peers.get(peer).is_some_and(|peer| standing(peer) != Standing::Loses);
        // What moves, is paused or is disabled stays with its owner.
        let stays = shard.status != ShardStatus::Active;
        let owner = if stays { shard.owner.as_ref() } else { after.owner(at) };
        let replicas = after.copies(shard, spec.replicas, keeps);
        let load = |loads: &mut BTreeMap<PeerId, (Load, Load)>, peer: &PeerId, add: fn(&mut (Load, Load))| {
            add(loads.entry(peer.clone()).or_default());
        };
        let loads = &mut simulation.loads;
        shard
            .owner
            .iter()
            .for_each(|peer| load(loads, peer, |load| load.0.owned += 1));
        shard
            .replicas
            .iter()
            .for_each(|peer| load(loads, peer, |load| load.0.copies += 1));
        owner
            .iter()
            .for_each(|peer| load(loads, peer, |load| load.1.owned += 1));
        replicas
            .iter()
            .for_each(|peer| load(loads, peer, |load| load.1.copies += 1));
        let held = |peer: &PeerId| shard.owner.as_ref() == Some(peer) || shard.replicas.contains(peer);
        let new = owner.into_iter().chain(&replicas).filter(|peer| !held(peer));
        simulation.copied += new.count() as u64;
        simulation.unowned += u64::from(owner.is_none());
        let is_held = matches!(shard.status, ShardStatus::Paused | ShardStatus::Disabled);
        simulation.held += u64::from(is_held && !shard.owner.as_ref().is_some_and(keeps));
        if owner != shard.owner.as_ref() {
            simulation.moved.push(Moved {
                shard: index,
                from: shard.owner.clone(),
                to: owner.cloned(),
                unavoidable: !shard.owner.as_ref().is_some_and(keeps),
            });
        }
    }
    simulation
}

/// Difference of one shard between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its number.
    pub shard: u32,
    /// Who owned it, and the epoch; none where there was no such shard.
    pub before: Option<(Option<PeerId>, u64)>,
    /// Who owns it, and the epoch; none where there is no such shard any more.
    pub after: Option<(Option<PeerId>, u64)>,
}

/// What differs between the shards of a namespace in two states: owner or epoch.
#[must_use]
pub fn diff(before: &MeshState, after: &MeshState, id: &NamespaceId) -> Vec<Changed> {
    let owners = |mesh: &MeshState| -> BTreeMap<u32, (Option<PeerId>, u64)> {
        let shards = mesh.shards_of(id);
        shards
            .map(|shard| (shard.id.index, (shard.owner.clone(), shard.epoch)))
            .collect()
    };
    let (mut old, new) = (owners(before), owners(after));
    let mut changed: Vec<Changed> = new
        .into_iter()
        .filter_map(|(shard, after)| {
            let before = old.remove(&shard);
            (before.as_ref() != Some(&after)).then_some(Changed {
                shard,
                before,
                after: Some(after),
            })
        })
        .collect();
    changed.extend(old.into_iter().map(|(shard, before)| Changed {
        shard,
        before: Some(before),
        after: None,
    }));
    changed.sort_by_key(|changed| changed.shard);
    changed
}

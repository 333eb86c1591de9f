//! How several peers are drained, a few at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::shards::about_to_drain;
use crate::{
    ClusterId, MeshState, PeerId,
    record::{
        Operation, OperationKind, OperationState, Peer, PeerStatus, Phase, Selected, SelectedState, Selection, Step,
    },
    selector::Selector,
};

/// The most names that one line tells.
pub(super) const NAMED_MAX: usize = 3;

/// The peers that a selector selects, and how many of them are set aside already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Active and cordoned, in order of id.
    pub peers: Vec<PeerId>,
    /// Draining, drained, or about to be drained by another operation: nothing is left to begin.
    pub set_aside: u64,
}

/// Chooses the peers as the mesh is now.
#[must_use]
pub fn choose(mesh: &MeshState, selector: &Selector) -> Choice {
    let mut choice = Choice {
        peers: Vec::new(),
        set_aside: 0,
    };
    let selected = mesh
        .peers_after(None)
        .filter(|peer| selector.matches(&peer.spec.labels));
    let about_to_go = about_to_drain(mesh);
    for peer in selected {
        match peer.status {
            PeerStatus::Active | PeerStatus::Cordoned if about_to_go.contains(&peer.id) => choice.set_aside += 1,
            PeerStatus::Active | PeerStatus::Cordoned => choice.peers.push(peer.id.clone()),
            PeerStatus::Draining | PeerStatus::Drained => choice.set_aside += 1,
        }
    }
    choice
}

/// The steps of such an operation.
#[must_use]
pub fn steps(peers: usize, at_once: u32) -> Vec<Step> {
    let step = |name: String, phase| Step { name, phase };
    vec![
        step(format!("choose the peers: {peers}"), Phase::Done),
        step(format!("drain them, at most {at_once} at a time"), Phase::Active),
    ]
}

/// A cluster that would be left with too few active peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The cluster.
    pub cluster: ClusterId,
    /// How many active peers it would be left with.
    pub left: u64,
    /// How many it has to keep.
    pub needed: u64,
}

/// What would be left of the active peers of every cluster that loses some: the one that is worst off. Peers that other
/// running operations are about to drain count as gone. None where no active peer goes.
#[must_use]
pub fn active_left(mesh: &MeshState, going: &BTreeSet<&PeerId>, needed: u64) -> Option<Shortage> {
    let losing = going.iter().filter_map(|id| mesh.peer(id));
    let losing: BTreeSet<&ClusterId> = losing
        .filter(|peer| peer.status == PeerStatus::Active)
        .map(|peer| &peer.spec.cluster)
        .collect();
    if losing.is_empty() {
        return None;
    }
    let about_to_go = about_to_drain(mesh);
    let mut left: BTreeMap<&ClusterId, u64> = losing.into_iter().map(|cluster| (cluster, 0)).collect();
    for peer in mesh.peers_after(None) {
        let stays = peer.status == PeerStatus::Active && !going.contains(&peer.id) && !about_to_go.contains(&peer.id);
        if stays && let Some(count) = left.get_mut(&peer.spec.cluster) {
            *count += 1;
        }
    }
    let worst = left.into_iter().min_by_key(|(_, left)| *left)?;
    Some(Shortage {
        cluster: worst.0.clone(),
        left: worst.1,
        needed,
    })
}

/// The peers of an operation that drains several.
#[must_use]
pub fn selection(operation: &Operation) -> Option<&Selection> {
    match &operation.kind {
        OperationKind::DrainPeer(_) | OperationKind::ShapeNamespace(_) => None,
        OperationKind::DrainPeers(selection) => Some(selection),
    }
}

/// One step of the controller: what has become of the peers, and which come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The peers as they are after this round, apart from those that begin.
    pub peers: Vec<Selected>,
    /// The places of those whose drain begins now.
    pub begin: Vec<usize>,
    /// What the operation waits for after this round.
    pub waits_for: String,
}

impl Round {
    /// Whether there is nothing to be done.
    #[must_use]
    pub fn is_idle(&self, operation: &Operation, selection: &Selection) -> bool {
        self.begin.is_empty() && self.peers == selection.peers && self.waits_for == operation.detail && !self.is_over()
    }

    /// Whether nothing is left to do for any peer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.begin.is_empty() && self.peers.iter().all(|selected| selected.state.is_settled())
    }
}

/// What comes next for a running operation, as the mesh is now.
#[must_use]
pub fn round(mesh: &MeshState, operation: &Operation, selection: &Selection) -> Round {
    let mut peers = selection.peers.clone();
    for selected in peers
        .iter_mut()
        .filter(|selected| selected.state == SelectedState::Draining)
    {
        selected.state = became(mesh, selected);
    }
    let draining = peers
        .iter()
        .filter(|selected| selected.state == SelectedState::Draining);
    let mut free = (selection.at_once as usize).saturating_sub(draining.count());
    let mut room = mesh
        .settings()
        .operations_running_max
        .saturating_sub(mesh.operations_running());
    let mut begin = Vec::new();
    let mut held = None;
    let mut guard = Guard::new(mesh, operation.terms.forced);
    for (at, selected) in peers.iter_mut().enumerate() {
        if selected.state != SelectedState::Waiting {
            continue;
        }
        let Some(peer) = mesh.peer(&selected.peer) else {
            selected.state = SelectedState::Gone;
            continue;
        };
        if free == 0 {
            continue;
        }
        match peer.status {
            // Somebody else was faster: theirs is followed, and theirs to cancel.
            PeerStatus::Draining => {
                (selected.state, selected.operation) = (SelectedState::Draining, peer.operation.clone());
                free -= 1;
            }
            PeerStatus::Drained => {
                (selected.state, selected.operation) = (SelectedState::Drained, peer.operation.clone());
            }
            PeerStatus::Active | PeerStatus::Cordoned if room == 0 => {
                held = Some("too many operations run".to_owned());
            }
            PeerStatus::Active | PeerStatus::Cordoned => match guard.takes(peer) {
                Ok(()) => {
                    begin.push(at);
                    (free, room) = (free - 1, room - 1);
                }
                Err(why) => held = Some(why),
            },
        }
    }
    let waits_for = waits_for(&peers, &begin, held);
    Round {
        peers,
        begin,
        waits_for,
    }
}

/// What has become of a peer whose drain was begun.
fn became(mesh: &MeshState, selected: &Selected) -> SelectedState {
    let Some(peer) = mesh.peer(&selected.peer) else {
        return SelectedState::Gone;
    };
    let ended = selected.operation.as_ref().and_then(|id| mesh.operation(id));
    match ended.map(|operation| operation.state) {
        Some(OperationState::Running) => SelectedState::Draining,
        Some(OperationState::Failed) => SelectedState::Failed,
        Some(OperationState::Cancelled) => SelectedState::Returned,
        // Drained, and possibly brought back since; or its record had to make room.
        Some(OperationState::Succeeded) | None => match peer.status {
            PeerStatus::Drained => SelectedState::Drained,
            PeerStatus::Draining => SelectedState::Draining,
            PeerStatus::Active | PeerStatus::Cordoned => SelectedState::Returned,
        },
    }
}

/// Keeps as many peers of each cluster active as there have to be, while drains begin.
struct Guard<'a> {
    mesh: &'a MeshState,
    needed: u64,
    taken: BTreeMap<&'a ClusterId, u64>,
}

impl<'a> Guard<'a> {
    fn new(mesh: &'a MeshState, forced: bool) -> Self {
        let needed = if forced { 0 } else { needed(mesh) };
        Self {
            mesh,
            needed,
            taken: BTreeMap::new(),
        }
    }

    fn takes(&mut self, peer: &'a Peer) -> Result<(), String> {
        if peer.status != PeerStatus::Active || self.needed == 0 {
            return Ok(());
        }
        let cluster = &peer.spec.cluster;
        let taken = self.taken.entry(cluster).or_default();
        let enough = self.needed.saturating_add(*taken).saturating_add(1);
        let active = self.mesh.peers_after(None);
        let active = active.filter(|other| other.status == PeerStatus::Active && other.spec.cluster == *cluster);
        // No further than it takes to know that there are enough.
        let active = active.take(usize::try_from(enough).unwrap_or(usize::MAX)).count() as u64;
        if active < enough {
            let needed = self.needed;
            return Err(format!(
                "cluster {cluster} has to keep {needed} peers active, and has no other"
            ));
        }
        *taken += 1;
        Ok(())
    }
}

/// How many active peers every cluster keeps that loses some to a drain of several: one at least.
#[must_use]
pub fn needed(mesh: &MeshState) -> u64 {
    mesh.settings().peers_active_min.max(1)
}

fn waits_for(peers: &[Selected], begin: &[usize], held: Option<String>) -> String {
    let begun = |(at, selected): &(usize, &Selected)| begin.contains(at) || selected.state == SelectedState::Draining;
    let draining: Vec<&str> = peers
        .iter()
        .enumerate()
        .filter(begun)
        .map(|(_, one)| one.peer.as_str())
        .collect();
    let mut text = match draining.as_slice() {
        [] => String::new(),
        some => format!("drains {}", names(some)),
    };
    if let Some(why) = held {
        let stop = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{stop}the next one waits: {why}"));
    }
    text
}

/// The first few names, and how many more there are.
#[must_use]
pub fn names(all: &[&str]) -> String {
    first_of(all.get(..NAMED_MAX).unwrap_or(all), all.len())
}

/// These names, and how many more there are where there are `all` of them.
pub(super) fn first_of(named: &[&str], all: usize) -> String {
    let shown = named.join(", ");
    match all.saturating_sub(named.len()) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

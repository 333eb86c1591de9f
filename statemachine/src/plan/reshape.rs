//! Where the shards of a namespace go when its strategy, its peers or its copies are chosen anew, and what is left of the way.

use super::shards::{Layout, Members, Purpose, Standing, keeps, layout, layout_while, standing};
use crate::{
    MeshState, PeerId,
    record::{Cause, Health, Namespace, NamespaceSpec, PeerStatus, Shard, ShardId, ShardStatus, Target},
};

/// Where a namespace's shards would be under another description of it.
///
/// As many shards as `spec` has are looked at; apply refuses another number of them.
/// None where it is no longer `wanted` in the middle.
#[must_use]
pub fn target(
    mesh: &MeshState,
    namespace: &Namespace,
    spec: &NamespaceSpec,
    wanted: &dyn Fn() -> bool,
) -> Option<Target> {
    let members = Members::of(spec, mesh.peers_after(None).map(|peer| &**peer));
    let placed = layout_while(wanted, mesh, &namespace.id, spec, members, Purpose::Balance)?;
    let owners = placed.map.owners.iter().map(|owner| {
        let index = owner.and_then(|index| u16::try_from(index).ok());
        index.unwrap_or(Target::NOBODY)
    });
    Some(Target {
        before: namespace.spec.clone(),
        owners: owners.collect(),
        peers: placed.members.ids,
    })
}

/// How many shards a target moves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// All of them.
    pub all: u32,
    /// Those whose owner could stay.
    pub avoidable: u32,
}

impl Moved {
    /// The share of `shards` that moves although it need not, in tenths of a percent, rounded up.
    #[must_use]
    pub fn avoidable_permille(self, shards: u32) -> u32 {
        let permille = (u64::from(self.avoidable) * 1_000).div_ceil(u64::from(shards.max(1)));
        u32::try_from(permille).unwrap_or(u32::MAX)
    }
}

/// Counts what a target moves, as the shards are now.
#[must_use]
pub fn moved(mesh: &MeshState, namespace: &Namespace, target: &Target) -> Moved {
    let mut moved = Moved::default();
    for shard in mesh.shards_of(&namespace.id) {
        if bound_for(mesh, shard, target).is_some() {
            moved.all += 1;
            moved.avoidable += u32::from(owner_stays(mesh, shard));
        }
    }
    moved
}

fn owner_stays(mesh: &MeshState, shard: &Shard) -> bool {
    shard.owner.as_ref().is_some_and(|owner| keeps(mesh, owner))
}

/// Where the target wants a shard that is at rest; none where it is there, or has to stay as it is.
fn bound_for<'a>(mesh: &MeshState, shard: &Shard, target: &'a Target) -> Option<&'a PeerId> {
    wanted_at(shard, target).filter(|to| mesh.peer(to).is_some_and(|peer| standing(peer) == Standing::Takes))
}

/// Where the target wants a shard that is at rest and elsewhere, whether it can go there or not.
fn wanted_at<'a>(shard: &Shard, target: &'a Target) -> Option<&'a PeerId> {
    let to = target.owner(shard.id.index)?;
    (shard.status == ShardStatus::Active && shard.owner.as_ref() != Some(to)).then_some(to)
}

/// Whether it is not known yet if a peer takes shards: it is suspected, and will be heard again or be dead.
fn is_in_doubt(mesh: &MeshState, peer: &PeerId) -> bool {
    mesh.peer(peer)
        .is_some_and(|peer| (peer.status, peer.health) == (PeerStatus::Active, Health::Suspect))
}

/// What is left of the way to a target.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Shards that can begin to move: which, its epoch, where to, and why.
    pub begin: Vec<(ShardId, u64, PeerId, Cause)>,
    /// How many are on their way, for whatever reason.
    pub moving: u32,
    /// How many wait to hear whether the peer that they are to go to is still there.
    pub in_doubt: u32,
}

impl Rest {
    /// How many shards are not where they are to be.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.begin.len())
            .unwrap_or(u32::MAX)
            .saturating_add(self.moving)
            .saturating_add(self.in_doubt)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which owners still have to change. A shard that was paused or disabled meanwhile, or whose place can take no shards any
/// more, stays where it is.
#[must_use]
pub fn rest(mesh: &MeshState, namespace: &Namespace, target: &Target) -> Rest {
    let mut rest = Rest::default();
    for shard in mesh.shards_of(&namespace.id) {
        rest.moving += u32::from(shard.moving.is_some());
        if let Some(to) = bound_for(mesh, shard, target) {
            rest.begin
                .push((shard.id.clone(), shard.epoch, to.clone(), Cause::Placed));
        } else if wanted_at(shard, target).is_some_and(|to| is_in_doubt(mesh, to)) {
            rest.in_doubt += 1;
        }
    }
    rest
}

/// Which shards are to have other copies, once their owners are settled: which, its version, and its copies from now on. Those
/// that wait for another owner are left out: the layout would make one of their copies the owner, and take it away.
#[must_use]
pub fn copies(mesh: &MeshState, namespace: &Namespace) -> Vec<(ShardId, u64, Vec<PeerId>)> {
    let members = Members::of(&namespace.spec, mesh.peers_after(None).map(|peer| &**peer));
    let placed: Layout = layout(mesh, &namespace.id, &namespace.spec, members, Purpose::Repair);
    let mut changed = Vec::new();
    for shard in mesh.shards_of(&namespace.id) {
        let copies: Vec<PeerId> = placed.replicas(shard.id.index as usize).cloned().collect();
        if shard.status == ShardStatus::Active && owner_stays(mesh, shard) && copies != shard.replicas {
            changed.push((shard.id.clone(), shard.meta.version, copies));
        }
    }
    changed
}

//! `shards.place_copies`: the controller gives shards other replicas.

use serde::{Deserialize, Serialize};

use super::with_progress;
use crate::{
    Effects, Handler, PeerId, Record, Rejection, View,
    plan::shards::{Standing, standing},
    record::{Kind, Shard, ShardId, ShardStatus},
};

/// The most shards of one batch.
pub const COPIES_BATCH_MAX: usize = 500;

/// Gives shards other replicas, as a controller has planned it. Shards that have changed since are left out: it plans anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceCopies {
    /// Which shards, the version that each had when it was planned, and who holds them beside the owner from now on.
    pub copies: Vec<(ShardId, u64, Vec<PeerId>)>,
}

super::level_2!(PlaceCopies);

impl Handler for PlaceCopies {
    fn action(&self) -> &'static str {
        "shards.place_copies"
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if self.copies.len() > COPIES_BATCH_MAX {
            let why = format!("{} shards are over the limit of {COPIES_BATCH_MAX}", self.copies.len());
            return Err(Rejection::invalid("copies", why));
        }
        let mut effects = Effects::default();
        let mut seen = std::collections::BTreeSet::new();
        for (id, version, copies) in &self.copies {
            let shard = view
                .mesh
                .shard(id)
                .filter(|shard| shard.meta.version == *version && seen.insert(id));
            // What is held stays with its owner; its copies are nobody's service.
            let may_change = |shard: &&Shard| match shard.status {
                ShardStatus::Active | ShardStatus::Paused | ShardStatus::Disabled => true,
                ShardStatus::Moving => false,
            };
            let Some(before) = shard.filter(may_change) else {
                continue;
            };
            let namespace = view.mesh.namespace(&id.namespace);
            let few = namespace.is_some_and(|namespace| copies.len() <= namespace.spec.replicas as usize);
            let may_hold = |peer: &PeerId| {
                let standing = view.mesh.peer(peer).map(standing);
                standing == Some(Standing::Takes)
                    || (standing == Some(Standing::Keeps) && before.replicas.contains(peer))
            };
            let mut all: Vec<&PeerId> = before.owner.iter().chain(copies).collect();
            all.sort_unstable();
            let twice = all.windows(2).any(|pair| pair[0] == pair[1]);
            if few && !twice && copies.iter().all(may_hold) && before.replicas != *copies {
                let after = Shard {
                    replicas: copies.clone(),
                    ..before.clone()
                };
                effects = effects.put(Record::Shard(after.into()));
            }
        }
        Ok(with_progress(view, effects))
    }
}

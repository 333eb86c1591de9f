//! What differs between two revisions.

use std::collections::BTreeMap;

use proto::v1;
use statemachine::{
    MeshState, NamespaceId, PeerId,
    plan::{
        shards::{Standing, standing},
        simulate,
    },
};
use tonic::Response;

use super::{asked_about, bounded, namespace_id, revision};
use crate::{
    Error,
    history::{self, Wanted},
    services::{Api, Received},
};

/// A namespace's or all namespaces' shards at two revisions.
#[derive(Default)]
struct Compared {
    changes: Vec<v1::ShardChange>,
    loads: BTreeMap<PeerId, v1::ShardLoad>,
    shards: u32,
    moved: u32,
}

impl Api {
    pub(super) async fn shards_diff(
        &self,
        received: Received<v1::DiffShardsRequest>,
    ) -> Result<Response<v1::DiffShardsResponse>, Error> {
        let v1::DiffShardsRequest {
            namespace,
            from_revision,
            to_revision,
        } = &received.message;
        let namespace = match namespace.as_str() {
            "" => None,
            given => Some(namespace_id("namespace", given)?),
        };
        if *from_revision == 0 {
            return Err(Error::invalid("fromRevision", "name the earlier revision, from 1 on"));
        }
        let view = self.view(&received).await?;
        let of = |field: &str, asked: u64| revision(&view, &received.headers, field, asked);
        let (from, to) = (of("fromRevision", *from_revision)?, of("toRevision", *to_revision)?);
        if from > to {
            let why = format!("revision {from} is after {to}: name the earlier one first");
            return Err(Error::invalid("fromRevision", why));
        }
        let read = move |wanted: &Wanted| {
            let after = history::as_of(&view, to, wanted)?;
            let before = history::rewound(&view, after.clone(), from, wanted)?;
            compare(&before, &after, namespace.as_ref(), wanted)
        };
        let call = &received.call;
        let found = self.core.history.read(&call.request_id, call.deadline, read).await?;
        let (changes, truncated) = bounded(found.changes);
        let permille = (u64::from(found.moved) * 1_000).div_ceil(u64::from(found.shards.max(1)));
        let answer = v1::DiffShardsResponse {
            changes,
            loads: found.loads.into_values().collect(),
            shards: found.shards,
            moved: found.moved,
            moved_permille: u32::try_from(permille).unwrap_or(u32::MAX),
            from_revision: from.0,
            to_revision: to.0,
            truncated,
        };
        Ok(self.at(to, answer))
    }
}

fn compare(
    before: &MeshState,
    after: &MeshState,
    namespace: Option<&NamespaceId>,
    wanted: &Wanted,
) -> Result<Compared, Error> {
    let mut namespaces = asked_about(before, namespace);
    namespaces.extend(asked_about(after, namespace));
    namespaces.sort();
    namespaces.dedup();
    if let Some(id) = namespace
        && before.namespace(id).is_none()
        && after.namespace(id).is_none()
    {
        return Err(Error::not_found("namespace", id.as_str()));
    }
    let mut compared = Compared::default();
    for id in &namespaces {
        if wanted.is_over() {
            return Err(history::late());
        }
        compared.add(before, after, id);
    }
    Ok(compared)
}

impl Compared {
    fn add(&mut self, before: &MeshState, after: &MeshState, id: &NamespaceId) {
        for shard in before.shards_of(id) {
            shard.owner.iter().for_each(|peer| self.load(peer).owned_before += 1);
            shard
                .replicas
                .iter()
                .for_each(|peer| self.load(peer).replicas_before += 1);
        }
        for shard in after.shards_of(id) {
            self.shards += 1;
            shard.owner.iter().for_each(|peer| self.load(peer).owned_after += 1);
            shard
                .replicas
                .iter()
                .for_each(|peer| self.load(peer).replicas_after += 1);
        }
        let name = |owner: &Option<PeerId>| owner.as_ref().map(ToString::to_string).unwrap_or_default();
        let keeps = |peer: &PeerId| after.peer(peer).is_some_and(|peer| standing(peer) != Standing::Loses);
        for changed in simulate::diff(before, after, id) {
            let (old, new) = (changed.before.unwrap_or_default(), changed.after.unwrap_or_default());
            let there = old.1 != 0 && new.1 != 0;
            let moved = there && old.0 != new.0;
            self.moved += u32::from(moved);
            self.changes.push(v1::ShardChange {
                namespace: id.to_string(),
                shard: changed.shard,
                owner_before: name(&old.0),
                owner_after: name(&new.0),
                epoch_before: old.1,
                epoch_after: new.1,
                unavoidable: moved && !old.0.as_ref().is_some_and(keeps),
            });
        }
    }

    fn load(&mut self, peer: &PeerId) -> &mut v1::ShardLoad {
        self.loads.entry(peer.clone()).or_insert_with(|| v1::ShardLoad {
            peer: peer.to_string(),
            ..v1::ShardLoad::default()
        })
    }
}

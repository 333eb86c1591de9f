//! Lists of shards: which are selected, in what order, and by which way through the state they are found.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use proto::{
    codec::Wire as _,
    v1::{self, list_shards_request::Sort},
};
use statemachine::{
    Epoch, MeshState, NamespaceId, PeerId, Revision,
    record::{Shard, ShardId, ShardStatus},
    selector::Selector,
};
use tonic::Response;

use super::{
    namespace_id,
    pages::{Kept, stands_for},
};
use crate::{
    Error, convert,
    cursor::Filter,
    listing::Page,
    made::Made,
    metrics::PageLabels,
    services::{Api, Received, namespaces::existing},
};

/// Where more than one in so many peers is asked for, walking over all shards finds a page sooner than their lists do.
const WALK_FROM: usize = 16;

/// What of a list request selects and orders.
struct Query {
    namespace: Option<NamespaceId>,
    owner: Option<PeerId>,
    status: Option<ShardStatus>,
    zone: String,
    selector: Option<Selector>,
    sort: Sort,
}

impl Query {
    fn of(request: &v1::ListShardsRequest) -> Result<Self, Error> {
        let status = v1::shard::Status::try_from(request.status)
            .map_err(|_| Error::invalid("status", "there is no such status"))?;
        let owner = |id: &str| PeerId::new(id).map_err(|error| Error::invalid("owner", error.to_string()));
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            namespace: given(&request.namespace)
                .map(|id| namespace_id("namespace", &id))
                .transpose()?,
            owner: given(&request.owner).map(|id| owner(&id)).transpose()?,
            status: convert::shard_status(status),
            zone: request.zone.clone(),
            selector: given(&request.selector)
                .map(|text| Selector::parse(&text))
                .transpose()?,
            sort: Sort::try_from(request.sort).map_err(|_| Error::invalid("sort", "there is no such order"))?,
        })
    }

    /// What a cursor of the list is good for.
    fn filter(request: &v1::ListShardsRequest) -> Filter {
        let (status, sort) = (
            request.status.to_string(),
            request.sort.max(Sort::Id.into()).to_string(),
        );
        let settings: [&str; 6] = [
            &request.namespace,
            &request.owner,
            &status,
            &request.zone,
            &request.selector,
            &sort,
        ];
        Filter::new("ListShards", &settings)
    }

    /// The peers whose shards are asked for; none where it does not matter who owns them.
    ///
    /// # Errors
    /// `not_found`: there is no such peer, or no such namespace.
    fn owners(&self, mesh: &MeshState) -> Result<Option<BTreeSet<PeerId>>, Error> {
        if let Some(id) = &self.namespace {
            existing(mesh, id)?;
        }
        if self.owner.is_none() && self.zone.is_empty() && self.selector.is_none() {
            return Ok(None);
        }
        if let Some(id) = self.owner.as_ref().filter(|id| mesh.peer(id).is_none()) {
            return Err(Error::not_found("peer", id.as_str()));
        }
        let fits = |peer: &&Arc<statemachine::record::Peer>| {
            self.owner.as_ref().is_none_or(|owner| *owner == peer.id)
                && (self.zone.is_empty() || peer.spec.zone == self.zone)
                && self
                    .selector
                    .as_ref()
                    .is_none_or(|selector| selector.matches(&peer.spec.labels))
        };
        let owners = mesh.peers_after(None).filter(fits);
        Ok(Some(owners.map(|peer| peer.id.clone()).collect()))
    }

    fn selects(&self, shard: &Shard) -> bool {
        self.status.is_none_or(|status| shard.status == status)
            && self.namespace.as_ref().is_none_or(|id| shard.id.namespace == *id)
    }
}

impl Api {
    pub(super) async fn list_shards_page(
        &self,
        received: Received<v1::ListShardsRequest>,
    ) -> Result<Response<v1::ListShardsResponse>, Error> {
        let request = &received.message;
        let query = Query::of(request)?;
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, request.limit, &request.cursor, Query::filter(request))?;
        let before = self.pages.get(&page.question());
        if let Some(before) = before.as_ref().filter(|before| before.position == page.position) {
            self.count("kept");
            return Ok(self.made(&page, Arc::clone(&before.made)));
        }
        let after = page.after.as_deref().map(str::parse::<ShardId>).transpose();
        let after = after.map_err(|_| Error::invalid("cursor", "is not one of ours"))?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let found = found(&mesh, &query, after.as_ref(), page.limit.saturating_add(1))?;
        let epoch = mesh.epoch();
        let shown = stands_for(&found, epoch);
        let before = before.filter(|before| before.shown == shown);
        self.count(if before.is_some() { "items" } else { "anew" });
        let anew;
        let (items, last) = match &before {
            Some(before) => (before.items(), before.last.clone()),
            None => {
                let last;
                (anew, last) = encoded(&page, &found, epoch);
                (&*anew, last)
            }
        };
        let rest = v1::ListShardsResponse {
            items: Vec::new(),
            next_cursor: match &last {
                Some(last) => page.next(&self.core, Some(&mesh), last.clone()),
                None => String::new(),
            },
            revision: page.revision().0,
            epoch: epoch.0,
            version_vector: convert::version_vector(&mesh),
        };
        let made = Made::new(&[items, &rest.to_wire()])?;
        self.pages.put(Arc::new(Kept {
            question: page.question(),
            position: page.position,
            shown,
            last,
            items: items.len(),
            made: Arc::clone(&made),
        }));
        Ok(self.made(&page, made))
    }

    fn count(&self, made: &'static str) {
        let pages = &self.core.metrics.shard_pages;
        pages.get_or_create(&PageLabels { made }).inc();
    }

    /// A page that is sent as it was made.
    fn made(&self, page: &Page, made: Arc<Made>) -> Response<v1::ListShardsResponse> {
        let mut response = self.page(page, v1::ListShardsResponse::default());
        response.extensions_mut().insert(made);
        response
    }
}

/// The items of a page as they are sent, in a message that has nothing else; and the last of them where there are more.
fn encoded(page: &Page, found: &[Arc<Shard>], epoch: Epoch) -> (Bytes, Option<String>) {
    let shards = found.iter().map(|shard| convert::shard_in(shard, epoch));
    let (items, last) = page.fit(shards, |last| format!("{}/{}", last.namespace, last.shard));
    let items = v1::ListShardsResponse {
        items,
        ..v1::ListShardsResponse::default()
    };
    (items.to_wire(), last)
}

/// The next shards of a list, at most `most`.
fn found(mesh: &MeshState, query: &Query, after: Option<&ShardId>, most: usize) -> Result<Vec<Arc<Shard>>, Error> {
    let owners = query.owners(mesh)?;
    let last = match after {
        None => None,
        // All pages show one revision, so what was shown is there.
        Some(id) => Some(
            mesh.shard(id)
                .ok_or_else(|| Error::invalid("cursor", "is not one of ours"))?,
        ),
    };
    let shards = match query.sort {
        Sort::Unspecified | Sort::Id => by_id(mesh, query, owners.as_ref(), after, most),
        Sort::Owner => by_owner(mesh, query, owners.as_ref(), last, most),
        Sort::Changed => by_change(mesh, query, owners.as_ref(), last, most),
    };
    Ok(shards)
}

fn by_id(
    mesh: &MeshState,
    query: &Query,
    owners: Option<&BTreeSet<PeerId>>,
    after: Option<&ShardId>,
    most: usize,
) -> Vec<Arc<Shard>> {
    let Some(owners) = owners else {
        let shards = walk(mesh, query, after).filter(|shard| query.selects(shard));
        return shards.take(most).cloned().collect();
    };
    if owners.len() > 1 && owners.len() * WALK_FROM > mesh.peers_after(None).count() {
        let shards = walk(mesh, query, after).filter(|shard| query.selects(shard) && is_owned(shard, owners));
        return shards.take(most).cloned().collect();
    }
    let of = |owner| {
        let shards = mesh.owned_after(owner, after);
        shards.filter(|shard| query.selects(shard)).take(most)
    };
    let mut shards: Vec<_> = owners.iter().flat_map(of).cloned().collect();
    shards.sort_by(|a, b| a.id.cmp(&b.id));
    shards.truncate(most);
    shards
}

fn by_owner(
    mesh: &MeshState,
    query: &Query,
    owners: Option<&BTreeSet<PeerId>>,
    last: Option<&Shard>,
    most: usize,
) -> Vec<Arc<Shard>> {
    let Some(owners) = owners else {
        let shards = mesh.shards_by_owner(last).filter(|shard| query.selects(shard));
        return shards.take(most).cloned().collect();
    };
    let reached = last.and_then(|shard| shard.owner.as_ref());
    let left = owners
        .iter()
        .filter(|owner| reached.is_none_or(|reached| *owner >= reached));
    let of = |owner| {
        let within = last.filter(|_| reached == Some(owner)).map(|shard| &shard.id);
        mesh.owned_after(owner, within)
    };
    let shards = left.flat_map(of).filter(|shard| query.selects(shard));
    shards.take(most).cloned().collect()
}

/// What changed last comes first; what changed at one revision, in order of id. There is no list in this order: all that are
/// selected are looked at, and the first few kept.
fn by_change(
    mesh: &MeshState,
    query: &Query,
    owners: Option<&BTreeSet<PeerId>>,
    last: Option<&Shard>,
    most: usize,
) -> Vec<Arc<Shard>> {
    fn place(shard: &Shard) -> (Reverse<Revision>, &ShardId) {
        (Reverse(shard.meta.changed.revision), &shard.id)
    }
    let mut first = BTreeMap::new();
    let all: Box<dyn Iterator<Item = &Arc<Shard>>> = match owners {
        None => Box::new(walk(mesh, query, None)),
        Some(owners) => Box::new(owners.iter().flat_map(|owner| mesh.owned_after(owner, None))),
    };
    for shard in all.filter(|shard| query.selects(shard)) {
        let at = place(shard);
        let shown = last.is_some_and(|last| at <= place(last));
        let full = first.len() >= most;
        let too_far = full && first.last_key_value().is_some_and(|(farthest, _)| *farthest < at);
        if shown || too_far {
            continue;
        }
        first.insert(at, shard);
        if full {
            first.pop_last();
        }
    }
    first.into_values().cloned().collect()
}

fn is_owned(shard: &Shard, owners: &BTreeSet<PeerId>) -> bool {
    shard.owner.as_ref().is_some_and(|owner| owners.contains(owner))
}

/// The shards of the namespace that is asked for, or all, in order, from the one after `after`.
fn walk<'a>(
    mesh: &'a MeshState,
    query: &'a Query,
    after: Option<&'a ShardId>,
) -> Box<dyn Iterator<Item = &'a Arc<Shard>> + 'a> {
    match (&query.namespace, after) {
        (Some(id), None) => Box::new(mesh.shards_of(id)),
        (Some(id), Some(after)) => {
            let shards = mesh.shards_after(Some(after));
            Box::new(shards.take_while(move |shard| shard.id.namespace == *id))
        }
        (None, after) => Box::new(mesh.shards_after(after)),
    }
}

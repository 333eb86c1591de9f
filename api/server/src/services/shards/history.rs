//! What became of a shard.

use proto::v1::{self, list_shard_history_response::Entry};
use statemachine::{
    MeshState, OperationId, Record, Recorded, Revision,
    record::{Kind, Shard},
};
use tonic::Response;

use super::{missing, shard_id};
use crate::{
    Error, convert,
    cursor::Filter,
    history::Wanted,
    listing::Page,
    services::{Api, Received},
};

impl Api {
    pub(super) async fn shard_history_page(
        &self,
        received: Received<v1::ListShardHistoryRequest>,
    ) -> Result<Response<v1::ListShardHistoryResponse>, Error> {
        let v1::ListShardHistoryRequest {
            namespace,
            shard,
            limit,
            cursor,
        } = &received.message;
        let shard = shard_id(namespace, *shard)?;
        let id = shard.to_string();
        let view = self.view(&received).await?;
        let page = Page::begin(
            &self.core,
            view,
            *limit,
            cursor,
            Filter::new("ListShardHistory", &[&id]),
        )?;
        let below = match page.after.as_deref() {
            None => page.revision().next(),
            Some(text) => Revision(
                text.parse()
                    .map_err(|_| Error::invalid("cursor", "is not one of ours"))?,
            ),
        };
        let (view, most) = (page.view.clone(), page.limit.saturating_add(1));
        let read = move |wanted: &Wanted| {
            let mut entries = Vec::new();
            for revision in view.changes_before(Kind::Shard, &id, below, most)? {
                if wanted.is_over() {
                    return Err(crate::history::late());
                }
                entries.extend(view.unit(revision)?.as_deref().and_then(|unit| entry(unit, &id)));
            }
            Ok(entries)
        };
        let call = &received.call;
        let mut found: Vec<Entry> = self.core.history.read(&call.request_id, call.deadline, read).await?;
        let mesh = &page.view.state().mesh;
        for entry in &mut found {
            explain(entry, mesh);
        }
        // What is gone has a history as long as it is kept.
        if found.is_empty() && page.after.is_none() && mesh.shard(&shard).is_none() {
            return Err(missing(mesh, &shard));
        }
        let (items, next_cursor) = page.fill(&self.core, None, found.into_iter(), |last| last.revision.to_string());
        let answer = v1::ListShardHistoryResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(mesh),
        };
        Ok(self.page(&page, answer))
    }
}

/// Says of a change who wanted it and why, where a controller has made it for an operation.
fn explain(entry: &mut Entry, mesh: &MeshState) {
    let id = entry.operation.parse::<OperationId>().ok();
    let Some(operation) = id.and_then(|id| mesh.operation(&id)) else {
        return;
    };
    entry.asked_by.clone_from(&operation.actor);
    for (own, its) in [
        (&mut entry.reason, &operation.reason),
        (&mut entry.ticket, &operation.ticket),
    ] {
        if own.is_empty() {
            own.clone_from(its);
        }
    }
}

/// What a revision made of a shard.
fn entry(recorded: &Recorded, id: &str) -> Option<Entry> {
    let unit = &recorded.unit;
    let mut changes = unit.changes().iter();
    let change = changes.find(|change| change.key().is_some_and(|(kind, of)| kind == Kind::Shard && of == id))?;
    let (before, after) = (shard(change.before.as_ref()), shard(change.after.as_ref()));
    let owner = before.and_then(|before| before.owner.as_ref());
    let of = |shard: Option<&Shard>| {
        let moving = shard?.moving.as_ref()?;
        moving.operation.as_ref().map(ToString::to_string)
    };
    // Where nobody had to be waited for, a move ends where it begins: then the whole change is the operation's.
    let begun = || match unit.action.as_str() {
        "shards.begin_moves" => unit.target.strip_prefix("operation/").map(str::to_owned),
        _ => None,
    };
    let operation = of(after).or_else(|| of(before)).or_else(begun);
    Some(Entry {
        revision: unit.position.revision.0,
        action: unit.action.clone(),
        actor: unit.origin.actor.clone(),
        reason: unit.origin.reason.clone(),
        ticket: unit.origin.ticket.clone(),
        at: Some(convert::time(unit.stamp.wall_ms)),
        previous_owner: owner.map(ToString::to_string).unwrap_or_default(),
        shard: after.map(convert::shard),
        operation: operation.unwrap_or_default(),
        asked_by: String::new(),
    })
}

fn shard(record: Option<&Record>) -> Option<&Shard> {
    match record {
        Some(Record::Shard(shard)) => Some(shard),
        _ => None,
    }
}

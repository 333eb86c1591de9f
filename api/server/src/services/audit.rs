//! `AuditService`

use std::sync::Arc;

use prost::Message;
use proto::v1::{self, audit_service_server::AuditService};
use raft::View;
use statemachine::{Hash, Outcome, Recorded, Revision};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{
    Error, convert,
    cursor::Filter,
    history::Wanted,
    listing::{PAGE_BYTES_MAX, Page},
};

/// How many revisions are taken from the store at once.
const CHUNK: u64 = 256;
/// How many revisions one page looks at, so that a filter that matches nothing costs a bounded amount. Such a page
/// may be short or empty and still have a cursor.
const LOOKED_AT_MAX: u64 = 20_000;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        self.answer(request, |received| self.list_audit_page(received)).await
    }

    async fn list_audit_checkpoints(
        &self,
        request: Request<v1::ListAuditCheckpointsRequest>,
    ) -> Result<Response<v1::ListAuditCheckpointsResponse>, Status> {
        self.answer(request, |received| self.list_checkpoints_page(received))
            .await
    }
}

/// What a page of the trail is made of.
struct Scan {
    view: View,
    /// What is asked for.
    request: v1::ListAuditRecordsRequest,
    /// The range that is left, both ends included.
    first: Revision,
    last: Revision,
    limit: usize,
}

/// A page of the trail.
struct Scanned {
    items: Vec<v1::AuditRecord>,
    /// The last revision that was looked at, where there is more.
    more_after: Option<Revision>,
}

impl Api {
    async fn list_audit_page(
        &self,
        received: Received<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Error> {
        let call = Arc::clone(&received.call);
        let view = self.view(&received).await?;
        let request = received.message;
        let filter = Filter::new(
            "ListAuditRecords",
            &[
                &request.actor,
                &request.target,
                &request.action,
                &request.outcome.to_string(),
                &request.ticket,
                &request.after_revision.to_string(),
                if request.descending { "descending" } else { "ascending" },
            ],
        );
        let page = Page::begin(&self.core, view, request.limit, &request.cursor, filter)?;
        let mesh = &page.view.state().mesh;
        let (epoch, version_vector) = (mesh.epoch(), convert::version_vector(mesh));
        let floor = page.view.oldest().max(Revision(1));
        let asked = Revision(request.after_revision).next();
        if request.after_revision != 0 && asked < floor {
            return Err(raft::Error::Compacted { oldest: floor }.into());
        }
        let mut first = floor.max(asked);
        let mut last = page.revision();
        if let Some(after) = &page.after {
            let after = after
                .parse()
                .map_err(|_| Error::invalid("cursor", "not a place in the trail"))?;
            match request.descending {
                true => last = Revision(u64::saturating_sub(after, 1)),
                // What is gone since the page before is refused, not skipped.
                false if Revision(after).next() < floor => {
                    return Err(raft::Error::Compacted { oldest: floor }.into());
                }
                false => first = first.max(Revision(after).next()),
            }
        }
        let scan = Scan {
            view: page.view.clone(),
            request,
            first,
            last,
            limit: page.limit,
        };
        let read = move |wanted: &Wanted| scan.run(wanted);
        let read = self.core.history.read(&call.request_id, call.deadline, read);
        let Scanned { items, more_after } = read.await?;
        let next_cursor = more_after
            .map(|last| page.next(&self.core, None, last.to_string()))
            .unwrap_or_default();
        let revision = page.revision();
        let answer = v1::ListAuditRecordsResponse {
            items,
            next_cursor,
            revision: revision.0,
            epoch: epoch.0,
            version_vector,
        };
        Ok(self.at(revision, answer))
    }

    async fn list_checkpoints_page(
        &self,
        received: Received<v1::ListAuditCheckpointsRequest>,
    ) -> Result<Response<v1::ListAuditCheckpointsResponse>, Error> {
        let v1::ListAuditCheckpointsRequest { limit, cursor } = &received.message;
        let view = self.view(&received).await?;
        let page = Page::begin(
            &self.core,
            view,
            *limit,
            cursor,
            Filter::new("ListAuditCheckpoints", &[]),
        )?;
        let after = match &page.after {
            None => Revision(0),
            Some(after) => after
                .parse()
                .map_err(|_| Error::invalid("cursor", "not a checkpoint"))?,
        };
        let mesh = page.mesh(&self.core, &received.call).await?;
        let (checkpoints, more) = page.take(mesh.checkpoints_after(after));
        let next_cursor = match checkpoints.last() {
            Some(last) if more => page.next(&self.core, Some(&mesh), last.revision.to_string()),
            _ => String::new(),
        };
        let answer = v1::ListAuditCheckpointsResponse {
            items: checkpoints
                .iter()
                .map(|checkpoint| convert::checkpoint(&mesh, checkpoint))
                .collect(),
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.at(page.revision(), answer))
    }
}

impl Scan {
    /// Reads until the page is full, the range is through, or enough was looked at.
    fn run(self, wanted: &Wanted) -> Result<Scanned, Error> {
        let mut items = Vec::new();
        let (mut first, mut last) = (self.first, self.last);
        let (mut looked_at, mut bytes) = (0, 0);
        while first <= last {
            if wanted.is_over() || looked_at >= LOOKED_AT_MAX {
                break;
            }
            let units = self.chunk(first, last)?;
            if units.is_empty() {
                return Err(Error::internal(format!("history has no revision {first}")));
            }
            for (recorded, previous) in units {
                if items.len() == self.limit || bytes >= PAGE_BYTES_MAX {
                    return Ok(Scanned {
                        items,
                        more_after: Some(self.seen(first, last)),
                    });
                }
                let revision = recorded.unit.position.revision;
                match self.request.descending {
                    true => last = Revision(revision.0.saturating_sub(1)),
                    false => first = revision.next(),
                }
                looked_at += 1;
                if self.matches(&recorded) {
                    let item = convert::audit(&recorded, &previous.to_string(), self.request.include_canonical);
                    bytes += item.encoded_len();
                    items.push(item);
                }
            }
        }
        let more_after = (first <= last).then(|| self.seen(first, last));
        Ok(Scanned { items, more_after })
    }

    /// The revision that was looked at last, by what is left.
    fn seen(&self, first: Revision, last: Revision) -> Revision {
        match self.request.descending {
            true => last.next(),
            false => Revision(first.0.saturating_sub(1)),
        }
    }

    /// The next revisions in the order asked for, each with the chain's hash before it.
    fn chunk(&self, first: Revision, last: Revision) -> Result<Vec<(Arc<Recorded>, Hash)>, Error> {
        let (from, to) = match self.request.descending {
            true => (Revision(last.0.saturating_sub(CHUNK - 1)).max(first), last),
            false => (first, Revision(first.0.saturating_add(CHUNK - 1)).min(last)),
        };
        // One more in front, for its hash; below the oldest record that is kept there is a checkpoint that has it.
        let anchor = self.anchor(from);
        let front = match anchor {
            Some(_) => from,
            None => Revision(from.0.saturating_sub(1)).max(Revision(1)),
        };
        let limit = usize::try_from(CHUNK + 1).unwrap_or(usize::MAX);
        let units = self.view.units(front..=to, limit)?;
        let mut previous = anchor.unwrap_or_default();
        let mut pairs = Vec::with_capacity(units.len());
        for recorded in units {
            let chain = recorded.chain;
            if recorded.unit.position.revision >= from {
                pairs.push((recorded, previous));
            }
            previous = chain;
        }
        if self.request.descending {
            pairs.reverse();
        }
        Ok(pairs)
    }

    /// The hash before the oldest record that is kept, as a signed checkpoint has it.
    fn anchor(&self, from: Revision) -> Option<Hash> {
        let mesh = &self.view.state().mesh;
        if from > mesh.floor() {
            return None;
        }
        let before = mesh.checkpoints_below(from).next_back()?;
        (before.revision.next() == from).then_some(before.hash)
    }

    fn matches(&self, recorded: &Recorded) -> bool {
        let (unit, request) = (&recorded.unit, &self.request);
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let outcome = match unit.outcome {
            Outcome::Applied { .. } => v1::audit_record::Outcome::Applied,
            Outcome::Rejected(_) => v1::audit_record::Outcome::Rejected,
            Outcome::Replayed { .. } => v1::audit_record::Outcome::Replayed,
        };
        is(&request.actor, &unit.origin.actor)
            && is(&request.target, &unit.target)
            && is(&request.action, &unit.action)
            && is(&request.ticket, &unit.origin.ticket)
            && (request.outcome() == v1::audit_record::Outcome::Unspecified || request.outcome() == outcome)
    }
}

//! `AuditService`

use std::sync::Arc;

use prost::Message;
use proto::v1::{self, audit_service_server::AuditService};
use raft::View;
use statemachine::Revision;
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{
    Error, convert,
    cursor::Filter,
    filter::Trail,
    history::{self, Chained, Wanted},
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
    trail: Trail,
    /// Mesh time that it is limited to, in ms: from the one on, before the other.
    from_ms: Option<u64>,
    to_ms: Option<u64>,
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
        let filter = filter_of(&request)?;
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
            trail: Trail {
                actor: request.actor.clone(),
                target: request.target.clone(),
                action: request.action.clone(),
                ticket: request.ticket.clone(),
                outcome: request.outcome(),
            },
            from_ms: moment("from", request.from.as_ref())?,
            to_ms: moment("to", request.to.as_ref())?,
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
        let left = mesh.checkpoints_after(after);
        let records = left.map(|checkpoint| convert::checkpoint(&mesh, checkpoint));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), records, |last| last.revision.to_string());
        let answer = v1::ListAuditCheckpointsResponse {
            items,
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
        let (mut first, mut last) = self.range()?;
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
                if self.trail.selects(&recorded) {
                    let item = convert::audit(&recorded, previous, self.request.include_canonical);
                    bytes += item.encoded_len();
                    items.push(item);
                }
            }
        }
        let more_after = (first <= last).then(|| self.seen(first, last));
        Ok(Scanned { items, more_after })
    }

    /// What is left of the range once it is held against the times: mesh time never steps back, so times are revisions.
    fn range(&self) -> Result<(Revision, Revision), Error> {
        let (mut first, mut last) = (self.first, self.last);
        if let Some(from_ms) = self.from_ms {
            let since = self.view.first_since(from_ms)?;
            // What happened at the time may be among what is not kept: that must not look like nothing.
            if since == self.view.oldest() && since > Revision(1) {
                let oldest = self.view.unit(since)?;
                if oldest.is_some_and(|oldest| oldest.unit.stamp.mesh_time_ms > from_ms) {
                    return Err(raft::Error::Compacted { oldest: since }.into());
                }
            }
            first = first.max(since);
        }
        if let Some(to_ms) = self.to_ms {
            last = last.min(Revision(self.view.first_since(to_ms)?.0.saturating_sub(1)));
        }
        Ok((first, last))
    }

    /// The revision that was looked at last, by what is left.
    fn seen(&self, first: Revision, last: Revision) -> Revision {
        match self.request.descending {
            true => last.next(),
            false => Revision(first.0.saturating_sub(1)),
        }
    }

    /// The next revisions in the order asked for, each with the chain's hash before it.
    fn chunk(&self, first: Revision, last: Revision) -> Result<Chained, Error> {
        let (from, to) = match self.request.descending {
            true => (Revision(last.0.saturating_sub(CHUNK - 1)).max(first), last),
            false => (first, Revision(first.0.saturating_add(CHUNK - 1)).min(last)),
        };
        let mut pairs = history::chained(&self.view, from, to)?;
        if self.request.descending {
            pairs.reverse();
        }
        Ok(pairs)
    }
}

/// A time of the request in ms since 1970; the next millisecond where it lies between two.
fn moment(field: &str, time: Option<&prost_types::Timestamp>) -> Result<Option<u64>, Error> {
    let Some(time) = time else { return Ok(None) };
    let seconds = u64::try_from(time.seconds);
    let nanos = u64::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Some(
            seconds.saturating_mul(1000).saturating_add(nanos.div_ceil(1_000_000)),
        )),
        _ => Err(Error::invalid(field, "a time from 1970 on, as 2026-01-31T12:00:00Z")),
    }
}

/// What a cursor of a listing is good for.
fn filter_of(request: &v1::ListAuditRecordsRequest) -> Result<Filter, Error> {
    let text = |ms: Option<u64>| ms.map_or_else(String::new, |ms| ms.to_string());
    Ok(Filter::new(
        "ListAuditRecords",
        &[
            &request.actor,
            &request.target,
            &request.action,
            &request.outcome.to_string(),
            &request.ticket,
            &request.after_revision.to_string(),
            &text(moment("from", request.from.as_ref())?),
            &text(moment("to", request.to.as_ref())?),
            if request.descending { "descending" } else { "ascending" },
        ],
    ))
}

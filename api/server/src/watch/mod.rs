//! Watches: what happens, as it happens, from any position on.
//!
//! One [`Hub`] follows the history of the node. Watches of one subject share a [`feed::Feed`], in which every message is
//! encoded once; a watch itself ([`watcher::Watcher`]) holds only where it is. Who falls behind what the feed keeps reads
//! history until it has caught up, so nothing is left out: a watch goes on without a gap or it ends and says why.

mod feed;
mod frames;
mod hub;
pub(crate) mod replay;
mod request;
mod snapshot;
mod subject;
#[cfg(test)]
mod tests;
mod watcher;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, header};
use proto::{codes::Code, methods::Method, v1::watch_message::Begun};
use raft::View;
use statemachine::{MeshState, Position, Revision, TimelineId};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

pub(crate) use self::{frames::Wire, hub::Hub};
use self::{
    snapshot::Snapshot,
    subject::{Asked, Subject},
    watcher::{Beginning, Caller, Watcher},
};
use crate::{
    Error,
    context::Call,
    core::Core,
    cursor::Cursor,
    headers,
    metrics::{Counted, WatchLabels},
    rest,
};

/// How often there is a progress message where the caller does not say.
const PROGRESS_DEFAULT: Duration = Duration::from_secs(1);
const PROGRESS_MIN: Duration = Duration::from_millis(100);
const PROGRESS_MAX: Duration = Duration::from_secs(10);
/// How long a node that is behind a token waits to get there.
const FUTURE_WITHIN: Duration = Duration::from_secs(2);
/// Into how many parts the first interval is divided, so that watches that begin together do not progress together.
const SPREAD: u32 = 16;

/// A watch that is asked for.
pub(crate) struct Opening<'a> {
    pub(crate) method: &'static Method,
    pub(crate) call: Arc<Call>,
    pub(crate) address: SocketAddr,
    pub(crate) headers: &'a HeaderMap,
    /// The request's message, encoded.
    pub(crate) message: &'a [u8],
    pub(crate) wire: Wire,
    /// When it is over at the latest.
    pub(crate) ends: Instant,
}

/// Begins a watch.
///
/// # Errors
/// Everything that can be wrong with the request or its token; `rate_limited` and `resource_exhausted`.
pub(crate) async fn open(core: &Arc<Core>, opening: Opening<'_>) -> Result<Response<Body>, Error> {
    let Opening {
        method,
        call,
        address,
        headers,
        message,
        wire,
        ends,
    } = opening;
    let (subject, asked) = Subject::read(method, message)?;
    let interval = interval(&asked)?;
    let place = core.places.watch(&call.principal.subject)?;
    let (at, snapshot) = start(core, &subject, &asked, (headers, wire), call.deadline).await?;
    let begun = begun(core, &call, headers, interval);
    let token = match snapshot {
        Some(_) => String::new(),
        None => subject.token(core.mesh(), at),
    };
    let begun = subject.begun(begun, at, token);
    let labels = WatchLabels {
        action: method.action.as_str(),
        api: match wire {
            Wire::Grpc => "grpc",
            Wire::Sse => "sse",
        },
        transport: call.transport,
    };
    let counted = Counted::new(&core.metrics.watches.get_or_create_owned(&labels));
    let sent = core.metrics.watch_messages.get_or_create_owned(&labels.into());
    let feed = core.watches.feed(subject, core.mesh(), sent);
    let first = interval * (1 + core.watches.number() % SPREAD) / SPREAD;
    let caller = Caller {
        call,
        address,
        wire,
        interval,
        ends,
        _place: place,
        _counted: counted,
    };
    let beginning = Beginning {
        at,
        begun,
        snapshot,
        progress_at: Instant::now() + first,
    };
    let watcher = Watcher::new(Arc::clone(core), feed, caller, beginning);
    Ok(answer(core, wire, at.revision, watcher))
}

/// Where a watch begins, and what it begins with.
async fn start(
    core: &Core,
    subject: &Subject,
    asked: &Asked,
    (headers, wire): (&HeaderMap, Wire),
    deadline: Instant,
) -> Result<(Position, Option<Snapshot>), Error> {
    let token = match headers::text(headers, headers::LAST_EVENT_ID)? {
        Some(last) if !last.is_empty() && wire == Wire::Sse => last,
        _ => &asked.token,
    };
    if token.is_empty() {
        let view = core.handle.read(headers::consistency(headers)?, deadline).await?;
        return Ok(without_token(subject, asked, &view));
    }
    let Cursor { position, last } = Cursor::decode_as("token", token, core.mesh(), subject.filter)?;
    if !last.is_empty() {
        return Err(Error::new(Code::TokenMismatch, "the token is the cursor of a list")
            .with(|problem| problem.field = "token".to_owned()));
    }
    reach(core, position, deadline).await?;
    Ok((position, None))
}

/// What a watch says first.
fn begun(core: &Core, call: &Call, headers: &HeaderMap, interval: Duration) -> Begun {
    Begun {
        node: core.handle.node().to_string(),
        cluster: core.cluster.to_string(),
        mesh: core.mesh().to_string(),
        transport: call.transport.to_owned(),
        downgrade: headers::downgrade(headers).unwrap_or_default().to_owned(),
        epoch: core.handle.view().state().mesh.epoch().0,
        progress_interval: prost_types::Duration::try_from(interval).ok(),
    }
}

fn answer(core: &Core, wire: Wire, revision: Revision, watcher: Watcher) -> Response<Body> {
    let mut response = Response::new(Body::new(watcher));
    let out = response.headers_mut();
    *out = core.position_headers(revision);
    match wire {
        Wire::Grpc => {
            out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        Wire::Sse => {
            out.insert(header::CONTENT_TYPE, rest::EVENT_STREAM);
            out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    response
}

fn interval(asked: &Asked) -> Result<Duration, Error> {
    let Some(given) = asked.progress else {
        return Ok(PROGRESS_DEFAULT);
    };
    let wrong = || Error::invalid("progressInterval", "from 100ms to 10s");
    // Looked at before it is converted: the conversion negates, which the smallest number does not survive.
    if given.seconds < 0 || given.nanos < 0 {
        return Err(wrong());
    }
    let interval = Duration::try_from(given).map_err(|_| wrong())?;
    if (PROGRESS_MIN..=PROGRESS_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err(wrong())
    }
}

/// The same without a token.
fn without_token(subject: &Subject, asked: &Asked, view: &View) -> (Position, Option<Snapshot>) {
    let mesh = &view.state().mesh;
    match (asked.snapshot, subject.is_audit()) {
        (false, _) => (mesh.position(), None),
        (true, false) => (mesh.position(), Some(Snapshot::new(subject, mesh.clone()))),
        // Everything that is kept is what there is of the trail.
        (true, true) => {
            let revision = Revision(view.oldest().0.saturating_sub(1));
            let timeline = timeline_of(mesh, revision);
            (Position { timeline, revision }, None)
        }
    }
}

/// The timeline that a revision of a state's past is on.
fn timeline_of(mesh: &MeshState, revision: Revision) -> TimelineId {
    let timelines = mesh.mesh().map(|mesh| mesh.timelines.as_slice()).unwrap_or_default();
    let mut later = timelines.iter().rev();
    let found = later.find(|timeline| timeline.fork < revision || timeline.parent.is_none());
    found.map_or_else(TimelineId::default, |timeline| timeline.id)
}

/// Waits for this node to reach a token's position, for as long as a node may be behind.
///
/// # Errors
/// `future`, `diverged` or `compacted`.
async fn reach(core: &Core, position: Position, deadline: Instant) -> Result<(), Error> {
    let until = deadline.min(Instant::now() + FUTURE_WITHIN);
    let mut applied = core.handle.watch_applied();
    loop {
        applied.borrow_and_update();
        let view = core.handle.view();
        let error = match replay::check(position, &view) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // A timeline that this node has not heard of yet looks like one that was cut off.
        let may_come =
            matches!(error.code(), Code::Future | Code::Diverged) && position.revision > view.position().revision;
        if !may_come || !matches!(timeout_at(until, applied.changed()).await, Ok(Ok(()))) {
            return Err(error);
        }
    }
}

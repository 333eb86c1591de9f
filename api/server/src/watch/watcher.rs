//! One watch: the body of its answer. It holds where it is; what it sends is shared with all who watch the same.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body::{Body, Frame};
use proto::codes::Code;
use raft::env::Standing;
use statemachine::Position;
use tokio::time::Instant;
use tonic::Status;

use super::{
    feed::{Feed, Next},
    frames::{Event, Wire},
    replay::{self, Past},
    snapshot::Snapshot,
};
use crate::{
    Error,
    auth::Proof,
    context::Call,
    core::Core,
    metrics::{Counted, WatchEndLabels},
    rest,
    shares::Place,
};

/// What HTTP is handed when it asks for more.
type Handed = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// How often reading on may bring nothing before something is wrong.
const EMPTY_MAX: u32 = 3;

/// Who watches, how, and for how long.
pub(crate) struct Caller {
    pub(crate) call: Arc<Call>,
    pub(crate) address: SocketAddr,
    pub(crate) wire: Wire,
    /// How often there is a progress message at least.
    pub(crate) interval: Duration,
    pub(crate) ends: Instant,
    pub(crate) _place: Place,
    pub(crate) _counted: Counted,
}

/// Where a watch begins.
pub(crate) struct Beginning {
    pub(crate) at: Position,
    pub(crate) begun: Event,
    pub(crate) snapshot: Option<Snapshot>,
    /// When the first progress message is due.
    pub(crate) progress_at: Instant,
}

/// A watch.
pub(crate) struct Watcher {
    core: Arc<Core>,
    feed: Arc<Feed>,
    caller: Caller,
    /// Its place in the feed, and how often the feed has left its line as far as this watch has seen.
    key: usize,
    breaks: u64,
    /// Everything up to here was sent.
    at: Position,
    stage: Stage,
    /// Whether it can be gone on from `at`: not before a snapshot is whole.
    whole: bool,
    /// Whether it has caught up once.
    live: bool,
    empty: u32,
    progress_at: Instant,
    /// When the last message was handed out, until the next one is asked for and is not there.
    handed: Option<Instant>,
    /// Resolves once the certificate does not count any more that the connection began with.
    withdrawn: Option<BoxFuture<'static, ()>>,
    began: Instant,
    messages: u64,
    over: Option<&'static str>,
}

enum Stage {
    Begun(Box<(Event, Option<Snapshot>)>),
    Snapshot(Box<Snapshot>),
    /// Reading history.
    Reading(BoxFuture<'static, Result<Past, Error>>),
    /// What was read of it.
    Past(VecDeque<Arc<Event>>, Position),
    Live,
}

impl Watcher {
    pub(crate) fn new(core: Arc<Core>, feed: Arc<Feed>, caller: Caller, beginning: Beginning) -> Self {
        let Beginning {
            at,
            begun,
            snapshot,
            progress_at,
        } = beginning;
        let (key, breaks) = feed.enter(at.revision);
        let standing = caller.call.standing.clone();
        let withdrawn =
            standing.map(|standing| -> BoxFuture<'static, ()> { Box::pin(async move { standing.withdrawn().await }) });
        Self {
            core,
            feed,
            caller,
            key,
            breaks,
            at,
            whole: snapshot.is_none(),
            stage: Stage::Begun(Box::new((begun, snapshot))),
            live: false,
            empty: 0,
            progress_at,
            handed: None,
            withdrawn,
            began: Instant::now(),
            messages: 0,
            over: None,
        }
    }

    /// Why the watch ends now, if it does.
    fn ended(&self, now: Instant) -> Result<(), Error> {
        if self.core.stop.is_cancelled() {
            return Err(Error::new(Code::Unavailable, "this node is stopping").hint("go on at another node"));
        }
        self.core.check_serves()?;
        if !self.core.session_stands(&self.caller.call.principal) {
            return Err(
                Error::new(Code::CredentialExpired, "the session of this watch was ended")
                    .hint("sign in again, and go on with the token"),
            );
        }
        if self.caller.call.standing.as_ref().is_some_and(Standing::is_withdrawn) {
            return Err(self.disowned());
        }
        let expires = self.caller.call.principal.expires_s;
        if expires.is_some_and(|end| end <= self.core.clock.wall_ms() / 1000) {
            return Err(
                Error::new(Code::CredentialExpired, "the credential of this watch has expired")
                    .hint("get a new one and go on with the token"),
            );
        }
        if now >= self.caller.ends {
            return Err(Error::new(Code::DeadlineExceeded, "the stream's time is over").hint("go on with the token"));
        }
        let patience = Duration::from_millis(self.core.config.deadlines.watch_stall_ms);
        match self.handed {
            Some(handed) if now.saturating_duration_since(handed) > patience => {
                let measured = format!("{} ms", now.saturating_duration_since(handed).as_millis());
                let detail = "this watch took nothing for too long while there was something for it";
                Err(too_slow(detail, measured, format!("{} ms", patience.as_millis())))
            }
            _ => Ok(()),
        }
    }

    /// The authority of the connection's certificate was dropped, and the connection with it.
    fn disowned(&self) -> Error {
        match self.caller.call.principal.proof {
            Proof::Certificate => Error::new(
                Code::CredentialExpired,
                "the authority of this watch's certificate is not trusted here any more",
            )
            .hint("get a certificate from a current authority, and go on with the token"),
            Proof::Jwt | Proof::Session | Proof::Loopback => Error::new(
                Code::Unavailable,
                "the connection is closed: the authority of its certificate is not trusted here any more",
            )
            .hint("connect without it, or with one from a current authority, and go on with the token"),
        }
    }

    /// Refuses to go on with a watch that once had caught up and has fallen too far behind.
    fn keeps_up(&self, lag: u64) -> Result<(), Error> {
        let most = self.core.config.limits.watch_lag_revisions_max;
        if self.live && lag > most {
            let detail = "this watch has fallen too far behind";
            return Err(too_slow(
                detail,
                format!("{lag} revisions"),
                format!("{most} revisions"),
            ));
        }
        Ok(())
    }

    /// When the watch has to be looked at in any case.
    fn due(&self, now: Instant) -> Instant {
        let mut due = self.progress_at.min(self.caller.ends);
        if let Some(end_s) = self.caller.call.principal.expires_s {
            let left_ms = end_s.saturating_mul(1000).saturating_sub(self.core.clock.wall_ms());
            due = due.min(now + Duration::from_millis(left_ms.min(3_600_000)));
        }
        due
    }

    fn hand(&mut self, event: &Event, now: Instant) -> Handed {
        let bytes = event.on(self.caller.wire, &self.feed.subject.method.output);
        self.handed = Some(now);
        self.progress_at = now + self.caller.interval;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    /// Hands out what happened at a revision.
    fn happened(&mut self, event: &Event, now: Instant) -> Handed {
        self.at = event.position;
        self.messages += 1;
        self.feed.sent.inc();
        self.hand(event, now)
    }

    fn poll_next(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<Handed, Error> {
        loop {
            let due = self.due(now);
            match &mut self.stage {
                Stage::Begun(_) => return Ok(self.begin(now)),
                Stage::Snapshot(snapshot) => {
                    let (piece, last) = snapshot.next(&self.feed.subject, &self.feed.mesh);
                    if last {
                        self.whole = true;
                        self.stage = Stage::Live;
                    }
                    return Ok(self.hand(&piece, now));
                }
                Stage::Reading(read) => match read.as_mut().poll(cx) {
                    Poll::Ready(past) => {
                        let Past { events, upto } = past?;
                        self.empty = if upto == self.at { self.empty + 1 } else { 0 };
                        if self.empty > EMPTY_MAX {
                            return Err(Error::internal("history does not go on where it should"));
                        }
                        self.stage = Stage::Past(events, upto);
                    }
                    Poll::Pending => {
                        self.feed.wait(self.key, due, cx);
                        return Ok(Poll::Pending);
                    }
                },
                Stage::Past(events, upto) => {
                    if let Some(event) = events.pop_front() {
                        return Ok(self.happened(&event, now));
                    }
                    self.at = *upto;
                    self.stage = Stage::Live;
                    self.keeps_up(self.feed.lag(self.at.revision))?;
                    if now >= self.progress_at {
                        let progress = self.feed.progress(self.at);
                        return Ok(self.hand(&progress, now));
                    }
                }
                Stage::Live => match self.feed.next(self.key, self.breaks, self.at, due, cx) {
                    Next::Event(event, lag) => {
                        self.keeps_up(lag)?;
                        return Ok(self.happened(&event, now));
                    }
                    Next::Behind => {
                        self.keeps_up(self.feed.lag(self.at.revision))?;
                        self.breaks = self.feed.breaks();
                        let (core, feed) = (Arc::clone(&self.core), Arc::clone(&self.feed));
                        let request_id = self.caller.call.request_id.clone();
                        self.stage = Stage::Reading(Box::pin(replay::past(core, feed, self.at, request_id)));
                    }
                    Next::Idle(head) => {
                        self.live = true;
                        if head.revision > self.at.revision {
                            self.at = head;
                        }
                        if now < self.progress_at {
                            return Ok(Poll::Pending);
                        }
                        let progress = self.feed.progress(self.at);
                        return Ok(self.hand(&progress, now));
                    }
                },
            }
        }
    }

    fn begin(&mut self, now: Instant) -> Handed {
        let Stage::Begun(beginning) = std::mem::replace(&mut self.stage, Stage::Live) else {
            return Poll::Ready(None);
        };
        let (begun, snapshot) = *beginning;
        if let Some(snapshot) = snapshot {
            self.stage = Stage::Snapshot(Box::new(snapshot));
        }
        let bytes = begun.on(self.caller.wire, &self.feed.subject.method.output);
        self.handed = Some(now);
        Poll::Ready(Some(Ok(Frame::data(match self.caller.wire {
            Wire::Grpc => bytes,
            Wire::Sse => {
                let mut first = BytesMut::from(rest::RETRY.as_bytes());
                first.extend_from_slice(&bytes);
                first.freeze()
            }
        }))))
    }

    /// The last thing that the client hears: why, and where to go on.
    fn end(&mut self, error: Error) -> Frame<Bytes> {
        self.over = Some(error.code().as_str());
        let error = match self.whole {
            true => error.with(|problem| problem.token = self.feed.subject.token(&self.feed.mesh, self.at)),
            false => error,
        };
        let request_id = &self.caller.call.request_id;
        match self.caller.wire {
            Wire::Grpc => {
                let mut trailers = http::HeaderMap::new();
                let _ = error.into_status(request_id).add_header(&mut trailers);
                Frame::trailers(trailers)
            }
            Wire::Sse => Frame::data(rest::error_event(&error, request_id)),
        }
    }
}

fn too_slow(detail: &str, measured: String, limit: String) -> Error {
    Error::new(Code::WatchTooSlow, detail)
        .with(|problem| (problem.measured, problem.limit) = (measured, limit))
        .hint("go on with the token, and read faster or watch less")
}

impl Body for Watcher {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Handed {
        let this = self.get_mut();
        if this.over.is_some() {
            return Poll::Ready(None);
        }
        let now = Instant::now();
        let polled = this.ended(now).and_then(|()| this.poll_next(now, cx));
        match polled {
            Ok(Poll::Pending) => {
                this.handed = None;
                // Whoever withdraws it wakes this watch by being waited for.
                match this.withdrawn.as_mut().map(|withdrawn| withdrawn.as_mut().poll(cx)) {
                    Some(Poll::Ready(())) => {
                        let error = this.disowned();
                        Poll::Ready(Some(Ok(this.end(error))))
                    }
                    Some(Poll::Pending) | None => Poll::Pending,
                }
            }
            Ok(ready) => ready,
            Err(error) => Poll::Ready(Some(Ok(this.end(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_some()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.feed.leave(self.key);
        let (call, end) = (&self.caller.call, self.over.unwrap_or("left"));
        let labels = WatchEndLabels { end };
        self.core.metrics.watch_ends.get_or_create(&labels).inc();
        tracing::info!(
            target: "meshkit::access",
            request_id = %call.request_id,
            action = call.method.action.as_str(),
            principal = %call.principal.subject,
            transport = call.transport,
            address = %self.caller.address,
            end,
            revision = self.at.revision.0,
            messages = self.messages,
            lasted_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "a watch has ended"
        );
    }
}

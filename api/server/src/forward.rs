//! Carries a request to the leader for a caller that asked for it. One hop, over one HTTP/2 connection that is kept.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, header, request::Parts as Head};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use proto::codes::Code;
use raft::{
    env::{Clock, Dial, PeerIdentity, Purpose, Target},
    error::Leader,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use crate::{
    Error,
    auth::forwarded::{self, Forwarded},
    body::Bounded,
    headers::{REQUEST_ID, ROUTE, TIMEOUT, TRANSPORT_DOWNGRADE},
    trace,
};

/// Headers that belong to one connection or one credential and are not carried on.
const LEFT_BEHIND: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Carries requests to the leader.
pub(crate) struct Forwarder {
    dial: Arc<dyn Dial>,
    connect_within: Duration,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Kept>>,
}

/// The connection that is kept.
struct Kept {
    to: Leader,
    /// Who the leader proved to be.
    identity: Option<PeerIdentity>,
    sender: SendRequest<Full<Bytes>>,
}

impl Kept {
    /// Whether further requests can go this way.
    fn is_good(&self, now_s: u64) -> bool {
        let disowned = |identity: &PeerIdentity| identity.standing.is_withdrawn() || identity.has_expired(now_s);
        !self.sender.is_closed() && !self.identity.as_ref().is_some_and(disowned)
    }
}

impl Forwarder {
    pub(crate) fn new(
        dial: Arc<dyn Dial>,
        clock: Arc<dyn Clock>,
        connect_within: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self {
            dial,
            connect_within,
            stop,
            clock,
            current: Mutex::new(None),
        }
    }

    /// Sends a request to the leader and answers what it answers.
    ///
    /// # Errors
    /// `unavailable` or `deadline_exceeded`, saying whether the request may have taken effect.
    pub(crate) async fn send(
        &self,
        leader: &Leader,
        head: &Head,
        body: Bytes,
        on_behalf: &Forwarded,
        request_id: &str,
        deadline: Instant,
    ) -> Result<Response<Body>, Error> {
        let request = || request(leader, head, body.clone(), on_behalf, request_id, deadline);
        let mut sender = self.sender(leader, deadline).await?;
        let mut answer = tokio::time::timeout_at(deadline, sender.send_request(request()?)).await;
        if let Ok(Err(error)) = &answer
            && error.is_canceled()
        {
            // The connection was closed before the request left: nothing has happened yet.
            self.forget(leader);
            sender = self.sender(leader, deadline).await?;
            answer = tokio::time::timeout_at(deadline, sender.send_request(request()?)).await;
        }
        match answer {
            Ok(Ok(response)) => Ok(answered(response, deadline, &self.stop)),
            Ok(Err(error)) => {
                self.forget(leader);
                Err(uncertain(
                    Code::Unavailable,
                    format!("the leader's answer was lost: {error}"),
                ))
            }
            Err(_) => Err(uncertain(
                Code::DeadlineExceeded,
                "the leader did not answer in time".to_owned(),
            )),
        }
    }

    /// The kept connection, or a new one.
    async fn sender(&self, leader: &Leader, deadline: Instant) -> Result<SendRequest<Full<Bytes>>, Error> {
        {
            let current = self.current.lock();
            if let Some(kept) = &*current
                && kept.to == *leader
                && kept.is_good(self.clock.wall_ms() / 1000)
            {
                return Ok(kept.sender.clone());
            }
        }
        let unreachable = |why: String| {
            Error::new(
                Code::Unavailable,
                format!("the leader, node {}, cannot be reached from here: {why}", leader.node),
            )
            .with(|problem| problem.retry_after_ms = 200)
            .hint("nothing was changed; try again, or send the request to the leader itself")
        };
        let until = deadline.min(Instant::now() + self.connect_within);
        let connect = async {
            let target = Target {
                node: Some(leader.node),
                address: leader.api.clone(),
                purpose: Purpose::Api,
            };
            let (stream, info) = self.dial.dial(&target).await.map_err(|error| error.to_string())?;
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(10));
            let (sender, connection) = builder
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((sender, connection, info.identity))
        };
        let (sender, connection, identity) = tokio::time::timeout_at(until, connect)
            .await
            .map_err(|_| unreachable("no connection in time".to_owned()))?
            .map_err(unreachable)?;
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
        *self.current.lock() = Some(Kept {
            to: leader.clone(),
            identity,
            sender: sender.clone(),
        });
        Ok(sender)
    }

    fn forget(&self, leader: &Leader) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|kept| kept.to == *leader) {
            *current = None;
        }
    }
}

fn uncertain(code: Code, detail: String) -> Error {
    Error::new(code, detail).hint(
        "the request may have taken effect all the same: a retry with the same Idempotency-Key is safe, \
         a retry without one may apply it twice",
    )
}

fn request(
    leader: &Leader,
    head: &Head,
    body: Bytes,
    on_behalf: &Forwarded,
    request_id: &str,
    deadline: Instant,
) -> Result<Request<Full<Bytes>>, Error> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme("https")
        .authority(leader.api.as_str())
        .path_and_query(path)
        .build();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri.map_err(|_| Error::internal("the leader's address is not one"))?;
    *request.version_mut() = Version::HTTP_2;
    let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
    let headers: &mut HeaderMap = request.headers_mut();
    *headers = head.headers.clone();
    for name in LEFT_BEHIND {
        headers.remove(name);
    }
    headers.remove(ROUTE);
    headers.remove(TIMEOUT);
    // Counted here, where the client fell back to.
    headers.remove(TRANSPORT_DOWNGRADE);
    headers.remove("grpc-timeout");
    headers.remove("keep-alive");
    let text = |value: String| HeaderValue::try_from(value).map_err(|_| Error::internal("a header that is none"));
    trace::hand_on(headers);
    headers.insert(HeaderName::from_static(TIMEOUT), text(format!("{left_ms}ms"))?);
    headers.insert(HeaderName::from_static(REQUEST_ID), text(request_id.to_owned())?);
    let on_behalf = on_behalf
        .encode()
        .ok_or_else(|| Error::internal("a caller that cannot be named in a header"))?;
    headers.insert(HeaderName::from_static(forwarded::HEADER), on_behalf);
    Ok(request)
}

fn answered(response: Response<hyper::body::Incoming>, deadline: Instant, stop: &CancellationToken) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    for name in [
        header::ALT_SVC,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        head.headers.remove(name);
    }
    let body = body.map_err(|error| Status::unavailable(format!("the leader's answer broke off: {error}")));
    Response::from_parts(head, Body::new(Bounded::new(body, deadline, stop.clone())))
}

//! One connection, HTTP/2 or HTTP/3, as gRPC wants it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api_quic::{Dialled, Ended};
use futures::{FutureExt as _, future::BoxFuture};
use hyper::{
    body::{Body as HttpBody, Bytes, Frame, SizeHint},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body};

use crate::{
    Downgrade, Endpoint,
    connect::{BoxStream, ConnectError, Stage, root_cause},
};

/// Requests in flight on one connection at most; more wait their turn.
const IN_FLIGHT_MAX: usize = 1_024;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A live connection; cloning shares it.
#[derive(Clone)]
pub(crate) struct Connection {
    wire: Wire,
    pub(crate) origin: http::Uri,
    /// Why it is not HTTP/3, where that was wanted.
    pub(crate) downgrade: Option<Downgrade>,
    permits: Arc<Semaphore>,
}

#[derive(Clone)]
enum Wire {
    H2 {
        send: SendRequest<Body>,
        ended: Arc<Mutex<Option<String>>>,
    },
    H3(Dialled),
}

impl Connection {
    /// Begins HTTP/2 on a stream.
    pub(crate) async fn h2(
        endpoint: &Endpoint,
        stream: BoxStream,
        downgrade: Option<Downgrade>,
    ) -> Result<Self, ConnectError> {
        let (send, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::new(Stage::Http, &error))?;
        let ended = Arc::new(Mutex::new(None));
        let note = Arc::clone(&ended);
        // Ends by itself: when the last handle is dropped, or when the connection breaks.
        tokio::spawn(async move {
            let why = match driver.await {
                Ok(()) => "the server closed the connection".to_owned(),
                Err(error) => root_cause(&error),
            };
            *note.lock() = Some(why);
        });
        Self::new(endpoint, Wire::H2 { send, ended }, downgrade)
    }

    /// HTTP/3 on a QUIC connection.
    pub(crate) fn h3(endpoint: &Endpoint, dialled: Dialled) -> Result<Self, ConnectError> {
        Self::new(endpoint, Wire::H3(dialled), None)
    }

    fn new(endpoint: &Endpoint, wire: Wire, downgrade: Option<Downgrade>) -> Result<Self, ConnectError> {
        let origin = http::Uri::builder()
            .scheme(if endpoint.is_tls() { "https" } else { "http" })
            .authority(endpoint.authority())
            .path_and_query("/")
            .build()
            .map_err(|error| ConnectError::new(Stage::Http, &error))?;
        Ok(Self {
            wire,
            origin,
            downgrade,
            permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        })
    }

    /// Whether requests can be sent on it, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        match &self.wire {
            Wire::H2 { send, .. } => !send.is_closed(),
            Wire::H3(dialled) => dialled.ended().is_none(),
        }
    }

    /// `h3` or `h2`.
    pub(crate) fn transport(&self) -> &'static str {
        match &self.wire {
            Wire::H2 { .. } => "h2",
            Wire::H3(_) => "h3",
        }
    }

    /// What came over UDP so far; none over TCP, which the system watches over.
    pub(crate) fn heard(&self) -> Option<u64> {
        match &self.wire {
            Wire::H2 { .. } => None,
            Wire::H3(dialled) => Some(dialled.datagrams_received()),
        }
    }

    /// Whether it was over UDP and ended because nothing was heard any more: TCP may do better.
    pub(crate) fn fell_silent(&self) -> bool {
        match &self.wire {
            Wire::H2 { .. } => false,
            Wire::H3(dialled) => dialled.ended() == Some(Ended::Silent),
        }
    }

    /// Why the connection ended, where it did; waits a moment, for the reason arrives beside the failed request.
    pub(crate) async fn why_ended(&self) -> Option<String> {
        for _ in 0..10 {
            let (why, alive) = match &self.wire {
                Wire::H2 { send, ended } => (ended.lock().clone(), !send.is_closed()),
                Wire::H3(dialled) => {
                    let why = dialled.ended().map(|ended| ended.to_string());
                    (why.clone(), why.is_none())
                }
            };
            if why.is_some() || alive {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.wire {
            Wire::H2 { send, .. } => send.poll_ready(cx).map_err(Into::into),
            // Waits for its turn with the request itself.
            Wire::H3(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let wire = self.wire.clone();
        let permits = Arc::clone(&self.permits);
        async move {
            let _permit = permits.acquire_owned().await?;
            match wire {
                Wire::H2 { mut send, .. } => Ok(send.send_request(request).await?.map(Incoming::H2)),
                Wire::H3(dialled) => {
                    let answer = dialled.client().send(request).await.map_err(status)?;
                    Ok(answer.map(|body| Incoming::H3(Box::new(body))))
                }
            }
        }
        .boxed()
    }
}

/// The body of an answer.
pub(crate) enum Incoming {
    H2(hyper::body::Incoming),
    H3(Box<api_quic::Body>),
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::H2(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::H3(body) => Pin::new(body.as_mut())
                .poll_frame(cx)
                .map_err(|error| status(error).into()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::H2(body) => body.is_end_stream(),
            Self::H3(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H2(body) => body.size_hint(),
            Self::H3(body) => body.size_hint(),
        }
    }
}

/// What gRPC makes of HTTP/3's errors, as it does of HTTP/2's by itself (RST_STREAM and GOAWAY in gRPC's own mapping).
/// The error stays with it as the source.
fn status(error: api_quic::Error) -> Status {
    use api_quic::{Error, h3::error::Code as H3};
    let code = match &error {
        _ if error.is_untouched() => Code::Unavailable,
        Error::Connection(_) | Error::Closing => Code::Unavailable,
        Error::Stream(code) if *code == H3::H3_REQUEST_CANCELLED.value() => Code::Cancelled,
        Error::Stream(code) if *code == H3::H3_EXCESSIVE_LOAD.value() => Code::ResourceExhausted,
        Error::HeaderTooBig(..) => Code::ResourceExhausted,
        Error::Config(_) | Error::Stream(_) | Error::Length { .. } | Error::Other(_) => Code::Internal,
    };
    let mut status = Status::new(code, error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// True where a request failed before the server did anything of it.
pub(crate) fn is_untouched(status: &Status) -> bool {
    std::error::Error::source(status)
        .and_then(|source| source.downcast_ref::<api_quic::Error>())
        .is_some_and(api_quic::Error::is_untouched)
}

//! One HTTP/2 connection per endpoint, opened when it is first needed and again after it broke.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};
use tonic::body::Body;

use crate::{
    Endpoint,
    connect::{Connect, ConnectError, Stage, root_cause},
};

/// Connections kept at most; leaders that were followed count too.
const CONNECTIONS_MAX: usize = 32;
/// Requests in flight on one connection at most; more wait their turn.
const IN_FLIGHT_MAX: usize = 1_024;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The open connections of a client.
pub(crate) struct Pool {
    connector: Arc<dyn Connect>,
    slots: Mutex<BTreeMap<Endpoint, Arc<Slot>>>,
}

/// The place of one endpoint's connection. Whoever holds the gate opens it; the others wait for that.
#[derive(Default)]
struct Slot {
    gate: tokio::sync::Mutex<()>,
    live: Mutex<Option<Connection>>,
}

/// A live HTTP/2 connection; cloning shares it.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Body>,
    pub(crate) origin: http::Uri,
    permits: Arc<Semaphore>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Pool {
    pub(crate) fn new(connector: Arc<dyn Connect>) -> Self {
        Self {
            connector,
            slots: Mutex::default(),
        }
    }

    /// The connection to `endpoint`, opened now if there is none that lives. Fails at `deadline` at the latest.
    pub(crate) async fn get(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, ConnectError> {
        let slot = self.slot(endpoint);
        if let Some(connection) = slot.living() {
            return Ok(connection);
        }
        let open = async {
            let _gate = slot.gate.lock().await;
            if let Some(connection) = slot.living() {
                return Ok(connection);
            }
            let connection = self.open(endpoint).await?;
            *slot.live.lock() = Some(connection.clone());
            Ok(connection)
        };
        match tokio::time::timeout_at(deadline, open).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError {
                stage: Stage::Timeout,
                detail: "no answer".to_owned(),
            }),
        }
    }

    /// Forgets the connection to `endpoint`, so that the next call opens another. Calls in flight on it go on.
    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        if let Some(slot) = self.slots.lock().get(endpoint) {
            *slot.live.lock() = None;
        }
    }

    fn slot(&self, endpoint: &Endpoint) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if slots.len() >= CONNECTIONS_MAX && !slots.contains_key(endpoint) {
            // Only a cluster that changes its addresses for ever comes here; any one may go, it is opened again.
            slots.pop_first();
        }
        Arc::clone(slots.entry(endpoint.clone()).or_default())
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let stream = self.connector.connect(endpoint).await?;
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
        let origin = http::Uri::builder()
            .scheme(if endpoint.is_tls() { "https" } else { "http" })
            .authority(endpoint.authority())
            .path_and_query("/")
            .build()
            .map_err(|error| ConnectError::new(Stage::Http, &error))?;
        Ok(Connection {
            send,
            origin,
            permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            ended,
        })
    }
}

impl Slot {
    fn living(&self) -> Option<Connection> {
        self.live
            .lock()
            .as_ref()
            .filter(|connection| !connection.send.is_closed())
            .cloned()
    }
}

impl Connection {
    /// Why the connection ended, where it did; waits a moment, for the reason arrives beside the failed request.
    pub(crate) async fn why_ended(&self) -> Option<String> {
        for _ in 0..10 {
            if let Some(why) = self.ended.lock().clone() {
                return Some(why);
            }
            if !self.send.is_closed() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.send.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut send = self.send.clone();
        let permits = Arc::clone(&self.permits);
        async move {
            let _permit = permits.acquire_owned().await?;
            Ok(send.send_request(request).await?)
        }
        .boxed()
    }
}

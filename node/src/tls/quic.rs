//! Accepting QUIC connections, beside TCP on the same port number, with the same certificates and the same bounds.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use api_quic::config::{self as settings, Transport};
use api_quic::quinn;
use api_server::ports::QuicListen;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use raft::env::{ConnInfo, Transport as Label};

use super::Certificates;
use super::files::Loaded;
use super::standing::Side;
use crate::config::Config;

/// Connections whose handshake is done, waiting to be taken.
const READY_MAX: usize = 64;

/// What one client may send on one stream before it is read, and on all together, in bytes: as over HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// What is kept of answers to one client until they are acknowledged, in bytes.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// What is kept of a connection that nobody has looked at yet, in bytes, and of all of these together.
const UNSEEN_BYTES: u64 = 16 * 1024;
const UNSEEN_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// The production [`QuicListen`].
///
/// Accepting runs in a task of its own, as over TCP. A client that comes when all places for handshakes are taken is
/// refused at once, and goes to TCP; when many are taken, it has to show first that it receives what is sent to its
/// address (Retry, RFC 9000 §8.1.2), so that places cannot be taken under false addresses.
#[derive(Debug)]
pub struct QuicDoor {
    ready: mpsc::Receiver<Ready>,
    endpoint: quinn::Endpoint,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Ready(quinn::Connection, ConnInfo);

impl QuicDoor {
    /// Listens at `address`. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: SocketAddr, certificates: Arc<Certificates>, config: &Config) -> io::Result<Self> {
        let api = &config.api;
        let transport = Transport {
            requests_max: u32::try_from(config.limits.streams_per_connection_max).unwrap_or(u32::MAX),
            stream_window_bytes: STREAM_WINDOW_BYTES,
            connection_window_bytes: CONNECTION_WINDOW_BYTES,
            send_window_bytes: SEND_WINDOW_BYTES,
            silence_max: Duration::from_millis(api.ping_interval_ms + api.ping_timeout_ms),
            ping_interval: Some(Duration::from_millis(api.ping_interval_ms)),
        };
        let places = usize::try_from(config.tls.handshakes_max).unwrap_or(usize::MAX);
        let accepting = Accepting {
            certificates,
            transport,
            places: Arc::new(Semaphore::new(places)),
            unproved: usize::try_from(config.limits.quic_handshakes_unproved_max).unwrap_or(usize::MAX),
            places_max: places,
            timeout: Duration::from_millis(config.tls.handshake_timeout_ms),
        };
        let current = accepting.certificates.current();
        let socket = UdpSocket::bind(address)?;
        let endpoint = settings::server_endpoint(socket, accepting.settings(&current)?, current.endpoint.clone())?;
        let (send, ready) = mpsc::channel(READY_MAX);
        let task = tokio::spawn(accepting.run(endpoint.clone(), send));
        Ok(Self {
            ready,
            endpoint,
            _accepting: AbortOnDropHandle::new(task),
        })
    }
}

impl QuicListen for QuicDoor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(quinn::Connection, ConnInfo)>> {
        async move {
            match self.ready.recv().await {
                Some(Ready(connection, info)) => Ok((connection, info)),
                None => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the listener has stopped")),
            }
        }
        .boxed()
    }
}

impl Drop for QuicDoor {
    fn drop(&mut self) {
        // Connections that are up go on; whoever comes now is refused.
        self.endpoint.set_server_config(None);
    }
}

/// The task behind a [`QuicDoor`].
struct Accepting {
    certificates: Arc<Certificates>,
    transport: Transport,
    /// For handshakes.
    places: Arc<Semaphore>,
    places_max: usize,
    /// How many of them are taken before addresses have to be proved.
    unproved: usize,
    timeout: Duration,
}

impl Accepting {
    /// The settings of a connection that goes by these certificates.
    fn settings(&self, current: &Loaded) -> io::Result<quinn::ServerConfig> {
        let mut settings = settings::server(current.quic.clone(), &self.transport).map_err(io::Error::other)?;
        settings
            .max_incoming(self.places_max)
            .incoming_buffer_size(UNSEEN_BYTES)
            .incoming_buffer_size_total(UNSEEN_BYTES_TOTAL);
        Ok(settings)
    }

    async fn run(self, endpoint: quinn::Endpoint, ready: mpsc::Sender<Ready>) {
        // Dropped with the task, and all handshakes with it.
        let mut handshakes = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            while handshakes.try_join_next().is_some() {}
            let Ok(permit) = self.places.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let taken = self.places_max - self.places.available_permits();
            if taken > self.unproved && !incoming.remote_address_validated() {
                // Fails where a token came that is not good, which a new one would not mend.
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
                continue;
            }
            handshakes.spawn(self.shake(incoming, permit, ready.clone()));
        }
    }

    /// One handshake, within its time.
    fn shake(
        &self,
        incoming: quinn::Incoming,
        permit: OwnedSemaphorePermit,
        ready: mpsc::Sender<Ready>,
    ) -> impl Future<Output = ()> + use<> {
        let (certificates, current, timeout) = (self.certificates.clone(), self.certificates.current(), self.timeout);
        let settings = self.settings(&current);
        let peer = incoming.remote_address();
        async move {
            let shaken = async { handshake(&certificates, &current, incoming, Arc::new(settings?)).await };
            match tokio::time::timeout(timeout, shaken).await {
                Ok(Ok(connection)) => {
                    // The only failure is that nobody listens any more.
                    let _ = ready.send(connection).await;
                }
                Ok(Err(error)) => tracing::debug!(door = "quic", %peer, %error, "connection refused"),
                Err(_) => tracing::debug!(door = "quic", %peer, "handshake took too long"),
            }
            // Held until the connection was taken: what waits to be taken is bounded too.
            drop(permit);
        }
    }
}

async fn handshake(
    certificates: &Certificates,
    current: &Arc<Loaded>,
    incoming: quinn::Incoming,
    settings: Arc<quinn::ServerConfig>,
) -> io::Result<Ready> {
    let connection = incoming.accept_with(settings)?.await?;
    let chain = api_quic::peer_certificates(&connection);
    let identity = certificates
        .admit(Side::Accepted, Some(&chain), current)
        .inspect_err(|_| connection.close(quinn::VarInt::from_u32(0x10c), b"no identity"))?;
    let info = ConnInfo {
        peer: connection.remote_address(),
        identity,
        transport: Some(Label::H3),
        tls: true,
    };
    Ok(Ready(connection, info))
}

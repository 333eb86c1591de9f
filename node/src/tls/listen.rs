//! Accepting connections: many handshakes at once, none for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use raft::env::{BoxStream, ConnInfo, Listen, Transport};

use super::Certificates;
use super::standing::Side;
use crate::config::sections;

/// Which of the node's two doors a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Clients and nodes; a certificate is welcome, not needed.
    Api,
    /// Nodes; a certificate of the mesh's authority is needed. Whose it has to be, consensus
    /// judges, and says so to who is refused.
    Raft,
}

impl Door {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Raft => "raft",
        }
    }
}

/// How long accepting pauses when the machine is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections whose handshake is done, waiting to be taken.
const READY_MAX: usize = 64;

/// The production [`Listen`]: TCP, then TLS.
///
/// Accepting runs in a task of its own, so that one slow handshake holds up nobody, and a
/// connection that is ready is lost only with the listener.
#[derive(Debug)]
pub struct TlsListen {
    local: SocketAddr,
    ready: mpsc::Receiver<Ready>,
    _accepting: AbortOnDropHandle<()>,
}

struct Ready(BoxStream, ConnInfo);

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ready").field(&self.1).finish()
    }
}

impl TlsListen {
    /// Listens at `address`. Has to be called inside a tokio runtime.
    pub async fn bind(
        address: SocketAddr,
        door: Door,
        certificates: Arc<Certificates>,
        tls: &sections::Tls,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let (send, ready) = mpsc::channel(READY_MAX);
        let accepting = Accepting {
            listener,
            door,
            certificates,
            permits: Arc::new(Semaphore::new(
                usize::try_from(tls.handshakes_max).unwrap_or(usize::MAX),
            )),
            timeout: Duration::from_millis(tls.handshake_timeout_ms),
            ready: send,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(accepting.run()));
        Ok(Self {
            local,
            ready,
            _accepting: task,
        })
    }
}

impl Listen for TlsListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, ConnInfo)>> {
        async move {
            match self.ready.recv().await {
                Some(Ready(stream, info)) => Ok((stream, info)),
                None => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the listener has stopped")),
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// The task behind a [`TlsListen`].
struct Accepting {
    listener: TcpListener,
    door: Door,
    certificates: Arc<Certificates>,
    permits: Arc<Semaphore>,
    timeout: Duration,
    ready: mpsc::Sender<Ready>,
}

impl Accepting {
    async fn run(self) {
        // Dropped with the task, and all handshakes with it.
        let mut handshakes = JoinSet::new();
        while let Ok(permit) = self.permits.clone().acquire_owned().await {
            while handshakes.try_join_next().is_some() {}
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(door = self.door.as_str(), %error, "accepting failed");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (door, certificates, timeout) = (self.door, self.certificates.clone(), self.timeout);
            let ready = self.ready.clone();
            handshakes.spawn(async move {
                let shaken = tokio::time::timeout(timeout, handshake(door, &certificates, stream, peer)).await;
                match shaken {
                    Ok(Ok(connection)) => {
                        // The only failure is that nobody listens any more.
                        let _ = ready.send(connection).await;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(door = door.as_str(), %peer, %error, "connection refused");
                    }
                    Err(_) => tracing::debug!(door = door.as_str(), %peer, "handshake took too long"),
                }
                // Held until the connection was taken: what waits to be taken is bounded too.
                drop(permit);
            });
        }
    }
}

async fn handshake(door: Door, certificates: &Certificates, stream: TcpStream, peer: SocketAddr) -> io::Result<Ready> {
    stream.set_nodelay(true)?;
    let current = certificates.current();
    let config = match door {
        Door::Api => current.api.clone(),
        Door::Raft => current.raft.clone(),
    };
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let session = stream.get_ref().1;
    let identity = certificates.admit(Side::Accepted, session.peer_certificates(), &current)?;
    let transport = match door {
        Door::Raft => Some(Transport::Raft),
        Door::Api => match session.alpn_protocol() {
            Some(b"h2") => Some(Transport::H2),
            Some(_) => Some(Transport::H1),
            None => None,
        },
    };
    let info = ConnInfo {
        peer,
        identity,
        transport,
        tls: true,
    };
    Ok(Ready(Box::new(stream), info))
}

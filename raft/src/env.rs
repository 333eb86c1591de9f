//! The environment a node runs in: clock, outgoing and incoming connections.
//!
//! Production implements these over the operating system and TLS; a simulation implements them
//! over its own network and clock. Nothing in this crate opens a socket or asks for the time in
//! any other way.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use statemachine::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// The two times a node knows.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed instant before this process started. Never goes back, is not moved
    /// by anybody setting the wall clock.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970-01-01 UTC as the machine believes them. May jump either way.
    fn wall_ms(&self) -> u64;
}

/// A connected, ordered, reliable stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + ?Sized> ByteStream for T {}

/// Any [`ByteStream`], boxed.
pub type BoxStream = Box<dyn ByteStream>;

/// Who the other side of a connection proved to be.
///
/// A certificate is looked at once, in the handshake, and a connection may outlive it: whoever goes by an identity asks
/// [`has_expired`](Self::has_expired) and [`Standing::is_withdrawn`] each time.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    /// The SPIFFE id from the certificate's subject alternative names, for example
    /// `spiffe://mesh-7/cluster/us-east/node/2`.
    pub uri: String,
    /// The leaf certificate, DER. Empty where there is none (simulation).
    pub certificate: Bytes,
    /// When the certificate ends: seconds since 1970 by the wall clock. `None` where there is none (simulation).
    pub not_after_s: Option<u64>,
    /// Whether the certificate's authority is still trusted here.
    pub standing: Standing,
}

impl PeerIdentity {
    /// An identity that no certificate vouches for, as a simulated network gives it: it neither ends nor is withdrawn.
    pub fn stated(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            certificate: Bytes::new(),
            not_after_s: None,
            standing: Standing::default(),
        }
    }

    /// Whether the certificate has run out at a time in seconds since 1970. Its last second still counts.
    pub fn has_expired(&self, now_s: u64) -> bool {
        self.not_after_s.is_some_and(|end| end < now_s)
    }
}

/// Whether what somebody proved in a handshake still counts. The default is a standing that nobody can withdraw.
#[derive(Clone, Debug, Default)]
pub struct Standing(Option<watch::Receiver<bool>>);

impl Standing {
    /// A standing that can be withdrawn, and what withdraws it.
    pub fn revocable() -> (Withdraw, Self) {
        let (sender, receiver) = watch::channel(false);
        (Withdraw(sender), Self(Some(receiver)))
    }

    /// Whether it was withdrawn.
    pub fn is_withdrawn(&self) -> bool {
        self.0.as_ref().is_some_and(|withdrawn| *withdrawn.borrow())
    }

    /// Resolves when it is withdrawn; never, where nobody can.
    pub async fn withdrawn(&self) {
        if let Some(mut withdrawn) = self.0.clone()
            && withdrawn.wait_for(|withdrawn| *withdrawn).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Withdraws a [`Standing`].
#[derive(Debug)]
pub struct Withdraw(watch::Sender<bool>);

impl Withdraw {
    /// From now on the standing does not count any more.
    pub fn withdraw(&self) {
        self.0.send_replace(true);
    }

    /// Whether nobody holds the standing any more: its connection has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

/// The label of the protocol negotiated on a connection, as it appears in logs and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// HTTP/3 over QUIC.
    H3,
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    H1,
    /// The node-to-node protocol of this crate.
    Raft,
}

impl Transport {
    /// `h3`, `h2`, `h1` or `raft`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H3 => "h3",
            Self::H2 => "h2",
            Self::H1 => "h1",
            Self::Raft => "raft",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a connection once it is up.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Address of the other side.
    pub peer: SocketAddr,
    /// Who the other side proved to be. `None` when it showed no certificate.
    pub identity: Option<PeerIdentity>,
    /// What was negotiated; `None` where the first request decides (no ALPN offered).
    pub transport: Option<Transport>,
    /// Whether the bytes are encrypted.
    pub tls: bool,
}

/// What a dialled connection is for. Production picks certificates, ALPN and port by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Purpose {
    /// The node-to-node protocol of this crate.
    Raft,
    /// Another node's API port (requests forwarded to the leader).
    Api,
}

/// Where to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The node expected there: the dialler must refuse any other identity. `None` when unknown
    /// (first contact through a bare address).
    pub node: Option<NodeId>,
    /// `host:port`.
    pub address: String,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// Opens connections.
pub trait Dial: Send + Sync + 'static {
    /// Connects, and completes the handshake where there is one. The caller puts a deadline on
    /// it; dropping the future gives the attempt up.
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<(BoxStream, ConnInfo)>>;
}

/// Accepts connections.
pub trait Listen: Send + 'static {
    /// The next connection whose handshake is complete. An error is about one connection or a
    /// passing lack of resources: the caller logs it, waits a moment and accepts again.
    /// Dropping the future loses no connection that was not yet returned.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, ConnInfo)>>;

    /// The address in use, with the port really bound.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

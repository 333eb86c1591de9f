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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// The SPIFFE id from the certificate's subject alternative names, for example
    /// `spiffe://mesh-7/cluster/us-east/node/2`.
    pub uri: String,
    /// The leaf certificate, DER. Empty where there is none (simulation).
    pub certificate: Bytes,
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

//! Connections between simulated nodes: plain streams with a stated identity, and a count of what a cut link swallowed.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use raft::env::{BoxStream, ConnInfo, Dial, Listen, PeerIdentity, Purpose, Target, Transport};
use statemachine::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The mesh that is simulated.
pub const MESH: &str = "sim";
/// Its one cluster.
pub const CLUSTER: &str = "sim-1";
/// Port of the node-to-node protocol.
pub const RAFT_PORT: u16 = 7500;
/// Port of the API.
pub const API_PORT: u16 = 7400;
/// Port for clients that talk to consensus directly.
pub const CLIENT_PORT: u16 = 7300;

/// A node's name on the simulated network.
#[must_use]
pub fn host(node: NodeId) -> String {
    format!("n{node}")
}

/// The node of a name, where it is one.
#[must_use]
pub fn node_of(host: &str) -> Option<NodeId> {
    host.strip_prefix('n')?.parse().ok()
}

/// Who a host of the simulated network proves to be: a node, or a client of its own name.
fn identity(host: &str) -> PeerIdentity {
    let uri = match node_of(host) {
        Some(node) => format!("spiffe://{MESH}/cluster/{CLUSTER}/node/{node}"),
        None => client_uri(host),
    };
    PeerIdentity::stated(uri)
}

/// The SPIFFE id of a client.
#[must_use]
pub fn client_uri(client: &str) -> String {
    format!("spiffe://{MESH}/client/{client}")
}

/// From whom, to whom.
type Direction = (NodeId, NodeId);

/// Which links are cut, and what was sent into them. Turmoil drops it; this only counts, as proof that a cut was felt.
#[derive(Debug, Default)]
pub struct Links(Mutex<BTreeMap<Direction, u64>>);

impl Links {
    /// Notes that the link between two nodes is cut, both ways.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        let mut cut = self.0.lock();
        cut.insert((a, b), 0);
        cut.insert((b, a), 0);
    }

    /// Notes that it is whole again; answers how many writes and dials were lost in it.
    pub fn heal(&self, a: NodeId, b: NodeId) -> u64 {
        let mut cut = self.0.lock();
        cut.remove(&(a, b)).unwrap_or(0) + cut.remove(&(b, a)).unwrap_or(0)
    }

    /// How many writes and dials were lost so far on the links of a node that are cut.
    pub fn lost(&self, node: NodeId) -> u64 {
        let cut = self.0.lock();
        let links = cut.iter().filter(|((from, to), _)| *from == node || *to == node);
        links.map(|(_, lost)| lost).sum()
    }

    fn sent(&self, from: NodeId, to: NodeId) {
        if let Some(lost) = self.0.lock().get_mut(&(from, to)) {
            *lost += 1;
        }
    }
}

/// Opens connections from one node.
#[derive(Debug)]
pub struct SimDial {
    /// The node that dials.
    pub from: NodeId,
    /// Counts what is lost.
    pub links: Arc<Links>,
}

impl Dial for SimDial {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<(BoxStream, ConnInfo)>> {
        async move {
            let (name, port) = to
                .address
                .rsplit_once(':')
                .and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)))
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("`{}`", to.address)))?;
            let there = node_of(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_owned()))?;
            if to.node.is_some_and(|expected| expected != there) {
                let text = format!("node {there} is at {}", to.address);
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            self.links.sent(self.from, there);
            let stream = TcpStream::connect((name, port)).await?;
            let transport = match to.purpose {
                Purpose::Raft => Transport::Raft,
                Purpose::Api => Transport::H2,
            };
            let info = info(stream.peer_addr()?, name, transport);
            Ok((self.links.wrap(stream, self.from, there), info))
        }
        .boxed()
    }
}

/// Accepts connections.
pub struct SimListen {
    /// The node that listens.
    pub node: NodeId,
    /// Counts what is lost.
    pub links: Arc<Links>,
    /// Where it listens.
    pub listener: TcpListener,
    /// What is spoken there.
    pub transport: Transport,
}

impl Listen for SimListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, ConnInfo)>> {
        async move {
            let (stream, peer) = self.listener.accept().await?;
            let name = turmoil::reverse_lookup(peer.ip())
                .ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, format!("{peer} has no name")))?;
            let info = info(peer, &name, self.transport);
            let stream: BoxStream = match node_of(&name) {
                Some(there) => self.links.wrap(stream, self.node, there),
                None => Box::new(stream),
            };
            Ok((stream, info))
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn info(peer: SocketAddr, name: &str, transport: Transport) -> ConnInfo {
    ConnInfo {
        peer,
        identity: Some(identity(name)),
        transport: Some(transport),
        tls: false,
    }
}

impl Links {
    fn wrap(self: &Arc<Self>, stream: TcpStream, from: NodeId, to: NodeId) -> BoxStream {
        Box::new(Counted {
            stream,
            links: self.clone(),
            from,
            to,
        })
    }
}

/// A stream whose writes are counted while its link is cut.
struct Counted {
    stream: TcpStream,
    links: Arc<Links>,
    from: NodeId,
    to: NodeId,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.links.sent(self.from, self.to);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

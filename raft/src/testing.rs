//! Clusters inside one process, on simulated disks and streams in memory, for tests.

mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use statemachine::{ClusterId, Entry, MeshId, NodeId};
use tokio::sync::mpsc;

use crate::engine::memory::Disk;
use crate::engine::{Engine, Store};
use crate::env::{BoxStream, Clock, ConnInfo, Dial, Listen, PeerIdentity, Target};
use crate::{Boot, Config, Endpoint, Fatal, Handle, Identity, start};

pub use suite::storage_suite;

/// Bytes on their way in one direction of a stream.
const STREAM_BYTES: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

type Accepted = (BoxStream, ConnInfo);

#[derive(Default)]
struct Wiring {
    listeners: BTreeMap<String, (String, mpsc::Sender<Accepted>)>,
    dialled: BTreeMap<(String, String), u64>,
    cut: BTreeSet<String>,
    vouched: BTreeMap<String, PeerIdentity>,
}

impl Wiring {
    fn identity(&self, uri: &str) -> PeerIdentity {
        let vouched = self.vouched.get(uri).cloned();
        vouched.unwrap_or_else(|| PeerIdentity::stated(uri))
    }
}

/// A network in memory. Who dials has the identity it was given, whatever it says.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Wiring>>);

impl Network {
    /// Listens at an address as `uri`. The last listener of an address gets its connections.
    pub fn listen(&self, address: &str, uri: &str) -> Box<dyn Listen> {
        let (sender, accepted) = mpsc::channel(BACKLOG);
        self.0
            .lock()
            .listeners
            .insert(address.to_owned(), (uri.to_owned(), sender));
        Box::new(MemoryListener(accepted))
    }

    /// A dialler that is known as `uri` to those it dials; `None`: it shows no certificate.
    pub fn dialer(&self, uri: Option<&str>) -> Arc<dyn Dial> {
        Arc::new(MemoryDialer {
            network: self.clone(),
            uri: uri.map(str::to_owned),
        })
    }

    /// Whoever is known by the URI of `identity` shows this one from now on, on new connections.
    pub fn vouch(&self, identity: PeerIdentity) {
        self.0.lock().vouched.insert(identity.uri.clone(), identity);
    }

    /// From now on nobody reaches this address.
    pub fn cut(&self, address: &str) {
        self.0.lock().cut.insert(address.to_owned());
    }

    /// Undoes [`Network::cut`].
    pub fn mend(&self, address: &str) {
        self.0.lock().cut.remove(address);
    }

    /// How many connections `uri` has made to an address.
    pub fn dialled(&self, uri: &str, address: &str) -> u64 {
        let key = (uri.to_owned(), address.to_owned());
        self.0.lock().dialled.get(&key).copied().unwrap_or(0)
    }
}

struct MemoryListener(mpsc::Receiver<Accepted>);

impl Listen for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(accepted) => Ok(accepted),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

struct MemoryDialer {
    network: Network,
    uri: Option<String>,
}

fn info(identity: Option<PeerIdentity>) -> ConnInfo {
    ConnInfo {
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        identity,
        transport: None,
        tls: false,
    }
}

impl Dial for MemoryDialer {
    fn dial<'a>(&'a self, to: &'a Target) -> BoxFuture<'a, io::Result<(BoxStream, ConnInfo)>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (there, listener, here) = {
                let mut wiring = self.network.0.lock();
                let key = (self.uri.clone().unwrap_or_default(), to.address.clone());
                *wiring.dialled.entry(key).or_default() += 1;
                if wiring.cut.contains(&to.address) {
                    return Err(refused());
                }
                let (there, listener) = wiring.listeners.get(&to.address).cloned().ok_or_else(refused)?;
                let here = self.uri.as_deref().map(|uri| wiring.identity(uri));
                (wiring.identity(&there), listener, here)
            };
            let (near, far) = tokio::io::duplex(STREAM_BYTES);
            let accepted: Accepted = (Box::new(far), info(here));
            listener.send(accepted).await.map_err(|_| refused())?;
            let stream: BoxStream = Box::new(near);
            Ok((stream, info(Some(there))))
        })
    }
}

/// The engines of a node.
#[derive(Clone)]
pub struct Engines {
    /// That of [`Store::Log`].
    pub log: Arc<dyn Engine>,
    /// That of [`Store::State`].
    pub state: Arc<dyn Engine>,
}

/// The simulated disks of a node.
#[derive(Clone, Debug)]
pub struct Disks {
    /// That of [`Store::Log`].
    pub log: Disk,
    /// That of [`Store::State`].
    pub state: Disk,
}

impl Default for Disks {
    fn default() -> Self {
        Self {
            log: Disk::new(Store::Log),
            state: Disk::new(Store::State),
        }
    }
}

impl Disks {
    /// Engines on them.
    pub fn open(&self) -> Engines {
        Engines {
            log: self.log.open(),
            state: self.state.open(),
        }
    }
}

/// Settings that suit tests: elections within a second.
pub fn config() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(50),
        election_timeout_min: Duration::from_millis(400),
        election_timeout_max: Duration::from_millis(800),
        ..Config::default()
    }
}

/// Node `node` of cluster `c1` of mesh `m1`.
///
/// # Panics
/// Never: the names are well formed.
#[allow(clippy::expect_used)]
pub fn identity(node: u64) -> Identity {
    Identity {
        mesh: MeshId::new("m1").expect("a name"),
        cluster: ClusterId::new("c1").expect("a name"),
        node: NodeId(node),
    }
}

/// Where node `node` is to be reached.
pub fn endpoint(node: u64) -> Endpoint {
    Endpoint {
        raft: format!("raft-{node}:1"),
        api: format!("api-{node}:1"),
    }
}

/// Starts node `node` on these engines and this network.
///
/// # Errors
/// As [`start`].
pub async fn start_node(network: &Network, node: u64, engines: Engines, config: Config) -> Result<Handle, Fatal> {
    let identity = identity(node);
    let uri = identity.uri_of(identity.node);
    let boot = Boot {
        dial: network.dialer(Some(&uri)),
        listen: network.listen(&endpoint(node).raft, &uri),
        identity,
        config,
        log: engines.log,
        state: engines.state,
        clock: Arc::new(SystemClock::default()),
        seed: node,
        incarnation: Default::default(),
        pinned: None,
    };
    start(boot).await
}

/// From now on this node, and no other, applies entries as `change` leaves them: what a bit that flips in memory, or a
/// rule that is not the same everywhere, does to one replica. Rows, memory and log of the node go together.
pub fn tamper(handle: &Handle, change: impl FnMut(&mut Entry) + Send + 'static) {
    handle.node.machine.shared.applier.lock().tamper = Some(Box::new(change));
}

/// A cluster of one node on simulated disks, which leads when this returns.
///
/// # Errors
/// It did not come up.
pub async fn single() -> Result<(Handle, Disks), crate::Error> {
    let disks = Disks::default();
    let handle = start_node(&Network::default(), 1, disks.open(), config()).await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    handle.initialize(vec![(NodeId(1), endpoint(1))], deadline).await?;
    let mut status = handle.watch_status();
    let leads = status.wait_for(crate::Status::is_leader);
    match tokio::time::timeout_at(deadline, leads).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(crate::Error::DeadlineExceeded { maybe_applied: false }),
    }
    handle.read(crate::Consistency::Linearizable, deadline).await?;
    Ok((handle, disks))
}

//! One simulated machine, and the software that runs on it.

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use ::node::{
    Config, Env, Node,
    config::{sections::Member, value::Tables},
    disk,
    exit::Exit,
};
use api_server::{AuthConfig, Authenticator, auth::Binding};
use controllers::{Signed, Signer, SignerError};
use parking_lot::Mutex;
use raft::{
    FatalKind, Handle, Threads,
    engine::{
        Store,
        memory::{Disk, Fault},
    },
    env::Transport,
};
use statemachine::{ClusterId, MeshId, NodeId, cluster::Incarnation};
use tokio::sync::broadcast::error::RecvError;
use turmoil::net::TcpListener;

use crate::{
    clock::{self, SimClock},
    history::History,
    network::{API_PORT, CLIENT_PORT, CLUSTER, Links, MESH, RAFT_PORT, SimDial, SimListen, client_uri, host},
    orders::{self, Orders},
    plant::Plant,
    port,
    schedule::{NODES, rng},
    workload::CLIENTS,
};

/// A machine: its disks outlive its processes.
pub struct Machine {
    /// Its node.
    pub id: NodeId,
    /// The disk of the log.
    pub log: Disk,
    /// The disk of the state.
    pub state: Disk,
    /// How far its wall clock is ahead, in ms.
    pub clock_ahead_ms: Arc<AtomicI64>,
    /// What is left on its disk.
    pub space: Arc<Space>,
    /// What runs on it now.
    pub handle: Mutex<Option<Handle>>,
    /// What operators ask of it.
    pub orders: Orders,
    /// The random id of its data directory.
    pub directory: u128,
    /// Whether it founds its cluster, on disks that are empty.
    pub founder: bool,
    seed: u64,
    plant: Option<Plant>,
    lives: AtomicU64,
    links: Arc<Links>,
    history: History,
}

impl Machine {
    /// A machine with empty disks, in the story of a seed.
    #[must_use]
    pub fn new(id: NodeId, seed: u64, links: Arc<Links>, history: History, plant: Option<Plant>) -> Self {
        let (log, state) = (Disk::new(Store::Log), Disk::new(Store::State));
        // Every synced write of the log takes its time: how long is set as the story goes on.
        log.inject(Fault::Slow, u64::MAX);
        match plant {
            None | Some(Plant::UnevenFloor | Plant::ForgottenRemoval | Plant::StaleBackup) => {}
            Some(Plant::LyingSync) => {
                log.inject(Fault::LyingSync, u64::MAX);
                state.inject(Fault::LyingSync, u64::MAX);
            }
            Some(Plant::LyingLogSync) => log.inject(Fault::LyingSync, u64::MAX),
        }
        Self {
            id,
            log,
            state,
            clock_ahead_ms: Arc::new(AtomicI64::new(i64::try_from(id.0).unwrap_or_default() * 50)),
            space: Arc::default(),
            handle: Mutex::new(None),
            orders: Orders::default(),
            directory: u128::from(id.0),
            founder: id == NodeId(1),
            seed,
            plant,
            lives: AtomicU64::new(0),
            links,
            history,
        }
    }

    /// Runs a process on the machine, until the simulation kills it or it stops by itself.
    ///
    /// # Errors
    /// A bug in the simulation itself.
    pub async fn run(self: Arc<Self>) -> Result<(), Box<dyn Error>> {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        self.history
            .line(clock::now(), format!("n{} starts, life {life}", self.id));
        let clients = TcpListener::bind(("0.0.0.0", CLIENT_PORT)).await?;
        let started = Node::start(config(self.id), self.environment(life).await?).await;
        let node = match started {
            Ok(node) => node,
            Err(failure) => {
                let why = format!("it did not start: {}", failure.message);
                self.history.stopped(self.id, &why, failure.exit == Exit::Removed);
                return Ok(());
            }
        };
        let handle = node.handle().clone();
        self.orders.clear();
        if let Some(plant) = self.plant {
            plant.put_into(&handle);
        }
        *self.handle.lock() = Some(handle.clone());
        tokio::spawn(publish(handle.clone(), life, self.history.clone()));
        tokio::spawn(lead(handle.clone(), self.history.clone()));
        tokio::spawn(port::serve(clients, handle.clone()));
        tokio::spawn(orders::serve(self.orders.clone(), handle.clone(), self.plant));
        let fatal = handle.fatal().await;
        let removed = fatal.kind == FatalKind::Removed;
        self.history.stopped(self.id, &fatal.to_string(), removed);
        self.orders.clear();
        if let Some(plant) = self.plant {
            plant.put_into(&handle);
        }
        *self.handle.lock() = None;
        Ok(())
    }

    async fn environment(&self, life: u64) -> Result<Env, Box<dyn Error>> {
        let listen = async |port: u16, transport: Transport| -> Result<SimListen, io::Error> {
            Ok(SimListen {
                node: self.id,
                links: self.links.clone(),
                listener: TcpListener::bind(("0.0.0.0", port)).await?,
                transport,
            })
        };
        Ok(Env {
            log: self.log.open(),
            state: self.state.open(),
            api: Box::new(listen(API_PORT, Transport::H2).await?),
            quic: None,
            raft: Box::new(listen(RAFT_PORT, Transport::Raft).await?),
            dial: Arc::new(SimDial {
                from: self.id,
                links: self.links.clone(),
            }),
            clock: Arc::new(SimClock::ahead_by(self.clock_ahead_ms.clone())),
            rng: Box::new(rng(self.seed, (life << 16) ^ self.id.0)),
            threads: Threads::Inline,
            signer: Arc::new(Stamp(self.id)),
            auth: Arc::new(authenticator()?),
            alarms: Arc::new(Vec::new),
            certificate_expiry: Arc::new(|| None),
            disk: self.space.clone(),
            inspect: None,
            authorities: Arc::new(Vec::new),
            audit_log: None,
            pinned: None,
            incarnation: Incarnation {
                directory: self.directory,
                boots: life,
                life,
            },
            founder: self.founder,
        })
    }
}

/// The space on a simulated disk: as much as a test says.
#[derive(Debug)]
pub struct Space {
    /// What is left beside the reserve.
    pub free_bytes: AtomicU64,
    reserved_bytes: AtomicU64,
}

/// What a simulated disk has when nothing else is said.
const PLENTY: u64 = 1 << 40;

impl Default for Space {
    fn default() -> Self {
        Self {
            free_bytes: AtomicU64::new(PLENTY),
            reserved_bytes: AtomicU64::new(0),
        }
    }
}

impl disk::Disk for Space {
    fn space(&self) -> io::Result<disk::Space> {
        Ok(disk::Space {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            total_bytes: PLENTY,
        })
    }

    fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.reserved_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Timeouts as in production; everything that happens only now and then in production happens often here.
fn config(node: NodeId) -> Config {
    let mut config = Config::default();
    config.node.id = node.0;
    config.mesh.id = MESH.to_owned();
    config.mesh.cluster = CLUSTER.to_owned();
    config.mesh.drain_settle_ms = 100;
    let member = |id| Member {
        id,
        raft: format!("{}:{RAFT_PORT}", host(NodeId(id))),
        api: format!("{}:{API_PORT}", host(NodeId(id))),
    };
    config.mesh.members = Tables((1..=NODES).map(member).collect());
    let own = orders::endpoint(node);
    (config.raft.advertise, config.api.advertise) = (Some(own.raft), Some(own.api));
    config.raft.snapshot_entries = 200;
    config.raft.log_entries_kept = 40;
    config.raft.log_purge_entries_min = 20;
    config.raft.append_entries_max = 64;
    config.storage.state_flush_interval_ms = 700;
    config.retention.audit_checkpoint_records = 100;
    config.retention.audit_checkpoint_interval_ms = 3_000;
    config
}

/// Every client may do everything, under its own name.
fn authenticator() -> Result<Authenticator, Box<dyn Error>> {
    let binding = |number| {
        let client = format!("c{number}");
        Binding {
            matches: client_uri(&client),
            subject: client,
            scopes: vec!["mesh.admin".to_owned()],
        }
    };
    let config = AuthConfig {
        bindings: (1..=CLIENTS).map(binding).collect(),
        ..AuthConfig::default()
    };
    Ok(Authenticator::new(
        MeshId::new(MESH)?,
        ClusterId::new(CLUSTER)?,
        &config,
    )?)
}

/// Notes what the node publishes.
async fn publish(handle: Handle, life: u64, history: History) {
    let mut units = handle.units();
    loop {
        match units.recv().await {
            Ok(recorded) => history.published(handle.node(), life, recorded),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
}

/// Notes when the node leads.
async fn lead(handle: Handle, history: History) {
    let mut status = handle.watch_status();
    loop {
        let (leads, term) = {
            let status = status.borrow_and_update();
            (status.is_leader(), status.term)
        };
        if leads {
            history.leads(handle.node(), term);
        }
        if status.changed().await.is_err() {
            break;
        }
    }
}

/// Signs with the node's number: who signed is not what is tested here.
struct Stamp(NodeId);

impl Signer for Stamp {
    fn sign(&self, message: &[u8]) -> Result<Signed, SignerError> {
        Ok(Signed {
            certificate: self.0.0.to_be_bytes().to_vec(),
            signature: statemachine::audit::request_hash(&[message]).0.to_vec(),
        })
    }
}

//! One simulated machine, and the software that runs on it.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use controllers::{CheckpointSchedule, RefusalLog, Signer, SignerError};
use parking_lot::Mutex;
use raft::{
    Boot, Config, Endpoint, Handle, Identity, Threads,
    engine::{
        Store,
        memory::{Disk, Fault},
    },
};
use statemachine::{
    ClusterId, FEATURE_LEVEL, InitMesh, MeshId, NodeId, TimelineId, cluster::NodeFacts, record::Settings,
};
use tokio::{sync::broadcast::error::RecvError, time::Instant};
use turmoil::net::TcpListener;

use crate::{
    clock::{self, SimClock},
    history::{History, Published},
    network::{CLIENT_PORT, CLUSTER, Links, MESH, RAFT_PORT, SimDial, SimListen, host},
    plant::Plant,
    port,
    schedule::NODES,
};

/// A machine: its disks outlive its processes.
pub struct Machine {
    /// Its node.
    pub id: NodeId,
    /// The disk of the log.
    pub log: Disk,
    /// The disk of the state.
    pub state: Disk,
    /// What runs on it now.
    pub handle: Mutex<Option<Handle>>,
    seed: u64,
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
            None => {}
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
            handle: Mutex::new(None),
            seed,
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
        let raft = TcpListener::bind(("0.0.0.0", RAFT_PORT)).await?;
        let clients = TcpListener::bind(("0.0.0.0", CLIENT_PORT)).await?;
        let clock = Arc::new(SimClock::ahead_by(self.id.0 * 50));
        let boot = Boot {
            identity: identity(self.id)?,
            config: config(),
            log: self.log.open(),
            state: self.state.open(),
            clock: clock.clone(),
            dial: Arc::new(SimDial {
                from: self.id,
                links: self.links.clone(),
            }),
            listen: Box::new(SimListen {
                node: self.id,
                links: self.links.clone(),
                listener: raft,
            }),
            seed: self.seed.wrapping_mul(1_000_003) ^ (life << 8) ^ self.id.0,
        };
        let handle = match raft::start(boot).await {
            Ok(handle) => handle,
            Err(error) => {
                self.history.stopped(self.id, &format!("it did not start: {error}"));
                return Ok(());
            }
        };
        *self.handle.lock() = Some(handle.clone());
        tokio::spawn(publish(handle.clone(), life, self.history.clone()));
        tokio::spawn(lead(handle.clone(), self.history.clone()));
        if self.id == NodeId(1) {
            tokio::spawn(initialize(handle.clone()));
        }
        let _loops = controllers::start(handle.clone(), self.loops(clock)?);
        tokio::spawn(port::serve(clients, handle.clone()));
        let fatal = handle.fatal().await;
        self.history.stopped(self.id, &fatal.to_string());
        *self.handle.lock() = None;
        Ok(())
    }

    fn loops(&self, clock: Arc<SimClock>) -> Result<controllers::Config, Box<dyn Error>> {
        let init = InitMesh {
            mesh: MeshId::new(MESH)?,
            cluster: ClusterId::new(CLUSTER)?,
            timeline: TimelineId(u128::from(self.seed) << 64 | 1),
            settings: Settings::default(),
        };
        let Endpoint { raft, api } = endpoint(self.id);
        Ok(controllers::Config {
            init: (self.id == NodeId(1)).then_some(init),
            cluster: ClusterId::new(CLUSTER)?,
            facts: NodeFacts {
                api,
                raft,
                version: "simulated".to_owned(),
                feature_level: FEATURE_LEVEL,
            },
            checkpoints: CheckpointSchedule {
                every_records: 100,
                every: Duration::from_secs(3),
            },
            drain_settle: Duration::from_millis(100),
            signer: Arc::new(Stamp(self.id)),
            clock,
            refusals: Arc::new(RefusalLog::default()),
        })
    }
}

/// Timeouts as in production; everything that happens only now and then in production happens often here.
fn config() -> Config {
    let mut config = Config {
        threads: Threads::Inline,
        snapshot_after_entries: 200,
        keep_entries: 40,
        purge_batch: 20,
        append_entries: 64,
        ..Config::default()
    };
    config.state.flush_interval = Duration::from_millis(700);
    config
}

fn identity(node: NodeId) -> Result<Identity, Box<dyn Error>> {
    Ok(Identity {
        mesh: MeshId::new(MESH)?,
        cluster: ClusterId::new(CLUSTER)?,
        node,
    })
}

fn endpoint(node: NodeId) -> Endpoint {
    let host = host(node);
    Endpoint {
        raft: format!("{host}:{RAFT_PORT}"),
        api: format!("{host}:{CLIENT_PORT}"),
    }
}

/// Begins the cluster, unless it has begun.
async fn initialize(handle: Handle) {
    while !handle.status().initialized {
        let members = (1..=NODES).map(|node| (NodeId(node), endpoint(NodeId(node)))).collect();
        // Whatever came of it shows in the status.
        handle
            .initialize(members, Instant::now() + Duration::from_secs(2))
            .await
            .ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Notes what the node publishes.
async fn publish(handle: Handle, life: u64, history: History) {
    let mut units = handle.units();
    loop {
        match units.recv().await {
            Ok(recorded) => history.published(Published {
                node: handle.node(),
                life,
                revision: recorded.unit.position.revision,
                chain: recorded.chain,
            }),
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
    fn certificate(&self) -> Vec<u8> {
        self.0.0.to_be_bytes().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(statemachine::audit::request_hash(&[message]).0.to_vec())
    }
}

//! A manager that listens, a node in memory, and a disk that stops answering.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use bytes::Bytes;
use raft::engine::{Batch, Durability, Engine, EngineError, KeyRange, Row, Table, Visit};
use raft::testing::{Disks, Engines, Network, config, endpoint, start_node};
use statemachine::{InitMesh, NodeId, Origin, Request, TimelineId};
use tokio::time::Instant;

use super::*;

/// After which a manager would give up on us.
const WATCHDOG: Duration = Duration::from_millis(300);

/// An engine whose writes wait while its gate is shut, as on a disk that does not answer.
struct Gated {
    engine: Arc<dyn Engine>,
    shut: Mutex<bool>,
    opened: Condvar,
    /// Whether a write waits, or did.
    stuck: AtomicBool,
}

impl Gated {
    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

impl Engine for Gated {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let gate = self.shut.lock().unwrap();
        self.stuck.fetch_or(*gate, Ordering::Relaxed);
        drop(self.opened.wait_while(gate, |shut| *shut).unwrap());
        self.engine.write(batch, durability)
    }

    fn delete_range(&self, table: Table, from: &[u8], to: &[u8]) -> Result<(), EngineError> {
        self.engine.delete_range(table, from, to)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.engine.flush()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, EngineError> {
        self.engine.scan(table, from, to, limit)
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, EngineError> {
        self.engine.last(table, from, to)
    }

    fn export(&self, ranges: &[KeyRange], visit: &mut dyn FnMut(Visit) -> ControlFlow<()>) -> Result<(), EngineError> {
        self.engine.export(ranges, visit)
    }

    fn checkpoint(&self, to: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(to)
    }
}

/// What a manager hears.
struct Listening {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
}

impl Listening {
    fn start() -> (Self, Manager) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Manager::at(path.as_os_str(), Some(WATCHDOG)).unwrap();
        let listening = Self {
            socket,
            _directory: directory,
        };
        (listening, manager)
    }

    /// The next message, if there is one already.
    fn heard(&self) -> Option<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap())
    }

    /// Waits for a message that contains `what`.
    async fn hears(&self, what: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.heard() {
                Some(message) if message.contains(what) => return message,
                Some(_) => {}
                None => {
                    assert!(Instant::now() < deadline, "{what} was never said");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

fn begin() -> Request {
    let command = InitMesh {
        mesh: raft::testing::identity(1).mesh,
        cluster: raft::testing::identity(1).cluster,
        timeline: TimelineId(1),
        settings: statemachine::record::Overrides::new(),
        feature_level: statemachine::FEATURE_LEVEL,
    };
    Request {
        origin: Origin::system("init", NodeId(1), 0),
        conditions: Default::default(),
        command: command.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watchdog_is_fed_while_entries_are_applied_and_not_while_apply_is_stuck() {
    let disks = Disks::default().open();
    let gate = Arc::new(Gated {
        engine: disks.state,
        shut: Mutex::new(false),
        opened: Condvar::new(),
        stuck: AtomicBool::new(false),
    });
    let engines = Engines {
        log: disks.log,
        state: gate.clone(),
    };
    let handle = start_node(&Network::default(), 1, engines, config()).await.unwrap();
    let (listening, manager) = Listening::start();
    let told = manager.follow(handle.clone());

    // Not ready before there is a cluster, and the manager is asked for patience.
    let waiting = listening.hears("EXTEND_TIMEOUT_USEC=30000000").await;
    assert!(waiting.contains("STATUS=node 1: waits for its cluster"), "{waiting}");
    let deadline = Instant::now() + Duration::from_secs(20);
    handle
        .initialize(vec![(NodeId(1), endpoint(1))], deadline)
        .await
        .unwrap();
    let ready = listening.hears("READY=1").await;
    assert!(ready.contains("STATUS=node 1: leads, term"), "{ready}");

    // Fed while there is nothing to do, and while there is.
    for _ in 0..3 {
        listening.hears("WATCHDOG=1").await;
    }
    handle.propose(begin(), deadline).await.unwrap();
    listening.hears("WATCHDOG=1").await;

    // The state store does not answer any more. Timers run and the consensus core does; the apply loop does not.
    gate.shut(true);
    let stuck = tokio::spawn({
        let handle = handle.clone();
        async move { handle.propose(begin(), Instant::now() + Duration::from_secs(60)).await }
    });
    while !gate.stuck.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "nothing is applied");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What was answered before may still be told of.
    tokio::time::sleep(WATCHDOG * 2).await;
    while listening.heard().is_some() {}
    tokio::time::sleep(WATCHDOG * 4).await;
    let mut heard = std::iter::from_fn(|| listening.heard());
    assert!(
        heard.all(|message| !message.contains("WATCHDOG=1")),
        "a stuck node feeds its watchdog"
    );
    assert!(!stuck.is_finished());

    // It answers again, and so do we.
    gate.shut(false);
    listening.hears("WATCHDOG=1").await;
    stuck.await.unwrap().unwrap();
    drop(told);
    manager.stopping("asked\nto");
    assert_eq!(listening.hears("STOPPING=1").await, "STOPPING=1\nSTATUS=asked to");
    handle.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn nobody_who_listens_is_nobody_to_wait_for() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nobody");
    let manager = Manager::at(nowhere.as_os_str(), None).unwrap();
    manager.stopping("asked to");
    let long = "x".repeat(200);
    assert!(
        Manager::at(OsStr::new(&long), None).is_err(),
        "longer than an address may be"
    );

    // The abstract namespace.
    let name = format!("@meshkit-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    Manager::at(OsStr::new(&name), None).unwrap().stopping("asked to");
    let mut message = [0; 64];
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = socket.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"STOPPING=1\nSTATUS=asked to");
}

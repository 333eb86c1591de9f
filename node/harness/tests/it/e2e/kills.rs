//! `kill -9` under writes (X1, X4): each node in turn, all at once. What was acknowledged is there, once.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use api_client::{
    CallOptions, Client, Method,
    methods::{PatchPeer, RegisterPeer},
};
use node_harness::{Mesh, Options, wait_until};
use proto::v1::{GetPeerRequest, PatchPeerRequest, Peer, RegisterPeerRequest};

use super::world::{SOON, agreed, audit, client, leader, verify_audit, wait};

const WRITERS: usize = 4;
/// Labels that a writer puts on one peer before it goes on to the next; a peer may have 64.
const LABELS: u64 = 50;
/// The longest that the mesh may acknowledge nothing after its leader was killed.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

/// Sends a change until it is answered, always under the one key that it carries. Where all nodes are dead the SDK says
/// so at once, and it is up to the caller to go on.
fn persist<M: Method<Response = Peer>>(sdk: &Client, change: &M::Request) -> Peer {
    let deadline = Instant::now() + Client::MUTATION_TIMEOUT_MAX;
    loop {
        let timeout = Some(deadline.saturating_duration_since(Instant::now()));
        let options = CallOptions {
            timeout,
            ..CallOptions::default()
        };
        match wait(sdk.call::<M>(change.clone(), options)) {
            Ok(answer) => return answer.message,
            Err(error) if error.retryable() && Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            Err(error) => panic!("{}: {error:?}", M::PATH),
        }
    }
}

type Labels = BTreeMap<String, String>;

/// What the writers know.
#[derive(Default)]
struct Ledger {
    acknowledged: AtomicU64,
    /// Labels and version of each peer, as acknowledged.
    peers: Mutex<BTreeMap<String, (Labels, u64)>>,
    stop: AtomicBool,
}

impl Ledger {
    /// One writer: a label per change, each change acknowledged before the next. A change without an answer is sent
    /// again under its key until there is one.
    fn write(&self, sdk: &Client, writer: usize) {
        for round in 0.. {
            let id = format!("writer-{writer}-{round}");
            let registration = RegisterPeerRequest {
                id: id.clone(),
                endpoints: vec!["h:1".into()],
                idempotency_key: ulid::Ulid::new().to_string(),
                ..Default::default()
            };
            let mut version = persist::<RegisterPeer>(sdk, &registration).version;
            let mut labels = BTreeMap::new();
            for n in 0..LABELS {
                self.peers.lock().unwrap().insert(id.clone(), (labels.clone(), version));
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let label = (format!("n-{n}"), format!("{writer}-{round}-{n}"));
                let change = PatchPeerRequest {
                    id: id.clone(),
                    labels: [label.clone()].into(),
                    idempotency_key: ulid::Ulid::new().to_string(),
                    ..Default::default()
                };
                version += 1;
                let patched = persist::<PatchPeer>(sdk, &change);
                assert_eq!(patched.version, version, "{id}: applied other than once");
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                labels.insert(label.0, label.1);
            }
            self.peers.lock().unwrap().insert(id, (labels, version));
        }
    }

    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more changes were acknowledged; answers when the first was, counted from now.
    fn more(&self, changes: u64, what: &str) -> Duration {
        let (start, before) = (Instant::now(), self.count());
        let mut first = None;
        let more = wait_until(SOON, what, || {
            let now = self.count();
            if now > before && first.is_none() {
                first = Some(start.elapsed());
            }
            now >= before + changes
        });
        more.unwrap();
        first.unwrap()
    }

    /// Everything that was acknowledged is there, exactly once, at every node.
    fn check(&self, mesh: &Mesh) {
        let sdk = client(mesh, "read");
        for (id, (labels, version)) in &*self.peers.lock().unwrap() {
            let peer = wait(sdk.get_peer(GetPeerRequest { id: id.clone() })).unwrap().message;
            for (key, value) in labels {
                assert_eq!(
                    peer.labels.get(key),
                    Some(value),
                    "{id}: an acknowledged change is lost"
                );
            }
            // The last change of a writer that was stopped may have been applied unheard; here none was.
            assert_eq!(peer.version, *version, "{id}: a change was applied twice");
            assert_eq!(peer.labels.len(), labels.len(), "{id}");
        }
        let applied = audit(mesh)
            .iter()
            .filter(|record| record.action == "peers.patch" && record.outcome == 1)
            .count();
        assert_eq!(applied as u64, self.count(), "the trail has each change once");
        agreed(mesh);
        verify_audit(mesh);
    }
}

/// How often the leader is killed; `MESHKIT_TEST_LEADER_KILLS` says otherwise.
fn leader_kills() -> usize {
    std::env::var("MESHKIT_TEST_LEADER_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(3)
}

fn kill_in_all_ways(mesh: &mut Mesh, ledger: &Ledger) {
    ledger.more(50, "the first writes");
    for node in mesh.ids() {
        let led = leader(mesh) == node;
        kill(mesh, ledger, node, led);
    }
    for _ in 0..leader_kills() {
        let leader = leader(mesh);
        kill(mesh, ledger, leader, true);
    }
    mesh.kill_all().unwrap();
    for node in mesh.ids() {
        mesh.restart(node).unwrap();
    }
    ledger.more(50, "writes after all nodes were killed");
    for node in mesh.ids() {
        mesh.wait_ready(node, SOON).unwrap();
    }
}

fn kill(mesh: &mut Mesh, ledger: &Ledger, node: u64, led: bool) {
    mesh.kill(node).unwrap();
    let first = ledger.more(30, &format!("writes without node {node}"));
    println!("node {node} (led: {led}) was killed; first acknowledged write after {first:?}");
    assert!(!led || first < FAILOVER_MAX, "{first:?} without an acknowledged write");
    mesh.restart(node).unwrap();
    mesh.wait_ready(node, SOON).unwrap();
    ledger.more(10, &format!("writes with node {node} again"));
}

/// Four writers go on through all of it; then everything is counted.
#[test]
fn nothing_acknowledged_is_lost_by_kills() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let ledger = Ledger::default();
    let clients: Vec<Client> = (0..WRITERS).map(|_| client(&mesh, "operate")).collect();
    thread::scope(|scope| {
        let ledger = &ledger;
        let writers: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(n, sdk)| scope.spawn(move || ledger.write(sdk, n)))
            .collect();
        let killed = catch_unwind(AssertUnwindSafe(|| kill_in_all_ways(&mut mesh, ledger)));
        ledger.stop.store(true, Ordering::Relaxed);
        let written: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        if let Some(failed) = written.into_iter().chain([killed]).find_map(Result::err) {
            resume_unwind(failed);
        }
    });
    println!("{} changes were acknowledged", ledger.count());
    ledger.check(&mesh);
    mesh.stop().unwrap();
}

/// X4: a mesh that says it is ready may lose any one node in the same moment, the one that formed it too: each node has
/// a vote to give by then.
#[test]
fn a_new_mesh_that_is_ready_outlives_any_one_node() {
    for node in 1..=3 {
        let mut mesh = Mesh::start(Options::default()).unwrap();
        mesh.kill(node).unwrap();
        let request = RegisterPeerRequest {
            id: "first".into(),
            endpoints: vec!["h:1".into()],
            idempotency_key: ulid::Ulid::new().to_string(),
            ..Default::default()
        };
        assert_eq!(persist::<RegisterPeer>(&client(&mesh, "admin"), &request).version, 1);
        mesh.stop().unwrap();
    }
}

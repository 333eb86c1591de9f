//! Rough figures, by hand: `cargo test --release -p meshkit-raft speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshkit_raft::engine::Store;
use meshkit_raft::testing::{self, Engines, Network};
use meshkit_raft::{Config, Consistency, Handle};
use raft_rocksdb::{Options, RocksEngine};
use statemachine::{CordonPeer, NodeId, UncordonPeer};

use crate::world::{init, peer, register, request, soon};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while, and says nothing on a busy machine"]
async fn writes_and_reads_per_second_on_rocksdb() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::default();
    let mut nodes: Vec<Handle> = Vec::new();
    for node in 1..=3 {
        let engine = |store: Store| {
            let path = folder.path().join(format!("{node}-{}", store.as_str()));
            Arc::new(RocksEngine::open(&path, store, &Options::default()).unwrap())
        };
        let engines = Engines {
            log: engine(Store::Log),
            state: engine(Store::State),
        };
        nodes.push(
            testing::start_node(&network, node, engines, Config::default())
                .await
                .unwrap(),
        );
    }
    let members = (1..=3).map(|node| (NodeId(node), testing::endpoint(node))).collect();
    nodes[0].initialize(members, soon()).await.unwrap();
    nodes[0].watch_status().wait_for(|s| s.is_leader()).await.unwrap();
    let leader = nodes[0].clone();
    leader.propose(init(), soon()).await.unwrap();
    for n in 0..256 {
        leader.propose(register(n), soon()).await.unwrap();
    }
    for clients in [1, 16, 64, 256] {
        let began = Instant::now();
        let writer = leader.clone();
        let done = run(clients, move |n, round| {
            let leader = writer.clone();
            async move {
                let command = match round % 2 {
                    0 => CordonPeer { id: peer(n) }.into(),
                    _ => UncordonPeer { id: peer(n) }.into(),
                };
                leader.propose(request(command), soon()).await.unwrap();
            }
        });
        let writes = done.await as f64 / began.elapsed().as_secs_f64();
        let mut reads = Vec::new();
        for node in &nodes[..2] {
            let began = Instant::now();
            let reader = node.clone();
            let done = run(clients, move |_, _| {
                let node = reader.clone();
                async move {
                    node.read(Consistency::Linearizable, soon()).await.unwrap();
                }
            });
            reads.push(done.await as f64 / began.elapsed().as_secs_f64());
        }
        println!(
            "{clients:4} clients: {writes:7.0} writes/s, {:7.0} reads/s on the leader, {:7.0} on a follower",
            reads[0], reads[1]
        );
    }
    for node in nodes {
        node.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

/// Runs `work` in `clients` tasks for three seconds; how often it was done.
async fn run<F, R>(clients: usize, work: F) -> usize
where
    F: Fn(usize, usize) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let until = Instant::now() + Duration::from_secs(3);
    let tasks = (0..clients).map(|n| {
        let work = work.clone();
        tokio::spawn(async move {
            let mut round = 0;
            while Instant::now() < until {
                work(n, round).await;
                round += 1;
            }
            round
        })
    });
    futures::future::join_all(tasks)
        .await
        .into_iter()
        .map(|done| done.unwrap())
        .sum()
}

//! Connections that are refused, each by its code, without anything changing.

use std::time::Duration;

use meshkit_raft::env::{Purpose, Target};
use meshkit_raft::testing::{Network, config, endpoint, identity};
use meshkit_raft::{Handle, RefusalCode};
use statemachine::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, register};

/// Dials node 1 as `uri`, sends garbage, and reads until the node closes.
async fn knock(network: &Network, uri: Option<&str>) -> Vec<u8> {
    let target = Target {
        node: None,
        address: endpoint(1).raft,
        purpose: Purpose::Raft,
    };
    let (mut stream, _) = network.dialer(uri).dial(&target).await.unwrap();
    stream
        .write_all(&[0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .await
        .ok();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .ok();
    answer
}

async fn counted(node: &Handle, code: RefusalCode) -> u64 {
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.refusals().get(code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_by_code_and_counted() {
    let world = World::start(1, config()).await;
    let node = &world.nodes[&1];
    let cases = [
        (None, RefusalCode::NoCertificate),
        (Some("spiffe://m1/client/alice"), RefusalCode::NotANode),
        (Some("spiffe://m1/peer/p1"), RefusalCode::NotANode),
        (Some("spiffe://m2/cluster/c1/node/2"), RefusalCode::ForeignMesh),
        (Some("spiffe://m1/cluster/c2/node/2"), RefusalCode::ForeignCluster),
    ];
    for (uri, code) in cases {
        let before = counted(node, code).await;
        let answer = knock(&world.network, uri).await;
        assert!(!answer.is_empty(), "{code} is said");
        assert_eq!(counted(node, code).await, before + 1, "{uri:?}");
    }
    // A node's certificate, and no hello that makes sense: closed without a word.
    assert!(
        knock(&world.network, Some("spiffe://m1/cluster/c1/node/2"))
            .await
            .is_empty()
    );
    world.propose(register(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_anothers_certificate_is_refused() {
    let mut world = World::start(1, config()).await;
    // Node 3's process, with node 2's certificate.
    let liar = identity(2).uri_of(NodeId(2));
    world.disks.push(Default::default());
    world.disks.push(Default::default());
    let boot = meshkit_raft::Boot {
        identity: identity(3),
        config: config(),
        log: world.disks[2].log.open(),
        state: world.disks[2].state.open(),
        clock: std::sync::Arc::new(meshkit_raft::testing::SystemClock::default()),
        dial: world.network.dialer(Some(&liar)),
        listen: world.network.listen(&endpoint(3).raft, &identity(3).uri_of(NodeId(3))),
        seed: 3,
    };
    let three = meshkit_raft::start(boot).await.unwrap();
    let leader = world.leader().await;
    leader
        .add_learner(NodeId(3), endpoint(3), crate::world::soon())
        .await
        .unwrap();
    // It receives the log, for it is who it is; it may not ask anything.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    let read = three.read(meshkit_raft::Consistency::Linearizable, deadline).await;
    assert!(read.is_err());
    assert!(counted(&world.nodes[&1], RefusalCode::WrongNode).await > 0);
    three.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_by_everyone() {
    let world = World::start(3, config()).await;
    world.agree().await;
    let leader = world.leader().await;
    let gone = world.followers(&leader)[0].node();
    leader
        .remove_node(gone, "alice".into(), String::new(), crate::world::soon())
        .await
        .unwrap();
    let removed = world.nodes[&gone.0].clone();
    tokio::time::timeout(Duration::from_secs(20), removed.fatal())
        .await
        .unwrap();
    let mut refusals = 0;
    for node in world.nodes.values().filter(|node| node.node() != gone) {
        refusals += counted(node, RefusalCode::Removed).await;
    }
    assert!(refusals >= 2);
}

//! Connections that are refused, each by its code, without anything changing.

use std::time::Duration;

use meshkit_raft::env::{Clock, PeerIdentity, Purpose, Standing, Target};
use meshkit_raft::testing::{Network, SystemClock, config, endpoint, identity};
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
        clock: std::sync::Arc::new(SystemClock::default()),
        dial: world.network.dialer(Some(&liar)),
        listen: world.network.listen(&endpoint(3).raft, &identity(3).uri_of(NodeId(3))),
        seed: 3,
        incarnation: Default::default(),
        pinned: None,
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
        .remove_node(gone, "alice".into(), String::new(), false, crate::world::soon())
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

/// Starts node 2 as a learner of the one-node cluster of `world`.
async fn learner(world: &mut World) -> Handle {
    world.disks.push(Default::default());
    let uri = identity(2).uri_of(NodeId(2));
    let boot = meshkit_raft::Boot {
        identity: identity(2),
        config: config(),
        log: world.disks[1].log.open(),
        state: world.disks[1].state.open(),
        clock: std::sync::Arc::new(SystemClock::default()),
        dial: world.network.dialer(Some(&uri)),
        listen: world.network.listen(&endpoint(2).raft, &uri),
        seed: 2,
        incarnation: Default::default(),
        pinned: None,
    };
    let two = meshkit_raft::start(boot).await.unwrap();
    let leader = world.leader().await;
    leader
        .add_learner(NodeId(2), endpoint(2), crate::world::soon())
        .await
        .unwrap();
    two
}

async fn reads(node: &Handle) -> Result<(), meshkit_raft::Error> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    node.read(meshkit_raft::Consistency::Linearizable, deadline)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_an_untrusted_authority_are_replaced_and_nothing_fails() {
    let mut world = World::start(1, config()).await;
    let (one, two) = (identity(1).uri_of(NodeId(1)), identity(2).uri_of(NodeId(2)));
    let (withdraw, standing) = Standing::revocable();
    world.network.vouch(PeerIdentity {
        standing,
        ..PeerIdentity::stated(&*two)
    });
    let follower = learner(&mut world).await;
    reads(&follower).await.unwrap();
    let made = |world: &World| {
        let to_leader = world.network.dialled(&two, &endpoint(1).raft);
        let by_leader = world.network.dialled(&one, &endpoint(2).raft);
        (to_leader, by_leader)
    };
    let before = made(&world);

    // Node 2 has a certificate of the new authority, and the old one is dropped.
    world.network.vouch(PeerIdentity::stated(&*two));
    withdraw.withdraw();
    let deadline = crate::world::soon();
    while made(&world).0 == before.0 || made(&world).1 == before.1 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the connections stayed: {before:?}"
        );
        world.propose(register(made(&world).0 as usize)).await;
        reads(&follower).await.unwrap();
    }
    follower.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_runs_out_ends_its_connections() {
    let mut world = World::start(1, config()).await;
    let two = identity(2).uri_of(NodeId(2));
    let now_s = SystemClock::default().wall_ms() / 1000;
    world.network.vouch(PeerIdentity {
        not_after_s: Some(now_s + 3),
        ..PeerIdentity::stated(&*two)
    });
    let follower = learner(&mut world).await;
    reads(&follower).await.unwrap();
    let deadline = crate::world::soon();
    while counted(&world.nodes[&1], RefusalCode::Expired).await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "an expired node is still heard");
        reads(&follower).await.ok();
    }
    assert!(SystemClock::default().wall_ms() / 1000 > now_s + 3, "refused too early");
    // Neither is a new connection let in, nor does the leader take what answers there for node 2.
    reads(&follower).await.unwrap_err();
    assert!(!knock(&world.network, Some(&two)).await.is_empty());
    follower.shutdown(Duration::from_secs(10)).await.unwrap();
}

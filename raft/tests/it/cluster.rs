//! Three nodes: writes, reads everywhere, leaders that go, members that come and go.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meshkit_raft::engine::memory::Fault;
use meshkit_raft::testing::{self, config};
use meshkit_raft::{Config, Consistency, Error, FatalKind, ReadMode, Role, Threads};
use statemachine::cluster::{self, NodeFacts};
use statemachine::record::Kind;
use statemachine::{ClusterId, NodeId, Record, Revision, Stamp};
use tokio::time::Instant;

use crate::world::{World, init, peer, register, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_seen_by_linearizable_reads_on_every_node() {
    let world = World::start(3, config()).await;
    for n in 0..20 {
        world.propose(register(n)).await;
        for node in world.nodes.values() {
            let view = node.read(Consistency::Linearizable, soon()).await.unwrap();
            assert!(
                view.state().mesh.peer(&peer(n)).is_some(),
                "node {} lacks p{n}",
                node.node()
            );
        }
    }
    world.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_points_to_the_leader_and_carries_its_own_loops_proposals() {
    let world = World::start(3, config()).await;
    let leader = world.leader().await;
    let follower = &world.followers(&leader)[0];
    match follower.propose(register(1), soon()).await {
        Err(Error::NotLeader { leader: Some(at) }) => {
            assert_eq!(at.node, leader.node());
            assert_eq!(at.api, testing::endpoint(leader.node().0).api);
        }
        other => panic!("{other:?}"),
    }
    let carried = follower.propose_anywhere(register(2), soon()).await.unwrap();
    let unit = follower.view().unit(carried.revision.unwrap()).unwrap().unwrap();
    assert_eq!(unit.unit.target, "peer/p2");
    assert!(unit.unit.stamp.mesh_time_ms > 0);
    let facts = NodeFacts {
        api: "x".into(),
        raft: "y".into(),
        version: "1".into(),
        feature_level: 1,
        incarnation: cluster::Incarnation::default(),
    };
    let cluster = ClusterId::new("c1").unwrap();
    let node = follower.node();
    let command = cluster::Command::DescribeNode {
        stamp: Stamp::default(),
        cluster,
        node,
        facts,
    };
    follower.propose_cluster_anywhere(command, soon()).await.unwrap();
    assert!(follower.view().state().cluster.node(node).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_answers_for_every_revision() {
    let world = World::start(1, config()).await;
    for n in 0..10 {
        world.propose(register(n)).await;
    }
    let view = world.nodes[&1].view();
    let units = view.units(Revision(1)..=Revision(100), 100).unwrap();
    let revisions: Vec<u64> = units.iter().map(|u| u.unit.position.revision.0).collect();
    assert_eq!(revisions, (1..=11).collect::<Vec<_>>());
    let back = view.units_newest_first(Revision(1)..=Revision(100), 3).unwrap();
    let revisions: Vec<u64> = back.iter().map(|u| u.unit.position.revision.0).collect();
    assert_eq!(revisions, [11, 10, 9]);
    assert!(view.record_at(Kind::Peer, "p5", Revision(6)).unwrap().is_none());
    match view.record_at(Kind::Peer, "p5", Revision(9)).unwrap() {
        Some(Record::Peer(found)) => assert_eq!(found.id, peer(5)),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        view.changes_of(Kind::Peer, "p5", Revision(1)..=Revision(99), 9)
            .unwrap()
            .len(),
        1
    );
    assert!(view.unit(Revision(12)).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_are_broadcast_once_and_in_order_on_every_node() {
    let world = World::start(3, config()).await;
    world.agree().await;
    let mut receivers: Vec<_> = world.nodes.values().map(|node| node.units()).collect();
    for n in 0..50 {
        world.propose(register(n)).await;
    }
    for units in &mut receivers {
        for expected in 2..=51 {
            let unit = tokio::time::timeout(Duration::from_secs(10), units.recv())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(unit.unit.position.revision.0, expected);
        }
        assert!(units.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_share_few_syncs() {
    let mut config = config();
    config.threads = Threads::Inline;
    let world = World::start(1, config).await;
    let node = world.nodes[&1].clone();
    // Slow enough that proposals gather behind a sync, however few processors there are to make them.
    world.disks[0].log.set_delay(Duration::from_millis(10));
    world.disks[0].log.inject(Fault::Slow, u64::MAX);
    let before = node.log_counters().syncs.load(Ordering::Relaxed);
    let proposals = (0..500).map(|n| {
        let node = node.clone();
        tokio::spawn(async move { node.propose(register(n), soon()).await.map(|_| ()) })
    });
    for outcome in futures::future::join_all(proposals).await {
        outcome.unwrap().unwrap();
    }
    let syncs = node.log_counters().syncs.load(Ordering::Relaxed) - before;
    assert!(syncs < 250, "{syncs} syncs for 500 entries");
    assert_eq!(node.view().state().mesh.peer_count(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_is_replaced_and_comes_back() {
    let mut world = World::start(3, config()).await;
    for round in 0..3 {
        world.propose(register(round)).await;
        let old = world.leader().await.node();
        world.stop(old.0).await;
        let began = Instant::now();
        world.propose(register(100 + round)).await;
        assert!(began.elapsed() < Duration::from_secs(10));
        world.boot(old.0).await;
        world.nodes[&old.0].recovered(soon()).await.unwrap();
    }
    world.agree().await;
    assert_eq!(world.leader().await.view().state().mesh.peer_count(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request() {
    let world = World::start(3, config()).await;
    let old = world.leader().await;
    let to = world.followers(&old)[0].node();
    old.transfer_leadership(Some(to), soon()).await.unwrap();
    assert_eq!(world.leader().await.node(), to);
    world.propose(register(1)).await;
    match old.transfer_leadership(None, soon()).await {
        Err(Error::NotLeader { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_promised() {
    let mut world = World::start(3, config()).await;
    let leader = world.leader().await;
    for follower in world.followers(&leader) {
        world.stop(follower.node().0).await;
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    let error = leader.propose(register(1), deadline).await.expect_err("no majority");
    assert!(error.is_retryable(), "{error}");
    let error = leader
        .read(Consistency::Linearizable, deadline)
        .await
        .expect_err("no majority");
    assert!(error.is_retryable(), "{error}");
    assert!(leader.read(Consistency::Local, deadline).await.is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!leader.status().quorum.ok);
}

/// Peers' leases hang on it, whatever the leader's clock says of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_confirmed_by_a_majority_also_where_reads_go_by_a_lease() {
    let mut world = World::start(
        3,
        Config {
            reads: ReadMode::Lease,
            // Long enough not to end before the test does.
            election_timeout_min: Duration::from_secs(10),
            election_timeout_max: Duration::from_secs(20),
            ..config()
        },
    )
    .await;
    let leader = world.leader().await;
    leader.confirm_leadership(soon()).await.unwrap();
    for follower in world.followers(&leader) {
        world.stop(follower.node().0).await;
    }
    leader.read(Consistency::Linearizable, soon()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let error = leader.confirm_leadership(deadline).await.expect_err("no majority");
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_promoted_and_removed_for_good() {
    let mut world = World::start(3, config()).await;
    let added = world.boot_new().await;
    let leader = world.leader().await;
    leader
        .add_learner(NodeId(added), testing::endpoint(added), soon())
        .await
        .unwrap();
    leader
        .change_membership((1..=4).map(NodeId).collect(), soon())
        .await
        .unwrap();
    world.propose(register(1)).await;
    world.agree().await;

    let leader = world.leader().await;
    let gone = world.followers(&leader)[0].node();
    leader
        .remove_node(gone, "alice".into(), "old".into(), false, soon())
        .await
        .unwrap();
    leader
        .remove_node(gone, "alice".into(), "old".into(), false, soon())
        .await
        .unwrap();
    let removed = world.nodes[&gone.0].clone();
    let fatal = tokio::time::timeout(Duration::from_secs(20), removed.fatal())
        .await
        .unwrap();
    assert_eq!(fatal.kind, FatalKind::Removed, "{fatal}");
    world.nodes.remove(&gone.0);
    let members: BTreeSet<u64> = leader.status().members.iter().map(|m| m.node.0).collect();
    assert!(!members.contains(&gone.0));
    match leader.add_learner(gone, testing::endpoint(gone.0), soon()).await {
        Err(Error::Membership { .. }) => {}
        other => panic!("{other:?}"),
    }
    world.propose(register(2)).await;
    world.agree().await;
    removed.shutdown(Duration::from_secs(10)).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_roles_lag_and_quorum() {
    let world = World::start(3, config()).await;
    world.propose(register(1)).await;
    let leader = world.leader().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let status = leader.status();
    assert_eq!(
        (status.role, status.quorum.voters, status.quorum.needed),
        (Role::Leader, 3, 2)
    );
    assert_eq!(status.quorum.reachable, 3);
    for member in &status.members {
        assert!(member.voter);
        assert_eq!(member.lag_entries, Some(0), "{member:?}");
        assert!(member.last_contact.unwrap() < Duration::from_secs(1), "{member:?}");
    }
    let follower = world.followers(&leader)[0].status();
    assert_eq!(follower.role, Role::Follower);
    assert_eq!(follower.leader.unwrap().node, leader.node());
    assert!(follower.quorum.ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_too_late_is_refused_before_anything_happens() {
    let mut config = config();
    config.proposals.entry_bytes = 300;
    let world = World::start(1, config).await;
    let node = &world.nodes[&1];
    let mut large = register(1);
    large.origin.reason = "x".repeat(400);
    assert!(matches!(
        node.propose(large, soon()).await,
        Err(Error::TooLarge { limit: 300, .. })
    ));
    let late = node
        .propose(register(1), Instant::now() - Duration::from_millis(1))
        .await;
    assert!(
        matches!(late, Err(Error::DeadlineExceeded { maybe_applied: false })),
        "{late:?}"
    );
    assert!(
        node.initialize(vec![(NodeId(1), testing::endpoint(1))], soon())
            .await
            .is_err()
    );
    let revision = world.propose(init()).await;
    assert_eq!(revision, 2, "a second init is recorded as rejected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_left_alone_says_so() {
    let mut world = World::start(3, config()).await;
    let leader = world.leader().await;
    let followers = world.followers(&leader);
    let (alone, other) = (followers[0].clone(), followers[1].node().0);
    let mut status = alone.watch_status();
    let is = |quorum| move |status: &meshkit_raft::Status| status.quorum.ok == quorum;
    tokio::time::timeout_at(soon(), status.wait_for(is(true)))
        .await
        .unwrap()
        .unwrap();
    // Both at once, so that nobody is left to vote for.
    let leads = leader.node().0;
    drop((leader, followers));
    world.stop(other).await;
    world.stop(leads).await;
    tokio::time::timeout_at(soon(), status.wait_for(is(false)))
        .await
        .unwrap()
        .unwrap();
    assert!(!alone.status().is_ready());
    world.boot(other).await;
    tokio::time::timeout_at(soon(), status.wait_for(is(true)))
        .await
        .unwrap()
        .unwrap();
}

//! Nodes that are not well: who votes, who campaigns, who sends snapshots, and what a checkup and the scrub find.

use std::time::Duration;

use meshkit_raft::engine::Table;
use meshkit_raft::testing::{self, config, tamper};
use meshkit_raft::{Config, Consistency, Handle};
use statemachine::{
    Command, Entry, NodeId, Revision, Stamp,
    cluster::{self, AlarmKind},
};

use crate::world::{World, register, soon};

async fn raise(world: &World, node: NodeId, kind: AlarmKind) {
    let command = cluster::Command::RaiseAlarm {
        stamp: Stamp::default(),
        node,
        kind,
        detail: "a test".into(),
    };
    world.leader().await.propose_cluster(command, soon()).await.unwrap();
    world.agree().await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_node_neither_votes_nor_campaigns() {
    let mut world = World::start(3, config()).await;
    let leader = world.leader().await.node();
    let corrupt = NodeId(leader.0 % 3 + 1);
    raise(&world, corrupt, AlarmKind::Corrupt).await;
    assert!(world.nodes[&corrupt.0].corrupt().is_some());
    world.stop(leader.0).await;
    // Many times as long as an election takes.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for handle in world.nodes.values() {
            assert!(!handle.status().is_leader(), "{} leads", handle.node());
        }
    }
    world.boot(leader.0).await;
    assert_ne!(world.leader().await.node(), corrupt);
    world.propose(register(1)).await;
    // Nor does it take leadership that it is offered.
    let refused = world
        .leader()
        .await
        .transfer_leadership(Some(corrupt), soon())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("CORRUPT"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_alarm_leaves_leading_to_others_while_there_are_any() {
    let mut world = World::start(3, config()).await;
    let leader = world.leader().await.node();
    let (off, fit) = (NodeId(leader.0 % 3 + 1), NodeId((leader.0 + 1) % 3 + 1));
    raise(&world, off, AlarmKind::Clock).await;
    world.stop(leader.0).await;
    assert_eq!(world.leader().await.node(), fit);
    world.boot(leader.0).await;
    world.agree().await;
    // The only fit node is gone: the others wait for it a while, and then do without.
    let fit = world.leader().await.node();
    let others: Vec<NodeId> = [leader, off, fit].into_iter().filter(|node| *node != fit).collect();
    for node in others {
        raise(&world, node, AlarmKind::NoSpace).await;
    }
    world.stop(fit.0).await;
    assert_ne!(world.leader().await.node(), fit);
    world.propose(register(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkup_tells_clock_disk_and_digest() {
    let world = World::start(3, config()).await;
    let leader = world.leader().await;
    let [odd, even] = <[Handle; 2]>::try_from(world.followers(&leader)).unwrap();
    tamper(&odd, |entry| {
        if let Entry::Command(proposal) = entry
            && let Command::RegisterPeer(register) = &mut proposal.command
        {
            register.spec.weight ^= 1;
        }
    });
    odd.health().set_disk(meshkit_raft::DiskSpace {
        free_bytes: 5,
        mark_bytes: 10,
        short: true,
    });
    let revision = Revision(world.propose(register(1)).await);
    let ask = async |node: &Handle, revision| leader.checkup(node.node(), revision, soon()).await.unwrap();
    let (here, odd_one, even_one) = (
        ask(&leader, revision).await,
        ask(&odd, revision).await,
        ask(&even, revision).await,
    );
    assert!(here.vitals.digest.is_some());
    assert_eq!(even_one.vitals.digest, here.vitals.digest);
    assert!(odd_one.vitals.digest.is_some());
    assert_ne!(odd_one.vitals.digest, here.vitals.digest);
    assert_eq!((odd_one.vitals.free_bytes, odd_one.vitals.short), (Some(5), true));
    assert_eq!((even_one.vitals.free_bytes, even_one.vitals.short), (None, false));
    // One machine, one clock.
    for asked in [&here, &odd_one, &even_one] {
        assert!(asked.offset_ms.unsigned_abs() <= asked.uncertainty_ms + 2, "{asked:?}");
    }
    // A revision that nobody has is waited for a moment, and then not known.
    assert_eq!(ask(&even, Revision(revision.0 + 100)).await.vitals.digest, None);
    leader.checkup(NodeId(9), revision, soon()).await.unwrap_err();
}

fn scrubbed() -> Config {
    Config {
        scrub: meshkit_raft::state::scrub::Settings {
            interval: Duration::from_millis(100),
            ..Default::default()
        },
        ..config()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_finds_every_kind_of_row_that_changes_on_a_running_node() {
    for table in [Table::Records, Table::History, Table::Cluster] {
        let world = World::start(3, scrubbed()).await;
        world.propose(register(1)).await;
        raise(&world, NodeId(1), AlarmKind::Clock).await;
        let leader = world.leader().await;
        let victim = world.followers(&leader).remove(0);
        let disk = &world.disks[victim.node().0 as usize - 1].state;
        // While other entries are applied beside it.
        for n in 2..20 {
            world.propose(register(n)).await;
        }
        assert_eq!(victim.corrupt(), None);
        let key = disk.keys(table).into_iter().next().unwrap();
        assert!(disk.flip(table, &key, 9));
        until("the flip to be found", || victim.corrupt().is_some()).await;
        let found = victim.corrupt().unwrap();
        assert!(found.contains("scrub") && found.contains(table.as_str()), "{found}");
        for node in world.nodes.values().filter(|node| node.node() != victim.node()) {
            assert_eq!(node.corrupt(), None, "{} is as it was", node.node());
        }
        world
            .leader()
            .await
            .read(Consistency::Linearizable, soon())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_node_sends_no_snapshots() {
    let mut world = World::start(
        1,
        Config {
            snapshot_after_entries: 50,
            keep_entries: 5,
            purge_batch: 1,
            ..config()
        },
    )
    .await;
    for n in 0..80 {
        world.propose(register(n)).await;
    }
    let leader = world.leader().await;
    until("the log to be cut", || {
        leader.status().purged_index.is_some_and(|index| index > 40)
    })
    .await;
    leader.health().set_corrupt("a test".into());
    let added = world.boot_new().await;
    leader
        .add_learner(NodeId(added), testing::endpoint(added), soon())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.nodes[&added].view().position().revision, Revision(0));
}

//! A node that is far behind is brought up by a snapshot; an interrupted one leaves nothing.

use std::time::Duration;

use meshkit_raft::engine::Table;
use meshkit_raft::testing::{self, config};
use meshkit_raft::{Config, Consistency};
use statemachine::{NodeId, Revision};

use crate::world::{World, peer, register, soon};

/// Cuts its log after every few entries.
fn short_log() -> Config {
    let mut config = Config {
        snapshot_after_entries: 50,
        keep_entries: 5,
        purge_batch: 1,
        ..config()
    };
    config.state.chunk_bytes = 2000;
    config
}

async fn purged(world: &World) {
    let leader = world.leader().await;
    let mut status = leader.watch_status();
    let cut = status.wait_for(|s| s.purged_index.is_some_and(|index| index > 50));
    tokio::time::timeout(Duration::from_secs(20), cut)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_is_brought_up_by_snapshot_with_all_history() {
    let mut world = World::start(3, short_log()).await;
    for n in 0..200 {
        world.propose(register(n)).await;
    }
    purged(&world).await;
    let added = world.boot_new().await;
    let leader = world.leader().await;
    leader
        .add_learner(NodeId(added), testing::endpoint(added), soon())
        .await
        .unwrap();
    let new = world.nodes[&added].clone();
    let view = new.read(Consistency::Linearizable, soon()).await.unwrap();
    assert_eq!(view.state().mesh.peer_count(), 200);
    world.agree().await;
    // It answers for revisions that it never applied itself.
    let units = view.units(Revision(1)..=Revision(201), 1000).unwrap();
    assert_eq!(units.len(), 201);
    assert_eq!(
        view.unit(Revision(17)).unwrap().unwrap().unit.target,
        format!("peer/{}", peer(15))
    );

    // And it is all still there after a restart.
    world.stop(added).await;
    world.boot(added).await;
    assert_eq!(world.nodes[&added].view().state().mesh.peer_count(), 200);
    world.propose(register(500)).await;
    world.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_too_long_is_brought_up_by_snapshot() {
    let mut world = World::start(3, short_log()).await;
    world.propose(register(0)).await;
    let leader = world.leader().await;
    let away = world.followers(&leader)[0].node().0;
    world.stop(away).await;
    for n in 1..200 {
        world.propose(register(n)).await;
    }
    purged(&world).await;
    world.boot(away).await;
    world.agree().await;
    let view = world.nodes[&away].view();
    assert_eq!(view.units(Revision(1)..=Revision(200), 1000).unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_in_the_middle_of_an_install_leaves_the_old_state() {
    let mut world = World::start(3, short_log()).await;
    for n in 0..200 {
        world.propose(register(n)).await;
    }
    purged(&world).await;
    let added = world.boot_new().await;
    let leader = world.leader().await;
    leader
        .add_learner(NodeId(added), testing::endpoint(added), soon())
        .await
        .unwrap();
    // Rows of the snapshot arrive; the power goes before it is made current, or after.
    let disks = world.disks[added as usize - 1].clone();
    while disks.state.keys(Table::Records).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let handle = world.nodes.remove(&added).unwrap();
    disks.log.power_loss(|_| 0);
    disks.state.power_loss(|_| 0);
    handle.shutdown(Duration::from_secs(5)).await.ok();
    world.boot(added).await;
    let count = world.nodes[&added].view().state().mesh.peer_count();
    assert!(count == 0 || count == 200, "{count} peers: half a snapshot");
    world.agree().await;
    assert_eq!(world.nodes[&added].view().state().mesh.peer_count(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_does_not_vote_before_it_is_filled_again() {
    let mut world = World::start(3, config()).await;
    let leader = world.leader().await;
    let others = world.followers(&leader);
    let (wiped, behind) = (others[0].node().0, others[1].node().0);
    // One follower misses what the other acknowledges; then that one loses its disks.
    world.stop(behind).await;
    for n in 0..20 {
        world.propose(register(n)).await;
    }
    let old = leader.node().0;
    drop((leader, others));
    world.stop(wiped).await;
    world.stop(old).await;
    world.disks[wiped as usize - 1] = testing::Disks::default();
    world.boot(wiped).await;
    world.boot(behind).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in [wiped, behind] {
        assert!(
            !world.nodes[&node].status().is_leader(),
            "node {node} leads without what was acknowledged"
        );
    }
    // With the one that knows everything, all is well.
    world.boot(old).await;
    world.propose(register(100)).await;
    world.agree().await;
    assert_eq!(world.leader().await.view().state().mesh.peer_count(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_is_filled_again_under_the_same_leader() {
    let mut world = World::start(3, config()).await;
    for n in 0..20 {
        world.propose(register(n)).await;
    }
    let leader = world.leader().await;
    let wiped = world.followers(&leader)[0].node().0;
    world.stop(wiped).await;
    world.disks[wiped as usize - 1] = testing::Disks::default();
    world.boot(wiped).await;
    world.agree().await;
    assert_eq!(world.nodes[&wiped].view().state().mesh.peer_count(), 20);
}

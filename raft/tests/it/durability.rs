//! Power cuts, disks that fail, and damage on them.

use std::sync::Arc;
use std::time::Duration;

use meshkit_raft::engine::Table;
use meshkit_raft::engine::memory::Fault;
use meshkit_raft::testing::{self, Disks, Network, config, single};
use meshkit_raft::{Fatal, FatalKind, Handle};

use crate::world::{World, init, peer, register, soon};

async fn reboot(disks: &Disks) -> Result<Handle, Fatal> {
    testing::start_node(&Network::default(), 1, disks.open(), config()).await
}

/// A stopped node with `n` peers.
async fn written(n: usize) -> Disks {
    let (node, disks) = single().await.unwrap();
    node.propose(init(), soon()).await.unwrap();
    for n in 0..n {
        node.propose(register(n), soon()).await.unwrap();
    }
    node.shutdown(Duration::from_secs(10)).await.unwrap();
    disks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let (mut node, disks) = single().await.unwrap();
    node.propose(init(), soon()).await.unwrap();
    let mut acknowledged = 0;
    for _ in 0..5 {
        for _ in 0..20 {
            node.propose(register(acknowledged), soon()).await.unwrap();
            acknowledged += 1;
        }
        disks.log.power_loss(|_| 0);
        let lost = disks.state.power_loss(|_| 0);
        assert!(lost.unlogged > 0, "the state store had nothing to lose");
        node.shutdown(Duration::from_secs(5)).await.ok();
        node = reboot(&disks).await.unwrap();
        node.recovered(soon()).await.unwrap();
        let view = node.view();
        for n in 0..acknowledged {
            assert!(
                view.state().mesh.peer(&peer(n)).is_some(),
                "p{n} of {acknowledged} is lost"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_the_whole_cluster_loses_nothing_that_was_acknowledged() {
    let mut world = World::start(3, config()).await;
    for n in 0..100 {
        world.propose(register(n)).await;
    }
    let nodes: Vec<u64> = world.nodes.keys().copied().collect();
    for disks in &world.disks {
        disks.log.power_loss(|n| n / 2);
        disks.state.power_loss(|n| n / 2);
    }
    for node in &nodes {
        let handle = world.nodes.remove(node).unwrap();
        handle.shutdown(Duration::from_secs(5)).await.ok();
    }
    for node in nodes {
        world.boot(node).await;
    }
    world.agree().await;
    assert_eq!(world.leader().await.view().state().mesh.peer_count(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_about_syncs_is_caught_losing_data() {
    let (node, disks) = single().await.unwrap();
    node.propose(init(), soon()).await.unwrap();
    disks.log.inject(Fault::LyingSync, u64::MAX);
    for n in 0..20 {
        node.propose(register(n), soon()).await.unwrap();
    }
    assert!(disks.log.power_loss(|_| 0).logged > 0);
    disks.state.power_loss(|_| 0);
    node.shutdown(Duration::from_secs(5)).await.ok();
    let node = reboot(&disks).await.unwrap();
    node.recovered(soon()).await.unwrap();
    assert!(
        node.view().state().mesh.peer_count() < 20,
        "then the other tests prove nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_or_sync_stops_the_node() {
    for fault in [Fault::SyncError, Fault::WriteError, Fault::NoSpace] {
        let (node, disks) = single().await.unwrap();
        node.propose(init(), soon()).await.unwrap();
        disks.log.inject(fault, 1);
        assert!(node.propose(register(1), soon()).await.is_err());
        let fatal = tokio::time::timeout(Duration::from_secs(5), node.fatal())
            .await
            .unwrap();
        assert_eq!(fatal.kind, FatalKind::Disk, "{fault:?}: {fatal}");
        assert_eq!(disks.log.fired(fault), 1);
        assert!(node.propose(register(2), soon()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_row_is_named_by_its_index() {
    let key = 10_u64.to_be_bytes();
    type Damage = fn(&Disks, &[u8]) -> bool;
    let damages: [Damage; 3] = [
        |disks, key| disks.log.flip(Table::Log, key, 30),
        |disks, key| disks.log.truncate(Table::Log, key, 12),
        |disks, key| disks.log.lose(Table::Log, key),
    ];
    for damage in damages {
        let disks = written(20).await;
        assert!(damage(&disks, &key));
        let fatal = reboot(&disks).await.expect_err("damage");
        assert_eq!(fatal.kind, FatalKind::Corrupt);
        assert!(fatal.detail.contains("10"), "{fatal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_is_noticed() {
    let disks = written(20).await;
    let last = disks.log.keys(Table::Log).pop().unwrap();
    assert!(disks.log.lose(Table::Log, &last));
    let fatal = reboot(&disks).await.expect_err("damage");
    assert_eq!(fatal.kind, FatalKind::Corrupt, "{fatal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_rows_are_named_by_table() {
    for table in [
        Table::Records,
        Table::History,
        Table::StateMeta,
        Table::Cluster,
        Table::LogMeta,
    ] {
        let disks = written(20).await;
        let disk = if table == Table::LogMeta {
            &disks.log
        } else {
            &disks.state
        };
        let Some(key) = disk.keys(table).first().cloned() else {
            continue;
        };
        assert!(disk.flip(table, &key, 7));
        let fatal = reboot(&disks).await.expect_err("damage");
        assert_eq!(fatal.kind, FatalKind::Corrupt, "{fatal}");
        assert!(fatal.detail.contains(table.as_str()), "{fatal}");
    }
    // A row that is gone without a trace is missed by the digest.
    let disks = written(20).await;
    let key = disks.state.keys(Table::Records).pop().unwrap();
    assert!(disks.state.lose(Table::Records, &key));
    let fatal = reboot(&disks).await.expect_err("damage");
    assert!(fatal.detail.contains("records"), "{fatal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_delays_and_does_not_stop() {
    let mut config = config();
    config.threads = meshkit_raft::Threads::Inline;
    let disks = Disks::default();
    let node = testing::start_node(&Network::default(), 1, disks.open(), config)
        .await
        .unwrap();
    node.initialize(vec![(node.node(), testing::endpoint(1))], soon())
        .await
        .unwrap();
    node.watch_status().wait_for(|s| s.is_leader()).await.unwrap();
    node.propose(init(), soon()).await.unwrap();
    disks.log.set_delay(Duration::from_millis(100));
    disks.log.inject(Fault::Slow, 5);
    for n in 0..5 {
        node.propose(register(n), soon()).await.unwrap();
    }
    assert!(disks.log.fired(Fault::Slow) > 0);
}

/// Whoever is in a store when the process ends may take its exit code along.
#[test]
fn a_start_that_fails_leaves_nobody_in_the_stores_when_its_runtime_is_shut_down() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    for _ in 0..20 {
        let first = runtime();
        let (node, disks) = first.block_on(single()).unwrap();
        first.block_on(node.propose(init(), soon())).unwrap();
        drop(node);
        first.shutdown_timeout(Duration::from_secs(10));
        // The entries are applied anew, which fails in the middle of the start.
        assert!(disks.state.power_loss(|_| 0).unlogged > 0);
        disks.state.inject(Fault::WriteError, 1);

        let second = runtime();
        let engines = disks.open();
        let log = Arc::downgrade(&engines.log);
        let started = second.block_on(testing::start_node(&Network::default(), 1, engines, config()));
        assert_eq!(started.expect_err("a failed write").kind, FatalKind::Disk);
        second.shutdown_timeout(Duration::from_secs(10));
        assert_eq!(disks.state.fired(Fault::WriteError), 1);
        assert_eq!(log.strong_count(), 0, "somebody still has the log open");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_whose_log_is_gone_is_not_started() {
    let disks = written(5).await;
    let lost = Disks {
        state: disks.state,
        ..Disks::default()
    };
    let fatal = reboot(&lost).await.expect_err("the log is gone");
    assert_eq!(fatal.kind, FatalKind::Corrupt, "{fatal}");
    assert!(fatal.detail.contains("log"), "{fatal}");
}

//! History below the floor goes from every node's disk, and is refused from the moment on at which the floor has moved.

use std::time::Duration;

use meshkit_raft::engine::Table;
use meshkit_raft::testing::{self, config};
use meshkit_raft::{Config, Consistency, Error, Handle};
use statemachine::record::Kind;
use statemachine::{CheckpointAudit, CompactHistory, Hash, MeshId, NodeId, PeerId, Record, Revision, UncordonPeer};

use crate::world::{World, peer, register, request, soon};

/// Signs the chain where it is and lets go of all before; answers the floor.
async fn compact(world: &World) -> Revision {
    let view = world
        .leader()
        .await
        .read(Consistency::Linearizable, soon())
        .await
        .unwrap();
    let mesh = &view.state().mesh;
    let signed = mesh.position().revision;
    let checkpoint = CheckpointAudit {
        revision: signed,
        hash: mesh.chain(),
        node: NodeId(1),
        certificate: vec![1],
        signature: vec![2],
    };
    let recorded = world.propose(request(checkpoint.into())).await;
    let compaction = CompactHistory {
        mesh: MeshId::new("m1").unwrap(),
        to: Revision(recorded),
        // Older than anything that a retry may ask for.
        to_mesh_time_ms: 0,
    };
    world.propose(request(compaction.command().unwrap())).await;
    world.agree().await;
    let floor = world.leader().await.view().state().mesh.floor();
    assert_eq!(floor, signed.next());
    floor
}

/// The revisions at the ends of a table's keys.
fn revisions(world: &World, node: u64, table: Table) -> Vec<u64> {
    let keys = world.disks[node as usize - 1].state.keys(table);
    let mut revisions: Vec<u64> = keys
        .iter()
        .map(|key| u64::from_be_bytes(*key.last_chunk::<8>().unwrap()))
        .collect();
    revisions.sort_unstable();
    revisions
}

/// Waits until nothing below the floor is on a node's disk.
async fn pruned(world: &World, node: u64, floor: Revision) {
    let gone = async {
        while [Table::History, Table::Index]
            .iter()
            .any(|table| revisions(world, node, *table).first() < Some(&floor.0))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    let kept = revisions(world, node, Table::History);
    assert!(
        kept.iter().copied().eq(floor.0..floor.0 + kept.len() as u64),
        "{kept:?}"
    );
}

/// What a node answers of its history.
fn answers(node: &Handle, floor: Revision) {
    let view = node.view();
    let head = view.position().revision;
    let below = Revision(floor.0 - 1);
    let compacted = |error: Option<Error>| assert_eq!(error, Some(Error::Compacted { oldest: floor }));
    assert_eq!(view.oldest(), floor);
    assert!(view.unit(below).unwrap().is_none() && view.unit(floor).unwrap().is_some());
    compacted(view.units(below..=head, 10).err());
    compacted(view.units_newest_first(Revision(1)..=head, 100_000).err());
    compacted(view.each_unit(Revision(1)..=head, |_| Ok(())).err());
    compacted(view.changes_of(Kind::Peer, "p0", below..=head, 10).err());
    compacted(view.record_at(Kind::Peer, "p0", below).err());
    let units = view.units(floor..=head, 100_000).unwrap();
    assert_eq!(units.len() as u64, head.0 - below.0);
    let mut visited = 0;
    view.each_unit(floor..=head, |_| {
        visited += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(visited, units.len());
    assert_eq!(view.first_since(0).unwrap(), floor);
    assert_eq!(view.first_since(u64::MAX).unwrap(), head.next());
}

fn peer_at(node: &Handle, id: &PeerId, revision: Revision) -> Option<u64> {
    match node.view().record_at(Kind::Peer, id.as_str(), revision).unwrap() {
        Some(Record::Peer(peer)) => Some(peer.meta.version),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_below_the_floor_goes_from_every_disk() {
    let mut world = World::start(3, config()).await;
    // More than one batch.
    for n in 0..150 {
        world.propose(register(n)).await;
    }
    let floor = compact(&world).await;
    world.propose(register(200)).await;
    world.agree().await;
    for node in 1..=3 {
        pruned(&world, node, floor).await;
        answers(&world.nodes[&node], floor);
        // A peer that changed last below the floor is there all the same, at any revision from the floor on.
        let node = &world.nodes[&node];
        assert_eq!(peer_at(node, &peer(3), floor), Some(1));
        assert_eq!(peer_at(node, &peer(200), floor), None, "it came later");
    }
    let cordon = statemachine::CordonPeer { id: peer(3) };
    let changed = world.propose(request(cordon.into())).await;
    world.propose(request(UncordonPeer { id: peer(3) }.into())).await;
    world.agree().await;
    for node in world.nodes.values() {
        let versions = [floor.0, changed - 1, changed, changed + 1].map(|at| peer_at(node, &peer(3), Revision(at)));
        assert_eq!(versions, [Some(1), Some(1), Some(2), Some(3)]);
    }
    // Nothing of it comes back with a restart.
    world.stop(2).await;
    world.boot(2).await;
    world.agree().await;
    pruned(&world, 2, floor).await;
    answers(&world.nodes[&2], floor);
    let again = compact(&world).await;
    assert!(again > floor);
    for node in 1..=3 {
        pruned(&world, node, again).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_that_was_cut_off_goes_on_after_the_restart() {
    let mut world = World::start(3, config()).await;
    for n in 0..400 {
        world.propose(register(n)).await;
    }
    let away = world.followers(&world.leader().await)[0].node().0;
    let floor = compact(&world).await;
    // Wherever it was by now, in the middle or before its first row.
    let disks = world.disks[away as usize - 1].clone();
    let handle = world.nodes.remove(&away).unwrap();
    disks.log.power_loss(|_| 0);
    disks.state.power_loss(|_| 0);
    handle.shutdown(Duration::from_secs(5)).await.ok();
    world.boot(away).await;
    world.propose(register(500)).await;
    world.agree().await;
    pruned(&world, away, floor).await;
    answers(&world.nodes[&away], floor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_carries_nothing_from_below_the_floor() {
    let short_log = Config {
        snapshot_after_entries: 50,
        keep_entries: 5,
        purge_batch: 1,
        ..config()
    };
    let mut world = World::start(3, short_log).await;
    for n in 0..120 {
        world.propose(register(n)).await;
    }
    let floor = compact(&world).await;
    for n in 200..260 {
        world.propose(register(n)).await;
    }
    let leader = world.leader().await;
    let mut status = leader.watch_status();
    let cut = status.wait_for(|s| s.purged_index.is_some_and(|index| index > floor.0));
    tokio::time::timeout(Duration::from_secs(20), cut)
        .await
        .unwrap()
        .unwrap();
    let added = world.boot_new().await;
    let endpoint = testing::endpoint(added);
    leader.add_learner(NodeId(added), endpoint, soon()).await.unwrap();
    world.agree().await;
    pruned(&world, added, floor).await;
    answers(&world.nodes[&added], floor);
    assert_eq!(peer_at(&world.nodes[&added], &peer(3), floor), Some(1));
    assert_ne!(world.nodes[&added].view().state().mesh.chain(), Hash::default());
}

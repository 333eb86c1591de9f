//! Removing a node, over and over.

mod halfway;

use std::collections::BTreeSet;
use std::time::Duration;

use statemachine::cluster::{self, NodeFacts};
use statemachine::{ClusterId, NodeId, Stamp};
use tokio::time::Instant;

use super::{Consistency, Error, Handle};
use crate::testing::{Disks, Network, config, endpoint, start_node};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Nodes 1 to `n`, all voters, each described as a node does for itself.
async fn cluster_of(n: u64) -> Vec<Handle> {
    let disks: Vec<Disks> = (0..n).map(|_| Disks::default()).collect();
    cluster_on(&Network::default(), &disks).await
}

/// The same, on a network and disks that are the test's own.
async fn cluster_on(network: &Network, disks: &[Disks]) -> Vec<Handle> {
    let n = disks.len() as u64;
    let mut nodes = Vec::new();
    for (node, disk) in (1..=n).zip(disks) {
        nodes.push(start_node(network, node, disk.open(), config()).await.unwrap());
    }
    let members = (1..=n).map(|node| (NodeId(node), endpoint(node))).collect();
    nodes[0].initialize(members, soon()).await.unwrap();
    for node in &nodes {
        let describe = cluster::Command::DescribeNode {
            stamp: Stamp::default(),
            cluster: ClusterId::new("c1").unwrap(),
            node: node.node(),
            facts: NodeFacts {
                api: "a".into(),
                raft: "r".into(),
                version: "1".into(),
                feature_level: 1,
                incarnation: cluster::Incarnation::default(),
            },
        };
        propose(node, describe).await;
    }
    nodes
}

async fn propose(node: &Handle, command: cluster::Command) {
    let deadline = soon();
    loop {
        match node.propose_cluster_anywhere(command.clone(), deadline).await {
            Ok(_) => return,
            Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn leader(nodes: &[Handle]) -> Handle {
    let deadline = soon();
    loop {
        let leads = |node: &&Handle| node.status().is_leader() && node.status().quorum.ok;
        if let Some(leader) = nodes.iter().find(leads) {
            return leader.clone();
        }
        assert!(Instant::now() < deadline, "nobody leads");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn remove(from: &Handle, node: NodeId, actor: &str) -> Result<(), Error> {
    from.remove_node(node, actor.into(), "old".into(), false, soon()).await
}

/// How long the cluster's own audit chain is, and who was removed, as everybody sees it.
async fn audited(nodes: &[Handle], removed: NodeId) -> u64 {
    let mut seen = BTreeSet::new();
    for node in nodes {
        let view = node.read(Consistency::Linearizable, soon()).await.unwrap();
        let cluster = &view.state().cluster;
        assert_eq!(cluster.removed().collect::<Vec<_>>(), [removed]);
        seen.insert(cluster.audit_head());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.into_iter().next().unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_removed_once_however_often_it_is_asked() {
    let mut nodes = cluster_of(4).await;
    let first = leader(&nodes).await;
    let gone = nodes.iter().map(Handle::node).rfind(|n| *n != first.node()).unwrap();
    let before = first.view().state().cluster.audit_head().1;
    remove(&first, gone, "alice").await.unwrap();
    let at = nodes.iter().position(|node| node.node() == gone).unwrap();
    let removed = nodes.remove(at);
    assert_eq!(audited(&nodes, gone).await, before + 1);

    remove(&first, gone, "bob").await.unwrap();
    assert_eq!(audited(&nodes, gone).await, before + 1, "by the same leader");
    let all = futures::future::join_all((0..5).map(|_| remove(&first, gone, "carol"))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(audited(&nodes, gone).await, before + 1, "all at once");

    first.transfer_leadership(None, soon()).await.unwrap();
    let second = leader(&nodes).await;
    assert_ne!(second.node(), first.node());
    // It knows what the first one knew before it is asked for anything.
    second.read(Consistency::Linearizable, soon()).await.unwrap();
    remove(&second, gone, "dave").await.unwrap();
    assert_eq!(audited(&nodes, gone).await, before + 1, "by another leader");
    match remove(&first, gone, "erin").await {
        Err(Error::NotLeader { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(second.status().quorum.voters, 3);
    for node in nodes.iter().chain([&removed]) {
        node.shutdown(Duration::from_secs(10)).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_got_halfway_is_finished_by_whoever_leads() {
    let mut nodes = cluster_of(4).await;
    let first = leader(&nodes).await;
    let gone = nodes.iter().map(Handle::node).rfind(|n| *n != first.node()).unwrap();
    let before = first.view().state().cluster.audit_head().1;
    // Out of the membership; then whoever asked gave up, and the leader went.
    let change = openraft::ChangeMembers::RemoveVoters(BTreeSet::from([gone.0]));
    first.node.raft.change_membership(change, false).await.unwrap();
    let at = nodes.iter().position(|node| node.node() == gone).unwrap();
    let removed = nodes.remove(at);
    first.transfer_leadership(None, soon()).await.unwrap();
    let second = leader(&nodes).await;
    let view = second.read(Consistency::Linearizable, soon()).await.unwrap();
    assert!(!view.state().cluster.is_removed(gone), "it is not on the list yet");

    remove(&second, gone, "alice").await.unwrap();
    assert_eq!(audited(&nodes, gone).await, before + 1);
    remove(&second, gone, "alice").await.unwrap();
    assert_eq!(audited(&nodes, gone).await, before + 1);
    match remove(&second, NodeId(77), "alice").await {
        Err(Error::Membership { .. }) => {}
        other => panic!("one that was never a member: {other:?}"),
    }
    for node in nodes.iter().chain([&removed]) {
        node.shutdown(Duration::from_secs(10)).await.ok();
    }
}

//! Changes of members that cannot be committed, or that somebody began and nobody ended.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use statemachine::cluster::{self, Outcome};
use statemachine::{Answer, NodeId, Stamp, audit};
use tokio::time::{Instant, sleep};

use super::{cluster_of, cluster_on, leader, propose, remove, soon};
use crate::error::{Error, MembershipRefusal};
use crate::handle::{Consistency, Handle};
use crate::net::JoinRequest;
use crate::testing::{Disks, Network, config, endpoint, start_node};

const SECRET: &[u8] = b"a secret of one invitation";

fn others(nodes: &[Handle], than: &Handle) -> Vec<Handle> {
    let others = nodes.iter().filter(|node| node.node() != than.node());
    others.cloned().collect()
}

async fn stop(node: &Handle) {
    node.shutdown(Duration::from_secs(10)).await.ok();
}

fn at_risk(outcome: Result<(), Error>) -> String {
    match outcome {
        Err(Error::Membership {
            refusal: MembershipRefusal::QuorumAtRisk,
            reason,
            ..
        }) => reason,
        other => panic!("{other:?}"),
    }
}

fn unrelated() -> cluster::Command {
    cluster::Command::InviteNode {
        stamp: Stamp::default(),
        node: NodeId(99),
        secret: audit::fingerprint(b"another"),
        ttl_ms: 60_000,
        actor: "alice".into(),
        reason: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_right_after_a_death_is_refused_and_stops_nothing() {
    let nodes = cluster_of(3).await;
    let first = leader(&nodes).await;
    let others = others(&nodes, &first);
    stop(&others[0]).await;
    // Its last answer is a moment old, so by that alone it would be thought to live.
    for force in [false, true] {
        let asked = first.remove_node(others[1].node(), "alice".into(), "old".into(), force, soon());
        let reason = at_risk(asked.await);
        assert!(
            reason.contains(&format!("Node {} does not", others[0].node())),
            "{reason}"
        );
    }
    assert_eq!(first.status().change, None);
    propose(&first, unrelated()).await;
    // The dead one may go.
    remove(&first, others[0].node(), "alice").await.unwrap();
    assert_eq!(first.status().quorum.voters, 2);
    for node in [&first, &others[1]] {
        stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_begun_without_a_majority_of_those_who_vote_now() {
    let nodes = cluster_of(4).await;
    let first = leader(&nodes).await;
    let others = others(&nodes, &first);
    stop(&others[0]).await;
    stop(&others[1]).await;
    // Of the three that stay two answer; of the four that vote two are no majority.
    let reason = at_risk(remove(&first, others[0].node(), "alice").await);
    assert!(reason.contains("Nothing can be committed now"), "{reason}");
    assert_eq!(first.status().change, None);
    for node in [&first, &others[2]] {
        stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_left_halfway_is_shown_and_completed() {
    let network = Network::default();
    let disks: Vec<Disks> = (0..3).map(|_| Disks::default()).collect();
    let nodes = cluster_on(&network, &disks).await;
    let first = leader(&nodes).await;
    let others = others(&nodes, &first);
    let (dead, gone) = (others[0].node(), others[1].node());
    stop(&others[0]).await;
    // As if it had died right after it was asked.
    let change = ChangeMembers::RemoveVoters(BTreeSet::from([gone.0]));
    let asked = first
        .change(change, false, Instant::now() + Duration::from_secs(1))
        .await;
    match asked {
        Err(Error::Unavailable { reason, maybe_applied }) => {
            assert!(maybe_applied && reason.contains("is begun"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let change = first.status().change.unwrap();
    assert_eq!((change.from.len(), change.to.len()), (3, 2), "{change:?}");

    let at = usize::try_from(dead.0 - 1).unwrap();
    let back = start_node(&network, dead.0, disks[at].open(), config()).await.unwrap();
    let nodes = [first, others[1].clone(), back];
    let deadline = soon();
    let second = loop {
        let leads = leader(&nodes).await;
        if leads.status().change.is_none() {
            break leads;
        }
        assert!(Instant::now() < deadline, "it stays halfway: {:?}", leads.status());
        sleep(Duration::from_millis(50)).await;
    };
    // Whether it was to be removed only whoever asked knows, and asks again.
    if let Some(member) = second.status().members.iter().find(|member| member.node == gone) {
        assert!(!member.voter, "{member:?}");
    }
    remove(&second, gone, "alice").await.unwrap();
    let view = second.read(Consistency::Linearizable, soon()).await.unwrap();
    assert!(view.state().cluster.is_removed(gone));
    for node in &nodes {
        stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_leader_died_between_admission_and_membership_joins_by_asking_again() {
    let network = Network::default();
    let disks: Vec<Disks> = (0..3).map(|_| Disks::default()).collect();
    let nodes = cluster_on(&network, &disks).await;
    let first = leader(&nodes).await;
    let invite = cluster::Command::InviteNode {
        stamp: Stamp::default(),
        node: NodeId(4),
        secret: audit::fingerprint(SECRET),
        ttl_ms: 60_000,
        actor: "alice".into(),
        reason: String::new(),
    };
    propose(&first, invite).await;
    // The first of the two steps of the leader that was asked, and no more.
    let admit = cluster::Command::AdmitNode {
        stamp: Stamp::default(),
        node: NodeId(4),
        secret: audit::fingerprint(SECRET),
        api: endpoint(4).api,
        raft: endpoint(4).raft,
    };
    let admitted = first.propose_cluster(admit, soon()).await.unwrap();
    assert!(
        matches!(admitted.answer, Answer::Cluster(Outcome::Applied)),
        "{:?}",
        admitted.answer
    );
    stop(&first).await;

    let nodes = others(&nodes, &first);
    let second = leader(&nodes).await;
    second.read(Consistency::Linearizable, soon()).await.unwrap();
    assert!(second.status().members.iter().all(|member| member.node != NodeId(4)));
    let joiner = start_node(&network, 4, Disks::default().open(), config())
        .await
        .unwrap();
    let request = JoinRequest {
        secret: SECRET.to_vec(),
        members: (1..=3).map(|node| (NodeId(node), endpoint(node).raft)).collect(),
        own: endpoint(4),
    };
    for _ in 0..2 {
        joiner.join(&request, soon()).await.unwrap();
    }
    let deadline = soon();
    while joiner.status().members.iter().all(|member| member.node != NodeId(4)) {
        assert!(Instant::now() < deadline, "{:?}", joiner.status());
        sleep(Duration::from_millis(50)).await;
    }
    // An operator who adds it by hand finds it done.
    let leads = leader(&nodes).await;
    leads.add_learner(NodeId(4), endpoint(4), soon()).await.unwrap();
    leads.add_voter(NodeId(4), soon()).await.unwrap();
    assert_eq!(leads.status().quorum.voters, 4);
    for node in nodes.iter().chain([&joiner]) {
        stop(node).await;
    }
}

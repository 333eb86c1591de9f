//! Votes that must not be given: a leader may count on its lease, and on what was acknowledged.

use std::time::Duration;

use tokio::time::Instant;

use super::{World, register, soon, until};
use crate::net::message::Lane;
use crate::testing::{Disks, config, endpoint, identity};
use crate::types::{LogIdRow, VoteRow};
use crate::{Config, Consistency, Handle, Role};

/// A candidate of a term that nobody has seen.
fn candidate(node: u64, term: u64) -> VoteRow {
    VoteRow {
        term,
        node,
        committed: false,
    }
}

/// A log that is longer than any.
fn long(term: u64) -> Option<LogIdRow> {
    Some(LogIdRow { term, index: 1 << 40 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_does_not_vote_while_a_leader_may_count_on_it() {
    let lease = Duration::from_secs(3);
    let config = Config {
        election_timeout_max: lease,
        ..config()
    };
    let mut world = World::start(3, config).await;
    world.propose(register(1)).await;
    let leader = world.leader().await;
    let (term, followers) = (leader.status().term, world.besides(&leader));
    let (restarted, other) = (followers[0], followers[1]);
    let old = leader.node().0;
    drop(leader);
    for node in [restarted, other, old] {
        world.stop(node).await;
    }
    // Alone, so that nobody refreshes any lease: only its own caution keeps it from voting.
    for pre in [true, false] {
        let began = Instant::now();
        world.boot(restarted).await;
        let line = world.speak(other, restarted, Lane::Control);
        let asked = candidate(other, term + 10);
        let mut refused = 0;
        while !line.gets_vote(pre, asked, long(term)).await {
            refused += 1;
            assert!(began.elapsed() < lease * 5, "it never votes again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(refused > 0, "it was not asked in time");
        let after = began.elapsed();
        assert!(after >= lease, "pre-vote {pre}: granted {after:?} after its start");
        world.stop(restarted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_not_recovered_neither_votes_nor_campaigns() {
    let mut world = World::start(3, config()).await;
    for n in 0..20 {
        world.propose(register(n)).await;
    }
    let leader = world.leader().await;
    let followers = world.besides(&leader);
    let (wiped, other) = (followers[0], followers[1]);
    let (old, term) = (leader.node().0, leader.status().term);
    world.stop(wiped).await;
    world.disks.insert(wiped, Disks::default());
    // The leader reaches it and fills it; it cannot ask the leader whether that was all.
    world.network.cut(&endpoint(old).raft);
    world.boot(wiped).await;
    let last = leader.status().last_log_index;
    until("it is filled", || world.nodes[&wiped].status().applied_index >= last).await;
    world.stop(other).await;
    drop(leader);
    world.stop(old).await;

    does_nothing(&world, wiped, other, term).await;
    // It is a matter of its disk, not of its process.
    world.stop(wiped).await;
    world.boot(wiped).await;
    does_nothing(&world, wiped, other, term).await;

    // What was acknowledged comes back with one that knows it, and with it the vote.
    world.network.mend(&endpoint(old).raft);
    world.boot(old).await;
    world.boot(other).await;
    world.propose(register(100)).await;
    let filled = world.nodes[&wiped].clone();
    let view = filled.read(Consistency::Linearizable, soon()).await.unwrap();
    assert_eq!(view.state().mesh.peer_count(), 21);
    until("it has recovered", || !filled.status().recovering).await;
    let leads = world.leader().await.node().0;
    assert_ne!(leads, wiped, "its log was the shortest");
    world.stop(leads).await;
    // Of the two that are left, neither can be elected without the other.
    world.propose(register(101)).await;
}

/// Asked over and over for longer than any lease and election lasts, it grants nothing; and of its
/// own accord it asks nobody.
async fn does_nothing(world: &World, wiped: u64, other: u64, term: u64) {
    let node: &Handle = &world.nodes[&wiped];
    let own = identity(wiped);
    let dialled = || world.network.dialled(&own.uri_of(own.node), &endpoint(other).raft);
    let before = dialled();
    let line = world.speak(other, wiped, Lane::Control);
    let election = world.config.election_timeout_max * 2;
    let until = Instant::now() + election * 2;
    while Instant::now() < until {
        for pre in [true, false] {
            let granted = line.gets_vote(pre, candidate(other, term + 10), long(term)).await;
            assert!(!granted, "pre-vote {pre}");
        }
        assert_ne!(node.status().role, Role::Candidate);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(dialled(), before, "it asked for votes");
    assert!(node.status().recovering);
}

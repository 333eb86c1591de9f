//! The mesh comes to a later epoch: after a restore, whose revisions are counted from an earlier one, or a promotion.

use super::*;
use crate::shards::Known;

fn of(mesh_epoch: u64, shard_epoch: u64) -> Token {
    Token {
        mesh_epoch,
        shard_epoch,
    }
}

/// The shard of peer `a`, as a node shows it whose mesh is at an epoch.
fn at(mesh_epoch: u64) -> v1::Shard {
    v1::Shard {
        token: Some(of(mesh_epoch, 1).into()),
        ..shard("a", 1)
    }
}

fn start(mesh_epoch: u64) -> Action {
    Action::Start {
        shard: key(),
        token: of(mesh_epoch, 1),
    }
}

fn stop(why: Why) -> Action {
    Action::Stop {
        shard: key(),
        token: token(1),
        why,
    }
}

fn beat(seen_revision: u64) -> Action {
    Action::Beat {
        seen_revision,
        leaving: false,
    }
}

#[test]
fn after_a_restore_it_serves_at_revisions_that_are_lower_than_those_before() {
    let mut core = serving();
    core.on(s(10), Event::Tick);
    core.on(s(10), Event::Stopped { shard: key() });
    // A lapse at a high revision: the view has to be as late as that.
    core.on(s(20), answered(s(20), LEASE, 5_000));
    assert_eq!(core.on(s(20), is(5_000, shard("a", 1))), [start(1)]);
    assert_eq!(core.on(s(30), Event::Tick), [beat(5_000), stop(Why::Lease)]);
    core.on(s(30), Event::Stopped { shard: key() });
    core.on(s(31), Event::Unanswered);
    // The mesh that was restored is at revision 3,001.
    core.on(s(40), begun(2));
    assert_eq!(core.on(s(40), whole(3_001, vec![at(2)])), [], "not without a lease");
    let actions = core.on(s(40), answered_at(2, s(40), LEASE, 3_001));
    assert_eq!(actions, [start(2)]);
}

#[test]
fn what_the_leader_knows_of_a_later_epoch_ends_the_watch_on_the_one_before() {
    let mut core = serving();
    let known = Known {
        mesh: "mesh".to_owned(),
        epoch: 2,
    };
    let actions = core.on(s(2), answered_at(2, s(2), LEASE, 6));
    assert_eq!(actions, [Action::Follow(known), stop(Why::Epoch)]);
    assert_eq!(
        core.on(s(2), Event::Stopped { shard: key() }),
        [],
        "not by the old view"
    );
    assert_eq!(core.on(s(2), begun(2)), []);
    assert_eq!(
        core.on(s(2), whole(5, vec![at(2)])),
        [],
        "not before it is as late as the lease"
    );
    let reached = Event::View(Update::Reached { revision: 6 });
    assert_eq!(core.on(s(2), reached), [start(2)]);
}

#[test]
fn a_lease_of_the_epoch_before_is_none() {
    let mut core = serving();
    core.on(s(1), Event::Unanswered);
    assert_eq!(core.on(s(1), begun(2)), [beat(5), stop(Why::Epoch)]);
    core.on(s(1), Event::Stopped { shard: key() });
    assert_eq!(core.on(s(1), whole(6, vec![at(2)])), []);
    assert_eq!(core.on(s(1), answered(s(1), LEASE, 900)), [], "of a leader that was");
    assert_eq!(core.on(s(2), answered_at(2, s(1), LEASE, 6)), [beat(6), start(2)]);
}

#[test]
fn a_watch_that_goes_on_in_the_later_epoch_needs_no_snapshot() {
    let mut core = serving();
    core.on(s(2), begun(2));
    core.on(s(2), Event::Stopped { shard: key() });
    core.on(s(2), answered_at(2, s(2), LEASE, 5));
    assert!(core.serving().is_empty(), "it may yet begin with a snapshot");
    // The shard has not changed since; its token has.
    let reached = Event::View(Update::Reached { revision: 5 });
    assert_eq!(core.on(s(2), reached), [start(2)]);
}

#[test]
fn what_is_acknowledged_is_so_under_the_token_of_now() {
    let mut core = serving();
    core.on(s(2), is(6, moving("a", 1, "b", Step::Stopping, 6)));
    core.on(s(2), answered_at(2, s(2), LEASE, 7));
    assert_eq!(
        core.on(s(2), Event::Stopped { shard: key() }),
        [],
        "it would be refused"
    );
    core.on(s(2), begun(2));
    let actions = core.on(s(2), Event::View(Update::Reached { revision: 7 }));
    let [Action::Acknowledge(ack)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(ack.token, of(2, 1));
}

#[test]
fn nothing_that_is_known_of_one_mesh_counts_in_another() {
    let mut core = serving();
    core.on(s(2), begun(7));
    core.on(s(2), Event::Stopped { shard: key() });
    let another = Event::Begun {
        mesh: "another".to_owned(),
        epoch: 1,
    };
    core.on(s(3), another);
    assert_eq!(
        core.on(s(3), answered_at(7, s(2), LEASE, 900)),
        [],
        "from the one before"
    );
    assert_eq!(core.on(s(3), whole(4, vec![shard("a", 1)])), []);
    assert_eq!(core.on(s(3), answered(s(3), LEASE, 4)), [start(1)]);
}

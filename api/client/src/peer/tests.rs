//! The peer's rules, one by one; stories in which everything may be late or lost are in [`story`].

mod epochs;
mod run;
mod story;

use std::time::Duration;

use proto::v1::{
    self,
    shard::{Move, Status, r#move::Step},
};

use super::{
    core::{Core, RETRY},
    event::{Acknowledgement, Action, Event, ShardKey, Why},
};
use crate::shards::{Change, Token, Update};

const LEASE: Duration = Duration::from_secs(10);
const NEXT: Duration = Duration::from_secs(1);

fn key() -> ShardKey {
    ShardKey {
        namespace: "demo".into(),
        shard: 0,
    }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn shard(owner: &str, epoch: u64) -> v1::Shard {
    v1::Shard {
        namespace: "demo".to_owned(),
        owner: owner.to_owned(),
        status: Status::Active.into(),
        token: Some(v1::FencingToken {
            mesh_epoch: 1,
            shard_epoch: epoch,
        }),
        ..v1::Shard::default()
    }
}

fn moving(owner: &str, epoch: u64, to: &str, step: Step, begun: u64) -> v1::Shard {
    let moving = Move {
        begun,
        to: to.to_owned(),
        step: step.into(),
        ..Move::default()
    };
    v1::Shard {
        status: Status::Moving.into(),
        moving: Some(moving),
        ..shard(owner, epoch)
    }
}

fn whole(revision: u64, shards: Vec<v1::Shard>) -> Event {
    Event::View(Update::Whole { revision, shards })
}

fn is(revision: u64, shard: v1::Shard) -> Event {
    let changes = vec![Change::Is(shard)];
    Event::View(Update::Revision { revision, changes })
}

fn answered(sent: Duration, lease: Duration, view_revision: u64) -> Event {
    answered_at(1, sent, lease, view_revision)
}

fn answered_at(epoch: u64, sent: Duration, lease: Duration, view_revision: u64) -> Event {
    Event::Answered {
        sent,
        lease,
        view_revision,
        epoch,
        next: NEXT,
    }
}

fn begun(epoch: u64) -> Event {
    Event::Begun {
        mesh: "mesh".to_owned(),
        epoch,
    }
}

fn token(epoch: u64) -> Token {
    Token {
        mesh_epoch: 1,
        shard_epoch: epoch,
    }
}

/// The peer `a`, serving its shard since second 1.
fn serving() -> Core {
    let mut core = Core::new("a");
    assert!(matches!(
        core.on(s(0), Event::Tick)[..],
        [Action::Beat {
            seen_revision: 0,
            leaving: false
        }]
    ));
    assert_eq!(core.on(s(0), begun(1)), []);
    assert_eq!(core.on(s(0), whole(5, vec![shard("a", 1)])), [], "not without a lease");
    let start = Action::Start {
        shard: key(),
        token: token(1),
    };
    assert_eq!(
        core.on(s(1), answered(s(0), LEASE, 5)),
        [
            Action::Beat {
                seen_revision: 5,
                leaving: false
            },
            start
        ]
    );
    core
}

#[test]
fn the_lease_counts_from_when_the_heartbeat_was_sent() {
    let mut core = serving();
    assert_eq!(core.wake(), Some(s(10)));
    assert_eq!(core.on(s(10) - Duration::from_nanos(1), Event::Tick), []);
    let stop = Action::Stop {
        shard: key(),
        token: token(1),
        why: Why::Lease,
    };
    assert_eq!(core.on(s(10), Event::Tick), [stop]);
}

#[test]
fn after_a_lapse_the_view_has_to_be_as_late_as_the_mesh_says() {
    let mut core = serving();
    core.on(s(10), Event::Tick);
    core.on(s(10), Event::Stopped { shard: key() });
    // Seen at revision 5; meanwhile it was another's, which this view does not know yet.
    let actions = core.on(s(30), answered(s(29), LEASE, 8));
    assert!(matches!(actions[..], [Action::Beat { .. }]), "{actions:?}");
    assert_eq!(core.on(s(30), is(7, shard("b", 2))), []);
    let start = Action::Start {
        shard: key(),
        token: token(3),
    };
    assert_eq!(core.on(s(30), is(8, shard("a", 3))), [start]);
}

#[test]
fn a_lease_that_was_renewed_in_time_asks_for_no_later_view() {
    let mut core = serving();
    assert_eq!(
        core.on(s(2), answered(s(1), LEASE, 900)),
        [Action::Beat {
            seen_revision: 5,
            leaving: false
        }]
    );
    assert!(core.serving().contains_key(&key()));
    // A late answer of an earlier heartbeat takes nothing back.
    core.on(s(2), answered(s(0), LEASE, 900));
    assert_eq!(core.lease_until(), Some(s(11)));
}

#[test]
fn without_a_lease_or_with_a_refusal_nothing_is_served() {
    for event in [answered(s(2), Duration::ZERO, 5), Event::Refused] {
        let mut core = serving();
        let actions = core.on(s(3), event);
        assert!(
            actions.iter().any(|action| matches!(action, Action::Stop { .. })),
            "{actions:?}"
        );
    }
}

#[test]
fn a_move_is_prepared_stopped_and_acknowledged_once() {
    let (mut source, mut target) = (serving(), Core::new("b"));
    target.on(s(0), Event::Tick);
    target.on(s(0), begun(1));
    target.on(s(0), whole(5, vec![]));
    target.on(s(1), answered(s(0), LEASE, 5));

    let preparing = moving("a", 1, "b", Step::Preparing, 6);
    assert_eq!(source.on(s(2), is(6, preparing.clone())), [], "it goes on serving");
    let prepare = Action::Prepare { shard: key(), begun: 6 };
    assert_eq!(target.on(s(2), is(6, preparing)), [prepare]);
    let ready = Event::Prepared {
        shard: key(),
        begun: 6,
        ready: true,
    };
    let ack = |step| Acknowledgement {
        shard: key(),
        begun: 6,
        step,
        token: token(1),
        failed: false,
    };
    assert_eq!(target.on(s(2), ready), [Action::Acknowledge(ack(Step::Preparing))]);
    assert_eq!(target.on(s(2), Event::Tick), [], "once");
    let lost = |done| Event::Told {
        shard: key(),
        begun: 6,
        step: Step::Preparing,
        done,
    };
    assert_eq!(target.on(s(2), lost(false)), []);
    assert_eq!(
        target.on(s(2) + RETRY, Event::Tick),
        [Action::Acknowledge(ack(Step::Preparing))],
        "and again"
    );
    assert_eq!(target.on(s(3), lost(true)), []);

    let stopping = moving("a", 1, "b", Step::Stopping, 6);
    let stop = Action::Stop {
        shard: key(),
        token: token(1),
        why: Why::Moving,
    };
    assert_eq!(source.on(s(3), is(7, stopping.clone())), [stop]);
    assert_eq!(
        source.on(s(3), Event::Stopped { shard: key() }),
        [Action::Acknowledge(ack(Step::Stopping))]
    );
    assert_eq!(target.on(s(3), is(7, stopping)), []);
    let start = Action::Start {
        shard: key(),
        token: token(2),
    };
    assert_eq!(target.on(s(3), is(8, shard("b", 2))), [start]);
    assert_eq!(source.on(s(3), is(8, shard("b", 2))), []);
}

#[test]
fn a_move_that_is_given_up_leaves_the_shard_served_and_nothing_prepared() {
    let (mut source, mut target) = (serving(), Core::new("b"));
    target.on(s(0), Event::Tick);
    target.on(s(0), begun(1));
    target.on(s(0), whole(6, vec![moving("a", 1, "b", Step::Preparing, 6)]));
    let failed = Event::Prepared {
        shard: key(),
        begun: 6,
        ready: false,
    };
    let actions = target.on(s(0), failed);
    assert!(
        matches!(
            &actions[..],
            [Action::Acknowledge(Acknowledgement { failed: true, .. })]
        ),
        "{actions:?}"
    );
    let gone = Change::Gone {
        namespace: "demo".to_owned(),
        shard: 0,
    };
    let abandoned = target.on(
        s(1),
        Event::View(Update::Revision {
            revision: 8,
            changes: vec![gone],
        }),
    );
    assert_eq!(abandoned, [Action::Abandon { shard: key() }]);

    source.on(s(1), is(7, moving("a", 1, "b", Step::Stopping, 6)));
    assert_eq!(
        source.on(s(1), is(8, shard("a", 1))),
        [],
        "not before what was begun has ended"
    );
    let start = Action::Start {
        shard: key(),
        token: token(1),
    };
    assert_eq!(source.on(s(1), Event::Stopped { shard: key() }), [start]);
}

#[test]
fn a_stop_that_failed_is_not_acknowledged_and_the_shard_is_served_again() {
    let mut core = serving();
    let stopping = |begun| moving("a", 1, "b", Step::Stopping, begun);
    let stop = Action::Stop {
        shard: key(),
        token: token(1),
        why: Why::Moving,
    };
    assert_eq!(core.on(s(2), is(6, stopping(6))), std::slice::from_ref(&stop));
    let failed = Event::StopFailed { shard: key() };
    assert_eq!(core.on(s(2), failed), [], "nobody knows whether its work has ended");
    let start = Action::Start {
        shard: key(),
        token: token(1),
    };
    assert_eq!(
        core.on(s(3), is(7, shard("a", 1))),
        [start],
        "the mesh gave the move up"
    );
    assert_eq!(core.on(s(3), is(8, stopping(8))), [stop]);
    let actions = core.on(s(3), Event::Stopped { shard: key() });
    assert!(matches!(actions[..], [Action::Acknowledge(_)]), "{actions:?}");
}

#[test]
fn who_leaves_serves_nothing_and_says_so() {
    let mut core = serving();
    let stop = Action::Stop {
        shard: key(),
        token: token(1),
        why: Why::Leaving,
    };
    assert_eq!(
        core.on(s(2), Event::Leave),
        [
            Action::Beat {
                seen_revision: 5,
                leaving: true
            },
            stop
        ]
    );
    assert!(!core.is_idle());
    core.on(s(2), Event::Stopped { shard: key() });
    assert!(core.is_idle());
    // What was sent before says nothing of it, and what was lost is said again.
    core.on(s(2), answered(s(1), LEASE, 5));
    assert!(!core.has_said_all());
    core.on(s(3), Event::Unanswered);
    assert_eq!(core.wake(), Some(s(3) + RETRY));
    let again = core.on(s(3) + RETRY, Event::Tick);
    assert!(matches!(again[..], [Action::Beat { leaving: true, .. }]), "{again:?}");
    core.on(s(4), answered(s(3) + RETRY, Duration::ZERO, 5));
    assert!(core.has_said_all());
}

#[test]
fn who_leaves_in_the_middle_of_a_move_says_that_it_has_stopped() {
    let mut core = serving();
    core.on(s(2), Event::Leave);
    core.on(s(2), answered(s(2), Duration::ZERO, 5));
    core.on(s(2), is(6, moving("a", 1, "b", Step::Stopping, 6)));
    assert!(core.has_said_all(), "its work has not ended");
    let said = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::Acknowledge(_)));
    assert!(said(core.on(s(3), Event::Stopped { shard: key() })));
    assert!(core.is_idle() && !core.has_said_all());
    let told = |done| Event::Told {
        shard: key(),
        begun: 6,
        step: Step::Stopping,
        done,
    };
    core.on(s(3), told(false));
    assert!(!core.has_said_all());
    assert!(said(core.on(s(4), Event::Tick)));
    core.on(s(4), told(true));
    assert!(core.has_said_all());
}

#[test]
fn a_shard_is_prepared_once_at_a_time_and_not_while_it_is_stopped() {
    let prepares = |actions: &[Action]| {
        let begun = actions.iter().filter_map(|action| match action {
            Action::Prepare { begun, .. } => Some(*begun),
            _ => None,
        });
        begun.collect::<Vec<_>>()
    };
    let prepared = |begun, ready| Event::Prepared {
        shard: key(),
        begun,
        ready,
    };
    let mut core = Core::new("b");
    core.on(s(0), begun(1));
    core.on(s(0), answered(s(0), LEASE, 1));
    core.on(s(0), whole(5, vec![shard("a", 1)]));
    let coming = |begun| moving("a", 1, "b", Step::Preparing, begun);
    assert_eq!(prepares(&core.on(s(1), is(6, coming(6)))), [6]);
    // The move takes too long, and is tried again while the first preparation still runs.
    core.on(s(2), is(7, shard("a", 1)));
    assert!(prepares(&core.on(s(3), is(8, coming(8)))).is_empty());
    let actions = core.on(s(4), prepared(6, true));
    assert_eq!(prepares(&actions), [8]);
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Acknowledge(_))),
        "it is not of this move"
    );
    let actions = core.on(s(5), prepared(8, true));
    assert!(matches!(actions[..], [Action::Acknowledge(_)]), "{actions:?}");

    // It serves, loses the shard, and is to have it again before its work has ended.
    let mut core = serving();
    core.on(s(2), is(6, shard("b", 2)));
    let back = moving("b", 2, "a", Step::Preparing, 7);
    assert!(prepares(&core.on(s(2), is(7, back))).is_empty());
    assert_eq!(prepares(&core.on(s(3), Event::Stopped { shard: key() })), [7]);
}

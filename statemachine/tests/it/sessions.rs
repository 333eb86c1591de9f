//! Sessions of browsers: who has them, how they end, and how many there may be.

use meshkit_statemachine::{
    BeginSession, EndSessions, Hash, Outcome, SESSION_MAX_MS, SESSIONS_MAX, SESSIONS_PER_SUBJECT_MAX, record::Held,
};

use crate::world::World;

fn id(n: u64) -> Hash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Hash(bytes)
}

fn begin(world: &mut World, subject: &str, n: u64, lasts_ms: u64) -> Result<(), String> {
    let begin = BeginSession {
        id: id(n),
        held: Held::Observe,
        expires_ms: world.now_ms + lasts_ms,
    };
    let mut proposal = world.proposal(begin.into());
    proposal.origin.actor = subject.into();
    match &world.propose(proposal).unit.outcome {
        Outcome::Applied { .. } => Ok(()),
        Outcome::Rejected(rejection) => Err(rejection.code().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn end(world: &mut World, subject: &str, n: Option<u64>) -> usize {
    let end = EndSessions {
        subject: subject.into(),
        id: n.map(id),
    };
    world.run(end.into()).unwrap().unit.changes().len()
}

#[test]
fn a_session_is_there_until_it_is_ended_by_or_for_its_subject() {
    let mut world = World::new();
    for (subject, n) in [("alice", 1), ("alice", 2), ("bob", 3)] {
        begin(&mut world, subject, n, 60_000).unwrap();
    }
    let session = world.state.mesh.session(id(1)).unwrap().clone();
    assert_eq!((session.subject.as_str(), session.held), ("alice", Held::Observe));
    assert_eq!(begin(&mut world, "bob", 1, 60_000).unwrap_err(), "invalid_argument");
    // What is not one's own is not there.
    assert_eq!(end(&mut world, "bob", Some(1)), 0);
    assert_eq!(end(&mut world, "alice", Some(1)), 1);
    assert_eq!(end(&mut world, "alice", Some(1)), 0);
    begin(&mut world, "alice", 4, 60_000).unwrap();
    assert_eq!(end(&mut world, "alice", None), 2);
    assert_eq!(world.state.mesh.session_count(), 1);
    assert!(world.state.mesh.session(id(3)).is_some());
    assert_eq!(world.reload().head_row(), world.state.head_row());
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn sessions_are_bounded_and_what_is_long_over_makes_room() {
    let mut world = World::new();
    assert_eq!(
        begin(&mut world, "alice", 0, 2 * SESSION_MAX_MS).unwrap_err(),
        "invalid_argument"
    );
    let most = u64::try_from(SESSIONS_PER_SUBJECT_MAX).unwrap();
    for n in 0..most + 3 {
        begin(&mut world, "alice", n, 60_000).unwrap();
    }
    assert_eq!(world.state.mesh.session_count(), most);
    assert!(world.state.mesh.session(id(2)).is_none() && world.state.mesh.session(id(3)).is_some());
    let mut n = 1_000;
    while world.state.mesh.session_count() < SESSIONS_MAX {
        begin(&mut world, &format!("s{}", n / most), n, 60_000).unwrap();
        n += 1;
    }
    assert_eq!(
        begin(&mut world, "late", 9_999_999, 60_000).unwrap_err(),
        "resource_exhausted"
    );
    // One's own oldest makes room for one's own next.
    begin(&mut world, "alice", 9_999_998, 60_000).unwrap();
    // Right after their end they may still be asked for; an hour later nobody does.
    world.now_ms += 120_000;
    assert_eq!(
        begin(&mut world, "late", 9_999_999, 60_000).unwrap_err(),
        "resource_exhausted"
    );
    world.now_ms += 3_600_000;
    begin(&mut world, "late", 9_999_999, 60_000).unwrap();
    assert!(world.state.mesh.session_count() < SESSIONS_MAX);
}

//! Registers under kills of the leader and of everybody, and the judge judged.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use meshkit_jepsen_style_tests::{
    history::{Call, End, Event, History, INITIAL},
    run::{Plan, judge, run},
};

/// Measurements and faults of one test must not disturb another's.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn registers_stay_linearizable_while_leaders_are_killed() {
    let _alone = alone();
    let plan = Plan {
        length: Duration::from_secs(20),
        kills: 2,
        clients: 12,
        nodes: 3,
        pause: Duration::from_millis(10),
        seed: rand::random(),
        out: Path::new(env!("CARGO_TARGET_TMPDIR")).join("registers"),
        environment: Vec::new(),
    };
    let verdict = run(&plan).unwrap();
    assert!(verdict.is_good(), "\n{}", verdict.told());
    println!("{}", verdict.told());

    // A judge that accepts everything would have said the same: falsify what was recorded.
    let history = History::read(&verdict.history).unwrap();
    assert_eq!(judge(&history), Vec::<String>::new());
    for (what, falsified) in [
        ("a stale read", stale_read(history.clone())),
        ("a lost write", lost_write(history.clone())),
        (
            "a write that took effect though it failed",
            failed_write(history.clone()),
        ),
    ] {
        assert!(!judge(&falsified.unwrap()).is_empty(), "{what} was not noticed");
    }
}

/// The last read of a register that had been written before: answered as if nobody had.
fn stale_read(mut history: History) -> Option<History> {
    let operations = history.operations();
    let read = operations.iter().rev().find(|read| {
        let written = |write: &&_| {
            let write: &meshkit_jepsen_style_tests::history::Operation = write;
            write.key == read.key
                && write.is_ok()
                && write.call.writes().is_some()
                && write.ended.as_ref().is_some_and(|(line, _)| *line < read.began)
        };
        read.call == Call::Read && read.is_ok() && operations.iter().any(|write| written(&write))
    })?;
    let (line, _) = read.ended.clone()?;
    if let Event::End {
        end: End::Ok { value, .. },
        ..
    } = &mut history.events[line]
    {
        *value = Some(INITIAL);
    }
    Some(history)
}

/// A write whose value somebody read: it and its end disappear.
fn lost_write(mut history: History) -> Option<History> {
    let operations = history.operations();
    let seen = seen_write(&history)?;
    let write = operations.iter().find(|operation| operation.id == seen)?;
    let (line, _) = write.ended.clone()?;
    history.events.remove(line);
    history.events.remove(write.began);
    Some(history)
}

/// A write whose value somebody read: it is said to have failed.
fn failed_write(mut history: History) -> Option<History> {
    let seen = seen_write(&history)?;
    let operations = history.operations();
    let (line, _) = operations
        .iter()
        .find(|operation| operation.id == seen)?
        .ended
        .clone()?;
    if let Event::End { end, .. } = &mut history.events[line] {
        *end = End::Fail {
            code: "unavailable".into(),
            detail: "falsified".into(),
        };
    }
    Some(history)
}

fn seen_write(history: &History) -> Option<u64> {
    let operations = history.operations();
    let read = |value: u64| {
        operations.iter().any(|read| {
            read.call == Call::Read
                && matches!(&read.ended, Some((_, End::Ok { value: Some(seen), .. })) if *seen == value)
        })
    };
    let write = operations
        .iter()
        .find(|write| write.is_ok() && write.call.writes().is_some_and(read))?;
    Some(write.id)
}

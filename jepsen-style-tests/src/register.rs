//! Whether there is an order that explains what was seen of a register: linearizability.
//!
//! Each register is judged for itself. Values are written once only, so that a read names the write that it saw. An
//! operation whose outcome is unknown may take effect at any time after it began; one that failed never does, and a
//! compare-and-set that was refused saw that the value was another one.

use std::{collections::BTreeMap, time::Duration};

use porcupine_rs::{CheckResult, Model, Operation as Step, check_operations_timeout};

use crate::history::{Call, End, INITIAL, Operation};

/// Above this a search may take for ever; a history with more on one register is not judged, which is a failure.
pub const OPERATIONS_MAX: usize = 200;

/// How long one search may take; a search that does not end is a failure.
const SEARCH_MAX: Duration = Duration::from_secs(30);

/// What a register does, as the search sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It was seen as this; `None` where it was not there at all.
    Saw(Option<u64>),
    /// It became this.
    Set(u64),
    /// It was `from` and became `to`.
    Swapped { from: u64, to: u64 },
    /// It was seen to be something else.
    Differed(u64),
    /// If it was `from`, it became `to`.
    MaySwap { from: u64, to: u64 },
}

#[derive(Debug, Clone)]
struct Register;

impl Model for Register {
    type State = u64;
    type Op = Effect;
    type Metadata = ();

    fn init() -> u64 {
        INITIAL
    }

    fn step(state: &u64, effect: &Effect) -> (bool, u64) {
        match *effect {
            Effect::Saw(value) => (value == Some(*state), *state),
            Effect::Set(to) => (true, to),
            Effect::Swapped { from, to } => (*state == from, to),
            Effect::Differed(from) => (*state != from, *state),
            Effect::MaySwap { from, to } => (true, if *state == from { to } else { *state }),
        }
    }
}

/// A register whose history nothing explains, or that could not be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The register.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// The operations up to the one that made it wrong, one a line.
    pub history: Vec<String>,
}

/// Judges every register of a history. Empty where all is well.
pub fn check(operations: &[Operation]) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys.into_iter()
        .filter_map(|(key, operations)| judge(key, &operations))
        .collect()
}

fn judge(key: &str, operations: &[&Operation]) -> Option<Violation> {
    let violation = |what: String, shown: Vec<String>| {
        Some(Violation {
            key: key.to_owned(),
            what,
            history: shown,
        })
    };
    if operations.len() > OPERATIONS_MAX {
        let what = format!(
            "{} operations are more than can be judged ({OPERATIONS_MAX})",
            operations.len()
        );
        return violation(what, Vec::new());
    }
    match verdict(operations, usize::MAX) {
        CheckResult::Ok => None,
        CheckResult::Unknown => violation(
            format!("undecided after {} s; that counts as a failure", SEARCH_MAX.as_secs()),
            operations.iter().map(|operation| told(operation)).collect(),
        ),
        CheckResult::Illegal => {
            let cut = first_illegal(operations);
            let until = operations.iter().filter(|operation| operation.began <= cut);
            violation(
                "no order explains these operations".to_owned(),
                until.map(|operation| told(operation)).collect(),
            )
        }
    }
}

/// The line of the history with which it became inexplicable: more lines only make it worse.
fn first_illegal(operations: &[&Operation]) -> usize {
    let mut ends: Vec<usize> = operations
        .iter()
        .filter_map(|operation| Some(operation.ended.as_ref()?.0))
        .collect();
    ends.sort_unstable();
    let explained = ends.partition_point(|end| verdict(operations, *end) != CheckResult::Illegal);
    ends.get(explained).copied().unwrap_or(usize::MAX)
}

/// Judges what had happened up to line `cut`.
fn verdict(operations: &[&Operation], cut: usize) -> CheckResult {
    let began = operations.iter().filter(|operation| operation.began <= cut);
    let steps: Vec<Step<Register>> = began.filter_map(|operation| step(operation, cut)).collect();
    check_operations_timeout(&steps, SEARCH_MAX)
}

/// An operation as the search sees it; absent where it says nothing.
fn step(operation: &Operation, cut: usize) -> Option<Step<Register>> {
    let place = |line: usize| i64::try_from(line).unwrap_or(i64::MAX - 1);
    let ended = operation.ended.as_ref().filter(|(line, _)| *line <= cut);
    let (return_time, op) = match ended {
        Some((line, End::Ok { value, .. })) => (place(*line), done(operation.call, *value)),
        Some((line, End::Fail { code, .. })) => (place(*line), refused(operation.call, code)?),
        Some((_, End::Info { .. })) | None => (i64::MAX, perhaps(operation.call)?),
    };
    Some(Step {
        client_id: Some(operation.process),
        call_time: place(operation.began),
        return_time,
        op,
        metadata: None,
    })
}

fn done(call: Call, value: Option<u64>) -> Effect {
    match call {
        Call::Read => Effect::Saw(value),
        // The answer shows the record as the write left it.
        Call::Write { to } | Call::Cas { to, .. } if value != Some(to) => Effect::Saw(None),
        Call::Write { to } => Effect::Set(to),
        Call::Cas { from, to } => Effect::Swapped { from, to },
    }
}

fn refused(call: Call, code: &str) -> Option<Effect> {
    match (call, code) {
        // Registers are made before they are used, and stay.
        (_, "not_found") => Some(Effect::Saw(None)),
        (Call::Cas { from, .. }, "etag_mismatch") => Some(Effect::Differed(from)),
        (Call::Read | Call::Write { .. } | Call::Cas { .. }, _) => None,
    }
}

fn perhaps(call: Call) -> Option<Effect> {
    match call {
        Call::Read => None,
        Call::Write { to } => Some(Effect::Set(to)),
        Call::Cas { from, to } => Some(Effect::MaySwap { from, to }),
    }
}

fn told(operation: &Operation) -> String {
    let call = match operation.call {
        Call::Read => "read".to_owned(),
        Call::Write { to } => format!("write {to}"),
        Call::Cas { from, to } => format!("cas {from} -> {to}"),
    };
    let end = match &operation.ended {
        None => "never ended".to_owned(),
        Some((_, End::Ok { value, changed, .. })) => {
            let value = value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            format!("ok, {value} of revision {changed}")
        }
        Some((_, End::Fail { code, .. })) => format!("failed, {code}"),
        Some((_, End::Info { code, .. })) => format!("unknown, {code}"),
    };
    let until = operation.ended_us.map_or_else(|| "…".to_owned(), |us| us.to_string());
    format!(
        "[{}, {until}] us  client {} at node {}: {call}: {end}",
        operation.began_us, operation.process, operation.node
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operation by hand: `lines` are where it began and ended.
    fn operation(process: u32, lines: (usize, usize), call: Call, end: End) -> Operation {
        Operation {
            id: u64::from(process),
            process,
            node: 1,
            key: "r".into(),
            call,
            began: lines.0,
            ended: Some((lines.1, end)),
            began_us: lines.0 as u64,
            ended_us: Some(lines.1 as u64),
        }
    }

    fn ok(value: u64) -> End {
        End::Ok {
            value: Some(value),
            changed: 1,
            shown: None,
            attempts: 1,
        }
    }

    fn fail(code: &str) -> End {
        End::Fail {
            code: code.into(),
            detail: String::new(),
        }
    }

    fn info() -> End {
        End::Info {
            code: "unavailable".into(),
            detail: String::new(),
        }
    }

    const READ: Call = Call::Read;
    const W1: Call = Call::Write { to: 1 };
    const W2: Call = Call::Write { to: 2 };

    #[test]
    fn good_histories_are_accepted() {
        let concurrent = [
            operation(1, (0, 5), W1, ok(1)),
            operation(2, (1, 2), READ, ok(0)),
            operation(3, (3, 4), READ, ok(1)),
            operation(2, (6, 9), Call::Cas { from: 1, to: 2 }, ok(2)),
            operation(3, (7, 8), Call::Cas { from: 1, to: 3 }, fail("etag_mismatch")),
        ];
        assert_eq!(check(&concurrent), vec![]);
        // A write of unknown outcome may take effect late, or never.
        let late = [
            operation(1, (0, 1), W1, info()),
            operation(2, (2, 3), READ, ok(0)),
            operation(2, (4, 5), READ, ok(1)),
        ];
        assert_eq!(check(&late), vec![]);
        let never = [operation(1, (0, 1), W1, info()), operation(2, (2, 3), READ, ok(0))];
        assert_eq!(check(&never), vec![]);
        let in_vain = [
            operation(1, (0, 1), W1, fail("unavailable")),
            operation(2, (2, 3), READ, ok(0)),
        ];
        assert_eq!(check(&in_vain), vec![]);
    }

    #[test]
    fn a_stale_read_is_rejected_with_the_operations_up_to_it() {
        let stale = [
            operation(1, (0, 1), W1, ok(1)),
            operation(1, (2, 3), W2, ok(2)),
            operation(2, (4, 5), READ, ok(1)),
            operation(2, (6, 7), READ, ok(2)),
        ];
        let violations = check(&stale);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].history.len(), 3);
    }

    #[test]
    fn a_lost_write_is_rejected() {
        let lost = [operation(1, (0, 1), W1, ok(1)), operation(2, (2, 3), READ, ok(0))];
        assert_eq!(check(&lost).len(), 1);
        let gone = [
            operation(1, (0, 1), W1, ok(1)),
            operation(2, (2, 3), READ, fail("not_found")),
        ];
        assert_eq!(check(&gone).len(), 1);
    }

    #[test]
    fn a_write_that_failed_must_not_be_seen() {
        let seen = [
            operation(1, (0, 1), W1, fail("unavailable")),
            operation(2, (2, 3), READ, ok(1)),
        ];
        assert_eq!(check(&seen).len(), 1);
        let invented = [operation(2, (2, 3), READ, ok(77))];
        assert_eq!(check(&invented).len(), 1);
    }

    #[test]
    fn an_unknown_write_takes_effect_once_and_stays() {
        let back = [
            operation(1, (0, 1), W1, info()),
            operation(2, (2, 3), READ, ok(1)),
            operation(2, (4, 5), READ, ok(0)),
        ];
        assert_eq!(check(&back).len(), 1);
    }

    #[test]
    fn two_compare_and_sets_from_one_value_cannot_both_be_done() {
        let both = [
            operation(1, (0, 3), Call::Cas { from: 0, to: 1 }, ok(1)),
            operation(2, (1, 2), Call::Cas { from: 0, to: 2 }, ok(2)),
        ];
        assert_eq!(check(&both).len(), 1);
        let refused_for_nothing = [operation(
            1,
            (0, 3),
            Call::Cas { from: 0, to: 1 },
            fail("etag_mismatch"),
        )];
        assert_eq!(check(&refused_for_nothing).len(), 1);
        let other_answer = [operation(1, (0, 3), W1, ok(2))];
        assert_eq!(check(&other_answer).len(), 1);
    }

    #[test]
    fn too_many_operations_on_one_register_are_not_passed_over() {
        let many: Vec<_> = (0..=OPERATIONS_MAX)
            .map(|n| operation(1, (2 * n, 2 * n + 1), READ, ok(0)))
            .collect();
        assert_eq!(check(&many).len(), 1);
    }
}

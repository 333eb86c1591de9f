//! Whether answers are as new as they must be, by the revisions that they carry.
//!
//! A second judgement beside the search of [`crate::register`]: it needs no search, so it has no limit, and it looks
//! across registers. Whatever begins after an answer has come must show at least what that answer showed, and a write
//! must come after it.

use crate::history::{Call, End, Operation};

/// Says what is wrong, one sentence each. Empty where all is well.
pub fn check(operations: &[Operation]) -> Vec<String> {
    let mut complaints = Vec::new();
    let done = |operation: &Operation| match &operation.ended {
        Some((line, End::Ok { changed, shown, .. })) => Some((*line, *changed, *shown)),
        Some((_, End::Fail { .. } | End::Info { .. })) | None => None,
    };
    // What was known at the end of which line: the newest revision that any answer had shown.
    let mut known: Vec<(usize, u64, u64)> = operations
        .iter()
        .filter_map(|operation| {
            let (line, changed, shown) = done(operation)?;
            Some((line, shown.unwrap_or(changed).max(changed), operation.id))
        })
        .collect();
    known.sort_unstable();
    let mut newest: Vec<(usize, u64, u64)> = Vec::with_capacity(known.len());
    for (line, revision, id) in known {
        let before = newest.last().map_or((0, id), |(_, revision, id)| (*revision, *id));
        let (revision, id) = if revision > before.0 { (revision, id) } else { before };
        newest.push((line, revision, id));
    }
    for operation in operations {
        let Some((_, changed, shown)) = done(operation) else {
            continue;
        };
        let place = newest.partition_point(|(line, ..)| *line < operation.began);
        let Some((_, revision, id)) = place.checked_sub(1).and_then(|place| newest.get(place)) else {
            continue;
        };
        match operation.call {
            Call::Read => {
                if let Some(shown) = shown.filter(|shown| shown < revision) {
                    complaints.push(format!(
                        "operation {} read at revision {shown}, though operation {id} had shown {revision} before it began",
                        operation.id
                    ));
                }
            }
            Call::Write { .. } | Call::Cas { .. } => {
                if changed <= *revision {
                    complaints.push(format!(
                        "operation {} wrote at revision {changed}, though operation {id} had shown {revision} before it began",
                        operation.id
                    ));
                }
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: u64, lines: (usize, usize), call: Call, changed: u64, shown: u64) -> Operation {
        let end = End::Ok {
            value: Some(0),
            changed,
            shown: Some(shown),
            attempts: 1,
        };
        Operation {
            id,
            process: 0,
            node: 1,
            // Different registers: revisions are of the whole mesh.
            key: format!("r-{id}"),
            call,
            began: lines.0,
            ended: Some((lines.1, end)),
            began_us: 0,
            ended_us: None,
        }
    }

    #[test]
    fn answers_that_grow_are_fine_and_concurrent_ones_may_cross() {
        let fine = [
            operation(0, (0, 3), Call::Write { to: 1 }, 10, 10),
            operation(1, (1, 2), Call::Read, 4, 9),
            operation(2, (4, 5), Call::Read, 4, 10),
            operation(3, (6, 7), Call::Cas { from: 0, to: 2 }, 11, 11),
        ];
        assert!(check(&fine).is_empty());
    }

    #[test]
    fn an_old_answer_is_seen_across_registers() {
        let stale = [
            operation(0, (0, 1), Call::Write { to: 1 }, 10, 10),
            operation(1, (2, 3), Call::Read, 4, 9),
        ];
        assert_eq!(check(&stale).len(), 1);
        let backwards = [
            operation(0, (0, 1), Call::Read, 4, 10),
            operation(1, (2, 3), Call::Write { to: 1 }, 10, 10),
        ];
        assert_eq!(check(&backwards).len(), 1);
    }
}

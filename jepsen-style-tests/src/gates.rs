//! What a run must have done to count. A run in which nothing happened proves nothing.

use std::collections::BTreeMap;

use crate::{
    history::{Call, Operation},
    nemesis::{Fault, Fired},
};

/// Errors that no client of this workload may ever get.
const NEVER: [&str; 8] = [
    "internal",
    "invalid_argument",
    "unauthenticated",
    "scope_missing",
    "not_found",
    "resource_exhausted",
    "idempotency_key_reused",
    "idempotency_key_expired",
];

/// The least that has to succeed.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Operations of each kind.
    pub of_each_kind: usize,
    /// Reads at each node.
    pub reads_per_node: usize,
    /// Operations between two faults that follow each other, and behind the last.
    pub between_faults: usize,
    /// Leaders killed.
    pub leaders_killed: usize,
    /// Times that all were killed at once.
    pub all_killed: usize,
    /// Times that leadership was handed over.
    pub handed_over: usize,
    /// Nodes that joined, voted and left.
    pub joined: usize,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Operations that succeeded, by kind.
    pub ok: BTreeMap<&'static str, usize>,
    /// Reads that succeeded, by node.
    pub reads: BTreeMap<u64, usize>,
    /// Errors, by code; `?` behind those of unknown outcome.
    pub errors: BTreeMap<String, usize>,
    /// Writes that took more than one request.
    pub repeated: usize,
    /// Operations that were under way when a fault struck.
    pub under_way: usize,
    /// Operations that succeeded and began in each gap: before the first fault, between two, behind the last.
    pub gaps: Vec<usize>,
}

fn kind(call: Call) -> &'static str {
    match call {
        Call::Read => "read",
        Call::Write { .. } => "write",
        Call::Cas { .. } => "cas",
    }
}

/// Counts. `struck_us` are the moments at which nodes were killed.
pub fn count(operations: &[Operation], struck_us: &[u64]) -> Done {
    use crate::history::End;
    let mut done = Done {
        gaps: vec![0; struck_us.len() + 1],
        ..Done::default()
    };
    for operation in operations {
        let until = operation.ended_us.unwrap_or(u64::MAX);
        if struck_us
            .iter()
            .any(|struck| operation.began_us < *struck && *struck < until)
        {
            done.under_way += 1;
        }
        match &operation.ended {
            Some((_, End::Ok { attempts, .. })) => {
                *done.ok.entry(kind(operation.call)).or_default() += 1;
                if operation.call == Call::Read {
                    *done.reads.entry(operation.node).or_default() += 1;
                } else if *attempts > 1 {
                    done.repeated += 1;
                }
                let gap = struck_us.partition_point(|struck| *struck <= operation.began_us);
                done.gaps[gap] += 1;
            }
            Some((_, End::Fail { code, .. })) => *done.errors.entry(code.clone()).or_default() += 1,
            Some((_, End::Info { code, .. })) => *done.errors.entry(format!("{code}?")).or_default() += 1,
            None => *done.errors.entry("never ended?".to_owned()).or_default() += 1,
        }
    }
    done
}

/// Says what is missing, one sentence each. Empty where the run counts.
pub fn check(done: &Done, nodes: &[u64], fired: &[Fired], least: &Least) -> Vec<String> {
    let mut missing = Vec::new();
    let mut want = |what: String, got: usize, least: usize| {
        if got < least {
            missing.push(format!("{what}: {got}, at least {least} are needed"));
        }
    };
    for kind in ["read", "write", "cas"] {
        want(
            format!("successful operations of kind {kind}"),
            done.ok.get(kind).copied().unwrap_or(0),
            least.of_each_kind,
        );
    }
    for node in nodes {
        want(
            format!("reads at node {node}"),
            done.reads.get(node).copied().unwrap_or(0),
            least.reads_per_node,
        );
    }
    for (number, gap) in done.gaps.iter().enumerate() {
        want(
            format!("successful operations after {number} faults"),
            *gap,
            least.between_faults,
        );
    }
    let of = |fault: Fault| {
        fired
            .iter()
            .filter(|fired| fired.fault == fault)
            .filter(|fired| fault == Fault::JoinAndLeave || fired.after.term > fired.before.term)
            .count()
    };
    want(
        "leaders killed and replaced".to_owned(),
        of(Fault::KillLeader),
        least.leaders_killed,
    );
    want(
        "kills of all nodes survived".to_owned(),
        of(Fault::KillAll),
        least.all_killed,
    );
    want(
        "leaders that handed over".to_owned(),
        of(Fault::HandOver),
        least.handed_over,
    );
    want(
        "nodes that joined, voted and left".to_owned(),
        of(Fault::JoinAndLeave),
        least.joined,
    );
    want("writes that were redirected or repeated".to_owned(), done.repeated, 1);
    want(
        "operations under way when a fault struck".to_owned(),
        done.under_way,
        usize::from(!fired.is_empty()),
    );
    for code in NEVER {
        for code in [code.to_owned(), format!("{code}?")] {
            if let Some(times) = done.errors.get(&code) {
                missing.push(format!(
                    "a client was told `{code}` {times} times, which must not happen"
                ));
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Leader;
    use crate::history::End;

    const LEAST: Least = Least {
        of_each_kind: 1,
        reads_per_node: 1,
        between_faults: 1,
        leaders_killed: 1,
        all_killed: 0,
        handed_over: 0,
        joined: 0,
    };

    fn operation(us: u64, call: Call, attempts: u32) -> Operation {
        Operation {
            id: us,
            process: 0,
            node: 1,
            key: "r".into(),
            call,
            began: 0,
            ended: Some((
                1,
                End::Ok {
                    value: Some(1),
                    changed: 1,
                    shown: None,
                    attempts,
                },
            )),
            began_us: us,
            ended_us: Some(us + 10),
        }
    }

    fn fired() -> Fired {
        let leader = |term| Leader { node: 1, term };
        Fired {
            fault: Fault::KillLeader,
            before: leader(1),
            after: leader(2),
        }
    }

    #[test]
    fn a_run_that_did_enough_counts_and_one_that_did_not_does_not() {
        let operations = [
            operation(0, Call::Read, 1),
            operation(15, Call::Write { to: 1 }, 2),
            operation(30, Call::Cas { from: 1, to: 2 }, 1),
        ];
        let done = count(&operations, &[20]);
        assert_eq!((done.under_way, done.repeated, done.gaps.clone()), (1, 1, vec![2, 1]));
        assert_eq!(check(&done, &[1], &[fired()], &LEAST), Vec::<String>::new());
        assert_eq!(check(&done, &[1, 2], &[fired()], &LEAST).len(), 1, "no reads at node 2");
        assert_eq!(check(&done, &[1], &[], &LEAST).len(), 1, "no fault fired");
        assert_eq!(
            check(&count(&operations[..2], &[20]), &[1], &[fired()], &LEAST).len(),
            2,
            "no cas, none after"
        );
        let mut wrong = done;
        wrong.errors.insert("internal?".into(), 1);
        assert_eq!(check(&wrong, &[1], &[fired()], &LEAST).len(), 1);
    }
}

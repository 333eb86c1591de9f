//! Whether a story was one: a run in which nothing went wrong, or nothing was done, proves nothing and fails.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    history::{Operation, Record},
    invariants::Findings,
    schedule::Kind,
};

/// The fewest operations that have to be acknowledged while nothing is wrong.
pub const CALM_MIN: usize = 100;
/// The fewest operations that have to be acknowledged in all.
pub const ACKNOWLEDGED_MIN: usize = 300;

/// The fewest times that leadership has to be won, by whomever.
pub const TERMS_MIN: usize = 2;

/// A fault as it happened.
#[derive(Debug, Clone)]
pub struct Happened {
    /// What was scheduled.
    pub kind: Kind,
    /// When it began.
    pub from: Duration,
    /// When it was mended.
    pub to: Duration,
    /// What it did, for people.
    pub effect: String,
    /// Whether it had any.
    pub fired: bool,
}

/// What a story covered.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Acknowledged operations, begun and ended while nothing was wrong.
    pub calm: usize,
    /// Acknowledged operations.
    pub acknowledged: usize,
    /// All operations.
    pub operations: usize,
    /// How often leadership was won.
    pub terms: usize,
    /// How often each kind of fault fired.
    pub fired: BTreeMap<&'static str, u64>,
    /// What is missing.
    pub gaps: Vec<String>,
}

impl Coverage {
    /// Measures a story.
    #[must_use]
    pub fn of(record: &Record, faults: &[Happened], findings: &[(&'static str, Findings)]) -> Self {
        let operations = &record.operations;
        let acknowledged = |operation: &&Operation| operation.outcome.is_acknowledged();
        let calm = |operation: &&Operation| {
            !faults
                .iter()
                .any(|fault| operation.began < fault.to && operation.ended > fault.from)
        };
        let mut coverage = Self {
            calm: operations.iter().filter(acknowledged).filter(calm).count(),
            acknowledged: operations.iter().filter(acknowledged).count(),
            operations: operations.len(),
            terms: record.leaders.len(),
            ..Self::default()
        };
        if coverage.terms < TERMS_MIN {
            coverage.gaps.push(format!(
                "leadership was won {} times, {TERMS_MIN} are needed",
                coverage.terms
            ));
        }
        for fault in faults {
            if fault.fired {
                *coverage.fired.entry(fault.kind.word()).or_default() += 1;
                if let Some(amid) = fault.kind.amid() {
                    *coverage.fired.entry(amid.word()).or_default() += 1;
                }
            } else {
                coverage
                    .gaps
                    .push(format!("a fault did not fire: {} ({})", fault.kind, fault.effect));
            }
        }
        if coverage.calm < CALM_MIN {
            let gap = format!(
                "{} operations were acknowledged outside faults, {CALM_MIN} are needed",
                coverage.calm
            );
            coverage.gaps.push(gap);
        }
        if coverage.acknowledged < ACKNOWLEDGED_MIN {
            let gap = format!(
                "{} operations were acknowledged, {ACKNOWLEDGED_MIN} are needed",
                coverage.acknowledged
            );
            coverage.gaps.push(gap);
        }
        for (invariant, findings) in findings {
            if findings.checked == 0 {
                coverage
                    .gaps
                    .push(format!("invariant {invariant} had nothing to check"));
            }
        }
        coverage
    }
    /// Counts a fault that happens all the time, besides those on the schedule.
    pub fn background(&mut self, word: &'static str, fired: u64) {
        self.fired.insert(word, fired);
        if fired == 0 {
            self.gaps.push(format!("a fault did not fire: {word}"));
        }
    }
}

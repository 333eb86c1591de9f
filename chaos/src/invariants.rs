//! What must hold at the end of every story, whatever went wrong in it. One file each.
//!
//! An invariant looks at the evidence only, knows nothing of faults or planted bugs, and says how much it checked: a
//! check of nothing is no check.

mod acknowledged;
mod audit_chain;
mod backups;
mod digests;
mod exactly_once;
mod floors;
mod leaders;
mod linearizable;
mod liveness;
mod members;
mod positions;
mod rebuild;

use crate::evidence::Evidence;

/// The most violations that one invariant reports.
const REPORTED_MAX: usize = 10;

/// What an invariant found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many things it looked at.
    pub checked: usize,
    /// What is wrong, the first few.
    pub violations: Vec<String>,
    /// How many more there are.
    pub suppressed: usize,
}

impl Findings {
    /// Counts one check, and notes what is wrong where it did not hold.
    fn check(&mut self, holds: bool, wrong: impl FnOnce() -> String) {
        self.checked += 1;
        if holds {
            return;
        }
        if self.violations.len() < REPORTED_MAX {
            self.violations.push(wrong());
        } else {
            self.suppressed += 1;
        }
    }
}

/// An invariant: its name and how it is checked.
pub type Invariant = (&'static str, fn(&Evidence) -> Findings);

/// All of them.
pub const ALL: &[Invariant] = &[
    ("acknowledged", acknowledged::check),
    ("audit-chain", audit_chain::check),
    ("backups", backups::check),
    ("digests", digests::check),
    ("exactly-once", exactly_once::check),
    ("floors", floors::check),
    ("leaders", leaders::check),
    ("linearizable", linearizable::check),
    ("liveness", liveness::check),
    ("members", members::check),
    ("positions", positions::check),
    ("rebuild", rebuild::check),
];

#[cfg(test)]
mod tests;

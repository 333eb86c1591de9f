//! At most one node leads in a term.

use super::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for (term, leaders) in &evidence.record.leaders {
        findings.check(leaders.len() == 1, || format!("in term {term} there lead {leaders:?}"));
    }
    findings
}

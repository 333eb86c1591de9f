//! History begins at one revision, the same on every node, however a node came by its state: from there on all of it is
//! there, and below nothing is shown.

use statemachine::Revision;

use super::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for pair in evidence.nodes.windows(2) {
        let [a, b] = pair else { continue };
        findings.check(a.floor == b.floor, || {
            format!(
                "history begins at {} on n{}, at {} on n{}",
                a.floor, a.id, b.floor, b.id
            )
        });
    }
    for node in &evidence.nodes {
        let (floor, first) = (node.floor.max(Revision(1)), node.first_row);
        findings.check(first == Some(floor), || {
            format!("n{}: history begins at {floor}, its first row is {first:?}", node.id)
        });
        findings.check(!node.shows_below_floor, || {
            format!("n{} shows what is below {floor}", node.id)
        });
    }
    findings
}

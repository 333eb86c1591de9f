//! Who is a member, and who votes, is what the last acknowledged change made it, on every node. A node that was taken
//! out leads no more, learns of it, and stops by itself.

use super::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let record = &evidence.record;
    for node in &evidence.nodes {
        findings.check(node.voters == evidence.voters, || {
            format!(
                "on n{} there vote {:?}, not {:?}",
                node.id, node.voters, evidence.voters
            )
        });
        let gone: Vec<_> = evidence.removed.iter().map(|(gone, _)| *gone).collect();
        findings.check(node.removed == gone, || {
            format!("on n{} {:?} were removed, not {gone:?}", node.id, node.removed)
        });
    }
    for (gone, at) in &evidence.removed {
        findings.check(
            record.stopped.iter().any(|stopped| stopped.is_removal_of(*gone)),
            || format!("n{gone} was removed and does not know"),
        );
        for led in &record.led {
            findings.check(led.node != *gone || led.at <= *at, || {
                format!("n{gone}, removed at {at:?}, leads at {:?} in term {}", led.at, led.term)
            });
        }
    }
    findings
}

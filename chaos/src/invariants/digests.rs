//! After heal all nodes hold the same: position, digest, chain, and the cluster's own chain; and agreed on the digest
//! after every revision before.

use super::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for missing in &evidence.missing {
        findings.check(false, || missing.clone());
    }
    let members = evidence.voters.len();
    findings.check(evidence.nodes.len() == members && members > 1, || {
        format!("{} of {members} nodes are there", evidence.nodes.len())
    });
    for pair in evidence.nodes.windows(2) {
        let [a, b] = pair else { continue };
        let both = format!("n{} and n{}", a.id, b.id);
        findings.check(a.position == b.position, || {
            format!("{both} are at {} and {}", a.position, b.position)
        });
        findings.check(a.digest == b.digest, || {
            format!("{both} have digests {} and {}", a.digest, b.digest)
        });
        findings.check(a.chain == b.chain, || {
            format!("{both} have chains {} and {}", a.chain, b.chain)
        });
        findings.check(a.cluster == b.cluster, || {
            format!("{both} have cluster chains {:?} and {:?}", a.cluster, b.cluster)
        });
        for (left, right) in a.units.iter().zip(&b.units) {
            findings.check(left.bytes == right.bytes && left.digest == right.digest, || {
                format!("{both} differ at {}", left.unit.position)
            });
        }
    }
    findings
}

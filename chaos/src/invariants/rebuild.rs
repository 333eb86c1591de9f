//! The changes in history suffice: fed to an empty state of another cluster, they rebuild this one, digest for digest.

use statemachine::{Answer, Entry, Replicated, State, apply};

use super::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let Some(node) = evidence.longest() else {
        return findings;
    };
    let mut state = State::default();
    for recorded in &node.units {
        let entry = Entry::Replicated(Replicated {
            unit: recorded.bytes.to_vec(),
            chain: recorded.chain,
        });
        let answer = apply(&mut state, &entry).answer;
        findings.check(matches!(answer, Answer::Recorded(_)), || {
            format!("{}: {answer:?}", recorded.unit.position)
        });
        findings.check(state.mesh.digest() == recorded.digest, || {
            format!(
                "after {} the digest is {}, not {}",
                recorded.unit.position,
                state.mesh.digest(),
                recorded.digest
            )
        });
    }
    findings.check(state.mesh.digest() == node.digest, || {
        format!("rebuilt: {}, on n{}: {}", state.mesh.digest(), node.id, node.digest)
    });
    findings
}

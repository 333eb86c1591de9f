//! The audit chain is whole on every node: each revision follows the one before, and the chain computed again from the
//! bytes of the history rows is the chain that was stored with them, up to the head.

use statemachine::{Hash, Position, Revision, audit};

use super::Findings;
use crate::evidence::{Evidence, Node};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for node in &evidence.nodes {
        walk(node, &mut findings);
    }
    findings
}

fn walk(node: &Node, findings: &mut Findings) {
    let mut parent = Position::default();
    let mut chain = Hash::default();
    for recorded in &node.units {
        let unit = &recorded.unit;
        let here = unit.position;
        findings.check(here.revision == parent.revision.next() && unit.parent == parent, || {
            format!(
                "n{}: {here} says that it follows {}, and comes after {parent}",
                node.id, unit.parent
            )
        });
        chain = audit::extend(chain, &recorded.bytes);
        findings.check(chain == recorded.chain, || {
            format!(
                "n{}: at {here} the chain comes to {chain}, stored is {}",
                node.id, recorded.chain
            )
        });
        findings.check(unit.encode() == *recorded.bytes, || {
            format!("n{}: {here} is not canonical", node.id)
        });
        parent = here;
    }
    findings.check(parent == node.position && chain == node.chain, || {
        format!(
            "n{}: history ends at {parent} with {chain}, the state is at {} with {}",
            node.id, node.position, node.chain
        )
    });
    findings.check(parent.revision > Revision(0), || format!("n{} has no history", node.id));
}

//! A backup is the mesh as it was: it holds what was acknowledged before it was asked for, history from the floor on,
//! and the state that the history says; and it can be restored, to a mesh that goes on where it ends.

use super::Findings;
use crate::{
    evidence::{Evidence, Node},
    restored::{Held, Restored},
};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let Some(node) = evidence.longest() else {
        return findings;
    };
    for restored in &evidence.backups {
        let name = format!("the backup of n{} after {}", restored.node, restored.seen.0);
        match &restored.outcome {
            Ok(held) => holds(restored, held, node, &name, &mut findings),
            Err(why) => findings.check(false, || format!("{name}: {why}")),
        }
    }
    findings
}

fn holds(restored: &Restored, held: &Held, node: &Node, name: &str, findings: &mut Findings) {
    let (at, (seen, chain)) = (held.position.revision, restored.seen);
    findings.check(at >= seen, || format!("{name} ends at {at}"));
    findings.check(node.chain_at(seen) == Some(chain), || {
        format!("{name}: what was acknowledged before it is no part of history")
    });
    let unit = node.unit(at);
    let is_history = unit.is_some_and(|recorded| {
        recorded.unit.position == held.position && recorded.chain == held.chain && recorded.digest == held.digest
    });
    findings.check(is_history, || format!("{name} holds {held:?}, history {unit:?}"));
    let (floor, whole) = (held.floor.0.max(1), held.revisions);
    findings.check(floor + whole == at.0 + 1, || {
        format!("{name} has {whole} revisions from {floor} to {at}")
    });
    let goes_on =
        held.from == held.position && held.to.revision == at.next() && held.to.timeline != held.position.timeline;
    findings.check(goes_on, || {
        format!("{name} is restored from {} to {}", held.from, held.to)
    });
}

//! Nothing is applied twice, and nothing is applied that was said not to be: each idempotency key takes effect at most
//! once, never where its client was told that it did not, and each record's version counts exactly its changes.

use std::collections::BTreeMap;

use statemachine::{Outcome as Was, Record, Revision};

use super::Findings;
use crate::{
    evidence::{Evidence, Node},
    history::Outcome,
};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let Some(node) = evidence.longest() else {
        return findings;
    };
    keys(evidence, node, &mut findings);
    versions(node, &mut findings);
    findings
}

fn keys(evidence: &Evidence, node: &Node, findings: &mut Findings) {
    let mut effects: BTreeMap<(&str, &str), Vec<Revision>> = BTreeMap::new();
    for recorded in &node.units {
        let unit = &recorded.unit;
        if let (Was::Applied { .. }, Some(given)) = (&unit.outcome, &unit.origin.idempotency) {
            let key = (unit.origin.actor.as_str(), given.key.as_str());
            effects.entry(key).or_default().push(unit.position.revision);
        }
    }
    for (key, revisions) in &effects {
        findings.check(revisions.len() == 1, || format!("{key:?} took effect at {revisions:?}"));
    }
    for operation in &evidence.record.operations {
        let applied = effects.get(&(operation.client.as_str(), operation.key.as_str()));
        match &operation.outcome {
            Outcome::Failed(_) | Outcome::Rejected(..) => {
                findings.check(applied.is_none(), || {
                    format!("took effect at {applied:?}: {}", operation.line())
                });
            }
            Outcome::Applied(..) | Outcome::Replayed { .. } | Outcome::Seen(..) | Outcome::Unknown(_) => {}
        }
    }
}

fn versions(node: &Node, findings: &mut Findings) {
    let mut records: BTreeMap<_, Record> = BTreeMap::new();
    for recorded in &node.units {
        for change in recorded.unit.changes() {
            let Some(key) = change.key() else { continue };
            let known = records.get(&key);
            findings.check(known == change.before.as_ref(), || {
                format!("{}: {key:?} was not as the change says", recorded.unit.position)
            });
            let before = change.before.as_ref().map_or(0, |record| record.meta().version);
            match &change.after {
                Some(after) => {
                    findings.check(after.meta().version == before + 1, || {
                        format!(
                            "{}: {key:?} from version {before} to {}",
                            recorded.unit.position,
                            after.meta().version
                        )
                    });
                    records.insert(key, after.clone());
                }
                None => drop(records.remove(&key)),
            }
        }
    }
}

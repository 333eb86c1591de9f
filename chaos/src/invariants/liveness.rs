//! Once everything is mended the cluster works again: no node stopped by itself but who was removed, and every client's last write was
//! acknowledged.

use std::collections::BTreeMap;

use super::Findings;
use crate::{evidence::Evidence, history::Call};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for stopped in &evidence.record.stopped {
        let had_to = evidence.removed.iter().any(|(gone, _)| stopped.is_removal_of(*gone));
        findings.check(had_to, || stopped.line());
    }
    let mut last = BTreeMap::new();
    for operation in &evidence.record.operations {
        match operation.call {
            Call::Read(_) | Call::ReadLocal(_) => {}
            _ => drop(last.insert(&operation.client, operation)),
        }
    }
    for operation in last.values() {
        findings.check(operation.outcome.is_acknowledged(), || {
            format!("after all was mended: {}", operation.line())
        });
    }
    findings
}

//! No acknowledged write is lost: every node has it, at the revision that was acknowledged, with that outcome.

use statemachine::{Outcome as Was, Recorded};

use super::Findings;
use crate::{
    evidence::{Evidence, Node},
    history::{Operation, Outcome},
};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    for operation in &evidence.record.operations {
        for node in &evidence.nodes {
            if let Some(holds) = kept(operation, node) {
                findings.check(holds, || format!("n{} has lost: {}", node.id, operation.line()));
            }
        }
    }
    findings
}

/// Whether a node has what was acknowledged; none where nothing was, or where it was a read.
fn kept(operation: &Operation, node: &Node) -> Option<bool> {
    let own = |recorded: &Recorded| {
        let origin = &recorded.unit.origin;
        let key = origin.idempotency.as_ref().map(|given| given.key.as_str());
        origin.actor == operation.client && key == Some(&operation.key)
    };
    let outcome = |revision| {
        Some(
            node.unit(revision)
                .filter(|recorded| own(recorded))?
                .unit
                .outcome
                .clone(),
        )
    };
    match &operation.outcome {
        Outcome::Applied(revision, _) => Some(matches!(outcome(*revision), Some(Was::Applied { .. }))),
        Outcome::Rejected(Some(revision), code) => Some(match outcome(*revision) {
            Some(Was::Rejected(rejection)) => rejection.code() == code,
            Some(Was::Applied { .. } | Was::Staged { .. } | Was::Replayed { .. }) | None => false,
        }),
        Outcome::Replayed { at, of } => Some(
            outcome(*at) == Some(Was::Replayed { of: *of })
                && matches!(outcome(*of), Some(Was::Applied { .. } | Was::Rejected(_))),
        ),
        Outcome::Rejected(None, _) | Outcome::Seen(..) | Outcome::Failed(_) | Outcome::Unknown(_) => None,
    }
}

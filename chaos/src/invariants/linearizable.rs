//! Operations take effect between their beginning and their end, in one order that all agree on.
//!
//! No search is needed: every answer names the revision at which it took effect, and history names what happened at
//! each. It remains to check that the order of revisions keeps the order of real time, and that each answer is what
//! its revision calls for.

use std::{collections::BTreeMap, sync::Arc};

use statemachine::{Outcome as Was, Recorded, Revision};

use super::Findings;
use crate::{
    evidence::{Evidence, Node},
    history::{Call, Operation, Outcome},
    port::{self, PeerSeen},
};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let Some(node) = evidence.longest() else {
        return findings;
    };
    let operations = &evidence.record.operations;
    real_time(operations, node, &mut findings);
    let peers = Peers::of(node);
    for operation in operations {
        match (&operation.call, &operation.outcome) {
            (Call::Read(peer) | Call::ReadLocal(peer), Outcome::Seen(revision, chain, seen)) => {
                let recorded = node.chain_at(*revision);
                findings.check(
                    recorded.is_some() && chain.is_none_or(|chain| recorded == Some(chain)),
                    || format!("what was read is no part of history: {}", operation.line()),
                );
                let was = peers.at(peer, *revision);
                findings.check(was == seen.as_ref(), || {
                    format!("there was {was:?}: {}", operation.line())
                });
            }
            (
                Call::Write {
                    peer,
                    if_match: Some(etag),
                },
                Outcome::Applied(revision, _),
            ) => {
                let before = Revision(revision.0.saturating_sub(1));
                let was = peers.at(peer, before).map(|seen| seen.etag.as_str());
                findings.check(was == Some(etag), || {
                    format!("the ETag was {was:?}, not {etag}: {}", operation.line())
                });
            }
            _ => {}
        }
    }
    findings
}

/// What a revision has to be above (`strictly`), or at least, for an operation that began after others had ended.
fn real_time(operations: &[Operation], node: &Node, findings: &mut Findings) {
    // The revision at which an operation took effect, and whether it made that revision itself.
    let effect = |operation: &Operation| match (&operation.call, &operation.outcome) {
        (Call::ReadLocal(_), _) => None,
        (_, Outcome::Applied(revision, _) | Outcome::Rejected(Some(revision), _)) => Some((*revision, true)),
        (_, Outcome::Replayed { of, .. }) => Some((*of, true)),
        (_, Outcome::Seen(revision, ..)) => Some((*revision, false)),
        (_, Outcome::Rejected(None, _)) => None,
        (_, Outcome::Failed(_) | Outcome::Unknown(_)) => hidden(operation, node).map(|revision| (revision, true)),
    };
    let mut moments: Vec<(u64, &Operation)> = Vec::new();
    for operation in operations {
        moments.push((operation.invoked, operation));
        // What nobody was told of binds nobody: it only has to come after its own beginning.
        if let Some(completed) = operation.completed.filter(|_| operation.outcome.is_acknowledged()) {
            moments.push((completed, operation));
        }
    }
    moments.sort_by_key(|(moment, _)| *moment);
    let mut floor = Revision(0);
    let mut set_by = None;
    for (moment, operation) in moments {
        let Some((revision, strictly)) = effect(operation) else {
            continue;
        };
        if moment == operation.invoked {
            findings.check(if strictly { revision > floor } else { revision >= floor }, || {
                let before = set_by.map_or_else(String::new, Operation::line);
                format!(
                    "at {revision}: {}; though before it began this had ended: {before}",
                    operation.line()
                )
            });
        } else if revision > floor {
            floor = revision;
            set_by = Some(operation);
        }
    }
}

/// Where an operation took effect whose client does not know.
fn hidden(operation: &Operation, node: &Node) -> Option<Revision> {
    let own = |recorded: &&Arc<Recorded>| {
        let unit = &recorded.unit;
        unit.origin.actor == operation.client
            && unit
                .origin
                .idempotency
                .as_ref()
                .is_some_and(|given| given.key == operation.key)
            && matches!(unit.outcome, Was::Applied { .. })
    };
    node.units
        .iter()
        .find(own)
        .map(|recorded| recorded.unit.position.revision)
}

/// Every peer after every revision that changed it.
struct Peers(BTreeMap<String, Vec<(Revision, Option<PeerSeen>)>>);

impl Peers {
    fn of(node: &Node) -> Self {
        let mut peers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for recorded in &node.units {
            for (peer, after) in port::peers_after(recorded) {
                peers
                    .entry(peer)
                    .or_default()
                    .push((recorded.unit.position.revision, after));
            }
        }
        Self(peers)
    }

    fn at(&self, peer: &str, revision: Revision) -> Option<&PeerSeen> {
        let changes = self.0.get(peer)?;
        let after = changes.partition_point(|(changed, _)| *changed <= revision);
        changes.get(after.checked_sub(1)?)?.1.as_ref()
    }
}

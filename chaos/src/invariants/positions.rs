//! A revision means the same to everybody, at any time: what any life of any node published about it, what any client
//! was told, and what history says in the end; and each life publishes revisions in order, each once.

use std::collections::BTreeMap;

use statemachine::{Hash, NodeId, Revision};

use super::Findings;
use crate::{evidence::Evidence, history::Outcome};

pub(super) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let mut known: BTreeMap<Revision, (Hash, String)> = BTreeMap::new();
    let mut last: BTreeMap<(NodeId, u64), Revision> = BTreeMap::new();
    let mut told = |findings: &mut Findings, revision, chain, by: String| {
        let (first, who) = known.entry(revision).or_insert_with(|| (chain, by.clone()));
        findings.check(*first == chain, || {
            format!("revision {revision} is {first} to {who}, and {chain} to {by}")
        });
    };
    for node in &evidence.nodes {
        for recorded in &node.units {
            let revision = recorded.unit.position.revision;
            told(
                &mut findings,
                revision,
                recorded.chain,
                format!("n{} at the end", node.id),
            );
        }
    }
    for published in &evidence.record.published {
        let (node, life, revision) = (published.node, published.life, published.revision);
        told(
            &mut findings,
            revision,
            published.chain,
            format!("n{node} in life {life}"),
        );
        if let Some(before) = last.insert((node, life), revision) {
            findings.check(revision > before, || {
                format!("n{node} in life {life} published {revision} after {before}")
            });
        }
    }
    for operation in &evidence.record.operations {
        match &operation.outcome {
            Outcome::Applied(revision, Some(chain)) | Outcome::Seen(revision, Some(chain), _) => {
                told(&mut findings, *revision, *chain, operation.line());
            }
            _ => {}
        }
    }
    findings
}

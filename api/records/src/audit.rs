//! Revisions as entries of the audit trail.

use proto::v1;
use statemachine::{
    Change, Event, Hash, Outcome, Record, Recorded, Unit,
    record::{Approval, ApprovalState},
};

use crate::{approval, cluster, config, namespace, operation, peer, shard, time};

/// One revision as an entry of the audit trail. `previous` is the chain's hash before it; the bytes that are hashed come
/// with it where `canonical` asks for them.
#[must_use]
pub fn audit(recorded: &Recorded, previous: Hash, canonical: bool) -> v1::AuditRecord {
    v1::AuditRecord {
        hash: recorded.chain.to_string(),
        previous_hash: previous.to_string(),
        canonical: if canonical { recorded.bytes.to_vec() } else { Vec::new() },
        ..of_unit(&recorded.unit)
    }
}

/// What a unit alone says: without hashes and canonical bytes.
#[must_use]
pub fn of_unit(unit: &Unit) -> v1::AuditRecord {
    v1::AuditRecord {
        changes: unit.changes().iter().filter_map(change).collect(),
        ..of_unit_without_changes(unit)
    }
}

/// The same without what became of each record, which is most of the work.
#[must_use]
pub fn of_unit_without_changes(unit: &Unit) -> v1::AuditRecord {
    let origin = &unit.origin;
    let (outcome, code, detail) = outcome(unit);
    let (about, requester) = request(unit);
    v1::AuditRecord {
        revision: unit.position.revision.0,
        timeline: unit.position.timeline.to_string(),
        actor: origin.actor.clone(),
        action: unit.action.clone(),
        target: unit.target.clone(),
        outcome: outcome.into(),
        code,
        detail,
        reason: origin.reason.clone(),
        ticket: origin.ticket.clone(),
        request_id: origin.request_id.clone(),
        transport: origin.transport.clone(),
        node: origin.node.to_string(),
        received_at: Some(time(origin.received_wall_ms)),
        proposed_at: Some(time(unit.stamp.wall_ms)),
        mesh_time_ms: unit.stamp.mesh_time_ms,
        changes: Vec::new(),
        hash: String::new(),
        previous_hash: String::new(),
        canonical: Vec::new(),
        approval: about,
        requester,
    }
}

/// The request for approval that a unit is about, and who asked.
fn request(unit: &Unit) -> (String, String) {
    let asked = unit.approval();
    let requester = asked.map_or("", |approval| approval.requester()).to_owned();
    match &unit.outcome {
        // Asked once more: it waits already, and nothing changed.
        Outcome::Staged { approval, .. } => (approval.to_string(), unit.origin.actor.clone()),
        _ => (
            asked.map_or_else(String::new, |approval| approval.id.to_string()),
            requester,
        ),
    }
}

fn outcome(unit: &Unit) -> (v1::audit_record::Outcome, String, String) {
    match &unit.outcome {
        Outcome::Applied { changes, events } => {
            let refused = events.iter().find_map(|event| match event {
                Event::RequestsRefused { refusals, suppressed } => Some((refusals, suppressed)),
                _ => None,
            });
            let detail = match refused {
                Some((refusals, suppressed)) => {
                    let lines = refusals
                        .iter()
                        .map(|one| format!("{} {} {}: {}", one.actor, one.action, one.target, one.code));
                    let more = (*suppressed > 0).then(|| format!("and {suppressed} more"));
                    lines.chain(more).collect::<Vec<_>>().join("; ")
                }
                None if changes.is_empty() && events.is_empty() => "unchanged".to_owned(),
                None => unit.approval().map_or_else(String::new, decided),
            };
            (v1::audit_record::Outcome::Applied, String::new(), detail)
        }
        Outcome::Rejected(rejection) => (
            v1::audit_record::Outcome::Rejected,
            rejection.code().to_owned(),
            rejection.detail(),
        ),
        Outcome::Staged { approval, .. } => (
            v1::audit_record::Outcome::Staged,
            String::new(),
            format!("waits for approval as {approval}"),
        ),
        Outcome::Replayed { of } => (
            v1::audit_record::Outcome::Replayed,
            String::new(),
            format!("a retry of what revision {of} answered"),
        ),
    }
}

/// What was decided on a request for approval.
fn decided(approval: &Approval) -> String {
    let (action, target, asked) = (&approval.action, &approval.target, approval.requester());
    match approval.state {
        ApprovalState::Pending => format!(
            "{action} {target} for {asked}: {} of {} agreed",
            approval.agreed(),
            approval.approvers.count()
        ),
        ApprovalState::Approved => format!("carried out {action} {target} for {asked}"),
        ApprovalState::Rejected | ApprovalState::Expired | ApprovalState::Stale => {
            format!("{action} {target} for {asked}: {}", approval.detail)
        }
    }
}

/// What one record was and became; none where the change names no record.
#[must_use]
pub fn change(change: &Change) -> Option<v1::audit_record::Change> {
    let (kind, id) = change.key()?;
    Some(v1::audit_record::Change {
        kind: kind.word().to_owned(),
        id,
        before: change.before.as_ref().and_then(record),
        after: change.after.as_ref().and_then(record),
    })
}

/// A record; none where the contract has no message for its kind: canonical bytes hold it.
#[must_use]
pub fn record(record: &Record) -> Option<v1::audit_record::Record> {
    use v1::audit_record::record::Record as Form;
    let form = match record {
        Record::Peer(found) => Form::Peer(peer(found)),
        Record::Operation(found) => Form::Operation(operation(found)),
        Record::Cluster(found) => Form::Cluster(cluster(found)),
        Record::Config(found) => Form::Config(config(found)),
        Record::Approval(found) => Form::Approval(approval(found)),
        Record::Namespace(found) => Form::Namespace(namespace(found)),
        Record::Shard(found) => Form::Shard(shard(found)),
        Record::Mesh(_) | Record::Checkpoint(_) | Record::Certificate(_) | Record::Session(_) => return None,
    };
    Some(v1::audit_record::Record { record: Some(form) })
}

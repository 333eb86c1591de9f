//! The readable form of an audit record, made anew from the bytes that are hashed.
//!
//! Deliberately no code of the server's: what a node shows is compared with what is made here, field by field, so that
//! a node that shows other words than it hashed is caught.

use prost_types::Timestamp;
use proto::v1;
use statemachine::{
    Change, Event, Outcome, Record, Unit,
    record::{
        Cluster, ClusterPhase, Config, DEFINITIONS, Fencing, Health, Operation, OperationKind, OperationState, Peer,
        PeerStatus, Phase,
    },
};

/// What a node has to show of `unit`, apart from what the chain itself proves: hashes and canonical bytes are empty.
pub(super) fn of(unit: &Unit) -> v1::AuditRecord {
    let origin = &unit.origin;
    let (outcome, code, detail) = said(&unit.outcome);
    v1::AuditRecord {
        revision: unit.position.revision.0,
        timeline: unit.position.timeline.to_string(),
        actor: origin.actor.clone(),
        action: unit.action.clone(),
        target: unit.target.clone(),
        outcome: outcome.into(),
        code: code.to_owned(),
        detail,
        reason: origin.reason.clone(),
        ticket: origin.ticket.clone(),
        request_id: origin.request_id.clone(),
        transport: origin.transport.clone(),
        node: origin.node.to_string(),
        received_at: Some(time(origin.received_wall_ms)),
        proposed_at: Some(time(unit.stamp.wall_ms)),
        mesh_time_ms: unit.stamp.mesh_time_ms,
        changes: unit.changes().iter().filter_map(change).collect(),
        hash: String::new(),
        previous_hash: String::new(),
        canonical: Vec::new(),
    }
}

/// The first field in which `shown` differs from what `unit` says; none where all agree.
pub(super) fn difference(unit: &Unit, shown: &v1::AuditRecord) -> Option<String> {
    let said = of(unit);
    // Without `..`: a field that the contract gets has to be compared too.
    let v1::AuditRecord {
        revision,
        timeline,
        actor,
        action,
        target,
        outcome,
        code,
        detail,
        reason,
        ticket,
        request_id,
        transport,
        node,
        received_at,
        proposed_at,
        mesh_time_ms,
        changes,
        hash: _,
        previous_hash: _,
        canonical: _,
    } = shown;
    let fields = [
        ("revision", *revision == said.revision),
        ("timeline", *timeline == said.timeline),
        ("actor", *actor == said.actor),
        ("action", *action == said.action),
        ("target", *target == said.target),
        ("outcome", *outcome == said.outcome),
        ("code", *code == said.code),
        ("detail", *detail == said.detail),
        ("reason", *reason == said.reason),
        ("ticket", *ticket == said.ticket),
        ("requestId", *request_id == said.request_id),
        ("transport", *transport == said.transport),
        ("node", *node == said.node),
        ("receivedAt", *received_at == said.received_at),
        ("proposedAt", *proposed_at == said.proposed_at),
        ("meshTimeMs", *mesh_time_ms == said.mesh_time_ms),
    ];
    let differs = fields.iter().find(|(_, same)| !same);
    differs
        .map(|(field, _)| (*field).to_owned())
        .or_else(|| difference_of_changes(&said.changes, changes))
}

fn difference_of_changes(said: &[v1::audit_record::Change], shown: &[v1::audit_record::Change]) -> Option<String> {
    if said.len() != shown.len() {
        return Some("changes".to_owned());
    }
    let mut pairs = said.iter().zip(shown).enumerate();
    pairs.find_map(|(at, (said, shown))| {
        let v1::audit_record::Change {
            kind,
            id,
            before,
            after,
        } = shown;
        let fields = [
            ("kind", *kind == said.kind),
            ("id", *id == said.id),
            ("before", *before == said.before),
            ("after", *after == said.after),
        ];
        let differs = fields.iter().find(|(_, same)| !same);
        differs.map(|(field, _)| format!("changes[{at}].{field}"))
    })
}

/// Milliseconds since 1970 as a time.
fn time(wall_ms: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(wall_ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(wall_ms % 1_000).unwrap_or_default() * 1_000_000,
    }
}

/// Outcome, code and the line for people.
fn said(outcome: &Outcome) -> (v1::audit_record::Outcome, &'static str, String) {
    match outcome {
        Outcome::Applied { changes, events } => {
            let mut lines = Vec::new();
            for event in events {
                if let Event::RequestsRefused { refusals, suppressed } = event {
                    for one in refusals {
                        lines.push(format!("{} {} {}: {}", one.actor, one.action, one.target, one.code));
                    }
                    if *suppressed > 0 {
                        lines.push(format!("and {suppressed} more"));
                    }
                }
            }
            let detail = if changes.is_empty() && events.is_empty() {
                "unchanged".to_owned()
            } else {
                lines.join("; ")
            };
            (v1::audit_record::Outcome::Applied, "", detail)
        }
        Outcome::Rejected(rejection) => (
            v1::audit_record::Outcome::Rejected,
            rejection.code(),
            rejection.detail(),
        ),
        Outcome::Replayed { of } => (
            v1::audit_record::Outcome::Replayed,
            "",
            format!("a retry of what revision {of} answered"),
        ),
    }
}

fn change(change: &Change) -> Option<v1::audit_record::Change> {
    let (kind, id) = change.key()?;
    let side = |record: &Option<Record>| record.as_ref().and_then(record_of_contract);
    Some(v1::audit_record::Change {
        kind: kind.word().to_owned(),
        id,
        before: side(&change.before),
        after: side(&change.after),
    })
}

/// Records that the contract has no message for are named only.
fn record_of_contract(record: &Record) -> Option<v1::audit_record::Record> {
    use v1::audit_record::record::Record as Form;
    let form = match record {
        Record::Peer(one) => Form::Peer(peer(one)),
        Record::Operation(one) => Form::Operation(operation(one)),
        Record::Cluster(one) => Form::Cluster(cluster(one)),
        Record::Config(one) => Form::Config(config(one)),
        Record::Mesh(_) | Record::Checkpoint(_) | Record::Certificate(_) => return None,
    };
    Some(v1::audit_record::Record { record: Some(form) })
}

fn peer(peer: &Peer) -> v1::Peer {
    let status = match peer.status {
        PeerStatus::Active => v1::peer::Status::Active,
        PeerStatus::Cordoned => v1::peer::Status::Cordoned,
        PeerStatus::Draining => v1::peer::Status::Draining,
        PeerStatus::Drained => v1::peer::Status::Drained,
    };
    let health = match peer.health {
        Health::Unknown => v1::peer::Health::Unknown,
        Health::Alive => v1::peer::Health::Alive,
        Health::Suspect => v1::peer::Health::Suspect,
        Health::Dead => v1::peer::Health::Dead,
    };
    let (spec, meta) = (&peer.spec, &peer.meta);
    v1::Peer {
        id: peer.id.to_string(),
        cluster: spec.cluster.to_string(),
        role: spec.role.clone(),
        region: spec.region.clone(),
        zone: spec.zone.clone(),
        endpoints: spec.endpoints.clone(),
        labels: spec.labels.clone(),
        metadata: spec.metadata.clone(),
        weight: spec.weight,
        status: status.into(),
        health: health.into(),
        version: meta.version,
        etag: meta.etag().to_string(),
        operation: peer.operation.as_ref().map_or_else(String::new, ToString::to_string),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
        status_reason: peer.status_reason.clone(),
    }
}

fn operation(operation: &Operation) -> v1::Operation {
    let kind = match operation.kind {
        OperationKind::DrainPeer(_) => v1::operation::Kind::DrainPeer,
    };
    let state = match operation.state {
        OperationState::Running => v1::operation::State::Running,
        OperationState::Succeeded => v1::operation::State::Succeeded,
        OperationState::Cancelled => v1::operation::State::Cancelled,
        OperationState::Failed => v1::operation::State::Failed,
    };
    let steps = operation.steps.iter().map(|step| {
        let phase = match step.phase {
            Phase::Pending => v1::operation::step::Phase::Pending,
            Phase::Active => v1::operation::step::Phase::Active,
            Phase::Done => v1::operation::step::Phase::Done,
            Phase::Skipped => v1::operation::step::Phase::Skipped,
        };
        v1::operation::Step {
            name: step.name.clone(),
            phase: phase.into(),
        }
    });
    let meta = &operation.meta;
    v1::Operation {
        id: operation.id.to_string(),
        kind: kind.into(),
        target: operation.kind.target(),
        state: state.into(),
        steps: steps.collect(),
        done: operation.done,
        total: operation.total,
        detail: operation.detail.clone(),
        actor: operation.actor.clone(),
        reason: operation.reason.clone(),
        ticket: operation.ticket.clone(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
        finished_at: operation.finished_wall_ms.map(time),
    }
}

fn cluster(cluster: &Cluster) -> v1::Cluster {
    let (state, readiness) = match cluster.state {
        ClusterPhase::Active => (v1::cluster::State::Active, v1::cluster::Readiness::Ready),
        ClusterPhase::Passive => (v1::cluster::State::Passive, v1::cluster::Readiness::Unknown),
        ClusterPhase::Draining => (v1::cluster::State::Draining, v1::cluster::Readiness::NotReady),
        ClusterPhase::Maintenance => (v1::cluster::State::Maintenance, v1::cluster::Readiness::NotReady),
    };
    let fencing = match cluster.spec.fencing {
        Fencing::Manual => v1::cluster::Fencing::Manual,
        Fencing::Lease => v1::cluster::Fencing::Lease,
    };
    let (spec, meta) = (&cluster.spec, &cluster.meta);
    v1::Cluster {
        id: cluster.id.to_string(),
        region: spec.region.clone(),
        state: state.into(),
        priority: spec.priority,
        fencing: fencing.into(),
        replication_endpoints: spec.replication_endpoints.clone(),
        owners: spec.owners.clone(),
        annotations: spec.annotations.clone(),
        ticket: cluster.ticket.clone(),
        readiness: readiness.into(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
    }
}

/// What was set is hashed; ranges, defaults and descriptions are this program's.
fn config(config: &Config) -> v1::Config {
    let items = DEFINITIONS.iter().map(|definition| {
        let (value, source) = match config.overrides.get(definition.name) {
            Some(set) => (*set, v1::setting::Source::Set),
            None => (definition.default, v1::setting::Source::Default),
        };
        v1::Setting {
            name: definition.name.to_owned(),
            value,
            source: source.into(),
            default: definition.default,
            min: definition.min,
            max: definition.max,
            unit: definition.unit.word().to_owned(),
            doc: definition.doc.to_owned(),
        }
    });
    let meta = &config.meta;
    v1::Config {
        items: items.collect(),
        version: meta.version,
        etag: meta.etag().to_string(),
        changed_revision: meta.changed.revision.0,
        changed_at: Some(time(meta.changed_wall_ms)),
        rollback_of: config.rollback_of.map_or(0, |revision| revision.0),
    }
}

//! Records of the state machine in the contract's form.

use prost_types::Timestamp;
use proto::v1;
use statemachine::{
    Change, MeshState, Outcome, Record, Recorded,
    record::{
        Checkpoint, Cluster, ClusterPhase, Config, DEFINITIONS, Fencing, Health, Operation, OperationKind,
        OperationState, Peer, PeerStatus, Phase,
    },
};

/// Milliseconds since 1970 as a time.
pub(crate) fn time(wall_ms: u64) -> Timestamp {
    let nanos = (wall_ms % 1000) * 1_000_000;
    Timestamp {
        seconds: i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// A message that answers a mutation or a read of one record.
pub(crate) trait FromRecord: Sized {
    /// The message of a record; none where the record is of another kind.
    fn from_record(record: &Record) -> Option<Self>;
}

impl FromRecord for v1::Peer {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Peer(found) => Some(peer(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Operation {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Operation(found) => Some(operation(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Cluster {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Cluster(found) => Some(cluster(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Config {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Config(found) => Some(config(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::FeatureLevel {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Mesh(found) => Some(Self {
                feature_level: found.feature_level,
                etag: found.meta.etag().to_string(),
            }),
            _ => None,
        }
    }
}

impl FromRecord for v1::Compaction {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Mesh(found) => Some(Self {
                oldest_revision: found.floor.0,
                etag: found.meta.etag().to_string(),
            }),
            _ => None,
        }
    }
}

pub(crate) fn cluster(cluster: &Cluster) -> v1::Cluster {
    let state = match cluster.state {
        ClusterPhase::Active => v1::cluster::State::Active,
        ClusterPhase::Passive => v1::cluster::State::Passive,
        ClusterPhase::Draining => v1::cluster::State::Draining,
        ClusterPhase::Maintenance => v1::cluster::State::Maintenance,
    };
    let fencing = match cluster.spec.fencing {
        Fencing::Manual => v1::cluster::Fencing::Manual,
        Fencing::Lease => v1::cluster::Fencing::Lease,
    };
    // The active one serves; of others nothing is known before they follow it.
    let readiness = match cluster.state {
        ClusterPhase::Active => v1::cluster::Readiness::Ready,
        ClusterPhase::Passive => v1::cluster::Readiness::Unknown,
        ClusterPhase::Draining | ClusterPhase::Maintenance => v1::cluster::Readiness::NotReady,
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

pub(crate) fn cluster_phase(state: v1::cluster::State) -> Option<ClusterPhase> {
    match state {
        v1::cluster::State::Unspecified => None,
        v1::cluster::State::Active => Some(ClusterPhase::Active),
        v1::cluster::State::Passive => Some(ClusterPhase::Passive),
        v1::cluster::State::Draining => Some(ClusterPhase::Draining),
        v1::cluster::State::Maintenance => Some(ClusterPhase::Maintenance),
    }
}

/// Every setting with its value in force.
pub(crate) fn config(config: &Config) -> v1::Config {
    let items = DEFINITIONS.iter().map(|definition| {
        let set = config.overrides.get(definition.name).copied();
        let source = match set {
            Some(_) => v1::setting::Source::Set,
            None => v1::setting::Source::Default,
        };
        v1::Setting {
            name: definition.name.to_owned(),
            value: set.unwrap_or(definition.default),
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

pub(crate) fn peer(peer: &Peer) -> v1::Peer {
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
        operation: peer.operation.as_ref().map(ToString::to_string).unwrap_or_default(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
        status_reason: peer.status_reason.clone(),
    }
}

pub(crate) fn peer_status(status: v1::peer::Status) -> Option<PeerStatus> {
    match status {
        v1::peer::Status::Unspecified => None,
        v1::peer::Status::Active => Some(PeerStatus::Active),
        v1::peer::Status::Cordoned => Some(PeerStatus::Cordoned),
        v1::peer::Status::Draining => Some(PeerStatus::Draining),
        v1::peer::Status::Drained => Some(PeerStatus::Drained),
    }
}

pub(crate) fn operation(operation: &Operation) -> v1::Operation {
    let kind = match operation.kind {
        OperationKind::DrainPeer(_) => v1::operation::Kind::DrainPeer,
    };
    let phase = |phase| match phase {
        Phase::Pending => v1::operation::step::Phase::Pending,
        Phase::Active => v1::operation::step::Phase::Active,
        Phase::Done => v1::operation::step::Phase::Done,
        Phase::Skipped => v1::operation::step::Phase::Skipped,
    };
    let steps = operation.steps.iter();
    let meta = &operation.meta;
    v1::Operation {
        id: operation.id.to_string(),
        kind: kind.into(),
        target: operation.kind.target(),
        state: operation_state(operation.state).into(),
        steps: steps
            .map(|step| v1::operation::Step {
                name: step.name.clone(),
                phase: phase(step.phase).into(),
            })
            .collect(),
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

fn operation_state(state: OperationState) -> v1::operation::State {
    match state {
        OperationState::Running => v1::operation::State::Running,
        OperationState::Succeeded => v1::operation::State::Succeeded,
        OperationState::Cancelled => v1::operation::State::Cancelled,
        OperationState::Failed => v1::operation::State::Failed,
    }
}

/// Whether an operation is in the state that a filter asks for; an unspecified one asks for none.
pub(crate) fn is_in_state(operation: &Operation, wanted: v1::operation::State) -> bool {
    wanted == v1::operation::State::Unspecified || operation_state(operation.state) == wanted
}

/// One revision as an entry of the audit trail. `previous` is the chain's hash before it.
pub(crate) fn audit(recorded: &Recorded, previous: &str, canonical: bool) -> v1::AuditRecord {
    let unit = &recorded.unit;
    let origin = &unit.origin;
    let (outcome, code, detail) = outcome(&unit.outcome);
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
        changes: unit.changes().iter().filter_map(change).collect(),
        hash: recorded.chain.to_string(),
        previous_hash: previous.to_owned(),
        canonical: if canonical { recorded.bytes.to_vec() } else { Vec::new() },
    }
}

fn outcome(outcome: &Outcome) -> (v1::audit_record::Outcome, String, String) {
    match outcome {
        Outcome::Applied { changes, events } => {
            let refused = events.iter().find_map(|event| match event {
                statemachine::Event::RequestsRefused { refusals, suppressed } => Some((refusals, suppressed)),
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
                None => String::new(),
            };
            (v1::audit_record::Outcome::Applied, String::new(), detail)
        }
        Outcome::Rejected(rejection) => (
            v1::audit_record::Outcome::Rejected,
            rejection.code().to_owned(),
            rejection.detail(),
        ),
        Outcome::Replayed { of } => (
            v1::audit_record::Outcome::Replayed,
            String::new(),
            format!("a retry of what revision {of} answered"),
        ),
    }
}

fn change(change: &Change) -> Option<v1::audit_record::Change> {
    let (kind, id) = change.key()?;
    Some(v1::audit_record::Change {
        kind: kind.word().to_owned(),
        id,
        before: change.before.as_ref().and_then(record),
        after: change.after.as_ref().and_then(record),
    })
}

fn record(record: &Record) -> Option<v1::audit_record::Record> {
    use v1::audit_record::record::Record as Form;
    let form = match record {
        Record::Peer(found) => Form::Peer(peer(found)),
        Record::Operation(found) => Form::Operation(operation(found)),
        Record::Cluster(found) => Form::Cluster(cluster(found)),
        Record::Config(found) => Form::Config(config(found)),
        // No records of the contract: the canonical bytes hold them.
        Record::Mesh(_) | Record::Checkpoint(_) | Record::Certificate(_) => return None,
    };
    Some(v1::audit_record::Record { record: Some(form) })
}

pub(crate) fn checkpoint(mesh: &MeshState, checkpoint: &Checkpoint) -> v1::AuditCheckpoint {
    let certificate = mesh.certificate(checkpoint.certificate);
    v1::AuditCheckpoint {
        revision: checkpoint.revision.0,
        hash: checkpoint.hash.to_string(),
        node: checkpoint.node.to_string(),
        certificate: certificate.map(|found| found.der.clone()).unwrap_or_default(),
        signature: checkpoint.signature.clone(),
        recorded_revision: checkpoint.meta.changed.revision.0,
    }
}

/// What each cluster originated, as far as a state contains it.
pub(crate) fn version_vector(mesh: &MeshState) -> std::collections::BTreeMap<String, u64> {
    mesh.version_vector()
        .map(|(cluster, _, sequence)| (cluster.to_string(), sequence))
        .collect()
}

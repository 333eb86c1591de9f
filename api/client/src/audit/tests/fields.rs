//! A node that shows other words than it hashed: every field of every kind of record, altered alone, is found.

use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use proto::v1::{AuditRecord, audit_record::Outcome};
use statemachine::{
    AdvanceDrain, Answer, ApplyCluster, ClusterId, Command, Conditions, CordonPeer, DeregisterPeer, DrainPeer, Entry,
    Hash, Idempotency, InitMesh, MeshId, NodeId, Origin, PeerId, Proposal, RecordRefusals, RegisterPeer, SetConfig,
    Stamp, State, TimelineId,
    record::{ClusterSpec, Fencing, PeerSpec},
};

use super::{Verification, ok};

fn peer(id: &str) -> PeerId {
    ok(PeerId::new(id))
}

fn register(id: &str) -> Command {
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let spec = PeerSpec {
        cluster: ok(ClusterId::new("c1")),
        role: "worker".into(),
        region: "eu".into(),
        zone: "a".into(),
        endpoints: vec!["127.0.0.1:9000".into()],
        labels: map("tier", "gold"),
        metadata: map("owner", "team"),
        weight: 100,
    };
    RegisterPeer { id: peer(id), spec }.into()
}

/// A trail that the state machine itself made: applied, rejected, replayed, unchanged, refused before it was a command.
fn trail() -> Vec<AuditRecord> {
    let mut state = State::default();
    let mut records: Vec<AuditRecord> = Vec::new();
    let mut previous = Hash([0; 32]);
    let mut run = |command: Command, key: Option<&str>| {
        let revision = records.len() as u64 + 1;
        let proposal = Proposal {
            stamp: Stamp {
                mesh_time_ms: revision * 10,
                wall_ms: 1_790_000_000_123 + revision,
            },
            origin: Origin {
                actor: "alice".into(),
                reason: "why".into(),
                ticket: "CHG-1".into(),
                request_id: format!("r{revision}"),
                transport: "h2".into(),
                node: NodeId(2),
                received_wall_ms: 1_790_000_000_001 + revision,
                idempotency: key.map(|key| Idempotency {
                    key: key.to_owned(),
                    request: Hash([7; 32]),
                }),
            },
            conditions: Conditions::default(),
            command,
        };
        let recorded = match statemachine::apply(&mut state, &Entry::Command(Box::new(proposal))).answer {
            Answer::Recorded(recorded) => recorded,
            other => panic!("{other:?}"),
        };
        records.push(AuditRecord {
            hash: recorded.chain.to_string(),
            previous_hash: previous.to_string(),
            canonical: recorded.bytes.to_vec(),
            ..api_records::of_unit(&recorded.unit)
        });
        previous = recorded.chain;
        state.mesh.peer(&peer("p1")).and_then(|peer| peer.operation.clone())
    };
    run(
        InitMesh {
            mesh: ok(MeshId::new("m1")),
            cluster: ok(ClusterId::new("c1")),
            timeline: TimelineId(7),
            settings: Default::default(),
            feature_level: statemachine::FEATURE_LEVEL,
        }
        .into(),
        None,
    );
    run(register("p1"), Some("first"));
    run(register("p1"), Some("first"));
    run(register("p1"), None);
    run(CordonPeer { id: peer("p1") }.into(), None);
    run(CordonPeer { id: peer("p1") }.into(), None);
    let operation = run(DrainPeer { id: peer("p1") }.into(), None);
    let operation = operation.unwrap_or_else(|| panic!("a drain is an operation"));
    for step in 0..8 {
        let operation = operation.clone();
        run(AdvanceDrain { operation, step }.into(), None);
    }
    let spec = ClusterSpec {
        region: "us".into(),
        priority: 3,
        fencing: Fencing::Lease,
        replication_endpoints: vec!["10.0.0.2:7600".into()],
        owners: vec!["team".into()],
        annotations: [("note".to_owned(), "x".to_owned())].into(),
    };
    let id = ok(ClusterId::new("c2"));
    run(ApplyCluster { id, spec, state: None }.into(), None);
    run(
        SetConfig {
            set: [("limits.peers".to_owned(), 50)].into(),
            reset: Vec::new(),
        }
        .into(),
        None,
    );
    run(
        RecordRefusals {
            refusals: Vec::new(),
            suppressed: 3,
        }
        .into(),
        None,
    );
    run(DeregisterPeer { id: peer("p1") }.into(), None);
    records
}

fn verify(records: &[AuditRecord]) -> super::Result<()> {
    let mut verification = ok(Verification::new("m1".into(), None, Vec::new(), &[]));
    for record in records {
        verification.record(record)?;
    }
    verification.finish(records.len() as u64).map(drop)
}

/// `value` altered in every way that one field can be, each with the path of what was altered.
fn alterations(value: &Value, kind: &Kind, path: &str) -> Vec<(String, Value)> {
    let one = |value: Value| vec![(path.to_owned(), value)];
    match value {
        Value::Bool(value) => one(Value::Bool(!value)),
        Value::I32(value) => one(Value::I32(value + 1)),
        Value::I64(value) => one(Value::I64(value + 1)),
        Value::U32(value) => one(Value::U32(value + 1)),
        Value::U64(value) => one(Value::U64(value + 1)),
        Value::F32(_) | Value::F64(_) => panic!("{path}: the contract has no fractions"),
        Value::EnumNumber(value) => one(Value::EnumNumber(value + 1)),
        Value::String(text) => one(Value::String(format!("{text}x"))),
        Value::Bytes(bytes) => {
            let mut bytes = bytes.to_vec();
            bytes.push(0);
            one(Value::Bytes(bytes.into()))
        }
        Value::Message(message) => {
            let altered = of_message(message, path).into_iter();
            altered.map(|(path, message)| (path, Value::Message(message))).collect()
        }
        Value::List(items) => {
            let mut all = Vec::new();
            for (at, item) in items.iter().enumerate() {
                for (path, altered) in alterations(item, kind, &format!("{path}[{at}]")) {
                    let mut items = items.clone();
                    items[at] = altered;
                    all.push((path, Value::List(items)));
                }
            }
            let mut more = items.clone();
            more.push(items.last().cloned().unwrap_or_else(|| Value::default_value(kind)));
            all.push((format!("{path}[+]"), Value::List(more)));
            if let Some((_, fewer)) = items.split_last() {
                all.push((format!("{path}[-]"), Value::List(fewer.to_vec())));
            }
            all
        }
        Value::Map(entries) => {
            let mut all = Vec::new();
            for key in entries.keys() {
                let mut other = entries.clone();
                other.insert(key.clone(), Value::String("planted".into()));
                all.push((format!("{path}{{}}"), Value::Map(other)));
            }
            let mut more = entries.clone();
            more.insert(MapKey::String("planted".into()), Value::String(String::new()));
            all.push((format!("{path}{{+}}"), Value::Map(more)));
            all
        }
    }
}

fn of_message(message: &DynamicMessage, path: &str) -> Vec<(String, DynamicMessage)> {
    let mut all = Vec::new();
    for field in message.descriptor().fields() {
        let path = format!("{path}.{}", field.name());
        let with = |value| {
            let mut message = message.clone();
            message.set_field(&field, value);
            message
        };
        if field.supports_presence() && !message.has_field(&field) {
            all.push((format!("{path}+"), with(Value::default_value(&field.kind()))));
            continue;
        }
        if field.supports_presence() {
            let mut without = message.clone();
            without.clear_field(&field);
            all.push((format!("{path}-"), without));
        }
        let altered = alterations(&message.get_field(&field), &field.kind(), &path);
        all.extend(altered.into_iter().map(|(path, value)| (path, with(value))));
    }
    all
}

#[test]
fn every_field_that_is_shown_is_compared_with_what_was_hashed() {
    let records = trail();
    ok(verify(&records));
    let outcomes: std::collections::BTreeSet<Outcome> = records.iter().map(AuditRecord::outcome).collect();
    assert_eq!(outcomes.len(), 3, "applied, rejected and replayed");
    let details: Vec<&str> = records.iter().map(|record| record.detail.as_str()).collect();
    for detail in ["a retry of what revision 2 answered", "unchanged", "and 3 more"] {
        assert!(details.contains(&detail), "no {detail:?} in {details:?}");
    }
    let mut planted = std::collections::BTreeSet::new();
    for (at, record) in records.iter().enumerate() {
        for (path, altered) in of_message(&ok(proto::json::dynamic(record)), "") {
            let mut records = records.clone();
            records[at] = ok(altered.transcode_to());
            assert!(
                verify(&records).is_err(),
                "revision {}: other words in {path} are not found",
                record.revision
            );
            planted.insert(path);
        }
    }
    // That the fixture has what is to be altered, down to the records that were changed.
    for path in [
        ".code",
        ".detail",
        ".node",
        ".received_at.nanos",
        ".proposed_at-",
        ".changes[+]",
        ".changes[0].id",
        ".changes[0].before.peer.status",
        ".changes[0].after.peer.labels{}",
        ".changes[0].after-",
        ".changes[0].after.peer.status_reason",
        ".changes[0].after.cluster.owners[0]",
        ".changes[0].after.cluster.readiness",
        ".changes[0].after.config.items[0].value",
        ".changes[1].after.operation.steps[0].phase",
        ".changes[1].after.operation.finished_at.seconds",
    ] {
        assert!(planted.contains(path), "nothing was planted in {path}: {planted:?}");
    }
}

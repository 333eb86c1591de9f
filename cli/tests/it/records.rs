//! Fixed records, so that output is the same every time.

use jiff::Timestamp;
use prost_types::Timestamp as ProtoTimestamp;
use proto::v1::{
    Alarm, AuditRecord, LogLevel, Node, Operation, Peer, Status, audit_record, node, operation, peer, status,
};

/// "Now" in relative times.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn ago(seconds: i64) -> Option<ProtoTimestamp> {
    Some(ProtoTimestamp {
        seconds: 1_790_000_000 - seconds,
        nanos: 0,
    })
}

pub fn peers() -> Vec<Peer> {
    let labels = [("tier", "front"), ("gpu", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    vec![
        Peer {
            id: "p1".into(),
            cluster: "dev-1".into(),
            role: "gateway".into(),
            region: "us-east".into(),
            zone: "a".into(),
            endpoints: vec!["10.0.0.1:9000".into(), "[::1]:9000".into()],
            labels: labels.into(),
            metadata: [("note".to_owned(), "line one\nline \u{1b}[31mtwo".to_owned())].into(),
            weight: 100,
            status: peer::Status::Active.into(),
            health: peer::Health::Alive.into(),
            version: 3,
            etag: "00000000000000000000000000000007-29".into(),
            created_revision: 2,
            changed_revision: 41,
            created_at: ago(86_400 * 3),
            changed_at: ago(125),
            ..Peer::default()
        },
        Peer {
            id: "peer-two".into(),
            cluster: "dev-1".into(),
            endpoints: vec!["worker.example:9000".into()],
            weight: 250,
            status: peer::Status::Draining.into(),
            health: peer::Health::Unknown.into(),
            version: 2,
            etag: "00000000000000000000000000000007-2a".into(),
            operation: "01J0000000000000000000000A".into(),
            created_revision: 3,
            changed_revision: 42,
            created_at: ago(86_400 * 2),
            changed_at: ago(5),
            ..Peer::default()
        },
    ]
}

pub fn operations() -> Vec<Operation> {
    use operation::step::Phase;
    let step = |name: &str, phase: Phase| operation::Step {
        name: name.into(),
        phase: phase.into(),
    };
    let running = Operation {
        id: "01J0000000000000000000000A".into(),
        kind: operation::Kind::DrainPeer.into(),
        target: "peer/peer-two".into(),
        state: operation::State::Running.into(),
        steps: vec![
            step("stop new work", Phase::Done),
            step("move shards", Phase::Active),
            step("mark drained", Phase::Pending),
        ],
        done: 3,
        total: 10,
        detail: "waiting for shard 4".into(),
        actor: "alice".into(),
        reason: "new kernel".into(),
        ticket: "OPS-1".into(),
        version: 2,
        etag: "00000000000000000000000000000007-2b".into(),
        created_revision: 42,
        changed_revision: 43,
        created_at: ago(5),
        changed_at: ago(2),
        finished_at: None,
        deadline: ago(-300),
        forced: false,
        parent: String::new(),
        waiting_since: ago(2),
        selector: String::new(),
        at_once: 0,
        items: vec![],
    };
    let failed = Operation {
        id: "01J00000000000000000000009".into(),
        target: "peer/p1".into(),
        state: operation::State::Failed.into(),
        steps: vec![],
        done: 0,
        total: 0,
        detail: "the peer was deregistered".into(),
        finished_at: ago(3_600),
        deadline: None,
        waiting_since: None,
        forced: true,
        created_at: ago(3_700),
        ..running.clone()
    };
    vec![running, failed]
}

pub fn audit() -> Vec<AuditRecord> {
    let drained = AuditRecord {
        revision: 42,
        timeline: "00000000000000000000000000000007".into(),
        actor: "alice".into(),
        action: "peers.drain".into(),
        target: "peer/peer-two".into(),
        outcome: audit_record::Outcome::Applied.into(),
        reason: "new kernel".into(),
        ticket: "OPS-1".into(),
        request_id: "01J0000000000000000000000R".into(),
        transport: "h2".into(),
        node: "2".into(),
        received_at: ago(6),
        proposed_at: ago(5),
        mesh_time_ms: 123_456,
        changes: vec![audit_record::Change {
            kind: "peer".into(),
            id: "peer-two".into(),
            before: None,
            after: Some(audit_record::Record {
                record: Some(audit_record::record::Record::Peer(peers().remove(1))),
            }),
        }],
        hash: "ab".repeat(32),
        previous_hash: "cd".repeat(32),
        ..AuditRecord::default()
    };
    let rejected = AuditRecord {
        revision: 41,
        action: "peers.uncordon".into(),
        outcome: audit_record::Outcome::Rejected.into(),
        code: "peer_draining".into(),
        detail: "peer `peer-two` is draining".into(),
        reason: String::new(),
        ticket: String::new(),
        changes: vec![],
        proposed_at: ago(90),
        ..drained.clone()
    };
    vec![drained, rejected]
}

pub fn log_level() -> LogLevel {
    LogLevel {
        filter: "raft=debug".into(),
        configured: "info".into(),
        until: ago(-600),
        node: 2,
    }
}

pub fn status() -> Status {
    let node = |id: u64, role: node::Role| Node {
        id,
        api: format!("https://127.0.0.1:740{id}"),
        raft: format!("127.0.0.1:750{id}"),
        voter: true,
        role: role.into(),
        lag_entries: Some(0),
        last_contact_ms: Some(12),
        version: "0.1.0".into(),
        feature_level: 2,
    };
    Status {
        mesh: "demo".into(),
        cluster: "dev-1".into(),
        answered_by: 2,
        quorum: true,
        leader: Some(status::Leader {
            id: 1,
            api: "https://127.0.0.1:7401".into(),
        }),
        term: 3,
        revision: 43,
        epoch: 1,
        timeline: "00000000000000000000000000000007".into(),
        version_vector: [("dev-1".to_owned(), 43)].into(),
        nodes: vec![
            Node {
                lag_entries: None,
                last_contact_ms: None,
                ..node(1, node::Role::Leader)
            },
            node(2, node::Role::Follower),
            Node {
                lag_entries: Some(120),
                last_contact_ms: Some(75_000),
                ..node(3, node::Role::Unreachable)
            },
        ],
        alarms: vec![Alarm {
            name: "NOSPACE".into(),
            node: 3,
            detail: "1.2 GiB free, 2 GiB needed".into(),
            since: ago(600),
        }],
        peers: Some(status::PeersByStatus {
            active: 3,
            cordoned: 1,
            draining: 1,
            drained: 0,
        }),
        operations_running: 1,
        digest: "ef".repeat(32),
        feature_level: 1,
        node_version: "0.1.0".into(),
        voters_reachable: 2,
        voters_needed: 2,
        oldest_revision: 1,
        certificate_expires_at: ago(-20 * 86_400),
        warnings: vec!["the node certificate 8f3a2b1c00000000 runs out in 20 days: plan to renew it".into()],
        peers_by_health: Some(status::PeersByHealth {
            unknown: 0,
            alive: 3,
            suspect: 1,
            dead: 1,
        }),
        shards: Some(status::ShardsByStatus {
            active: 95,
            moving: 0,
            paused: 0,
            disabled: 1,
            unowned: 0,
            owned_by_silent: 40,
        }),
    }
}

//! Drains (M1, M11): through any node, through the death of the leader at each persisted step, and back.

use std::time::Duration;

use node_harness::{Mesh, wait_for};
use proto::v1::{AuditRecord, Operation, audit_record, operation, peer};
use serde_json::json;

use super::{
    shared::on_one_mesh,
    wire::Wire,
    world::{
        SOON, admin, agreed, audit, caller, client, drains_take, finished, leader, register, unique, verify_audit, wait,
    },
};

on_one_mesh! {
    || drains_take(Duration::from_millis(1_000));
    the_cli_drains_through_any_node,
    a_cancelled_drain_is_unwound,
    an_undrained_peer_is_as_it_was_before,
    draining_twice_follows_the_same_operation,
}

/// `mesh peers drain --wait` through each node, leader or not.
fn the_cli_drains_through_any_node(mesh: &Mesh) {
    for node in mesh.ids() {
        let id = unique("drained");
        register(mesh, &id);
        let arguments = [
            "peers",
            "drain",
            &id,
            "--reason",
            "kernel update",
            "--ticket",
            "CHG-7",
            "--yes",
            "--wait",
            "--timeout",
            "20s",
            "-o",
            "json",
        ];
        mesh.mesh_at(node, arguments).unwrap().ok().unwrap();
        let drained = caller(mesh, node, Wire::H2, "read")
            .call("GetPeer", json!({ "id": id }))
            .ok();
        assert_eq!(drained.str("status"), "DRAINED");
        let target = format!("peer/{id}");
        let record = audit(mesh)
            .into_iter()
            .find(|record| record.action == "peers.drain" && record.target == target)
            .unwrap();
        assert_eq!(
            (record.reason.as_str(), record.ticket.as_str(), record.actor.as_str()),
            ("kernel update", "CHG-7", "dev-admin")
        );
    }
}

/// M11: cancelling unwinds, whichever way it is asked for, and is audited.
fn a_cancelled_drain_is_unwound(mesh: &Mesh) {
    for by_operation in [true, false] {
        for cordoned in [true, false] {
            let id = unique("cancelled");
            register(mesh, &id);
            let at = admin(mesh);
            if cordoned {
                at.call("CordonPeer", json!({ "id": id })).ok();
            }
            let operation = at
                .call("DrainPeer", json!({ "id": id }))
                .ok()
                .str("operation")
                .to_owned();
            let (rpc, target) = if by_operation {
                ("CancelOperation", &operation)
            } else {
                ("UndrainPeer", &id)
            };
            at.call(rpc, json!({ "id": target, "reason": "not now" })).ok();
            let ended = finished(mesh, &operation);
            assert_eq!(ended.state(), operation::State::Cancelled);
            let phases: Vec<_> = ended.steps.iter().map(operation::Step::phase).collect();
            use operation::step::Phase;
            assert_eq!(
                phases,
                [Phase::Done, Phase::Skipped, Phase::Skipped, Phase::Done],
                "the first step is the drain's own command, the last what was undone"
            );
            assert!(ended.detail.contains("dev-admin"), "{ended:?}");
            let peer = at.call("GetPeer", json!({ "id": id })).ok();
            let before = if cordoned { "CORDONED" } else { "ACTIVE" };
            assert_eq!((peer.str("status"), peer.str("operation")), (before, ""), "{peer:?}");
            let action = if by_operation {
                "operations.cancel"
            } else {
                "peers.undrain"
            };
            let record = audit(mesh).into_iter().rfind(|record| record.action == action).unwrap();
            assert_eq!(
                (record.reason.as_str(), record.outcome()),
                ("not now", audit_record::Outcome::Applied)
            );
        }
    }
}

/// Undrain returns a drained peer to what it was; uncordon is refused and points there.
fn an_undrained_peer_is_as_it_was_before(mesh: &Mesh) {
    let id = unique("undrained");
    register(mesh, &id);
    let at = admin(mesh);
    at.call("CordonPeer", json!({ "id": id })).ok();
    let operation = at
        .call("DrainPeer", json!({ "id": id }))
        .ok()
        .str("operation")
        .to_owned();
    assert_eq!(finished(mesh, &operation).state(), operation::State::Succeeded);
    let refused = at.call("UncordonPeer", json!({ "id": id })).refused("peer_draining");
    assert!(refused.str("hint").contains("undrain"), "{refused:?}");
    assert_eq!(mesh.mesh(["peers", "uncordon", &id]).code, Some(6));
    assert_eq!(
        at.call("UndrainPeer", json!({ "id": id })).ok().str("status"),
        "CORDONED"
    );
    at.call("CancelOperation", json!({ "id": operation }))
        .refused("operation_finished");
}

/// Asking twice is no second drain.
fn draining_twice_follows_the_same_operation(mesh: &Mesh) {
    let id = unique("twice");
    register(mesh, &id);
    let at = admin(mesh);
    let first = at.call("DrainPeer", json!({ "id": id })).ok();
    let second = at.call("DrainPeer", json!({ "id": id })).ok();
    assert_eq!(first.json, second.json);
    let operation = first.str("operation");
    finished(mesh, operation);
    assert_eq!(
        at.call("DrainPeer", json!({ "id": id })).ok().str("operation"),
        operation
    );
    each_step_once(mesh, operation);
}

/// X1: the leader dies at each step that a drain persists; the next one goes on from there, and does nothing twice.
#[test]
fn a_drain_outlives_its_leader_at_each_step() {
    let mut mesh = Mesh::start(drains_take(Duration::from_millis(1_500))).unwrap();
    // Version 1: started; 2: moved; 3: confirmed and drained.
    for version in 1..=3 {
        let id = unique("outliving");
        register(&mesh, &id);
        let operation = admin(&mesh)
            .call("DrainPeer", json!({ "id": id }))
            .ok()
            .str("operation")
            .to_owned();
        at_version(&mesh, &operation, version);
        let leader = leader(&mesh);
        mesh.kill(leader).unwrap();
        let ended = finished(&mesh, &operation);
        assert_eq!(
            (ended.state(), ended.version),
            (operation::State::Succeeded, 3),
            "{ended:?}"
        );
        each_step_once(&mesh, &operation);
        let request = proto::v1::GetPeerRequest { id: id.clone() };
        let peer = wait(client(&mesh, "read").get_peer(request)).unwrap().message;
        assert_eq!(peer.status(), peer::Status::Drained);
        mesh.restart(leader).unwrap();
        mesh.wait_ready(leader, SOON).unwrap();
    }
    agreed(&mesh);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// Waits by long poll until an operation is at a version.
fn at_version(mesh: &Mesh, id: &str, version: u64) {
    let sdk = client(mesh, "read");
    let mut seen = 0;
    let reached = wait_for(SOON, "the operation's step", || {
        seen = wait(sdk.wait_operation(id, seen, Duration::from_secs(10)))
            .unwrap()
            .message
            .version;
        (seen >= version).then_some(seen)
    });
    assert_eq!(reached.unwrap(), version, "it went on before it could be seen");
}

/// Every step of an operation was finished by one applied command each, and by no other.
fn each_step_once(mesh: &Mesh, id: &str) {
    let target = format!("operation/{id}");
    let applied =
        |record: &AuditRecord| record.outcome() == audit_record::Outcome::Applied && !record.changes.is_empty();
    let trail = audit(mesh);
    let advances: Vec<_> = trail
        .iter()
        .filter(|record| record.action == "operations.advance" && record.target == target && applied(record))
        .collect();
    assert_eq!(advances.len(), 2, "{advances:?}");
    let phases = |record: &AuditRecord, after: bool| -> Vec<operation::step::Phase> {
        let change = record.changes.iter().find(|change| change.kind == "operation").unwrap();
        let side = if after { &change.after } else { &change.before };
        match side.as_ref().and_then(|side| side.record.as_ref()) {
            Some(audit_record::record::Record::Operation(Operation { steps, .. })) => {
                steps.iter().map(operation::Step::phase).collect()
            }
            other => panic!("no operation: {other:?}"),
        }
    };
    use operation::step::Phase::{Active, Done, Pending};
    assert_eq!(
        (phases(advances[0], false), phases(advances[0], true)),
        (vec![Done, Active, Pending], vec![Done, Done, Active])
    );
    assert_eq!(
        (phases(advances[1], false), phases(advances[1], true)),
        (vec![Done, Done, Active], vec![Done, Done, Done])
    );
    assert!(
        advances.iter().all(|record| record.actor.starts_with("system:")),
        "{advances:?}"
    );
}

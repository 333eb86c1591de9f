//! `mesh audit` and `mesh auth`: what is asked for, what is shown, and that no half export is left behind.

use std::{fs, path::Path};

use proto::v1::{
    AuditCheckpoint, EndSessionsResponse, ListActionsResponse, ListAuditCheckpointsResponse, ListAuditRecordsRequest,
    ListAuditRecordsResponse, Problem, RevokeSessionsRequest, list_actions_response::Action,
};
use tonic::Code;

use crate::{
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
};

fn actions() -> ListActionsResponse {
    let action = |name: &str, needed: &str, allowed, mutation, rest: &str| Action {
        action: name.into(),
        needed: needed.into(),
        allowed,
        mutation,
        rest: rest.into(),
    };
    ListActionsResponse {
        principal: "alice".into(),
        scopes: vec!["mesh.read".into(), "mesh.observe".into(), "mesh.operate".into()],
        method: "jwt".into(),
        actions: vec![
            action("peers.list", "mesh.read", true, false, "GET /meshkit/peers"),
            action(
                "peers.drain",
                "mesh.operate",
                true,
                true,
                "POST /meshkit/peers/{id}:drain",
            ),
            action(
                "peers.deregister",
                "mesh.admin",
                false,
                true,
                "DELETE /meshkit/peers/{id}",
            ),
        ],
    }
}

#[tokio::test]
async fn what_there_is_to_do_in_every_format() {
    let node = Fake::default();
    node.says("ListActions", [Reply::ok(&actions())]);
    for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
        let ran = mesh(&node, &format!("auth can-i --list -o {format}")).await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        check(&format!("auth-can-i-list.{format}.txt"), &shown(&ran));
    }
    assert_eq!(mesh(&node, "auth can-i").await.exit, 2);
    assert_eq!(mesh(&node, "auth can-i peers.drain --list").await.exit, 2);
}

#[tokio::test]
async fn sessions_are_revoked_for_a_reason() {
    let node = Fake::default();
    node.says("RevokeSessions", [Reply::ok(&EndSessionsResponse { ended: 2 })]);
    let ran = mesh(&node, "auth revoke-sessions alice --reason lost --ticket OPS-1").await;
    assert_eq!((ran.exit, ran.out.as_str()), (0, "2 sessions ended\n"), "{}", ran.err);
    let asked: RevokeSessionsRequest = node.asked()[0].message();
    let said = (asked.principal.as_str(), asked.reason.as_str(), asked.ticket.as_str());
    assert_eq!(said, ("alice", "lost", "OPS-1"));
}

#[tokio::test]
async fn times_are_moments_or_how_long_ago() {
    let node = Fake::default();
    node.says("ListAuditRecords", [Reply::ok(&ListAuditRecordsResponse::default())]);
    let ran = mesh(
        &node,
        "audit list --from 2026-01-31T12:00:00.5Z --to 1h --outcome staged",
    )
    .await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let asked: ListAuditRecordsRequest = node.asked()[0].message();
    let from = asked.from.unwrap();
    assert_eq!((from.seconds, from.nanos), (1_769_860_800, 500_000_000));
    let hour = jiff::Timestamp::now().as_second() - 3_600;
    assert!((hour - 60..=hour + 60).contains(&asked.to.unwrap().seconds));
    for wrong in ["yesterday", "2026-01-31", "-1h"] {
        let ran = mesh(&node, &format!("audit list --from={wrong}")).await;
        assert_eq!(ran.exit, 2, "{wrong}");
    }
}

#[tokio::test]
async fn a_broken_off_export_leaves_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trail.jsonl");
    let at = path.display().to_string();
    let names = |directory: &Path| -> Vec<_> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let answers = |records: Reply| {
        let node = Fake::default();
        node.says("GetStatus", [Reply::ok(&records::status())])
            .says(
                "ListAuditCheckpoints",
                [Reply::ok(&ListAuditCheckpointsResponse::default())],
            )
            .says("ListAuditRecords", [records]);
        node
    };
    let problem = Problem {
        code: "compacted".into(),
        detail: "the oldest is 7".into(),
        ..Problem::default()
    };
    let node = answers(Reply::Problem(Code::OutOfRange, problem));
    let ran = mesh(&node, &format!("audit export {at} --after-revision 1")).await;
    assert_eq!(ran.exit, 6, "{}", ran.err);
    assert!(names(directory.path()).is_empty());
    fs::write(&path, "mine").unwrap();
    assert!(mesh(&node, &format!("audit export {at}")).await.err.contains("--force"));
    let ran = mesh(&node, &format!("audit export {at} --force")).await;
    assert_eq!(ran.exit, 6, "{}", ran.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(names(directory.path()).len(), 1);
    // What is shown but does not form a chain is not exported.
    let page = ListAuditRecordsResponse {
        items: records::audit(),
        revision: 43,
        ..Default::default()
    };
    let node = answers(Reply::ok(&page));
    let ran = mesh(&node, &format!("audit export {at} --force")).await;
    assert!(ran.err.contains("audit_broken"), "{}", ran.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

/// What is kept to check against later takes the place of an earlier checkpoint, and of nothing else.
#[tokio::test]
async fn a_checkpoint_replaces_checkpoints_alone() {
    let node = Fake::default();
    let directory = tempfile::tempdir().unwrap();
    let (kept, other) = (directory.path().join("kept.json"), directory.path().join("trail.jsonl"));
    let checkpoint = AuditCheckpoint {
        revision: 40,
        ..AuditCheckpoint::default()
    };
    fs::write(&kept, proto::json::to_string(&checkpoint).unwrap()).unwrap();
    fs::write(&other, "{\"export\":{\"format\":1,\"mesh\":\"demo\"}}\n").unwrap();
    let ran = mesh(&node, &format!("audit verify --export {}", other.display())).await;
    assert_eq!(ran.exit, 5, "{}", ran.err);
    assert!(ran.err.contains("is no checkpoint"), "{}", ran.err);
    assert!(node.asked().is_empty(), "it is said before the trail is read");
    assert!(fs::read_to_string(&other).unwrap().contains("export"));
    // This one would be replaced: the trail is asked for.
    let ran = mesh(&node, &format!("audit verify --export {}", kept.display())).await;
    assert!(
        !ran.err.contains("already_exists") && !node.asked().is_empty(),
        "{}",
        ran.err
    );
}

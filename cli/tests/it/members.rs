//! Members and leadership: what is asked of the mesh, and how the answers look.

use std::os::unix::fs::PermissionsExt as _;

use proto::v1::{
    AddMemberRequest, Invitation, InviteMemberRequest, ListMembersResponse, Node, Problem, PromoteMemberRequest,
    RemoveMemberRequest, Status, TransferLeadershipRequest, VoterChange, node,
};
use tonic::Code;

use crate::{
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
};

const TOKEN: &str = "eyJtZXNoIjoiZGVtbyJ9";

pub(crate) fn members() -> ListMembersResponse {
    let mut items = records::status().nodes;
    items.push(Node {
        id: 5,
        api: "https://127.0.0.1:7405".into(),
        raft: "127.0.0.1:7505".into(),
        role: node::Role::Learner.into(),
        lag_entries: Some(40_000),
        last_contact_ms: Some(3),
        version: "0.1.0".into(),
        feature_level: 2,
        ..Node::default()
    });
    ListMembersResponse {
        items,
        removed: vec![4],
        change: None,
    }
}

fn invitation() -> Invitation {
    Invitation {
        node: 6,
        expires_at: Some(prost_types::Timestamp {
            seconds: 1_790_003_600,
            nanos: 0,
        }),
        token: TOKEN.into(),
    }
}

fn node() -> Fake {
    let node = Fake::default();
    node.says("ListMembers", [Reply::ok(&members())])
        .says("InviteMember", [Reply::ok(&invitation())])
        .says("AddMember", [Reply::ok(&members())])
        .says("PromoteMember", [Reply::ok(&members())])
        .says("RemoveMember", [Reply::ok(&members())])
        .says("GetStatus", [Reply::ok(&records::status())])
        .says("TransferLeadership", [Reply::ok(&records::status())]);
    node
}

#[tokio::test]
async fn every_format_of_every_answer() {
    let node = node();
    for (name, command) in [
        ("members-list", "members list"),
        ("members-invite", "members invite"),
        ("members-add", "members add 5 --api h:1 --raft h:2"),
        ("members-promote", "members promote 5"),
        ("members-remove", "members remove 4 --yes"),
        ("leader-show", "leader show"),
        ("leader-transfer", "leader transfer --to 1"),
    ] {
        for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
            let ran = mesh(&node, &format!("{command} -o {format}")).await;
            assert_eq!(ran.exit, 0, "{}", ran.err);
            check(&format!("{name}.{format}.txt"), &shown(&ran));
        }
    }
}

#[tokio::test]
async fn a_change_that_is_not_through_is_shown() {
    let node = Fake::default();
    let mut answer = members();
    answer.change = Some(VoterChange {
        from: vec![1, 2, 3],
        to: vec![1, 3],
    });
    node.says("ListMembers", [Reply::ok(&answer)]);
    for format in ["table", "json"] {
        let ran = mesh(&node, &format!("members list --consistency local -o {format}")).await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        check(&format!("members-list-changing.{format}.txt"), &shown(&ran));
    }
    let said = node.asked()[0].metadata.get("mesh-consistency").cloned();
    assert_eq!(said.unwrap(), "local");
}

#[tokio::test]
async fn what_is_asked_is_what_was_typed() {
    let node = node();
    mesh(&node, "members invite 6 --ttl 90s --reason more --ticket OPS-6").await;
    mesh(&node, "members add 5 --api h:1 --raft h:2").await;
    mesh(&node, "members promote 5 --reason ready").await;
    mesh(&node, "members remove 4 --yes --force --ticket OPS-4").await;
    mesh(&node, "leader transfer").await;
    let asked = node.asked();
    let invite: InviteMemberRequest = asked[0].message();
    assert_eq!((invite.id, invite.ttl_ms, invite.ticket.as_str()), (6, 90_000, "OPS-6"));
    let add: AddMemberRequest = asked[1].message();
    assert_eq!((add.id, add.api.as_str(), add.raft.as_str()), (5, "h:1", "h:2"));
    let promote: PromoteMemberRequest = asked[2].message();
    assert_eq!((promote.id, promote.reason.as_str()), (5, "ready"));
    let remove: RemoveMemberRequest = asked[3].message();
    assert_eq!((remove.id, remove.force, remove.ticket.as_str()), (4, true, "OPS-4"));
    let transfer: TransferLeadershipRequest = asked[4].message();
    assert_eq!(transfer.to, 0);
}

#[tokio::test]
async fn removing_refuses_without_a_terminal() {
    let node = node();
    let ran = mesh(&node, "members remove 4").await;
    assert_eq!(ran.exit, 6);
    assert!(
        ran.err.contains("confirmation_required") && ran.err.contains("--yes"),
        "{}",
        ran.err
    );
    assert!(node.asked().is_empty(), "nothing was asked of the mesh");
    for line in [
        "members remove 0 --yes",
        "members add 5 --api h:1",
        "leader transfer --to x",
        "members invite --ttl 0s",
    ] {
        assert_eq!(mesh(&node, line).await.exit, 2, "{line}");
    }
}

#[tokio::test]
async fn a_token_goes_into_a_file_of_its_own_or_is_shown() {
    let node = node();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let line = format!("members invite --out {}", file.display());
    let ran = mesh(&node, &line).await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN), "{}", ran.out);
    assert!(ran.out.contains("node/6 invited until 2026-09-21T"), "{}", ran.out);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{TOKEN}\n"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // A file that is there is not written over, and nobody is invited for nothing.
    let before = node.asked().len();
    let ran = mesh(&node, &line).await;
    assert!(ran.exit == 5 && ran.err.contains("is there already"), "{}", ran.err);
    assert_eq!(node.asked().len(), before);

    // A refusal leaves no empty file.
    let refusing = Fake::default();
    let problem = Problem {
        code: "member_exists".into(),
        detail: "node 3 is a member".into(),
        ..Problem::default()
    };
    refusing.says("InviteMember", [Reply::Problem(Code::FailedPrecondition, problem)]);
    let other = directory.path().join("other");
    let ran = mesh(&refusing, &format!("members invite 3 --out {}", other.display())).await;
    assert_eq!(ran.exit, 6, "{}", ran.err);
    assert!(ran.err.contains("member_exists") && !other.exists(), "{}", ran.err);
    let ran = mesh(&node, &format!("members invite --json --out {}", other.display())).await;
    assert!(!ran.out.contains(TOKEN) && ran.exit == 0, "{}", ran.out);
}

#[tokio::test]
async fn no_leader_is_said() {
    let node = Fake::default();
    let status = Status {
        leader: None,
        ..records::status()
    };
    node.says("GetStatus", [Reply::ok(&status)]);
    let ran = mesh(&node, "leader show").await;
    assert_eq!(ran.exit, 1);
    assert!(ran.err.contains("no leader"), "{}", ran.err);
}

/// Dry runs and keys go beside the message, which has no field for them.
#[tokio::test]
async fn dry_runs_and_keys_are_sent() {
    let node = node();
    let mut text = String::new();
    for line in [
        "members invite 6 --dry-run",
        "members add 5 --api h:1 --raft h:2 --dry-run",
        "members promote 5 --dry-run",
        "members remove 4 --dry-run",
        "leader transfer --dry-run",
        "leader transfer --to 3 --dry-run",
        "members promote 5 --idempotency-key once",
    ] {
        text.push_str(&format!("$ mesh {line}\n{}", shown(&mesh(&node, line).await)));
    }
    check("members-dry-runs.txt", &text);
    let asked = node.asked();
    let (last, dry) = asked.split_last().unwrap();
    for asked in dry {
        assert_eq!(
            asked.metadata.get("mesh-dry-run").map(String::as_str),
            Some("true"),
            "{}",
            asked.method
        );
    }
    assert_eq!(last.metadata.get("idempotency-key").map(String::as_str), Some("once"));
    assert!(!last.metadata.contains_key("mesh-dry-run"));
}

/// Nobody is asked about a node that is not there.
#[tokio::test]
async fn a_node_that_is_not_there_is_said_to_be_so_before_anything_is_asked() {
    let node = node();
    let (exit, seen) = crate::terminal::on_terminal(&node, "members remove 9", "y\n").await;
    assert_eq!(exit, 1, "{seen}");
    assert!(
        seen.contains("node 9 is not a member of the cluster") && !seen.contains("[y/N]"),
        "{seen}"
    );
    assert!(node.asked().iter().all(|asked| asked.method == "ListMembers"));
}

//! Requests for approval: how they look, what is asked of the mesh, and how a change that waits is answered.

use proto::v1::{
    Approval, ApproveApprovalRequest, ListApprovalsRequest, ListApprovalsResponse, Peer, Preview, Problem,
    RejectApprovalRequest, approval,
    preview::{Check, check::Verdict},
};
use tonic::Code;

use crate::{
    drains,
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
    terminal::on_terminal,
};

pub(crate) fn pending() -> Approval {
    let difference = |field: &str, before: &str, after: &str| approval::Difference {
        field: field.into(),
        before: before.into(),
        after: after.into(),
    };
    Approval {
        id: "ap-000000000041-0123ab".into(),
        status: approval::Status::PendingApproval.into(),
        action: "peers.drain".into(),
        target: "peer/peer-two".into(),
        requester: "alice".into(),
        reason: "new kernel".into(),
        ticket: "OPS-1".into(),
        approvers: approval::Approvers::TwoAdmins.into(),
        needed: 2,
        agreed: 1,
        decisions: vec![approval::Decision {
            actor: "bob".into(),
            agrees: true,
            reason: "fine".into(),
            revision: 42,
            decided_at: records::peers()[0].changed_at,
        }],
        hint: "a third person, other than alice, with mesh.admin runs `mesh approvals approve \
               ap-000000000041-0123ab`"
            .into(),
        dependencies: vec![approval::Dependency {
            record: "peer/peer-two".into(),
            etag: "e40".into(),
        }],
        policy_version: 3,
        request_hash: "ab".repeat(32),
        effects_hash: "cd".repeat(32),
        version: 2,
        etag: "e42".into(),
        created_revision: 41,
        changed_revision: 42,
        created_at: records::peers()[0].created_at,
        changed_at: records::peers()[0].changed_at,
        expires_at: records::peers()[0].changed_at,
        effects: vec![
            approval::Effect {
                record: "peer/peer-two".into(),
                differences: vec![
                    difference("operation", "", "(new)"),
                    difference("status", "ACTIVE", "DRAINING"),
                ],
            },
            approval::Effect {
                record: "operation/(new)".into(),
                differences: vec![difference("kind", "", "DRAIN_PEER\u{7}")],
            },
        ],
        ..Approval::default()
    }
}

pub(crate) fn approved() -> Approval {
    Approval {
        status: approval::Status::Approved.into(),
        agreed: 2,
        detail: "carried out for alice".into(),
        hint: String::new(),
        effects: vec![],
        version: 3,
        changed_revision: 50,
        ..pending()
    }
}

fn rejected() -> Approval {
    Approval {
        id: "ap-000000000030-0123ab".into(),
        status: approval::Status::Rejected.into(),
        agreed: 0,
        detail: "rejected by bob: not today".into(),
        hint: String::new(),
        effects: vec![],
        ..pending()
    }
}

fn waits() -> Reply {
    let approval = Approval {
        effects: vec![],
        agreed: 0,
        decisions: vec![],
        hint: "two persons other than alice with mesh.admin run `mesh approvals approve ap-000000000041-0123ab`".into(),
        ..pending()
    };
    let problem = Problem {
        code: "pending_approval".into(),
        detail: "peers.drain peer/peer-two waits for approval".into(),
        hint: approval.hint.clone(),
        request_id: "req-1".into(),
        approval: Some(approval),
        ..Problem::default()
    };
    Reply::Problem(Code::FailedPrecondition, problem)
}

fn node() -> Fake {
    let node = Fake::default();
    let list = ListApprovalsResponse {
        items: vec![pending(), rejected()],
        revision: 43,
        epoch: 1,
        version_vector: [("dev-1".to_owned(), 43)].into(),
        ..Default::default()
    };
    node.says("ListApprovals", [Reply::ok(&list)])
        .says("GetApproval", [Reply::at(&pending(), 43)])
        .says("ApproveApproval", [Reply::at(&approved(), 50)])
        .says("RejectApproval", [Reply::at(&rejected(), 50)])
        .says("DrainPeer", [waits()]);
    node
}

#[tokio::test]
async fn every_format_of_every_answer() {
    let node = node();
    for (name, command) in [
        ("approvals-list", "approvals list"),
        ("approvals-get", "approvals get ap-000000000041-0123ab"),
        ("approvals-approve", "approvals approve ap-000000000041-0123ab --yes"),
        (
            "approvals-reject",
            "approvals reject ap-000000000030-0123ab --reason no",
        ),
        ("approvals-waits", "peers drain peer-two --yes"),
    ] {
        for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
            let ran = mesh(&node, &format!("{command} -o {format}")).await;
            assert_eq!(ran.exit, 0, "{}", ran.err);
            check(&format!("{name}.{format}.txt"), &shown(&ran));
        }
    }
}

#[tokio::test]
async fn what_ended_or_is_stale_or_half_agreed_says_so() {
    let node = Fake::default();
    let stale = Approval {
        effects: vec![],
        stale_because: "peer/peer-two has changed: its ETag is e44".into(),
        ..pending()
    };
    node.says("GetApproval", [Reply::at(&stale, 43), Reply::at(&rejected(), 43)])
        .says(
            "ApproveApproval",
            [Reply::at(&pending(), 44), Reply::at(&approved(), 44)],
        );
    let mut text = String::new();
    for line in [
        "approvals get ap-1",
        "approvals get ap-1",
        "approvals approve ap-1 --yes",
        "approvals approve ap-1 --dry-run",
    ] {
        let ran = mesh(&node, line).await;
        text.push_str(&format!("$ mesh {line}\n{}", shown(&ran)));
    }
    check("approvals-said.txt", &text);
}

#[tokio::test]
async fn what_is_asked_is_what_was_typed() {
    let node = node();
    let list = "approvals list --status pending --target peer/p1 --requester alice --action peers.drain --limit 5";
    mesh(&node, list).await;
    mesh(
        &node,
        "approvals approve ap-1 --yes --reason ok --ticket T --if-match e1",
    )
    .await;
    mesh(&node, "approvals reject ap-2 --reason no").await;
    let asked = node.asked();
    let list: ListApprovalsRequest = asked[0].message();
    assert_eq!(list.status(), approval::Status::PendingApproval);
    assert_eq!(
        (
            list.target.as_str(),
            list.requester.as_str(),
            list.action.as_str(),
            list.limit
        ),
        ("peer/p1", "alice", "peers.drain", 5)
    );
    let approve: ApproveApprovalRequest = asked[1].message();
    assert_eq!(
        (
            approve.id.as_str(),
            approve.reason.as_str(),
            approve.ticket.as_str(),
            approve.if_match.as_str()
        ),
        ("ap-1", "ok", "T", "e1")
    );
    assert!(!approve.idempotency_key.is_empty());
    let reject: RejectApprovalRequest = asked[2].message();
    assert_eq!((reject.id.as_str(), reject.reason.as_str()), ("ap-2", "no"));
    let wrong = mesh(&node, "approvals list --status open").await;
    assert_eq!(wrong.exit, 2);
    assert!(
        wrong
            .err
            .contains("write pending, approved, rejected, expired or stale"),
        "{}",
        wrong.err
    );
}

#[tokio::test]
async fn without_a_terminal_nothing_is_approved_unless_it_is_said() {
    let node = node();
    let ran = mesh(&node, "approvals approve ap-1").await;
    assert_eq!(ran.exit, 6, "{}", ran.err);
    assert!(
        ran.err.contains("confirmation_required") && ran.err.contains("--yes"),
        "{}",
        ran.err
    );
    assert!(node.asked().is_empty());
}

/// A change that waits is over for who asked: there is nothing to wait for yet.
#[tokio::test]
async fn waiting_for_a_change_that_waits_for_approval_ends_at_once() {
    let node = node();
    let ran = mesh(&node, "peers drain peer-two --yes --wait").await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert!(ran.out.contains("waits for approval"), "{}", ran.out);
    assert_eq!(node.asked().len(), 1, "it is not asked again");
}

#[tokio::test]
async fn a_dry_run_says_who_would_have_to_agree() {
    let node = Fake::default();
    let peer = Peer {
        id: "p1".into(),
        ..Peer::default()
    };
    let Reply::Message(bytes, mut metadata) = Reply::at(&peer, 9) else {
        unreachable!()
    };
    metadata.push(("mesh-approval-needed", "two_admins".to_owned()));
    node.says("DeregisterPeer", [Reply::Message(bytes, metadata)])
        .says("GetPeer", [Reply::at(&peer, 9)]);
    let ran = mesh(&node, "peers deregister p1 --dry-run").await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert!(ran.out.contains("two admins"), "{}", ran.out);
}

/// At a terminal it shows what would change before it asks, and agrees to the version that was shown.
#[tokio::test]
async fn a_terminal_shows_what_is_approved_before_it_asks() {
    for (typed, exit) in [("y\n", 0), ("n\n", 1)] {
        let node = node();
        let (ended, out) = on_terminal(&node, "approvals approve ap-1", typed).await;
        assert_eq!(ended, exit, "{out}");
        assert!(
            out.contains("alice asks for peers.drain peer/peer-two, reason: new kernel, ticket: OPS-1"),
            "{out}"
        );
        assert!(
            out.contains("~ status: active -> draining") && out.contains("Approve ap-1? [y/N]"),
            "{out}"
        );
        assert!(
            out.contains("drain peer\\u{7}"),
            "what a terminal would act on is escaped: {out}"
        );
        let asked = node.asked();
        assert_eq!(asked.len(), if exit == 0 { 2 } else { 1 });
        if exit == 0 {
            let request: ApproveApprovalRequest = asked[1].message();
            assert_eq!(request.if_match, "e42");
        }
    }
}

/// Whoever is to agree sees every check of what they would agree to, as any dry run shows them.
#[tokio::test]
async fn a_dry_run_of_a_decision_shows_its_checks() {
    let node = Fake::default();
    let check = Check {
        rule: "it would do what it was asked to".into(),
        code: "approval_stale".into(),
        verdict: Verdict::Passed.into(),
        ..Check::default()
    };
    let preview = Preview {
        revision: 43,
        accepted: true,
        checks: vec![check],
        ..Preview::default()
    };
    node.says("ApproveApproval", [drains::previewed(&approved(), &preview)])
        .says("RejectApproval", [drains::previewed(&rejected(), &preview)]);
    for line in [
        "approvals approve ap-1 --dry-run",
        "approvals reject ap-1 --reason no --dry-run",
    ] {
        let ran = mesh(&node, line).await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        assert!(
            ran.out.contains("would be")
                && ran
                    .out
                    .contains("checks:\n  passed   it would do what it was asked to\n"),
            "{line}: {}",
            ran.out
        );
        let ran = mesh(&node, &format!("{line} -o json")).await;
        let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(document["preview"]["checks"][0]["code"], "approval_stale", "{line}");
    }
}

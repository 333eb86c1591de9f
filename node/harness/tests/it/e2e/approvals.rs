//! Requests that wait for a second person, on built programs (M4): over every interface, and through a leader's death. By the
//! hundred they are asked and decided in `jepsen-style-tests/` (`operators`).

use std::time::Duration;

use api_client::{Client, Error};
use node_harness::{Mesh, Options, wait_until};
use proto::v1::{
    Approval, ApproveApprovalRequest, DrainPeerRequest, GetApprovalRequest, GetConfigRequest, GetPeerRequest,
    PatchConfigRequest, approval, audit_record, peer,
};
use serde_json::{Value, json};

use super::{
    docs::commands_under,
    wire::{Reply, Wire},
    world::{SOON, agreed, audit, caller, client, finished, leader, register, verify_audit, wait},
};

/// A mesh with peers that stay active, whatever else is drained.
fn start(options: Options) -> Mesh {
    let mesh = Mesh::start(options).unwrap();
    for peer in ["stays-1", "stays-2"] {
        register(&mesh, peer);
    }
    mesh
}

fn rule(mesh: &Mesh, name: &str, who: &str) {
    let value = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(who.to_owned())),
    };
    let request = PatchConfigRequest {
        settings: [(name.to_owned(), value)].into(),
        ..PatchConfigRequest::default()
    };
    wait(client(mesh, "admin").patch_config(request)).unwrap();
}

/// What a request waits as, by what the SDK says.
fn staged<T: std::fmt::Debug>(answer: Result<T, Error>) -> Approval {
    let error = answer.unwrap_err();
    error.approval().unwrap_or_else(|| panic!("{error}")).clone()
}

fn approve(sdk: &Client, id: &str) -> Result<Approval, Error> {
    let request = ApproveApprovalRequest {
        id: id.to_owned(),
        ..ApproveApprovalRequest::default()
    };
    wait(sdk.approve_approval(request)).map(|answer| answer.message)
}

fn drain(sdk: &Client, id: &str, key: &str) -> Result<proto::v1::Peer, Error> {
    let request = DrainPeerRequest {
        id: id.to_owned(),
        reason: "kernel".into(),
        idempotency_key: key.to_owned(),
        ..DrainPeerRequest::default()
    };
    wait(sdk.drain_peer(request)).map(|answer| answer.message)
}

fn status(mesh: &Mesh, id: &str) -> peer::Status {
    let request = GetPeerRequest { id: id.to_owned() };
    wait(client(mesh, "read").get_peer(request)).unwrap().message.status()
}

/// What a request over any wire waits as.
fn waits(reply: Reply) -> Value {
    if reply.grpc.is_some() {
        return reply.refused("pending_approval").json["approval"].clone();
    }
    assert_eq!(
        (reply.status, reply.str("status")),
        (202, "PENDING_APPROVAL"),
        "{reply:?}"
    );
    reply.json
}

#[test]
fn two_people_over_every_wire() {
    let mesh = start(Options::default());
    rule(&mesh, "approvals.peers.drain", "admin");
    for (n, wire) in Wire::ALL.into_iter().enumerate() {
        let peer = format!("p{n}");
        register(&mesh, &peer);
        let at = |who: &str| caller(&mesh, leader(&mesh), wire, who);
        let key = format!("ask-{n}");
        let ask = json!({ "id": peer, "reason": "kernel", "idempotencyKey": key });
        let taken = waits(at("operate").call("DrainPeer", ask.clone()));
        let again = waits(at("operate").call("DrainPeer", ask));
        assert_eq!(again["id"], taken["id"], "{wire:?}");
        assert_eq!(status(&mesh, &peer), peer::Status::Active);
        let decide = |who: &str, rpc: &str, key: &str| {
            at(who).call(
                rpc,
                json!({ "id": taken["id"], "reason": "seen", "idempotencyKey": key }),
            )
        };
        decide("operate", "ApproveApproval", "").refused("approval_own");
        decide("read", "ApproveApproval", "").refused("scope_missing");
        let key = format!("yes-{n}");
        let approved = decide("admin2", "ApproveApproval", &key).ok();
        assert_eq!(approved.json["status"], "APPROVED");
        let replayed = decide("admin2", "ApproveApproval", &key).ok();
        assert_eq!(
            (replayed.header("mesh-replayed"), &replayed.json),
            ("true", &approved.json)
        );
        decide("admin2", "ApproveApproval", "").refused("approval_finished");
        decide("admin", "RejectApproval", "").refused("approval_finished");
        let peer = at("read").call("GetPeer", json!({ "id": peer })).ok();
        let operation = finished(&mesh, peer.str("operation"));
        assert_eq!(
            (operation.actor.as_str(), operation.reason.as_str()),
            ("dev-operator", "kernel")
        );
    }
    by_command_line(&mesh);
    what_moved(&mesh);
    verify_audit(&mesh);
    agreed(&mesh);
    mesh.stop().unwrap();
}

/// The same by the command line: exit 0, what it waits as, and the trail with both people in it.
fn by_command_line(mesh: &Mesh) {
    register(mesh, "typed");
    let asked = mesh
        .mesh_as("operate", ["peers", "drain", "typed", "--yes", "--wait", "-o", "json"])
        .ok()
        .unwrap();
    let taken = asked.json().unwrap();
    assert_eq!(taken["status"], "PENDING_APPROVAL");
    let id = taken["id"].as_str().unwrap();
    let shown = mesh.mesh_as("read", ["approvals", "get", id]).ok().unwrap();
    assert!(
        shown.stdout.contains("~ status: active -> draining"),
        "{}",
        shown.stdout
    );
    let own = mesh
        .mesh_as("operate", ["approvals", "approve", id, "--yes"])
        .expect_code(6)
        .unwrap();
    assert!(own.stderr.contains("approval_own"), "{}", own.stderr);
    let approved = mesh
        .mesh_as("admin2", ["approvals", "approve", id, "--yes", "--reason", "seen"])
        .ok()
        .unwrap();
    assert!(approved.stdout.contains("is carried out"), "{}", approved.stdout);
    let trail = mesh
        .mesh(["audit", "list", "--target", "peer/typed", "-o", "json"])
        .ok()
        .unwrap()
        .json()
        .unwrap();
    let said: Vec<_> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["approval"] == id)
        .map(|item| {
            (
                item["actor"].as_str().unwrap(),
                item["requester"].as_str().unwrap(),
                item["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(said.contains(&("dev-operator", "dev-operator", "STAGED")), "{said:?}");
    assert!(said.contains(&("dev-admin-2", "dev-operator", "APPLIED")), "{said:?}");
}

/// What was changed since is not carried out, and ends by itself.
fn what_moved(mesh: &Mesh) {
    register(mesh, "moved");
    let taken = staged(drain(&client(mesh, "operate"), "moved", ""));
    mesh.mesh(["peers", "label", "moved", "rack=r9"]).ok().unwrap();
    let refused = approve(&client(mesh, "admin"), &taken.id).unwrap_err();
    assert_eq!((refused.code(), refused.exit_code()), ("approval_stale", 5));
    assert_eq!(status(mesh, "moved"), peer::Status::Active);
    let sdk = client(mesh, "read");
    wait_until(SOON, "the request to be ended", || {
        let request = GetApprovalRequest { id: taken.id.clone() };
        wait(sdk.get_approval(request)).is_ok_and(|answer| answer.message.status() == approval::Status::Stale)
    })
    .unwrap();
    let late = approve(&client(mesh, "admin"), &taken.id).unwrap_err();
    assert_eq!(late.code(), "approval_stale", "as before it was ended");
}

/// The leader dies between the request and the approval, and again right after: nothing is lost, nothing happens twice.
#[test]
fn a_leader_dies_between_request_and_approval() {
    let mut mesh = start(Options::default());
    rule(&mesh, "approvals.peers.drain", "operator");
    for peer in ["p1", "p2"] {
        register(&mesh, peer);
    }
    let taken = staged(drain(&client(&mesh, "operate"), "p1", "ask"));
    let dead = leader(&mesh);
    mesh.kill(dead).unwrap();
    let again = staged(drain(&client(&mesh, "operate"), "p1", "ask"));
    assert_eq!(again, taken, "the stored answer, of another leader");
    let admin = client(&mesh, "admin");
    let request = ApproveApprovalRequest {
        id: taken.id.clone(),
        idempotency_key: "yes".into(),
        ..ApproveApprovalRequest::default()
    };
    let approved = wait(admin.approve_approval(request.clone())).unwrap().message;
    assert_eq!(approved.status(), approval::Status::Approved);
    mesh.restart(dead).unwrap();
    mesh.wait_ready(dead, SOON).unwrap();
    let dead = leader(&mesh);
    mesh.kill(dead).unwrap();
    let replayed = wait(admin.approve_approval(request)).unwrap();
    assert!(replayed.meta.replayed && replayed.message == approved, "{replayed:?}");
    mesh.restart(dead).unwrap();
    mesh.wait_ready(dead, SOON).unwrap();
    let carried_out = audit(&mesh)
        .into_iter()
        .filter(|record| record.requester == "dev-operator");
    let outcomes: Vec<_> = carried_out.map(|record| record.outcome()).collect();
    use audit_record::Outcome::{Applied, Staged};
    assert_eq!(outcomes, [Staged, Applied], "asked once, carried out once");
    verify_audit(&mesh);
    agreed(&mesh);
    mesh.stop().unwrap();
}

/// What the runbook says to type, typed by the people whom it names.
#[test]
fn the_runbook() {
    const RUNBOOK: &str = "approve-a-change.md";
    let mesh = start(Options::default());
    for peer in ["edge-1", "edge-2"] {
        register(&mesh, peer);
    }
    let play = |who: &str, heading: &str| {
        let script = commands_under(RUNBOOK, heading)
            .into_iter()
            .map(
                |command| match command.contains("approvals approve") || command.contains("peers drain") {
                    true => format!("{command} --yes\n"),
                    false => format!("{command}\n"),
                },
            )
            .collect::<String>();
        let path = std::env::join_paths([
            mesh.programs().path("mesh").parent().unwrap(),
            std::path::Path::new("/usr/bin"),
            std::path::Path::new("/bin"),
        ])
        .unwrap();
        let done = std::process::Command::new("sh")
            .args(["-euc", &script])
            .env_clear()
            .env("PATH", path)
            .env("MESH_CONTEXT", mesh.context(who))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "{heading}: {out}\n{err}");
        out.into_owned()
    };
    play("admin", "Say who has to agree");
    let asked = play("operate", "Ask");
    assert!(asked.contains("waits for approval"), "{asked}");
    let decided = play("admin2", "Look, and decide");
    assert!(
        decided.contains("is carried out") && decided.contains("-> draining"),
        "{decided}"
    );
    let back = play("operate", "Take back");
    assert!(back.contains("taken back by dev-operator"), "{back}");
    let undone = play("admin", "Undo the rule");
    assert!(undone.contains("waits for approval"), "{undone}");
    let config = wait(client(&mesh, "read").get_config(GetConfigRequest {}))
        .unwrap()
        .message;
    let rule = config
        .items
        .iter()
        .find(|item| item.name == "approvals.peers.drain")
        .unwrap();
    assert_eq!(rule.choice, "admin", "until somebody agrees");
    let trail = play("admin", "Who did what");
    assert!(
        trail.contains("dev-admin-2") && trail.contains("dev-operator"),
        "{trail}"
    );
    mesh.stop().unwrap();
}

/// Requests run out by the mesh's own clock, through the loop that ends them.
#[test]
fn a_request_runs_out() {
    let mesh = start(Options {
        nodes: 1,
        ..Options::default()
    });
    rule(&mesh, "approvals.ttl", "60s");
    rule(&mesh, "approvals.peers.drain", "operator");
    register(&mesh, "p1");
    let taken = staged(drain(&client(&mesh, "operate"), "p1", ""));
    let sdk = client(&mesh, "read");
    let ended = || {
        let request = GetApprovalRequest { id: taken.id.clone() };
        wait(sdk.get_approval(request)).is_ok_and(|answer| answer.message.status() == approval::Status::Expired)
    };
    assert!(!ended());
    wait_until(Duration::from_secs(90), "the request to run out", ended).unwrap();
    let late = approve(&client(&mesh, "admin"), &taken.id).unwrap_err();
    assert_eq!(late.code(), "approval_expired");
    mesh.stop().unwrap();
}

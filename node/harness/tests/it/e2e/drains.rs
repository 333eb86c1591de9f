//! Drains as a workflow (M5, M9, M11): on terms, of several peers at once, through the death of the leader at every step
//! that is persisted, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use node_harness::{Mesh, wait_for};
use proto::v1::{
    AuditRecord, DrainPeersRequest, GetPeerRequest, Operation, Peer, RegisterPeerRequest, audit_record,
    operation::{self, item},
    peer::Status,
    preview::check::Verdict,
};
use serde_json::{Value, json};

use super::{
    shared::on_one_mesh,
    wire::Wire,
    world::{SOON, admin, agreed, audit, caller, client, drains_take, finished, leader, unique, verify_audit, wait},
};

on_one_mesh! {
    || drains_take(Duration::from_millis(1_500));
    a_deadline_fails_the_drain_and_returns_the_peer,
    force_takes_admin_and_its_name_and_waits_for_nobody,
    a_waiter_sees_that_several_drains_were_cancelled,
    every_check_is_shown_over_every_wire,
    selectors_work_on_several,
}

/// Registers peers with a label that only they have, and one without it in the same cluster. Answers the selector.
fn group(mesh: &Mesh, count: usize) -> (String, Vec<String>) {
    let zone = unique("zone");
    let cluster = format!("of-{zone}");
    let register = |id: String, labelled: bool| {
        let zone = if labelled { zone.clone() } else { "none".to_owned() };
        let request = RegisterPeerRequest {
            id,
            cluster: cluster.clone(),
            endpoints: vec!["127.0.0.1:9000".to_owned()],
            labels: BTreeMap::from([("zone".to_owned(), zone)]),
            ..RegisterPeerRequest::default()
        };
        wait(client(mesh, "admin").register_peer(request)).unwrap().message.id
    };
    register(format!("spare-{zone}"), false);
    let peers = (0..count).map(|n| register(format!("{zone}-{n}"), true)).collect();
    (format!("zone={zone}"), peers)
}

fn peer(mesh: &Mesh, id: &str) -> Peer {
    let request = GetPeerRequest { id: id.to_owned() };
    wait(client(mesh, "read").get_peer(request)).unwrap().message
}

fn drain_many(mesh: &Mesh, selector: &str, at_once: u32) -> Operation {
    let request = DrainPeersRequest {
        selector: selector.to_owned(),
        at_once,
        reason: "rack".into(),
        ..DrainPeersRequest::default()
    };
    wait(client(mesh, "admin").drain_peers(request)).unwrap().message
}

/// Follows an operation from a version on; none once it has ended.
fn newer(mesh: &Mesh, id: &str, version: u64) -> Option<Operation> {
    let sdk = client(mesh, "read");
    let next = wait_for(SOON, "a newer version", || {
        let answer = wait(sdk.wait_operation(id, version, Duration::from_secs(5)))
            .ok()?
            .message;
        (answer.version > version || answer.finished_at.is_some()).then_some(answer)
    });
    let next = next.unwrap();
    next.finished_at.is_none().then_some(next)
}

fn a_deadline_fails_the_drain_and_returns_the_peer(mesh: &Mesh) {
    let (selector, peers) = group(mesh, 2);
    let id = &peers[0];
    let drained = mesh.mesh(["peers", "drain", id, "--deadline", "1s", "--yes", "--wait"]);
    assert_eq!(drained.code, Some(1), "{drained:?}");
    assert!(
        drained.stderr.contains("operation_failed") && drained.stderr.contains("deadline passed"),
        "{drained:?}"
    );
    assert_eq!(peer(mesh, id).status(), Status::Active);
    let several = [
        "peers",
        "drain",
        "-l",
        &selector,
        "--deadline",
        "1s",
        "--yes",
        "--wait",
        "-o",
        "json",
    ];
    let failed = mesh.mesh(several);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let operation: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(operation["state"], "FAILED");
    assert!(
        operation["detail"]
            .as_str()
            .unwrap()
            .contains("0 of 2 peers are drained"),
        "{operation}"
    );
    assert!(peers.iter().all(|id| peer(mesh, id).status() == Status::Active));
    let expired = audit(mesh)
        .into_iter()
        .filter(|record| record.action == "operations.expire" && record.outcome() == audit_record::Outcome::Applied);
    assert!(expired.count() >= 2);
}

fn force_takes_admin_and_its_name_and_waits_for_nobody(mesh: &Mesh) {
    let (selector, peers) = group(mesh, 2);
    let id = &peers[0];
    for wire in Wire::ALL {
        let operator = caller(mesh, leader(mesh), wire, "operate");
        let refused = operator.call("DrainPeer", json!({ "id": id, "force": true, "confirm": id }));
        assert_eq!(refused.refused("scope_missing").str("missingScope"), "mesh.admin");
        let several = json!({ "selector": selector, "force": true, "confirm": selector });
        operator.call("DrainPeers", several).refused("scope_missing");
        let at = caller(mesh, leader(mesh), wire, "admin");
        at.call("DrainPeer", json!({ "id": id, "force": true }))
            .refused("confirmation_required");
        at.call("DrainPeers", json!({ "selector": selector, "force": true }))
            .refused("confirmation_required");
        at.call("DrainPeer", json!({ "id": id, "force": true, "confirm": "another" }))
            .refused("invalid_argument");
    }
    assert_eq!(peer(mesh, id).status(), Status::Active);
    assert_eq!(
        mesh.mesh(["peers", "drain", id, "--force", "--yes"]).code,
        Some(6),
        "yes is not enough"
    );
    let target = format!("peer/{id}");
    let noted = wait_for(SOON, "the refusals in the trail", || {
        let named = format!("dev-operator peers.drain_forced {target}: scope_missing");
        audit(mesh).into_iter().find(|record| record.detail.contains(&named))
    });
    noted.unwrap();
    // A drain that hangs is forced on: its settling time alone would be three seconds.
    let running = admin(mesh).call("DrainPeer", json!({ "id": id })).ok();
    let began = Instant::now();
    mesh.mesh([
        "peers",
        "drain",
        id,
        "--force",
        "--confirm",
        id,
        "--reason",
        "now",
        "--wait",
    ])
    .ok()
    .unwrap();
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    let ended = finished(mesh, running.str("operation"));
    assert!(ended.forced && ended.detail.contains("forced"), "{ended:?}");
    let record = audit(mesh)
        .into_iter()
        .find(|record| record.action == "peers.drain_forced" && record.target == target);
    assert_eq!(record.unwrap().reason, "now");
}

/// M11: whoever waits for several drains sees that somebody cancelled them, and what has become of each peer.
fn a_waiter_sees_that_several_drains_were_cancelled(mesh: &Mesh) {
    let (selector, peers) = group(mesh, 3);
    let mut command = mesh.programs().command("mesh");
    command
        .args(["peers", "drain", "-l", &selector, "--yes", "--wait", "-o", "json"])
        .env("MESH_CONTEXT", mesh.context("admin"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let waiter = command.spawn().unwrap();
    // One is drained and the next is on its way.
    let running = wait_for(SOON, "one drained, one draining", || {
        let first = peer(mesh, &peers[0]).status() == Status::Drained;
        (first && peer(mesh, &peers[1]).status() == Status::Draining).then(|| peer(mesh, &peers[1]).operation)
    });
    let child = finished_or_running(mesh, &running.unwrap());
    assert!(!child.parent.is_empty(), "{child:?}");
    let cancelled = admin(mesh)
        .call("CancelOperation", json!({ "id": child.parent, "reason": "wrong rack" }))
        .ok();
    assert_eq!(cancelled.str("state"), "CANCELLED");
    let output = waiter.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(
        err.contains("operation_cancelled") && err.contains("dev-admin"),
        "{err}"
    );
    let seen: Value = serde_json::from_str(&out).unwrap();
    let states: Vec<&str> = seen["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["DRAINED", "RETURNED", "SKIPPED"]);
    assert!(
        seen["steps"].as_array().unwrap().last().unwrap()["name"]
            .as_str()
            .unwrap()
            .starts_with("undo"),
        "{seen}"
    );
    let statuses: Vec<_> = peers.iter().map(|id| peer(mesh, id).status()).collect();
    assert_eq!(statuses, [Status::Drained, Status::Active, Status::Active]);
    let ended = finished(mesh, &child.id);
    assert_eq!(ended.state(), operation::State::Cancelled);
    let record = audit(mesh)
        .into_iter()
        .find(|record| record.action == "operations.cancel" && record.target == format!("operation/{}", child.parent));
    assert_eq!(record.unwrap().reason, "wrong rack");
}

fn finished_or_running(mesh: &Mesh, id: &str) -> Operation {
    let request = proto::v1::GetOperationRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    wait(client(mesh, "read").get_operation(request)).unwrap().message
}

/// M9: a dry run shows every check with what was measured, over REST in the document, over gRPC beside the answer; a
/// refused one as well.
fn every_check_is_shown_over_every_wire(mesh: &Mesh) {
    let (selector, peers) = group(mesh, 2);
    let id = &peers[0];
    for wire in Wire::ALL.into_iter().filter(|wire| wire.is_rest()) {
        let at = caller(mesh, leader(mesh), wire, "operate");
        let dry = at.call("DrainPeer", json!({ "id": id, "dryRun": true })).ok();
        let preview = &dry.json["preview"];
        assert_eq!(preview["accepted"], true, "{dry:?}");
        let checks = preview["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["verdict"] == "PASSED"), "{preview}");
        assert!(
            checks.iter().any(|check| check["rule"] == "the peer exists"),
            "{preview}"
        );
        assert_eq!(preview["steps"].as_array().unwrap().len(), 3);
        let kinds: BTreeSet<&str> = preview["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, BTreeSet::from(["operation", "peer"]));
        let nobody = json!({ "id": "nobody-of-this-name", "dryRun": true });
        let refused = at.call("DrainPeer", nobody).refused("not_found");
        let verdicts: Vec<&str> = refused.json["preview"]["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| check["verdict"].as_str().unwrap())
            .collect();
        assert!(
            verdicts.contains(&"FAILED") && verdicts.contains(&"NOT_MADE"),
            "{verdicts:?}"
        );
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == "FAILED").count(), 1);
    }
    let request = |change: fn(&mut DrainPeersRequest)| {
        let mut request = DrainPeersRequest {
            selector: selector.clone(),
            dry_run: true,
            ..DrainPeersRequest::default()
        };
        change(&mut request);
        wait(client(mesh, "admin").drain_peers(request))
    };
    let dry = request(|_| {}).unwrap();
    assert_eq!(dry.message.items.len(), 2);
    let preview = dry.meta.preview.unwrap();
    assert!(preview.accepted && preview.steps.len() == 2 && preview.confirm.is_empty());
    let forced = request(|request| request.force = true).unwrap();
    assert_eq!(forced.meta.preview.unwrap().confirm, selector);
    let refused = request(|request| request.expected = vec!["p-none".into()]).unwrap_err();
    assert_eq!((refused.code(), refused.exit_code()), ("selection_changed", 6));
    let checks = &refused.problem().preview.as_ref().unwrap().checks;
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.verdict() == Verdict::Failed)
        .collect();
    assert_eq!(
        (failed.len(), failed[0].measured.as_str(), failed[0].limit.as_str()),
        (1, "2", "1")
    );
    // The command line says the same, and exits with it.
    let shown = mesh.mesh(["peers", "drain", "nobody-of-this-name", "--dry-run"]);
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(
        shown.stdout.contains("FAILED   the peer exists: 0, limit 1"),
        "{shown:?}"
    );
    let last = mesh.mesh(["peers", "drain", "-l", "zone=none-at-all", "--dry-run", "-o", "json"]);
    assert_eq!(last.code, Some(6), "{last:?}");
    assert_eq!(last.json().unwrap()["preview"]["accepted"], false);
    assert!(peers.iter().all(|id| peer(mesh, id).status() == Status::Active));
}

/// M9: the verbs of one peer do the same to all that a selector selects.
fn selectors_work_on_several(mesh: &Mesh) {
    let (selector, peers) = group(mesh, 3);
    let run = |verb: &str| {
        mesh.mesh(["peers", verb, "-l", &selector, "--reason", "rack"])
            .ok()
            .unwrap()
    };
    assert_eq!(run("cordon").stdout.lines().count(), 3);
    assert!(peers.iter().all(|id| peer(mesh, id).status() == Status::Cordoned));
    run("uncordon");
    assert!(peers.iter().all(|id| peer(mesh, id).status() == Status::Active));
    let drained = mesh.mesh(["peers", "drain", "-l", &selector, "--at-once", "3", "--yes", "--wait"]);
    drained.ok().unwrap();
    assert!(peers.iter().all(|id| peer(mesh, id).status() == Status::Drained));
    // Refused for each, and said so; the exit code is that of the first.
    let refused = mesh.mesh(["peers", "uncordon", "-l", &selector]);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(
        refused.stderr.contains("3 of 3 peers were not uncordoned"),
        "{refused:?}"
    );
    let back = mesh
        .mesh(["peers", "undrain", "-l", &selector, "-o", "json"])
        .ok()
        .unwrap();
    assert_eq!(back.json().unwrap()["items"].as_array().unwrap().len(), 3);
    assert!(peers.iter().all(|id| peer(mesh, id).status() == Status::Active));
    assert_eq!(mesh.mesh(["peers", "cordon", "-l", "zone=none-at-all"]).code, Some(6));
    assert_eq!(mesh.mesh(["peers", "cordon", "-l", &selector, &peers[0]]).code, Some(2));
}

/// X1, M11: the leader dies at each step that an operation on several peers persists, its own and its first drain's. The
/// next leader goes on from there: nothing is done twice, and never more at a time than was said.
#[test]
fn several_drains_outlive_their_leader_at_each_step() {
    let mut mesh = Mesh::start(drains_take(Duration::from_millis(1_500))).unwrap();
    let (selector, peers) = group(&mesh, 3);
    let operation = drain_many(&mesh, &selector, 2);
    let (mut version, mut child, mut killer) = (0, None::<String>, Killer::default());
    while let Some(now) = newer(&mesh, &operation.id, version) {
        version = now.version;
        killer.kill_leader(&mut mesh);
        // The steps of the first drain that it began, one by one.
        if child.is_none()
            && let Some(first) = now.items.iter().find(|item| item.state() == item::State::Draining)
        {
            let mut seen = 0;
            while let Some(step) = newer(&mesh, &first.operation, seen) {
                if step.version > 1 {
                    killer.kill_leader(&mut mesh);
                }
                seen = step.version;
            }
            child = Some(first.operation.clone());
        }
    }
    let ended = finished(&mesh, &operation.id);
    assert_eq!(
        (ended.state(), ended.done, ended.total),
        (operation::State::Succeeded, 3, 3),
        "{ended:?}"
    );
    // Began, the first drain's step in between, what came of the first two, the end: some may be seen as one.
    assert!(killer.kills >= 3, "{} steps were seen", killer.kills);
    assert!(peers.iter().all(|id| peer(&mesh, id).status() == Status::Drained));
    let most = most_at_once(&audit(&mesh), &peers);
    assert_eq!(most, 2);
    agreed(&mesh);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// Kills the leaders of a mesh, one after the other; each comes back before the next dies.
pub struct Killer {
    pub kills: usize,
    /// When the last one was dead.
    pub killed_at: SystemTime,
    last: Option<u64>,
}

impl Default for Killer {
    fn default() -> Self {
        Self {
            kills: 0,
            killed_at: SystemTime::UNIX_EPOCH,
            last: None,
        }
    }
}

impl Killer {
    pub fn kill_leader(&mut self, mesh: &mut Mesh) {
        self.all_are_back(mesh);
        let node = leader(mesh);
        mesh.kill(node).unwrap();
        self.killed_at = SystemTime::now();
        mesh.restart(node).unwrap();
        self.last = Some(node);
        self.kills += 1;
    }

    /// Waits for the one that was killed last.
    pub fn all_are_back(&mut self, mesh: &mut Mesh) {
        if let Some(node) = self.last.take() {
            mesh.wait_ready(node, SOON).unwrap();
        }
    }
}

/// How many of the peers were draining at the same time at the most, by the trail; each began and ended once.
fn most_at_once(trail: &[AuditRecord], peers: &[String]) -> usize {
    let mut draining: BTreeSet<String> = BTreeSet::new();
    let mut drained: BTreeMap<String, usize> = BTreeMap::new();
    let mut most = 0;
    let changes = trail.iter().flat_map(|record| &record.changes);
    for change in changes.filter(|change| change.kind == "peer" && peers.contains(&change.id)) {
        let Some(audit_record::record::Record::Peer(after)) =
            change.after.as_ref().and_then(|after| after.record.as_ref())
        else {
            continue;
        };
        match after.status() {
            Status::Draining => assert!(draining.insert(change.id.clone()), "{} began twice", change.id),
            Status::Drained => {
                assert!(draining.remove(&change.id));
                *drained.entry(change.id.clone()).or_default() += 1;
            }
            Status::Active | Status::Cordoned | Status::Unspecified => {}
        }
        most = most.max(draining.len());
    }
    assert!(peers.iter().all(|id| drained.get(id) == Some(&1)), "{drained:?}");
    most
}

//! Compaction: what is let go of is gone everywhere, what is kept is whole, and the trail can still be verified.
//!
//! One test, since history has to be old before it may go, and waiting for that takes a minute of mesh time.

use std::time::Duration;

use node_harness::{Mesh, Options, wait_for};
use serde_json::{Value, json};

use super::{
    wire::{Caller, Wire},
    world::{SOON, agreed, caller, client, follower, leader, register, unique, verify_audit, wait},
};

/// Retries are answered for this long at the least, so history of that age stays.
const NEEDED: Duration = Duration::from_secs(60);

fn at(mesh: &Mesh, wire: Wire) -> Caller {
    caller(mesh, leader(mesh), wire, "admin")
}

fn floor(mesh: &Mesh, node: u64) -> u64 {
    let shown = mesh
        .mesh_at(node, ["history", "show", "-o", "json"])
        .unwrap()
        .ok()
        .unwrap();
    shown.json().unwrap()["oldestRevision"].as_u64().unwrap()
}

/// Writes of three kinds, some of them under a key.
fn write(mesh: &Mesh, rounds: usize) {
    let at = at(mesh, Wire::H2);
    for round in 0..rounds {
        let id = unique("peer");
        register(mesh, &id);
        at.call("CordonPeer", json!({ "id": id, "reason": "a test" })).ok();
        at.call("PatchConfig", json!({ "settings": { "limits.clusters": 10 + round } }))
            .ok();
    }
}

#[test]
fn history_is_let_go_of_and_what_is_kept_is_whole() {
    let often = ("MESHKIT_RETENTION__AUDIT_CHECKPOINT_RECORDS".to_owned(), "5".to_owned());
    let mut mesh = Mesh::start(Options {
        environment: vec![often],
        ..Options::default()
    })
    .unwrap();
    let leads = at(&mesh, Wire::H2);
    let once = json!({ "id": "kept", "endpoints": ["127.0.0.1:9000"], "idempotencyKey": "kept-1" });
    leads.call("RegisterPeer", once.clone()).ok();
    // Retries are answered for as short as may be.
    leads
        .call(
            "PatchConfig",
            json!({ "settings": { "retention.idempotency_key": NEEDED.as_millis() as u64 } }),
        )
        .ok();
    write(&mesh, 10);
    let exported = mesh.scratch().join("checkpoints.json");
    let exported = exported.to_str().unwrap();
    mesh.mesh(["audit", "checkpoints", "--out", exported]).ok().unwrap();
    let (to, _) = agreed(&mesh);
    let pages = json!({ "limit": 5 });
    let observe = caller(&mesh, leader(&mesh), Wire::H2, "observe");
    let first_page = observe.call("ListAuditRecords", pages).ok();
    let peers_page = observe.call("ListPeers", json!({ "limit": 2 })).ok();
    let old_config = leads.call("ListConfigVersions", json!({ "limit": 50 })).ok();

    refused_before_its_time(&mesh, to);
    let floor_now = compacted(&mesh, to);
    assert!(floor_now > 5 && floor_now <= to, "{floor_now} of {to}");
    for node in mesh.ids() {
        let seen = wait_for(SOON, "the floor on every node", || {
            (floor(&mesh, node) == floor_now).then_some(())
        });
        seen.unwrap();
    }
    everything_below_is_refused(&mesh, floor_now, &first_page.json, &peers_page.json, &old_config.json);
    // The key is remembered from when keys were remembered for longer; what it was answered with is gone.
    let retry = at(&mesh, Wire::H2).call("RegisterPeer", once).refused("compacted");
    assert_eq!(retry.json["revision"], floor_now);
    the_trail_still_holds(&mesh, exported, floor_now);

    // Gone from disk and after a restart as well; what is kept is there.
    agreed(&mesh);
    let victim = follower(&mesh);
    mesh.kill(victim).unwrap();
    write(&mesh, 2);
    mesh.restart(victim).unwrap();
    mesh.wait_ready(victim, SOON).unwrap();
    agreed(&mesh);
    assert_eq!(floor(&mesh, victim), floor_now);
    verify_audit(&mesh);

    retention_goes_on_by_itself(&mesh, floor_now);
    mesh.stop().unwrap();
}

fn refused_before_its_time(mesh: &Mesh, to: u64) {
    let at_once = at(mesh, Wire::H2).call("CompactHistory", json!({ "revision": to }));
    let refused = at_once.refused("history_in_use");
    assert_eq!(refused.json["retryable"], json!(false));
    for wire in [Wire::H1, Wire::H2, Wire::Grpc] {
        let at = at(mesh, wire);
        let wrong = [
            json!({}),
            json!({ "revision": 1, "keepMs": 5 }),
            json!({ "revision": 1_000_000_000_u64 }),
        ];
        for request in wrong {
            let refused = at.call("CompactHistory", request).refused("invalid_argument");
            assert_eq!(refused.str("field"), "revision", "{refused:?}");
        }
        let operator = caller(mesh, leader(mesh), wire, "operate");
        operator.call("GetHistory", json!({})).ok();
        let refused = operator
            .call("CompactHistory", json!({ "revision": 1 }))
            .refused("scope_missing");
        assert_eq!(refused.str("missingScope"), "mesh.admin");
    }
    // Nobody is there to ask, so it is not done.
    let asked = mesh
        .mesh(["history", "compact", "--keep", "7d"])
        .expect_code(6)
        .unwrap();
    assert!(asked.stderr.contains("confirmation_required"), "{}", asked.stderr);
    mesh.mesh(["history", "compact", "--yes"]).expect_code(2).unwrap();
    mesh.mesh(["history", "compact", "--to", "1", "--keep", "7d", "--yes"])
        .expect_code(2)
        .unwrap();
    let kept = mesh.mesh(["history", "compact", "--keep", "7d", "--yes"]).ok().unwrap();
    assert_eq!(
        kept.stdout, "history is kept from revision 1 on\n",
        "nothing is that old"
    );
}

/// Compacts as soon as it may be; a dry run says the same before.
fn compacted(mesh: &Mesh, to: u64) -> u64 {
    let at = at(mesh, Wire::Grpc);
    let request = |dry: bool| json!({ "revision": to, "dryRun": dry, "reason": "room", "ticket": "CHG-3" });
    // Mesh time moves with commands: a dry run looks at the last one.
    let dry = wait_for(NEEDED * 3, "history old enough", || {
        std::thread::sleep(Duration::from_millis(500));
        register(mesh, &unique("tick"));
        let reply = at.call("CompactHistory", request(true));
        reply.is_ok().then_some(reply)
    });
    let dry = dry.unwrap();
    assert_eq!(floor(mesh, leader(mesh)), 1, "a dry run changes nothing");
    let wet = at.call("CompactHistory", request(false)).ok();
    assert_eq!(wet.json["oldestRevision"], dry.json["oldestRevision"]);
    wet.json["oldestRevision"].as_u64().unwrap()
}

fn everything_below_is_refused(mesh: &Mesh, floor: u64, audit: &Value, peers: &Value, versions: &Value) {
    for node in mesh.ids() {
        let observe = caller(mesh, node, Wire::H2, "observe");
        let names_the_oldest = |rpc: &str, request: Value| {
            let refused = observe.call(rpc, request).refused("compacted");
            assert_eq!(refused.json["revision"], floor, "{refused:?}");
        };
        names_the_oldest("ListAuditRecords", json!({ "limit": 5, "cursor": audit["nextCursor"] }));
        names_the_oldest("ListAuditRecords", json!({ "afterRevision": 3 }));
        let whole = observe.call("ListAuditRecords", json!({ "limit": 1 })).ok();
        assert_eq!(
            whole.json["items"][0]["revision"], floor,
            "the list begins at the floor"
        );
        let just = observe
            .call("ListAuditRecords", json!({ "limit": 1, "afterRevision": floor - 1 }))
            .ok();
        assert_eq!(just.json["items"], whole.json["items"]);
        // A list that was begun below the floor cannot go on.
        let list = json!({ "limit": 2, "cursor": peers["nextCursor"] });
        let revision = peers["revision"].as_u64().unwrap();
        if revision < floor {
            names_the_oldest("ListPeers", list);
        } else {
            observe.call("ListPeers", list).ok();
        }
        // The history of settings goes back to the floor.
        let kept = observe.call("ListConfigVersions", json!({ "limit": 50 })).ok();
        let revisions = |list: &Value| -> Vec<u64> {
            let items = list["items"].as_array().unwrap().iter();
            items.map(|item| item["revision"].as_u64().unwrap()).collect()
        };
        let expected: Vec<u64> = revisions(versions)
            .into_iter()
            .filter(|revision| *revision >= floor)
            .collect();
        assert_eq!(revisions(&kept.json), expected);
    }
    let at = at(mesh, Wire::H2);
    let refused = at
        .call("RollbackConfig", json!({ "toRevision": 2 }))
        .refused("compacted");
    assert_eq!(refused.json["revision"], floor);
    // The settings as they were at the floor, although they changed last before it.
    at.call("RollbackConfig", json!({ "toRevision": floor, "dryRun": true }))
        .ok();
    let refused = mesh.mesh(["config", "rollback", "2"]).expect_code(6).unwrap();
    assert!(
        refused.stderr.contains("compacted") && refused.stderr.contains(&floor.to_string()),
        "{}",
        refused.stderr
    );
}

fn the_trail_still_holds(mesh: &Mesh, exported: &str, floor: u64) {
    for node in mesh.ids() {
        let verify = ["audit", "verify", "--checkpoint", exported, "-o", "json"];
        let report = mesh.mesh_at(node, verify).unwrap().ok().unwrap().json().unwrap();
        assert_eq!(
            (&report["firstRevision"], &report["anchored"]),
            (&json!(floor), &json!(true)),
            "{report}"
        );
        assert!(report["exportedMatched"].as_u64() > Some(0), "{report}");
        assert!(report["exportedPruned"].as_u64() > Some(0), "{report}");
    }
    let shown = mesh.mesh(["audit", "verify"]).ok().unwrap().stdout;
    assert!(shown.contains("behind a signed checkpoint"), "{shown}");
    // A checkpoint of another trail right below the floor is noticed.
    let mut forged: Value = serde_json::from_str(&std::fs::read_to_string(exported).unwrap()).unwrap();
    let items = forged["items"].as_array_mut().unwrap();
    let anchor = items
        .iter_mut()
        .find(|item| item["revision"] == floor - 1)
        .expect("the anchor was exported");
    anchor["hash"] = json!("00".repeat(32));
    let file = mesh.scratch().join("forged.json");
    std::fs::write(&file, forged.to_string()).unwrap();
    let broken = mesh.mesh(["audit", "verify", "--checkpoint", file.to_str().unwrap()]);
    assert!(
        !broken.success() && broken.stderr.contains("audit_broken"),
        "{}",
        broken.stderr
    );
}

/// With a limit on revisions, the leader lets go of what is over it as soon as it may.
fn retention_goes_on_by_itself(mesh: &Mesh, floor_before: u64) {
    let client = client(mesh, "admin");
    let settings = json!({ "settings": { "retention.history_revisions": 40 } });
    at(mesh, Wire::H2).call("PatchConfig", settings).ok();
    let moved = wait_for(NEEDED * 3, "the floor to move by itself", || {
        std::thread::sleep(Duration::from_millis(500));
        register(mesh, &unique("tick"));
        let status = wait(client.get_status(Default::default())).ok()?.message;
        (status.oldest_revision > floor_before).then_some(status)
    });
    moved.unwrap();
    let trail = super::world::audit(mesh);
    let by_itself = trail
        .iter()
        .find(|record| record.action == "history.compact" && record.actor == "system:retention");
    assert!(by_itself.is_some_and(|record| record.outcome() == proto::v1::audit_record::Outcome::Applied));
    verify_audit(mesh);
}

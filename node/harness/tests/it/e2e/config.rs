//! Settings over REST, gRPC and the command line: typed, ranged, with history and rollback (M1, M2, M9).

use node_harness::{Mesh, Options};
use serde_json::{Value, json};

use super::{
    shared::on_one_mesh,
    wire::{Caller, Reply, Wire},
    world::{caller, dry_then_wet, leader, registration, unique},
};

on_one_mesh! {
    || Options { nodes: 1, ..Options::default() };
    settings_are_set_kept_and_rolled_back,
    a_dry_run_equals_the_commit,
    what_is_wrong_is_refused_and_changes_nothing,
    the_command_line_reads_and_writes_durations,
}

const WIRES: [Wire; 3] = [Wire::H1, Wire::H2, Wire::Grpc];

/// The tests of this module change one record: they take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn at(mesh: &Mesh, wire: Wire) -> Caller {
    caller(mesh, leader(mesh), wire, "admin")
}

fn setting(reply: &Reply, name: &str) -> Value {
    let items = reply.json["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).unwrap().clone()
}

fn value(reply: &Reply, name: &str) -> u64 {
    setting(reply, name)["value"].as_u64().unwrap()
}

fn set(settings: Value) -> Value {
    json!({ "settings": settings })
}

fn settings_are_set_kept_and_rolled_back(mesh: &Mesh) {
    let _turn = turn();
    for wire in WIRES {
        let at = at(mesh, wire);
        let before = at.call("GetConfig", json!({})).ok();
        assert_eq!(setting(&before, "limits.peers")["default"], 10_000);
        let request = json!({
            "settings": { "limits.peers": 77, "retention.idempotency_key": "1h30m" },
            "ifMatch": before.etag(), "reason": "smaller", "ticket": "CHG-1",
        });
        let first = at.call("PatchConfig", request.clone()).ok();
        assert_eq!(
            (
                value(&first, "limits.peers"),
                setting(&first, "limits.peers")["source"].as_str()
            ),
            (77, Some("SET"))
        );
        assert_eq!(value(&first, "retention.idempotency_key"), 5_400_000);
        assert_eq!(
            first.json["version"].as_u64(),
            before.json["version"].as_u64().map(|version| version + 1)
        );
        // What was looked at is gone.
        let stale = at.call("PatchConfig", request).refused("etag_mismatch");
        assert_eq!(stale.str("currentEtag"), first.etag());

        // Null is the default; what is not named stays.
        let second = at.call("PatchConfig", set(json!({ "limits.peers": null }))).ok();
        assert_eq!(
            (
                value(&second, "limits.peers"),
                value(&second, "retention.idempotency_key")
            ),
            (10_000, 5_400_000)
        );
        let to = first.json["changedRevision"].as_u64().unwrap();
        let back = json!({ "toRevision": to, "reason": "it was better" });
        let third = at.call("RollbackConfig", back).ok();
        assert_eq!(
            (value(&third, "limits.peers"), third.json["rollbackOf"].as_u64()),
            (77, Some(to))
        );

        let history = at.call("ListConfigVersions", json!({ "limit": 3 })).ok();
        let items = history.json["items"].as_array().unwrap();
        let revisions: Vec<_> = items.iter().map(|item| item["revision"].clone()).collect();
        let expected: Vec<_> = [&third, &second, &first]
            .map(|reply| reply.json["changedRevision"].clone())
            .into();
        assert_eq!(revisions, expected, "newest first");
        assert_eq!(
            (&items[2]["reason"], &items[2]["ticket"]),
            (&json!("smaller"), &json!("CHG-1"))
        );
        let change = json!({
            "name": "limits.peers", "before": 77, "after": 10_000, "beforeChoice": "", "afterChoice": "", "unit": "count",
        });
        assert_eq!(items[1]["changes"], json!([change]));
        assert_eq!(items[0]["rollbackOf"], to);
        let next = at
            .call(
                "ListConfigVersions",
                json!({ "limit": 3, "cursor": history.str("nextCursor") }),
            )
            .ok();
        assert!(
            next.json["items"][0]["revision"].as_u64() < items[2]["revision"].as_u64(),
            "{next:?}"
        );

        let reset = json!({ "limits.peers": null, "retention.idempotency_key": null });
        at.call("PatchConfig", set(reset)).ok();
    }
    // In force at once, for the next command.
    let at = at(mesh, Wire::H2);
    at.call("PatchConfig", set(json!({ "limits.peers": 1 }))).ok();
    at.call("RegisterPeer", registration(&unique("first"))).ok();
    at.call("RegisterPeer", registration(&unique("second")))
        .refused("resource_exhausted");
    at.call("PatchConfig", set(json!({ "limits.peers": null }))).ok();
    at.call("RegisterPeer", registration(&unique("third"))).ok();
}

fn a_dry_run_equals_the_commit(mesh: &Mesh) {
    let _turn = turn();
    for wire in WIRES {
        let at = at(mesh, wire);
        let before = at.call("GetConfig", json!({})).ok();
        let start = before.json["changedRevision"].clone();
        for (rpc, request) in [
            (
                "PatchConfig",
                set(json!({ "limits.clusters": 9, "policy.learner_lag": 5 })),
            ),
            ("RollbackConfig", json!({ "toRevision": start })),
        ] {
            let now = at.call("GetConfig", json!({})).ok();
            dry_then_wet(&at, rpc, &request, || {
                assert_eq!(
                    at.call("GetConfig", json!({})).ok().json,
                    now.json,
                    "a dry run changes nothing"
                );
            });
        }
        assert_eq!(at.call("GetConfig", json!({})).ok().json["items"], before.json["items"]);
    }
}

fn what_is_wrong_is_refused_and_changes_nothing(mesh: &Mesh) {
    let _turn = turn();
    for wire in WIRES {
        let at = at(mesh, wire);
        let before = at.call("GetConfig", json!({})).ok();
        for (settings, says) in [
            (json!({ "limits.peers": 0 }), "1 to 1000000"),
            (json!({ "limits.peers": 1_000_001 }), "1 to 1000000"),
            (json!({ "limits.peers": 5, "limits.clusters": 2000 }), "limits.clusters"),
            (json!({ "limits.peers": 5.5 }), "whole number"),
            (json!({ "limits.peers": "15m" }), "whole number"),
            (json!({ "limits.peers": true }), "whole number"),
            (json!({ "retention.history": "soon" }), "duration"),
            (json!({ "retention.idempotency_key": "1s" }), "60000 to"),
            (json!({ "limits.nothing": 1 }), "there is no setting"),
            (json!({ "limits.nothing": null }), "there is no setting"),
            (json!({}), "at least one"),
        ] {
            let refused = at.call("PatchConfig", set(settings)).refused("invalid_argument");
            assert_eq!(refused.str("field"), "settings", "{refused:?}");
            assert!(refused.str("detail").contains(says), "{says}: {refused:?}");
        }
        for to in [0, 1_000_000_000] {
            let refused = at
                .call("RollbackConfig", json!({ "toRevision": to }))
                .refused("invalid_argument");
            assert_eq!(refused.str("field"), "toRevision", "{refused:?}");
        }
        assert_eq!(at.call("GetConfig", json!({})).ok().json, before.json);
    }
}

fn the_command_line_reads_and_writes_durations(mesh: &Mesh) {
    let _turn = turn();
    let run = |arguments: &[&str]| mesh.mesh(arguments).ok().unwrap().stdout;
    let name = "retention.idempotency_key";
    let dry = run(&["config", "set", &format!("{name}=1h30m"), "--dry-run"]);
    assert!(dry.contains(&format!("~ {name}: 15m -> 1h30m")), "{dry}");
    let set = run(&["config", "set", &format!("{name}=1h30m"), "--reason", "slow retries"]);
    assert!(set.starts_with("config/mesh set (version "), "{set}");
    let revision = set
        .split("revision ")
        .nth(1)
        .unwrap()
        .trim_end_matches(")\n")
        .to_owned();
    assert!(run(&["config", "get", name]).contains("1h30m"));
    assert!(run(&["config", "list", "--set"]).contains(name));
    assert!(!run(&["config", "list", "--set"]).contains("limits.peers"));
    assert!(run(&["config", "set", &format!("{name}=90m")]).contains("unchanged"));
    run(&["config", "set", "--reset", name]);
    let history = run(&["config", "history", "--limit", "2"]);
    assert!(
        history.contains("1h30m -> 15m") && history.contains("slow retries"),
        "{history}"
    );
    let back = run(&["config", "rollback", &revision, "--reason", "after all"]);
    assert!(back.starts_with("config/mesh rolled back"), "{back}");
    let config: Value = serde_json::from_str(&run(&["config", "list", "-o", "json"])).unwrap();
    assert_eq!(config["rollbackOf"].to_string(), revision);
    run(&["config", "set", "--reset", name]);

    mesh.mesh(["config", "get", "limits.nothing"]).expect_code(1).unwrap();
    mesh.mesh(["config", "set", "limits.peers=0"]).expect_code(2).unwrap();
    mesh.mesh(["config", "set", "limits.peers=5", "--if-match", "stale"])
        .expect_code(5)
        .unwrap();
    mesh.mesh(["config", "set"]).expect_code(2).unwrap();
    mesh.mesh_as("operate", ["config", "set", "limits.peers=5"])
        .expect_code(4)
        .unwrap();
}

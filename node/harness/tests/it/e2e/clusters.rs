//! Cluster descriptors over REST, gRPC and the command line: who may, what is asked for, what is refused (M1, M2, M9).

use node_harness::{Mesh, Options};
use serde_json::{Value, json};

use super::{
    shared::on_one_mesh,
    wire::{Caller, Reply, Wire},
    world::{audit, caller, dry_then_wet, leader, unique},
};

on_one_mesh! {
    || Options { nodes: 1, ..Options::default() };
    a_descriptor_is_written_and_replaced_whole,
    a_dry_run_equals_the_commit,
    what_is_wrong_is_refused_and_changes_nothing,
    promoting_and_demoting_ask_for_the_name_and_say_what_is_missing,
    the_command_line_writes_from_flags_and_files,
}

const WIRES: [Wire; 3] = [Wire::H1, Wire::H2, Wire::Grpc];

fn at(mesh: &Mesh, wire: Wire) -> Caller {
    caller(mesh, leader(mesh), wire, "admin")
}

fn descriptor(id: &str) -> Value {
    json!({
        "id": id, "region": "eu-west", "priority": 7, "fencing": "LEASE", "owners": ["sre", "net"],
        "replicationEndpoints": ["eu.example:7500"], "annotations": { "tier": "gold" },
    })
}

fn with(mut request: Value, more: Value) -> Value {
    let fields = request.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    request
}

fn get(at: &Caller, id: &str) -> Reply {
    at.call("GetCluster", json!({ "id": id })).ok()
}

fn a_descriptor_is_written_and_replaced_whole(mesh: &Mesh) {
    for wire in WIRES {
        let (at, id) = (at(mesh, wire), unique("cluster"));
        let told = json!({ "reason": "new region", "ticket": "CHG-7" });
        let made = at.call("ApplyCluster", with(descriptor(&id), told)).ok();
        for (name, value) in descriptor(&id).as_object().unwrap() {
            assert_eq!(made.json[name], *value, "{name}: {made:?}");
        }
        assert_eq!(
            (made.str("state"), made.str("readiness"), made.str("ticket")),
            ("PASSIVE", "UNKNOWN", "CHG-7")
        );
        assert_eq!(made.json["version"], 1);
        assert_eq!(get(&at, &id).json, made.json);

        // Replacing takes the ETag of what was looked at.
        let other = with(descriptor(&id), json!({ "owners": ["sre"], "annotations": {} }));
        let refused = at.call("ApplyCluster", other.clone()).refused("if_match_required");
        assert_eq!(refused.str("currentEtag"), made.etag(), "{refused:?}");
        let stale = with(other.clone(), json!({ "ifMatch": "stale" }));
        at.call("ApplyCluster", stale).refused("etag_mismatch");
        let replaced = at
            .call("ApplyCluster", with(other, json!({ "ifMatch": made.etag() })))
            .ok();
        assert_eq!(
            (&replaced.json["owners"], &replaced.json["version"]),
            (&json!(["sre"]), &json!(2))
        );
        assert_eq!(
            replaced.json["annotations"],
            json!({}),
            "whole: what is not said is not kept"
        );
        assert_eq!(replaced.str("ticket"), "", "the ticket of the last change");

        // What is not said of the priority is the usual one, not the highest.
        let plain = json!({ "id": id, "owners": ["sre"], "ifMatch": replaced.etag() });
        assert_eq!(at.call("ApplyCluster", plain).ok().json["priority"], 100);
        let listed = at.call("ListClusters", json!({ "state": "PASSIVE" })).ok();
        let ids: Vec<&str> = listed.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap())
            .collect();
        assert!(ids.contains(&id.as_str()) && !ids.contains(&"dev-1"), "{ids:?}");
        let target = format!("cluster/{id}");
        let trail: Vec<_> = audit(mesh)
            .into_iter()
            .filter(|record| record.target == target)
            .collect();
        assert_eq!(
            trail.iter().map(|record| record.action.as_str()).collect::<Vec<_>>(),
            ["clusters.apply"; 5]
        );
        assert_eq!(
            (trail[0].reason.as_str(), trail[0].ticket.as_str()),
            ("new region", "CHG-7")
        );
    }
    let active = get(&at(mesh, Wire::H2), "dev-1");
    assert_eq!((active.str("state"), active.str("readiness")), ("ACTIVE", "READY"));
}

fn a_dry_run_equals_the_commit(mesh: &Mesh) {
    for wire in WIRES {
        let (at, id) = (at(mesh, wire), unique("cluster"));
        for request in [
            descriptor(&id),
            with(descriptor(&id), json!({ "state": "MAINTENANCE", "region": "eu-north" })),
        ] {
            let before = at.call("GetCluster", json!({ "id": id }));
            let etag = if before.is_ok() { before.etag() } else { "" };
            dry_then_wet(&at, "ApplyCluster", &with(request, json!({ "ifMatch": etag })), || {
                let now = at.call("GetCluster", json!({ "id": id }));
                assert_eq!(now.is_ok(), before.is_ok(), "a dry run changes nothing");
            });
        }
    }
}

fn what_is_wrong_is_refused_and_changes_nothing(mesh: &Mesh) {
    for wire in WIRES {
        let (at, id) = (at(mesh, wire), unique("cluster"));
        for (field, more) in [
            ("owners", json!({ "owners": [] })),
            ("owners", json!({ "owners": [""] })),
            ("priority", json!({ "priority": 1001 })),
            ("replicationEndpoints", json!({ "replicationEndpoints": ["nowhere"] })),
            ("annotations", json!({ "annotations": { "-": "x" } })),
            ("region", json!({ "region": "eu west" })),
        ] {
            let refused = at
                .call("ApplyCluster", with(descriptor(&id), more))
                .refused("invalid_argument");
            assert_eq!(refused.str("field"), field, "{refused:?}");
        }
        at.call("GetCluster", json!({ "id": id })).refused("not_found");
        for state in ["ACTIVE", "DRAINING"] {
            let request = with(descriptor(&id), json!({ "state": state }));
            at.call("ApplyCluster", request).refused("cluster_transition");
        }
        let active = get(&at, "dev-1");
        for state in ["PASSIVE", "MAINTENANCE", "DRAINING"] {
            let request = with(descriptor("dev-1"), json!({ "state": state, "ifMatch": active.etag() }));
            at.call("ApplyCluster", request).refused("last_active_cluster");
        }
        assert_eq!(get(&at, "dev-1").json, active.json);
    }
}

fn promoting_and_demoting_ask_for_the_name_and_say_what_is_missing(mesh: &Mesh) {
    for wire in WIRES {
        let (at, id) = (at(mesh, wire), unique("cluster"));
        let made = at.call("ApplyCluster", descriptor(&id)).ok();
        for (rpc, id, code) in [
            ("PromoteCluster", id.as_str(), "replication_not_configured"),
            ("DemoteCluster", "dev-1", "last_active_cluster"),
        ] {
            let request = json!({ "id": id, "reason": "a test" });
            let refused = at.call(rpc, request.clone()).refused("confirmation_required");
            assert!(refused.str("hint").contains(id), "{refused:?}");
            let wrong = with(request.clone(), json!({ "confirm": "another" }));
            assert_eq!(at.call(rpc, wrong).refused("invalid_argument").str("field"), "confirm");
            // A dry run needs no confirmation, and says what the commit would.
            at.call(rpc, with(request.clone(), json!({ "dryRun": true })))
                .refused(code);
            let refused = at.call(rpc, with(request, json!({ "confirm": id }))).refused(code);
            let next = ["mesh clusters", "promote"];
            assert!(
                next.iter().any(|next| refused.str("hint").contains(next)),
                "{refused:?}"
            );
            let target = format!("cluster/{id}");
            let recorded = audit(mesh)
                .into_iter()
                .rev()
                .find(|record| record.target == target)
                .unwrap();
            assert_eq!((recorded.code.as_str(), recorded.reason.as_str()), (code, "a test"));
        }
        // What is so already stays so.
        for (rpc, id) in [("PromoteCluster", "dev-1"), ("DemoteCluster", id.as_str())] {
            let before = get(&at, id);
            let answer = at.call(rpc, json!({ "id": id, "confirm": id })).ok();
            assert_eq!(answer.json, before.json);
        }
        let kept = json!({ "state": "MAINTENANCE", "ifMatch": made.etag() });
        at.call("ApplyCluster", with(descriptor(&id), kept)).ok();
        for rpc in ["PromoteCluster", "DemoteCluster"] {
            at.call(rpc, json!({ "id": id, "confirm": id }))
                .refused("cluster_transition");
        }
        at.call("PromoteCluster", json!({ "id": "nowhere", "confirm": "nowhere" }))
            .refused("not_found");
    }
}

fn the_command_line_writes_from_flags_and_files(mesh: &Mesh) {
    let id = unique("cluster");
    let flags = [
        "clusters",
        "apply",
        &id,
        "--region",
        "eu-west",
        "--owner",
        "sre",
        "--annotation",
        "tier=gold",
        "--replication-endpoint",
        "eu.example:7500",
        "--reason",
        "new region",
    ];
    let dry = mesh.mesh([&flags[..], &["--dry-run"]].concat()).ok().unwrap();
    assert!(
        dry.stdout.contains(&format!("cluster/{id} would be applied")),
        "{}",
        dry.stdout
    );
    assert!(dry.stdout.contains("+ owners: sre"), "{}", dry.stdout);
    let made = mesh.mesh(flags).ok().unwrap();
    assert!(
        made.stdout
            .starts_with(&format!("cluster/{id} applied (version 1, revision ")),
        "{}",
        made.stdout
    );
    mesh.mesh(["clusters", "apply", &id, "--owner", "sre"])
        .expect_code(6)
        .unwrap();

    // Read, edited, written: the ETag in the file is that of what was read.
    let text = mesh.mesh(["clusters", "get", &id, "-o", "json"]).ok().unwrap();
    let mut record = text.json().unwrap();
    record["region"] = json!("eu-north");
    let file = mesh.scratch().join(format!("{id}.json"));
    std::fs::write(&file, record.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let changed = mesh
        .mesh(["clusters", "apply", "-f", file, "--ticket", "CHG-9"])
        .ok()
        .unwrap();
    assert!(changed.stdout.contains("version 2"), "{}", changed.stdout);
    mesh.mesh(["clusters", "apply", "-f", file]).expect_code(5).unwrap();
    let shown = mesh.mesh(["clusters", "get", &id]).ok().unwrap().stdout;
    for words in ["eu-north", "passive", "CHG-9", "eu.example:7500", "tier=gold"] {
        assert!(shown.contains(words), "{shown}");
    }
    let listed = mesh
        .mesh(["clusters", "list", "--state", "passive"])
        .ok()
        .unwrap()
        .stdout;
    assert!(listed.contains(&id) && !listed.contains("dev-1"), "{listed}");

    let asked = mesh.mesh(["clusters", "promote", &id]).expect_code(6).unwrap();
    assert!(
        asked.stderr.contains("confirmation_required") && asked.stderr.contains("--confirm"),
        "{}",
        asked.stderr
    );
    let refused = mesh
        .mesh(["clusters", "promote", &id, "--confirm", &id])
        .expect_code(6)
        .unwrap();
    assert!(
        refused.stderr.contains("replication_not_configured"),
        "{}",
        refused.stderr
    );
    let refused = mesh
        .mesh(["clusters", "demote", "dev-1", "--confirm", "dev-1"])
        .expect_code(6)
        .unwrap();
    assert!(refused.stderr.contains("last_active_cluster"), "{}", refused.stderr);
    mesh.mesh_as("operate", ["clusters", "apply", &id, "--owner", "x"])
        .expect_code(4)
        .unwrap();
}

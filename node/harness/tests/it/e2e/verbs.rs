//! Every RPC in every form: REST over HTTP/1.1 and HTTP/2, gRPC, at the leader and at followers (M1, M2, M3, M6, X1).

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use api_client::CallOptions;
use http::header;
use node_harness::Mesh;
use proto::v1::{CordonPeerRequest, PatchPeerRequest};
use serde_json::{Value, json};

use super::{
    shared::on_one_mesh,
    wire::{Caller, Reply, Wire, encoded, method},
    world::{
        SOON, admin, agreed, audit, builder, caller, drains_take, follower, leader, only, register, registration,
        timeless, tls, unique, verify_audit, wait,
    },
};

mod driver;
mod rows;
mod shards;
mod world;

/// Every verb, by both forms of the API over both versions of HTTP: success, each scope missing, stale ETag, replayed key,
/// failed precondition and dry run, and what the trail has of each (M1, M2, M3, M5, M6, M7). What goes over HTTP/3 has no
/// other way, and is counted as that.
#[test]
fn every_verb_over_every_wire() {
    // Long enough for a drain to be under way when it is looked at.
    let mut mesh = Mesh::start(drains_take(Duration::from_secs(5))).unwrap();
    let full = follower(&mesh);
    // More than any disk has.
    let soft = [("MESHKIT_STORAGE__DISK_SOFT_BYTES", OsStr::new("1099511627776"))];
    mesh.kill(full).unwrap();
    mesh.restart_with(full, &soft).unwrap();
    mesh.wait_ready(full, SOON).unwrap();
    for stays in ["stays-1", "stays-2"] {
        register(&mesh, stays);
    }
    let settings = json!({
        "policy.peers_active_min": 1, "approvals.peers.drain_forced": "operator",
        // Moves that are begun to be looked at stay under way.
        "limits.moves": 10_000, "limits.moves_per_peer": 10_000,
    });
    admin(&mesh).call("PatchConfig", json!({ "settings": settings })).ok();
    driver::run(&world::World::new(&mesh, full));
    verify_audit(&mesh);
    agreed(&mesh);
    mesh.stop().unwrap();
}

on_one_mesh! {
    || drains_take(Duration::from_millis(700));
    every_verb_at_the_leader,
    every_verb_carried_by_a_follower,
    followers_name_the_leader_and_change_nothing,
    clients_follow_the_leader,
    every_read_on_every_node,
    a_dry_run_shows_what_the_commit_does,
    a_dry_run_is_refused_as_the_commit_is,
    a_stale_etag_names_the_current_one,
    a_retry_is_answered_as_the_first_was,
    pages_show_one_revision_while_writes_go_on,
    the_older_prefix_serves_the_same,
    an_unchanged_record_is_not_sent_again,
    header_and_body_have_to_agree,
    a_long_poll_ends_with_the_operation,
    health_metrics_and_contract_are_served,
    a_record_says_why_and_what_changed,
}

/// A success is the bare record, with ETag, revision and epoch beside it.
#[track_caller]
fn shaped(reply: Reply) -> Reply {
    let reply = reply.ok();
    assert!(reply.json["id"].is_string(), "not a bare record: {reply:?}");
    assert!(!reply.etag().is_empty(), "no ETag: {reply:?}");
    assert_eq!(reply.etag(), reply.str("etag"), "{reply:?}");
    if reply.grpc.is_none() {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("content-type"), "application/json", "{reply:?}");
        assert!(reply.header("etag").starts_with('"'), "{reply:?}");
    }
    assert!(
        reply.revision() >= reply.json["changedRevision"].as_u64().unwrap(),
        "{reply:?}"
    );
    assert_eq!(reply.header("mesh-epoch"), "1", "{reply:?}");
    reply
}

/// The life of a peer and of the operations on it, each verb once.
fn life_of_a_peer(caller: &Caller, id: &str) {
    let call = |rpc: &str, more: Value| {
        let mut request = json!({ "id": id });
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        shaped(caller.call(rpc, request))
    };
    let told = json!({ "reason": "a test", "ticket": "CHG-1" });

    let full = json!({
        "cluster": "dev-1", "role": "gateway", "region": "eu-west", "zone": "a", "weight": 50,
        "endpoints": ["127.0.0.1:9001", "[::1]:9001"], "labels": { "tier": "gold" }, "metadata": { "note": "x" },
    });
    let made = call("RegisterPeer", full.clone());
    for (name, value) in full.as_object().unwrap() {
        assert_eq!(made.json[name], *value, "{name}: {made:?}");
    }
    assert_eq!(
        (made.str("status"), made.str("health"), &made.json["version"]),
        ("ACTIVE", "UNKNOWN", &json!(1))
    );
    assert_eq!(made.json["createdRevision"], made.json["changedRevision"]);
    assert!(made.str("createdAt").ends_with('Z'), "{made:?}");
    caller.call("RegisterPeer", registration(id)).refused("already_exists");

    let read = call("GetPeer", json!({}));
    assert_eq!(read.json, made.json);
    let patch = json!({
        "labels": { "zone": "b" }, "removeLabels": ["tier"], "metadata": { "owner": "o" }, "removeMetadata": ["note"],
    });
    let patched = call("PatchPeer", patch);
    assert_eq!(
        (&patched.json["labels"], &patched.json["metadata"]),
        (&json!({ "zone": "b" }), &json!({ "owner": "o" }))
    );
    assert_eq!(patched.json["version"], 2);
    assert_ne!(patched.etag(), made.etag());

    assert_eq!(call("CordonPeer", told.clone()).str("status"), "CORDONED");
    let again = call("CordonPeer", told.clone());
    assert_eq!(
        (again.str("status"), &again.json["version"]),
        ("CORDONED", &json!(3)),
        "an unchanged record"
    );
    assert_eq!(call("UncordonPeer", told.clone()).str("status"), "ACTIVE");

    let draining = call("DrainPeer", told.clone());
    assert_eq!(draining.str("status"), "DRAINING");
    let refused = caller
        .call("UncordonPeer", json!({ "id": id }))
        .refused("peer_draining");
    assert!(refused.str("hint").contains("undrain"), "{refused:?}");
    let operation = draining.str("operation").to_owned();
    let started = shaped(caller.call("GetOperation", json!({ "id": operation })));
    assert_eq!((started.str("kind"), started.str("state")), ("DRAIN_PEER", "RUNNING"));
    assert_eq!(started.str("target"), format!("peer/{id}"));
    assert_eq!((started.str("reason"), started.str("ticket")), ("a test", "CHG-1"));
    let cancelled = shaped(caller.call(
        "CancelOperation",
        json!({ "id": operation, "reason": "changed my mind" }),
    ));
    assert_eq!(cancelled.str("state"), "CANCELLED");
    assert!(cancelled.json["finishedAt"].is_string(), "{cancelled:?}");
    caller
        .call("CancelOperation", json!({ "id": operation }))
        .refused("operation_finished");
    assert_eq!(call("GetPeer", json!({})).str("status"), "ACTIVE");

    let draining = call("DrainPeer", told.clone());
    let ended = follow(caller, draining.str("operation"));
    assert_eq!(ended.str("state"), "SUCCEEDED", "{ended:?}");
    assert!(
        ended.json["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["phase"] == "DONE"),
        "{ended:?}"
    );
    assert_eq!(call("GetPeer", json!({})).str("status"), "DRAINED");
    assert_eq!(call("UndrainPeer", told.clone()).str("status"), "ACTIVE");

    let last = caller
        .call("DeregisterPeer", json!({ "id": id, "reason": "gone" }))
        .ok();
    assert_eq!(
        (last.str("id"), last.str("status")),
        (id, "ACTIVE"),
        "the record as it was last"
    );
    caller.call("GetPeer", json!({ "id": id })).refused("not_found");
    caller.call("DeregisterPeer", json!({ "id": id })).refused("not_found");
}

/// Long polls an operation to its end.
fn follow(caller: &Caller, id: &str) -> Reply {
    let mut version = 0;
    for _ in 0..10 {
        let request = json!({ "id": id, "waitVersion": version, "timeout": "10s" });
        let seen = caller.call("GetOperation", request).ok();
        if seen.str("state") != "RUNNING" {
            return seen;
        }
        version = seen.json["version"].as_u64().unwrap();
    }
    panic!("operation {id} does not end");
}

/// M1: each verb, at the leader, in all three forms at once.
fn every_verb_at_the_leader(mesh: &Mesh) {
    let leader = leader(mesh);
    thread::scope(|scope| {
        for wire in Wire::ALL {
            scope.spawn(move || life_of_a_peer(&caller(mesh, leader, wire, "admin"), &unique("life")));
        }
    });
}

/// X1: the same at a follower, which carries the requests to the leader.
fn every_verb_carried_by_a_follower(mesh: &Mesh) {
    let follower = follower(mesh);
    thread::scope(|scope| {
        for wire in Wire::ALL {
            let caller = caller(mesh, follower, wire, "admin").with("mesh-route", "forward");
            scope.spawn(move || life_of_a_peer(&caller, &unique("carried")));
        }
    });
}

/// X1: without being asked to carry it, a follower says who leads, and nothing happens.
fn followers_name_the_leader_and_change_nothing(mesh: &Mesh) {
    let (leader, follower) = (leader(mesh), follower(mesh));
    let api = mesh.node(leader).unwrap().api.clone();
    let id = unique("redirected");
    register(mesh, &id);
    let before = admin(mesh).call("GetPeer", json!({ "id": id })).ok();
    for wire in Wire::ALL {
        let at = caller(mesh, follower, wire, "admin");
        // What only peers may do, the caller may not even ask for.
        let asked = |method: &&proto::methods::Method| method.mutation && method.scope != proto::methods::Scope::Peer;
        for method in proto::methods::all().iter().filter(asked) {
            let request = match method.name.as_str() {
                "RegisterPeer" => registration(&unique("never")),
                "TransferLeadership" => json!({ "to": 77 }),
                "CancelOperation" => json!({ "id": "op-1" }),
                name => request_for(name, &id),
            };
            let reply = at.call(&method.name, request).refused("not_leader");
            assert_eq!(reply.json["leader"], json!({ "id": leader, "api": api }), "{reply:?}");
            assert!(reply.str("hint").contains("Authorization"), "{reply:?}");
            if wire.is_rest() {
                let location = reply.header("location");
                assert!(location.starts_with(&format!("{api}/meshkit/")), "{reply:?}");
            }
        }
    }
    let after = admin(mesh).call("GetPeer", json!({ "id": id })).ok();
    assert_eq!(before.json, after.json);
    let path = format!("/meshkit/peers/{id}:cordon");
    let redirect = caller(mesh, follower, Wire::H1, "admin")
        .send("POST", &path, &json!({}))
        .refused("not_leader");
    assert_eq!(redirect.header("location"), format!("{api}{path}"));
}

/// X1: SDK and CLI may be pointed at any node.
fn clients_follow_the_leader(mesh: &Mesh) {
    for node in mesh.ids() {
        let id = unique("followed");
        mesh.mesh_at(node, ["peers", "register", &id, "--endpoint", "127.0.0.1:9001"])
            .unwrap()
            .ok()
            .unwrap();
        let endpoint = mesh.node(node).unwrap().api.parse().unwrap();
        let tokens = &mesh.info().tokens;
        let ca = std::fs::read(&mesh.info().ca).unwrap();
        let tls = api_client::TlsConnect::new(Some(&ca), None).unwrap();
        let sdk = api_client::Client::builder(vec![endpoint], std::sync::Arc::new(tls));
        let sdk = sdk.token(tokens.admin.clone().into()).build().unwrap();
        let answer = wait(sdk.cordon_peer(CordonPeerRequest {
            id: id.clone(),
            ..Default::default()
        }))
        .unwrap();
        assert_eq!(answer.message.status(), proto::v1::peer::Status::Cordoned);
        if node != leader(mesh) {
            assert!(answer.meta.attempts >= 2, "it was not redirected: {:?}", answer.meta);
        }
    }
    // Told to stay, the SDK answers the redirect as the error that it is.
    let stay = CallOptions {
        stay: true,
        ..only(mesh, follower(mesh))
    };
    let sdk = builder(mesh, "admin").build().unwrap();
    let request = CordonPeerRequest {
        id: "nobody".into(),
        ..Default::default()
    };
    let error = wait(sdk.call::<api_client::methods::CordonPeer>(request, stay)).unwrap_err();
    assert_eq!(error.code(), "not_leader");
    assert_eq!(error.leader(), Some(mesh.node(leader(mesh)).unwrap().api.as_str()));
}

/// X1: followers serve reads, linearizable ones too: what was acknowledged at the leader is there at once.
fn every_read_on_every_node(mesh: &Mesh) {
    let id = unique("read");
    let made = admin(mesh).call("RegisterPeer", registration(&id)).ok();
    let draining = admin(mesh).call("DrainPeer", json!({ "id": id })).ok();
    let operation = draining.str("operation").to_owned();
    for node in mesh.ids() {
        for wire in Wire::ALL {
            let at = caller(mesh, node, wire, "observe");
            let peer = shaped(at.call("GetPeer", json!({ "id": id })));
            assert_eq!(peer.json["createdRevision"], made.json["createdRevision"]);
            assert_ne!(peer.str("status"), "ACTIVE");
            assert_eq!(
                shaped(at.call("GetOperation", json!({ "id": operation }))).str("id"),
                operation
            );
            for (rpc, request) in [
                ("ListPeers", json!({ "limit": 1000 })),
                ("ListOperations", json!({ "target": format!("peer/{id}") })),
                ("ListAuditRecords", json!({ "target": format!("peer/{id}") })),
                ("ListAuditCheckpoints", json!({})),
            ] {
                let list = at.call(rpc, request).ok();
                assert!(
                    list.json["items"].is_array() && list.json["nextCursor"].is_string(),
                    "{list:?}"
                );
                assert!(
                    list.json["revision"].as_u64().unwrap() >= draining.revision(),
                    "{list:?}"
                );
                assert_eq!(list.json["epoch"], 1, "{list:?}");
                assert!(list.json["versionVector"].is_object(), "{list:?}");
                if rpc != "ListAuditCheckpoints" {
                    assert!(
                        list.json["items"].to_string().contains(&id),
                        "{rpc} does not show {id}: {list:?}"
                    );
                }
            }
            // Asked for its own view a node gives that; otherwise the leader's, which knows most, where it can be had.
            let own = at
                .clone()
                .with("mesh-consistency", "local")
                .call("GetStatus", json!({}))
                .ok();
            assert_eq!(own.json["answeredBy"], node, "{own:?}");
            let status = at.call("GetStatus", json!({})).ok();
            assert_eq!(status.json["quorum"], true, "{status:?}");
            assert!(
                mesh.ids().iter().any(|id| status.json["answeredBy"] == *id),
                "{status:?}"
            );
            assert_eq!(status.json["nodes"].as_array().unwrap().len(), 3, "{status:?}");
            assert_eq!(status.str("mesh"), mesh.info().mesh);
            assert_eq!(
                at.call("ListMembers", json!({})).ok().json["items"]
                    .as_array()
                    .unwrap()
                    .len(),
                3
            );
            let can = at.call("CanI", json!({ "what": "peers.drain" })).ok();
            assert_eq!(
                (&can.json["allowed"], can.str("needed")),
                (&json!(false), "mesh.operate"),
                "{can:?}"
            );
            assert_eq!(can.json["scopes"], json!(["mesh.read", "mesh.observe"]), "{can:?}");
            assert_eq!(can.str("method"), "jwt", "{can:?}");
            let local = at
                .with("mesh-consistency", "local")
                .call("GetPeer", json!({ "id": id }));
            assert_eq!(shaped(local).str("id"), id);
        }
    }
}

fn request_for(rpc: &str, peer: &str) -> Value {
    let fields = method(rpc)
        .input
        .fields()
        .map(|field| field.name().to_owned())
        .collect::<BTreeSet<_>>();
    match rpc {
        "RegisterPeer" => registration(peer),
        "CanI" => json!({ "what": "peers.drain" }),
        "RemoveMember" | "PromoteMember" => json!({ "id": 77 }),
        "InviteMember" => json!({}),
        "AddMember" => json!({ "id": 77, "api": "127.0.0.1:1", "raft": "127.0.0.1:2" }),
        "DisarmAlarm" => json!({ "node": 1, "name": "NOSPACE" }),
        "CompactHistory" => json!({ "revision": 1 }),
        "PatchConfig" => json!({ "settings": { "limits.peers": 20_000 } }),
        "RollbackConfig" => json!({ "toRevision": 1 }),
        "ApplyCluster" => json!({ "id": peer, "owners": ["sre"] }),
        "PromoteCluster" | "DemoteCluster" => json!({ "id": peer, "confirm": peer }),
        "SetNamespacePolicy" => json!({ "id": peer, "policy": { "step": "90s" } }),
        "MoveShard" => json!({ "namespace": peer, "shard": 0, "to": peer }),
        _ if fields.contains("shard") => json!({ "namespace": peer, "shard": 0 }),
        _ if fields.contains("id") => json!({ "id": peer }),
        _ => json!({}),
    }
}

/// M9: a dry run is the same code: the commit at the position that it names makes the same record.
fn a_dry_run_shows_what_the_commit_does(mesh: &Mesh) {
    let by_rest = unique("dry");
    let by_grpc = unique("dry");
    for (wire, id) in [(Wire::H2, &by_rest), (Wire::Grpc, &by_grpc)] {
        let at = caller(mesh, leader(mesh), wire, "admin");
        let twice = |rpc: &str, request: Value| dry_then_wet(&at, rpc, request);
        twice("RegisterPeer", registration(id));
        twice(
            "PatchPeer",
            json!({ "id": id, "labels": { "a": "1" }, "metadata": { "b": "2" } }),
        );
        twice("CordonPeer", json!({ "id": id, "reason": "r", "ticket": "t" }));
        twice("UncordonPeer", json!({ "id": id }));
        let draining = twice("DrainPeer", json!({ "id": id, "reason": "r" }));
        twice("CancelOperation", json!({ "id": draining.str("operation") }));
        let draining = twice("DrainPeer", json!({ "id": id }));
        follow(&at, draining.str("operation"));
        twice("UndrainPeer", json!({ "id": id }));
        twice("DeregisterPeer", json!({ "id": id }));
    }
}

/// Previews a change and commits it at the position that the preview names, again where others were faster.
fn dry_then_wet(at: &Caller, rpc: &str, request: Value) -> Reply {
    for _ in 0..50 {
        let dry = at.clone().with("mesh-dry-run", "true").call(rpc, request.clone()).ok();
        assert_eq!(dry.header("mesh-dry-run"), "true", "{dry:?}");
        let mut commit = request.clone();
        // Only where the preview itself took no revision can this be accepted.
        commit["ifRevision"] = dry.revision().into();
        let wet = at.call(rpc, commit);
        if wet.code() == "revision_mismatch" {
            continue;
        }
        let wet = wet.ok();
        assert_eq!(wet.revision(), dry.revision() + 1, "{wet:?}");
        assert_eq!(timeless(&wet.json), timeless(&dry.json), "{rpc}");
        assert_eq!(wet.header("mesh-dry-run"), "");
        return wet;
    }
    panic!("{rpc}: others were always faster");
}

/// A dry run that would be refused says so with the same code, and leaves no trace in the trail.
fn a_dry_run_is_refused_as_the_commit_is(mesh: &Mesh) {
    let id = unique("dry-refused");
    let at = admin(mesh).with("mesh-dry-run", "true");
    let cases = [
        (
            "RegisterPeer",
            json!({ "id": id, "endpoints": ["nowhere"] }),
            "invalid_argument",
        ),
        ("CordonPeer", json!({ "id": id }), "not_found"),
        (
            "CancelOperation",
            json!({ "id": "op-000000000001-000000" }),
            "not_found",
        ),
    ];
    for (rpc, request, code) in cases {
        at.call(rpc, request).refused(code);
    }
    // Over the body as well as by header.
    let dry = admin(mesh)
        .call(
            "RegisterPeer",
            json!({ "id": id, "endpoints": ["h:1"], "dryRun": true }),
        )
        .ok();
    assert_eq!(dry.header("mesh-dry-run"), "true");
    admin(mesh).call("GetPeer", json!({ "id": id })).refused("not_found");
    let target = format!("peer/{id}");
    assert!(
        audit(mesh).iter().all(|record| record.target != target),
        "a dry run is not audited"
    );
    assert_eq!(
        mesh.mesh(["peers", "register", &id, "--endpoint", "h:1", "--dry-run", "-o", "json"])
            .ok()
            .unwrap()
            .json()
            .unwrap()["id"],
        id
    );
    admin(mesh).call("GetPeer", json!({ "id": id })).refused("not_found");
}

/// M2: stale is a clear conflict that names the current ETag, in header and in body; `*` is any record.
fn a_stale_etag_names_the_current_one(mesh: &Mesh) {
    for wire in Wire::ALL {
        let id = unique("etag");
        let at = caller(mesh, leader(mesh), wire, "admin");
        let first = at.call("RegisterPeer", registration(&id)).ok();
        let patch = |etag: &str, value: &str| {
            let quoted = if wire.is_rest() && etag != "*" {
                format!("\"{etag}\"")
            } else {
                etag.to_owned()
            };
            at.clone()
                .with("if-match", &quoted)
                .call("PatchPeer", json!({ "id": id, "labels": { "v": value } }))
        };
        let second = patch(first.etag(), "2").ok();
        let stale = patch(first.etag(), "3").refused("etag_mismatch");
        assert_eq!(stale.str("currentEtag"), second.etag(), "{stale:?}");
        // One that was never issued, and one in the body.
        assert_eq!(
            patch("never-issued", "3").refused("etag_mismatch").str("currentEtag"),
            second.etag()
        );
        let body = json!({ "id": id, "labels": { "v": "3" }, "ifMatch": first.etag() });
        at.call("PatchPeer", body).refused("etag_mismatch");
        assert_eq!(
            at.call("GetPeer", json!({ "id": id })).ok().json["labels"],
            json!({ "v": "2" })
        );
        assert_eq!(patch("*", "4").ok().json["version"], 3);
        at.clone()
            .with("if-match", "\"x\"")
            .call("CordonPeer", json!({ "id": "nobody" }))
            .refused("etag_mismatch");
        // Create only, and an ETag that outlives its record.
        at.clone()
            .with("if-none-match", "*")
            .call("RegisterPeer", registration(&id))
            .refused("already_exists");
        let last = at.call("GetPeer", json!({ "id": id })).ok();
        at.call("DeregisterPeer", json!({ "id": id })).ok();
        at.clone()
            .with("if-none-match", "*")
            .call("RegisterPeer", registration(&id))
            .ok();
        patch(last.etag(), "5").refused("etag_mismatch");
    }
}

/// M2: a retry is answered as the first attempt was, wherever and in whatever form it is sent; another request under
/// the same key is refused.
fn a_retry_is_answered_as_the_first_was(mesh: &Mesh) {
    let key = unique("key");
    let id = unique("retried");
    register(mesh, &id);
    let request = json!({ "id": id, "labels": { "n": "1" } });
    let at = admin(mesh).with("idempotency-key", &key);
    let first = at.call("PatchPeer", request.clone()).ok();
    assert_eq!(first.header("mesh-replayed"), "");
    admin(mesh)
        .call("PatchPeer", json!({ "id": id, "labels": { "n": "2" } }))
        .ok();
    let others = [at.clone(), at.clone().over(Wire::H1), at.clone().over(Wire::Grpc)];
    let carried = caller(mesh, follower(mesh), Wire::H2, "admin")
        .with("idempotency-key", &key)
        .with("mesh-route", "forward");
    for retry in others.iter().chain([&carried]) {
        let again = retry.call("PatchPeer", request.clone()).ok();
        assert_eq!(again.header("mesh-replayed"), "true", "{again:?}");
        assert_eq!(again.json, first.json);
        assert_eq!(again.etag(), first.etag());
    }
    // As a field instead of a header: the same key.
    let mut by_field = request.clone();
    by_field["idempotencyKey"] = key.as_str().into();
    assert_eq!(
        admin(mesh).call("PatchPeer", by_field).ok().header("mesh-replayed"),
        "true"
    );
    let reused = at
        .call("PatchPeer", json!({ "id": id, "labels": { "n": "9" } }))
        .refused("idempotency_key_reused");
    assert!(!reused.json["retryable"].as_bool().unwrap());
    at.call("CordonPeer", json!({ "id": id }))
        .refused("idempotency_key_reused");
    // Keys are each principal's own.
    let admin2 = caller(mesh, leader(mesh), Wire::H2, "admin2").with("idempotency-key", &key);
    assert_eq!(admin2.call("PatchPeer", request).ok().header("mesh-replayed"), "");
    let now = admin(mesh).call("GetPeer", json!({ "id": id })).ok();
    assert_eq!(
        (&now.json["labels"]["n"], &now.json["version"]),
        (&json!("1"), &json!(4))
    );
    // A rejection that no retry can change is stored too.
    let refused = admin(mesh).with("idempotency-key", &unique("key"));
    refused
        .call("CordonPeer", json!({ "id": "nobody-at-all" }))
        .refused("not_found");
    let again = refused
        .call("CordonPeer", json!({ "id": "nobody-at-all" }))
        .refused("not_found");
    assert_eq!(again.header("mesh-replayed"), "true", "{again:?}");
}

/// Lists page over one revision, on whichever node the next page is asked for, while writes go on.
fn pages_show_one_revision_while_writes_go_on(mesh: &Mesh) {
    let group = unique("paged");
    let ids: Vec<String> = (0..23).map(|n| format!("{group}-{n:02}")).collect();
    let at = admin(mesh);
    for id in &ids {
        at.call(
            "RegisterPeer",
            json!({ "id": id, "endpoints": ["h:1"], "labels": { "group": group } }),
        )
        .ok();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let new =
                    json!({ "id": format!("{group}-{n:02}-new"), "endpoints": ["h:1"], "labels": { "group": group } });
                at.call("RegisterPeer", new).ok();
                at.call(
                    "PatchPeer",
                    json!({ "id": ids[n % ids.len()], "labels": { "n": n.to_string() } }),
                )
                .ok();
                at.call("DeregisterPeer", json!({ "id": format!("{group}-{n:02}-new") }))
                    .ok();
            }
        });
        let paged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read_pages(mesh, &group, &ids)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = paged {
            std::panic::resume_unwind(panic);
        }
    });
}

fn read_pages(mesh: &Mesh, group: &str, ids: &[String]) {
    for (round, wire) in Wire::ALL.into_iter().enumerate() {
        let mut cursor = String::new();
        let mut revision = 0;
        let mut seen = Vec::new();
        for page in 0.. {
            assert!(page < 20, "the list does not end");
            let node = mesh.ids()[(round + page) % 3];
            let request = json!({ "limit": 5, "cursor": cursor, "selector": format!("group={group}") });
            let list = caller(mesh, node, wire, "read").call("ListPeers", request).ok();
            if page == 0 {
                revision = list.json["revision"].as_u64().unwrap();
            }
            assert_eq!(list.json["revision"], revision, "pages of one list show one revision");
            for item in list.json["items"].as_array().unwrap() {
                assert!(item["changedRevision"].as_u64().unwrap() <= revision, "{item}");
                seen.push(item["id"].as_str().unwrap().to_owned());
            }
            cursor = list.str("nextCursor").to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(seen, sorted, "in order of id, none twice");
        for id in ids {
            assert!(seen.contains(id), "{id} is missing at revision {revision}");
        }
        assert!(
            seen.len() <= ids.len() + 1,
            "more than were there at any one revision: {seen:?}"
        );
    }
    // A cursor belongs to its filter, and is no text that anybody can make up.
    let at = caller(mesh, mesh.ids()[0], Wire::H2, "read");
    let first = at
        .call("ListPeers", json!({ "limit": 5, "selector": format!("group={group}") }))
        .ok();
    let cursor = first.str("nextCursor");
    at.call("ListPeers", json!({ "cursor": cursor }))
        .refused("token_mismatch");
    at.call("ListPeers", json!({ "cursor": "bm9uc2Vuc2U" }))
        .refused("token_mismatch");
    at.call("ListPeers", json!({ "limit": 1001 }))
        .refused("invalid_argument");
    at.call("ListPeers", json!({ "selector": "a=b=c,," }))
        .refused("invalid_argument");
}

/// `/control` is the older name of `/meshkit`.
fn the_older_prefix_serves_the_same(mesh: &Mesh) {
    let id = unique("alias");
    let at = admin(mesh);
    at.send("POST", "/control/peers", &registration(&id)).ok();
    at.send("POST", &format!("/control/peers/{id}:cordon"), &json!({})).ok();
    let alias = at.get(&format!("/control/peers/{id}")).ok();
    let canonical = at.get(&format!("/meshkit/peers/{id}")).ok();
    assert_eq!((&alias.json, alias.etag()), (&canonical.json, canonical.etag()));
    assert_eq!(
        at.get("/control/status").ok().json["mesh"],
        at.get("/meshkit/status").ok().json["mesh"]
    );
    let drained = at
        .send(
            "POST",
            &format!("/control/peers/{id}:drain"),
            &json!({ "dryRun": true }),
        )
        .ok();
    assert_eq!(drained.str("status"), "DRAINING");
}

/// `If-None-Match` with the current ETag answers 304 without a body.
fn an_unchanged_record_is_not_sent_again(mesh: &Mesh) {
    let id = unique("unchanged");
    let made = admin(mesh).call("RegisterPeer", registration(&id)).ok();
    let path = format!("/meshkit/peers/{id}");
    for node in mesh.ids() {
        for wire in [Wire::H1, Wire::H2] {
            let at = caller(mesh, node, wire, "read");
            let same = at.clone().with("if-none-match", made.header("etag")).get(&path);
            assert_eq!((same.status, same.text.as_str()), (304, ""), "{same:?}");
            assert_eq!(same.header("etag"), made.header("etag"));
            assert!(same.revision() >= made.revision());
            at.with("if-none-match", "\"other\"").get(&path).ok();
        }
    }
}

/// What header and body both say has to be the same.
fn header_and_body_have_to_agree(mesh: &Mesh) {
    let id = unique("agree");
    let made = register(mesh, &id);
    let at = admin(mesh);
    let cases = [
        ("mesh-reason", "a", json!({ "reason": "b" })),
        ("mesh-ticket", "a", json!({ "ticket": "b" })),
        ("idempotency-key", "a", json!({ "idempotencyKey": "b" })),
        ("if-match", "\"a\"", json!({ "ifMatch": "b" })),
        ("mesh-dry-run", "false", json!({ "dryRun": true })),
        ("mesh-dry-run", "perhaps", json!({})),
    ];
    for (name, value, body) in cases {
        for wire in Wire::ALL {
            let mut request = json!({ "id": id });
            request
                .as_object_mut()
                .unwrap()
                .extend(body.as_object().unwrap().clone());
            let at = at.clone().over(wire).with(name, value);
            at.call("CordonPeer", request).refused("invalid_argument");
        }
    }
    assert_eq!(at.call("GetPeer", json!({ "id": id })).ok().etag(), made.etag);
    let by_header = at.clone().with("mesh-reason", "by header").with("mesh-ticket", "T-7");
    by_header
        .call("CordonPeer", json!({ "id": id, "reason": "by header" }))
        .ok();
    let target = format!("peer/{id}");
    let record = audit(mesh).into_iter().rfind(|record| record.target == target).unwrap();
    assert_eq!((record.reason.as_str(), record.ticket.as_str()), ("by header", "T-7"));
}

/// `GetOperation` with `waitVersion` answers when there is something new, and no later than asked.
fn a_long_poll_ends_with_the_operation(mesh: &Mesh) {
    let id = unique("polled");
    register(mesh, &id);
    let operation = admin(mesh)
        .call("DrainPeer", json!({ "id": id }))
        .ok()
        .str("operation")
        .to_owned();
    thread::scope(|scope| {
        for node in mesh.ids() {
            for wire in Wire::ALL {
                let operation = operation.clone();
                scope.spawn(move || {
                    let ended = follow(&caller(mesh, node, wire, "read"), &operation);
                    assert_eq!(ended.str("state"), "SUCCEEDED");
                    assert_eq!(ended.json["version"], 3, "one version per step: {ended:?}");
                });
            }
        }
    });
    // It has ended, so there is nothing to wait for.
    let start = std::time::Instant::now();
    let at = caller(mesh, follower(mesh), Wire::H2, "read");
    at.call(
        "GetOperation",
        json!({ "id": operation, "waitVersion": 99, "timeout": "20s" }),
    )
    .ok();
    assert!(start.elapsed() < Duration::from_secs(5));
    at.call(
        "GetOperation",
        json!({ "id": operation, "timeout": "61s", "waitVersion": 1 }),
    )
    .refused("invalid_argument");
}

/// Anonymous probes say only whether; metrics need `observe`; the contract is there as OpenAPI and by reflection.
fn health_metrics_and_contract_are_served(mesh: &Mesh) {
    for node in mesh.ids() {
        for wire in [Wire::H1, Wire::H2] {
            let nobody = Caller::new(&mesh.node(node).unwrap().api, wire, tls(mesh));
            assert_eq!(nobody.get("/livez").status, 200);
            assert_eq!(nobody.get("/readyz").status, 200);
            nobody.get("/metrics").refused("unauthenticated");
            nobody.get("/nowhere").refused("not_found");
            caller(mesh, node, wire, "read")
                .get("/metrics")
                .refused("scope_missing");
            let metrics = caller(mesh, node, wire, "observe").get("/metrics").ok().text;
            for line in ["# TYPE meshkit_", "transport=\"h2\""] {
                assert!(metrics.contains(line), "no {line} in:\n{metrics}");
            }
            let contract = caller(mesh, node, wire, "read").get("/openapi.json").ok();
            for method in proto::methods::all() {
                let verb = method.http.verb.as_str().to_lowercase();
                let found = &contract.json["paths"][&method.http.template.text][&verb];
                assert!(
                    found.is_object(),
                    "{} {} is not in the contract",
                    verb,
                    method.http.template.text
                );
            }
        }
        let grpc = caller(mesh, node, Wire::Grpc, "read");
        let health = grpc
            .clone()
            .without("authorization")
            .grpc_raw("/grpc.health.v1.Health/Check", Vec::new().into());
        assert_eq!(
            (health.header("grpc-status"), &health.message()[..]),
            ("0", &[8, 1][..]),
            "SERVING"
        );
        let unknown = grpc.grpc_raw("/meshkit.v1.PeerService/Explode", Vec::new().into());
        assert_eq!(unknown.header("grpc-status"), "12", "unimplemented, said as gRPC");
    }
    let peers = method("ListPeers").http.template.text.clone();
    let put = admin(mesh)
        .send("PUT", &peers, &json!({}))
        .refused("method_not_allowed");
    assert_eq!(put.header("allow"), "GET, POST");
}

/// M6: a record says why, and what was before and after.
fn a_record_says_why_and_what_changed(mesh: &Mesh) {
    let id = unique("trail");
    let target = format!("peer/{id}");
    let at = admin(mesh);
    at.call("RegisterPeer", registration(&id)).ok();
    at.call(
        "CordonPeer",
        json!({ "id": id, "reason": "because", "ticket": "CHG-2" }),
    )
    .ok();
    let list = json!({ "target": target, "limit": 100 });
    let records = at.call("ListAuditRecords", list).ok();
    let items = records.json["items"].as_array().unwrap();
    assert!(
        items
            .iter()
            .all(|item| item["receivedAt"].is_string() && item["proposedAt"].is_string()),
        "{records:?}"
    );
    let cordon = &items[1];
    assert_eq!(
        (&cordon["reason"], &cordon["ticket"]),
        (&json!("because"), &json!("CHG-2"))
    );
    assert_eq!(cordon["changes"][0]["before"]["peer"]["status"], "ACTIVE");
    assert_eq!(cordon["changes"][0]["after"]["peer"]["status"], "CORDONED");
    let odd = "a b&c=d/é";
    let at = caller(mesh, leader(mesh), Wire::H2, "observe");
    let none = at
        .get(&format!("/meshkit/audit?target={}&outcome=rejected", encoded(odd)))
        .ok();
    assert_eq!(
        none.json["items"],
        json!([]),
        "a query is decoded, and enum words are read in any case"
    );
    assert_eq!(
        at.clone()
            .with(header::ACCEPT.as_str(), "*/*")
            .get("/meshkit/audit?limit=1")
            .ok()
            .json["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let sdk = builder(mesh, "operate").build().unwrap();
    let patch = PatchPeerRequest {
        id: "nobody".into(),
        ..Default::default()
    };
    assert_eq!(wait(sdk.patch_peer(patch)).unwrap_err().code(), "not_found");
}

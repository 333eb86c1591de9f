//! Shards as operators and automation see them, over every wire: who may ask, lists and their order, pages of one revision,
//! as-of reads down to the floor, history, differences, simulations, keys, moves that wait for peers, and what is refused
//! (S1 to S5, S9 to S11).

use std::collections::BTreeMap;

use node_harness::{Mesh, Options, wait_until};
use proto::methods::Scope;
use serde_json::{Value, json};

use super::{
    peers::Alive,
    shared::on_one_mesh,
    wire::{Caller, Reply, Wire, method},
    world::{SOON, admin, caller, follower, leader, unique},
};

/// Both forms of the API over HTTP/2 and HTTP/3.
const WIRES: [Wire; 4] = [Wire::H2, Wire::Grpc, Wire::H3, Wire::GrpcH3];

on_one_mesh! {
    Options::default;
    every_scope_may_what_it_may,
    lists_are_the_same_over_every_wire_and_on_every_node,
    pages_show_one_revision_while_shards_change,
    a_shard_is_read_as_it_was,
    differences_and_simulations_change_nothing,
    a_peer_that_weighs_more_takes_what_was_simulated,
    a_move_waits_for_its_peers,
    what_is_wrong_is_refused_with_the_way_out,
    shards_of_a_namespace_come_and_go,
}

/// Two peers in two zones and a namespace of their own, whole.
struct Placed {
    namespace: String,
    peers: [String; 2],
}

impl Placed {
    fn on(mesh: &Mesh, shards: u32) -> Self {
        let namespace = unique("shards");
        let peers = ["a", "b"].map(|zone| format!("{namespace}-{zone}"));
        let at = admin(mesh);
        for (peer, zone) in peers.iter().zip(["a", "b"]) {
            let labels = json!({ "of": namespace, "zone": zone });
            let zone = format!("{namespace}-{zone}");
            let peer = json!({ "id": peer, "endpoints": ["127.0.0.1:9000"], "zone": zone, "labels": labels });
            at.call("RegisterPeer", peer).ok();
        }
        let made = json!({ "id": namespace, "shards": shards, "selector": format!("of={namespace}") });
        let made = at.call("CreateNamespace", made).ok();
        assert_eq!(made.str("phase"), "CREATING");
        let whole = || at.call("GetNamespace", json!({ "id": namespace })).ok().str("phase") == "ACTIVE";
        wait_until(SOON, "the shards to be made", whole).unwrap();
        let operation = at.call("GetOperation", json!({ "id": made.str("operation") })).ok();
        assert_eq!(
            (operation.str("state"), &operation.json["done"]),
            ("SUCCEEDED", &json!(shards))
        );
        Self { namespace, peers }
    }

    fn shard(&self, shard: u32) -> Value {
        json!({ "namespace": self.namespace, "shard": shard })
    }

    fn with(&self, shard: u32, more: Value) -> Value {
        let mut request = self.shard(shard);
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request
    }
}

fn items(list: &Reply) -> Vec<Value> {
    list.json["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{list:?}"))
        .clone()
}

/// Each method by the holder of each scope: allowed from its own on, and by nobody else who is not the peer.
fn every_scope_may_what_it_may(mesh: &Mesh) {
    let placed = Placed::on(mesh, 4);
    let calls = [
        ("ListNamespaces", json!({})),
        ("GetNamespace", json!({ "id": placed.namespace })),
        ("ListShards", json!({ "namespace": placed.namespace })),
        ("GetShard", placed.shard(0)),
        ("LocateShard", json!({ "namespace": placed.namespace, "key": "k" })),
        ("ListShardHistory", placed.shard(0)),
        (
            "DiffShards",
            json!({ "namespace": placed.namespace, "fromRevision": leaders_revision(mesh) }),
        ),
        ("SimulateShards", json!({ "namespace": placed.namespace })),
        ("PauseShard", placed.shard(1)),
        ("ResumeShard", placed.shard(1)),
        ("DisableShard", placed.shard(2)),
        ("EnableShard", placed.shard(2)),
        (
            "SetNamespacePolicy",
            json!({ "id": placed.namespace, "policy": { "movesMax": 3 } }),
        ),
        (
            "ReshapeNamespace",
            json!({ "id": placed.namespace, "dryRun": true, "movedPermilleMax": 1000 }),
        ),
        (
            "DeleteNamespace",
            json!({ "id": placed.namespace, "force": true, "dryRun": true }),
        ),
        (
            "CreateNamespace",
            json!({ "id": unique("dry"), "shards": 3, "dryRun": true }),
        ),
        ("AcknowledgeMove", placed.shard(0)),
    ];
    let people = [
        ("read", Scope::Read),
        ("observe", Scope::Observe),
        ("operate", Scope::Operate),
        ("admin", Scope::Admin),
    ];
    for (who, holds) in people {
        for (wire, (rpc, request)) in WIRES
            .into_iter()
            .flat_map(|wire| calls.iter().map(move |call| (wire, call)))
        {
            let reply = caller(mesh, leader(mesh), wire, who).call(rpc, request.clone());
            let needed = method(rpc).scope;
            match needed != Scope::Peer && holds >= needed {
                true => drop(reply.ok()),
                false => assert_eq!(reply.refused("scope_missing").str("missingScope"), needed.as_str()),
            }
        }
    }
}

fn leaders_revision(mesh: &Mesh) -> u64 {
    admin(mesh)
        .call("ListNamespaces", json!({ "limit": 1 }))
        .ok()
        .revision()
}

fn lists_are_the_same_over_every_wire_and_on_every_node(mesh: &Mesh) {
    let placed = Placed::on(mesh, 40);
    let at = admin(mesh);
    for shard in [3, 17] {
        at.call(
            "PauseShard",
            placed.with(shard, json!({ "reason": "r", "ticket": "T-9" })),
        )
        .ok();
    }
    let [one, _] = &placed.peers;
    let namespace = &placed.namespace;
    let whole = at
        .call("ListShards", json!({ "namespace": namespace, "limit": 1000 }))
        .ok();
    let all = items(&whole);
    assert_eq!(all.len(), 40);
    let of =
        |selects: &dyn Fn(&Value) -> bool| -> Vec<Value> { all.iter().filter(|one| selects(one)).cloned().collect() };
    let owned = of(&|shard| shard["owner"] == **one);
    let paused = of(&|shard| shard["status"] == "PAUSED");
    assert!(!owned.is_empty() && owned.len() < 40 && paused.len() == 2, "{whole:?}");
    assert_eq!((&paused[0]["shard"], &paused[0]["ticket"]), (&json!(3), &json!("T-9")));
    for node in mesh.ids() {
        for wire in WIRES {
            let at = caller(mesh, node, wire, "read");
            let list = |more: Value| {
                let mut request = json!({ "namespace": namespace, "limit": 1000 });
                request
                    .as_object_mut()
                    .unwrap()
                    .extend(more.as_object().unwrap().clone());
                let list = at.call("ListShards", request).ok();
                assert!(!list.etag().is_empty() && list.json["epoch"] == 1, "{list:?}");
                assert!(list.json["versionVector"].is_object() && list.revision() >= whole.revision());
                items(&list)
            };
            assert_eq!(list(json!({})), all);
            assert_eq!(list(json!({ "owner": one })), owned);
            assert_eq!(list(json!({ "status": "PAUSED" })), paused);
            assert_eq!(list(json!({ "zone": format!("{namespace}-a") })), owned);
            assert_eq!(list(json!({ "selector": "zone=a" })), owned);
            let changed = list(json!({ "sort": "CHANGED" }));
            assert_eq!((&changed[0]["shard"], &changed[1]["shard"]), (&json!(17), &json!(3)));
            let by_owner = list(json!({ "sort": "OWNER" }));
            assert_eq!(by_owner[..owned.len()], owned);
        }
    }
    // REST sends nothing where nothing has changed; other tests change what the revision is.
    let path = format!("/meshkit/shards?namespace={namespace}");
    let not_sent = || {
        let first = caller(mesh, leader(mesh), Wire::H2, "read").get(&path).ok();
        let again = caller(mesh, leader(mesh), Wire::H2, "read").with("if-none-match", first.header("etag"));
        again.get(&path).status == 304
    };
    wait_until(SOON, "two reads without a change in between", not_sent).unwrap();
}

fn pages_show_one_revision_while_shards_change(mesh: &Mesh) {
    let placed = Placed::on(mesh, 50);
    for (sort, wire) in ["ID", "OWNER", "CHANGED"].into_iter().zip(WIRES) {
        let list = |node: u64, limit: u32, cursor: &str| {
            let request = json!({ "namespace": placed.namespace, "sort": sort, "limit": limit, "cursor": cursor });
            caller(mesh, node, wire, "read").call("ListShards", request)
        };
        let whole = items(&list(1, 1000, "").ok());
        let (mut seen, mut cursor, mut revision) = (Vec::new(), String::new(), None);
        for page in 0_u32.. {
            let nodes = mesh.ids();
            let shown = list(nodes[page as usize % nodes.len()], 7, &cursor).ok();
            assert_eq!(
                *revision.get_or_insert(shown.json["revision"].clone()),
                shown.json["revision"]
            );
            seen.extend(items(&shown));
            cursor = shown.str("nextCursor").to_owned();
            if cursor.is_empty() {
                break;
            }
            let verb = if sort == "OWNER" { "ResumeShard" } else { "PauseShard" };
            admin(mesh).call(verb, placed.shard(page * 5)).ok();
        }
        assert_eq!(seen, whole, "{sort}");
        let cursor = list(1, 7, "").ok().str("nextCursor").to_owned();
        let other = json!({ "namespace": placed.namespace, "sort": sort, "status": "PAUSED", "cursor": cursor });
        let refused = caller(mesh, 1, wire, "read")
            .call("ListShards", other)
            .refused("token_mismatch");
        assert!(!refused.str("hint").is_empty(), "{refused:?}");
    }
}

fn a_shard_is_read_as_it_was(mesh: &Mesh) {
    let placed = Placed::on(mesh, 2);
    let at = admin(mesh);
    let first = at.call("GetShard", placed.shard(1)).ok();
    let told = json!({ "reason": "worn out", "ticket": "CHG-7" });
    let disabled = at.call("DisableShard", placed.with(1, told)).ok();
    let enabled = at.call("EnableShard", placed.shard(1)).ok();
    let epoch = |shard: &Reply| shard.json["token"]["shardEpoch"].as_u64().unwrap();
    assert_eq!(epoch(&disabled), epoch(&first) + 1);
    for node in mesh.ids() {
        for wire in WIRES {
            let at = caller(mesh, node, wire, "read");
            let was = |revision: &Value| at.call("GetShard", placed.with(1, json!({ "atRevision": revision })));
            for then in [&first, &disabled, &enabled] {
                let seen = was(&then.json["changedRevision"]).ok();
                assert_eq!((&seen.json, seen.etag()), (&then.json, then.etag()));
            }
            let before = first.json["createdRevision"].as_u64().unwrap() - 1;
            was(&json!(before)).refused("not_found");
            was(&json!(1_000_000_000)).refused("invalid_argument");
            let history = at.call("ListShardHistory", placed.with(1, json!({ "limit": 2 }))).ok();
            let rest = placed.with(1, json!({ "limit": 2, "cursor": history.json["nextCursor"] }));
            let entries = [items(&history), items(&at.call("ListShardHistory", rest).ok())].concat();
            let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
            assert_eq!(actions, ["shards.enable", "shards.disable", "namespaces.shape"]);
            let told = &entries[1];
            assert_eq!(
                (&told["reason"], &told["ticket"]),
                (&json!("worn out"), &json!("CHG-7"))
            );
            assert_eq!(
                (&told["previousOwner"], &told["shard"]),
                (&first.json["owner"], &disabled.json)
            );
        }
    }
}

fn differences_and_simulations_change_nothing(mesh: &Mesh) {
    let placed = Placed::on(mesh, 30);
    let at = admin(mesh);
    let namespace = &placed.namespace;
    let [one, two] = &placed.peers;
    let before = at
        .call("ListShards", json!({ "namespace": namespace, "limit": 1000 }))
        .ok();
    let owned = items(&before).iter().filter(|shard| shard["owner"] == **one).count();
    let at_first = items(&before)[0]["owner"].clone();
    let epoch = items(&before)[0]["token"]["shardEpoch"].as_u64().unwrap();
    let to = if at_first == **one { two } else { one };
    let moved = at
        .call("MoveShard", placed.with(0, json!({ "to": to, "reason": "closer" })))
        .ok();
    assert_eq!(
        (moved.str("owner"), moved.str("status")),
        (to.as_str(), "ACTIVE"),
        "nobody has to be waited for"
    );
    for node in mesh.ids() {
        for wire in WIRES {
            let at = caller(mesh, node, wire, "read");
            let diff = json!({ "namespace": namespace, "fromRevision": before.json["revision"] });
            let diff = at.call("DiffShards", diff).ok();
            let change = json!({ "namespace": namespace, "shard": 0, "ownerBefore": at_first, "ownerAfter": to,
                "epochBefore": epoch, "epochAfter": epoch + 1, "unavoidable": false });
            assert_eq!(
                (&diff.json["changes"], &diff.json["moved"]),
                (&json!([change]), &json!(1)),
                "{diff:?}"
            );
            let lost = at
                .call("SimulateShards", json!({ "namespace": namespace, "without": [two] }))
                .ok();
            assert_eq!(lost.json["moved"], lost.json["unavoidable"], "{lost:?}");
            let moved = lost.json["moved"].as_u64().unwrap();
            assert!(
                moved.abs_diff(30 - owned as u64) <= 1 && lost.json["rounds"].as_u64() >= Some(1),
                "{lost:?}"
            );
            let nobody = at
                .call(
                    "SimulateShards",
                    json!({ "namespace": namespace, "without": [one, two] }),
                )
                .ok();
            assert_eq!(nobody.json["unowned"], 30, "{nobody:?}");
            let failed = nobody.json["guardrails"]
                .as_array()
                .unwrap()
                .iter()
                .any(|rail| rail["passed"] == false);
            assert!(failed, "{nobody:?}");
            for (scenario, field) in [
                (
                    json!({ "namespace": namespace, "nodes": [{ "id": one }, { "id": one }] }),
                    "nodes",
                ),
                (
                    json!({ "namespace": namespace, "nodes": [{ "id": one, "weight": 0 }] }),
                    "weight",
                ),
                (json!({ "namespace": namespace, "without": ["nobody"] }), "without"),
            ] {
                let refused = at.call("SimulateShards", scenario).refused("invalid_argument");
                assert_eq!(refused.str("field"), field, "{refused:?}");
            }
        }
    }
    let after = at
        .call("ListShards", json!({ "namespace": namespace, "limit": 1000 }))
        .ok();
    assert_eq!(items(&after)[1..], items(&before)[1..]);
}

/// S4: a weight is simulated, set, and its namespace reshaped: each shard is where the simulation has put it.
fn a_peer_that_weighs_more_takes_what_was_simulated(mesh: &Mesh) {
    for wire in WIRES {
        let placed = Placed::on(mesh, 60);
        let at = caller(mesh, follower(mesh), wire, "admin").with("mesh-route", "forward");
        let id = &placed.peers[0];
        let owners = || -> BTreeMap<u64, String> {
            let list = json!({ "namespace": placed.namespace, "limit": 1000 });
            let shards = items(&admin(mesh).call("ListShards", list).ok()).to_vec();
            let owner = |shard: &Value| {
                (
                    shard["shard"].as_u64().unwrap(),
                    shard["owner"].as_str().unwrap().to_owned(),
                )
            };
            shards.iter().map(owner).collect()
        };
        let mut expected = owners();
        let heavier =
            json!({ "namespace": placed.namespace, "nodes": [{ "id": id, "weight": 300 }], "movedPermilleMax": 1000 });
        let simulated = at.call("SimulateShards", heavier).ok();
        let changes = simulated.json["changes"].as_array().unwrap();
        assert!(
            (8..=22).contains(&changes.len()),
            "a half becomes three quarters: {simulated:?}"
        );
        for change in changes {
            let shard = change["shard"].as_u64().unwrap();
            expected.insert(shard, change["ownerAfter"].as_str().unwrap().to_owned());
        }
        for wrong in [json!({ "id": id, "weight": 0 }), json!({ "id": id, "weight": 10_001 })] {
            let refused = at.call("PatchPeer", wrong).refused("invalid_argument");
            assert_eq!(refused.str("field"), "weight", "{refused:?}");
        }
        let patched = at.call("PatchPeer", json!({ "id": id, "weight": 300 })).ok();
        assert_eq!(patched.json["weight"], 300, "{patched:?}");
        let reshape = json!({ "id": placed.namespace, "movedPermilleMax": 1000 });
        at.call("ReshapeNamespace", reshape).ok();
        wait_until(SOON, "the shards to be where they were simulated", || {
            owners() == expected
        })
        .unwrap();
    }
}

/// An exclusive move between two peers that are there: target ready, source stopped, switched. Only they may say so.
fn a_move_waits_for_its_peers(mesh: &Mesh) {
    let placed = Placed::on(mesh, 16);
    let peers = placed.peers.each_ref().map(String::as_str);
    let alive = Alive::begin(mesh, &peers);
    for (shard, wire) in (0..).zip(WIRES) {
        let at = admin(mesh);
        let before = at.call("GetShard", placed.shard(shard)).ok();
        let source = before.str("owner").to_owned();
        let target = peers.into_iter().find(|peer| *peer != source).unwrap();
        let as_peer = |peer: &str| -> Caller { caller(mesh, leader(mesh), wire, "read").bearer(&alive.tokens[peer]) };
        let ask = json!({ "to": target, "reason": "closer", "ticket": "T-2" });
        let moving = at.call("MoveShard", placed.with(shard, ask)).ok();
        assert_eq!((moving.str("status"), moving.str("owner")), ("MOVING", source.as_str()));
        assert_eq!(moving.json["moving"]["step"], "PREPARING", "{moving:?}");
        let said = |step: &str, token: &Value| {
            let begun = &moving.json["moving"]["begun"];
            placed.with(shard, json!({ "begun": begun, "step": step, "token": token }))
        };
        let token = &before.json["token"];
        as_peer(&source)
            .call("AcknowledgeMove", said("PREPARING", token))
            .refused("not_waited_for");
        as_peer(target)
            .call("AcknowledgeMove", said("STOPPING", token))
            .refused("move_over");
        let old = json!({ "meshEpoch": 1, "shardEpoch": 0 });
        let stale = as_peer(target)
            .call("AcknowledgeMove", said("PREPARING", &old))
            .refused("stale_token");
        let current = token["shardEpoch"].as_u64().unwrap();
        assert_eq!(
            (stale.str("measured"), stale.str("limit")),
            ("1.0", format!("1.{current}").as_str()),
            "{stale:?}"
        );
        at.call("PauseShard", placed.shard(shard)).refused("shard_transition");
        let stopping = as_peer(target).call("AcknowledgeMove", said("PREPARING", token)).ok();
        assert_eq!(
            (&stopping.json["moving"]["step"], stopping.str("owner")),
            (&json!("STOPPING"), source.as_str())
        );
        let moved = as_peer(&source).call("AcknowledgeMove", said("STOPPING", token)).ok();
        assert_eq!(
            (moved.str("status"), moved.str("owner")),
            ("ACTIVE", target),
            "{moved:?}"
        );
        assert_eq!(
            moved.json["token"],
            json!({ "meshEpoch": 1, "shardEpoch": current + 1 })
        );
        // And one that is taken back.
        let back = at.call("MoveShard", placed.with(shard, json!({ "to": source }))).ok();
        assert_eq!(back.str("status"), "MOVING");
        let stays = caller(mesh, leader(mesh), wire, "operate")
            .call("CancelMove", placed.shard(shard))
            .ok();
        assert_eq!((stays.str("status"), stays.str("owner")), ("ACTIVE", target));
        let over = at.call("CancelMove", placed.shard(shard)).refused("move_over");
        assert_eq!(over.str("measured"), "no move", "{over:?}");
    }
    let counted = || {
        let text = caller(mesh, leader(mesh), Wire::H2, "observe")
            .get("/metrics")
            .ok()
            .text;
        let has = |sample: &str| text.lines().any(|line| line.starts_with(sample));
        has("meshkit_shard_moves_total{end=\"moved\"}") && has("meshkit_shard_moves_total{end=\"cancelled\"}")
    };
    wait_until(SOON, "the moves to be counted", counted).unwrap();
}

fn what_is_wrong_is_refused_with_the_way_out(mesh: &Mesh) {
    let placed = Placed::on(mesh, 4);
    let [one, two] = &placed.peers;
    let namespace = &placed.namespace;
    let cordoned = json!({ "id": two });
    admin(mesh).call("CordonPeer", cordoned).ok();
    let owned = |peer: &str| {
        let list = admin(mesh)
            .call("ListShards", json!({ "namespace": namespace, "owner": peer }))
            .ok();
        u32::try_from(items(&list)[0]["shard"].as_u64().unwrap()).unwrap()
    };
    let of_one = owned(one);
    let cases = [
        ("GetShard", json!({ "namespace": "nobody", "shard": 0 }), "not_found"),
        ("GetShard", placed.shard(4), "not_found"),
        ("LocateShard", json!({ "namespace": "nobody", "key": "k" }), "not_found"),
        ("LocateShard", json!({ "namespace": namespace }), "invalid_argument"),
        ("ListShards", json!({ "namespace": "nobody" }), "not_found"),
        ("ListShards", json!({ "owner": "nobody" }), "not_found"),
        ("ListShards", json!({ "cursor": "abc" }), "token_mismatch"),
        ("ListShards", json!({ "limit": 1001 }), "invalid_argument"),
        ("ListShards", json!({ "selector": "=" }), "invalid_argument"),
        ("DiffShards", json!({ "namespace": namespace }), "invalid_argument"),
        (
            "DiffShards",
            json!({ "fromRevision": 1_000_000_000_u64 }),
            "invalid_argument",
        ),
        ("SimulateShards", json!({ "namespace": "nobody" }), "not_found"),
        ("MoveShard", placed.with(of_one, json!({ "to": one })), "shard_there"),
        ("MoveShard", placed.with(of_one, json!({ "to": two })), "target_unfit"),
        ("MoveShard", placed.with(of_one, json!({ "to": "nobody" })), "not_found"),
        ("MoveShard", placed.with(9, json!({ "to": one })), "not_found"),
        (
            "CreateNamespace",
            json!({ "id": namespace, "shards": 4 }),
            "already_exists",
        ),
        (
            "CreateNamespace",
            json!({ "id": unique("none"), "shards": 0 }),
            "invalid_argument",
        ),
        (
            "ReshapeNamespace",
            json!({ "id": namespace, "shards": 5 }),
            "shard_count_fixed",
        ),
        ("ReshapeNamespace", json!({ "id": "nobody" }), "not_found"),
        ("DeleteNamespace", json!({ "id": namespace }), "namespace_in_use"),
        (
            "DeleteNamespace",
            json!({ "id": namespace, "force": true }),
            "confirmation_required",
        ),
        (
            "DeleteNamespace",
            json!({ "id": namespace, "force": true, "confirm": "other" }),
            "invalid_argument",
        ),
    ];
    for wire in WIRES {
        let at = caller(mesh, leader(mesh), wire, "admin");
        for (rpc, request, code) in &cases {
            let refused = at.call(rpc, request.clone()).refused(code);
            assert!(
                !refused.str("hint").is_empty() && !refused.str("detail").is_empty(),
                "{rpc}: {refused:?}"
            );
        }
    }
}

/// A namespace from its making to its end, at a follower that carries what it is asked; with its shape changed in between.
fn shards_of_a_namespace_come_and_go(mesh: &Mesh) {
    let placed = Placed::on(mesh, 60);
    let namespace = &placed.namespace;
    let at = caller(mesh, follower(mesh), Wire::Grpc, "admin").with("mesh-route", "forward");
    // One of its two peers is not wanted any more, so that whatever that one owns goes to the other.
    let narrower = format!("of={namespace},zone=a");
    let shape =
        |name: &str| json!({ name: namespace, "strategy": "RING", "selector": narrower, "movedPermilleMax": 1000 });
    let (reshape, simulated) = (shape("id"), shape("namespace"));
    let simulated = at.call("SimulateShards", simulated).ok();
    let before = at
        .call("ListShards", json!({ "namespace": namespace, "limit": 1 }))
        .ok();
    let going = at.call("ReshapeNamespace", reshape).ok();
    assert_eq!(going.str("strategy"), "RING");
    let ended = |phase: &str| {
        let shown = at.call("GetNamespace", json!({ "id": namespace }));
        match phase {
            "" => shown.code() == "not_found",
            phase => shown.ok().str("phase") == phase,
        }
    };
    wait_until(SOON, "the namespace to have its new shape", || ended("ACTIVE")).unwrap();
    let diff = json!({ "namespace": namespace, "fromRevision": before.json["revision"] });
    let diff = at.call("DiffShards", diff).ok();
    let owners = |answer: &Reply| -> Vec<(Value, Value)> {
        let changes = answer.json["changes"].as_array().unwrap().iter();
        changes
            .map(|change| (change["shard"].clone(), change["ownerAfter"].clone()))
            .collect()
    };
    assert_eq!(owners(&diff), owners(&simulated), "what was simulated is what was done");
    assert!(
        !owners(&diff).is_empty() && owners(&diff).iter().all(|(_, owner)| *owner == *placed.peers[0]),
        "{diff:?}"
    );
    let gone = json!({ "id": namespace, "force": true, "confirm": namespace, "reason": "done with" });
    assert_eq!(at.call("DeleteNamespace", gone).ok().str("phase"), "DELETING");
    wait_until(SOON, "the namespace to be gone", || ended("")).unwrap();
    at.call("GetShard", placed.shard(0)).refused("not_found");
    let history = at.call("ListShardHistory", placed.shard(0)).ok();
    let last = &items(&history)[0];
    assert!(
        last["shard"].is_null() && !last["previousOwner"].as_str().unwrap().is_empty(),
        "{history:?}"
    );
}

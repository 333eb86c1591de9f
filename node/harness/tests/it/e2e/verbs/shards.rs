//! The rows of namespaces and shards.
//!
//! Shards that rest are owned by peers that nobody hears of; those that are on their way by two that send heartbeats, so that
//! a move waits for them.

use std::sync::atomic::{AtomicU32, Ordering};

use node_harness::{Mesh, wait_until};
use serde_json::{Value, json};

use super::{
    rows::{Noted, OUTDATED, Row, Rule, command, outdated, read},
    world::{Ask, World},
};
use crate::e2e::{
    peers::Alive,
    wire::Caller,
    world::{SOON, admin, unique},
};

/// Enough for one of its own for each call.
const SHARDS: u32 = 2_048;
/// The peer that acknowledges.
pub const TARGET: &str = "acts-2";

/// What the rows are about.
pub struct Prepared {
    pub alive: Alive,
    next: AtomicU32,
}

impl Prepared {
    /// Registers the peers, keeps two of them alive, and makes a namespace of each kind.
    pub fn on(mesh: &Mesh) -> Self {
        let admin = admin(mesh);
        for (id, of) in [
            ("rests-1", "rests"),
            ("rests-2", "rests"),
            ("acts-1", "acts"),
            (TARGET, "acts"),
        ] {
            let peer = json!({ "id": id, "endpoints": ["127.0.0.1:9000"], "labels": { "of": of } });
            make(&admin, "RegisterPeer", &peer);
        }
        let alive = Alive::begin(mesh, &["acts-1", TARGET]);
        for of in ["rests", "acts"] {
            let namespace = json!({
                "id": of, "shards": SHARDS, "selector": format!("of={of}"),
                "policy": { "movesMax": 10_000, "step": "3600s" },
            });
            make(&admin, "CreateNamespace", &namespace);
            let whole = || admin.call("GetNamespace", json!({ "id": of })).str("phase") == "ACTIVE";
            wait_until(SOON, "the shards to be made", whole).unwrap();
        }
        Self {
            alive,
            next: AtomicU32::new(0),
        }
    }

    fn next(&self) -> u32 {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(next < SHARDS, "more calls than shards");
        next
    }
}

/// Makes something, also where a node was started again a moment ago and the others elect.
fn make(admin: &Caller, rpc: &str, request: &Value) {
    let is_made = || {
        let made = admin.call(rpc, request.clone());
        made.is_ok() || made.code() == "already_exists"
    };
    wait_until(SOON, "what the rows are about", is_made).unwrap();
}

fn of_shard(namespace: &str, shard: u32) -> Ask {
    let request = json!({ "namespace": namespace, "shard": shard });
    Ask::new(request, format!("shard/{namespace}/{shard}"))
}

/// A shard of its own.
fn resting(world: &World<'_>) -> Ask {
    of_shard("rests", world.shards.next())
}

/// The same, once that has been done with it.
fn held(world: &World<'_>, rpc: &str) -> Ask {
    let ask = resting(world);
    world.make("admin", rpc, ask.request.clone()).ok();
    ask
}

/// A shard on its way to [`TARGET`], and what it is.
fn moving(world: &World<'_>) -> (Ask, Value) {
    loop {
        let ask = of_shard("acts", world.shards.next());
        let shard = world.make("admin", "GetShard", ask.request.clone()).ok();
        if shard.str("owner") != "acts-1" {
            continue;
        }
        let to = ask.clone().and(json!({ "to": TARGET }));
        let moving = world.make("admin", "MoveShard", to.request).ok();
        assert_eq!(moving.str("status"), "MOVING", "{moving:?}");
        return (ask, moving.json);
    }
}

/// Under a token that is ahead of the shard's by so much.
fn acknowledgment(world: &World<'_>, ahead: u64) -> Ask {
    let (ask, shard) = moving(world);
    let epoch = shard["token"]["shardEpoch"].as_u64().unwrap() + ahead;
    let token = json!({ "meshEpoch": shard["token"]["meshEpoch"], "shardEpoch": epoch });
    let begun = &shard["moving"]["begun"];
    ask.and(json!({ "begun": begun, "step": shard["moving"]["step"], "token": token }))
        .by("peer")
}

fn of_namespace(id: &str) -> Ask {
    Ask::new(json!({ "id": id }), format!("namespace/{id}"))
}

/// A namespace of its own that is whole.
fn whole(world: &World<'_>) -> Ask {
    let id = unique("verb");
    let made = json!({ "id": id, "shards": 1, "selector": "of=rests" });
    world.make("admin", "CreateNamespace", made).ok();
    let is_whole = || {
        world
            .make("admin", "GetNamespace", json!({ "id": id }))
            .ok()
            .str("phase")
            == "ACTIVE"
    };
    wait_until(SOON, "the namespace's shard", is_whole).unwrap();
    of_namespace(&id)
}

fn unused(world: &World<'_>) -> Ask {
    let ask = whole(world);
    let shard = json!({ "namespace": ask.request["id"], "shard": 0 });
    world.make("admin", "DisableShard", shard).ok();
    ask
}

fn rejected(ask: fn(&World<'_>) -> Ask, code: &'static str) -> Rule {
    Rule::By(ask, code, Noted::Rejected(code))
}

pub fn reads() -> Vec<Row> {
    vec![
        read("Heartbeat", |_| Ask::new(json!({ "id": TARGET }), "").by("peer")),
        read("ListPresence", |_| Ask::new(json!({ "limit": 3 }), "")),
        read("ListNamespaces", |_| Ask::new(json!({ "limit": 3 }), "")),
        read("GetNamespace", |_| of_namespace("rests")),
        read("ListShards", |_| Ask::new(json!({ "limit": 3, "owner": "acts-1" }), "")),
        read("GetShard", resting),
        read("LocateShard", |_| {
            Ask::new(json!({ "namespace": "rests", "key": "k" }), "")
        }),
        read("ListShardHistory", resting),
        read("DiffShards", |world| {
            let now = world.make("admin", "ListShards", json!({ "limit": 1 })).ok();
            Ask::new(json!({ "fromRevision": now.json["revision"] }), "")
        }),
        read("SimulateShards", |_| {
            Ask::new(json!({ "namespace": "rests", "without": ["rests-1"] }), "")
        }),
    ]
}

pub fn namespaces() -> Vec<Row> {
    vec![
        command(
            "CreateNamespace",
            |_| of_namespace(&unique("verb")).and(json!({ "shards": 1 })),
            rejected(|_| of_namespace("rests").and(json!({ "shards": 1 })), "already_exists"),
        ),
        command(
            "ReshapeNamespace",
            |world| whole(world).and(json!({ "replicas": 1 })),
            rejected(
                |_| of_namespace("rests").and(json!({ "shards": 7 })),
                "shard_count_fixed",
            ),
        ),
        command(
            "SetNamespacePolicy",
            |world| whole(world).and(json!({ "policy": { "step": "90s" } })),
            Rule::By(
                |_| outdated(of_namespace("rests").and(json!({ "policy": { "step": "90s" } }))),
                "revision_mismatch",
                OUTDATED,
            ),
        ),
        command(
            "DeleteNamespace",
            unused,
            rejected(|_| of_namespace("rests"), "namespace_in_use"),
        ),
    ]
}

pub fn shards() -> Vec<Row> {
    vec![
        command(
            "MoveShard",
            |world| moved(world, false),
            rejected(|world| moved(world, true), "shard_there"),
        ),
        command("CancelMove", |world| moving(world).0, rejected(resting, "move_over")),
        command(
            "AcknowledgeMove",
            |world| acknowledgment(world, 0),
            rejected(|world| acknowledgment(world, 77), "stale_token"),
        ),
        command(
            "PauseShard",
            resting,
            rejected(|world| held(world, "DisableShard"), "shard_transition"),
        ),
        command(
            "ResumeShard",
            |world| held(world, "PauseShard"),
            rejected(|world| held(world, "DisableShard"), "shard_transition"),
        ),
        command(
            "DisableShard",
            resting,
            rejected(|world| moving(world).0, "shard_transition"),
        ),
        command(
            "EnableShard",
            |world| held(world, "DisableShard"),
            rejected(|world| held(world, "PauseShard"), "shard_transition"),
        ),
    ]
}

/// A move of a shard that rests, to its owner or to another one.
fn moved(world: &World<'_>, there: bool) -> Ask {
    let ask = resting(world);
    let owner = world
        .make("admin", "GetShard", ask.request.clone())
        .ok()
        .str("owner")
        .to_owned();
    let to = if (owner == "rests-1") == there {
        "rests-1"
    } else {
        "rests-2"
    };
    ask.and(json!({ "to": to }))
}

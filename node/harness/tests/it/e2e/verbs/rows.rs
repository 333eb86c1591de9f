//! The table: what each verb is asked, what its trail says, and which cases it has not, with why.

use std::time::Duration;

use node_harness::wait_until;
use serde_json::json;

use super::{
    shards,
    world::{Ask, World},
};
use crate::e2e::world::{SOON, registration, unique};

/// Whether a verb has a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Runs,
    /// It has not, and says so: whoever asks for it is refused with `invalid_argument`, and nothing happens.
    Refused(&'static str),
    /// There is nothing that it could be about.
    Void(&'static str),
}

/// What the trail has of a request that a rule stands against.
#[derive(Clone, Copy, Debug)]
pub enum Noted {
    /// A rejected command, with this code.
    Rejected(&'static str),
    /// A refusal, as it never became a command.
    Refusal,
}

/// A failed precondition.
#[derive(Clone, Copy)]
pub enum Rule {
    By(fn(&World<'_>) -> Ask, &'static str, Noted),
    None(&'static str),
}

/// What the trail has of a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trails {
    /// A record of its own.
    Record,
    /// None: it is counted and logged.
    Counted,
}

/// One verb.
pub struct Row {
    pub rpc: &'static str,
    /// Makes what a call needs, and answers the call. Each call has its own.
    pub ask: fn(&World<'_>) -> Ask,
    pub trails: Trails,
    pub stale_etag: Case,
    pub replay: Case,
    pub rule: Rule,
    pub dry_run: Case,
}

const READS: &str = "it reads, and changes nothing";
const NO_ETAG: &str = "what it changes is no record, and has no ETag";
const SESSION: &str = "a session is of one browser: a second one does no harm, and there is nothing to look at before";

/// A read.
pub fn read(rpc: &'static str, ask: fn(&World<'_>) -> Ask) -> Row {
    Row {
        rpc,
        ask,
        trails: Trails::Counted,
        stale_etag: Case::Void(READS),
        replay: Case::Void(READS),
        rule: Rule::None(READS),
        dry_run: Case::Void(READS),
    }
}

/// A command of the mesh: it has everything.
pub fn command(rpc: &'static str, ask: fn(&World<'_>) -> Ask, rule: Rule) -> Row {
    Row {
        rpc,
        ask,
        trails: Trails::Record,
        stale_etag: Case::Runs,
        replay: Case::Runs,
        rule,
        dry_run: Case::Runs,
    }
}

/// A change of the nodes.
fn nodes(rpc: &'static str, ask: fn(&World<'_>) -> Ask, rule: fn(&World<'_>) -> Ask, code: &'static str) -> Row {
    Row {
        stale_etag: Case::Refused(NO_ETAG),
        ..command(rpc, ask, Rule::By(rule, code, Noted::Refusal))
    }
}

/// What changes no record of the mesh's, and is no mutation by the contract.
fn aside(rpc: &'static str, ask: fn(&World<'_>) -> Ask, why: &'static str) -> Row {
    Row {
        rpc,
        ask,
        trails: Trails::Record,
        stale_etag: Case::Refused(NO_ETAG),
        replay: Case::Void(why),
        rule: Rule::None(why),
        dry_run: Case::Refused(why),
    }
}

fn nothing(_: &World<'_>) -> Ask {
    Ask::new(json!({}), "")
}

/// A command that says at which revision it was thought of, which is long past.
pub fn outdated(ask: Ask) -> Ask {
    ask.and(json!({ "ifRevision": 1 }))
}

pub const OUTDATED: Noted = Noted::Rejected("revision_mismatch");

/// Every verb, in no order.
pub fn all() -> Vec<Row> {
    [
        reads(),
        watches(),
        peers(),
        shards::reads(),
        shards::namespaces(),
        shards::shards(),
        approvals(),
        clusters(),
        settings(),
        members(),
        sessions(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn reads() -> Vec<Row> {
    vec![
        read("CanI", |_| Ask::new(json!({ "what": "peers.drain" }), "")),
        read("ListActions", nothing),
        read("GetStatus", nothing),
        read("ListMembers", nothing),
        read("ListAlarms", nothing),
        read("GetHistory", nothing),
        read("GetUpgrade", nothing),
        read("ListPeers", |_| Ask::new(json!({ "limit": 3 }), "")),
        read("GetPeer", |world| Ask::new(json!({ "id": world.peer() }), "")),
        read("ListOperations", |_| Ask::new(json!({ "limit": 3 }), "")),
        read("GetOperation", |world| Ask::new(json!({ "id": running(world) }), "")),
        read("ListClusters", nothing),
        read("GetCluster", |_| Ask::new(json!({ "id": "dev-1" }), "")),
        read("GetConfig", nothing),
        read("ListConfigVersions", nothing),
        read("ListApprovals", nothing),
        read("GetApproval", |world| {
            Ask::new(json!({ "id": staged(world, "admin") }), "")
        }),
        read("ListAuditRecords", |_| Ask::new(json!({ "limit": 3 }), "")),
        read("ListAuditCheckpoints", nothing),
        read("GetNodeReport", nothing),
        read("GetSession", |world| session(world, "")),
        Row {
            trails: Trails::Record,
            dry_run: Case::Refused("a backup changes nothing; that it is taken is in the trail"),
            ..read("SaveBackup", |world| {
                let mesh = &world.mesh.info().mesh;
                Ask::new(json!({}), format!("mesh/{mesh}"))
            })
        },
    ]
}

/// A watch for a moment.
fn watched(_: &World<'_>) -> Ask {
    Ask::new(json!({}), "").with("mesh-timeout", "2s")
}

fn watches() -> Vec<Row> {
    let all = [
        "Watch",
        "WatchPeers",
        "WatchOperations",
        "WatchClusters",
        "WatchConfig",
        "WatchApprovals",
        "WatchAudit",
        "WatchNamespaces",
        "WatchShards",
    ];
    all.map(|rpc| read(rpc, watched)).into()
}

fn of_peer(id: &str) -> Ask {
    Ask::new(json!({ "id": id }), format!("peer/{id}"))
}

/// A drain under way.
fn drained(world: &World<'_>) -> (String, String) {
    let peer = world.peer();
    let drained = world.make("admin", "DrainPeer", json!({ "id": peer })).ok();
    let operation = drained.str("operation").to_owned();
    (peer, operation)
}

fn running(world: &World<'_>) -> String {
    drained(world).1
}

/// A peer that alone bears a label.
fn labelled(world: &World<'_>) -> String {
    let (peer, label) = (world.peer(), unique("group"));
    world
        .make(
            "admin",
            "PatchPeer",
            json!({ "id": peer, "labels": { "group": label } }),
        )
        .ok();
    format!("group={label}")
}

fn peers() -> Vec<Row> {
    let draining = |world: &World<'_>| of_peer(&drained(world).0);
    vec![
        command(
            "RegisterPeer",
            |_| {
                let id = unique("verb");
                Ask::new(registration(&id), format!("peer/{id}"))
            },
            Rule::By(
                |world| {
                    let id = world.peer();
                    Ask::new(registration(&id), format!("peer/{id}"))
                },
                "already_exists",
                Noted::Rejected("already_exists"),
            ),
        ),
        command(
            "PatchPeer",
            |world| of_peer(&world.peer()).and(json!({ "labels": { "tier": "gold" } })),
            Rule::By(
                |world| outdated(of_peer(&world.peer()).and(json!({ "labels": { "tier": "gold" } }))),
                "revision_mismatch",
                OUTDATED,
            ),
        ),
        command(
            "DeregisterPeer",
            |world| of_peer(&world.peer()),
            Rule::By(draining, "peer_draining", Noted::Rejected("peer_draining")),
        ),
        command(
            "CordonPeer",
            |world| of_peer(&world.peer()),
            Rule::By(draining, "peer_draining", Noted::Rejected("peer_draining")),
        ),
        command(
            "UncordonPeer",
            |world| of_peer(&world.peer()),
            Rule::By(draining, "peer_draining", Noted::Rejected("peer_draining")),
        ),
        command(
            "DrainPeer",
            |world| of_peer(&world.peer()),
            Rule::By(
                |world| {
                    let (id, alone) = (unique("verb"), unique("alone"));
                    let only = json!({ "id": id, "cluster": alone, "endpoints": ["127.0.0.1:9000"] });
                    world.make("admin", "RegisterPeer", only).ok();
                    of_peer(&id)
                },
                "active_peers_low",
                Noted::Rejected("active_peers_low"),
            ),
        ),
        command(
            "UndrainPeer",
            draining,
            Rule::By(|world| outdated(of_peer(&world.peer())), "revision_mismatch", OUTDATED),
        ),
        Row {
            stale_etag: Case::Refused("it begins an operation on several records, of which none is meant"),
            ..command(
                "DrainPeers",
                |world| {
                    let selector = labelled(world);
                    Ask::new(json!({ "selector": selector }), format!("peers/{selector}"))
                },
                Rule::By(
                    |_| {
                        let selector = format!("group={}", unique("nobody"));
                        Ask::new(json!({ "selector": selector }), format!("peers/{selector}"))
                    },
                    "nothing_selected",
                    Noted::Rejected("nothing_selected"),
                ),
            )
        },
        command(
            "CancelOperation",
            |world| of_operation(&running(world)),
            Rule::By(
                |world| {
                    let id = running(world);
                    world.make("admin", "CancelOperation", json!({ "id": id })).ok();
                    of_operation(&id)
                },
                "operation_finished",
                Noted::Rejected("operation_finished"),
            ),
        ),
    ]
}

fn of_operation(id: &str) -> Ask {
    Ask::new(json!({ "id": id }), format!("operation/{id}"))
}

/// A forced drain that waits for a second person.
fn staged(world: &World<'_>, requester: &str) -> String {
    let peer = world.peer();
    let forced = json!({ "id": peer, "force": true, "confirm": peer, "reason": "a test" });
    let taken = world.make(requester, "DrainPeer", forced);
    assert_eq!(
        (taken.status, taken.str("status")),
        (202, "PENDING_APPROVAL"),
        "{taken:?}"
    );
    taken.str("id").to_owned()
}

fn of_approval(id: &str) -> Ask {
    Ask::new(json!({ "id": id }), format!("approval/{id}")).by("admin2")
}

fn approvals() -> Vec<Row> {
    vec![
        command(
            "ApproveApproval",
            |world| of_approval(&staged(world, "admin")),
            Rule::By(
                |world| of_approval(&staged(world, "admin2")),
                "approval_own",
                Noted::Rejected("approval_own"),
            ),
        ),
        command(
            "RejectApproval",
            |world| of_approval(&staged(world, "admin")).and(json!({ "reason": "not today" })),
            Rule::By(
                |world| {
                    let id = staged(world, "admin");
                    let rejection = json!({ "id": id, "reason": "not today" });
                    world.make("admin", "RejectApproval", rejection).ok();
                    of_approval(&id).and(json!({ "reason": "not today" }))
                },
                "approval_finished",
                Noted::Rejected("approval_finished"),
            ),
        ),
    ]
}

/// A cluster that follows nobody yet.
fn passive(world: &World<'_>) -> String {
    let id = unique("cluster");
    world
        .make("admin", "ApplyCluster", json!({ "id": id, "owners": ["sre"] }))
        .ok();
    id
}

fn of_cluster(id: &str) -> Ask {
    Ask::new(json!({ "id": id, "confirm": id }), format!("cluster/{id}"))
}

fn clusters() -> Vec<Row> {
    vec![
        command(
            "ApplyCluster",
            |_| {
                let id = unique("cluster");
                Ask::new(json!({ "id": id, "owners": ["sre"] }), format!("cluster/{id}"))
            },
            Rule::By(
                |world| {
                    let id = passive(world);
                    Ask::new(json!({ "id": id, "owners": ["net"] }), format!("cluster/{id}"))
                },
                "if_match_required",
                Noted::Rejected("already_exists"),
            ),
        ),
        command(
            "PromoteCluster",
            // The one that is active: there is no other that could be, in a mesh of one.
            |_| of_cluster("dev-1"),
            Rule::By(
                |world| of_cluster(&passive(world)),
                "replication_not_configured",
                Noted::Rejected("replication_not_configured"),
            ),
        ),
        command(
            "DemoteCluster",
            |world| of_cluster(&passive(world)),
            Rule::By(
                |_| of_cluster("dev-1"),
                "last_active_cluster",
                Noted::Rejected("last_active_cluster"),
            ),
        ),
    ]
}

fn of_config(request: serde_json::Value) -> Ask {
    Ask::new(request, "config/mesh")
}

fn of_mesh(world: &World<'_>, request: serde_json::Value) -> Ask {
    Ask::new(request, format!("mesh/{}", world.mesh.info().mesh))
}

/// The revision of the newest settings.
fn settled(world: &World<'_>) -> u64 {
    let config = world.make("admin", "GetConfig", json!({})).ok();
    config.json["changedRevision"].as_u64().unwrap()
}

fn settings() -> Vec<Row> {
    let set = |_: &World<'_>| of_config(json!({ "settings": { "limits.peers": 20_000 } }));
    vec![
        command(
            "PatchConfig",
            set,
            Rule::By(
                |_| outdated(of_config(json!({ "settings": { "limits.peers": 20_000 } }))),
                "revision_mismatch",
                OUTDATED,
            ),
        ),
        command(
            "RollbackConfig",
            |world| of_config(json!({ "toRevision": settled(world) })),
            Rule::By(
                |world| outdated(of_config(json!({ "toRevision": settled(world) }))),
                "revision_mismatch",
                OUTDATED,
            ),
        ),
        command(
            "CompactHistory",
            |world| of_mesh(world, json!({ "revision": 1 })),
            Rule::By(
                |world| of_mesh(world, json!({ "revision": settled(world) })),
                "history_in_use",
                Noted::Rejected("history_in_use"),
            ),
        ),
        command(
            "FinalizeUpgrade",
            // To where it is: there is no higher one.
            |world| {
                let status = world.make("admin", "GetUpgrade", json!({})).ok();
                of_mesh(world, json!({ "to": status.json["featureLevel"] }))
            },
            Rule::By(
                |world| of_mesh(world, json!({ "to": 99 })),
                "feature_level_unknown",
                Noted::Refusal,
            ),
        ),
    ]
}

/// An id that no node has.
fn fresh_node() -> u64 {
    unique("").trim_start_matches('-').parse::<u64>().unwrap() + 1_000
}

fn of_member(id: u64) -> Ask {
    Ask::new(json!({ "id": id }), format!("member/{id}"))
}

/// A member that does not vote, and that nobody has heard of.
fn learner(world: &World<'_>) -> u64 {
    let id = fresh_node();
    let add = json!({ "id": id, "api": "127.0.0.1:1", "raft": "127.0.0.1:2" });
    world.make("admin", "AddMember", add).ok();
    id
}

/// One that stays.
fn lagging(world: &World<'_>) -> u64 {
    *world.learner.get_or_init(|| learner(world))
}

/// Waits for the alarm of the node that says that its disk is full.
fn alarmed(world: &World<'_>) -> Ask {
    let node = world.full;
    let is_up = || {
        let alarms = world.make("admin", "ListAlarms", json!({})).ok();
        let mut items = alarms.json["items"].as_array().unwrap().iter();
        // What the cluster has agreed on says since when.
        items.any(|alarm| alarm["node"] == node && alarm["name"] == "NOSPACE" && alarm["since"].is_string())
    };
    wait_until(SOON, "the alarm", is_up).unwrap();
    Ask::new(
        json!({ "node": node, "name": "NOSPACE" }),
        format!("alarm/{node}/NOSPACE"),
    )
}

fn members() -> Vec<Row> {
    let unknown = |_: &World<'_>| of_member(fresh_node());
    vec![
        nodes(
            "InviteMember",
            |_| of_member(fresh_node()),
            |_| of_member(1),
            "member_exists",
        ),
        nodes(
            "AddMember",
            |_| of_member(fresh_node()).and(json!({ "api": "127.0.0.1:1", "raft": "127.0.0.1:2" })),
            |_| of_member(1).and(json!({ "api": "127.0.0.1:1", "raft": "127.0.0.1:2" })),
            "member_exists",
        ),
        nodes(
            "PromoteMember",
            // A voter stays one: `growing` promotes new ones, which takes a node.
            |_| of_member(1),
            |world| of_member(lagging(world)),
            "learner_lagging",
        ),
        nodes("RemoveMember", |world| of_member(learner(world)), unknown, "not_found"),
        nodes(
            "TransferLeadership",
            // It stays where it is: the rest of the table goes on meanwhile.
            |world| {
                let led = world.leader;
                Ask::new(json!({ "to": led }), format!("member/{led}"))
            },
            |world| {
                let to = lagging(world);
                Ask::new(json!({ "to": to }), format!("member/{to}"))
            },
            "not_a_voter",
        ),
        nodes(
            "DisarmAlarm",
            alarmed,
            |_| Ask::new(json!({ "node": 1_000, "name": "CLOCK" }), "alarm/1000/CLOCK"),
            "not_found",
        ),
        Row {
            rule: Rule::None("a filter is good or it is not"),
            ..aside(
                "SetLogLevel",
                |world| {
                    Ask::new(
                        json!({ "filter": "info", "forMs": 5_000 }),
                        format!("node/{}", world.leader),
                    )
                },
                "it is one node's own, ends by itself, and can be set again",
            )
        },
    ]
}

/// A request by way of a browser's session, which was begun for it.
fn session(world: &World<'_>, target: &str) -> Ask {
    let begun = world
        .make("operate", "BeginSession", json!({ "lifetime": "120s" }))
        .ok();
    let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
    let knows = || {
        let at = world.at(world.leader, crate::e2e::wire::Wire::H2);
        let at = at.with("cookie", &cookie).with("sec-fetch-site", "same-origin");
        at.get("/meshkit/session").is_ok()
    };
    wait_until(Duration::from_secs(10), "the session to be known", knows).unwrap();
    let mut ask = Ask::new(json!({}), target.replace("{id}", begun.str("id")))
        .with("cookie", cookie)
        .with("sec-fetch-site", "same-origin")
        .with("mesh-csrf-token", begun.str("csrfToken"));
    ask.who = None;
    ask
}

fn sessions() -> Vec<Row> {
    vec![
        aside(
            "BeginSession",
            |_| Ask::new(json!({ "lifetime": "120s" }), "session/{id}"),
            SESSION,
        ),
        aside("EndSession", |world| session(world, "session/{id}"), SESSION),
        aside(
            "RevokeSessions",
            |world| {
                let whom = world.subject("observe").to_owned();
                Ask::new(json!({ "principal": whom }), format!("sessions/{whom}"))
            },
            SESSION,
        ),
    ]
}

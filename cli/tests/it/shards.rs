//! Namespaces, shards and presence: what is asked of the mesh, and how the answers look.

use std::time::{Duration, Instant};

use prost_types::Duration as ProtoDuration;
use proto::v1::{
    CreateNamespaceRequest, DeleteNamespaceRequest, DiffShardsResponse, DisableShardRequest, FencingToken,
    GetShardRequest, ListNamespacesResponse, ListPeersResponse, ListPresenceResponse, ListShardHistoryResponse,
    ListShardsRequest, ListShardsResponse, MoveShardRequest, Namespace, Operation, Peer, Presence, Preview, Problem,
    ReshapeNamespaceRequest, SetNamespacePolicyRequest, Shard, ShardChange, ShardLoad, SimulateShardsRequest,
    SimulateShardsResponse,
    list_shard_history_response::Entry,
    namespace::{HandOff, Phase, Policy, Strategy},
    operation::{self, State},
    peer::Health,
    presence::Condition,
    shard::{Move, Status, r#move},
    simulate_shards_response::Guardrail,
};
use tonic::Code;

use crate::{
    drains::previewed,
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
};

fn policy() -> Policy {
    Policy {
        hand_off: HandOff::Exclusive.into(),
        moves_max: Some(16),
        step: Some(ProtoDuration { seconds: 60, nanos: 0 }),
        moved_permille_max: Some(125),
    }
}

pub fn namespace() -> Namespace {
    let peer = &records::peers()[0];
    Namespace {
        id: "orders".into(),
        strategy: Strategy::Locality.into(),
        region: "us-east".into(),
        selector: "tier=front".into(),
        shards: 4,
        replicas: 1,
        policy: Some(policy()),
        phase: Phase::Active.into(),
        ticket: "OPS-1".into(),
        version: 2,
        etag: "00000000000000000000000000000007-29".into(),
        created_revision: 40,
        changed_revision: 41,
        created_at: peer.created_at,
        changed_at: peer.changed_at,
        ..Namespace::default()
    }
}

pub fn shards() -> Vec<Shard> {
    let peer = &records::peers()[0];
    let shard = |number: u32, owner: &str, status: Status| Shard {
        namespace: "orders".into(),
        shard: number,
        owner: owner.into(),
        replicas: vec!["p3".into()],
        status: status.into(),
        token: Some(FencingToken {
            mesh_epoch: 1,
            shard_epoch: 4,
        }),
        version: 3,
        etag: "00000000000000000000000000000007-2a".into(),
        created_revision: 41,
        changed_revision: 42,
        created_at: peer.created_at,
        changed_at: peer.changed_at,
        ..Shard::default()
    };
    let moving = Shard {
        moving: Some(Move {
            begun: 42,
            to: "p2".into(),
            step: r#move::Step::Stopping.into(),
            hand_off: HandOff::Exclusive.into(),
            cause: r#move::Cause::Asked.into(),
            operation: String::new(),
            actor: "alice".into(),
        }),
        ticket: "OPS-7\u{1b}[31m".into(),
        ..shard(1, "p1", Status::Moving)
    };
    vec![
        shard(0, "p1", Status::Active),
        moving,
        shard(2, "p2", Status::Paused),
        Shard {
            replicas: vec![],
            ..shard(3, "", Status::Disabled)
        },
    ]
}

fn loads() -> Vec<ShardLoad> {
    let load = |peer: &str, before: u32, after: u32, replicas: u32| ShardLoad {
        peer: peer.into(),
        owned_before: before,
        owned_after: after,
        replicas_before: 0,
        replicas_after: replicas,
    };
    vec![
        load("p1", 3, 2, 0),
        load("p2", 1, 1, 0),
        load("p3", 0, 1, 3),
        load("p4", 1, 0, 0),
    ]
}

fn change(
    shard: u32,
    (owner_before, epoch_before): (&str, u64),
    (owner_after, epoch_after): (&str, u64),
) -> ShardChange {
    ShardChange {
        namespace: "orders".into(),
        shard,
        owner_before: owner_before.into(),
        owner_after: owner_after.into(),
        epoch_before,
        epoch_after,
        unavoidable: shard == 3,
    }
}

fn changes() -> Vec<ShardChange> {
    vec![
        change(0, ("p1", 4), ("p3", 5)),
        change(1, ("p2", 2), ("p2", 3)),
        change(2, ("", 0), ("p2", 1)),
        change(3, ("p4", 7), ("", 8)),
        change(9, ("p1", 1), ("", 0)),
    ]
}

fn simulated(passed: bool) -> SimulateShardsResponse {
    let guardrail = |rule: &str, measured: &str, limit: &str, passed: bool| Guardrail {
        rule: rule.into(),
        measured: measured.into(),
        limit: limit.into(),
        passed,
    };
    SimulateShardsResponse {
        changes: changes().into_iter().take(1).collect(),
        loads: loads(),
        shards: 4,
        moved: 1,
        unavoidable: 0,
        moved_permille: 250,
        copied: 1,
        unowned: 0,
        guardrails: vec![
            guardrail("moves_too_many", "25.0 % of namespace orders", "12.5 %", passed),
            guardrail(
                "no_eligible_peer",
                "every shard has an owner",
                "every shard has an owner",
                true,
            ),
        ],
        revision: 43,
        rounds: 1,
        estimated: Some(ProtoDuration { seconds: 2, nanos: 0 }),
        at_most: Some(ProtoDuration { seconds: 120, nanos: 0 }),
        truncated: false,
    }
}

fn differs() -> DiffShardsResponse {
    DiffShardsResponse {
        changes: changes(),
        loads: loads(),
        shards: 4,
        moved: 2,
        moved_permille: 500,
        from_revision: 40,
        to_revision: 43,
        truncated: true,
    }
}

fn history() -> ListShardHistoryResponse {
    let at = records::peers()[0].changed_at;
    let entry = |revision, action: &str, previous: &str, shard| Entry {
        revision,
        action: action.into(),
        actor: "alice".into(),
        reason: "hot\nkey".into(),
        ticket: "OPS-1".into(),
        at,
        previous_owner: previous.into(),
        shard,
        operation: String::new(),
        asked_by: String::new(),
    };
    let of = |number: usize| shards().get(number).cloned();
    ListShardHistoryResponse {
        items: vec![
            entry(44, "namespaces.delete", "p2", None),
            entry(43, "shards.disable", "p1", of(3)),
            Entry {
                actor: "system:shards".into(),
                operation: "op-40".into(),
                asked_by: "alice".into(),
                ..entry(42, "shards.begin_moves", "p1", of(1))
            },
            entry(41, "namespaces.advance", "", of(0)),
        ],
        revision: 44,
        epoch: 1,
        ..ListShardHistoryResponse::default()
    }
}

fn presence(held_back: &str) -> ListPresenceResponse {
    let heard = Presence {
        peer: "p1".into(),
        health: Health::Alive.into(),
        condition: Condition::Ready.into(),
        heard_at: records::peers()[1].changed_at,
        capacity: 100,
        load: 40,
        telemetry: [("cpu".to_owned(), 12), ("queue".to_owned(), 0)].into(),
        seen_revision: 43,
    };
    let silent = Presence {
        peer: "p2".into(),
        health: Health::Unknown.into(),
        ..Presence::default()
    };
    ListPresenceResponse {
        items: vec![heard, silent],
        revision: 43,
        epoch: 1,
        held_back: held_back.into(),
        ..ListPresenceResponse::default()
    }
}

fn listed(items: Vec<Shard>, next: &str) -> ListShardsResponse {
    ListShardsResponse {
        items,
        next_cursor: next.into(),
        revision: 43,
        epoch: 1,
        version_vector: [("dev-1".to_owned(), 43)].into(),
    }
}

/// One is heard, one is late.
fn peers() -> ListPeersResponse {
    let peer = |id: &str, health: Health| Peer {
        id: id.into(),
        health: health.into(),
        ..Peer::default()
    };
    ListPeersResponse {
        items: vec![peer("p1", Health::Alive), peer("p2", Health::Suspect)],
        ..ListPeersResponse::default()
    }
}

fn ended() -> Operation {
    Operation {
        id: "op-1".into(),
        kind: operation::Kind::ShapeNamespace.into(),
        target: "namespace/orders".into(),
        state: State::Succeeded.into(),
        ..records::operations().remove(1)
    }
}

fn node() -> Fake {
    let node = Fake::default();
    let namespaces = ListNamespacesResponse {
        items: vec![namespace()],
        revision: 43,
        epoch: 1,
        ..ListNamespacesResponse::default()
    };
    let begun = Namespace {
        phase: Phase::Creating.into(),
        operation: "op-1".into(),
        ..namespace()
    };
    let loads = DiffShardsResponse {
        loads: loads(),
        ..DiffShardsResponse::default()
    };
    let shards = shards();
    node.says("ListNamespaces", [Reply::ok(&namespaces)])
        .says("GetNamespace", [Reply::at(&namespace(), 43)])
        .says("CreateNamespace", [Reply::at(&begun, 41)])
        .says("ReshapeNamespace", [Reply::at(&begun, 41)])
        .says("SetNamespacePolicy", [Reply::at(&namespace(), 41)])
        .says("DeleteNamespace", [Reply::at(&begun, 41)])
        .says("GetOperation", [Reply::ok(&ended())])
        .says("ListShards", [Reply::ok(&listed(shards.clone(), ""))])
        .says("GetShard", [Reply::at(&shards[1], 43)])
        .says("LocateShard", [Reply::at(&shards[0], 43)])
        .says("ListShardHistory", [Reply::ok(&history())])
        .says("DiffShards", [Reply::at(&loads, 43)])
        .says("SimulateShards", [Reply::at(&simulated(true), 43)])
        .says("ListPeers", [Reply::ok(&peers())])
        .says("ListPresence", [Reply::ok(&presence(""))]);
    for (method, shard) in [
        ("MoveShard", 1),
        ("CancelMove", 0),
        ("PauseShard", 2),
        ("ResumeShard", 0),
        ("DisableShard", 3),
        ("EnableShard", 0),
    ] {
        node.says(method, [Reply::at(&shards[shard], 42)]);
    }
    node
}

const FORMATS: [&str; 6] = ["table", "wide", "json", "yaml", "jsonl", "name"];

/// All formats of one command in one file.
async fn formats(node: &Fake, name: &str, command: &str, exit: u8) {
    let mut text = String::new();
    for format in FORMATS {
        let ran = mesh(node, &format!("{command} -o {format}")).await;
        assert_eq!(ran.exit, exit, "{command} -o {format}: {}", ran.err);
        text.push_str(&format!("$ mesh {command} -o {format}\n{}", shown(&ran)));
    }
    check(&format!("{name}.txt"), &text);
}

#[tokio::test]
async fn every_format_of_every_answer() {
    let node = node();
    for (name, command) in [
        ("namespaces-list", "namespaces list"),
        ("namespaces-get", "namespaces get orders"),
        ("shards-list", "shards list"),
        ("shards-get", "shards get orders/1"),
        ("shards-locate", "shards locate orders alice"),
        ("shards-history", "shards history orders/1"),
        (
            "shards-simulate",
            "shards simulate --namespace orders --node p3 --without p4",
        ),
        ("presence-list", "presence list"),
    ] {
        formats(&node, name, command, 0).await;
    }
}

#[tokio::test]
async fn what_differs_exits_1() {
    let node = Fake::default();
    node.says("DiffShards", [Reply::ok(&differs())]);
    formats(&node, "shards-diff", "shards diff --namespace orders --from 40", 1).await;
    let same = Fake::default();
    let nothing = DiffShardsResponse {
        from_revision: 40,
        to_revision: 43,
        ..DiffShardsResponse::default()
    };
    same.says("DiffShards", [Reply::ok(&nothing)]);
    let ran = mesh(&same, "shards diff --from 40 --to 43").await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "no shard differs between revision 40 and 43\n")
    );
}

#[tokio::test]
async fn what_a_guardrail_would_refuse_exits_6() {
    let node = Fake::default();
    node.says("SimulateShards", [Reply::ok(&simulated(false))]);
    let ran = mesh(&node, "shards simulate --strategy ring").await;
    assert_eq!(ran.exit, 6, "{}", ran.err);
    check("shards-simulate-refused.txt", &shown(&ran));
    let ran = mesh(&node, "shards simulate --strategy ring --json").await;
    assert_eq!(ran.exit, 6);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer, proto::json::to_value(&simulated(false)).unwrap());
    assert!(ran.err.contains("\"code\":\"moves_too_many\""), "{}", ran.err);
}

#[tokio::test]
async fn who_is_kept_from_dying_is_said() {
    let node = Fake::default();
    node.says(
        "ListPresence",
        [Reply::ok(&presence(
            "3 of 9 peers are silent, so nobody is declared dead",
        ))],
    );
    let ran = mesh(&node, "presence list").await;
    assert!(
        ran.out
            .ends_with("\n\n3 of 9 peers are silent, so nobody is declared dead\n"),
        "{}",
        ran.out
    );
    assert!(!mesh(&node, "presence list -o name").await.out.contains("silent"));
}

#[tokio::test]
async fn mutations_say_what_they_did() {
    let node = node();
    let mut text = String::new();
    for line in [
        "namespaces create orders --shards 4",
        "namespaces create orders --shards 4 --wait",
        "namespaces reshape orders --strategy ring --yes",
        "namespaces policy orders --moves-max 8",
        "namespaces delete orders --yes",
        "namespaces delete orders",
        "shards move orders/1 --to p2",
        "shards cancel-move orders/1",
        "shards pause orders/2",
        "shards resume orders/0",
        "shards disable orders/3 --yes",
        "shards disable orders/3",
        "shards disable orders --all",
        "shards enable orders/0",
        "shards enable orders/0 -o name",
        "shards pause orders --all",
        "shards pause orders --all --dry-run",
        "shards pause orders --all -o name",
        "shards list --summary",
        "shards list --summary --json",
    ] {
        text.push_str(&format!("$ mesh {line}\n{}", shown(&mesh(&node, line).await)));
    }
    check("shards-mutations.txt", &text);
}

#[tokio::test]
async fn dry_runs_show_the_difference() {
    let node = Fake::default();
    let preview = Preview {
        revision: 43,
        accepted: true,
        ..Preview::default()
    };
    let shards = shards();
    node.says("GetShard", [Reply::at(&shards[0], 43)]).says(
        "MoveShard",
        [previewed(
            &Shard {
                shard: 0,
                version: 4,
                ..shards[1].clone()
            },
            &preview,
        )],
    );
    let gone = Problem {
        code: "not_found".into(),
        ..Problem::default()
    };
    node.says("GetNamespace", [Reply::Problem(Code::NotFound, gone)])
        .says("CreateNamespace", [previewed(&namespace(), &preview)]);
    let mut text = String::new();
    for line in [
        "shards move orders/0 --to p2 --dry-run",
        "namespaces create orders --shards 4 --dry-run",
    ] {
        text.push_str(&format!("$ mesh {line}\n{}", shown(&mesh(&node, line).await)));
    }
    check("shards-dry-runs.txt", &text);
}

#[tokio::test]
async fn a_deleted_namespace_that_was_waited_for_is_gone() {
    let node = Fake::default();
    let gone = Problem {
        code: "not_found".into(),
        ..Problem::default()
    };
    let deleting = Namespace {
        phase: Phase::Deleting.into(),
        operation: "op-1".into(),
        ..namespace()
    };
    node.says("DeleteNamespace", [Reply::at(&deleting, 41)])
        .says("GetOperation", [Reply::ok(&ended())])
        .says("GetNamespace", [Reply::Problem(Code::NotFound, gone)]);
    let ran = mesh(&node, "namespaces delete orders --force --confirm orders --wait").await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "namespace/orders deleted\n"),
        "{}",
        ran.err
    );
    let asked: DeleteNamespaceRequest = node.asked()[0].message();
    assert_eq!((asked.force, asked.confirm.as_str()), (true, "orders"));
}

#[tokio::test]
async fn what_is_asked_is_what_was_typed() {
    let node = node();
    let run = async |line: &str| {
        let ran = mesh(&node, line).await;
        assert_eq!(ran.exit, 0, "{line}: {}", ran.err);
    };
    run(
        "namespaces create orders --shards 64 --replicas 2 --strategy LOCALITY --region eu -l tier=front \
         --hand-off overlap --moves-max 4 --step 1m30s --max-moved 2.5% --reason why --ticket T-1",
    )
    .await;
    run("namespaces reshape orders --region= --replicas 0 --max-moved 100% --yes").await;
    run("namespaces policy orders --hand-off exclusive --moves-max 4 --step 2s --max-moved 0%").await;
    run("namespaces policy orders --moves-max 4").await;
    run("shards get orders/3 --at-revision 40").await;
    run("shards move orders/3 --to p2 --if-match e1 --if-revision 43 --idempotency-key k").await;
    run("shards simulate --node p9:200:eu:a --node p8 --without p1 --without-zone a --replicas 1 --region= --selector= --move-time 1s")
    .await;
    run("shards list --namespace orders --owner p1 --status PAUSED --zone a -l x=y --sort owner --limit 7").await;
    // Whether there is anybody to own its shards is looked at beside it.
    let mut asked = node.asked();
    asked.retain(|asked| asked.method != "ListPeers");
    let create: CreateNamespaceRequest = asked[0].message();
    assert_eq!(
        (create.shards, create.replicas, create.strategy()),
        (64, 2, Strategy::Locality)
    );
    assert_eq!((create.region.as_str(), create.selector.as_str()), ("eu", "tier=front"));
    let policy = create.policy.unwrap();
    assert_eq!(
        (policy.hand_off(), policy.moves_max, policy.moved_permille_max),
        (HandOff::Overlap, Some(4), Some(25))
    );
    assert_eq!(policy.step.unwrap().seconds, 90);
    let reshape: ReshapeNamespaceRequest = asked[1].message();
    assert_eq!(
        (reshape.region.as_deref(), reshape.selector),
        (Some(""), None),
        "none, and as it is"
    );
    assert_eq!(
        (reshape.replicas, reshape.moved_permille_max, reshape.strategy),
        (Some(0), Some(1_000), 0)
    );
    let whole: SetNamespacePolicyRequest = asked[2].message();
    assert_eq!(
        (whole.if_match.as_str(), whole.policy.unwrap().moved_permille_max),
        ("", Some(0))
    );
    assert_eq!(asked[3].method, "GetNamespace");
    let part: SetNamespacePolicyRequest = asked[4].message();
    let policy = part.policy.unwrap();
    assert_eq!(
        (policy.moves_max, policy.moved_permille_max),
        (Some(4), Some(125)),
        "the rest stays as it is"
    );
    assert_eq!(part.if_match, namespace().etag, "as long as it is that");
    let get: GetShardRequest = asked[5].message();
    assert_eq!((get.namespace.as_str(), get.shard, get.at_revision), ("orders", 3, 40));
    let moved: MoveShardRequest = asked[6].message();
    assert_eq!(
        (moved.to.as_str(), moved.if_match.as_str(), moved.if_revision),
        ("p2", "e1", 43)
    );
    assert_eq!(moved.idempotency_key, "k");
    let simulate: SimulateShardsRequest = asked[7].message();
    assert_eq!(simulate.nodes[0].weight, Some(200));
    assert_eq!(
        (simulate.nodes[0].zone.as_deref(), simulate.nodes[1].weight),
        (Some("a"), None)
    );
    assert_eq!(
        (simulate.without, simulate.without_zones),
        (vec!["p1".to_owned()], vec!["a".to_owned()])
    );
    assert_eq!(
        (simulate.region.as_deref(), simulate.selector.as_deref()),
        (Some(""), Some(""))
    );
    let list: ListShardsRequest = asked[8].message();
    assert_eq!(
        (list.owner.as_str(), list.status(), list.zone.as_str()),
        ("p1", Status::Paused, "a")
    );
    assert_eq!(
        (list.selector.as_str(), list.sort().as_str_name(), list.limit),
        ("x=y", "OWNER", 7)
    );
}

/// Who told a shard to stay is in its history; who reads the shard reads it there.
#[tokio::test]
async fn a_paused_shard_says_who_paused_it_and_why() {
    let held = |entries: Vec<Entry>| {
        let node = Fake::default();
        let history = ListShardHistoryResponse {
            items: entries,
            ..ListShardHistoryResponse::default()
        };
        node.says("GetShard", [Reply::at(&shards()[2], 43)])
            .says("ListShardHistory", [Reply::ok(&history)]);
        node
    };
    let entry = |action: &str| Entry {
        action: action.into(),
        actor: "alice".into(),
        reason: "hot\nkey".into(),
        at: records::peers()[0].changed_at,
        ..Entry::default()
    };
    let node = held(vec![entry("shards.place_copies"), entry("shards.pause")]);
    let ran = mesh(&node, "shards get orders/2").await;
    assert!(
        ran.out
            .ends_with("\npaused by alice 2m ago, because: hot\\nkey (`mesh shards history orders/2`)\n"),
        "{}",
        ran.out
    );
    let ran = mesh(&node, "shards get orders/2 -o name").await;
    assert_eq!(ran.out, "shard/orders/2\n");
    let ran = mesh(&held(Vec::new()), "shards get orders/2").await;
    assert!(
        ran.out
            .ends_with("\nwho paused it, and why: `mesh shards history orders/2`\n"),
        "{}",
        ran.out
    );
}

/// A namespace that nobody can serve is made, and that is said.
#[tokio::test]
async fn a_namespace_without_peers_says_so() {
    let node = Fake::default();
    node.says("CreateNamespace", [Reply::at(&namespace(), 41)])
        .says("ListPeers", [Reply::ok(&ListPeersResponse::default())]);
    let ran = mesh(&node, "namespaces create orders --shards 4 -l gpu").await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert!(
        ran.err.contains("there is no active peer that `gpu` selects"),
        "{}",
        ran.err
    );
    let ran = mesh(&node, "namespaces create orders --shards 4 -l gpu --json").await;
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    let bare = Fake::default();
    bare.says("GetNamespace", [Reply::at(&namespace(), 43)])
        .says("DiffShards", [Reply::at(&DiffShardsResponse::default(), 43)]);
    let ran = mesh(&bare, "namespaces get orders").await;
    assert!(
        ran.out.ends_with(
            "\n4 shards have no owner: `mesh peers list --status active -l 'tier=front'` shows who could take them\n"
        ),
        "{}",
        ran.out
    );
}

/// Who weighs what and who is silent is shown beside an answer: where the peers cannot be listed, or their list goes round in
/// circles, the answer is there all the same.
#[tokio::test]
async fn where_the_peers_are_not_listed_that_is_said() {
    let lists = |peers: Vec<Reply>| {
        let node = Fake::default();
        let loads = DiffShardsResponse {
            loads: loads(),
            ..DiffShardsResponse::default()
        };
        node.says("GetNamespace", [Reply::at(&namespace(), 43)])
            .says("DiffShards", [Reply::at(&loads, 43)])
            .says("ListShards", [Reply::ok(&listed(shards(), ""))])
            .says("ListPeers", peers);
        node
    };
    let refused = Problem {
        code: "scope_missing".into(),
        ..Problem::default()
    };
    let round = |next: &str| {
        Reply::ok(&ListPeersResponse {
            next_cursor: next.into(),
            ..peers()
        })
    };
    for list in [
        vec![Reply::Problem(Code::PermissionDenied, refused)],
        vec![round("a"), round("b"), round("a")],
    ] {
        for line in ["namespaces get orders", "shards list --summary"] {
            let ran = mesh(&lists(list.clone()), line).await;
            assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{line}");
            let said = "how many are owned by silent peers is not known: mesh presence list\n";
            assert!(ran.out.contains(said), "{line}: {}", ran.out);
            assert!(ran.out.contains("OF MEAN"), "{line}: {}", ran.out);
        }
    }
}

/// What comes back from a drain gets nothing by itself.
#[tokio::test]
async fn a_peer_that_is_undrained_and_owns_nothing_is_told_of() {
    let peer = Peer {
        status: proto::v1::peer::Status::Active.into(),
        ..records::peers().remove(0)
    };
    for (owned, said) in [(vec![], true), (shards(), false)] {
        let node = Fake::default();
        let namespaces = ListNamespacesResponse {
            items: vec![namespace()],
            ..ListNamespacesResponse::default()
        };
        node.says("UndrainPeer", [Reply::at(&peer, 42)])
            .says("ListShards", [Reply::ok(&listed(owned, ""))])
            .says("ListNamespaces", [Reply::ok(&namespaces)]);
        let ran = mesh(&node, "peers undrain p1").await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        assert_eq!(
            ran.err.contains("`mesh namespaces reshape orders --max-moved SHARE`"),
            said,
            "{}",
            ran.err
        );
    }
}

/// An empty list says so beside the data, and what is watched for and is not there is named.
#[tokio::test]
async fn what_is_not_there_is_said() {
    let node = Fake::default();
    let gone = Problem {
        code: "not_found".into(),
        ..Problem::default()
    };
    node.says("ListShards", [Reply::ok(&listed(Vec::new(), ""))])
        .says(
            "GetNamespace",
            [
                Reply::Problem(Code::NotFound, gone.clone()),
                Reply::at(&namespace(), 43),
            ],
        )
        .says("GetPeer", [Reply::Problem(Code::NotFound, gone)]);
    let ran = mesh(&node, "shards list --zone nope").await;
    assert_eq!(
        (ran.exit, ran.out.as_str(), ran.err.as_str()),
        (0, "", "nothing found\n")
    );
    let ran = mesh(&node, "shards list --zone nope -o jsonl").await;
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    for (line, said) in [
        (
            "shards watch --namespace nope --for 50ms",
            "there is no namespace `nope`",
        ),
        ("shards watch orders/99 --for 50ms", "there is no shard `orders/99`"),
        ("shards watch --owner nope --for 50ms", "there is no peer `nope`"),
    ] {
        let ran = mesh(&node, line).await;
        assert!(ran.err.contains(said), "{line}: {}", ran.err);
    }
}

/// Exit 2 with a word on what to do, and nothing is sent.
#[tokio::test]
async fn bad_input_is_refused_before_the_wire() {
    let node = node();
    for (line, said) in [
        ("shards get orders", "write NAMESPACE/NUMBER, such as orders/12"),
        ("shards get orders/x", "write NAMESPACE/NUMBER"),
        ("shards get Orders/1", "the namespace `Orders`"),
        ("shards get orders/99999999999", "numbered from 0"),
        ("shards get orders/1 --at-revision 0", "0 is not in 1.."),
        ("shards history orders/-1", "write NAMESPACE/NUMBER"),
        ("shards move orders/1", "--to <PEER>"),
        ("shards move orders/1 --to P2", "write up to 64 of a-z"),
        ("shards pause orders", "`orders --all` would be every shard"),
        ("shards pause orders/1 --all", "`orders/1` is no namespace"),
        ("shards pause orders --all --if-match e1", "name one shard"),
        ("shards diff --namespace orders", "--from <REVISION>"),
        ("shards diff --from 9 --to 3", "--from 9 is later than --to 3"),
        ("shards simulate --node p9:0", "a weight is 1 to 10000"),
        ("shards simulate --node p9 --node p9:5", "peer `p9` is named twice"),
        ("shards simulate --node p9 --without p9", "peer `p9` is named twice"),
        ("shards simulate --max-moved 10", "such as 10% or 2.5%"),
        ("shards simulate --replicas 7", "7 is not in 0..=6"),
        ("shards simulate --replicas -1", "-1 is not in 0..=6"),
        ("peers register p1 --endpoint h:1 --weight -5", "-5 is not in 1..=10000"),
        ("shards list --status lost", "write active, moving, paused or disabled"),
        ("shards list --sort size", "write id, owner or changed"),
        ("shards list --watch --zone a", "leave them out"),
        ("shards list --watch --limit 3", "no meaning with --watch"),
        ("shards list --summary --limit 3", "cannot be used with"),
        ("shards watch orders/1 --namespace orders", "cannot be used with"),
        ("namespaces create Orders --shards 4", "write up to 64 of a-z"),
        ("namespaces create orders", "--shards <N>"),
        ("namespaces create orders --shards 0", "0 is not in 1..=65536"),
        ("namespaces create orders --shards 65537", "65537 is not in 1..=65536"),
        (
            "namespaces create orders --shards 4 --step 100ms",
            "a step takes 1s to 24h",
        ),
        (
            "namespaces create orders --shards 4 --step 25h",
            "a step takes 1s to 24h",
        ),
        (
            "namespaces create orders --shards 4 --strategy hash",
            "write ring, rendezvous or locality",
        ),
        (
            "namespaces create orders --shards 4 --hand-off never",
            "write exclusive or overlap",
        ),
        ("namespaces policy orders", "give --hand-off"),
        (
            "namespaces list --phase gone",
            "write creating, active, reshaping or deleting",
        ),
        ("presence list --health ill", "write unknown, alive, suspect or dead"),
        (
            "members add 5 --api h:1 --raft h:2 --idempotency-key ä",
            "printable ASCII",
        ),
    ] {
        let ran = mesh(&node, line).await;
        assert_eq!(ran.exit, 2, "{line}: {}", ran.err);
        assert!(ran.err.contains(said), "{line}: {}", ran.err);
    }
    assert_eq!(node.asked().len(), 0);
}

/// Every command that a refusal's hint names is there, just as it is written.
#[test]
fn hints_name_commands_that_exist() {
    let words = include_str!("../../../statemachine/src/rejection/words.rs");
    let mut tried = 0;
    for quoted in words.split('`').filter(|quoted| quoted.starts_with("mesh ")) {
        let line = quoted
            .replace("{kind}s", "peers")
            .replace("SELECTOR", "a=b")
            .replace("{shard}", "orders/1");
        let line: String = line
            .split(['{', '}'])
            .enumerate()
            .map(|(at, part)| {
                if at % 2 == 0 {
                    part.to_owned()
                } else {
                    "some-id".to_owned()
                }
            })
            .collect();
        let parsed = meshkit_cli::command().try_get_matches_from(line.split_whitespace());
        // What a hint leaves for people to fill in may be missing; what it writes must be known.
        if let Err(error) = parsed {
            let missing = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
            assert!(missing, "`{quoted}`: {error}");
        }
        tried += 1;
    }
    assert!(tried > 15, "only {tried} were found");
}

/// All of a namespace's shards: a few requests at a time, each under a key of its own; those that are there already are left
/// alone, and what is refused is said.
#[tokio::test]
async fn all_shards_of_a_namespace() {
    let node = Fake::default();
    let shards = shards();
    let many = |range: std::ops::Range<u32>, status: Status| -> Vec<Shard> {
        let one = |shard| Shard {
            shard,
            status: status.into(),
            ..shards[0].clone()
        };
        range.map(one).collect()
    };
    let mut first = many(0..60, Status::Active);
    first.extend(many(60..70, Status::Disabled));
    let refused = Problem {
        code: "shard_transition".into(),
        detail: "shard `orders/7` is moving".into(),
        hint: "wait".into(),
        ..Problem::default()
    };
    node.says(
        "GetNamespace",
        [Reply::at(
            &Namespace {
                shards: 100,
                ..namespace()
            },
            43,
        )],
    )
    .says(
        "ListShards",
        [
            Reply::ok(&listed(first, "next")),
            Reply::ok(&listed(many(70..100, Status::Active), "")),
        ],
    )
    .says(
        "DisableShard",
        [
            Reply::Problem(Code::FailedPrecondition, refused),
            Reply::at(&shards[3], 44),
        ],
    );
    let ran = mesh(&node, "shards disable orders --all --yes --reason over").await;
    assert_eq!(ran.exit, 6, "{}", ran.err);
    assert!(
        ran.err
            .contains("1 of 90 shards were not disabled; the first is orders/"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("for 10 there was nothing to do"), "{}", ran.out);
    let asked: Vec<DisableShardRequest> = node
        .asked()
        .iter()
        .filter(|asked| asked.method == "DisableShard")
        .map(crate::fake::Asked::message)
        .collect();
    let mut numbers: Vec<u32> = asked.iter().map(|request| request.shard).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..60).chain(70..100).collect::<Vec<_>>());
    let keys: std::collections::BTreeSet<&str> = asked.iter().map(|request| request.idempotency_key.as_str()).collect();
    assert_eq!(keys.len(), 90);
    assert!(asked.iter().all(|request| request.reason == "over"));
}

/// Ten pages of a thousand: columns stay where they are, and it takes as long as ten pages take.
#[tokio::test]
async fn ten_thousand_rows_are_readable() {
    let node = Fake::default();
    let page = |at: u32| -> Vec<Shard> {
        let shard = |shard| Shard {
            shard,
            owner: format!("p{}", shard % 13),
            ..shards()[0].clone()
        };
        (at * 1_000..(at + 1) * 1_000).map(shard).collect()
    };
    let pages = (1..=10).map(|at| {
        let next = if at == 10 { String::new() } else { format!("page-{at}") };
        Reply::ok(&listed(page(at - 1), &next))
    });
    node.says("ListShards", pages.clone().chain(pages))
        .says("ListPeers", [Reply::ok(&ListPeersResponse::default())]);
    let begun = Instant::now();
    let ran = mesh(&node, "shards list").await;
    assert_eq!((ran.exit, ran.out.lines().count()), (0, 10_001), "{}", ran.err);
    let column = |number: usize| ran.out.lines().nth(number).unwrap().find("active").unwrap();
    // Only where a number takes one more digit is there one more column.
    assert_eq!((column(1), column(1_000)), (column(500), column(999)));
    assert_eq!(column(1_001), column(10_000));
    assert!(column(10_000) - column(1) <= 1);
    let ran = mesh(&node, "shards list --summary").await;
    assert!(
        ran.out
            .starts_with("10000 shards: 10000 active; all have an owner\n13 peers own 769 to 770 each"),
        "{}",
        ran.out
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

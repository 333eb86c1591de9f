//! Namespaces and shards: who is asked what of them, as they are and as they were. Shards are made here as the controller
//! makes them.

use std::{collections::BTreeMap, time::Duration};

use proto::v1::{self, shard_service_client::ShardServiceClient};
use serde_json::{Value, json};
use statemachine::{Command, NodeId, Origin, PeerId, Placement, ShapeNamespace, record::HandOff};
use tokio::time::Instant;

use crate::world::{ADMIN, OBSERVE, OPERATE, READ, World};

/// Commits a command as a controller does.
async fn propose(world: &World, command: Command) {
    let request = statemachine::Request {
        origin: Origin::system("test", NodeId(1), 0),
        conditions: Default::default(),
        command,
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let committed = world.leader().handle.propose(request, deadline).await.unwrap();
    let statemachine::Answer::Recorded(recorded) = committed.answer else {
        panic!("not recorded");
    };
    let statemachine::Outcome::Applied { .. } = recorded.unit.outcome else {
        panic!("{:?}", recorded.unit.outcome);
    };
}

async fn get(world: &World, path: &str) -> Value {
    world.call(READ, "GET", path, None).await.expect(200)
}

async fn post(world: &World, scope: &str, path: &str, body: Value) -> Value {
    world.call(scope, "POST", path, Some(body)).await.expect(200)
}

async fn register(world: &World, id: &str, zone: &str, tier: &str) {
    let peer = json!({ "id": id, "endpoints": ["h:1"], "zone": zone, "labels": { "tier": tier } });
    post(world, OPERATE, "/meshkit/peers", peer).await;
}

/// A namespace whose shards are owned by these in turn, with the next one as the copy.
async fn namespace(world: &World, id: &str, owners: &[&str], shards: u32) {
    let made = json!({ "id": id, "shards": shards, "replicas": 1, "policy": { "movesMax": 4, "step": "30s" } });
    let made = post(world, ADMIN, "/meshkit/namespaces", made).await;
    assert_eq!(
        (&made["phase"], &made["strategy"]),
        (&json!("CREATING"), &json!("RENDEZVOUS"))
    );
    let peer = |at: u32| PeerId::new(owners[at as usize % owners.len()]).unwrap();
    let mut done = 0;
    while done < shards {
        let batch = done..shards.min(done + 500);
        let placements = batch.clone().map(|at| Placement {
            owner: Some(peer(at)),
            replicas: vec![peer(at + 1)],
        });
        let shape = ShapeNamespace {
            operation: made["operation"].as_str().unwrap().parse().unwrap(),
            done,
            placements: placements.collect(),
        };
        propose(world, shape.command().unwrap()).await;
        done = batch.end;
    }
    assert_eq!(
        get(world, &format!("/meshkit/namespaces/{id}")).await["phase"],
        "ACTIVE"
    );
}

/// Four peers in two zones, two namespaces of 12 and 6 shards.
async fn populated() -> World {
    let world = World::one().await;
    for (id, zone, tier) in [
        ("p1", "a", "gold"),
        ("p2", "a", "iron"),
        ("p3", "b", "gold"),
        ("p4", "b", "iron"),
    ] {
        register(&world, id, zone, tier).await;
    }
    namespace(&world, "orders", &["p1", "p2", "p3", "p4"], 12).await;
    namespace(&world, "users", &["p3", "p1"], 6).await;
    world
}

fn name(shard: &Value) -> String {
    format!("{}/{}", shard["namespace"].as_str().unwrap(), shard["shard"])
}

/// All pages of a list, a few at a time.
async fn listed(world: &World, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let list = get(world, &format!("/meshkit/shards?limit=5&{query}&cursor={cursor}")).await;
        let items = list["items"].as_array().unwrap().clone();
        assert!(items.len() <= 5 && list["epoch"] == 1 && list["versionVector"].is_object());
        all.extend(items);
        cursor = list["nextCursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            return all;
        }
    }
}

async fn hold(world: &World, shard: &str, verb: &str) -> Value {
    post(
        world,
        OPERATE,
        &format!("/meshkit/shards/{shard}:{verb}"),
        json!({ "reason": "a test", "ticket": "T-1" }),
    )
    .await
}

#[tokio::test]
async fn lists_select_and_order() {
    let world = populated().await;
    hold(&world, "orders/7", "pause").await;
    hold(&world, "users/2", "disable").await;
    let all = get(&world, "/meshkit/shards?limit=1000").await["items"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(all.len(), 18);
    let owner = |shard: &Value| shard["owner"].as_str().unwrap().to_owned();
    let zone = |shard: &Value| {
        if matches!(shard["owner"].as_str(), Some("p1" | "p2")) {
            "a"
        } else {
            "b"
        }
    };
    let gold = |shard: &Value| matches!(shard["owner"].as_str(), Some("p1" | "p3"));
    type Selects<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let cases: [(&str, Selects<'_>); 9] = [
        ("", Box::new(|_| true)),
        ("namespace=users", Box::new(|shard| shard["namespace"] == "users")),
        ("owner=p3", Box::new(|shard| shard["owner"] == "p3")),
        ("status=paused", Box::new(|shard| shard["status"] == "PAUSED")),
        ("status=DISABLED&namespace=orders", Box::new(|_| false)),
        ("zone=b", Box::new(|shard| zone(shard) == "b")),
        (
            "selector=tier%3Dgold&namespace=orders",
            Box::new(|shard| gold(shard) && shard["namespace"] == "orders"),
        ),
        ("zone=a&selector=tier%3Dgold", Box::new(|shard| shard["owner"] == "p1")),
        ("zone=nowhere", Box::new(|_| false)),
    ];
    for (query, selects) in &cases {
        let mut wanted: Vec<_> = all.iter().filter(|shard| selects(shard)).cloned().collect();
        assert_eq!(listed(&world, query).await, wanted, "{query}");
        assert_eq!(listed(&world, &format!("{query}&sort=id")).await, wanted, "{query}");
        wanted.sort_by_key(owner);
        assert_eq!(listed(&world, &format!("{query}&sort=owner")).await, wanted, "{query}");
        wanted.sort_by_key(|shard| (shard["namespace"].to_string(), shard["shard"].as_u64()));
        wanted.sort_by_key(|shard| std::cmp::Reverse(shard["changedRevision"].as_u64()));
        assert_eq!(
            listed(&world, &format!("{query}&sort=changed")).await,
            wanted,
            "{query}"
        );
    }
    assert_eq!(name(&listed(&world, "sort=changed").await[0]), "users/2");
}

#[tokio::test]
async fn pages_show_one_revision_and_one_question() {
    let world = populated().await;
    for sort in ["id", "owner", "changed"] {
        let first = get(&world, &format!("/meshkit/shards?limit=7&sort={sort}")).await;
        let whole = get(&world, &format!("/meshkit/shards?limit=1000&sort={sort}")).await;
        let cursor = first["nextCursor"].as_str().unwrap();
        // What comes later is not in it.
        let verb = if sort == "owner" { "resume" } else { "pause" };
        for shard in ["orders/1", "orders/11", "users/4"] {
            hold(&world, shard, verb).await;
        }
        let second = get(
            &world,
            &format!("/meshkit/shards?limit=1000&sort={sort}&cursor={cursor}"),
        )
        .await;
        assert_eq!(second["revision"], first["revision"]);
        let items = |list: &Value| list["items"].as_array().unwrap().clone();
        assert_eq!([items(&first), items(&second)].concat(), items(&whole), "{sort}");
        for other in ["limit=7&sort=id&zone=a", "limit=7&namespace=users"] {
            let path = format!("/meshkit/shards?{other}&cursor={cursor}");
            let refused = world
                .call(READ, "GET", &path, None)
                .await
                .refused(400, "token_mismatch");
            assert_eq!(refused["field"], "cursor");
        }
    }
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let world = populated().await;
    let unchanged = async |path: &str, etag: &str| {
        let again = world.with(READ, "GET", path, None, &[("if-none-match", etag)]).await;
        (again.status.as_u16(), again.header("etag").to_owned(), again.body.len())
    };
    let paths = [
        "/meshkit/shards",
        "/meshkit/shards?limit=3",
        "/meshkit/shards?owner=p1",
        "/meshkit/shards/orders/3/history",
        "/meshkit/namespaces",
        "/meshkit/peers",
        "/meshkit/operations",
        "/meshkit/shards/orders/3",
    ];
    let mut tags = BTreeMap::new();
    for path in paths {
        let first = world.call(READ, "GET", path, None).await;
        first.expect(200);
        let etag = first.header("etag").to_owned();
        assert_eq!(unchanged(path, &etag).await, (304, etag.clone(), 0), "{path}");
        assert_eq!(tags.insert(etag, path), None, "{path}");
    }
    hold(&world, "users/1", "pause").await;
    for (etag, path) in &tags {
        let kept = *path == "/meshkit/shards/orders/3";
        assert_eq!(unchanged(path, etag).await.0, if kept { 304 } else { 200 }, "{path}");
    }
}

/// S5: what is kept of a page is what would be made anew, whatever has changed since.
#[tokio::test]
async fn a_page_that_is_asked_for_again_shows_what_has_changed() {
    let world = populated().await;
    let mut shards = ShardServiceClient::new(world.channel(1, None).await);
    let mut paused = "ACTIVE";
    for change in [
        "nothing",
        "another record",
        "a shard of it",
        "a shard of another",
        "all that is held",
    ] {
        match change {
            "nothing" => {}
            "another record" => register(&world, "p5", "a", "iron").await,
            "a shard of it" => {
                hold(&world, "orders/2", "pause").await;
                paused = "PAUSED";
            }
            "a shard of another" => {
                hold(&world, "users/1", "pause").await;
            }
            _ => {
                hold(&world, "orders/2", "resume").await;
                paused = "ACTIVE";
            }
        }
        let path = "/meshkit/shards?namespace=orders&limit=5";
        let first = get(&world, path).await;
        assert_eq!(get(&world, path).await, first, "{change}");
        assert_eq!(first["items"][2]["status"], paused, "{change}");
        let rest = format!(
            "/meshkit/shards?namespace=orders&cursor={}",
            first["nextCursor"].as_str().unwrap()
        );
        let rest = get(&world, &rest).await;
        assert_eq!(
            (&rest["nextCursor"], &rest["revision"]),
            (&json!(""), &first["revision"]),
            "{change}"
        );
        let items = [&first, &rest]
            .map(|page| page["items"].as_array().unwrap().clone())
            .concat();
        assert_eq!(items.len(), 12);
        for (at, item) in items.iter().enumerate() {
            assert_eq!(
                *item,
                get(&world, &format!("/meshkit/shards/orders/{at}")).await,
                "{change}"
            );
        }
        let request = v1::ListShardsRequest {
            namespace: "orders".into(),
            limit: 5,
            ..v1::ListShardsRequest::default()
        };
        for _ in 0..2 {
            let answer = shards.list_shards(world.grpc(READ, request.clone())).await.unwrap();
            let revision = answer
                .metadata()
                .get("mesh-revision")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let answer = answer.into_inner();
            assert_eq!(json!(answer.revision), first["revision"], "{change}");
            assert_eq!(revision, answer.revision.to_string(), "{change}");
            let answer: Value = serde_json::from_str(&proto::json::to_string(&answer).unwrap()).unwrap();
            assert_eq!(answer, first, "{change}");
        }
    }
    let metrics = world.call(OBSERVE, "GET", "/metrics", None).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for made in ["anew", "items", "kept"] {
        let line = format!("shard_pages_total{{made=\"{made}\"}}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_shard_is_shown_as_it_was() {
    let world = populated().await;
    let before = get(&world, "/meshkit/shards/orders/3").await;
    let epoch = before["createdRevision"].as_u64().unwrap();
    assert_eq!(before["token"], json!({ "meshEpoch": 1, "shardEpoch": epoch }));
    assert_eq!((&before["owner"], &before["replicas"]), (&json!("p4"), &json!(["p1"])));
    let disabled = hold(&world, "orders/3", "disable").await;
    let moved = hold(&world, "orders/3", "enable").await;
    assert_eq!(moved["token"]["shardEpoch"], epoch + 2);
    let moved = post(
        &world,
        OPERATE,
        "/meshkit/shards/orders/3:move",
        json!({ "to": "p2", "reason": "closer" }),
    )
    .await;
    // Nobody here sends heartbeats: there is nobody to be waited for.
    assert_eq!(
        (&moved["owner"], &moved["token"]["shardEpoch"]),
        (&json!("p2"), &json!(epoch + 3))
    );

    let at = async |revision: &Value| {
        let path = format!("/meshkit/shards/orders/3?atRevision={revision}");
        world.call(READ, "GET", &path, None).await
    };
    let made = before["createdRevision"].as_u64().unwrap();
    assert_eq!(at(&before["changedRevision"]).await.expect(200), before);
    assert_eq!(at(&disabled["changedRevision"]).await.expect(200), disabled);
    let seen = at(&disabled["changedRevision"]).await;
    assert_eq!(seen.header("mesh-revision"), disabled["changedRevision"].to_string());
    at(&json!(made - 1)).await.refused(404, "not_found");
    let refused = at(&json!(1_000_000)).await.refused(400, "invalid_argument");
    assert_eq!(refused["revision"], moved["changedRevision"]);

    let history = get(&world, "/meshkit/shards/orders/3/history?limit=2").await;
    let cursor = history["nextCursor"].as_str().unwrap();
    let rest = get(
        &world,
        &format!("/meshkit/shards/orders/3/history?limit=2&cursor={cursor}"),
    )
    .await;
    let entries = [
        history["items"].as_array().unwrap().clone(),
        rest["items"].as_array().unwrap().clone(),
    ]
    .concat();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["previousOwner"].as_str().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("shards.move", "p4"),
        ("shards.enable", "p4"),
        ("shards.disable", "p4"),
        ("namespaces.shape", ""),
    ];
    assert_eq!(told, wanted);
    assert_eq!(
        (&entries[0]["actor"], &entries[0]["reason"]),
        (&json!("alice"), &json!("closer"))
    );
    assert_eq!((&entries[1]["ticket"], &entries[0]["shard"]), (&json!("T-1"), &moved));
    assert_eq!(rest["nextCursor"], "");
}

#[tokio::test]
async fn two_revisions_differ_by_what_moved() {
    let world = populated().await;
    let from = get(&world, "/meshkit/shards?limit=1").await["revision"]
        .as_u64()
        .unwrap();
    post(&world, OPERATE, "/meshkit/shards/orders/0:move", json!({ "to": "p3" })).await;
    hold(&world, "users/5", "disable").await;
    let to = get(&world, "/meshkit/shards?limit=1").await["revision"]
        .as_u64()
        .unwrap();
    post(&world, OPERATE, "/meshkit/shards/orders/1:move", json!({ "to": "p1" })).await;

    let diff = get(
        &world,
        &format!("/meshkit/shards:diff?fromRevision={from}&toRevision={to}"),
    )
    .await;
    assert_eq!(
        (&diff["shards"], &diff["moved"], &diff["movedPermille"]),
        (&json!(18), &json!(1), &json!(56))
    );
    let change = async |namespace: &str, shard: u32, before: &str, after: &str| {
        let was = get(
            &world,
            &format!("/meshkit/shards/{namespace}/{shard}?atRevision={from}"),
        )
        .await;
        let epoch = was["token"]["shardEpoch"].as_u64().unwrap();
        json!({ "namespace": namespace, "shard": shard, "ownerBefore": before, "ownerAfter": after,
            "epochBefore": epoch, "epochAfter": epoch + 1, "unavoidable": false })
    };
    let wanted = [
        change("orders", 0, "p1", "p3").await,
        change("users", 5, "p1", "p1").await,
    ];
    assert_eq!(diff["changes"], json!(wanted));
    let load = |peer: &str| {
        diff["loads"]
            .as_array()
            .unwrap()
            .iter()
            .find(|load| load["peer"] == peer)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&load("p1")["ownedBefore"], &load("p1")["ownedAfter"]),
        (&json!(6), &json!(5))
    );
    assert_eq!(
        (&load("p3")["ownedBefore"], &load("p3")["ownedAfter"]),
        (&json!(6), &json!(7))
    );

    // Over the making of a namespace, in one namespace, and up to now.
    let whole = get(&world, "/meshkit/shards:diff?fromRevision=1&namespace=users").await;
    assert_eq!(
        (whole["changes"].as_array().unwrap().len(), &whole["moved"]),
        (6, &json!(0))
    );
    assert_eq!(whole["changes"][0]["ownerBefore"], "");
    let now = get(
        &world,
        &format!("/meshkit/shards:diff?fromRevision={from}&namespace=orders"),
    )
    .await;
    assert_eq!(now["moved"], 2);
    let refused = |query: String| {
        let path = format!("/meshkit/shards:diff?{query}");
        let world = &world;
        async move { world.call(READ, "GET", &path, None).await }
    };
    refused(format!("fromRevision={to}&toRevision={from}"))
        .await
        .refused(400, "invalid_argument");
    refused(String::new()).await.refused(400, "invalid_argument");
    refused("fromRevision=1&namespace=nobody".into())
        .await
        .refused(404, "not_found");
    refused(format!("fromRevision={from}&toRevision=100000"))
        .await
        .refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_simulation_shows_what_would_move_and_moves_nothing() {
    let world = populated().await;
    let before = get(&world, "/meshkit/shards?limit=1000").await;
    let simulate = async |scenario: Value| {
        world
            .call(READ, "POST", "/meshkit/shards:simulate", Some(scenario))
            .await
    };
    let lost = simulate(json!({ "namespace": "orders", "without": ["p1"], "moveTime": "3s" }))
        .await
        .expect(200);
    assert_eq!(
        (&lost["shards"], &lost["moved"], &lost["unavoidable"]),
        (&json!(12), &json!(3), &json!(3))
    );
    // Three moves, four at a time.
    assert_eq!(
        (&lost["rounds"], &lost["estimated"], &lost["atMost"]),
        (&json!(1), &json!("3s"), &json!("60s"))
    );
    for change in lost["changes"].as_array().unwrap() {
        assert_eq!(
            (&change["ownerBefore"], &change["unavoidable"]),
            (&json!("p1"), &json!(true))
        );
        let before = change["epochBefore"].as_u64().unwrap();
        assert_eq!(change["epochAfter"], before + 1);
    }
    let guardrail = |answer: &Value, rule: &str| {
        let all = answer["guardrails"].as_array().unwrap().clone();
        all.into_iter()
            .find(|found| found["rule"] == rule)
            .unwrap_or_else(|| panic!("{answer}"))
    };
    assert_eq!(guardrail(&lost, "moves_too_many")["passed"], true);
    assert_eq!(guardrail(&lost, "active_peers_low")["measured"], "3 in cluster c1");

    // All namespaces at once, a whole zone.
    let zone = simulate(json!({ "withoutZones": ["a"] })).await.expect(200);
    assert_eq!(
        (&zone["shards"], &zone["moved"], &zone["unavoidable"]),
        (&json!(18), &json!(9), &json!(9))
    );
    let nobody = simulate(json!({ "withoutZones": ["a", "b"] })).await.expect(200);
    assert_eq!(nobody["unowned"], 18);
    assert_eq!(guardrail(&nobody, "no_eligible_peer")["passed"], false);
    let wide = json!({ "namespace": "orders", "nodes": [{ "id": "p9", "weight": 1000 }], "movedPermilleMax": 10 });
    let wide = guardrail(&simulate(wide).await.expect(200), "moves_too_many");
    assert_eq!((&wide["passed"], &wide["limit"]), (&json!(false), &json!("1.0 %")));
    assert_eq!(
        get(&world, "/meshkit/shards?limit=1000").await,
        before,
        "nothing is done"
    );

    for (scenario, field) in [
        (json!({ "nodes": [{ "id": "p1" }, { "id": "p1" }] }), "nodes"),
        (json!({ "nodes": [{ "id": "p1", "weight": 0 }] }), "weight"),
        (json!({ "nodes": [{ "id": "P!" }] }), "nodes"),
        (json!({ "without": ["p77"] }), "without"),
        (json!({ "withoutZones": ["nowhere"] }), "withoutZones"),
        (json!({ "replicas": 77 }), "replicas"),
        (json!({ "movedPermilleMax": 1001 }), "movedPermilleMax"),
        (json!({ "moveTime": "-1s" }), "moveTime"),
        (json!({ "moveTime": "0s" }), "moveTime"),
        (json!({ "moveTime": "315576000000s" }), "moveTime"),
        (json!({ "region": "a\n\u{1b}[31m" }), "region"),
        (json!({ "nodes": vec![json!({}); 10_001] }), "nodes"),
    ] {
        let refused = simulate(scenario.clone()).await.refused(400, "invalid_argument");
        assert_eq!(refused["field"], field, "{scenario}: {refused}");
    }
    let tiny = simulate(json!({ "nodes": vec![json!({}); 70_000] }))
        .await
        .refused(400, "invalid_argument");
    assert!(
        tiny["detail"].as_str().unwrap().contains("at most 65536 values"),
        "{tiny}"
    );
    simulate(json!({ "namespace": "nobody" }))
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn keys_are_located() {
    let world = populated().await;
    for key in ["a", "order-17", "schl%C3%BCssel"] {
        let found = get(&world, &format!("/meshkit/shards:locate?namespace=orders&key={key}")).await;
        let text = key.replace("%C3%BC", "ü");
        let wanted = statemachine::strategy::shard_of(text.as_bytes(), 12);
        assert_eq!(
            (&found["namespace"], &found["shard"]),
            (&json!("orders"), &json!(wanted)),
            "{key}"
        );
        assert_eq!(found, get(&world, &format!("/meshkit/shards/orders/{wanted}")).await);
    }
    let located = async |query: &str| {
        world
            .call(READ, "GET", &format!("/meshkit/shards:locate?{query}"), None)
            .await
    };
    located("namespace=nobody&key=a").await.refused(404, "not_found");
    assert_eq!(
        located("namespace=orders").await.refused(400, "invalid_argument")["field"],
        "key"
    );
    assert_eq!(
        located("namespace=Orders&key=a").await.refused(400, "invalid_argument")["field"],
        "namespace"
    );
}

#[tokio::test]
async fn what_is_not_there_or_wrong_is_refused_with_the_way_out() {
    let world = populated().await;
    for (path, status, code, field) in [
        ("/meshkit/shards/orders/12", 404, "not_found", ""),
        ("/meshkit/shards/nobody/0", 404, "not_found", ""),
        ("/meshkit/shards/orders/-1", 400, "invalid_argument", "shard"),
        ("/meshkit/shards/orders/99999999999", 400, "invalid_argument", "shard"),
        ("/meshkit/shards/orders/12/history", 404, "not_found", ""),
        ("/meshkit/shards?namespace=nobody", 404, "not_found", ""),
        ("/meshkit/shards?owner=nobody", 404, "not_found", ""),
        ("/meshkit/shards?owner=No!", 400, "invalid_argument", "owner"),
        ("/meshkit/shards?status=lost", 400, "invalid_argument", "status"),
        ("/meshkit/shards?sort=colour", 400, "invalid_argument", "sort"),
        ("/meshkit/shards?selector=%3D", 400, "invalid_argument", "selector"),
        ("/meshkit/shards?limit=1001", 400, "invalid_argument", "limit"),
        ("/meshkit/shards?cursor=abc", 400, "token_mismatch", "cursor"),
    ] {
        let refused = world.call(READ, "GET", path, None).await.refused(status, code);
        assert!(!refused["hint"].as_str().unwrap().is_empty(), "{path}: {refused}");
        assert_eq!(
            refused["field"].as_str().unwrap_or_default(),
            field,
            "{path}: {refused}"
        );
    }
    let beyond = world
        .call(READ, "GET", "/meshkit/shards/orders/12", None)
        .await
        .refused(404, "not_found");
    assert_eq!(beyond["limit"], "0 to 11");
    let verb = async |verb: &str, body: Value| {
        let path = format!("/meshkit/shards/orders/0:{verb}");
        world.call(OPERATE, "POST", &path, Some(body)).await
    };
    verb("move", json!({ "to": "p1" })).await.refused(409, "shard_there");
    verb("move", json!({ "to": "nobody" })).await.refused(404, "not_found");
    let cancelled = verb("cancel-move", json!({})).await.refused(409, "move_over");
    assert_eq!(cancelled["measured"], "no move");
    world
        .call(OPERATE, "POST", "/meshkit/peers/p2:cordon", Some(json!({})))
        .await
        .expect(200);
    let unfit = verb("move", json!({ "to": "p2" })).await.refused(409, "target_unfit");
    assert_eq!(unfit["measured"], "cordoned");
    verb("pause", json!({})).await.expect(200);
    verb("move", json!({ "to": "p3" }))
        .await
        .refused(409, "shard_transition");
    verb("acknowledge", json!({ "begun": 1 }))
        .await
        .refused(403, "scope_missing");
}

#[tokio::test]
async fn namespaces_are_made_changed_and_taken_away() {
    let world = populated().await;
    let orders = get(&world, "/meshkit/namespaces/orders").await;
    assert_eq!((&orders["shards"], &orders["replicas"]), (&json!(12), &json!(1)));
    assert_eq!(
        orders["policy"],
        json!({ "handOff": "EXCLUSIVE", "movesMax": 4, "step": "30s", "movedPermilleMax": 100 })
    );
    let names = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(get(&world, "/meshkit/namespaces?phase=active").await),
        ["orders", "users"]
    );
    assert!(names(get(&world, "/meshkit/namespaces?phase=deleting").await).is_empty());

    let policy = json!({ "policy": { "handOff": "OVERLAP", "step": "90s" } });
    let changed = post(&world, ADMIN, "/meshkit/namespaces/users:policy", policy).await;
    assert_eq!(
        (&changed["policy"]["handOff"], &changed["policy"]["movesMax"]),
        (&json!("OVERLAP"), &json!(16))
    );
    let made = world.leader().handle.view();
    let record = made
        .state()
        .mesh
        .namespace(&"users".parse().unwrap())
        .unwrap()
        .spec
        .policy;
    assert_eq!((record.hand_off, record.step_ms), (HandOff::Overlap, 90_000));

    let admin = async |verb: &str, path: &str, body: Option<Value>| world.call(ADMIN, verb, path, body).await;
    for (body, field) in [
        (json!({ "id": "new", "shards": 0 }), "shards"),
        (json!({ "id": "new", "shards": 65_537 }), "shards"),
        (json!({ "id": "new", "shards": 1, "replicas": 7 }), "replicas"),
        (json!({ "id": "New", "shards": 1 }), "id"),
        (json!({ "id": "new", "shards": 1, "selector": "=" }), "selector"),
        (
            json!({ "id": "new", "shards": 1, "policy": { "step": "1ms" } }),
            "policy.step",
        ),
        (
            json!({ "id": "new", "shards": 1, "policy": { "movedPermilleMax": 1001 } }),
            "policy.movedPermilleMax",
        ),
    ] {
        let refused = admin("POST", "/meshkit/namespaces", Some(body.clone()))
            .await
            .refused(400, "invalid_argument");
        assert_eq!(refused["field"], field, "{body}: {refused}");
    }
    let again = json!({ "id": "users", "shards": 6 });
    admin("POST", "/meshkit/namespaces", Some(again))
        .await
        .refused(409, "already_exists");
    let bare = admin("POST", "/meshkit/namespaces/users:policy", Some(json!({}))).await;
    assert_eq!(bare.refused(400, "invalid_argument")["field"], "policy");

    let reshaped = async |body: Value| admin("PATCH", "/meshkit/namespaces/orders", Some(body)).await;
    reshaped(json!({ "shards": 13 }))
        .await
        .refused(409, "shard_count_fixed");
    let dry = json!({ "strategy": "RING", "movedPermilleMax": 1000, "dryRun": true });
    assert_eq!(reshaped(dry).await.expect(200)["strategy"], "RING");
    // Half of the owners are not wanted any more.
    let gold = json!({ "selector": "tier=gold", "movedPermilleMax": 499 });
    reshaped(gold).await.refused(409, "moves_too_many");
    let going = reshaped(json!({ "strategy": "RING", "movedPermilleMax": 1000 }))
        .await
        .expect(200);
    assert_eq!(
        (&going["strategy"], going["operation"].is_string()),
        (&json!("RING"), true)
    );
    reshaped(json!({ "replicas": 2 })).await.refused(409, "namespace_busy");

    admin("DELETE", "/meshkit/namespaces/users", None)
        .await
        .refused(409, "namespace_in_use");
    let forced = "/meshkit/namespaces/users?force=true";
    admin("DELETE", forced, None)
        .await
        .refused(428, "confirmation_required");
    admin("DELETE", &format!("{forced}&confirm=orders"), None)
        .await
        .refused(400, "invalid_argument");
    let gone = admin("DELETE", &format!("{forced}&confirm=users"), None)
        .await
        .expect(200);
    assert_eq!(gone["phase"], "DELETING");
    world
        .call(OPERATE, "DELETE", "/meshkit/namespaces/users", None)
        .await
        .refused(403, "scope_missing");
    let refusals = world.leader().refusals.0.lock();
    let noted = refusals
        .iter()
        .find(|refusal| refusal.action == "namespaces.delete")
        .unwrap();
    assert_eq!(
        (noted.target.as_str(), noted.code.as_str()),
        ("namespace/users", "scope_missing")
    );
}

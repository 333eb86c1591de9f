//! Lists page over one revision, on any node, while the mesh moves.

use meshkit_api_server::{Config, Limits};
use serde_json::{Value, json};

use crate::world::{ADMIN, OBSERVE, OPERATE, READ, World};

fn ids(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Pages through peers at `node(page)` while everything is changed between the pages.
async fn pages(world: &World, node: impl Fn(usize) -> u64) {
    for at in 0..10 {
        world.register(&format!("p{at}")).await;
    }
    let leader = world.leader_number();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    let mut revision = None;
    for page in 0.. {
        let path = format!("/meshkit/peers?limit=3&status=active&cursor={cursor}");
        let list = world.at(node(page), READ, "GET", &path, None).await.expect(200);
        assert_eq!(*revision.get_or_insert(list["revision"].clone()), list["revision"]);
        for item in list["items"].as_array().unwrap() {
            assert_eq!(
                (&item["status"], &item["labels"]),
                (&json!("ACTIVE"), &json!({ "zone": "a" }))
            );
        }
        seen.extend(ids(&list));
        cursor = list["nextCursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
        // What was shown goes, what is to be shown changes, and more comes in between.
        let gone = format!("/meshkit/peers/p{page}");
        world.at(leader, ADMIN, "DELETE", &gone, None).await.expect(200);
        world
            .at(leader, OPERATE, "POST", "/meshkit/peers/p9:cordon", None)
            .await
            .expect(200);
        let label = json!({ "labels": { "zone": "b" } });
        world
            .at(leader, OPERATE, "PATCH", "/meshkit/peers/p8", Some(label))
            .await
            .expect(200);
        world.register(&format!("p4-{page}")).await;
    }
    assert_eq!(seen, (0..10).map(|at| format!("p{at}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_of_one_node_show_one_revision() {
    let world = World::one().await;
    pages(&world, |_| 1).await;
}

#[tokio::test]
async fn pages_of_many_nodes_show_one_revision() {
    let world = World::three().await;
    pages(&world, |page| page as u64 % 3 + 1).await;
}

#[tokio::test]
async fn pages_are_rebuilt_where_nothing_is_kept() {
    let limits = Limits {
        pinned_lists_max: 0,
        ..Limits::default()
    };
    let world = World::new(
        1,
        Config {
            limits,
            ..Config::default()
        },
    )
    .await;
    pages(&world, |_| 1).await;
}

#[tokio::test]
async fn filters_select() {
    let world = World::one().await;
    for (id, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        let body = json!({ "id": id, "endpoints": ["h:1"], "labels": { "zone": zone } });
        world
            .call(OPERATE, "POST", "/meshkit/peers", Some(body))
            .await
            .expect(200);
    }
    world
        .call(OPERATE, "POST", "/meshkit/peers/a2:cordon", None)
        .await
        .expect(200);
    let list = |query: &str| {
        let path = format!("/meshkit/peers?{query}");
        let world = &world;
        async move { ids(&world.call(READ, "GET", &path, None).await.expect(200)) }
    };
    assert_eq!(list("selector=zone%3Da").await, ["a1", "a2"]);
    assert_eq!(list("selector=zone%21%3Da").await, ["b1"]);
    assert_eq!(list("status=cordoned").await, ["a2"]);
    assert_eq!(list("status=CORDONED&selector=zone%3Db").await, [""; 0]);
    assert_eq!(list("cluster=c1&limit=1").await, ["a1"]);
    assert_eq!(list("cluster=c2").await, [""; 0]);
}

#[tokio::test]
async fn cursors_of_others_are_refused() {
    let world = World::one().await;
    for id in ["a", "b", "c"] {
        world.register(id).await;
    }
    let list = world
        .call(READ, "GET", "/meshkit/peers?limit=1", None)
        .await
        .expect(200);
    let cursor = list["nextCursor"].as_str().unwrap();
    let with = |query: String| {
        let world = &world;
        async move { world.call(READ, "GET", &format!("/meshkit/peers?{query}"), None).await }
    };
    with(format!("limit=2&cursor={cursor}")).await.expect(200);
    with(format!("cursor={cursor}&status=active"))
        .await
        .refused(400, "token_mismatch");
    with(format!("cursor={}", &cursor[2..]))
        .await
        .refused(400, "token_mismatch");
    with("cursor=AAAA".to_owned()).await.refused(400, "token_mismatch");
    let operations = format!("/meshkit/operations?cursor={cursor}");
    world
        .call(READ, "GET", &operations, None)
        .await
        .refused(400, "token_mismatch");
}

#[tokio::test]
async fn the_trail_pages_both_ways() {
    let world = World::one().await;
    for at in 0..10 {
        world.register(&format!("p{at}")).await;
    }
    let all = |query: &'static str| {
        let world = &world;
        async move {
            let (mut revisions, mut cursor) = (Vec::new(), String::new());
            loop {
                let path = format!("/meshkit/audit?limit=4&{query}&cursor={cursor}");
                let list = world.call(OBSERVE, "GET", &path, None).await.expect(200);
                let items = list["items"].as_array().unwrap();
                revisions.extend(items.iter().map(|item| item["revision"].as_u64().unwrap()));
                cursor = list["nextCursor"].as_str().unwrap().to_owned();
                if cursor.is_empty() {
                    return revisions;
                }
            }
        }
    };
    let forwards = all("actor=").await;
    assert_eq!(forwards, (1..=11).collect::<Vec<u64>>());
    let mut backwards = all("descending=true").await;
    backwards.reverse();
    assert_eq!(backwards, forwards);
    assert_eq!(all("afterRevision=8").await, [9, 10, 11]);
    assert_eq!(all("target=peer/p3").await, [5]);
    assert_eq!(all("actor=nobody").await, [0; 0]);
    assert_eq!(all("outcome=rejected").await, [0; 0]);
    assert_eq!(all("action=peers.register&actor=alice&outcome=applied").await.len(), 10);
}

#[tokio::test]
async fn a_page_fits_into_one_message() {
    let world = World::one().await;
    // Each about 32 KiB: a hundred are more than clients take in one message.
    let fat = "x".repeat(256);
    let labels: std::collections::BTreeMap<String, &str> =
        (0..64).map(|at| (format!("k{at}{fat:.240}"), &*fat)).collect();
    for at in 0..100 {
        let body = json!({ "id": format!("p{at:03}"), "endpoints": ["h:1"], "labels": labels, "metadata": labels });
        world
            .call(OPERATE, "POST", "/meshkit/peers", Some(body))
            .await
            .expect(200);
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/meshkit/peers?limit=1000&cursor={cursor}");
        let answer = world.call(READ, "GET", &path, None).await;
        let list = answer.expect(200);
        assert!(answer.body.len() < 4 << 20);
        seen.extend(ids(&list));
        pages += 1;
        cursor = list["nextCursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!((seen.len(), seen.is_sorted()), (100, true));
    assert!(pages > 1);
    let trail = world.call(OBSERVE, "GET", "/meshkit/audit?limit=1000", None).await;
    assert!(trail.body.len() < 8 << 20);
    assert!(!trail.expect(200)["nextCursor"].as_str().unwrap().is_empty());
}

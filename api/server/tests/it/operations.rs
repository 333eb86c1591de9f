//! Long polls and operations.

use std::time::{Duration, Instant};

use meshkit_api_server::{Config, Limits};
use serde_json::{Value, json};

use crate::world::{OPERATE, READ, World};

async fn draining(world: &World, id: &str) -> (String, Value) {
    world.register(id).await;
    let peer = world
        .at(
            world.leader_number(),
            OPERATE,
            "POST",
            &format!("/meshkit/peers/{id}:drain"),
            None,
        )
        .await;
    let name = peer.expect(200)["operation"].as_str().unwrap().to_owned();
    let operation = world
        .at(
            world.leader_number(),
            READ,
            "GET",
            &format!("/meshkit/operations/{name}"),
            None,
        )
        .await;
    (name, operation.expect(200))
}

#[tokio::test]
async fn a_long_poll_sees_the_change_on_every_node() {
    let world = World::three().await;
    let (name, operation) = draining(&world, "p1").await;
    let version = operation["version"].as_u64().unwrap();
    let poll = |node: u64, query: &str| {
        let path = format!("/meshkit/operations/{name}?{query}");
        let world = &world;
        async move { world.at(node, READ, "GET", &path, None).await }
    };
    // Nothing changes: the poll ends with its timeout.
    let began = Instant::now();
    let same = poll(1, &format!("waitVersion={version}&timeout=0.3s"))
        .await
        .expect(200);
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    assert_eq!(same["version"], version);
    // What has changed already is answered at once.
    let began = Instant::now();
    poll(2, &format!("waitVersion={}&timeout=20s", version - 1))
        .await
        .expect(200);
    assert!(began.elapsed() < Duration::from_secs(5));
    // A change wakes the poll, wherever it waits.
    let query = format!("waitVersion={version}&timeout=20s");
    let change = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let cancel = format!("/meshkit/operations/{name}:cancel");
        world
            .at(world.leader_number(), OPERATE, "POST", &cancel, None)
            .await
            .expect(200);
        Instant::now()
    };
    let (one, two, three, changed) = tokio::join!(
        async { (poll(1, &query).await, Instant::now()) },
        async { (poll(2, &query).await, Instant::now()) },
        async { (poll(3, &query).await, Instant::now()) },
        change
    );
    for (answer, at) in [one, two, three] {
        assert_eq!(answer.expect(200)["state"], "CANCELLED");
        assert!(
            at.saturating_duration_since(changed) < Duration::from_millis(900),
            "{:?}",
            at - changed
        );
    }
    // An operation that has ended is answered at once, whatever is waited for.
    let began = Instant::now();
    poll(1, "waitVersion=99&timeout=20s").await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn long_polls_are_bounded() {
    let limits = Limits {
        long_polls_max: 1,
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
    let (name, operation) = draining(&world, "p1").await;
    let path = format!(
        "/meshkit/operations/{name}?waitVersion={}&timeout=1s",
        operation["version"]
    );
    let (one, two) = tokio::join!(
        world.call(READ, "GET", &path, None),
        world.call(READ, "GET", &path, None)
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
    let long = format!("/meshkit/operations/{name}?waitVersion=9&timeout=61s");
    assert_eq!(
        world
            .call(READ, "GET", &long, None)
            .await
            .refused(400, "invalid_argument")["field"],
        "timeout"
    );
    let negative = format!("/meshkit/operations/{name}?waitVersion=9&timeout=-1s");
    world
        .call(READ, "GET", &negative, None)
        .await
        .refused(400, "invalid_argument");
    world
        .call(READ, "GET", "/meshkit/operations/op-none", None)
        .await
        .refused(404, "not_found");
    world
        .call(READ, "GET", "/meshkit/operations/NO!", None)
        .await
        .refused(400, "invalid_argument");
    // The caller's own deadline ends a poll as well, with an answer.
    let path = format!(
        "/meshkit/operations/{name}?waitVersion={}&timeout=20s",
        operation["version"]
    );
    let began = Instant::now();
    world
        .with(READ, "GET", &path, None, &[("mesh-timeout", "600ms")])
        .await
        .expect(200);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn operations_are_listed_newest_first() {
    let world = World::one().await;
    let mut names = Vec::new();
    for id in ["a", "b", "c"] {
        names.push(draining(&world, id).await.0);
    }
    let cancel = format!("/meshkit/operations/{}:cancel", names[0]);
    world.call(OPERATE, "POST", &cancel, Some(json!({}))).await.expect(200);
    let list = |query: &str| {
        let path = format!("/meshkit/operations?{query}");
        let world = &world;
        async move {
            let list = world.call(READ, "GET", &path, None).await.expect(200);
            let ids = list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned());
            (ids.collect::<Vec<_>>(), list["nextCursor"].as_str().unwrap().to_owned())
        }
    };
    names.reverse();
    assert_eq!(list("").await.0, names);
    assert_eq!(list("state=running").await.0, names[..2]);
    assert_eq!(list("target=peer/a").await.0, names[2..]);
    let (first, cursor) = list("limit=2").await;
    assert_eq!(first, names[..2]);
    draining(&world, "d").await;
    assert_eq!(
        list(&format!("limit=2&cursor={cursor}")).await,
        (names[2..].to_vec(), String::new())
    );
}

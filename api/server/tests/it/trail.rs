//! The audit trail by time, and what is refused for coming too often.

use meshkit_api_server::{Config, Limits};
use serde_json::{Value, json};

use crate::world::{OBSERVE, OPERATE, READ, World};

fn revisions(page: &Value) -> Vec<u64> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["revision"].as_u64().unwrap()).collect()
}

/// A moment of the mesh's clock, as text.
fn time(ms: u64) -> String {
    let nanos = i32::try_from(ms % 1000 * 1_000_000).unwrap();
    let seconds = i64::try_from(ms / 1000).unwrap();
    prost_types::Timestamp { seconds, nanos }.to_string()
}

#[tokio::test]
async fn a_range_of_time_is_a_range_of_revisions() {
    let world = World::one().await;
    for id in ["p1", "p2", "p3", "p4"] {
        world.register(id).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let all = world.call(OBSERVE, "GET", "/meshkit/audit", None).await.expect(200);
    let items = all["items"].as_array().unwrap().clone();
    let at = |place: usize| items[place]["meshTimeMs"].as_u64().unwrap();
    let list = async |query: String| {
        let answer = world
            .call(OBSERVE, "GET", &format!("/meshkit/audit?{query}"), None)
            .await;
        revisions(&answer.expect(200))
    };
    let of = |range: std::ops::Range<usize>| -> Vec<u64> {
        items[range]
            .iter()
            .map(|item| item["revision"].as_u64().unwrap())
            .collect()
    };
    let last = items.len();
    assert!(at(2) < at(3) && at(3) < at(4), "each at a time of its own");
    assert_eq!(list(format!("from={}", time(at(3)))).await, of(3..last));
    assert_eq!(list(format!("from={}", time(at(3) + 1))).await, of(4..last));
    assert_eq!(list(format!("to={}", time(at(3)))).await, of(0..3));
    assert_eq!(list(format!("from={}&to={}", time(at(2)), time(at(4)))).await, of(2..4));
    assert_eq!(
        list(format!("from={}&to={}", time(at(4)), time(at(2)))).await,
        [0_u64; 0]
    );
    assert_eq!(
        list(format!("from={}", time(at(last - 1) + 3_600_000))).await,
        [0_u64; 0]
    );
    let mut backwards = of(2..4);
    backwards.reverse();
    let both = format!("from={}&to={}&descending=true", time(at(2)), time(at(4)));
    assert_eq!(list(both.clone()).await, backwards);
    assert_eq!(
        list(format!("{both}&action=peers.register&limit=1")).await,
        backwards[..1]
    );
    // Pages of it join without a gap, and a cursor is good for its own range only.
    let first = world
        .call(OBSERVE, "GET", &format!("/meshkit/audit?{both}&limit=1"), None)
        .await
        .expect(200);
    let cursor = first["nextCursor"].as_str().unwrap();
    let rest = list(format!("{both}&limit=5&cursor={cursor}")).await;
    assert_eq!(rest, backwards[1..]);
    let other = format!("/meshkit/audit?from={}&cursor={cursor}", time(at(0)));
    world
        .call(OBSERVE, "GET", &other, None)
        .await
        .refused(400, "token_mismatch");
    let wrong = world
        .call(OBSERVE, "GET", "/meshkit/audit?from=1969-12-31T23:59:59Z", None)
        .await;
    assert_eq!(wrong.refused(400, "invalid_argument")["field"], "from");
    let wrong = world.call(OBSERVE, "GET", "/meshkit/audit?to=yesterday", None).await;
    wrong.refused(400, "invalid_argument");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_the_trail_knows() {
    let config = Config {
        limits: Limits {
            requests_per_second_max: 1,
            requests_burst_max: 3,
            ..Limits::default()
        },
        ..Config::default()
    };
    let world = World::new(1, config).await;
    for _ in 0..3 {
        world.call(READ, "GET", "/meshkit/peers", None).await.expect(200);
    }
    let path = "/meshkit/peers/p1:cordon";
    let answer = world.call(OPERATE, "POST", path, Some(json!({}))).await;
    let refused = answer.refused(429, "rate_limited");
    assert_eq!(refused["limit"], "1 a second, 3 at once");
    let wait_ms = refused["retryAfterMs"].as_u64().unwrap();
    assert!((1..=1_000).contains(&wait_ms), "{refused}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(refused["retryable"], true);
    // Somebody else is served, and what was refused is noted, with what it was about.
    let other = http::Request::get("/meshkit/peers").header("host", "api");
    let other = other.body(http_body_util::Full::default()).unwrap();
    world.h1(1, Some("spiffe://m1/client/ci"), other).await.expect(200);
    let noted = world.leader().refusals.0.lock().clone();
    let noted = noted.last().unwrap();
    assert_eq!(
        (
            noted.actor.as_str(),
            noted.action.as_str(),
            noted.target.as_str(),
            noted.code.as_str()
        ),
        ("alice", "peers.cordon", "peer/p1", "rate_limited")
    );
    tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await;
    world.call(READ, "GET", "/meshkit/peers", None).await.expect(200);
}

#[tokio::test]
async fn what_there_is_to_do_and_who_may() {
    let world = World::one().await;
    let answer = world
        .call(OPERATE, "GET", "/meshkit/auth/actions", None)
        .await
        .expect(200);
    assert_eq!(
        (&answer["principal"], &answer["method"]),
        (&json!("alice"), &json!("jwt"))
    );
    let actions = answer["actions"].as_array().unwrap();
    assert_eq!(actions.len(), proto::methods::all().len());
    for action in actions {
        let name = action["action"].as_str().unwrap();
        let can = world
            .call(OPERATE, "GET", &format!("/meshkit/auth/can-i?what={name}"), None)
            .await
            .expect(200);
        assert_eq!(
            (&can["allowed"], &can["needed"]),
            (&action["allowed"], &action["needed"]),
            "{name}"
        );
    }
    let drain = actions.iter().find(|action| action["action"] == "peers.drain").unwrap();
    let (allowed, mutation) = (&drain["allowed"], &drain["mutation"]);
    assert_eq!(
        (allowed, mutation, &drain["rest"]),
        (&json!(true), &json!(true), &json!("POST /meshkit/peers/{id}:drain"))
    );
}

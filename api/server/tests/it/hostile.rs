//! Input that nobody should send: each a typed refusal at a bounded cost, and the server goes on.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use meshkit_api_server::{Config, Limits};
use raft::env::Clock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{ADMIN, Answer, OPERATE, READ, World};

async fn send(world: &World, verb: &str, path: &str, kind: &str, body: impl Into<Bytes>) -> Answer {
    let request = Request::builder()
        .method(verb)
        .uri(path)
        .header("host", "api")
        .header("content-type", kind)
        .header("authorization", format!("Bearer {}", world.token(OPERATE)))
        .body(Full::new(body.into()))
        .unwrap();
    world.h1(1, None, request).await
}

#[tokio::test]
async fn bodies() {
    let world = World::one().await;
    let json = "application/json";
    let peers = "/meshkit/peers";
    let before = world.leader().handle.view().position();
    // Told by its length, on both HTTP versions, and with the whole body on its way.
    let large = vec![b' '; (1 << 20) + 1];
    send(&world, "POST", peers, json, large.clone())
        .await
        .refused(413, "too_large");
    let request = world
        .request(OPERATE, "POST", peers, None, &[("content-type", json)])
        .map(|_| large.clone().into());
    world.h2(1, None, request).await.refused(413, "too_large");
    send(&world, "POST", peers, "text/plain", "{}")
        .await
        .refused(415, "unsupported_media_type");
    send(&world, "POST", peers, "application/x-www-form-urlencoded", "id=p")
        .await
        .refused(415, "unsupported_media_type");
    for (body, field) in [
        ("", "id"),
        ("{", ""),
        ("[]", ""),
        ("null", ""),
        (r#"{"id":"p1","endpoints":["h:1"],"colour":"red"}"#, "colour"),
        (r#"{"id":"p1","id":"p2"}"#, ""),
        (r#"{"id":7}"#, "id"),
        (r#"{"id":"P 1","endpoints":["h:1"]}"#, "id"),
        (r#"{"id":"p1","endpoints":[]}"#, "endpoints"),
        (r#"{"id":"p1","endpoints":["no port"]}"#, "endpoints"),
        (r#"{"id":"p1","endpoints":["h:1"],"labels":{"-":"x"}}"#, "labels"),
        (r#"{"id":"p1","endpoints":["h:1"],"weight":10001}"#, "weight"),
        (r#"{"id":"p1","endpoints":["h:1"],"status":"DRAINED"}"#, "status"),
        (r#"{"id":"p1","endpoints":["h:1"],"cluster":"!"}"#, "cluster"),
    ] {
        let problem = send(&world, "POST", peers, json, body)
            .await
            .refused(400, "invalid_argument");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{body}");
    }
    let deep = format!("{}{}", r#"{"labels":"#.repeat(20_000), "}".repeat(20_000));
    send(&world, "POST", peers, json, deep)
        .await
        .refused(400, "invalid_argument");
    let view = world.leader().handle.view();
    assert_eq!(view.state().mesh.peer_count(), 0);
    // Only what the rules of the domain refused is in the trail.
    assert!(view.position().revision.0 - before.revision.0 <= 4);
}

#[tokio::test]
async fn paths_queries_and_verbs() {
    let world = World::one().await;
    for path in [
        "/",
        "/meshkit",
        "/meshkit/peers/p1/x",
        "/meshkit/peers/p1:explode",
        "/meshkit/peers/%ff",
        "/../etc",
    ] {
        world.call(OPERATE, "GET", path, None).await.refused(404, "not_found");
    }
    let put = world.call(OPERATE, "PUT", "/meshkit/peers/p1", Some(json!({}))).await;
    put.refused(405, "method_not_allowed");
    assert_eq!(put.header("allow"), "GET, PATCH, DELETE");
    for query in [
        "limit=-1",
        "limit=1001",
        "limit=x",
        "colour=red",
        "status=asleep",
        "selector=(",
        "cursor=!",
        "limit=1&limit=2",
    ] {
        let answer = world.call(READ, "GET", &format!("/meshkit/peers?{query}"), None).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(answer.json()["field"], query.split('=').next().unwrap(), "{query}");
    }
    let answer = world
        .with(READ, "GET", "/meshkit/peers", None, &[("mesh-consistency", "eventual")])
        .await;
    answer.refused(400, "invalid_argument");
    world
        .with(READ, "GET", "/meshkit/peers", None, &[("mesh-timeout", "soon")])
        .await
        .refused(400, "invalid_argument");
    world
        .with(READ, "GET", "/meshkit/peers", None, &[("mesh-timeout", "0s")])
        .await
        .refused(504, "deadline_exceeded");
    let route = world
        .with(
            OPERATE,
            "POST",
            "/meshkit/peers/p:drain",
            None,
            &[("mesh-route", "sideways")],
        )
        .await;
    route.refused(400, "invalid_argument");
}

#[tokio::test]
async fn credentials() {
    let world = World::one().await;
    let now_s = raft::testing::SystemClock::default().wall_ms() / 1000;
    let claims =
        |aud: &str, exp: u64| json!({ "iss": "tests", "aud": aud, "sub": "alice", "exp": exp, "scope": "mesh.admin" });
    let other = World::one().await;
    for (token, code) in [
        (world.sign(&claims("m1", now_s - 1)), "credential_expired"),
        (world.sign(&claims("m2", now_s + 60)), "unauthenticated"),
        (other.sign(&claims("m1", now_s + 60)), "unauthenticated"),
        ("garbage".to_owned(), "unauthenticated"),
        ("x".repeat(10_000), "unauthenticated"),
    ] {
        let request = Request::get("/meshkit/peers")
            .header("host", "api")
            .header("authorization", format!("Bearer {token}"))
            .body(Default::default())
            .unwrap();
        let answer = world.h1(1, None, request).await;
        answer.refused(401, code);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let nobody = Request::get("/meshkit/peers")
        .header("host", "api")
        .body(Default::default())
        .unwrap();
    world.h1(1, None, nobody).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_forged_forwarding_header_is_thrown_away() {
    let world = World::one().await;
    let form = json!({
        "subject": "root", "scope": "mesh.admin", "proof": "jwt", "transport": "h2", "address": "10.0.0.1:1",
    });
    let forged = BASE64_URL_SAFE_NO_PAD.encode(form.to_string());
    let request = |token: Option<String>| {
        let mut request = Request::get("/meshkit/auth/can-i?what=mesh.admin")
            .header("host", "api")
            .header("mesh-forwarded", &forged);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Full::default()).unwrap()
    };
    // The sender is judged by its own credential, or for want of one.
    let own = world.h1(1, None, request(Some(world.token(READ)))).await.expect(200);
    assert_eq!((&own["principal"], &own["allowed"]), (&json!("alice"), &json!(false)));
    let no_node = [
        None,
        Some("spiffe://m1/cluster/c2/node/1"),
        Some("spiffe://m2/cluster/c1/node/1"),
        Some("spiffe://m1/peer/c1"),
        // A good certificate of this very cluster, but nobody has added the node.
        Some("spiffe://m1/cluster/c1/node/2"),
    ];
    for uri in no_node {
        world.h1(1, uri, request(None)).await.refused(401, "unauthenticated");
    }
    let ci = world
        .h1(1, Some("spiffe://m1/client/ci"), request(None))
        .await
        .expect(200);
    assert_eq!(ci["principal"], "ci");
    // A member node is believed, and only in the form that nodes write.
    let member = Some("spiffe://m1/cluster/c1/node/1");
    assert_eq!(
        world.h1(1, member, request(None)).await.expect(200)["principal"],
        "root"
    );
    let broken = Request::get("/meshkit/peers")
        .header("host", "api")
        .header("mesh-forwarded", "x");
    world
        .h1(1, member, broken.body(Full::default()).unwrap())
        .await
        .refused(400, "invalid_argument");
    let metrics = world.call(ADMIN, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("meshkit_api_forged_forwarding_headers_total 7"), "{text}");
}

#[tokio::test]
async fn heads_and_silence() {
    let mut config = Config::default();
    config.deadlines.idle_ms = 300;
    let world = World::new(1, config).await;
    // A megabyte of headers, on both versions.
    let request = |size: usize| {
        let value = "x".repeat(size);
        Request::get("/livez")
            .header("host", "api")
            .header("x-large", value)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    assert_eq!(world.h1(1, None, request(100)).await.status, 200);
    assert_eq!(world.h1(1, None, request(1 << 20)).await.status, 431);
    let stream = hyper_util::rt::TokioIo::new(world.connect(1, None).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    let mut large = request(1 << 20);
    *large.uri_mut() = "https://api/livez".parse().unwrap();
    large.headers_mut().remove("host");
    match sender.send_request(large).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.is_user() || !error.to_string().is_empty()),
    }
    // Nothing, half a head, garbage: the connection ends soon.
    for bytes in [
        &b""[..],
        b"GET /livez HTTP/1.1\r\nhost: a",
        b"\x16\x03\x01garbage\r\n\r\n",
    ] {
        let mut stream = world.connect(1, None).await;
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "{bytes:?} was left hanging");
    }
    // After all of it the server answers.
    assert_eq!(world.h1(1, None, request(1)).await.status, 200);
}

#[tokio::test]
async fn more_than_can_be_served_is_refused() {
    let limits = Limits {
        connections_max: 2,
        requests_in_flight_max: 0,
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
    let one = world.connect(1, None).await;
    let two = world.connect(1, None).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut three = world.connect(1, None).await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), three.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(closed.is_err() || rest.is_empty());
    drop((one, two));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = world.call(READ, "GET", "/meshkit/peers", None).await;
    answer.refused(429, "resource_exhausted");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_stop_lets_what_is_under_way_end() {
    let mut world = World::one().await;
    let idle = world.connect(1, None).await;
    let serving = world.nodes[0].serving.take().unwrap();
    world.nodes[0].stop.cancel();
    tokio::time::timeout(Duration::from_secs(8), serving)
        .await
        .unwrap()
        .unwrap();
    drop(idle);
}

/// A request means one thing, or is refused: what stands in two places agrees, nothing stands twice, and a path has one
/// reading. Over REST and gRPC alike.
#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let world = World::one().await;
    world.register("p1").await;
    let cordon = "/meshkit/peers/p1:cordon";
    for (header, value, body) in [
        ("mesh-dry-run", "false", json!({ "dryRun": true })),
        ("mesh-reason", "one", json!({ "reason": "another" })),
        ("mesh-ticket", "A-1", json!({ "ticket": "A-2" })),
        ("idempotency-key", "k1", json!({ "idempotencyKey": "k2" })),
        ("if-match", "\"e1\"", json!({ "ifMatch": "e2" })),
    ] {
        let answer = world
            .with(OPERATE, "POST", cordon, Some(body), &[(header, value)])
            .await;
        answer.refused(400, "invalid_argument");
    }
    // A field that a path takes from the body is not taken from the query, where it would be overlooked.
    for query in ["dryRun=true", "reason=x", "id=p2"] {
        let path = format!("{cordon}?{query}");
        let answer = world.call(OPERATE, "POST", &path, Some(json!({}))).await;
        answer.refused(400, "invalid_argument");
    }
    let two = |name: &'static str, values: [&str; 2]| {
        let mut request = world.request(OPERATE, "POST", cordon, Some(json!({})), &[]);
        if name != "authorization" {
            request.headers_mut().append(name, values[0].parse().unwrap());
        }
        request.headers_mut().append(name, values[1].parse().unwrap());
        request
    };
    for (name, values, status) in [
        ("mesh-dry-run", ["true", "false"], 400),
        ("idempotency-key", ["a", "b"], 400),
        ("mesh-reason", ["a", "b"], 400),
        ("mesh-route", ["forward", "redirect"], 400),
        ("authorization", ["", "Bearer x"], 401),
    ] {
        let answer = world.h1(1, None, two(name, values)).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
    // Nothing but the one form of a path leads to a call, and the scope is that of the call.
    for path in [
        "//meshkit/peers/p1:cordon",
        "/meshkit//peers/p1:cordon",
        "/MESHKIT/peers/p1:cordon",
        "/meshkit/peers/p1:CORDON",
    ] {
        world.call(READ, "POST", path, None).await.refused(404, "not_found");
    }
    world
        .call(READ, "POST", "/meshkit/peers/p1%3Acordon", None)
        .await
        .refused(405, "method_not_allowed");
    // A gRPC path takes gRPC alone.
    let path = "/meshkit.v1.PeerService/CordonPeer";
    let answer = world.call(OPERATE, "POST", path, Some(json!({ "id": "p1" }))).await;
    answer.refused(404, "not_found");
    let peer = world.call(READ, "GET", "/meshkit/peers/p1", None).await.expect(200);
    assert_eq!((&peer["status"], &peer["version"]), (&json!("ACTIVE"), &json!(1)));
}

/// Selectors that cost or mean too much are refused by name, whatever they are made of; the rest select what they say.
#[tokio::test]
async fn selectors() {
    let world = World::one().await;
    world.register("p1").await;
    let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
    for selector in [
        "a=".to_owned() + &"b".repeat(5_000),
        many.join(","),
        "!".repeat(300),
        "\u{202e}=1".to_owned(),
        "\0".to_owned(),
        "$ne=1".to_owned(),
        "'; drop".to_owned(),
        "(".repeat(2_000),
        "a in (".to_owned(),
        "a in b)".to_owned(),
        "a in (b))".to_owned(),
        "a=b,,c=d".to_owned(),
        ",".to_owned(),
    ] {
        let mut request = world.request(READ, "GET", "/meshkit/peers", None, &[]);
        let encoded: String = selector.bytes().map(|byte| format!("%{byte:02X}")).collect();
        *request.uri_mut() = format!("/meshkit/peers?selector={encoded}").parse().unwrap();
        let refused = world.h1(1, None, request).await.refused(400, "invalid_argument");
        assert_eq!(refused["field"], "selector", "{selector}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.len() < 300 && detail.is_ascii(), "{detail}");
        // Nor does anything come of it where it would drain.
        let body = json!({ "selector": selector, "atOnce": 1 });
        let drain = world.call(OPERATE, "POST", "/meshkit/peers:drain", Some(body)).await;
        drain.refused(400, "invalid_argument");
    }
}

/// What anybody is told without a credential, and nothing else; what the rest needs is not told apart either.
#[tokio::test]
async fn who_shows_no_credential_learns_nothing() {
    let world = World::one().await;
    world.register("p1").await;
    let get = |path: &str| {
        let request = Request::get(path).header("host", "api");
        request.body(Full::<Bytes>::default()).unwrap()
    };
    for open in ["/livez", "/readyz", "/openapi.json"] {
        let answer = world.h1(1, None, get(open)).await;
        assert_eq!(answer.status, 200, "{open}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("p1\""), "{open} names records");
    }
    let document: serde_json::Value =
        serde_json::from_slice(&world.h1(1, None, get("/openapi.json")).await.body).unwrap();
    let mut asked = 0;
    for (path, verbs) in document["paths"].as_object().unwrap() {
        for verb in verbs.as_object().unwrap().keys().filter(|verb| *verb != "parameters") {
            for id in ["p1", "nobody"] {
                let path = path
                    .replace("{id}", id)
                    .replace("{node}", "1")
                    .replace("{name}", "NOSPACE");
                let mut request = get(&path);
                *request.method_mut() = verb.to_uppercase().parse().unwrap();
                let answer = world.h1(1, None, request).await;
                if ["/livez", "/readyz", "/openapi.json"].contains(&path.as_str()) {
                    continue;
                }
                answer.refused(401, "unauthenticated");
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "{asked}");
    for path in ["/metrics", "/control/peers", "/meshkit/peers/p1"] {
        world.h1(1, None, get(path)).await.refused(401, "unauthenticated");
    }
}

//! What one caller can hold of a node, and for how long: places, connections, answers that nobody reads.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshkit_api_server::{Config, Limits};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::world::{Answer, OBSERVE, OPERATE, READ, World};

const CI: Option<&str> = Some("spiffe://m1/client/ci");
const SOON: Duration = Duration::from_secs(20);

async fn metrics(world: &World) -> String {
    let answer = world.call(OBSERVE, "GET", "/metrics", None).await;
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn anonymous(verb: &str, path: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(verb).uri(path).header("host", "api");
    request.body(Full::default()).unwrap()
}

/// The same request in the form of HTTP/2.
fn over_h2(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.uri_mut() = format!("https://api{}", request.uri()).parse().unwrap();
    *request.version_mut() = http::Version::HTTP_2;
    request.headers_mut().remove("host");
    request
}

async fn h1(world: &World, uri: Option<&str>) -> http1::SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(world.connect(1, uri).await);
    let (sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_client_that_never_reads_over_h2_loses_its_connection_and_nobody_else_anything() {
    let mut config = Config::default();
    config.limits.requests_in_flight_max = 2;
    config.limits.principal_share_percent = 100;
    config.deadlines.write_ms = 3_000;
    let world = World::new(1, config).await;
    let mut good = h1(&world, None).await;
    let get = || world.request(READ, "GET", "/meshkit/peers", None, &[]);
    assert_eq!(Answer::read(good.send_request(get()).await.unwrap()).await.status, 200);
    // Its window takes a few bytes of each answer, and is never opened further.
    let stream = TokioIo::new(world.connect(1, None).await);
    let (mut bad, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(16)
        .handshake(stream)
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let unread = [
        bad.send_request(over_h2(get())).await.unwrap(),
        bad.send_request(over_h2(get())).await.unwrap(),
    ];
    // Answered, and still holding their places.
    assert!(unread.iter().all(|answer| answer.status() == 200));
    let refused = world.h1(1, CI, anonymous("GET", "/meshkit/peers")).await;
    refused.refused(429, "resource_exhausted");
    // Until the deadline: then the connection goes, and the places come back.
    let _ = tokio::time::timeout(SOON, ended).await.unwrap();
    until("the places were not given back", || async {
        world.call(READ, "GET", "/meshkit/peers", None).await.status == 200
    })
    .await;
    assert_eq!(Answer::read(good.send_request(get()).await.unwrap()).await.status, 200);
    drop(unread);
    let text = metrics(&world).await;
    assert!(text.contains("meshkit_api_requests_in_flight 1\n"), "{text}");
    assert!(
        text.contains(r#"meshkit_api_connections_cut_total{reason="stalled"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_that_never_reads_over_h1_loses_its_connection() {
    let mut config = Config::default();
    config.limits.requests_in_flight_anonymous_max = 1;
    config.deadlines.write_ms = 3_000;
    let world = World::new(1, config).await;
    let mut stream = world.connect(1, None).await;
    // More than the stream takes, so that the server cannot write all of it.
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: api\r\n\r\n".repeat(20);
    stream.write_all(requests.as_bytes()).await.unwrap();
    until("the place is held by the answer", || async {
        world.h1(1, None, anonymous("GET", "/livez")).await.status == 429
    })
    .await;
    until("the place was not given back", || async {
        world.h1(1, None, anonymous("GET", "/livez")).await.status == 200
    })
    .await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.is_empty());
    let text = metrics(&world).await;
    assert!(
        text.contains(r#"meshkit_api_connections_cut_total{reason="stalled"} 1"#),
        "{text}"
    );
    assert!(text.contains("meshkit_api_requests_in_flight 1\n"), "{text}");
}

#[tokio::test]
async fn connections_that_prove_nothing_are_few_and_short() {
    let mut config = Config::default();
    config.limits.connections_per_address_anonymous_max = 2;
    config.deadlines.idle_anonymous_ms = 2_000;
    let world = World::new(1, config).await;
    let mut known = h1(&world, None).await;
    let get = || world.request(READ, "GET", "/meshkit/peers", None, &[]);
    assert_eq!(Answer::read(known.send_request(get()).await.unwrap()).await.status, 200);
    // The share is for those who have not shown a credential; a health check is none.
    let mut one = h1(&world, None).await;
    assert_eq!(
        Answer::read(one.send_request(anonymous("GET", "/livez")).await.unwrap())
            .await
            .status,
        200
    );
    let mut two = world.connect(1, None).await;
    two.write_all(b"GET /livez HTTP/1.1\r\nhost: api\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    two.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut three = world.connect(1, None).await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(SOON, three.read_to_end(&mut rest)).await.unwrap();
    assert!(closed.is_err() || rest.is_empty());
    // One of them shows a credential, and there is room for another.
    assert_eq!(Answer::read(one.send_request(get()).await.unwrap()).await.status, 200);
    assert_eq!(world.h1(1, None, anonymous("GET", "/livez")).await.status, 200);
    // Who has shown none is not kept for long; who has, is.
    tokio::time::timeout(SOON, two.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(Answer::read(known.send_request(get()).await.unwrap()).await.status, 200);
    assert_eq!(Answer::read(one.send_request(get()).await.unwrap()).await.status, 200);
    let text = metrics(&world).await;
    assert!(
        text.contains(r#"meshkit_api_connections_cut_total{reason="address"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn one_principal_has_a_share() {
    let limits = Limits {
        requests_in_flight_max: 8,
        long_polls_max: 4,
        principal_share_percent: 25,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let world = World::new(1, config).await;
    world.register("p1").await;
    let drain = world
        .call(OPERATE, "POST", "/meshkit/peers/p1:drain", None)
        .await
        .expect(200);
    let name = drain["operation"].as_str().unwrap().to_owned();
    let version = world
        .call(READ, "GET", &format!("/meshkit/operations/{name}"), None)
        .await
        .expect(200)["version"]
        .clone();
    let path = format!("/meshkit/operations/{name}?waitVersion={version}&timeout=30s");
    let poll = || world.request(READ, "GET", &path, None, &[]);
    let mut waiting = h1(&world, None).await;
    let first = tokio::spawn(waiting.send_request(poll()));
    // Alice waits once, and can wait no second time.
    let short = path.replace("30s", "0.05s");
    until("the second poll is refused", || async {
        world.call(READ, "GET", &short, None).await.status == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    let refused = world.call(READ, "GET", &path, None).await;
    let problem = refused.refused(429, "rate_limited");
    assert_eq!(
        (&problem["retryable"], &problem["retryAfterMs"]),
        (&json!(true), &json!(1000)),
        "{problem}"
    );
    assert_eq!(problem["limit"], "1");
    assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    assert_eq!(refused.header("retry-after"), "1");
    // Somebody else can.
    let other = Request::get(&short).header("host", "api");
    let answer = world.h1(1, CI, other.body(Full::default()).unwrap()).await;
    assert_eq!(answer.expect(200)["version"], version);
    // Requests likewise: a second one that is held open uses alice's share up.
    let body = http_body_util::StreamBody::new(futures::stream::pending::<
        Result<http_body::Frame<Bytes>, std::convert::Infallible>,
    >());
    let (head, _) = world
        .request(OPERATE, "POST", "/meshkit/peers", Some(json!({})), &[])
        .into_parts();
    let stream = TokioIo::new(world.connect(1, None).await);
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let held = tokio::spawn(sender.send_request(Request::from_parts(head, body)));
    until("alice's third request is refused", || async {
        world.call(READ, "GET", "/meshkit/peers", None).await.status == 429
    })
    .await;
    let answer = world.call(READ, "GET", "/meshkit/peers", None).await;
    answer.refused(429, "rate_limited");
    assert_eq!(world.h1(1, CI, anonymous("GET", "/meshkit/peers")).await.status, 200);
    // What is left behind gives its place back.
    held.abort();
    drop(sender);
    until("the place was not given back", || async {
        world.call(READ, "GET", "/meshkit/peers", None).await.status == 200
    })
    .await;
    assert!(!first.is_finished());
}

#[tokio::test]
async fn those_without_a_credential_take_no_place_of_those_with_one() {
    let mut config = Config::default();
    config.limits.requests_in_flight_anonymous_max = 1;
    config.deadlines.drain_ms = 60_000;
    let world = World::new(1, config).await;
    // A refused request whose body does not end is read away, in the only place that there is for such.
    let mut slow = world.connect(1, None).await;
    let head = b"POST /meshkit/peers HTTP/1.1\r\nhost: api\r\ncontent-length: 10\r\n\r\n{";
    slow.write_all(head).await.unwrap();
    until("the place is taken", || async {
        world.h1(1, None, anonymous("GET", "/livez")).await.status == 429
    })
    .await;
    world
        .h1(1, None, anonymous("GET", "/livez"))
        .await
        .refused(429, "resource_exhausted");
    world
        .h1(1, None, anonymous("GET", "/meshkit/peers"))
        .await
        .refused(401, "unauthenticated");
    assert_eq!(world.call(READ, "GET", "/meshkit/peers", None).await.status, 200);
    drop(slow);
    until("the place was not given back", || async {
        world.h1(1, None, anonymous("GET", "/livez")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_panic_costs_one_request_its_answer() {
    let world = World::one().await;
    *world.node(1).facts.broken.lock() = true;
    let mut connection = h1(&world, None).await;
    let status = || world.request(READ, "GET", "/meshkit/status", None, &[]);
    let broken = Answer::read(connection.send_request(status()).await.unwrap()).await;
    let problem = broken.refused(500, "internal");
    assert!(!problem.to_string().contains("told to"), "{problem}");
    let get = world.request(READ, "GET", "/meshkit/peers", None, &[]);
    assert_eq!(
        Answer::read(connection.send_request(get).await.unwrap()).await.status,
        200
    );
    *world.node(1).facts.broken.lock() = false;
    assert_eq!(
        Answer::read(connection.send_request(status()).await.unwrap())
            .await
            .status,
        200
    );
    let text = metrics(&world).await;
    assert!(text.contains("meshkit_api_panics_total 1\n"), "{text}");
    assert!(text.contains("meshkit_api_requests_in_flight 1\n"), "{text}");
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let world = World::one().await;
    world.register("p1").await;
    for path in [
        "/livez",
        "/openapi.json",
        "/meshkit/peers",
        "/meshkit/peers/p1",
        "/meshkit/peers/p2",
        "/nowhere",
    ] {
        let request = |verb| world.request(READ, verb, path, None, &[("mesh-request-id", "r1")]);
        let pairs = [
            (
                world.h1(1, None, request("GET")).await,
                world.h1(1, None, request("HEAD")).await,
            ),
            (
                world.h2(1, None, request("GET")).await,
                world.h2(1, None, request("HEAD")).await,
            ),
        ];
        for (mut get, mut head) in pairs {
            assert_eq!((get.status, head.body.len()), (head.status, 0), "{path}");
            assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
            get.headers.remove("date");
            head.headers.remove("date");
            assert_eq!(get.headers, head.headers, "{path}");
        }
    }
}

#[tokio::test]
async fn another_sites_page_cannot_use_a_browsers_certificate() {
    let world = World::one().await;
    let register = |id: &str, header: Option<(&str, &str)>| {
        let body = json!({ "id": id, "endpoints": ["h:1"] }).to_string();
        let mut request = Request::post("/meshkit/peers")
            .header("host", "api")
            .header("content-type", "application/json");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::from(body))).unwrap()
    };
    for (name, value, field) in [
        ("sec-fetch-site", "cross-site", "Sec-Fetch-Site"),
        ("sec-fetch-site", "same-site", "Sec-Fetch-Site"),
        ("origin", "https://evil.example", "Origin"),
        ("origin", "null", "Origin"),
    ] {
        let refused = world.h1(1, CI, register("p1", Some((name, value)))).await;
        assert_eq!(refused.refused(400, "invalid_argument")["field"], field, "{value}");
        let refused = world.h2(1, CI, register("p1", Some((name, value)))).await;
        assert_eq!(refused.refused(400, "invalid_argument")["field"], field, "{value}");
        // Reading tells the page nothing: the browser keeps the answer from it.
        let mut read = anonymous("GET", "/meshkit/peers");
        read.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(world.h1(1, CI, read).await.expect(200)["items"], json!([]));
    }
    let noted = world.node(1).refusals.0.lock().clone();
    assert_eq!(noted.len(), 8);
    assert_eq!(
        (noted[0].actor.as_str(), noted[0].code.as_str()),
        ("ci", "invalid_argument")
    );
    world
        .h1(1, CI, register("p1", Some(("origin", "https://api"))))
        .await
        .expect(200);
    world.h1(1, CI, register("p2", None)).await.expect(200);
    // A token is the page's own.
    let mut own = register("p3", Some(("origin", "https://console.example")));
    let bearer = format!("Bearer {}", world.token(OPERATE)).parse().unwrap();
    own.headers_mut().insert("authorization", bearer);
    world.h1(1, None, own).await.expect(200);
}

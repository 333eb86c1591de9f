//! Backups as callers get them: the same file over every wire, few at once, stopped when nobody wants them, and never
//! taken for whole when they are not.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshkit_api_server::Config;
use proto::v1::{SaveBackupRequest, backup_service_client::BackupServiceClient};
use serde_json::json;
use statemachine::backup::{Check, Contents, Decoder};
use tokio::time::Instant;

use crate::world::{ADMIN, OBSERVE, OPERATE, World};

const PATH: &str = "/meshkit/backup";
const SOON: Duration = Duration::from_secs(20);

/// What a file holds, if it is whole.
fn check(file: &[u8]) -> Result<Contents, String> {
    let (mut decoder, mut check) = (Decoder::new(), Check::new());
    decoder.push(file);
    while let Some(part) = decoder.part().map_err(|damage| damage.to_string())? {
        check.part(&part).map_err(|wrong| wrong.to_string())?;
    }
    let end = decoder.finish().map_err(|damage| damage.to_string())?;
    check
        .finish(end)
        .map(|checked| checked.contents)
        .map_err(|wrong| wrong.to_string())
}

#[tokio::test]
async fn a_backup_is_the_same_over_every_wire_and_from_every_node() {
    let world = World::three().await;
    for n in 0..20 {
        world.register(&format!("p{n}")).await;
    }
    for node in 1..=3 {
        let over_h1 = world.at(node, ADMIN, "GET", PATH, None).await;
        assert_eq!(over_h1.status, 200, "{over_h1:?}");
        assert_eq!(over_h1.header("content-type"), "application/octet-stream");
        assert!(!over_h1.headers.contains_key("content-length"));
        let contents = check(&over_h1.body).unwrap();
        assert_eq!(
            over_h1.header("mesh-revision"),
            contents.header.position.revision.to_string()
        );
        let over_h2 = world.h2(node, None, world.request(ADMIN, "GET", PATH, None, &[])).await;
        let channel = world.channel(node, None).await;
        let request = world.grpc(
            ADMIN,
            SaveBackupRequest {
                reason: "night".into(),
                ticket: "OPS-1".into(),
            },
        );
        let mut chunks = BackupServiceClient::new(channel)
            .save_backup(request)
            .await
            .unwrap()
            .into_inner();
        let mut over_grpc = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            over_grpc.extend(chunk.data);
        }
        for file in [&over_h2.body[..], &over_grpc] {
            let again = check(file).unwrap();
            // Each is recorded, and so a revision further than the one before.
            assert_eq!((again.peers, again.first_revision), (20, contents.first_revision));
            assert!(again.header.position.revision > contents.header.position.revision);
        }
    }
    let trail = world
        .call(OBSERVE, "GET", "/meshkit/audit?limit=100", None)
        .await
        .expect(200);
    let taken: Vec<_> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["action"] == "backup.save")
        .collect();
    assert_eq!(taken.len(), 9);
    assert!(taken.iter().all(|record| record["actor"] == "alice"));
    assert!(
        taken
            .iter()
            .any(|record| record["reason"] == "night" && record["ticket"] == "OPS-1")
    );
}

#[tokio::test]
async fn who_may_not_or_asks_wrongly_gets_a_refusal_and_no_file() {
    let world = World::one().await;
    world
        .call(OPERATE, "GET", PATH, None)
        .await
        .refused(403, "scope_missing");
    world
        .call(ADMIN, "GET", "/meshkit/backup?nothing=1", None)
        .await
        .refused(400, "invalid_argument");
    world
        .call(ADMIN, "POST", PATH, None)
        .await
        .refused(405, "method_not_allowed");
    let long = format!("{PATH}?reason={}", "x".repeat(2000));
    world
        .call(ADMIN, "GET", &long, None)
        .await
        .refused(400, "invalid_argument");
    let late = world.with(ADMIN, "GET", PATH, None, &[("mesh-timeout", "0ms")]).await;
    assert_ne!(late.status, 200);
}

/// Makes a state of several parts: what is on its way to a caller is more than buffers hold.
async fn large(world: &World) {
    let metadata: serde_json::Map<_, _> = (0..60).map(|n| (format!("k{n}"), "x".repeat(250).into())).collect();
    for n in 0..100 {
        let body = json!({ "id": format!("p{n}"), "endpoints": ["h:1"], "metadata": metadata });
        world
            .call(OPERATE, "POST", "/meshkit/peers", Some(body))
            .await
            .expect(200);
    }
}

async fn metrics(world: &World) -> String {
    let answer = world.call(OBSERVE, "GET", "/metrics", None).await;
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// A backup whose caller takes a few bytes and no more, and the connection that it is on.
async fn unread(world: &World, headers: &[(&str, &str)]) -> (http::Response<hyper::body::Incoming>, impl Drop) {
    struct Connection(tokio::task::JoinHandle<()>);
    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let stream = TokioIo::new(world.connect(1, None).await);
    let (mut send, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(16)
        .handshake(stream)
        .await
        .unwrap();
    let connection = Connection(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let mut request: Request<Full<Bytes>> = world.request(ADMIN, "GET", PATH, None, headers);
    *request.uri_mut() = format!("https://api{PATH}").parse().unwrap();
    *request.version_mut() = http::Version::HTTP_2;
    request.headers_mut().remove("host");
    let response = send.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    (response, connection)
}

#[tokio::test]
async fn few_are_read_at_once_and_none_for_a_caller_who_left() {
    let mut config = Config::default();
    config.limits.backups_max = 1;
    let world = World::new(1, config).await;
    large(&world).await;
    let (response, connection) = unread(&world, &[]).await;
    let refused = world
        .call(ADMIN, "GET", PATH, None)
        .await
        .refused(429, "resource_exhausted");
    assert_eq!(
        (refused["limit"].as_str(), refused["retryable"].as_bool()),
        (Some("1 at once"), Some(true))
    );
    drop((response, connection));
    let deadline = Instant::now() + SOON;
    while world.call(ADMIN, "GET", PATH, None).await.status != 200 {
        assert!(Instant::now() < deadline, "the place was not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = metrics(&world).await;
    for line in [
        r#"meshkit_api_backups_total{end="left"} 1"#,
        r#"meshkit_api_backups_total{end="whole"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn a_backup_that_is_cut_short_is_not_taken_for_whole() {
    let world = World::one().await;
    large(&world).await;
    // The caller's own limit, and the end of the server.
    let (limited, _held) = unread(&world, &[("mesh-timeout", "300ms")]).await;
    let (stopped, _held_too) = unread(&world, &[]).await;
    let ended = |body: hyper::body::Incoming| tokio::time::timeout(SOON, body.collect());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(ended(limited.into_body()).await.unwrap().is_err(), "an end was made up");
    world.node(1).stop.cancel();
    assert!(ended(stopped.into_body()).await.unwrap().is_err(), "an end was made up");
}

#[tokio::test]
async fn without_a_quorum_a_node_gives_what_it_has_to_who_asks_for_that() {
    let world = World::three().await;
    world.register("p1").await;
    let alone = world.follower_number();
    for node in (1..=3).filter(|node| *node != alone) {
        world.node(node).handle.shutdown(SOON).await.unwrap();
    }
    let ask = |headers: &'static [(&'static str, &'static str)]| {
        let request = world.request(ADMIN, "GET", PATH, None, headers);
        world.h1(alone, None, request)
    };
    let local = ask(&[("mesh-consistency", "local"), ("mesh-timeout", "3s")]).await;
    assert_eq!(local.status, 200, "{local:?}");
    assert_eq!(check(&local.body).unwrap().peers, 1);
    let refused = ask(&[("mesh-timeout", "3s")]).await.json();
    let code = refused["code"].as_str().unwrap();
    assert!(
        ["unavailable", "deadline_exceeded", "not_leader"].contains(&code),
        "{refused}"
    );
}

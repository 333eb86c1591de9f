//! Certificates that stop counting while their connections are open.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use raft::{
    env::{Clock, PeerIdentity, Standing},
    testing::SystemClock,
};

use crate::world::{ADMIN, Answer, OPERATE, World};

const CI: &str = "spiffe://m1/client/ci";

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A connection to the first node as `ci`, and what resolves when it has ended.
async fn open(world: &World) -> (Sender, tokio::task::JoinHandle<()>) {
    let stream = TokioIo::new(world.connect(1, Some(CI)).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let ended = tokio::spawn(async move {
        connection.await.ok();
    });
    (sender, ended)
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://api{path}"))
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_a_connection_without_standing_is_closed() {
    let world = World::one().await;
    world.register("p1").await;
    let drain = world
        .call(OPERATE, "POST", "/meshkit/peers/p1:drain", None)
        .await
        .expect(200);
    let name = drain["operation"].as_str().unwrap().to_owned();
    let (withdraw, standing) = Standing::revocable();
    world.network.vouch(PeerIdentity {
        standing,
        ..PeerIdentity::stated(CI)
    });
    let (mut sender, ended) = open(&world).await;
    Answer::read(sender.send_request(get("/meshkit/peers")).await.unwrap())
        .await
        .expect(200);

    // A long poll waits when the authority is dropped, and a caller without a certificate works on.
    let path = format!("/meshkit/operations/{name}?waitVersion=99&timeout=1s");
    let (mut waiting, long) = (sender.clone(), get(&path));
    let poll = tokio::spawn(async move { Answer::read(waiting.send_request(long).await.unwrap()).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!poll.is_finished());
    withdraw.withdraw();
    // A further request is refused, or finds the connection closing.
    if let Ok(response) = sender.send_request(get("/meshkit/peers")).await {
        Answer::read(response).await.refused(401, "unauthenticated");
    }
    poll.await.unwrap().expect(200);
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the connection stays open")
        .unwrap();
    let metrics = world.call(ADMIN, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(
        text.contains(r#"meshkit_api_connections_cut_total{reason="withdrawn"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_a_connection_that_was_open() {
    let world = World::one().await;
    let now_s = SystemClock::default().wall_ms() / 1000;
    world.network.vouch(PeerIdentity {
        not_after_s: Some(now_s + 2),
        ..PeerIdentity::stated(CI)
    });
    let (mut sender, _ended) = open(&world).await;
    Answer::read(sender.send_request(get("/meshkit/peers")).await.unwrap())
        .await
        .expect(200);
    while SystemClock::default().wall_ms() / 1000 <= now_s + 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = Answer::read(sender.send_request(get("/meshkit/peers")).await.unwrap()).await;
    let problem = answer.refused(401, "credential_expired");
    assert!(problem["hint"].as_str().unwrap().contains("renew"), "{problem}");
}

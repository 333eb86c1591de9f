//! HTTP/3: every kind of call where TCP is blocked, counted as what it is, and what bad input over UDP gets: bounded
//! cost, a refusal that says so, no effect on others.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use api_quic::{Body, Client, Error, config::Transport, h3::error::Code, quinn};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use node_harness::{Mesh, Options, wait_until};
use rustix::process::Signal;
use serde_json::json;
use tokio::{net::UdpSocket, task::JoinHandle};

use super::{
    shared::on_one_mesh,
    wire::{Caller, Wire, runtime},
    world::{SOON, audit, caller, follower, leader, registration, tls, unique},
};

/// Small enough for a test to go over.
const HANDSHAKES: usize = 8;
const STREAMS: usize = 16;
const HEADER_BYTES: usize = 8_192;
const HURRY_MS: u64 = 1_500;

on_one_mesh! {
    hasty;
    files_polls_and_pages_go_where_tcp_does_not,
    watches_go_where_tcp_does_not,
    answers_are_those_of_http2,
    http3_is_announced_over_tcp_and_falling_back_is_counted,
    forwarded_requests_keep_their_transport,
    whoever_leaves_is_forgotten_at_once,
    garbage_on_the_port_costs_little,
    half_a_handshake_holds_a_place_for_a_moment_only,
    streams_are_bounded,
    requests_that_never_become_whole_are_counted,
    headers_over_the_limit_are_refused,
    requests_that_were_cut_off_do_nothing,
    who_reads_nothing_is_cut_off,
    who_asks_nothing_is_sent_away,
}

fn hasty() -> Options {
    let set = |name: &str, value: u64| (format!("MESHKIT_{name}"), value.to_string());
    Options {
        environment: vec![
            set("TLS__HANDSHAKES_MAX", HANDSHAKES as u64),
            set("TLS__HANDSHAKE_TIMEOUT_MS", HURRY_MS),
            set("LIMITS__QUIC_HANDSHAKES_UNPROVED_MAX", 2),
            set("LIMITS__STREAMS_PER_CONNECTION_MAX", STREAMS as u64),
            set("LIMITS__HEADER_BYTES_MAX", HEADER_BYTES as u64),
            set("API__WRITE_TIMEOUT_MS", HURRY_MS),
            set("API__IDLE_TIMEOUT_ANONYMOUS_MS", HURRY_MS),
        ],
        ..Options::default()
    }
}

/// Where a node's API is.
pub fn address(mesh: &Mesh, node: u64) -> SocketAddr {
    let api = &mesh.node(node).unwrap().api;
    api.strip_prefix("https://").unwrap().parse().unwrap()
}

/// What a node's `/metrics` says of the samples whose names and labels hold all of these words, added up.
pub fn counted(mesh: &Mesh, node: u64, words: &[&str]) -> u64 {
    let text = caller(mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
    let samples = text
        .lines()
        .filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

fn counted_h3(mesh: &Mesh, node: u64, action: &str, api: &str) -> u64 {
    let action = format!("action=\"{action}\"");
    let api = format!("api=\"{api}\"");
    counted(
        mesh,
        node,
        &["meshkit_api_requests_total{", &action, &api, "transport=\"h3\""],
    )
}

fn cut(mesh: &Mesh, node: u64, reason: &str) -> u64 {
    counted(
        mesh,
        node,
        &["meshkit_api_connections_cut_total{", &format!("reason=\"{reason}\"")],
    )
}

/// A connection to a node, as nobody in particular.
async fn connected(mesh: &Mesh, node: u64) -> Client {
    tls(mesh).connect_h3(&address(mesh, node).to_string()).await.unwrap()
}

/// A request of `who`.
fn get(mesh: &Mesh, who: &str, path: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(format!("https://localhost{path}"));
    let token = mesh.info().tokens.by_name()[who];
    let request = request.header("authorization", format!("Bearer {token}"));
    request.body(Empty::new()).unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("nothing came of it")
}

/// Others are served, over both.
fn others_are_served(mesh: &Mesh, node: u64) {
    for wire in [Wire::H2, Wire::H3, Wire::GrpcH3] {
        let start = Instant::now();
        caller(mesh, node, wire, "read")
            .call("ListPeers", json!({ "limit": 1 }))
            .ok();
        let took = start.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "served after {took:?} only, over {wire:?}"
        );
    }
}

/// A way to a node that UDP goes and TCP does not.
pub struct UdpOnly {
    pub address: SocketAddr,
    /// Nothing of the node's reaches the clients any more.
    deaf: Arc<AtomicBool>,
    passing: JoinHandle<()>,
}

impl UdpOnly {
    pub fn to(node: SocketAddr) -> Self {
        let deaf = Arc::new(AtomicBool::new(false));
        let (address, passing) = runtime().block_on(async {
            let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            let address = front.local_addr().unwrap();
            (address, tokio::spawn(pass(front, node, deaf.clone())))
        });
        assert!(TcpStream::connect(address).is_err(), "TCP goes there too");
        Self { address, deaf, passing }
    }
}

impl Drop for UdpOnly {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass(front: Arc<UdpSocket>, node: SocketAddr, deaf: Arc<AtomicBool>) {
    let mut ways: HashMap<SocketAddr, (Arc<UdpSocket>, tokio_util::task::AbortOnDropHandle<()>)> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((length, client)) = front.recv_from(&mut buffer).await {
        let known = ways.get(&client).map(|(back, _)| Arc::clone(back));
        let back = if let Some(back) = known {
            back
        } else {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            back.connect(node).await.unwrap();
            let answers = tokio::spawn(pass_back(back.clone(), front.clone(), client, deaf.clone()));
            let answers = tokio_util::task::AbortOnDropHandle::new(answers);
            ways.insert(client, (Arc::clone(&back), answers));
            back
        };
        let _ = back.send(&buffer[..length]).await;
    }
}

async fn pass_back(back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, deaf: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = back.recv(&mut buffer).await {
        if !deaf.load(Ordering::Relaxed) {
            let _ = front.send_to(&buffer[..length], client).await;
        }
    }
}

/// What the table of [`super::verbs`] sends that way are all verbs; these are what no verb is.
fn files_polls_and_pages_go_where_tcp_does_not(mesh: &Mesh) {
    let node = leader(mesh);
    let way = UdpOnly::to(address(mesh, node));
    let token = mesh.info().tokens.by_name()["admin"];
    for wire in [Wire::H3, Wire::GrpcH3] {
        let at = Caller::new(&format!("https://{}", way.address), wire, tls(mesh)).bearer(token);
        let id = unique("udp");
        at.call("RegisterPeer", registration(&id)).ok();
        let drained = at.call("DrainPeer", json!({ "id": id })).ok();
        let operation = drained.str("operation").to_owned();
        let polled = at
            .call(
                "GetOperation",
                json!({ "id": operation, "waitVersion": 1, "timeout": "2s" }),
            )
            .ok();
        assert_eq!(polled.str("id"), operation);
    }
    // A stream as a file, longer than any window that begins.
    let at = Caller::new(&format!("https://{}", way.address), Wire::H3, tls(mesh)).bearer(token);
    let file = mesh.scratch().join(unique("over-udp"));
    let backup = at.bytes("/meshkit/backup").unwrap();
    assert_eq!(backup.status, 200);
    fs::write(&file, &backup.body).unwrap();
    mesh.mesh(["backup", "verify", file.to_str().unwrap()]).ok().unwrap();
    // And what nobody needs to be known for.
    let nobody = Caller::new(&format!("https://{}", way.address), Wire::H3, tls(mesh));
    assert_eq!(nobody.get("/livez").status, 200);
    nobody.get("/meshkit/peers").refused("unauthenticated");
    let logged = mesh.logs();
    assert!(logged.contains("h3"), "no access was logged as h3");
}

/// Reads on until what came holds a word.
async fn read_until(body: &mut Body, text: &mut String, word: &str) {
    while !text.contains(word) {
        let frame = soon(body.frame()).await;
        let frame = frame.unwrap_or_else(|| panic!("the stream ended: {text}")).unwrap();
        text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap()));
    }
}

fn watches_go_where_tcp_does_not(mesh: &Mesh) {
    let node = follower(mesh);
    let way = UdpOnly::to(address(mesh, node));
    let open = || counted(mesh, node, &["meshkit_api_watches{"]);
    let before = open();
    let id = unique("watched");
    let (client, mut events, mut text) = runtime().block_on(async {
        let client = tls(mesh).connect_h3(&way.address.to_string()).await.unwrap();
        let mut request = get(mesh, "observe", "/meshkit/peers:watch");
        request
            .headers_mut()
            .insert("accept", "text/event-stream".parse().unwrap());
        let answer = soon(client.send(request)).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (mut events, mut text) = (answer.into_body(), String::new());
        read_until(&mut events, &mut text, "event: begun").await;
        read_until(&mut events, &mut text, "\"h3\"").await;
        (client, events, text)
    });
    caller(mesh, leader(mesh), Wire::H2, "admin")
        .call("RegisterPeer", registration(&id))
        .ok();
    runtime().block_on(read_until(&mut events, &mut text, &id));
    assert_eq!(open(), before + 1);
    // Nothing more happens, and nobody listens any more: that is noticed all the same.
    drop(events);
    wait_until(Duration::from_secs(5), "the watch to end", || open() == before).unwrap();
    drop(client);
}

fn answers_are_those_of_http2(mesh: &Mesh) {
    let node = leader(mesh);
    let id = unique("same");
    caller(mesh, node, Wire::H3, "admin")
        .call("RegisterPeer", registration(&id))
        .ok();
    for path in [
        format!("/meshkit/peers/{id}"),
        format!("/meshkit/peers/{id}?unknown=1"),
        "/meshkit/nothing".to_owned(),
        "/openapi.json".to_owned(),
    ] {
        let [h2, h3] = [Wire::H2, Wire::H3].map(|wire| {
            let at = caller(mesh, node, wire, "read")
                .with("mesh-request-id", "same")
                .with("mesh-consistency", "local");
            at.bytes(&path).unwrap()
        });
        assert_eq!((h2.status, &h2.body), (h3.status, &h3.body), "{path}");
        for (name, value) in &h2.headers {
            let ours = !matches!(name.as_str(), "date" | "alt-svc" | "mesh-revision");
            assert!(
                !ours || h3.headers.get(name) == Some(value),
                "{path}: {name} in {:?}",
                h3.headers
            );
        }
    }
    let head = caller(mesh, node, Wire::H3, "read").raw("HEAD", "/openapi.json", "", Bytes::new());
    assert_eq!((head.status, head.text.len()), (200, 0));
    assert!(head.header("content-length").parse::<usize>().unwrap() > 1_000);
}

fn http3_is_announced_over_tcp_and_falling_back_is_counted(mesh: &Mesh) {
    let node = follower(mesh);
    let port = address(mesh, node).port();
    for wire in [Wire::H1, Wire::H2] {
        let answer = caller(mesh, node, wire, "read").get("/meshkit/peers?limit=1");
        assert_eq!(
            answer.header("alt-svc"),
            format!("h3=\":{port}\"; ma=86400"),
            "{answer:?}"
        );
    }
    let answer = caller(mesh, node, Wire::H3, "read").get("/livez").ok();
    assert_eq!(answer.header("alt-svc"), "");
    let downgrades = |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        counted(mesh, node, &["meshkit_api_transport_downgrades_total{", &reason])
    };
    let before = ["timeout", "refused", "other"].map(downgrades);
    let at = caller(mesh, node, Wire::H2, "read");
    for (word, times) in [
        ("timeout", 2),
        ("refused", 1),
        ("no such word, and \u{fc} too", 3),
        ("x", 1),
    ] {
        for _ in 0..times {
            at.clone().with("mesh-transport-downgrade", word).get("/livez").ok();
        }
    }
    // Over HTTP/3 nobody has fallen back, whatever they say.
    caller(mesh, node, Wire::H3, "read")
        .with("mesh-transport-downgrade", "timeout")
        .get("/livez")
        .ok();
    let after = ["timeout", "refused", "other"].map(downgrades);
    let more: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(more, [2, 1, 4]);
}

fn forwarded_requests_keep_their_transport(mesh: &Mesh) {
    let (node, led) = (follower(mesh), leader(mesh));
    for wire in [Wire::H3, Wire::GrpcH3] {
        let id = unique("carried");
        let at = caller(mesh, node, wire, "admin").with("mesh-route", "forward");
        let answer = at.call("RegisterPeer", registration(&id)).ok();
        assert_eq!(answer.header("alt-svc"), "");
        let record = audit(mesh)
            .into_iter()
            .find(|record| record.target.contains(&id))
            .expect("an audit record");
        assert_eq!(record.transport, "h3");
    }
    assert!(counted_h3(mesh, led, "peers.register", "rest") > 0);
    // What is not carried is sent on: the answer says where.
    let redirected = caller(mesh, node, Wire::H3, "admin").call("RegisterPeer", registration(&unique("sent-on")));
    assert_eq!(redirected.status, 307, "{redirected:?}");
}

fn whoever_leaves_is_forgotten_at_once(mesh: &Mesh) {
    let node = leader(mesh);
    let id = unique("left");
    let at = caller(mesh, node, Wire::H2, "admin");
    at.call("RegisterPeer", registration(&id)).ok();
    at.call("DrainPeer", json!({ "id": id })).ok();
    let operations = at.get("/meshkit/operations").ok();
    let operation = operations.json["items"][0].clone();
    let version = operation["version"].as_u64().unwrap() + 1_000;
    let path = format!(
        "/meshkit/operations/{}?waitVersion={version}&timeout=30s",
        operation["id"].as_str().unwrap()
    );
    let in_flight = || counted(mesh, node, &["meshkit_api_requests_in_flight "]);
    // One is the request for the metrics.
    wait_until(SOON, "nothing under way", || in_flight() == 1).unwrap();
    let client = runtime().block_on(connected(mesh, node));
    let polls: Vec<_> = (0..5)
        .map(|_| {
            let (client, request) = (client.clone(), get(mesh, "read", &path));
            runtime().spawn(async move { client.send(request).await.map(drop) })
        })
        .collect();
    let begun = wait_until(SOON, "the polls to begin", || in_flight() == 6);
    // A finished operation answers at once: there is nothing to leave then.
    if begun.is_err() {
        assert!(
            polls.iter().all(JoinHandle::is_finished),
            "polls are neither under way nor answered"
        );
        return;
    }
    let left = Instant::now();
    for poll in &polls {
        poll.abort();
    }
    wait_until(Duration::from_secs(5), "the polls to be forgotten", || in_flight() == 1).unwrap();
    assert!(left.elapsed() < Duration::from_secs(5));
    // The connection is as good as before.
    runtime().block_on(async {
        let answer = soon(client.send(get(mesh, "read", "/meshkit/peers?limit=1")))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    });
}

/// The memory of a node's process, in bytes.
pub fn resident(mesh: &Mesh, node: u64) -> u64 {
    let pid = mesh.node(node).unwrap().pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn garbage_on_the_port_costs_little(mesh: &Mesh) {
    let node = follower(mesh);
    let to = address(mesh, node);
    let before = resident(mesh, node);
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..4_u32)
        .map(|sender| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let mut n = sender;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let length = [1, 20, 1_200, 1_452][(n as usize >> 8) % 4];
                    let mut datagram: Vec<u8> = (0..length).map(|at: u32| (at.wrapping_mul(n) >> 7) as u8).collect();
                    if length > 1 {
                        // Long headers: of this version, of one that there is not, and short ones.
                        let head: &[u8] =
                            [&[0xc3, 0, 0, 0, 1, 8][..], &[0xc3, 0xfa, 0xce, 0, 1, 8], &[0x43]][(n as usize >> 16) % 3];
                        datagram[..head.len()].copy_from_slice(head);
                    }
                    let _ = socket.send_to(&datagram, to);
                    if n & 0xf == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        })
        .collect();
    let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            others_are_served(mesh, node);
        }
    }));
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    served.unwrap();
    let grown = resident(mesh, node).saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "garbage made the node grow by {grown} bytes");
}

fn half_a_handshake_holds_a_place_for_a_moment_only(mesh: &Mesh) {
    let node = follower(mesh);
    let way = UdpOnly::to(address(mesh, node));
    let tls = tls(mesh);
    // Nothing that the node answers arrives, as where addresses are forged.
    way.deaf.store(true, Ordering::Relaxed);
    let halves: Vec<_> = (0..40)
        .map(|_| {
            let (tls, to) = (tls.clone(), way.address);
            runtime().spawn(async move { tls.connect_quic(to).await.map(drop) })
        })
        .collect();
    let until = Instant::now() + Duration::from_millis(2 * HURRY_MS);
    while Instant::now() < until {
        others_are_served(mesh, node);
    }
    for half in halves {
        half.abort();
    }
    way.deaf.store(false, Ordering::Relaxed);
    let nobody = Caller::new(&format!("https://{}", way.address), Wire::H3, tls);
    assert_eq!(nobody.get("/livez").status, 200);
}

fn streams_are_bounded(mesh: &Mesh) {
    let node = follower(mesh);
    runtime().block_on(async {
        let quic = tls(mesh).connect_quic(address(mesh, node)).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..STREAMS {
            let (mut send, receive) = soon(quic.open_bi()).await.unwrap();
            send.write_all(&[1]).await.unwrap();
            held.push((send, receive));
        }
        let more = tokio::time::timeout(Duration::from_millis(300), quic.open_bi()).await;
        assert!(more.is_err(), "more than {STREAMS} streams at once");
        // Heads that do not come are not waited for: the places are given back, and then the connection is closed.
        let closed = soon(quic.closed()).await;
        assert!(
            matches!(closed, quinn::ConnectionError::ApplicationClosed(_)),
            "{closed}"
        );
    });
    others_are_served(mesh, node);
}

fn requests_that_never_become_whole_are_counted(mesh: &Mesh) {
    let node = follower(mesh);
    let before = cut(mesh, node, "faults");
    let closed = runtime().block_on(async {
        let quic = tls(mesh).connect_quic(address(mesh, node)).await.unwrap();
        let spoil = async {
            // More than anybody needs, each given up before it is whole.
            loop {
                let Ok((mut send, _receive)) = quic.open_bi().await else {
                    break;
                };
                if send.write_all(&[1]).await.is_err() || send.reset(0x10c_u32.into()).is_err() {
                    break;
                }
            }
        };
        soon(spoil).await;
        quic.close_reason().unwrap()
    });
    let quinn::ConnectionError::ApplicationClosed(why) = &closed else {
        panic!("{closed}")
    };
    assert_eq!(why.error_code.into_inner(), Code::H3_EXCESSIVE_LOAD.value());
    assert_eq!(cut(mesh, node, "faults"), before + 1);
    others_are_served(mesh, node);
}

fn headers_over_the_limit_are_refused(mesh: &Mesh) {
    let node = follower(mesh);
    for wire in [Wire::H3, Wire::GrpcH3] {
        let at = caller(mesh, node, wire, "read").with("x-long", &"x".repeat(HEADER_BYTES));
        let refused = at.call("ListPeers", json!({})).refused("too_large");
        assert!(
            refused.json["detail"]
                .as_str()
                .unwrap()
                .contains(&HEADER_BYTES.to_string()),
            "{refused:?}"
        );
    }
    runtime().block_on(async {
        let client = connected(mesh, node).await;
        let fits = soon(client.send(get(mesh, "read", "/meshkit/peers?limit=1")))
            .await
            .unwrap();
        assert_eq!(fits.status(), 200);
        let mut long = get(mesh, "read", "/meshkit/peers");
        long.headers_mut()
            .insert("x-long", "x".repeat(8 * HEADER_BYTES).parse().unwrap());
        let error = soon(client.send(long)).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::HeaderTooBig(..) | Error::Stream(_)), "{error}");
        // Only that request is lost.
        let fits = soon(client.send(get(mesh, "read", "/meshkit/peers?limit=1")))
            .await
            .unwrap();
        assert_eq!(fits.status(), 200);
    });
}

fn requests_that_were_cut_off_do_nothing(mesh: &Mesh) {
    let node = leader(mesh);
    let id = unique("half");
    let whole = registration(&id).to_string();
    let outcome = runtime().block_on(async {
        let client = connected(mesh, node).await;
        let token = mesh.info().tokens.by_name()["admin"];
        let request = Request::post("https://localhost/meshkit/peers")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            // It would be good as it is, but more was to come.
            .header("content-length", whole.len() + 1);
        let request = request.body(http_body_util::Full::new(Bytes::from(whole))).unwrap();
        soon(client.send(request)).await.map(|answer| answer.status())
    });
    assert!(
        outcome.as_ref().map_or(true, |status| !status.is_success()),
        "{outcome:?}"
    );
    caller(mesh, node, Wire::H3, "read")
        .call("GetPeer", json!({ "id": id }))
        .refused("not_found");
    // The same request, whole.
    caller(mesh, node, Wire::H3, "admin")
        .call("RegisterPeer", registration(&id))
        .ok();
}

fn who_reads_nothing_is_cut_off(mesh: &Mesh) {
    let node = follower(mesh);
    let before = cut(mesh, node, "stalled");
    runtime().block_on(async {
        let to = address(mesh, node);
        // Room for the head of the answer, and hardly more.
        let narrow = Transport {
            stream_window_bytes: 2_048,
            ..Transport::default()
        };
        let quic = tls(mesh).connect_quic_with(to, &narrow).await.unwrap();
        let client = Client::new(quic.clone()).await.unwrap();
        let answer = soon(client.send(get(mesh, "read", "/openapi.json"))).await.unwrap();
        assert_eq!(answer.status(), 200);
        let closed = soon(quic.closed()).await;
        let quinn::ConnectionError::ApplicationClosed(why) = &closed else {
            panic!("{closed}")
        };
        assert_eq!(why.error_code.into_inner(), Code::H3_EXCESSIVE_LOAD.value());
        // What there is of the answer is not taken for all of it.
        assert!(answer.collect().await.is_err());
    });
    assert_eq!(cut(mesh, node, "stalled"), before + 1);
    others_are_served(mesh, node);
}

fn who_asks_nothing_is_sent_away(mesh: &Mesh) {
    let node = follower(mesh);
    let before = cut(mesh, node, "idle");
    runtime().block_on(async {
        let silent = connected(mesh, node).await;
        let known = connected(mesh, node).await;
        let answer = soon(known.send(get(mesh, "read", "/meshkit/peers?limit=1")))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let start = Instant::now();
        soon(silent.connection().closed()).await;
        assert!(
            start.elapsed() > Duration::from_millis(HURRY_MS / 2),
            "after {:?}",
            start.elapsed()
        );
        // Who is known may stay.
        let answer = soon(known.send(get(mesh, "read", "/meshkit/peers?limit=1")))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    });
    assert!(cut(mesh, node, "idle") > before);
}

#[test]
fn what_is_under_way_is_answered_when_a_node_stops() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let node = leader(&mesh);
    let id = unique("stopping");
    let at = caller(&mesh, node, Wire::H2, "admin");
    at.call("RegisterPeer", registration(&id)).ok();
    let client = runtime().block_on(connected(&mesh, node));
    let busy = {
        let (client, token) = (client.clone(), mesh.info().tokens.by_name()["admin"].to_owned());
        let path = format!("https://localhost/meshkit/peers/{id}");
        runtime().spawn(async move {
            let mut outcomes = Vec::new();
            for n in 0.. {
                let body = json!({ "labels": { "n": n.to_string() } }).to_string();
                let request = Request::patch(&path);
                let request = request
                    .header("authorization", format!("Bearer {token}"))
                    .header("content-type", "application/json");
                let request = request.body(http_body_util::Full::new(Bytes::from(body))).unwrap();
                let answer = match client.send(request).await {
                    Ok(answer) => answer.into_body().collect().await.map(drop),
                    Err(error) => Err(error),
                };
                let over = answer.is_err();
                outcomes.push(answer);
                if over {
                    break;
                }
            }
            outcomes
        })
    };
    std::thread::sleep(Duration::from_millis(300));
    mesh.signal(node, Signal::TERM).unwrap();
    mesh.wait_ended(node, SOON).unwrap();
    let outcomes = runtime().block_on(soon(busy)).unwrap();
    assert!(outcomes.len() > 3, "hardly anything was under way: {outcomes:?}");
    // The last was not looked at, and may be sent elsewhere; none broke off halfway.
    let last = outcomes.last().unwrap().as_ref().unwrap_err();
    let refused = matches!(last, Error::Closing | Error::Connection(_))
        || matches!(last, Error::Stream(code) if *code == Code::H3_REQUEST_REJECTED.value());
    assert!(refused, "{last:?}");
    mesh.stop().unwrap();
}

#[test]
fn a_node_does_without_http3_where_it_is_told_to() {
    let mesh = Mesh::start(Options {
        nodes: 1,
        environment: vec![("MESHKIT_API__HTTP3".to_owned(), "false".to_owned())],
    })
    .unwrap();
    let answer = caller(&mesh, 1, Wire::H2, "read").get("/livez").ok();
    assert_eq!(answer.header("alt-svc"), "");
    let to = address(&mesh, 1);
    let taken = std::net::UdpSocket::bind(to);
    assert!(taken.is_ok(), "UDP is listened on: {taken:?}");
    mesh.stop().unwrap();
}

//! Watches: what they begin with, that nothing is left out, and every way in which they end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshkit_api_server::{
    Config, Deadlines, JwtConfig, Limits,
    cursor::{Cursor, Filter},
};
use proto::v1::{self, watch_service_client::WatchServiceClient};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{ADMIN, OBSERVE, OPERATE, READ, World};

const SOON: Duration = Duration::from_secs(20);

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

/// An event stream that is being read.
pub struct Events {
    pub response: Response<Incoming>,
    arrived: BytesMut,
}

impl Events {
    /// Opens a stream over HTTP/1.1 or 2.
    pub async fn open(world: &World, node: u64, h2: bool, request: Request<Full<Bytes>>) -> Self {
        let stream = TokioIo::new(world.connect(node, None).await);
        let response = if h2 {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
            tokio::spawn(connection);
            let path = request.uri().path_and_query().unwrap().as_str().to_owned();
            let mut request = request;
            *request.uri_mut() = format!("https://api{path}").parse().unwrap();
            request.headers_mut().remove("host");
            let response = sender.send_request(request).await.unwrap();
            // The connection lives as long as somebody can send on it.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(120)).await;
                drop(sender);
            });
            response
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        Self {
            response,
            arrived: BytesMut::new(),
        }
    }

    /// A stream of `alice`, who may observe.
    pub async fn of(world: &World, node: u64, path: &str) -> Self {
        let events = Self::open(world, node, false, world.request(OBSERVE, "GET", path, None, &[])).await;
        assert_eq!(events.response.status(), 200, "{:?}", events.response);
        events
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        timeout(SOON, async {
            loop {
                if let Some(end) = self.arrived.windows(2).position(|two| two == b"\n\n") {
                    let text = self.arrived.split_to(end + 2);
                    return Some(parse(std::str::from_utf8(&text).unwrap()));
                }
                let frame = self.response.body_mut().frame().await?;
                if let Ok(data) = frame.unwrap().into_data() {
                    self.arrived.extend_from_slice(&data);
                }
            }
        })
        .await
        .expect("an event comes soon")
    }

    /// The next event that is no progress.
    pub async fn happens(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name != "progress" {
                return event;
            }
        }
    }

    /// The revisions of the units up to and including `last`.
    pub async fn revisions_to(&mut self, last: u64) -> Vec<u64> {
        let mut revisions = Vec::new();
        while revisions.last() != Some(&last) {
            let event = self.happens().await;
            assert!(matches!(&*event.name, "unit" | "record"), "{event:?}");
            revisions.push(event.data["revision"].as_u64().unwrap());
        }
        revisions
    }
}

fn parse(text: &str) -> Event {
    let mut event = Event {
        name: String::new(),
        id: None,
        data: Value::Null,
    };
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(": ").unwrap();
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data = serde_json::from_str(value).unwrap(),
            "retry" => assert_eq!(value, "1000"),
            other => panic!("the field {other}"),
        }
    }
    event
}

async fn label(world: &World, id: &str, zone: &str) -> u64 {
    let body = json!({ "labels": { "zone": zone } });
    let answer = world
        .at(
            world.leader_number(),
            OPERATE,
            "PATCH",
            &format!("/meshkit/peers/{id}"),
            Some(body),
        )
        .await;
    answer.expect(200)["changedRevision"].as_u64().unwrap()
}

#[tokio::test]
async fn a_watch_begins_with_what_there_is_and_goes_on_without_a_gap() {
    let world = World::three().await;
    for id in ["a", "b"] {
        world.register(id).await;
    }
    for (node, h2) in [(1, false), (2, true), (3, false)] {
        let path = "/meshkit/peers:watch?snapshot=true";
        let request = world.request(OBSERVE, "GET", path, None, &[("mesh-transport-downgrade", "timeout")]);
        let mut events = Events::open(&world, node, h2, request).await;
        assert_eq!(events.response.status(), 200);
        assert_eq!(events.response.headers()["content-type"], "text/event-stream");
        assert_eq!(events.response.headers()["cache-control"], "no-store");
        let begun = events.next().await.unwrap();
        assert_eq!((begun.name.as_str(), &begun.id), ("begun", &None));
        assert_eq!(begun.data["begun"]["node"], node.to_string());
        assert_eq!(begun.data["begun"]["transport"], if h2 { "h2" } else { "h1" });
        assert_eq!(begun.data["begun"]["downgrade"], "timeout");
        let snapshot = events.next().await.unwrap();
        assert_eq!(snapshot.name, "snapshot");
        assert_eq!(snapshot.data["snapshot"]["last"], true);
        let ids: Vec<_> = snapshot.data["snapshot"]["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["peer"]["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids[..2], ["a", "b"]);
        assert!(snapshot.id.is_some());
        let new = format!("new-{node}");
        let registered = world.register(&new).await["changedRevision"].as_u64().unwrap();
        let unit = events.happens().await;
        assert_eq!(
            (unit.name.as_str(), unit.data["revision"].as_u64()),
            ("unit", Some(registered))
        );
        let change = &unit.data["unit"]["changes"][0];
        assert_eq!((&change["type"], &change["id"]), (&json!("ADDED"), &json!(new)));
        assert_eq!(unit.data["unit"]["actor"], "alice");
        let progress = events.next().await.unwrap();
        assert_eq!(
            (progress.name.as_str(), progress.data["revision"].as_u64()),
            ("progress", Some(registered))
        );
    }
}

/// A gRPC stream of messages.
async fn grpc(world: &World, node: u64, request: v1::WatchPeersRequest) -> tonic::Streaming<v1::WatchMessage> {
    let mut client = WatchServiceClient::new(world.channel(node, None).await);
    let request = world.grpc(OBSERVE, request);
    client.watch_peers(request).await.unwrap().into_inner()
}

async fn message(stream: &mut tonic::Streaming<v1::WatchMessage>) -> v1::WatchMessage {
    timeout(SOON, stream.message()).await.unwrap().unwrap().unwrap()
}

fn units(message: &v1::WatchMessage) -> Option<&v1::watch_message::Unit> {
    match &message.message {
        Some(v1::watch_message::Message::Unit(unit)) => Some(unit),
        _ => None,
    }
}

/// The code and the token of the refusal that a status carries.
fn problem(status: &tonic::Status) -> v1::Problem {
    use prost::Message;
    let details = tonic_types::pb::Status::decode(status.details()).unwrap().details;
    let problem = details
        .iter()
        .find(|any| any.type_url.ends_with("meshkit.v1.Problem"))
        .unwrap();
    v1::Problem::decode(problem.value.as_slice()).unwrap()
}

#[tokio::test]
async fn grpc_watches_see_the_same() {
    let world = World::three().await;
    let follower = world.follower_number();
    let mut stream = grpc(&world, follower, v1::WatchPeersRequest::default()).await;
    let begun = message(&mut stream).await;
    let Some(v1::watch_message::Message::Begun(first)) = &begun.message else {
        panic!("{begun:?}");
    };
    assert_eq!(
        (first.transport.as_str(), first.node.as_str()),
        ("h2", &*follower.to_string())
    );
    assert!(!begun.token.is_empty());
    let mut seen = Vec::new();
    for at in 0..20 {
        world.register(&format!("p{at}")).await;
    }
    let mut token = String::new();
    while seen.len() < 20 {
        let message = message(&mut stream).await;
        assert!(!message.token.is_empty());
        if let Some(unit) = units(&message) {
            seen.push(unit.target.clone());
            token = message.token;
        }
    }
    assert_eq!(seen, (0..20).map(|at| format!("peer/p{at}")).collect::<Vec<_>>());
    // Over REST on another node, with the token of this one.
    let other = follower % 3 + 1;
    world.register("later").await;
    let mut events = Events::of(&world, other, &format!("/meshkit/peers:watch?token={token}")).await;
    assert_eq!(events.happens().await.name, "begun");
    assert_eq!(events.happens().await.data["unit"]["target"], "peer/later");
}

#[tokio::test]
async fn what_a_filter_selects_comes_and_goes() {
    let world = World::one().await;
    world.register("p").await;
    let mut events = Events::of(&world, 1, "/meshkit/peers:watch?selector=zone%3Db&snapshot=true").await;
    assert_eq!(events.happens().await.name, "begun");
    assert_eq!(events.happens().await.data["snapshot"]["items"], json!([]));
    let revisions = [
        label(&world, "p", "b").await,
        {
            world
                .call(OPERATE, "POST", "/meshkit/peers/p:cordon", None)
                .await
                .expect(200)["changedRevision"]
                .as_u64()
                .unwrap()
        },
        label(&world, "p", "a").await,
    ];
    // Seen by nobody who watches zone b.
    label(&world, "p", "c").await;
    let back = label(&world, "p", "b").await;
    world.call(ADMIN, "DELETE", "/meshkit/peers/p", None).await.expect(200);
    let mut found = Vec::new();
    for _ in 0..5 {
        let unit = events.happens().await;
        let changes = unit.data["unit"]["changes"].as_array().unwrap().clone();
        assert_eq!(changes.len(), 1);
        found.push((unit.data["revision"].as_u64().unwrap(), changes[0].clone()));
    }
    let types: Vec<_> = found
        .iter()
        .map(|(_, change)| change["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ADDED", "CHANGED", "REMOVED", "ADDED", "REMOVED"]);
    let at: Vec<_> = found.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [revisions[0], revisions[1], revisions[2], back, back + 1]);
    // Who left the selection is shown as it is now; who is gone is not.
    assert_eq!(found[2].1["after"]["peer"]["labels"]["zone"], "a");
    assert_eq!(found[4].1.get("after"), None);
}

#[tokio::test]
async fn a_unit_is_never_torn() {
    let world = World::one().await;
    world.register("p").await;
    let mut events = Events::of(&world, 1, "/meshkit/watch").await;
    assert_eq!(events.happens().await.name, "begun");
    let drained = world
        .call(OPERATE, "POST", "/meshkit/peers/p:drain", None)
        .await
        .expect(200);
    let unit = events.happens().await;
    assert_eq!(unit.data["revision"], drained["changedRevision"]);
    let mut kinds: Vec<_> = unit.data["unit"]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["kind"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["operation", "peer"]);
    // The same, by kind and by id.
    let mut operations = Events::of(&world, 1, "/meshkit/operations:watch?snapshot=true").await;
    assert_eq!(operations.happens().await.name, "begun");
    let items = operations.happens().await.data["snapshot"]["items"].clone();
    assert_eq!(items[0]["operation"]["id"], drained["operation"]);
    let cancel = format!("/meshkit/operations/{}:cancel", drained["operation"].as_str().unwrap());
    world.call(OPERATE, "POST", &cancel, None).await.expect(200);
    let unit = operations.happens().await;
    let changes = unit.data["unit"]["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[0]["kind"]), (1, &json!("operation")));
}

#[tokio::test]
async fn the_trail_streams_with_what_was_rejected() {
    let world = World::three().await;
    world.register("p").await;
    let node = world.follower_number();
    let mut live = Events::of(&world, node, "/meshkit/audit:watch").await;
    assert_eq!(live.happens().await.name, "begun");
    let leader = world.leader_number();
    let body = json!({ "id": "p", "endpoints": ["h:1"] });
    world
        .at(leader, OPERATE, "POST", "/meshkit/peers", Some(body))
        .await
        .refused(409, "already_exists");
    let last = label(&world, "p", "z").await;
    let rejected = live.happens().await;
    assert_eq!(
        (
            rejected.name.as_str(),
            &rejected.data["record"]["outcome"],
            &rejected.data["record"]["code"]
        ),
        ("record", &json!("REJECTED"), &json!("already_exists"))
    );
    assert_eq!(live.revisions_to(last).await, [last]);
    // From the beginning, and equal to what the list shows, hashes included.
    let mut all = Events::of(&world, node, "/meshkit/audit:watch?snapshot=true").await;
    assert_eq!(all.happens().await.name, "begun");
    let list = world.at(node, OBSERVE, "GET", "/meshkit/audit", None).await.expect(200);
    for item in list["items"].as_array().unwrap() {
        assert_eq!(all.happens().await.data["record"], *item);
    }
    let mut some = Events::of(&world, node, "/meshkit/audit:watch?snapshot=true&outcome=rejected").await;
    assert_eq!(some.happens().await.name, "begun");
    assert_eq!(some.happens().await.data["record"]["code"], "already_exists");
}

#[tokio::test]
async fn last_event_id_takes_a_stream_up_again() {
    let world = World::three().await;
    world.register("p").await;
    let path = "/meshkit/peers:watch?snapshot=true";
    let mut events = Events::of(&world, 1, path).await;
    assert_eq!(events.happens().await.name, "begun");
    assert_eq!(events.happens().await.name, "snapshot");
    let first = label(&world, "p", "1").await;
    let id = events.happens().await.id.unwrap();
    drop(events);
    let mut missed = Vec::new();
    for zone in ["2", "3", "4"] {
        missed.push(label(&world, "p", zone).await);
    }
    // The same address again, on another node: no snapshot, and nothing twice.
    let request = world.request(OBSERVE, "GET", path, None, &[("last-event-id", &id)]);
    let mut events = Events::open(&world, 3, true, request).await;
    let begun = events.happens().await;
    assert_eq!(
        (begun.name.as_str(), begun.data["revision"].as_u64()),
        ("begun", Some(first))
    );
    assert_eq!(events.revisions_to(missed[2]).await, missed);
}

#[tokio::test]
async fn tokens_of_others_and_other_nonsense_are_refused() {
    let world = World::one().await;
    for id in ["a", "b"] {
        world.register(id).await;
    }
    let mut events = Events::of(&world, 1, "/meshkit/peers:watch?selector=zone%3Da").await;
    let token = events.next().await.unwrap().id.unwrap();
    let get = |path: String| {
        let world = &world;
        async move { world.call(OBSERVE, "GET", &path, None).await }
    };
    for path in [
        format!("/meshkit/peers:watch?token={token}"),
        format!("/meshkit/peers:watch?selector=zone%3Db&token={token}"),
        format!("/meshkit/watch?selector=zone%3Da&token={token}"),
        format!("/meshkit/peers:watch?selector=zone%3Da&token={}", &token[1..]),
        "/meshkit/peers:watch?token=AAAA".to_owned(),
    ] {
        let problem = get(path.clone()).await.refused(400, "token_mismatch");
        assert_eq!(problem["field"], "token", "{path}");
    }
    let list = get("/meshkit/peers?limit=1".to_owned()).await.expect(200);
    let cursor = list["nextCursor"].as_str().unwrap();
    get(format!("/meshkit/peers:watch?token={cursor}"))
        .await
        .refused(400, "token_mismatch");
    for (path, field) in [
        ("/meshkit/peers:watch?progressInterval=0.01s", "progressInterval"),
        ("/meshkit/peers:watch?progressInterval=11s", "progressInterval"),
        ("/meshkit/peers:watch?progressInterval=-1s", "progressInterval"),
        ("/meshkit/peers:watch?selector=a%3D%3D%3D(", "selector"),
        ("/meshkit/watch?kinds=pear", "kinds"),
        ("/meshkit/peers:watch?status=7", "status"),
    ] {
        let problem = get(path.to_owned()).await.refused(400, "invalid_argument");
        assert_eq!(problem["field"], field, "{path}");
    }
    world
        .call(READ, "GET", "/meshkit/peers:watch", None)
        .await
        .refused(403, "scope_missing");
    world
        .with(
            OBSERVE,
            "GET",
            "/meshkit/peers:watch",
            None,
            &[("accept", "application/json")],
        )
        .await
        .refused(406, "not_acceptable");
    // What this node has not seen, it waits for, and then says so.
    let other = world.call(OBSERVE, "GET", "/meshkit/peers:watch?token=", None);
    assert!(
        timeout(Duration::from_millis(300), other).await.is_err(),
        "an open stream does not end"
    );
}

#[tokio::test]
async fn ten_thousand_revisions_are_replayed_in_order() {
    let world = World::one().await;
    world.register("p").await;
    let mut events = Events::of(&world, 1, "/meshkit/audit:watch").await;
    let token = events.next().await.unwrap().id.unwrap();
    drop(events);
    let first = world.leader().handle.view().position().revision.0 + 1;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    let commits = (0..10_000_u64).map(|at| {
        let handle = world.leader().handle.clone();
        async move {
            let mut peer = statemachine::PatchPeer {
                id: statemachine::PeerId::new("p").unwrap(),
                labels: Default::default(),
                metadata: Default::default(),
                remove_labels: Vec::new(),
                remove_metadata: Vec::new(),
            };
            peer.metadata.insert("at".to_owned(), at.to_string());
            let request = statemachine::Request {
                origin: statemachine::Origin::system("tests", statemachine::NodeId(1), 0),
                conditions: Default::default(),
                command: peer.into(),
            };
            handle.propose(request, deadline).await.unwrap();
        }
    });
    use futures::StreamExt;
    futures::stream::iter(commits)
        .buffer_unordered(64)
        .for_each(|()| async {})
        .await;
    let last = world.leader().handle.view().position().revision.0;
    assert!(last - first >= 9_999);
    let mut trail = Events::of(&world, 1, &format!("/meshkit/audit:watch?token={token}")).await;
    assert_eq!(trail.happens().await.name, "begun");
    assert_eq!(trail.revisions_to(last).await, (first..=last).collect::<Vec<_>>());
    let mut stream = grpc(
        &world,
        1,
        v1::WatchPeersRequest {
            snapshot: true,
            ..Default::default()
        },
    )
    .await;
    let begun = message(&mut stream).await;
    assert_eq!(begun.revision, last);
    let snapshot = message(&mut stream).await;
    assert!(matches!(snapshot.message, Some(v1::watch_message::Message::Snapshot(ref piece)) if piece.last));
    // Progress never says more than was sent.
    let after = label(&world, "p", "z").await;
    let mut seen = last;
    loop {
        let message = message(&mut stream).await;
        if units(&message).is_some() {
            assert_eq!(message.revision, after);
            seen = message.revision;
        } else {
            assert!(message.revision <= seen || seen == after, "{message:?}");
            if seen == after {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_credential() {
    let world = World::one().await;
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    // A token counts for a little longer than it says, for clocks that differ.
    let leeway_s = JwtConfig::default().leeway_s;
    let claims = json!({ "iss": "tests", "aud": "m1", "sub": "bob", "exp": now_s + 3 - leeway_s, "scope": OBSERVE });
    let bearer = format!("Bearer {}", world.sign(&claims));
    let mut request = world.request(OBSERVE, "GET", "/meshkit/peers:watch?progressInterval=10s", None, &[]);
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let mut events = Events::open(&world, 1, false, request).await;
    let mut client = WatchServiceClient::new(world.channel(1, None).await);
    let mut request = tonic::Request::new(v1::WatchPeersRequest::default());
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let mut stream = client.watch_peers(request).await.unwrap().into_inner();
    let began = std::time::Instant::now();
    assert_eq!(events.next().await.unwrap().name, "begun");
    let end = events.happens().await;
    assert_eq!(
        (end.name.as_str(), &end.data["code"]),
        ("error", &json!("credential_expired"))
    );
    assert!(
        end.data["token"]
            .as_str()
            .is_some_and(|token| Some(token) == end.id.as_deref())
    );
    assert_eq!(events.next().await, None);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let status = loop {
        match timeout(SOON, stream.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), problem(&status).code.as_str()),
        (tonic::Code::Unauthenticated, "credential_expired")
    );
    // The token is good for who has a better credential.
    let again = format!("/meshkit/peers:watch?token={}", end.id.unwrap());
    assert_eq!(Events::of(&world, 1, &again).await.next().await.unwrap().name, "begun");
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_and_can_go_on() {
    let config = Config {
        limits: Limits {
            watch_lag_revisions_max: 100,
            ..Limits::default()
        },
        deadlines: Deadlines {
            watch_stall_ms: 500,
            ..Deadlines::default()
        },
        ..Config::default()
    };
    let world = World::new(1, config).await;
    // Each unit holds the record twice: the buffers on the way are full soon.
    let fat = "x".repeat(250);
    let metadata: std::collections::BTreeMap<String, &str> = (0..60).map(|at| (format!("k{at}"), &*fat)).collect();
    let body = json!({ "id": "p", "endpoints": ["h:1"], "metadata": metadata });
    world
        .call(OPERATE, "POST", "/meshkit/peers", Some(body))
        .await
        .expect(200);
    let mut slow = Events::of(&world, 1, "/meshkit/peers:watch").await;
    let mut quick = Events::of(&world, 1, "/meshkit/peers:watch").await;
    assert_eq!(slow.next().await.unwrap().name, "begun");
    assert_eq!(quick.next().await.unwrap().name, "begun");
    let mut all = Vec::new();
    for at in 0..60 {
        all.push(label(&world, "p", &format!("z{at}")).await);
    }
    // Who reads is not held up by who does not.
    let last = *all.last().unwrap();
    assert_eq!(quick.revisions_to(last).await, all);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut seen = Vec::new();
    let end = loop {
        let event = slow.happens().await;
        match &*event.name {
            "unit" => seen.push(event.data["revision"].as_u64().unwrap()),
            _ => break event,
        }
    };
    assert_eq!(
        (end.name.as_str(), &end.data["code"]),
        ("error", &json!("watch_too_slow"))
    );
    assert!(end.data["measured"].is_string() && end.data["limit"].is_string());
    assert!(seen.len() < all.len(), "the buffers took everything");
    assert_eq!(slow.next().await, None);
    let again = format!("/meshkit/peers:watch?token={}", end.data["token"].as_str().unwrap());
    let mut events = Events::of(&world, 1, &again).await;
    assert_eq!(events.next().await.unwrap().name, "begun");
    seen.extend(events.revisions_to(last).await);
    assert_eq!(seen, all);
}

#[tokio::test]
async fn watches_are_bounded_and_hold_no_place_of_requests() {
    let config = Config {
        limits: Limits {
            watches_max: 4,
            requests_in_flight_max: 2,
            principal_share_percent: 50,
            ..Limits::default()
        },
        ..Config::default()
    };
    let world = World::new(1, config).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(Events::of(&world, 1, "/meshkit/peers:watch").await);
    }
    // The share of one principal is used up, and requests go on.
    let refused = world.call(OBSERVE, "GET", "/meshkit/peers:watch", None).await;
    refused.refused(429, "rate_limited");
    world.call(READ, "GET", "/meshkit/peers", None).await.expect(200);
    let metrics = world.call(OBSERVE, "GET", "/metrics", None).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let open_watches = r#"meshkit_api_watches{action="peers.watch",api="sse",transport="h1"} 2"#;
    assert!(metrics.contains(open_watches), "{metrics}");
    assert!(metrics.contains("meshkit_api_requests_in_flight 1"), "{metrics}");
    drop(open);
    let again = async {
        while world
            .call(OBSERVE, "GET", "/metrics", None)
            .await
            .body
            .windows(open_watches.len())
            .any(|part| part == open_watches.as_bytes())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, again).await.expect("places come back");
    Events::of(&world, 1, "/meshkit/peers:watch").await;
}

#[tokio::test]
async fn a_node_that_stops_says_where_to_go_on() {
    let world = World::three().await;
    let leader = world.leader_number();
    let node = world.follower_number();
    world.register("p").await;
    let mut events = Events::of(&world, node, "/meshkit/peers:watch").await;
    assert_eq!(events.next().await.unwrap().name, "begun");
    let mut stream = grpc(&world, node, v1::WatchPeersRequest::default()).await;
    message(&mut stream).await;
    let at = label(&world, "p", "1").await;
    assert_eq!(events.revisions_to(at).await, [at]);
    world.node(node).stop.cancel();
    let end = events.happens().await;
    assert_eq!((end.name.as_str(), &end.data["code"]), ("error", &json!("unavailable")));
    let status = loop {
        match timeout(SOON, stream.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(!problem(&status).token.is_empty());
    let next = label(&world, "p", "2").await;
    let again = format!("/meshkit/peers:watch?token={}", end.data["token"].as_str().unwrap());
    let mut events = Events::of(&world, leader, &again).await;
    assert_eq!(events.next().await.unwrap().name, "begun");
    assert_eq!(events.revisions_to(next).await, [next]);
}

async fn propose(world: &World, command: statemachine::Command) -> u64 {
    let request = statemachine::Request {
        origin: statemachine::Origin::system("tests", statemachine::NodeId(1), 0),
        conditions: Default::default(),
        command,
    };
    let deadline = tokio::time::Instant::now() + SOON;
    let committed = world.leader().handle.propose(request, deadline).await.unwrap();
    let unit = committed.unit().unwrap();
    let applied = matches!(unit.unit.outcome, statemachine::Outcome::Applied { .. });
    assert!(applied, "{:?}", unit.unit.outcome);
    unit.unit.position.revision.0
}

/// Lets go of everything up to now; answers the floor.
async fn compact(world: &World) -> u64 {
    let view = world.leader().handle.view();
    let mesh = &view.state().mesh;
    let signed = mesh.position().revision;
    let checkpoint = statemachine::CheckpointAudit {
        revision: signed,
        hash: mesh.chain(),
        node: statemachine::NodeId(1),
        certificate: vec![1],
        signature: vec![2],
    };
    let to = statemachine::Revision(propose(world, checkpoint.into()).await);
    let compaction = statemachine::CompactHistory {
        mesh: statemachine::MeshId::new("m1").unwrap(),
        to,
        to_mesh_time_ms: 0,
    };
    propose(world, compaction.command().unwrap()).await;
    signed.0 + 1
}

/// A token of a watch on all peers, at a position.
fn token_at(timeline: u128, revision: u64) -> String {
    let position = statemachine::Position {
        timeline: statemachine::TimelineId(timeline),
        revision: statemachine::Revision(revision),
    };
    let last = String::new();
    let filter = Filter::new("WatchPeers", &["0", "", "", ""]);
    Cursor { position, last }.encode(&statemachine::MeshId::new("m1").unwrap(), filter)
}

async fn with_token(world: &World, node: u64, token: &str) -> Events {
    let path = format!("/meshkit/peers:watch?token={token}");
    Events::open(world, node, false, world.request(OBSERVE, "GET", &path, None, &[])).await
}

#[tokio::test]
async fn what_is_let_go_of_is_refused_and_never_skipped() {
    let config = Config {
        limits: Limits {
            // Nothing is kept for who is slow: it has to be read from history.
            watch_backlog_bytes_max: 1,
            ..Limits::default()
        },
        ..Config::default()
    };
    let world = World::new(1, config).await;
    let fat = "x".repeat(250);
    let metadata: std::collections::BTreeMap<String, &str> = (0..60).map(|at| (format!("k{at}"), &*fat)).collect();
    let body = json!({ "id": "p", "endpoints": ["h:1"], "metadata": metadata });
    world
        .call(OPERATE, "POST", "/meshkit/peers", Some(body))
        .await
        .expect(200);
    let mut slow = Events::of(&world, 1, "/meshkit/peers:watch").await;
    let begun = slow.next().await.unwrap();
    let old = begun.id.unwrap();
    let mut all = Vec::new();
    for at in 0..60 {
        all.push(label(&world, "p", &format!("z{at}")).await);
    }
    let floor = compact(&world).await;
    let path = format!("/meshkit/peers:watch?token={old}");
    let refused = world.call(OBSERVE, "GET", &path, None).await.refused(410, "compacted");
    assert_eq!(refused["revision"], floor);
    assert!(refused["hint"].as_str().unwrap().contains("snapshot"), "{refused}");
    // The oldest that works is right below the floor.
    let mut oldest = with_token(&world, 1, &token_at(7, floor - 1)).await;
    assert_eq!(oldest.next().await.unwrap().name, "begun");
    let below = with_token(&world, 1, &token_at(7, floor - 2)).await;
    assert_eq!(below.response.status(), 410);
    // Who was attached got what had left already, and then the truth.
    let mut seen = Vec::new();
    let end = loop {
        let event = slow.happens().await;
        match &*event.name {
            "unit" => seen.push(event.data["revision"].as_u64().unwrap()),
            _ => break event,
        }
    };
    assert_eq!(seen, all[..seen.len()]);
    assert!(seen.len() < all.len(), "the buffers took everything");
    assert_eq!(
        (&end.data["code"], &end.data["revision"]),
        (&json!("compacted"), &json!(floor))
    );
    assert_eq!(slow.next().await, None);
    // The trail begins at the floor.
    let mut trail = Events::of(&world, 1, "/meshkit/audit:watch?snapshot=true").await;
    assert_eq!(trail.happens().await.name, "begun");
    assert_eq!(trail.happens().await.data["revision"], floor);
}

#[tokio::test]
async fn positions_off_the_line_are_told_apart() {
    let world = World::three().await;
    world.register("p").await;
    let leader = world.leader_number();
    let head = world.leader().handle.view().position().revision.0;
    let began = std::time::Instant::now();
    let ahead = with_token(&world, leader, &token_at(7, head + 3)).await;
    assert_eq!(ahead.response.status(), 503);
    assert!(began.elapsed() >= Duration::from_secs(1), "it was not waited for");
    assert_eq!(ahead.response.headers()["mesh-code"], "future");
    // What comes meanwhile is not future any more.
    let token = token_at(7, head + 2);
    let (mut reached, _) = tokio::join!(with_token(&world, leader, &token), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        label(&world, "p", "1").await;
        label(&world, "p", "2").await;
    });
    assert_eq!(reached.next().await.unwrap().data["revision"], head + 2);
    let foreign = with_token(&world, leader, &token_at(99, 1)).await;
    assert_eq!(
        (
            foreign.response.status().as_u16(),
            &foreign.response.headers()["mesh-code"]
        ),
        (410, &http::HeaderValue::from_static("diverged"))
    );
    // A timeline that is cut off: who watches is taken along, and what the old one had beyond is refused.
    let mut live = Events::of(&world, leader, "/meshkit/peers:watch").await;
    let old = live.next().await.unwrap().id.unwrap();
    let fork = head + 2;
    let recovery = statemachine::RecoverMesh {
        mesh: statemachine::MeshId::new("m1").unwrap(),
        cluster: raft::testing::identity(1).cluster,
        timeline: statemachine::TimelineId(8),
    };
    propose(&world, recovery.into()).await;
    let next = label(&world, "p", "3").await;
    let unit = live.happens().await;
    assert_eq!(
        (unit.data["revision"].as_u64(), &unit.data["unit"]["timeline"]),
        (Some(next), &json!(format!("{:032x}", 8)))
    );
    let mut along = with_token(&world, leader, &old).await;
    assert_eq!(along.next().await.unwrap().name, "begun");
    assert_eq!(along.revisions_to(next).await, [next]);
    let path = format!("/meshkit/peers:watch?token={}", token_at(7, fork + 1));
    let cut = world
        .at(leader, OBSERVE, "GET", &path, None)
        .await
        .refused(410, "diverged");
    assert_eq!(cut["revision"], fork);
}

#[tokio::test]
async fn a_node_that_is_not_sound_shows_nothing_more() {
    let world = World::one().await;
    world.register("p").await;
    let mut events = Events::of(&world, 1, "/meshkit/peers:watch?progressInterval=10s").await;
    assert_eq!(events.next().await.unwrap().name, "begun");
    *world.node(1).facts.corrupt.lock() = true;
    let end = events.happens().await;
    assert_eq!((end.name.as_str(), &end.data["code"]), ("error", &json!("unavailable")));
    assert!(end.id.is_some());
    world
        .call(OBSERVE, "GET", "/meshkit/peers:watch", None)
        .await
        .refused(503, "unavailable");
}

#[tokio::test]
async fn a_large_snapshot_comes_in_pieces() {
    let world = World::one().await;
    let fat = "x".repeat(200);
    let labels: std::collections::BTreeMap<String, &str> = (0..10).map(|at| (format!("k{at}"), &*fat)).collect();
    let mut expected = Vec::new();
    for at in 0..300 {
        let id = format!("p{at:03}");
        let body = json!({ "id": id, "endpoints": ["h:1"], "labels": labels });
        world
            .call(OPERATE, "POST", "/meshkit/peers", Some(body))
            .await
            .expect(200);
        expected.push(id);
    }
    let mut events = Events::of(&world, 1, "/meshkit/watch?snapshot=true").await;
    let begun = events.next().await.unwrap();
    let (mut seen, mut pieces) = (Vec::new(), 0);
    loop {
        let piece = events.happens().await;
        pieces += 1;
        assert_eq!(piece.data["revision"], begun.data["revision"]);
        for item in piece.data["snapshot"]["items"].as_array().unwrap() {
            if let Some(id) = item["peer"]["id"].as_str() {
                seen.push(id.to_owned());
            }
        }
        let last = piece.data["snapshot"]["last"] == true;
        assert_eq!(piece.id.is_some(), last);
        if last {
            break;
        }
    }
    assert!(pieces > 2, "{pieces}");
    assert_eq!(seen, expected);
}

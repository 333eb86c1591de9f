//! Leader following, retries under one key, deadlines, errors.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api_client::{CallOptions, Client, Consistency, Endpoint, Method, TlsConnect, audit};
use proto::v1::{
    CordonPeerRequest, FeatureLevel, GetPeerRequest, ListAuditRecordsResponse, Operation, Peer, Problem, Status,
    operation::State,
};
use tokio::time::Instant;
use tonic::Code;

use crate::fake::{Fake, Reply};

fn endpoint(address: SocketAddr) -> Endpoint {
    format!("http://{address}").parse().expect("an endpoint")
}

fn builder(addresses: &[SocketAddr]) -> api_client::Builder {
    let connector = TlsConnect::new(None, None).expect("no TLS");
    let endpoints = addresses.iter().copied().map(endpoint).collect();
    Client::builder(endpoints, Arc::new(connector)).timeout(Duration::from_secs(5))
}

fn client(addresses: &[SocketAddr]) -> Client {
    builder(addresses).build().expect("a client")
}

async fn closed_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("its address")
}

fn peer(id: &str) -> Peer {
    Peer {
        id: id.into(),
        version: 2,
        ..Peer::default()
    }
}

fn cordon(id: &str) -> CordonPeerRequest {
    CordonPeerRequest {
        id: id.into(),
        ..CordonPeerRequest::default()
    }
}

fn get(id: &str) -> GetPeerRequest {
    GetPeerRequest { id: id.into() }
}

fn key(asked: &crate::fake::Asked) -> String {
    asked.message::<CordonPeerRequest>().idempotency_key
}

#[tokio::test]
async fn a_mutation_follows_the_leader_with_its_key_and_remembers_it() {
    let (follower, leader) = (Fake::default(), Fake::default());
    let (first, second) = (follower.serve().await, leader.serve().await);
    follower.says("CordonPeer", [Reply::not_leader(Some(&format!("http://{second}")))]);
    leader.says("CordonPeer", [Reply::at(&peer("p1"), 7)]);
    let client = client(&[first]);

    let answer = client.cordon_peer(cordon("p1")).await.expect("the leader's answer");
    assert_eq!(answer.message.id, "p1");
    assert_eq!(
        (answer.meta.revision, answer.meta.epoch, answer.meta.etag.as_deref()),
        (Some(7), Some(1), Some("e7"))
    );
    assert_eq!(answer.meta.attempts, 2);
    let (asked, followed) = (key(&follower.asked()[0]), key(&leader.asked()[0]));
    assert_eq!((asked.len(), &asked), (26, &followed));
    assert_eq!(answer.meta.idempotency_key, asked);

    client.cordon_peer(cordon("p1")).await.expect("the leader's answer");
    assert_eq!(
        (follower.asked().len(), leader.asked().len()),
        (1, 2),
        "the second goes straight to the leader"
    );
    assert_ne!(key(&leader.asked()[1]), asked, "another mutation, another key");
}

#[tokio::test]
async fn retryable_answers_are_retried_under_one_key() {
    let node = Fake::default();
    let busy = Problem {
        code: "unavailable".into(),
        detail: "electing".into(),
        retryable: true,
        ..Problem::default()
    };
    node.says(
        "CordonPeer",
        [
            Reply::not_leader(None),
            Reply::Problem(Code::Unavailable, busy),
            Reply::Bare(Code::Unavailable, "proxy"),
            Reply::ok(&peer("p1")),
        ],
    );
    let client = client(&[node.serve().await]);
    let mut request = cordon("p1");
    request.idempotency_key = "mine".into();
    let answer = client.cordon_peer(request).await.expect("the fourth answer");
    assert_eq!(answer.meta.attempts, 4);
    assert!(node.asked().iter().all(|asked| key(asked) == "mine"));
}

#[tokio::test]
async fn endpoints_are_tried_in_order_and_named_when_none_answers() {
    let node = Fake::default();
    node.says("GetPeer", [Reply::ok(&peer("p1"))]);
    let dead = closed_port().await;
    let answer = client(&[dead, node.serve().await])
        .get_peer(get("p1"))
        .await
        .expect("the second endpoint");
    assert_eq!(answer.meta.attempts, 2);

    let other = closed_port().await;
    let started = Instant::now();
    let error = client(&[dead, other])
        .get_peer(get("p1"))
        .await
        .expect_err("nobody is there");
    assert_eq!(
        (error.code(), error.exit_code(), error.retryable()),
        ("unavailable", 3, true)
    );
    for address in [dead, other] {
        assert!(
            error
                .detail()
                .contains(&format!("http://{address}: connection refused")),
            "{error}"
        );
    }
    assert_eq!(error.attempts().len(), 2);
    assert!(!error.outcome_unknown());
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "refused connections are no reason to wait"
    );
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let node = Fake::default();
    node.says("CordonPeer", [Reply::Silence]);
    node.says("GetPeer", [Reply::Silence]);
    let client = builder(&[node.serve().await])
        .timeout(Duration::from_millis(600))
        .attempt_timeout(Duration::from_millis(200))
        .build()
        .expect("a client");
    let started = Instant::now();
    let error = client.cordon_peer(cordon("p1")).await.expect_err("silence");
    assert_eq!((error.code(), error.exit_code()), ("deadline_exceeded", 7));
    assert!(
        error.outcome_unknown() && error.hint().contains(error.idempotency_key()),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_millis(1_500));
    let keys: std::collections::BTreeSet<String> = node.asked().iter().map(key).collect();
    assert!(node.asked().len() >= 2 && keys.len() == 1, "asked again under one key");
    assert!(node.asked()[0].metadata.contains_key("grpc-timeout"));
    let error = client.get_peer(get("p1")).await.expect_err("silence");
    assert_eq!((error.exit_code(), error.outcome_unknown()), (7, false));
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_given_more_of_it() {
    let node = Fake::default();
    node.says("GetPeer", [Reply::Silence]);
    let client = builder(&[node.serve().await])
        .timeout(Duration::from_millis(1_600))
        .attempt_timeout(Duration::from_millis(100))
        .build()
        .expect("a client");
    let started = Instant::now();
    client.get_peer(get("p1")).await.expect_err("silence");
    assert!(started.elapsed() < Duration::from_millis(3_000));
    // 100, 200, 400 and what is left, with pauses between them.
    let asked = node.asked().len();
    assert!((2..=5).contains(&asked), "asked {asked} times");
}

#[tokio::test]
async fn no_leader_for_the_whole_deadline_is_exit_3() {
    let node = Fake::default();
    node.says("CordonPeer", [Reply::not_leader(None)]);
    let client = builder(&[node.serve().await])
        .timeout(Duration::from_millis(1_500))
        .build()
        .expect("a client");
    let error = client.cordon_peer(cordon("p1")).await.expect_err("nobody leads");
    assert_eq!(
        (error.code(), error.exit_code(), error.outcome_unknown()),
        ("not_leader", 3, false)
    );
    assert!(
        node.asked().len() > 2 && error.detail().contains("gave up after"),
        "{error}"
    );
}

#[tokio::test]
async fn a_final_refusal_is_not_retried_and_keeps_its_members() {
    let node = Fake::default();
    let problem = Problem {
        code: "etag_mismatch".into(),
        detail: "peer p1 has changed".into(),
        hint: "read it again".into(),
        current_etag: "abc".into(),
        ..Problem::default()
    };
    node.says("CordonPeer", [Reply::Problem(Code::Aborted, problem.clone())]);
    node.says("GetPeer", [Reply::Bare(Code::NotFound, "no such thing")]);
    let client = client(&[node.serve().await]);
    let error = client.cordon_peer(cordon("p1")).await.expect_err("a conflict");
    assert_eq!(error.problem(), &problem);
    assert_eq!((error.exit_code(), error.is_remote(), node.asked().len()), (5, true, 1));
    let error = client.get_peer(get("p1")).await.expect_err("not there");
    assert_eq!(
        (error.code(), error.detail(), error.exit_code()),
        ("not_found", "no such thing", 1)
    );
}

/// The first answer is lost; the second is `second`.
async fn after_a_lost_answer(second: Reply) -> api_client::Error {
    let node = Fake::default();
    node.says("CordonPeer", [Reply::Silence, second]);
    let client = builder(&[node.serve().await])
        .timeout(Duration::from_millis(900))
        .attempt_timeout(Duration::from_millis(150))
        .build()
        .expect("a client");
    let error = client.cordon_peer(cordon("p1")).await.expect_err("a refusal");
    assert!(node.asked().len() >= 2);
    error
}

/// It changes nothing, so it is asked again, and there is nothing to find out.
#[tokio::test]
async fn a_dry_run_whose_answer_is_lost_leaves_nothing_open() {
    let node = Fake::default();
    node.says("CordonPeer", [Reply::Silence]);
    let client = builder(&[node.serve().await])
        .timeout(Duration::from_millis(700))
        .attempt_timeout(Duration::from_millis(100))
        .build()
        .expect("a client");
    let mut dry = cordon("p1");
    dry.dry_run = true;
    let error = client.cordon_peer(dry).await.expect_err("silence");
    assert!(node.asked().len() >= 2, "asked once only");
    assert_eq!((error.code(), error.outcome_unknown()), ("deadline_exceeded", false));
    assert!(!error.hint().contains("may have been applied"), "{error}");
    // The same that is meant does.
    let error = client.cordon_peer(cordon("p1")).await.expect_err("silence");
    assert!(error.outcome_unknown(), "{error}");
}

#[tokio::test]
async fn what_is_decided_before_apply_says_nothing_of_a_lost_answer() {
    let problem = |code: &str, retryable| Problem {
        code: code.into(),
        detail: "because".into(),
        hint: "do this".into(),
        retryable,
        ..Problem::default()
    };
    for (code, status, retryable) in [
        ("unauthenticated", Code::Unauthenticated, false),
        ("credential_expired", Code::Unauthenticated, false),
        ("scope_missing", Code::PermissionDenied, false),
        ("too_large", Code::InvalidArgument, false),
        ("invalid_argument", Code::InvalidArgument, false),
        ("confirmation_required", Code::FailedPrecondition, false),
        ("idempotency_key_expired", Code::FailedPrecondition, false),
        ("unimplemented", Code::Unimplemented, false),
        ("rate_limited", Code::ResourceExhausted, true),
        ("no_space", Code::ResourceExhausted, true),
        ("not_leader", Code::Unavailable, true),
    ] {
        let error = after_a_lost_answer(Reply::Problem(status, problem(code, retryable))).await;
        assert!(error.outcome_unknown(), "{code}");
        if retryable && error.code() == "deadline_exceeded" {
            // The deadline fell into the last of the attempts.
            continue;
        }
        assert_eq!(error.code(), code);
        let hint = error.hint();
        assert!(
            hint.starts_with("do this; an earlier attempt may have been applied"),
            "{hint}"
        );
        assert!(hint.contains(error.idempotency_key()), "{hint}");
    }
    for (code, status) in [
        ("etag_mismatch", Code::Aborted),
        ("not_found", Code::NotFound),
        ("peer_draining", Code::FailedPrecondition),
        ("idempotency_key_reused", Code::FailedPrecondition),
    ] {
        let error = after_a_lost_answer(Reply::Problem(status, problem(code, false))).await;
        assert_eq!((error.code(), error.hint()), (code, "do this"));
        assert!(!error.outcome_unknown(), "{code}: apply has looked the key up");
    }
}

#[tokio::test]
async fn a_change_without_a_key_is_not_asked_twice() {
    use proto::v1::{RemoveMemberRequest, TransferLeadershipRequest};
    let (follower, leader) = (Fake::default(), Fake::default());
    let there = leader.serve().await;
    follower.says(
        "TransferLeadership",
        [Reply::not_leader(Some(&format!("http://{there}")))],
    );
    leader.says(
        "TransferLeadership",
        [
            Reply::Bare(Code::Unavailable, "connection reset"),
            Reply::ok(&Status::default()),
        ],
    );
    leader.says("RemoveMember", [Reply::Silence]);
    let client = client(&[follower.serve().await, there]);
    let error = client
        .transfer_leadership(TransferLeadershipRequest::default())
        .await
        .expect_err("the connection broke");
    assert_eq!(
        (follower.asked().len(), leader.asked().len()),
        (1, 1),
        "redirected once, not asked again"
    );
    assert!(error.outcome_unknown() && error.idempotency_key().is_empty(), "{error}");
    assert!(
        error.hint().contains("may have been applied") && error.hint().contains("mesh status"),
        "{error}"
    );
    assert!(!leader.asked()[0].metadata.contains_key("idempotency-key"));

    let options = CallOptions {
        only: Some(endpoint(there)),
        timeout: Some(Duration::from_secs(2)),
        attempt_timeout: Some(Duration::from_millis(200)),
        ..CallOptions::default()
    };
    let error = client
        .call::<api_client::methods::RemoveMember>(RemoveMemberRequest::default(), options)
        .await
        .expect_err("silence");
    assert_eq!((error.code(), error.outcome_unknown()), ("deadline_exceeded", true));
    assert_eq!(leader.asked().len(), 2);
}

#[tokio::test]
async fn a_slow_clock_does_not_lock_the_caller_out() {
    let node = Fake::default();
    let expired = Problem {
        code: "idempotency_key_expired".into(),
        ..Problem::default()
    };
    node.says(
        "CordonPeer",
        [
            Reply::Problem(Code::FailedPrecondition, expired.clone()),
            Reply::ok(&peer("p1")),
            Reply::Problem(Code::FailedPrecondition, expired),
        ],
    );
    let client = client(&[node.serve().await]);
    let answer = client.cordon_peer(cordon("p1")).await.expect("another key");
    let keys: Vec<String> = node.asked().iter().map(key).collect();
    assert_eq!((keys[0].len(), &keys[1]), (26, &answer.meta.idempotency_key));
    assert!(keys[1].starts_with("sdk-") && keys[1].len() <= 64, "{}", keys[1]);
    // The caller's own key is the caller's own business.
    let mut request = cordon("p1");
    request.idempotency_key = "mine".into();
    let error = client.cordon_peer(request).await.expect_err("expired");
    assert_eq!((error.exit_code(), node.asked().len()), (5, 3));
}

#[tokio::test]
async fn options_pin_an_endpoint_and_forbid_repeats() {
    let (node, other) = (Fake::default(), Fake::default());
    let (first, second) = (node.serve().await, other.serve().await);
    node.says("CordonPeer", [Reply::not_leader(Some(&format!("http://{second}")))]);
    node.says("GetPeer", [Reply::Bare(Code::Unavailable, "busy")]);
    let client = client(&[first, second]);
    let stay = CallOptions {
        stay: true,
        ..CallOptions::default()
    };
    let pinned = CallOptions {
        only: Some(endpoint(first)),
        ..CallOptions::default()
    };
    for options in [stay, pinned] {
        let error = client
            .call::<api_client::methods::CordonPeer>(cordon("p1"), options)
            .await
            .expect_err("a redirect");
        assert_eq!(error.leader(), Some(format!("http://{second}").as_str()));
    }
    let once = CallOptions {
        once: true,
        consistency: Some(Consistency::Local),
        ..CallOptions::default()
    };
    let before = node.asked().len();
    client
        .call::<api_client::methods::GetPeer>(get("p1"), once)
        .await
        .expect_err("busy");
    assert_eq!(node.asked().len(), before + 1);
    assert_eq!(
        node.asked()[before]
            .metadata
            .get("mesh-consistency")
            .map(String::as_str),
        Some("local")
    );
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn the_token_is_sent_and_read_again_when_its_file_changed() {
    let node = Fake::default();
    let expired = Problem {
        code: "credential_expired".into(),
        ..Problem::default()
    };
    node.says(
        "GetPeer",
        [
            Reply::Problem(Code::Unauthenticated, expired.clone()),
            Reply::ok(&peer("p1")),
            Reply::Problem(Code::Unauthenticated, expired),
        ],
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (context, token) = (folder.path().join("context.toml"), folder.path().join("token"));
    std::fs::write(&token, "first\n").expect("written");
    std::fs::write(
        &context,
        format!(
            "endpoints = [\"http://{}\"]\ntoken_file = \"token\"",
            node.serve().await
        ),
    )
    .expect("written");
    let flags = api_client::context::Flags {
        context: Some(context),
        ..Default::default()
    };
    let context = api_client::Context::load(&flags, &std::iter::empty().collect()).expect("a context");
    let client = Client::new(&context).expect("a client");
    std::fs::write(&token, "second\n").expect("written");
    client.get_peer(get("p1")).await.expect("the second token is good");
    let sent: Vec<_> = node
        .asked()
        .iter()
        .filter_map(|asked| asked.metadata.get("authorization").cloned())
        .collect();
    assert_eq!(sent, ["Bearer first", "Bearer second"]);
    let error = client.get_peer(get("p1")).await.expect_err("the same token again");
    assert_eq!((error.exit_code(), node.asked().len()), (4, 3));
    assert!(!format!("{error:?} {error}").contains("second"));
}

#[tokio::test]
async fn an_operation_is_followed_by_long_polls() {
    let node = Fake::default();
    let at = |version, state: State| Operation {
        id: "o1".into(),
        version,
        state: state.into(),
        ..Operation::default()
    };
    node.says(
        "GetOperation",
        [Reply::ok(&at(2, State::Running)), Reply::ok(&at(3, State::Succeeded))],
    );
    let client = client(&[node.serve().await]);
    let first = client
        .wait_operation("o1", 1, Duration::from_secs(90))
        .await
        .expect("version 2")
        .message;
    let second = client
        .wait_operation("o1", first.version, Duration::from_millis(1_500))
        .await
        .expect("version 3")
        .message;
    assert_eq!((second.version, second.state()), (3, State::Succeeded));
    let asked: Vec<proto::v1::GetOperationRequest> = node.asked().iter().map(crate::fake::Asked::message).collect();
    assert_eq!(
        (asked[0].wait_version, asked[0].timeout.map(|t| t.seconds)),
        (Some(1), Some(60))
    );
    assert_eq!(
        (asked[1].wait_version, asked[1].timeout.map(|t| (t.seconds, t.nanos))),
        (Some(2), Some((1, 500_000_000)))
    );
}

#[tokio::test]
async fn a_node_that_dies_between_calls_is_replaced_by_the_next() {
    let (first, second) = (Fake::default(), Fake::default());
    first.says("GetPeer", [Reply::ok(&peer("one"))]);
    second.says("GetPeer", [Reply::ok(&peer("two"))]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let std_listener = listener.into_std().expect("a listener");
    let node = first.clone();
    runtime.spawn(async move {
        node.accept(tokio::net::TcpListener::from_std(std_listener).expect("a listener"))
            .await;
    });
    let client = client(&[address, second.serve().await]);
    assert_eq!(client.get_peer(get("x")).await.expect("the first").message.id, "one");
    // All its sockets close, as if it had been killed.
    runtime.shutdown_background();
    assert_eq!(client.get_peer(get("x")).await.expect("the second").message.id, "two");
}

#[tokio::test]
async fn an_empty_or_short_trail_is_found() {
    let node = Fake::default();
    node.says(
        "GetStatus",
        [Reply::ok(&Status {
            mesh: "m1".into(),
            ..Status::default()
        })],
    );
    node.says(
        "ListAuditCheckpoints",
        [Reply::ok(&proto::v1::ListAuditCheckpointsResponse::default())],
    );
    node.says(
        "ListAuditRecords",
        [Reply::ok(&ListAuditRecordsResponse {
            revision: 5,
            ..Default::default()
        })],
    );
    let client = client(&[node.serve().await]);
    let error = audit::verify(&client, None, &[], |_, _| {})
        .await
        .expect_err("five records are missing");
    assert_eq!((error.code(), error.exit_code()), ("audit_broken", 1));
}

/// What a node of another contract answers: its peers begin with a number, where ours have a name.
#[derive(Debug)]
struct Foreign;

impl Method for Foreign {
    type Request = CordonPeerRequest;
    type Response = FeatureLevel;
    const PATH: &'static str = "/meshkit.v1.PeerService/CordonPeer";
    const MUTATION: bool = true;
    const LEADER: bool = false;

    fn key(request: &mut CordonPeerRequest) -> Option<&mut String> {
        Some(&mut request.idempotency_key)
    }

    fn is_dry_run(request: &CordonPeerRequest) -> bool {
        request.dry_run
    }
}

#[tokio::test]
async fn an_answer_that_does_not_decode_leaves_a_change_open_and_the_node_aside() {
    let (one, other) = (Fake::default(), Fake::default());
    for node in [&one, &other] {
        node.says("CordonPeer", [Reply::ok(&peer("p1"))]);
    }
    let client = client(&[one.serve().await, other.serve().await]);
    let call = |dry_run| {
        let request = CordonPeerRequest {
            dry_run,
            ..cordon("p1")
        };
        client.call::<Foreign>(request, CallOptions::default())
    };
    let error = call(false).await.expect_err("another contract");
    assert_eq!((error.code(), error.outcome_unknown()), ("internal", true), "{error}");
    assert!(error.detail().contains("not in the contract"), "{error}");
    let hint = error.hint();
    assert!(hint.contains(&key(&one.asked()[0])), "{hint}");
    let error = call(true).await.expect_err("another contract");
    assert_eq!((error.code(), error.outcome_unknown()), ("internal", false), "{error}");
    assert_eq!(
        (one.asked().len(), other.asked().len()),
        (1, 1),
        "the next is asked elsewhere"
    );
}

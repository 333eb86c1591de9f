//! gRPC: the same calls, refusals with their details, health and reflection.

use std::time::Duration;

use meshkit_api_server::Error;
use prost::Message;
use proto::{
    codes::Code,
    v1::{
        self, audit_service_client::AuditServiceClient, auth_service_client::AuthServiceClient,
        cluster_service_client::ClusterServiceClient, operation_service_client::OperationServiceClient,
        peer_service_client::PeerServiceClient,
    },
};
use tonic::{Code as Grpc, Status};
use tonic_types::StatusExt;

use crate::world::{ADMIN, OBSERVE, OPERATE, READ, World};

fn register(id: &str) -> v1::RegisterPeerRequest {
    v1::RegisterPeerRequest {
        id: id.into(),
        endpoints: vec!["h:1".into()],
        ..Default::default()
    }
}

#[track_caller]
fn refused(status: &Status, grpc: Grpc, name: &str) -> v1::Problem {
    assert_eq!(status.code(), grpc, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (name, "meshkit"));
    let problem = Error::from_status(status).problem().clone();
    assert_eq!((problem.code.as_str(), problem.request_id.is_empty()), (name, false));
    problem
}

#[tokio::test]
async fn every_service_answers() {
    let world = World::one().await;
    let channel = world.channel(1, None).await;
    let mut peers = PeerServiceClient::new(channel.clone());
    let answer = peers.register_peer(world.grpc(OPERATE, register("p1"))).await.unwrap();
    assert_eq!(answer.metadata().get("mesh-epoch").unwrap(), "1");
    assert!(answer.metadata().get("mesh-request-id").is_some());
    let peer = answer.into_inner();
    assert_eq!((peer.status(), peer.version), (v1::peer::Status::Active, 1));
    let id = |id: &str| v1::GetPeerRequest { id: id.into() };
    let found = peers.get_peer(world.grpc(READ, id("p1"))).await.unwrap().into_inner();
    assert_eq!(found, peer);
    let drain = v1::DrainPeerRequest {
        id: "p1".into(),
        if_match: peer.etag.clone(),
        ..Default::default()
    };
    let drained = peers.drain_peer(world.grpc(OPERATE, drain)).await.unwrap().into_inner();
    let listed = peers
        .list_peers(world.grpc(READ, v1::ListPeersRequest::default()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.items, std::slice::from_ref(&drained));
    let mut operations = OperationServiceClient::new(channel.clone());
    let cancel = v1::CancelOperationRequest {
        id: drained.operation.clone(),
        ..Default::default()
    };
    let cancelled = operations
        .cancel_operation(world.grpc(OPERATE, cancel.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(cancelled.state(), v1::operation::State::Cancelled);
    let status = operations
        .cancel_operation(world.grpc(OPERATE, cancel))
        .await
        .unwrap_err();
    refused(&status, Grpc::FailedPrecondition, "operation_finished");
    let mut audit = AuditServiceClient::new(channel.clone());
    let trail = v1::ListAuditRecordsRequest {
        include_canonical: true,
        ..Default::default()
    };
    let trail = audit
        .list_audit_records(world.grpc(OBSERVE, trail))
        .await
        .unwrap()
        .into_inner();
    let mut chain = statemachine::Hash::default();
    for record in &trail.items {
        assert_eq!(record.previous_hash, chain.to_string());
        chain = statemachine::audit::extend(chain, &record.canonical);
        assert_eq!(record.hash, chain.to_string());
    }
    assert_eq!(trail.items.len() as u64, trail.revision);
    let checkpoints = v1::ListAuditCheckpointsRequest::default();
    assert!(
        audit
            .list_audit_checkpoints(world.grpc(OBSERVE, checkpoints))
            .await
            .unwrap()
            .into_inner()
            .items
            .is_empty()
    );
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let status = cluster
        .get_status(world.grpc(READ, v1::GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.mesh.as_str(), status.quorum, status.revision),
        ("m1", true, trail.revision)
    );
    assert_eq!(status.nodes[0].role(), v1::node::Role::Leader);
    assert_eq!(
        status.digest,
        world.leader().handle.view().state().mesh.digest().to_string()
    );
    let remove = v1::RemoveMemberRequest {
        id: 1,
        ..Default::default()
    };
    cluster.remove_member(world.grpc(ADMIN, remove)).await.unwrap_err();
    let mut auth = AuthServiceClient::new(channel);
    let can = auth
        .can_i(world.grpc(
            ADMIN,
            v1::CanIRequest {
                what: "mesh.admin".into(),
            },
        ))
        .await
        .unwrap()
        .into_inner();
    assert!(can.allowed);
}

#[tokio::test]
async fn refusals_carry_their_document() {
    let world = World::one().await;
    let mut peers = PeerServiceClient::new(world.channel(1, None).await);
    let with = |scope: &str, message: v1::RegisterPeerRequest| {
        let request = world.grpc(scope, message);
        let mut peers = peers.clone();
        async move { peers.register_peer(request).await }
    };
    let peer = with(OPERATE, register("p1")).await.unwrap().into_inner();
    let status = with(OPERATE, register("p1")).await.unwrap_err();
    assert_eq!(
        refused(&status, Grpc::AlreadyExists, "already_exists").current_etag,
        peer.etag
    );
    let status = with(OPERATE, register("NOT AN ID")).await.unwrap_err();
    assert_eq!(refused(&status, Grpc::InvalidArgument, "invalid_argument").field, "id");
    let status = with(READ, register("p2")).await.unwrap_err();
    assert_eq!(
        refused(&status, Grpc::PermissionDenied, "scope_missing").missing_scope,
        "mesh.operate"
    );
    assert_eq!(world.leader().refusals.0.lock()[0].target, "peer/p2");
    let status = peers
        .get_peer(v1::GetPeerRequest { id: "p1".into() })
        .await
        .unwrap_err();
    refused(&status, Grpc::Unauthenticated, "unauthenticated");
    let mut cordon = world.grpc(
        OPERATE,
        v1::CordonPeerRequest {
            id: "p1".into(),
            ..Default::default()
        },
    );
    cordon.metadata_mut().insert("if-match", "0-0".parse().unwrap());
    let status = peers.cordon_peer(cordon).await.unwrap_err();
    refused(&status, Grpc::Aborted, "etag_mismatch");
    let mut torn = world.grpc(
        OPERATE,
        v1::CordonPeerRequest {
            id: "p1".into(),
            reason: "a".into(),
            ..Default::default()
        },
    );
    torn.metadata_mut().insert("mesh-reason", "b".parse().unwrap());
    refused(
        &peers.cordon_peer(torn).await.unwrap_err(),
        Grpc::InvalidArgument,
        "invalid_argument",
    );
}

#[tokio::test]
async fn rest_and_grpc_share_idempotency_keys() {
    let world = World::one().await;
    let mut peers = PeerServiceClient::new(world.channel(1, None).await);
    let message = v1::RegisterPeerRequest {
        idempotency_key: "k".into(),
        ..register("p1")
    };
    let first = peers
        .register_peer(world.grpc(OPERATE, message))
        .await
        .unwrap()
        .into_inner();
    let body = serde_json::json!({ "id": "p1", "endpoints": ["h:1"] });
    let retry = world
        .with(
            OPERATE,
            "POST",
            "/meshkit/peers",
            Some(body),
            &[("idempotency-key", "k")],
        )
        .await;
    assert_eq!(retry.expect(200)["etag"], first.etag.as_str());
    assert_eq!(retry.header("mesh-replayed"), "true");
}

#[tokio::test]
async fn a_certificate_is_a_credential() {
    let world = World::one().await;
    let mut peers = PeerServiceClient::new(world.channel(1, Some("spiffe://m1/client/ci")).await);
    peers.register_peer(register("p1")).await.unwrap();
    let last = world.leader().handle.view();
    let unit = last.unit(last.position().revision).unwrap().unwrap();
    assert_eq!(
        (unit.unit.origin.actor.as_str(), unit.unit.origin.transport.as_str()),
        ("ci", "h2")
    );
    let status = peers
        .deregister_peer(v1::DeregisterPeerRequest {
            id: "p1".into(),
            ..Default::default()
        })
        .await;
    refused(&status.unwrap_err(), Grpc::PermissionDenied, "scope_missing");
    let mut stranger = PeerServiceClient::new(world.channel(1, Some("spiffe://m1/client/other")).await);
    refused(
        &stranger.register_peer(register("p2")).await.unwrap_err(),
        Grpc::Unauthenticated,
        "unauthenticated",
    );
    // A node's certificate alone is nobody's credential.
    let mut node = PeerServiceClient::new(world.channel(1, Some("spiffe://m1/cluster/c1/node/2")).await);
    refused(
        &node.register_peer(register("p2")).await.unwrap_err(),
        Grpc::Unauthenticated,
        "unauthenticated",
    );
}

#[tokio::test]
async fn deadlines_are_kept() {
    let world = World::three().await;
    let leader = world.leader_number();
    let mut peers = PeerServiceClient::new(world.channel(leader, None).await);
    // The others are gone: nothing can be committed.
    for node in 1..=3 {
        if node != leader {
            world.network.cut(&raft::testing::endpoint(node).raft);
            world.node(node).handle.shutdown(Duration::from_secs(5)).await.unwrap();
        }
    }
    let mut request = world.grpc(OPERATE, register("p1"));
    request.set_timeout(Duration::from_millis(300));
    let began = std::time::Instant::now();
    let status = peers.register_peer(request).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(
        matches!(
            status.code(),
            Grpc::DeadlineExceeded | Grpc::Unavailable | Grpc::Cancelled
        ),
        "{status:?}"
    );
    let body = serde_json::json!({ "id": "p1", "endpoints": ["h:1"] });
    let request = world.request(
        OPERATE,
        "POST",
        "/meshkit/peers",
        Some(body),
        &[("mesh-timeout", "200ms")],
    );
    let began = std::time::Instant::now();
    let answer = world.h1(leader, None, request).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{answer:?}");
    assert_eq!(answer.json()["retryable"], true);
    // Status answers without a quorum.
    let status = world.at(leader, READ, "GET", "/meshkit/status", None).await.expect(200);
    assert_eq!(status["answeredBy"], leader);
}

#[tokio::test]
async fn unknown_services_and_methods_answer_as_grpc() {
    let world = World::one().await;
    for path in [
        "/no.such.Service/Call",
        "/meshkit.v1.PeerService/Explode",
        "/x",
        "/meshkit.v1.PeerService",
    ] {
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(bytes::Bytes::from_static(&[0, 0, 0, 0, 0]).into())
            .unwrap();
        let answer = world.h2(1, None, request).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "application/grpc");
        assert_eq!(answer.header("grpc-status"), "12", "{path}");
        assert_eq!(answer.header("mesh-code"), "unimplemented");
    }
}

#[tokio::test]
async fn messages_that_do_not_decode_are_refused() {
    let world = World::one().await;
    let send = |body: Vec<u8>| {
        let request = http::Request::post("/meshkit.v1.PeerService/GetPeer")
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {}", world.token(READ)))
            .body(bytes::Bytes::from(body).into())
            .unwrap();
        world.h2(1, None, request)
    };
    let framed = |message: &[u8]| {
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(message);
        framed
    };
    let good = v1::GetPeerRequest { id: "p1".into() }.encode_to_vec();
    let header = |answer: &crate::world::Answer| answer.header("mesh-code").to_owned();
    assert_eq!(header(&send(framed(&good)).await), "not_found");
    assert_eq!(header(&send(framed(&[0xff; 9])).await), Code::InvalidArgument.as_str());
    assert_eq!(header(&send(vec![]).await), Code::InvalidArgument.as_str());
    // A length that promises more than is allowed is refused before anything is kept.
    assert_eq!(
        header(&send(vec![0, 0xff, 0xff, 0xff, 0xff]).await),
        Code::TooLarge.as_str()
    );
    assert_eq!(header(&send(framed(&vec![0; 2 << 20])).await), Code::TooLarge.as_str());
}

#[tokio::test]
async fn health_and_reflection() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::one().await;
    let mut health = HealthClient::new(world.channel(1, None).await);
    let check = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let serving = health.check(check("")).await.unwrap().into_inner();
    assert_eq!(serving.status(), ServingStatus::Serving);
    assert_eq!(
        health
            .check(check("meshkit.v1.PeerService"))
            .await
            .unwrap()
            .into_inner()
            .status(),
        ServingStatus::Serving
    );
    assert_eq!(health.check(check("x")).await.unwrap_err().code(), Grpc::NotFound);
    assert_eq!(health.watch(check("")).await.unwrap_err().code(), Grpc::Unauthenticated);
    let mut watch = health.watch(world.grpc(READ, check(""))).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(world.channel(1, None).await);
    let list = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        futures::stream::iter([ServerReflectionRequest {
            host: String::new(),
            message_request,
        }])
    };
    let status = reflection.server_reflection_info(list()).await.unwrap_err();
    assert_eq!(status.code(), Grpc::Unauthenticated);
    let mut answers = reflection
        .server_reflection_info(world.grpc(READ, list()))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    assert!(
        services
            .service
            .iter()
            .any(|service| service.name == "meshkit.v1.PeerService")
    );
    // Streams end with the server.
    world.node(1).stop.cancel();
    let end = tokio::time::timeout(Duration::from_secs(5), watch.message())
        .await
        .unwrap();
    assert!(end.is_err() || end.is_ok_and(|message| message.is_none_or(|m| m.status() == ServingStatus::NotServing)));
}

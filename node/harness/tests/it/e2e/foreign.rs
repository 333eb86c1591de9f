//! Clients that know nothing of this product: they find out by reflection what it speaks (M2), ask for its health, and
//! probe it. And those that probe too much (X1).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node_harness::{Mesh, Options, wait_until};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, prost_types::FileDescriptorProto};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use super::{
    wire::{Answer, Caller, Wire, runtime},
    world::{SOON, caller, register, tls, unique},
};

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// gRPC's words.
const OK: &str = "0";
const NOT_FOUND: &str = "5";
const UNAUTHENTICATED: &str = "16";

fn one() -> Options {
    Options {
        nodes: 1,
        ..Options::default()
    }
}

fn nobody(mesh: &Mesh, wire: Wire) -> Caller {
    Caller::new(&mesh.node(1).unwrap().api, wire, tls(mesh))
}

#[test]
fn what_a_node_speaks_can_be_found_out_by_asking_it() {
    let mesh = Mesh::start(one()).unwrap();
    services_are_described_whole(&mesh);
    health_is_told(&mesh);
    mesh.stop().unwrap();
}

/// Asks the reflection service one thing.
fn reflect(at: &Caller, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let answer = at.grpc_raw(REFLECTION, request.encode_to_vec().into());
    assert_eq!(answer.header("grpc-status"), OK, "{:?}", answer.headers);
    let response = ServerReflectionResponse::decode(answer.message()).unwrap();
    response.message_response.expect("an answer")
}

/// The files of an answer, by name.
fn files(answer: MessageResponse) -> Vec<FileDescriptorProto> {
    match answer {
        MessageResponse::FileDescriptorResponse(files) => files
            .file_descriptor_proto
            .iter()
            .map(|file| FileDescriptorProto::decode(file.as_slice()).unwrap())
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// Knowing only the address and a token, a client learns every service, and calls one.
fn services_are_described_whole(mesh: &Mesh) {
    let list = || MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(list()),
    };
    let refused = nobody(mesh, Wire::Grpc).grpc_raw(REFLECTION, request.encode_to_vec().into());
    assert_eq!(refused.header("grpc-status"), UNAUTHENTICATED, "{:?}", refused.headers);

    let at = caller(mesh, 1, Wire::Grpc, "read");
    let services: BTreeSet<String> = match reflect(&at, list()) {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    };
    // `/meshkit.v1.PeerService/DrainPeer`
    let spoken = proto::methods::all().iter().map(|method| {
        let service = method.path.trim_start_matches('/').split('/').next().unwrap();
        service.to_owned()
    });
    for service in spoken.chain(["grpc.health.v1.Health".to_owned()]) {
        assert!(services.contains(&service), "{service} is not among {services:?}");
    }

    // Every service, and whatever its files stand on.
    let mut known = BTreeMap::new();
    let mut wanted: VecDeque<MessageRequest> = services
        .iter()
        .map(|service| MessageRequest::FileContainingSymbol(service.clone()))
        .collect();
    while let Some(question) = wanted.pop_front() {
        for file in files(reflect(&at, question)) {
            let name = file.name().to_owned();
            if known.contains_key(&name) {
                continue;
            }
            let needs = file.dependency.iter().filter(|need| !known.contains_key(*need));
            wanted.extend(needs.map(|need| MessageRequest::FileByFilename(need.clone())));
            known.insert(name, file);
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(known.into_values()).unwrap();
    for method in proto::methods::all() {
        let service = method.path.trim_start_matches('/').split('/').next().unwrap();
        let described = pool.get_service_by_name(service).unwrap();
        assert!(
            described.methods().any(|described| described.name() == method.name),
            "{} is not described",
            method.path
        );
    }
    calls_what_it_learnt(mesh, &pool);
    let nothing = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("meshkit.v1.Nothing".to_owned())),
    };
    let unknown = at.grpc_raw(REFLECTION, nothing.encode_to_vec().into());
    assert_eq!(unknown.header("grpc-status"), NOT_FOUND, "{:?}", unknown.headers);
}

/// A call put together from nothing but what reflection said.
fn calls_what_it_learnt(mesh: &Mesh, pool: &DescriptorPool) {
    let id = unique("foreign");
    register(mesh, &id);
    let service = pool.get_service_by_name("meshkit.v1.PeerService").unwrap();
    let method = service.methods().find(|method| method.name() == "GetPeer").unwrap();
    let mut request = DynamicMessage::new(method.input());
    request.set_field_by_name("id", prost_reflect::Value::String(id.clone()));
    let path = format!("/{}/{}", service.full_name(), method.name());
    let answer = caller(mesh, 1, Wire::Grpc, "read").grpc_raw(&path, request.encode_to_vec().into());
    assert_eq!(answer.header("grpc-status"), OK, "{:?}", answer.headers);
    let peer = DynamicMessage::decode(method.output(), answer.message()).unwrap();
    assert_eq!(
        peer.get_field_by_name("id").unwrap().as_str(),
        Some(id.as_str()),
        "{peer:?}"
    );
    assert_eq!(peer.descriptor().full_name(), method.output().full_name());
}

/// What load balancers ask: anybody may, once; only who has a scope may go on listening.
fn health_is_told(mesh: &Mesh) {
    let ask = |at: &Caller, path: &str, service: &str| -> Answer {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        at.grpc_raw(path, request.encode_to_vec().into())
    };
    let anybody = nobody(mesh, Wire::Grpc);
    for service in ["", "meshkit.v1.PeerService", "meshkit.v1.OperationService"] {
        let answer = ask(&anybody, CHECK, service);
        assert_eq!(answer.header("grpc-status"), OK, "{service}: {:?}", answer.headers);
        let health = HealthCheckResponse::decode(answer.message()).unwrap();
        assert_eq!(health.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = ask(&anybody, CHECK, "meshkit.v1.Nothing");
    assert_eq!(unknown.header("grpc-status"), NOT_FOUND, "{:?}", unknown.headers);
    let listening = ask(&anybody, "/grpc.health.v1.Health/Watch", "");
    assert_eq!(
        listening.header("grpc-status"),
        UNAUTHENTICATED,
        "{:?}",
        listening.headers
    );
}

/// Requests by nobody in particular under way on the whole node, in the test below.
const PLACES: usize = 8;
/// Connections of one address that have proved nothing, in the test below.
const CONNECTIONS: usize = 24;

#[test]
fn probes_by_nobody_hold_no_places() {
    let limit = |name: &str, value: usize| (format!("MESHKIT_LIMITS__{name}"), value.to_string());
    let mesh = Mesh::start(Options {
        nodes: 1,
        environment: vec![
            limit("REQUESTS_IN_FLIGHT_ANONYMOUS_MAX", PLACES),
            limit("CONNECTIONS_PER_ADDRESS_ANONYMOUS_MAX", CONNECTIONS),
        ],
    })
    .unwrap();
    places_are_given_back(&mesh);
    connections_are_bounded(&mesh);
    mesh.stop().unwrap();
}

/// A body of which nothing ever comes.
struct Withheld;

impl hyper::body::Body for Withheld {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// Begins a health check and never says which. Answers what came of it.
async fn dawdle(at: Caller) -> Result<StatusCode, String> {
    let stream = at.tls.connect(&at.address, b"h2").await?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut send, connection) = handshake.await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::post(format!("https://{}{CHECK}", at.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Withheld)
        .unwrap();
    let response = send.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(response.status())
}

/// Whoever takes every place and says nothing has them for a moment only; meanwhile others are told so at once.
fn places_are_given_back(mesh: &Mesh) {
    let probe = nobody(mesh, Wire::H1);
    let started = Instant::now();
    let held: Vec<_> = (0..PLACES)
        .map(|_| runtime().spawn(dawdle(nobody(mesh, Wire::Grpc))))
        .collect();
    let full = wait_until(SOON, "all places to be taken", || {
        ["/livez", "/readyz"].iter().all(|page| {
            let asked = Instant::now();
            let answer = probe.get(page);
            assert!(
                asked.elapsed() < Duration::from_secs(5),
                "{page}: it is not answered at once"
            );
            match answer.status {
                200 => false,
                429 => {
                    answer.refused("resource_exhausted");
                    true
                }
                _ => panic!("{page}: {answer:?}"),
            }
        })
    });
    full.unwrap();
    // Whoever can say who they are has places of their own.
    register(mesh, &unique("while-dawdling"));
    // The ones who dawdle go on dawdling; their places do not wait for them.
    let free = wait_until(Duration::from_secs(8), "places to be given back", || {
        probe.get("/livez").status == 200
    });
    free.unwrap_or_else(|error| panic!("{error}; they are held since {:?}", started.elapsed()));
    register(mesh, &unique("after-dawdling"));
    for dawdler in held {
        let ended = runtime().block_on(async { tokio::time::timeout(SOON, dawdler).await });
        ended.expect("it is told").unwrap().expect("in HTTP");
    }
    // And what it says is bounded too.
    let long = nobody(mesh, Wire::Grpc).grpc_raw(CHECK, vec![0; 4096].into());
    assert_ne!(long.header("grpc-status"), OK, "{:?}", long.headers);
}

/// Connections over the limit are closed at once, and room is given back.
fn connections_are_bounded(mesh: &Mesh) {
    let at = nobody(mesh, Wire::H1);
    let mut open = Vec::new();
    runtime().block_on(async {
        for _ in 0..CONNECTIONS * 2 {
            // Those over the limit may find that out in the handshake, or right after it.
            open.extend(at.tls.connect(&at.address, b"http/1.1").await.ok());
        }
    });
    assert!(open.len() >= CONNECTIONS, "{} connections are open", open.len());
    let refused = at.try_raw("GET", "/livez", "", Bytes::new());
    assert!(refused.is_err(), "there is room for one more: {refused:?}");
    drop(open);
    let room = wait_until(SOON, "room for connections", || {
        thread::sleep(Duration::from_millis(10));
        at.try_raw("GET", "/livez", "", Bytes::new())
            .is_ok_and(|answer| answer.status == 200)
    });
    room.unwrap();
    register(mesh, &unique("after-many"));
}

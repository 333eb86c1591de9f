//! Traces (M7): one command is one trace, from the command line over the node that it asks and the leader to where its entry
//! is applied, as a collector sees it.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use node_harness::{Mesh, Options, wait_for};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    wire::{Wire, runtime},
    world::{SOON, caller, follower, leader, registration, unique},
};

/// What is read of `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
}

/// A span, and the program and instance that made it.
#[derive(Debug, Clone)]
struct Seen {
    by: String,
    span: Span,
}

/// A collector that keeps what it is sent.
struct Collector {
    endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

impl Collector {
    fn start() -> Self {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let serving = runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let into = Arc::clone(&into);
                tokio::spawn(async move {
                    let service = service_fn(move |request| take(request, Arc::clone(&into)));
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // Whoever leaves in the middle of it is of no concern here.
                    http.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self {
            endpoint,
            seen,
            serving,
        }
    }

    fn spans(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The spans of the trace that one is in, by what they are called, once `whole` says that all are there.
    fn trace(&self, of: impl Fn(&Seen) -> bool, whole: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let found = wait_for(SOON, "a whole trace", || {
            let spans = self.spans();
            let trace = spans.iter().find(|seen| of(seen))?.span.trace.clone();
            let trace: Vec<Seen> = spans.into_iter().filter(|seen| seen.span.trace == trace).collect();
            whole(&trace).then_some(trace)
        });
        found.unwrap_or_else(|error| panic!("{error}: {:#?}", self.spans()))
    }
}

/// An answer that is there already: its frames.
struct Body(VecDeque<Frame<Bytes>>);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// One call of `Export`, which is answered with an empty message.
async fn take(request: Request<Incoming>, into: Arc<Mutex<Vec<Seen>>>) -> Result<Response<Body>, hyper::Error> {
    assert_eq!(
        request.uri().path(),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    let body = request.into_body().collect().await?.to_bytes();
    // Behind a byte that says that it is not compressed, and four of length.
    let export = Export::decode(&body[5..]).unwrap();
    for resource in export.resources {
        let attributes = resource.resource.unwrap_or_default().attributes;
        let named: BTreeMap<String, String> = attributes
            .into_iter()
            .map(|attribute| (attribute.key, attribute.value.unwrap_or_default().text))
            .collect();
        let instance = named.get("service.instance.id").map_or("", String::as_str);
        let by = format!("{} {instance}", named["service.name"]).trim().to_owned();
        let spans = resource.scopes.into_iter().flat_map(|scope| scope.spans);
        let spans = spans.map(|span| Seen { by: by.clone(), span });
        into.lock().unwrap().extend(spans);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(Body(frames.into())).unwrap())
}

fn one<'a>(trace: &'a [Seen], by: &str, name: &str) -> &'a Span {
    let mut found = trace.iter().filter(|seen| seen.by == by && seen.span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} by {by}: {trace:#?}"));
    assert!(found.next().is_none(), "two of {name} by {by}: {trace:#?}");
    &span.span
}

#[test]
fn a_command_is_one_trace_down_to_where_it_is_applied() {
    let collector = Collector::start();
    let endpoint = (
        "MESHKIT_TELEMETRY__OTLP_ENDPOINT".to_owned(),
        collector.endpoint.clone(),
    );
    let mesh = Mesh::start(Options {
        environment: vec![endpoint],
        ..Options::default()
    })
    .unwrap();
    let (leads, follows) = (leader(&mesh), follower(&mesh));
    let (leader, follower) = (format!("meshkit-node {leads}"), format!("meshkit-node {follows}"));

    // The node that is asked sends the client on to the leader.
    let mut command = mesh.programs().command("mesh");
    command
        .args(["peers", "register", &unique("traced"), "--endpoint", "10.0.0.1:1"])
        .env("MESH_CONTEXT", mesh.context("admin"))
        .env("MESH_ENDPOINTS", &mesh.node(follows).unwrap().api)
        .env("MESH_OTLP_ENDPOINT", &collector.endpoint);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let whole = |trace: &[Seen]| trace.len() >= 5;
    let trace = collector.trace(|seen| seen.by == "mesh", whole);
    let command = one(&trace, "mesh", "mesh peers register");
    assert!(command.parent.is_empty());
    assert_eq!(one(&trace, &follower, "peers.register").parent, command.id);
    let led = one(&trace, &leader, "peers.register");
    assert_eq!(led.parent, command.id);
    let proposed = one(&trace, &leader, "propose");
    assert_eq!(proposed.parent, led.id);
    assert_eq!(one(&trace, &leader, "apply").parent, proposed.id);

    // A caller's own trace, carried on by the node that forwards.
    let mut at = caller(&mesh, follows, Wire::H2, "admin");
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    at.headers.insert("traceparent", HeaderValue::from_static(given));
    at.headers.insert("mesh-route", HeaderValue::from_static("forward"));
    at.call("RegisterPeer", registration(&unique("traced"))).ok();
    let whole = |trace: &[Seen]| trace.len() >= 4;
    let trace = collector.trace(|seen| seen.span.trace.starts_with(&[0x0a, 0xf7, 0x65]), whole);
    let asked = one(&trace, &follower, "peers.register");
    assert_eq!(asked.parent, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    let led = one(&trace, &leader, "peers.register");
    assert_eq!(led.parent, asked.id);
    let proposed = one(&trace, &leader, "propose");
    assert_eq!(
        (&proposed.parent, &one(&trace, &leader, "apply").parent),
        (&led.id, &proposed.id)
    );

    // A caller who does not want its trace kept.
    let unwanted = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    at.headers.insert("traceparent", HeaderValue::from_static(unwanted));
    at.call("RegisterPeer", registration(&unique("untraced"))).ok();

    // A collector that is gone holds nobody up.
    collector.serving.abort();
    let started = std::time::Instant::now();
    at.headers.remove("traceparent");
    for _ in 0..50 {
        at.get("/meshkit/peers").ok();
    }
    at.call("RegisterPeer", registration(&unique("without-a-collector")))
        .ok();
    assert!(started.elapsed() < Duration::from_secs(20));
    let kept = collector.spans();
    assert!(
        !kept.iter().any(|seen| seen.span.trace.starts_with(&[0x1a, 0xf7])),
        "{kept:#?}"
    );
    mesh.stop().unwrap();
}

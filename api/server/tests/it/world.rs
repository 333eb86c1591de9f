//! A cluster with an API server at every node, and clients.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshkit_api_server::{
    AuthConfig, Authenticator, Binding, Config, JwtConfig, Parts, Server,
    ports::{Alarm, Beat, NodeFacts, Pause, Presence, Refusals},
};
use parking_lot::Mutex;
use raft::{
    Handle, Threads,
    env::{BoxStream, Clock, Purpose, Target},
    testing::{self, Disks, Network, SystemClock},
};
use serde_json::{Value, json};
use statemachine::{
    InitMesh, NodeId, Origin, PeerId, Refusal, TimelineId,
    presence::{Heard, Known, MassSilence, Report, Table, Terms},
    record::Overrides,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

pub const ADMIN: &str = "mesh.admin";
pub const OPERATE: &str = "mesh.operate";
pub const OBSERVE: &str = "mesh.observe";
pub const READ: &str = "mesh.read";

/// One node with its server.
pub struct Node {
    pub handle: Handle,
    pub refusals: Arc<Noted>,
    pub facts: Arc<Facts>,
    pub stop: CancellationToken,
    pub serving: Option<tokio::task::JoinHandle<()>>,
}

/// Keeps refusals.
#[derive(Default)]
pub struct Noted(pub Mutex<Vec<Refusal>>);

impl Refusals for Noted {
    fn note(&self, refusal: Refusal) {
        self.0.lock().push(refusal);
    }
}

/// Facts that a test sets.
#[derive(Default)]
pub struct Facts {
    pub full: Mutex<bool>,
    /// Whether asking for alarms panics.
    pub broken: Mutex<bool>,
    /// Whether what the node holds is damaged.
    pub corrupt: Mutex<bool>,
}

impl NodeFacts for Facts {
    fn version(&self) -> String {
        "0.0.0-test".to_owned()
    }

    fn alarms(&self) -> Vec<Alarm> {
        assert!(!*self.broken.lock(), "told to break");
        Vec::new()
    }

    fn serves(&self) -> Result<(), String> {
        match *self.corrupt.lock() {
            true => Err("a bit was flipped".to_owned()),
            false => Ok(()),
        }
    }

    fn accepts_mutations(&self) -> Result<(), Pause> {
        match *self.full.lock() {
            true => Err(Pause::NoSpace {
                measured: "1 GiB free".into(),
                limit: "2 GiB".into(),
            }),
            false => Ok(()),
        }
    }
}

/// Listens to peers as a leader's loop does, and finds nobody late.
pub struct Listening(Mutex<Table>);

impl Default for Listening {
    fn default() -> Self {
        Self(Mutex::new(Table::new(Terms::default(), 0)))
    }
}

impl Presence for Listening {
    fn beat(&self, peer: &PeerId, known: Known, received_ms: u64, report: Report) -> Option<Beat> {
        let lease_ms = self.0.lock().beat(peer, known, received_ms, report);
        Some(Beat {
            lease_ms,
            next_ms: 1_000,
        })
    }

    fn heard(&self, peers: &[PeerId]) -> Vec<Option<Heard>> {
        let table = self.0.lock();
        peers.iter().map(|peer| table.heard(peer).cloned()).collect()
    }

    fn mass_silence(&self) -> Option<MassSilence> {
        None
    }
}

/// A cluster.
pub struct World {
    pub network: Network,
    pub nodes: Vec<Node>,
    key: Ed25519KeyPair,
}

impl World {
    /// One node that leads.
    pub async fn one() -> Self {
        Self::new(1, Config::default()).await
    }

    /// Three nodes.
    pub async fn three() -> Self {
        Self::new(3, Config::default()).await
    }

    pub async fn new(count: u64, config: Config) -> Self {
        let network = Network::default();
        let key = Ed25519KeyPair::generate().unwrap();
        let mut world = Self {
            network,
            nodes: Vec::new(),
            key,
        };
        for node in 1..=count {
            let handle = testing::start_node(&world.network, node, Disks::default().open(), testing::config());
            let handle = handle.await.unwrap();
            let node = world.serve(node, handle, config.clone());
            world.nodes.push(node);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        let members = (1..=count)
            .map(|node| (NodeId(node), testing::endpoint(node)))
            .collect();
        world.nodes[0].handle.initialize(members, deadline).await.unwrap();
        for node in &world.nodes {
            let mut status = node.handle.watch_status();
            tokio::time::timeout_at(deadline, status.wait_for(|status| status.leader.is_some()))
                .await
                .unwrap()
                .unwrap();
        }
        let init = InitMesh {
            mesh: testing::identity(1).mesh,
            cluster: testing::identity(1).cluster,
            timeline: TimelineId(7),
            settings: Overrides::new(),
            feature_level: statemachine::FEATURE_LEVEL,
        };
        let request = statemachine::Request {
            origin: Origin::system("init", NodeId(1), 0),
            conditions: Default::default(),
            command: init.into(),
        };
        world.leader().handle.propose(request, deadline).await.unwrap();
        for node in &world.nodes {
            node.handle
                .read(raft::Consistency::Linearizable, deadline)
                .await
                .unwrap();
        }
        world
    }

    fn serve(&self, node: u64, handle: Handle, config: Config) -> Node {
        let identity = testing::identity(node);
        let refusals = Arc::new(Noted::default());
        let facts = Arc::new(Facts::default());
        let stop = CancellationToken::new();
        let uri = identity.uri_of(identity.node);
        let auth = Authenticator::new(identity.mesh.clone(), identity.cluster.clone(), &self.auth_config()).unwrap();
        let parts = Parts {
            cluster: identity.cluster.clone(),
            handle: handle.clone(),
            auth: Arc::new(auth),
            clock: Arc::new(SystemClock::default()),
            dial: self.network.dialer(Some(&uri)),
            refusals: Arc::clone(&refusals) as _,
            facts: Arc::clone(&facts) as _,
            presence: Arc::new(Listening::default()),
            registry: Default::default(),
            threads: Threads::Own,
            config,
        };
        let server = Server::new(parts, stop.clone()).unwrap();
        let listen = self.network.listen(&testing::endpoint(node).api, &uri);
        let serving = tokio::spawn(async move { server.serve(listen).await });
        Node {
            handle,
            refusals,
            facts,
            stop,
            serving: Some(serving),
        }
    }

    fn auth_config(&self) -> AuthConfig {
        // SubjectPublicKeyInfo of Ed25519: a fixed head and the 32 bytes (RFC 8410).
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(self.key.public_key().as_ref());
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            BASE64_STANDARD.encode(spki)
        );
        AuthConfig {
            jwt: Some(JwtConfig {
                issuer: "tests".into(),
                pem_keys: vec![("key.pem".into(), pem.into_bytes())],
                ..JwtConfig::default()
            }),
            bindings: vec![Binding {
                matches: "spiffe://m1/client/ci".into(),
                subject: "ci".into(),
                scopes: vec![OPERATE.into()],
            }],
            token_bytes_max: 8192,
            ..AuthConfig::default()
        }
    }

    /// A token of `alice` with one scope, good for an hour.
    pub fn token(&self, scope: &str) -> String {
        let now_s = SystemClock::default().wall_ms() / 1000;
        self.sign(&json!({ "iss": "tests", "aud": "m1", "sub": "alice", "exp": now_s + 3600, "scope": scope }))
    }

    pub fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": "EdDSA" })), part(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The number of the node that leads, from 1.
    pub fn leader_number(&self) -> u64 {
        let leads = |node: &Node| node.handle.status().is_leader();
        self.nodes
            .iter()
            .find(|node| leads(node))
            .map(|node| node.handle.node().0)
            .unwrap()
    }

    pub fn leader(&self) -> &Node {
        self.node(self.leader_number())
    }

    /// Any node that does not lead.
    pub fn follower_number(&self) -> u64 {
        self.nodes
            .iter()
            .find(|node| !node.handle.status().is_leader())
            .map(|node| node.handle.node().0)
            .unwrap()
    }

    pub fn node(&self, number: u64) -> &Node {
        &self.nodes[usize::try_from(number).unwrap() - 1]
    }

    /// A stream to a node's API, from a client with or without a certificate.
    pub async fn connect(&self, node: u64, uri: Option<&str>) -> BoxStream {
        let target = Target {
            node: None,
            address: testing::endpoint(node).api,
            purpose: Purpose::Api,
        };
        self.network.dialer(uri).dial(&target).await.unwrap().0
    }

    /// Sends a request over HTTP/1.1 on a connection of its own.
    pub async fn h1(&self, node: u64, uri: Option<&str>, request: Request<Full<Bytes>>) -> Answer {
        let stream = TokioIo::new(self.connect(node, uri).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Answer::read(sender.send_request(request).await.unwrap()).await
    }

    /// Sends a request over HTTP/2 on a connection of its own.
    pub async fn h2(&self, node: u64, uri: Option<&str>, mut request: Request<Full<Bytes>>) -> Answer {
        let stream = TokioIo::new(self.connect(node, uri).await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        *request.version_mut() = http::Version::HTTP_2;
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        *request.uri_mut() = format!("https://api{path}").parse().unwrap();
        request.headers_mut().remove(http::header::HOST);
        Answer::read(sender.send_request(request).await.unwrap()).await
    }

    /// A REST call by `alice` with a scope, at a node.
    pub async fn at(&self, node: u64, scope: &str, verb: &str, path: &str, body: Option<Value>) -> Answer {
        self.h1(node, None, self.request(scope, verb, path, body, &[])).await
    }

    /// A REST call at the first node.
    pub async fn call(&self, scope: &str, verb: &str, path: &str, body: Option<Value>) -> Answer {
        self.at(1, scope, verb, path, body).await
    }

    /// A REST call at the first node with more headers.
    pub async fn with(
        &self,
        scope: &str,
        verb: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.h1(1, None, self.request(scope, verb, path, body, headers)).await
    }

    pub fn request(
        &self,
        scope: &str,
        verb: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(verb)
            .uri(path)
            .header("host", "api")
            .header("authorization", format!("Bearer {}", self.token(scope)));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        request.body(Full::new(Bytes::from(body))).unwrap()
    }

    /// A gRPC channel to a node.
    pub async fn channel(&self, node: u64, uri: Option<&str>) -> Channel {
        let (network, uri) = (self.network.clone(), uri.map(str::to_owned));
        let connect = tower::service_fn(move |_| {
            let dialer = network.dialer(uri.as_deref());
            async move {
                let target = Target {
                    node: None,
                    address: testing::endpoint(node).api,
                    purpose: Purpose::Api,
                };
                dialer.dial(&target).await.map(|(stream, _)| TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://api")
            .connect_with_connector(connect)
            .await
            .unwrap()
    }

    /// A gRPC request by `alice` with a scope.
    pub fn grpc<T>(&self, scope: &str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let bearer = format!("Bearer {}", self.token(scope)).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// Registers a peer at the leader.
    pub async fn register(&self, id: &str) -> Value {
        let body = json!({ "id": id, "endpoints": ["h:1"], "labels": { "zone": "a" } });
        let answer = self
            .at(self.leader_number(), OPERATE, "POST", "/meshkit/peers", Some(body))
            .await;
        answer.expect(200)
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn read(response: Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The code of a refusal, whose form is checked.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["requestId"].is_string(), "{problem}");
        problem
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

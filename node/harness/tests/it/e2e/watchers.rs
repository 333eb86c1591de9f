//! Watchers of everything, each with a client of its own: server-sent events over every HTTP version, gRPC, and the command
//! line. Each goes on with its last token where its stream ends, and keeps what it was told for [`History::check`].

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node_harness::{Mesh, wait_until};
use proto::v1::{self, watch_message::Message, watch_service_client::WatchServiceClient};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    views::{Held, History, Record, Told, Unit},
    wire::{Tls, runtime},
    world::{SOON, tls},
};

/// How long a watcher may take to be told what has happened.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// How long to wait before a stream that ended is opened again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long nothing may come over UDP, where nobody says that a node is gone. There is progress five times a second.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a handshake over UDP may take.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Over TCP the system says so. A node that is only stopped comes back to its streams.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a watcher reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Sse1,
    Sse2,
    Sse3,
    Grpc,
}

/// What becomes of messages: units and progress at once, a snapshot when it is whole.
#[derive(Default)]
pub struct Taken {
    pub told: Vec<Told>,
    /// Begun, and not to be gone on from yet: a snapshot follows.
    begun: Option<u64>,
    pieces: Vec<Record>,
}

impl Taken {
    pub fn take(&mut self, message: v1::WatchMessage) {
        let v1::WatchMessage {
            message,
            token,
            revision,
        } = message;
        match message.expect("a message of a known kind") {
            Message::Begun(_) => {
                self.pieces.clear();
                self.begun = token.is_empty().then_some(revision);
                if !token.is_empty() {
                    self.told.push(Told::Begun(revision));
                }
            }
            Message::Snapshot(snapshot) => {
                self.pieces.extend(snapshot.items);
                assert_eq!(snapshot.last, !token.is_empty(), "a token comes with the last piece");
                if snapshot.last {
                    let begun = self.begun.take().expect("a snapshot is begun");
                    self.told.push(Told::Begun(begun));
                    self.told
                        .push(Told::Snapshot(revision, std::mem::take(&mut self.pieces)));
                }
            }
            Message::Unit(unit) => self.told.push(Told::Unit(Unit::of_watch(revision, &unit))),
            Message::Progress(_) => self.told.push(Told::Progress(revision)),
        }
    }
}

/// The last revision up to which everything was told.
pub fn reached(told: &[Told]) -> u64 {
    let last = told.iter().rev().find_map(|told| match told {
        Told::Unit(unit) => Some(unit.revision),
        Told::Begun(at) | Told::Snapshot(at, _) | Told::Progress(at) => Some(*at),
        Told::Refused(_) => None,
    });
    last.unwrap_or_default()
}

/// Where a watcher reads.
#[derive(Clone, Copy)]
struct Course {
    /// The place of the node among all.
    at: usize,
    /// Whether it goes to the next node where its stream ends.
    moves: bool,
}

/// A watcher of everything. Dropping it ends it.
pub struct Watcher {
    pub name: String,
    taken: Arc<Mutex<Taken>>,
    streams: Arc<AtomicU64>,
    course: watch::Sender<Course>,
    _task: AbortOnDropHandle<()>,
}

impl Watcher {
    /// One that begins at a node, and stays with it.
    pub fn stays(mesh: &Mesh, node: u64, form: Form) -> Self {
        Self::start(mesh, node, form, false, false)
    }

    /// One that goes to the next node where its stream ends.
    pub fn moves(mesh: &Mesh, node: u64, form: Form) -> Self {
        Self::start(mesh, node, form, true, false)
    }

    /// One that stays, and begins with what there is.
    pub fn with_snapshot(mesh: &Mesh, node: u64, form: Form) -> Self {
        Self::start(mesh, node, form, false, true)
    }

    fn start(mesh: &Mesh, node: u64, form: Form, moves: bool, snapshot: bool) -> Self {
        let (taken, streams) = (Arc::new(Mutex::new(Taken::default())), Arc::new(AtomicU64::new(0)));
        let at = place(mesh, node);
        let (course, follows) = watch::channel(Course { at, moves });
        let reading = Reading {
            addresses: addresses(mesh),
            tls: tls(mesh),
            bearer: format!("Bearer {}", mesh.info().tokens.by_name()["observe"]),
            form,
            token: String::new(),
            snapshot,
            taken: taken.clone(),
        };
        let task = runtime().spawn(reading.run(follows, streams.clone()));
        let watcher = Self {
            name: format!("{form:?} at node {node}"),
            taken,
            streams,
            course,
            _task: AbortOnDropHandle::new(task),
        };
        let began = wait_until(SOON, "", || !lock(&watcher.taken).told.is_empty());
        assert!(began.is_ok(), "{} does not begin", watcher.name);
        watcher
    }

    /// Leaves its stream and goes on at another node, where it stays.
    pub fn goes_to(&self, mesh: &Mesh, node: u64) {
        let at = place(mesh, node);
        self.course.send(Course { at, moves: false }).expect("it reads");
    }

    /// What it was told so far.
    pub fn told(&self) -> Vec<Told> {
        lock(&self.taken).told.clone()
    }

    /// The last revision up to which it was told everything.
    pub fn reached(&self) -> u64 {
        reached(&lock(&self.taken).told)
    }

    /// The codes that its streams were refused and ended with.
    pub fn refusals(&self) -> Vec<String> {
        let refusal = |told: &Told| match told {
            Told::Refused(code) => Some(code.clone()),
            Told::Begun(_) | Told::Snapshot(..) | Told::Unit(_) | Told::Progress(_) => None,
        };
        lock(&self.taken).told.iter().filter_map(refusal).collect()
    }

    /// How often it opened a stream.
    pub fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Waits until it was told everything up to a revision.
    pub fn reaches(&self, revision: u64) {
        let there = wait_until(TOLD_WITHIN, "", || self.reached() >= revision);
        let last = lock(&self.taken).told.last().cloned();
        assert!(there.is_ok(), "{} is not told of {revision}: {last:?}", self.name);
    }

    /// Holds what it was told up to a revision against the history. Answers what it holds there.
    pub fn check(&self, history: &History, upto: u64) -> Held {
        let told = self.told();
        let held = history.check(&told, upto);
        let held = held.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let units = told.iter().filter(|told| matches!(told, Told::Unit(_))).count();
        assert!(units > 0, "{}: nothing was told", self.name);
        eprintln!("{}: {units} revisions over {} streams", self.name, self.streams());
        held
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(mesh: &Mesh, node: u64) -> usize {
    mesh.ids()
        .iter()
        .position(|id| *id == node)
        .expect("a node of the mesh")
}

fn addresses(mesh: &Mesh) -> Vec<String> {
    let endpoints = mesh.endpoints();
    let addresses = endpoints
        .iter()
        .map(|api| api.strip_prefix("https://").unwrap().to_owned());
    addresses.collect()
}

/// Why a stream is over.
enum End {
    /// It broke off, or could not be opened: whatever was told last counts.
    Broken,
    /// The node said why, and where to go on.
    Refused { code: String, token: String },
}

impl End {
    /// Of a problem document.
    fn of(problem: &Value) -> Self {
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        match text("code") {
            code if code.is_empty() => Self::Broken,
            code => Self::Refused {
                code,
                token: text("token"),
            },
        }
    }
}

fn broken<E>(_: E) -> End {
    End::Broken
}

/// What a watcher holds between two streams.
struct Reading {
    addresses: Vec<String>,
    tls: Tls,
    bearer: String,
    form: Form,
    token: String,
    /// Whether to begin with what there is, where there is no token.
    snapshot: bool,
    taken: Arc<Mutex<Taken>>,
}

impl Reading {
    async fn run(mut self, mut course: watch::Receiver<Course>, streams: Arc<AtomicU64>) {
        let mut here = *course.borrow_and_update();
        loop {
            streams.fetch_add(1, Ordering::Relaxed);
            let address = self.addresses[here.at].clone();
            tokio::select! {
                end = self.read(&address) => {
                    if let Err(end) = end {
                        self.over(end);
                    }
                    if here.moves {
                        here.at = (here.at + 1) % self.addresses.len();
                    }
                }
                changed = course.changed() => match changed {
                    Ok(()) => here = *course.borrow_and_update(),
                    Err(_) => return,
                },
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Takes in how a stream ended.
    fn over(&mut self, end: End) {
        let End::Refused { code, token } = end else { return };
        if code == "compacted" || code == "diverged" {
            self.token = String::new();
            self.snapshot = true;
        } else if !token.is_empty() {
            self.token = token;
        }
        lock(&self.taken).told.push(Told::Refused(code));
    }

    fn take(&mut self, message: v1::WatchMessage) {
        if !message.token.is_empty() {
            self.token.clone_from(&message.token);
        }
        lock(&self.taken).take(message);
    }

    async fn read(&mut self, address: &str) -> Result<(), End> {
        match self.form {
            Form::Grpc => self.read_messages(address).await,
            Form::Sse1 => {
                let stream = self.tls.connect(address, b"http/1.1").await.map_err(broken)?;
                let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
                let (mut send, connection) = handshake.await.map_err(broken)?;
                let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
                let mut request = self.request(address);
                request.headers_mut().insert("host", address.parse().unwrap());
                *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
                let response = send.send_request(request).await.map_err(broken)?;
                self.read_events(response).await
            }
            Form::Sse2 => {
                let (mut send, _connection) = self.connect_h2(address).await?;
                let response = send.send_request(self.request(address)).await.map_err(broken)?;
                self.read_events(response).await
            }
            Form::Sse3 => {
                let connecting = tokio::time::timeout(HANDSHAKE, self.tls.connect_h3(address));
                let client = connecting.await.map_err(broken)?.map_err(broken)?;
                let sent = tokio::time::timeout(SILENCE, client.send(self.request(address)));
                let response = sent.await.map_err(broken)?.map_err(broken)?;
                self.read_events(response).await
            }
        }
    }

    /// Opens the events of everything; goes on behind the token.
    fn request(&self, address: &str) -> Request<Empty<Bytes>> {
        let snapshot = self.snapshot;
        let uri = format!("https://{address}/meshkit/watch?progressInterval=0.2s&snapshot={snapshot}");
        let mut request = Request::get(uri).header("authorization", &self.bearer);
        if !self.token.is_empty() {
            request = request.header("last-event-id", &self.token);
        }
        request.body(Empty::new()).unwrap()
    }

    async fn connect_h2<B>(
        &self,
        address: &str,
    ) -> Result<(hyper::client::conn::http2::SendRequest<B>, AbortOnDropHandle<()>), End>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let stream = self.tls.connect(address, b"h2").await.map_err(broken)?;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (send, connection) = handshake.await.map_err(broken)?;
        // How it ends is seen by its requests.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok((send, AbortOnDropHandle::new(connection)))
    }

    async fn read_events<B: Body<Data = Bytes> + Unpin>(&mut self, mut response: Response<B>) -> Result<(), End> {
        if response.status() != 200 {
            let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
            return Err(serde_json::from_slice(&body).map_or(End::Broken, |problem| End::of(&problem)));
        }
        let patience = if self.form == Form::Sse3 { SILENCE } else { PATIENCE };
        let mut arrived = BytesMut::new();
        while let Some(frame) = tokio::time::timeout(patience, response.body_mut().frame())
            .await
            .map_err(broken)?
        {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                arrived.extend_from_slice(&data);
            }
            while let Some(end) = arrived.windows(2).position(|two| two == b"\n\n") {
                let event = arrived.split_to(end + 2);
                self.event(std::str::from_utf8(&event).unwrap())?;
            }
        }
        Ok(())
    }

    fn event(&mut self, text: &str) -> Result<(), End> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let data: Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
        let event = field("event: ").unwrap();
        if event == "error" {
            return Err(End::of(&data));
        }
        assert!(data.get(event).is_some(), "an event {event} with {data}");
        let message: v1::WatchMessage = proto::json::from_slice(data.to_string().as_bytes()).unwrap();
        assert_eq!(message.token, field("id: ").unwrap_or_default(), "{event}");
        self.take(message);
        Ok(())
    }

    async fn read_messages(&mut self, address: &str) -> Result<(), End> {
        let (send, _connection) = self.connect_h2(address).await?;
        let origin = format!("https://{address}").parse().unwrap();
        let mut client = WatchServiceClient::with_origin(Sending(send), origin);
        let mut request = tonic::Request::new(v1::WatchRequest {
            token: self.token.clone(),
            snapshot: self.snapshot,
            progress_interval: prost_types::Duration::try_from(Duration::from_millis(200)).ok(),
            ..Default::default()
        });
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.bearer.parse().unwrap());
        let mut messages = client
            .watch(request)
            .await
            .map_err(|status| ended(&status))?
            .into_inner();
        while let Some(message) = messages.message().await.map_err(|status| ended(&status))? {
            self.take(message);
        }
        Ok(())
    }
}

/// How a gRPC stream ended: only a node's own word has details.
fn ended(status: &tonic::Status) -> End {
    if status.details().is_empty() {
        return End::Broken;
    }
    let error = api_client::Error::from_status(status);
    End::Refused {
        code: error.code().to_owned(),
        token: error.problem().token.clone(),
    }
}

/// A connection, as a gRPC client wants it.
#[derive(Clone)]
struct Sending(hyper::client::conn::http2::SendRequest<tonic::body::Body>);

impl tower::Service<Request<tonic::body::Body>> for Sending {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

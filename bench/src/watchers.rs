//! Thousands of watchers on one server: how soon a change is at all of them, and what each costs in memory.
//!
//! Both sides have the same shape: connections that carry many streams each, one watch on a stream, one key that is
//! watched. The client is on the same machine and takes its share of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use api_client::{Endpoint, TlsConnect};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use node_harness::Options;
use tonic::Request;

use crate::{
    Error, Result,
    etcd::{self, messages as etcd_messages},
    link::Link,
    load::Target as _,
    mesh::{self, Mesh},
    usage::Usage,
};

/// How long all watchers may take to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// How long things settle before memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);
/// Streams that are being opened at once.
const OPENING: usize = 50;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Connections with gRPC watches.
    pub connections: usize,
    /// Connections with server-sent events; the mesh alone has those.
    pub event_connections: usize,
    /// Watches on each connection.
    pub streams: usize,
    /// Changes that are timed.
    pub events: usize,
    /// Whether etcd is measured beside it.
    pub etcd: bool,
}

/// What one group of watchers took.
struct Row {
    name: String,
    watchers: usize,
    /// From sending the change to each watcher's reading it, of all events and watchers, sorted.
    each: Vec<Duration>,
    /// The same until the last of them has it.
    all: Vec<Duration>,
    bytes_per_watcher: u64,
}

/// When each watcher was told last.
struct Board {
    began: Instant,
    /// Microseconds since `began`, by watcher.
    told: Vec<AtomicU64>,
    count: AtomicUsize,
}

impl Board {
    fn new(watchers: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            told: (0..watchers).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicUsize::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn tell(&self, watcher: usize) {
        if let Some(told) = self.told.get(watcher) {
            told.store(self.now(), Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Release);
    }
}

/// Runs it; answers a table.
///
/// # Errors
/// A side does not start, a watch cannot be opened, or a change is not told in time.
pub fn run(plan: Plan, say: impl Fn(&str)) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Error::Worthless(format!("a runtime: {error}")))?;
    runtime.block_on(async {
        let mesh = Mesh::start_with(Options::default())?;
        let mut rows = measure_mesh(plan, &mesh, &say).await?;
        if plan.etcd {
            rows.push(measure_etcd(plan, &mesh, &say).await?);
        }
        Ok(table(&rows))
    })
}

async fn measure_mesh(plan: Plan, mesh: &Mesh, say: &impl Fn(&str)) -> Result<Vec<Row>> {
    mesh.register(1).await?;
    let (tls, leader) = mesh.leader().await?;
    // At another node than the one that commits.
    let (endpoint, pid) = follower(mesh, &leader)?;
    let bearer = format!("Bearer {}", mesh.processes().info().tokens.observe);
    let (target, write) = (mesh.target()?, Link::open(&tls, &leader).await?);
    let mut rows = Vec::new();
    for (form, connections) in [(Form::Grpc, plan.connections), (Form::Events, plan.event_connections)] {
        let watchers = connections * plan.streams;
        if watchers == 0 {
            continue;
        }
        say(&format!("{watchers} watchers of the mesh, {form:?}"));
        let board = Board::new(watchers);
        let before = Usage::of(&[pid])?.rss_bytes;
        let opened = open_all(plan.streams, connections, &tls, &endpoint, |link, watcher| {
            form.open(link, bearer.clone(), watcher, Arc::clone(&board))
        });
        let tasks = opened.await?;
        let put = |round: usize| {
            let (target, write) = (&target, &write);
            async move { target.put(write, 0, format!("{round}")).await }
        };
        rows.push(timed(format!("mesh, {form:?}"), plan, &board, before, pid, put).await?);
        tasks.into_iter().for_each(|task| task.abort());
    }
    Ok(rows)
}

fn follower(mesh: &Mesh, leader: &Endpoint) -> Result<(Endpoint, u32)> {
    for node in mesh.processes().ids() {
        let endpoint = mesh.endpoint(node)?;
        if endpoint != *leader {
            return Ok((endpoint, mesh.processes().node(node)?.pid));
        }
    }
    Err(Error::Worthless("the mesh has no follower".to_owned()))
}

async fn measure_etcd(plan: Plan, mesh: &Mesh, say: &impl Fn(&str)) -> Result<Row> {
    let watchers = plan.connections * plan.streams;
    say(&format!("{watchers} watchers of etcd"));
    // The mesh's directory is etcd's too, so that both are on one disk. The mesh is idle by now.
    let processes = mesh.processes();
    let cluster = etcd::Cluster::start(processes.programs(), &processes.scratch().join("etcd")).await?;
    let (tls, leader) = cluster.leader().await?;
    let (endpoint, pid) = cluster
        .follower()
        .await
        .ok_or_else(|| Error::Worthless("etcd has no follower".to_owned()))?;
    let board = Board::new(watchers);
    let before = Usage::of(&[pid])?.rss_bytes;
    let opened = open_all(plan.streams, plan.connections, &tls, &endpoint, |link, watcher| {
        etcd_watch(link, watcher, Arc::clone(&board))
    });
    let tasks = opened.await?;
    let write = Link::open(&tls, &leader).await?;
    let put = |round: usize| {
        let write = &write;
        async move { etcd::Etcd.put(write, 0, format!("{round}")).await }
    };
    let row = timed("etcd, gRPC".to_owned(), plan, &board, before, pid, put).await?;
    tasks.into_iter().for_each(|task| task.abort());
    Ok(row)
}

type Task = tokio::task::JoinHandle<()>;

async fn open_all<F: Future<Output = Result<Task>>>(
    streams: usize,
    connections: usize,
    tls: &Arc<TlsConnect>,
    endpoint: &Endpoint,
    open: impl Fn(Link, usize) -> F,
) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let link = Link::open(tls, endpoint).await?;
        let opening = (0..streams).map(|stream| open(link.clone(), connection * streams + stream));
        let opened: Vec<Result<Task>> = futures::stream::iter(opening).buffer_unordered(OPENING).collect().await;
        for task in opened {
            tasks.push(task?);
        }
    }
    Ok(tasks)
}

async fn timed<F: Future<Output = std::result::Result<(), tonic::Status>>>(
    name: String,
    plan: Plan,
    board: &Board,
    before: u64,
    pid: u32,
    put: impl Fn(usize) -> F,
) -> Result<Row> {
    tokio::time::sleep(SETTLE).await;
    let after = Usage::of(&[pid])?.rss_bytes;
    let watchers = board.told.len();
    let (mut each, mut all) = (Vec::new(), Vec::new());
    for round in 0..=plan.events {
        // Anywhere within the second in which progress is told.
        tokio::time::sleep(Duration::from_millis(700 + 37 * (round as u64 % 16))).await;
        board.count.store(0, Ordering::Release);
        let sent = board.now();
        put(round)
            .await
            .map_err(|status| Error::Worthless(format!("a change was refused: {status}")))?;
        let deadline = Instant::now() + TOLD_WITHIN;
        while board.count.load(Ordering::Acquire) < watchers {
            if Instant::now() > deadline {
                let told = board.count.load(Ordering::Acquire);
                return Err(Error::Worthless(format!(
                    "{name}: {told} of {watchers} watchers were told"
                )));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The first one warms up.
        if round == 0 {
            continue;
        }
        let took: Vec<u64> = board
            .told
            .iter()
            .map(|told| told.load(Ordering::Relaxed).saturating_sub(sent))
            .collect();
        all.push(Duration::from_micros(took.iter().copied().max().unwrap_or(0)));
        each.extend(took.into_iter().map(Duration::from_micros));
    }
    each.sort_unstable();
    all.sort_unstable();
    Ok(Row {
        name,
        watchers,
        each,
        all,
        bytes_per_watcher: after.saturating_sub(before) / u64::try_from(watchers.max(1)).unwrap_or(1),
    })
}

/// How the mesh is watched.
#[derive(Debug, Clone, Copy)]
enum Form {
    Grpc,
    Events,
}

/// As much of a message as has to be seen: `unit`, whatever is in it.
#[derive(Clone, PartialEq, prost::Message)]
struct Seen {
    #[prost(bytes = "bytes", optional, tag = "1")]
    begun: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    unit: Option<Bytes>,
}

proto::wire! { Seen }

impl Form {
    async fn open(self, link: Link, bearer: String, watcher: usize, board: Arc<Board>) -> Result<Task> {
        match self {
            Self::Grpc => {
                let request = proto::v1::WatchPeersRequest {
                    id: mesh::id(0),
                    ..Default::default()
                };
                let mut request = Request::new(request);
                if let Ok(bearer) = bearer.parse() {
                    request.metadata_mut().insert("authorization", bearer);
                }
                let path = "/meshkit.v1.WatchService/WatchPeers";
                let mut messages = link.streaming::<_, Seen>(path, request).await.map_err(refused)?;
                // The watch is there once it says that it has begun.
                messages.message().await.map_err(refused)?;
                Ok(tokio::spawn(async move {
                    while let Ok(Some(message)) = messages.message().await {
                        if message.unit.is_some() {
                            board.tell(watcher);
                        }
                    }
                }))
            }
            Self::Events => {
                let path = format!("/meshkit/peers:watch?id={}", mesh::id(0));
                let response = link.get(&path, &bearer).await.map_err(refused)?;
                let mut body = response.into_body();
                Ok(tokio::spawn(async move {
                    // An event is far smaller than a frame, and comes in one.
                    while let Some(Ok(frame)) = body.frame().await {
                        if frame.data_ref().is_some_and(|data| data.starts_with(b"event: unit")) {
                            board.tell(watcher);
                        }
                    }
                }))
            }
        }
    }
}

async fn etcd_watch(link: Link, watcher: usize, board: Arc<Board>) -> Result<Task> {
    let create = etcd_messages::WatchCreateRequest {
        key: etcd::name(0),
        progress_notify: true,
    };
    let request = etcd_messages::WatchRequest {
        create_request: Some(create),
    };
    // A stream of requests that stays open, as etcd's own clients have it.
    let requests = futures::stream::iter([request]).chain(futures::stream::pending());
    let path = "/etcdserverpb.Watch/Watch";
    let opening = link.both_ways::<_, etcd_messages::WatchResponse>(path, Request::new(requests));
    let mut messages = opening.await.map_err(refused)?;
    messages.message().await.map_err(refused)?;
    Ok(tokio::spawn(async move {
        while let Ok(Some(message)) = messages.message().await {
            if !message.events.is_empty() {
                board.tell(watcher);
            }
        }
    }))
}

fn refused(status: tonic::Status) -> Error {
    Error::Worthless(format!("a watch could not be opened: {status}"))
}

fn table(rows: &[Row]) -> String {
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let at = |sorted: &[Duration], percent: usize| {
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    };
    let mut text = String::from(
        "| watchers | of | p50 ms | p99 ms | worst ms | last of all, median ms | KiB each |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {:.1} |\n",
            row.watchers,
            row.name,
            ms(at(&row.each, 50)),
            ms(at(&row.each, 99)),
            ms(row.each.last().copied().unwrap_or_default()),
            ms(at(&row.all, 50)),
            row.bytes_per_watcher as f64 / 1024.0,
        ));
    }
    text
}

//! Those who watch: everything that happens, on every node, as gRPC messages and as server-sent events; and the audit trail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_client::{
    Client, TlsConnect,
    watch::{Event, Part, Watch, WatchAudit, WatchMesh, WatchMethod},
};
use node_harness::Mesh;
use proto::v1::{self, watch_audit_message, watch_message};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    book, journal, people,
    sse::{self, Source},
};
use crate::{Error, Result, cluster::Cluster, error::Doing as _};

/// How long a watcher may take to begin, and to be told of the last revision.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// What a watch is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Records of all kinds.
    Records,
    /// The audit trail.
    Trail,
}

/// What one watcher was told.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Which one.
    pub name: String,
    /// Of what.
    pub what: What,
    /// Everything behind this revision,
    pub from: u64,
    /// and up to this one: each revision, and its content.
    pub told: Vec<(u64, u64)>,
    /// Where it ended.
    pub to: u64,
    /// How often its stream broke off and was taken up again.
    pub interrupted: u64,
}

/// What a reader of events was told: the content is the events' bytes until they are read.
struct Heard {
    watched: Watched,
    /// Where it began.
    token: String,
}

/// All of them at work.
pub struct Watchers {
    source: Source,
    readers: Vec<JoinHandle<Result<Watched>>>,
    listeners: Vec<JoinHandle<Result<Heard>>>,
    until: watch::Sender<u64>,
}

impl Watchers {
    /// A watch of everything as messages, one as events, and one of the trail, each at another node; or both of the first
    /// two `at_each` node. All have begun when it answers.
    ///
    /// # Errors
    /// Where one does not begin in time.
    pub async fn start(mesh: &Mesh, cluster: &Cluster, at_each: bool) -> Result<Self> {
        let observer = people::token(mesh, "observer", "mesh.observe")?;
        let token = std::fs::read_to_string(&observer).map_err(|error| Error::File { path: observer, error })?;
        let ca = &mesh.info().ca;
        let ca = std::fs::read(ca).map_err(|error| Error::File {
            path: ca.clone(),
            error,
        })?;
        let source = Source {
            tls: Arc::new(TlsConnect::new(Some(&ca), None).doing("TLS")?),
            endpoints: cluster.nodes().iter().map(|(_, endpoint)| endpoint.clone()).collect(),
            bearer: format!("Bearer {}", token.trim()),
        };
        let (until, target) = watch::channel(u64::MAX);
        let begun = Arc::new(AtomicU64::new(0));
        let (mut readers, mut listeners) = (Vec::new(), Vec::new());
        for (at, (node, _)) in cluster.nodes().iter().enumerate() {
            // As with the operators: some HTTP/3, some HTTP/2.
            let transport = if at % 2 == 1 { "auto" } else { "h2" };
            let client = people::person(mesh, "observer", "mesh.observe", transport, at)?.client;
            let name = format!("gRPC at node {node}");
            if at_each || at == 1 {
                let (target, begun) = (target.clone(), Arc::clone(&begun));
                readers.push(tokio::spawn(records(client, name, target, begun)));
            }
            let name = format!("events at node {node}");
            if at_each || at == 2 {
                let (source, target, begun) = (source.clone(), target.clone(), Arc::clone(&begun));
                listeners.push(tokio::spawn(listen(source, at, name, target, begun)));
            }
        }
        let client = people::person(mesh, "observer", "mesh.observe", "h2", 0)?.client;
        readers.push(tokio::spawn(trail(client, target, Arc::clone(&begun))));
        let all = (readers.len() + listeners.len()) as u64;
        let start = Instant::now();
        while begun.load(Ordering::Relaxed) < all {
            if start.elapsed() > TOLD_WITHIN {
                return Err(late("all watches to begin"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self {
            source,
            readers,
            listeners,
            until,
        })
    }

    /// Lets all be told of everything up to a revision, ends them, and answers what they were told. Events are read
    /// once more from history, and compared with those that were heard, byte by byte.
    ///
    /// # Errors
    /// Where one is not told in time.
    pub async fn end(self, revision: u64) -> Result<Vec<Watched>> {
        // They end by themselves once they are told; an error is only that nobody listens any more.
        let _ = self.until.send(revision);
        let mut all = Vec::new();
        for reader in self.readers {
            all.push(ended(reader).await?);
        }
        let mut heard = Vec::new();
        for listener in self.listeners {
            heard.push(ended(listener).await?);
        }
        if let Some(first) = heard.iter().min_by_key(|heard| heard.watched.from) {
            let to = heard.iter().map(|heard| heard.watched.to).max().unwrap_or(0);
            let read = read_again(&self.source, &first.token, first.watched.from, to).await?;
            for mut one in heard {
                for (revision, content) in &mut one.watched.told {
                    let same = read.events.get(revision).filter(|(bytes, _)| *bytes == *content);
                    // What does not read the same from history is told as something that never happened.
                    *content = same.map_or(0, |(_, unit)| *unit);
                }
                all.push(one.watched);
            }
            all.push(read.watched);
        }
        Ok(all)
    }
}

fn late(what: &str) -> Error {
    Error::Late {
        what: what.to_owned(),
        seconds: TOLD_WITHIN.as_secs(),
    }
}

async fn ended<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    match tokio::time::timeout(TOLD_WITHIN, task).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(_)) => Err(late("a watcher, which ended by itself")),
        Err(_) => Err(late("a watcher to be told of the last revision")),
    }
}

impl Watched {
    fn new(name: String, what: What) -> Self {
        Self {
            name,
            what,
            from: u64::MAX,
            told: Vec::new(),
            to: 0,
            interrupted: 0,
        }
    }

    /// Notes where it begins; true the first time.
    fn begins(&mut self, revision: u64) -> bool {
        let first = self.from == u64::MAX;
        if first {
            (self.from, self.to) = (revision, revision);
        }
        first
    }
}

/// Watches all records through the SDK.
async fn records(client: Client, name: String, until: watch::Receiver<u64>, begun: Arc<AtomicU64>) -> Result<Watched> {
    let watched = Watched::new(name, What::Records);
    let watch = client.watch::<WatchMesh>(v1::WatchRequest::default());
    follow(watch, watched, until, begun, |message| match &message.message {
        Some(watch_message::Message::Unit(unit)) => Some(journal::digest(unit)),
        _ => None,
    })
    .await
}

/// Watches the trail through the SDK.
async fn trail(client: Client, until: watch::Receiver<u64>, begun: Arc<AtomicU64>) -> Result<Watched> {
    let watched = Watched::new("the audit trail".to_owned(), What::Trail);
    let watch = client.watch::<WatchAudit>(v1::WatchAuditRequest::default());
    follow(watch, watched, until, begun, |message| match &message.message {
        Some(watch_audit_message::Message::Record(record)) => Some(journal::digest(record)),
        _ => None,
    })
    .await
}

/// Notes what a watch tells until it is at the revision that is waited for.
async fn follow<M: WatchMethod>(
    watch: Watch<M>,
    mut watched: Watched,
    mut until: watch::Receiver<u64>,
    begun: Arc<AtomicU64>,
    digest: impl Fn(&M::Response) -> Option<u64>,
) -> Result<Watched> {
    let mut watch = watch.patience(TOLD_WITHIN);
    while watched.to < *until.borrow_and_update() {
        let event = tokio::select! {
            event = watch.next() => event.doing("watching")?,
            _ = until.changed() => continue,
        };
        let (part, message) = match event {
            Event::Interrupted { .. } => {
                watched.interrupted += 1;
                continue;
            }
            Event::Message { part, message } => (part, message),
        };
        let Some((_, _, revision)) = M::read(&message) else {
            continue;
        };
        if part == Part::Begun && watched.begins(revision) {
            begun.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(digest) = digest(&message) {
            watched.told.push((revision, digest));
            watched.to = revision;
        } else if part == Part::Progress {
            watched.to = revision;
        }
    }
    Ok(watched)
}

/// Watches all records as events, and goes to the next node where a stream ends. It only notes what the bytes are: they
/// are read afterwards, so that reading them takes nothing from who is measured.
async fn listen(
    source: Source,
    first: usize,
    name: String,
    mut until: watch::Receiver<u64>,
    begun: Arc<AtomicU64>,
) -> Result<Heard> {
    let mut heard = Heard {
        watched: Watched::new(name, What::Records),
        token: String::new(),
    };
    let (mut at, mut token, mut failing) = (first, String::new(), None);
    loop {
        if let Ok(mut events) = sse::Events::open(&source, at, &token).await {
            while heard.watched.to < *until.borrow_and_update() {
                let event = tokio::select! {
                    event = events.next() => event,
                    _ = until.changed() => continue,
                };
                let Ok(event) = event else { break };
                let (Some(revision), "begun" | "unit" | "progress") = (event.revision(), event.name()) else {
                    break;
                };
                failing = None;
                if event.name() == "begun" && heard.watched.begins(revision) {
                    begun.fetch_add(1, Ordering::Relaxed);
                    event.id().clone_into(&mut heard.token);
                }
                if event.name() == "unit" {
                    heard.watched.told.push((revision, journal::of_bytes(event.bytes())));
                }
                if event.name() != "begun" {
                    heard.watched.to = revision;
                }
                if !event.id().is_empty() {
                    event.id().clone_into(&mut token);
                }
            }
        }
        if heard.watched.to >= *until.borrow() {
            return Ok(heard);
        }
        if failing.get_or_insert_with(Instant::now).elapsed() > TOLD_WITHIN {
            return Err(late("a stream of events"));
        }
        heard.watched.interrupted += 1;
        at += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Events that were read from history.
struct Read {
    watched: Watched,
    /// By revision: the event's bytes, and the unit in it.
    events: std::collections::BTreeMap<u64, (u64, u64)>,
}

/// Reads the events between two revisions again, whole.
async fn read_again(source: &Source, token: &str, from: u64, to: u64) -> Result<Read> {
    let mut read = Read {
        watched: Watched::new("events, read again".to_owned(), What::Records),
        events: std::collections::BTreeMap::new(),
    };
    read.watched.begins(from);
    let failed = |why: String| Error::Watch { why };
    let mut events = sse::Events::open(source, 0, token).await.map_err(failed)?;
    while read.watched.to < to {
        let event = events.next().await.map_err(failed)?;
        let revision = event
            .revision()
            .ok_or_else(|| failed(format!("an event {}", event.name())))?;
        if event.name() == "unit" {
            let message = proto::json::from_slice::<v1::WatchMessage>(event.data().as_bytes());
            let message = message.map_err(|error| failed(format!("an event that is none: {error}")))?;
            let unit = book::unit_digest(&message);
            read.watched.told.push((revision, unit));
            read.events.insert(revision, (journal::of_bytes(event.bytes()), unit));
        }
        if event.name() != "begun" {
            read.watched.to = revision;
        }
    }
    Ok(read)
}

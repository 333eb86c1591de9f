//! The server: what it is made of, and the loop that accepts connections.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::future::BoxFuture;
use raft::env::{Clock, ConnInfo, Dial, Listen};
use statemachine::ClusterId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Authenticator, Config,
    connection::{self, Connection},
    core::Core,
    forward::Forwarder,
    h3,
    history::History,
    listing::Pins,
    metrics::{Counted, CutLabels, Metrics, Shared},
    moves,
    operation_hub::OperationHub,
    ports::{NodeFacts, Presence, QuicListen, Refusals},
    rates::Rates,
    shares::{self, Places, Shares},
    stack::Stack,
    watch::Hub as WatchHub,
};

/// How long accepting pauses after an error: it is about one connection, or about resources that need a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection holds as long as it lasts.
struct Held {
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

/// There is no place for a connection.
struct TooMany;

/// What a server is made of.
pub struct Parts {
    /// The cluster that this node is a member of.
    pub cluster: ClusterId,
    /// Consensus.
    pub handle: raft::Handle,
    /// Who callers are.
    pub auth: Arc<Authenticator>,
    /// The node's clocks.
    pub clock: Arc<dyn Clock>,
    /// Connects to the leader's API for forwarded requests.
    pub dial: Arc<dyn Dial>,
    /// Takes note of refused callers.
    pub refusals: Arc<dyn Refusals>,
    /// Facts about this node.
    pub facts: Arc<dyn NodeFacts>,
    /// What this node hears of peers.
    pub presence: Arc<dyn Presence>,
    /// Where metrics are registered, and what `/metrics` shows.
    pub registry: Shared,
    /// Where reads of history run.
    pub threads: raft::Threads,
    /// Limits and deadlines.
    pub config: Config,
}

/// The API of one node. Cheap to clone; serves any number of listeners.
#[derive(Clone)]
pub struct Server {
    stack: Arc<Stack>,
    connections: Arc<Semaphore>,
    /// Connections that have carried no authenticated request, by address.
    anonymous: Arc<Shares<IpAddr>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// A server that answers nobody yet. It ends when `stop` is cancelled.
    ///
    /// # Errors
    /// The embedded descriptors do not decode, which only a broken build can bring about.
    pub fn new(parts: Parts, stop: CancellationToken) -> Result<Self, tonic_reflection::server::Error> {
        let Parts {
            cluster,
            handle,
            auth,
            clock,
            dial,
            refusals,
            facts,
            presence,
            registry,
            threads,
            config,
        } = parts;
        let metrics = Metrics::register(&mut registry.lock());
        let (limits, deadlines) = (&config.limits, &config.deadlines);
        let hub = Arc::new(OperationHub::default());
        // Before the view that the hub begins at, so that nothing falls in between.
        let units = handle.units();
        let backlog_bytes_max = limits.watch_backlog_bytes_max;
        let watches = WatchHub::new(&handle.view(), backlog_bytes_max, metrics.watch_lag.clone());
        let watches = Arc::new(watches);
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&hub).run(handle.units(), stop.clone()));
        let forward_within = Duration::from_millis(deadlines.forward_connect_ms);
        let forwarder = Forwarder::new(dial, Arc::clone(&clock), forward_within, stop.clone());
        let core = Core {
            cluster,
            status: handle.watch_status(),
            history: History::new(threads, metrics.panics.clone()),
            auth,
            clock,
            refusals,
            facts,
            presence,
            metrics,
            registry,
            forwarder,
            pins: Pins::new(limits.pinned_lists_max, Duration::from_millis(deadlines.pinned_list_ms)),
            hub,
            watches: Arc::clone(&watches),
            places: Places::new(limits),
            rates: Rates::new(limits),
            backups: Arc::new(Semaphore::new(limits.backups_max)),
            stop: stop.clone(),
            requests: AtomicU64::new(0),
            handle,
            config,
        };
        let core = Arc::new(core);
        let moves = core.metrics.moves.clone();
        tasks.spawn(moves::count(moves, core.handle.units(), stop.clone()));
        tasks.spawn(watches.run(Arc::clone(&core), units));
        let limits = &core.config.limits;
        let connections = Arc::new(Semaphore::new(limits.connections_max));
        let anonymous = Shares::new(limits.connections_per_address_anonymous_max);
        Ok(Self {
            stack: Arc::new(Stack::new(Arc::clone(&core))?),
            connections,
            anonymous,
            stop,
            tasks,
        })
    }

    /// Serves a listener until the server stops; then lets what is under way end, within the shutdown deadline.
    ///
    /// The future is boxed so that what connections need is compiled here: the body of a plain one is compiled by whoever
    /// awaits it.
    pub fn serve(&self, listen: Box<dyn Listen>) -> BoxFuture<'_, ()> {
        Box::pin(self.accept(listen))
    }

    /// The same for connections that speak HTTP/3. Both kinds share their limits.
    pub fn serve_quic(&self, listen: Box<dyn QuicListen>) -> BoxFuture<'_, ()> {
        Box::pin(self.accept_quic(listen))
    }

    async fn accept(&self, mut listen: Box<dyn Listen>) {
        let builder = Arc::new(connection::builder(&self.stack.core.config));
        let connections = TaskTracker::new();
        while let Some(accepted) = self.next(listen.accept()).await {
            let Ok((stream, info)) = accepted else { continue };
            if let Ok((place, connection)) = self.admit(info) {
                let (stack, builder, stop) = (Arc::clone(&self.stack), Arc::clone(&builder), self.stop.clone());
                connections.spawn(async move {
                    let _held = place;
                    connection::run(stack, builder, stream, connection, stop).await;
                });
            }
        }
        drop(listen);
        self.end(connections).await;
    }

    async fn accept_quic(&self, mut listen: Box<dyn QuicListen>) {
        let connections = TaskTracker::new();
        while let Some(accepted) = self.next(listen.accept()).await {
            let Ok((quic, info)) = accepted else { continue };
            match self.admit(info) {
                Ok((place, connection)) => {
                    let (stack, stop) = (Arc::clone(&self.stack), self.stop.clone());
                    connections.spawn(async move {
                        let _held = place;
                        h3::run(stack, quic, connection, stop).await;
                    });
                }
                Err(TooMany) => h3::refuse(&quic),
            }
        }
        drop(listen);
        self.end(connections).await;
    }

    /// What a listener accepts next; none when the server stops.
    async fn next<T>(&self, accept: impl Future<Output = io::Result<T>>) -> Option<io::Result<T>> {
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = self.stop.cancelled() => return None,
        };
        if let Err(error) = &accepted {
            tracing::debug!(%error, "a connection was not accepted");
            tokio::select! {
                () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                () = self.stop.cancelled() => return None,
            }
        }
        Some(accepted)
    }

    /// Finds a place for a connection, whatever it came over.
    fn admit(&self, info: ConnInfo) -> Result<(Held, Connection), TooMany> {
        let metrics = &self.stack.core.metrics;
        let cut = |reason| {
            metrics.cut.get_or_create(&CutLabels { reason }).inc();
            TooMany
        };
        let place = Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| cut("limit"))?;
        let share = self
            .anonymous
            .take(shares::party(info.peer))
            .ok_or_else(|| cut("address"))?;
        let held = Held {
            _place: place,
            _counted: Counted::new(&metrics.connections),
        };
        Ok((held, Connection::new(info, share)))
    }

    /// Lets connections end.
    async fn end(&self, connections: TaskTracker) {
        connections.close();
        // Each connection is bounded by the same deadline; the moment more is for its task to end.
        let within = Duration::from_millis(self.stack.core.config.deadlines.shutdown_ms) + Duration::from_millis(500);
        if tokio::time::timeout(within, connections.wait()).await.is_err() {
            tracing::warn!(
                left = connections.len(),
                "connections were left when the server stopped"
            );
        }
        self.tasks.close();
    }
}

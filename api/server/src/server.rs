//! The server: what it is made of, and the loop that accepts connections.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use raft::env::{Clock, Dial, Listen};
use statemachine::ClusterId;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Authenticator, Config,
    connection::{self, Connection},
    core::Core,
    forward::Forwarder,
    history::History,
    listing::Pins,
    metrics::{Counted, CutLabels, Metrics, Shared},
    operation_hub::OperationHub,
    ports::{NodeFacts, Refusals},
    shares::{self, Places, Shares},
    stack::Stack,
};

/// How long accepting pauses after an error: it is about one connection, or about resources that need a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
            registry,
            threads,
            config,
        } = parts;
        let metrics = Metrics::register(&mut registry.lock());
        let (limits, deadlines) = (&config.limits, &config.deadlines);
        let hub = Arc::new(OperationHub::default());
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
            metrics,
            registry,
            forwarder,
            pins: Pins::new(limits.pinned_lists_max, Duration::from_millis(deadlines.pinned_list_ms)),
            hub,
            places: Places::new(limits),
            backups: Arc::new(Semaphore::new(limits.backups_max)),
            stop: stop.clone(),
            requests: AtomicU64::new(0),
            handle,
            config,
        };
        let limits = &core.config.limits;
        let connections = Arc::new(Semaphore::new(limits.connections_max));
        let anonymous = Shares::new(limits.connections_per_address_anonymous_max);
        Ok(Self {
            stack: Arc::new(Stack::new(Arc::new(core))?),
            connections,
            anonymous,
            stop,
            tasks,
        })
    }

    /// Serves a listener until the server stops; then lets what is under way end, within the shutdown deadline.
    pub async fn serve(&self, mut listen: Box<dyn Listen>) {
        let core = &self.stack.core;
        let builder = Arc::new(connection::builder(&core.config));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listen.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            let (stream, info) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                        () = self.stop.cancelled() => break,
                    }
                }
            };
            let cut = |reason| core.metrics.cut.get_or_create(&CutLabels { reason }).inc();
            let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() else {
                cut("limit");
                continue;
            };
            let Some(share) = self.anonymous.take(shares::party(info.peer)) else {
                cut("address");
                continue;
            };
            let connection = connection::run(
                Arc::clone(&self.stack),
                Arc::clone(&builder),
                stream,
                Connection::new(info, share),
                self.stop.clone(),
            );
            let counted = Counted::new(&core.metrics.connections);
            connections.spawn(async move {
                let _held = (place, counted);
                connection.await;
            });
        }
        drop(listen);
        connections.close();
        // Each connection is bounded by the same deadline; the moment more is for its task to end.
        let within = Duration::from_millis(core.config.deadlines.shutdown_ms) + Duration::from_millis(500);
        if tokio::time::timeout(within, connections.wait()).await.is_err() {
            tracing::warn!(
                left = connections.len(),
                "connections were left when the server stopped"
            );
        }
        self.tasks.close();
    }
}

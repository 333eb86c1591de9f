//! What all requests of one server share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use raft::{env::Clock, error::Leader};
use statemachine::{ClusterId, MeshId};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Authenticator, Config, Error,
    auth::NodeIdentity,
    error::endpoint,
    forward::Forwarder,
    history::History,
    listing::Pins,
    metrics::{Metrics, Shared},
    operation_hub::OperationHub,
    ports::{NodeFacts, Pause, Presence, Refusals},
    rates::Rates,
    shares::Places,
    watch::Hub as WatchHub,
};
use proto::codes::Code;

/// What all requests of one server share.
pub(crate) struct Core {
    pub(crate) cluster: ClusterId,
    pub(crate) handle: raft::Handle,
    pub(crate) status: watch::Receiver<raft::Status>,
    pub(crate) auth: Arc<Authenticator>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) refusals: Arc<dyn Refusals>,
    pub(crate) facts: Arc<dyn NodeFacts>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Shared,
    pub(crate) history: History,
    pub(crate) forwarder: Forwarder,
    pub(crate) pins: Pins,
    pub(crate) hub: Arc<OperationHub>,
    pub(crate) watches: Arc<WatchHub>,
    pub(crate) places: Places,
    pub(crate) rates: Rates,
    /// One permit for each backup that may be read.
    pub(crate) backups: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
    pub(crate) requests: AtomicU64,
}

impl Core {
    /// The mesh that is served.
    pub(crate) fn mesh(&self) -> &MeshId {
        self.auth.mesh()
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.status.borrow().is_leader()
    }

    /// The leader as far as this node knows.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.status.borrow().leader.clone()
    }

    /// The value of `Mesh-Leader`.
    pub(crate) fn leader_header(&self) -> Option<HeaderValue> {
        let status = self.status.borrow();
        HeaderValue::try_from(endpoint(&status.leader.as_ref()?.api)).ok()
    }

    /// Whether consensus is ready here, and the state may be shown.
    pub(crate) fn ready(&self) -> bool {
        // Asked anew: a leader that was cut off hears of it only by time passing.
        self.handle.status().is_ready() && self.facts.serves().is_ok()
    }

    /// The member that a connection comes from: a node of the current membership, learners included, that was not
    /// removed and whose certificate counts.
    pub(crate) fn member(&self, conn: &raft::env::ConnInfo, now_s: u64) -> Option<NodeIdentity> {
        let identity = self.auth.node(conn, now_s)?;
        let members = self.handle.status().members;
        let member = members.iter().any(|member| member.node == identity.node);
        let removed = self.handle.view().state().cluster.is_removed(identity.node);
        (member && !removed).then_some(identity)
    }

    /// An id for a request that brought none: unique without randomness, so that a simulation can be repeated.
    pub(crate) fn next_request_id(&self) -> String {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{}-{:x}-{count:x}", self.handle.node(), self.clock.wall_ms())
    }

    /// Refuses mutations where this node leads and cannot take them.
    ///
    /// # Errors
    /// `no_space` or `unavailable`.
    pub(crate) fn check_accepts_mutations(&self) -> Result<(), Error> {
        match self.facts.accepts_mutations() {
            Ok(()) => Ok(()),
            // A follower redirects, and the leader may have room.
            Err(_) if !self.leads() => Ok(()),
            Err(Pause::NoSpace { measured, limit }) => {
                let detail = format!("the leader's disk is nearly full: {measured}, the mark is {limit}");
                Err(Error::new(Code::NoSpace, detail)
                    .with(|problem| {
                        (problem.measured, problem.limit) = (measured, limit);
                        problem.retry_after_ms = 1_000;
                    })
                    .hint("free space on the node; another node will lead in the meantime"))
            }
            Err(Pause::Divided { detail }) => Err(Error::new(
                Code::Unavailable,
                format!("mutations are refused: {detail}"),
            )
            .hint("nodes hold different states, and none can be told to be right: see the runbook corrupt-node")),
            Err(Pause::Stopping) => {
                Err(Error::new(Code::Unavailable, "this node is stopping").hint("try another node"))
            }
        }
    }

    /// Refuses to show a state that is not what the others have.
    ///
    /// # Errors
    /// `unavailable`: another node will do.
    pub(crate) fn check_serves(&self) -> Result<(), Error> {
        self.facts.serves().map_err(|detail| {
            let detail = format!(
                "node {} does not serve, its state is damaged: {detail}",
                self.handle.node()
            );
            Error::new(Code::Unavailable, detail)
                .hint("ask another node; this one has to be wiped and built anew: see the runbook corrupt-node")
        })
    }

    pub(crate) fn drain_within(&self) -> Duration {
        Duration::from_millis(self.config.deadlines.drain_ms)
    }
}

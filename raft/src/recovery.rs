//! What a node may not do until it knows again what it once knew.
//!
//! A vote is a promise about the log: that it holds everything the voter ever acknowledged. A node
//! whose log store is new cannot know whether it acknowledged anything in an earlier life, so a
//! synced row says that it has not recovered, and while it does, the node neither votes nor asks
//! for votes. It has recovered once it has applied everything that was acknowledged anywhere when
//! it came up. The forming of a cluster is the one exception: there is nothing to have known.
//!
//! A vote is a promise about time as well: not to help another leader while one that this node
//! has heard from may count on its lease. A restart forgets when that was, so a node with a log
//! does not vote until a lease that began just before it went down is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use statemachine::NodeId;
use statemachine::cluster::Incarnation;
use tokio::time::{Instant, sleep};

use crate::blocking::Threads;
use crate::checksum::seal;
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::fatal::FatalLatch;
use crate::net::life::OwnLife;
use crate::node::Raft;
use crate::reads::Reads;
use crate::state::publish::Publisher;

/// Key in [`Table::LogMeta`] of the row that is there until the node has recovered.
pub(crate) const KEY: &[u8] = b"recovering";

/// Between two attempts to learn what was acknowledged.
const PAUSE: Duration = Duration::from_millis(200);

/// The row under [`KEY`].
pub(crate) fn marker() -> Bytes {
    seal(vec![1])
}

/// Whether this node may vote, and campaign.
pub(crate) struct Recovery {
    log: Arc<dyn Engine>,
    threads: Threads,
    fatal: FatalLatch,
    recovering: AtomicBool,
    own: NodeId,
    life: Arc<OwnLife>,
    /// Leases granted before this process began are over from here on.
    leases_over: Instant,
}

impl Recovery {
    /// Reads where the node stands. `lease`: for how long a leader may count on a follower.
    pub(crate) fn new(
        log: Arc<dyn Engine>,
        threads: Threads,
        fatal: FatalLatch,
        lease: Duration,
        (own, incarnation): (NodeId, Incarnation),
    ) -> Result<Self, EngineError> {
        let recovering = log.get(Table::LogMeta, KEY)?.is_some();
        let leases_over = Instant::now() + lease;
        Ok(Self {
            log,
            threads,
            fatal,
            recovering: AtomicBool::new(recovering),
            own,
            life: Arc::new(OwnLife::new(incarnation, recovering)),
            leases_over,
        })
    }

    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    /// What this node tells others of its data directory.
    pub(crate) fn life(&self) -> &Arc<OwnLife> {
        &self.life
    }

    /// Whether the cluster knows of this life, so that it is not taken for an old copy after the next start.
    fn is_known(&self, publisher: &Publisher) -> bool {
        let view = publisher.view();
        let facts = view.state().cluster.node(self.own);
        facts.is_none_or(|facts| facts.incarnation.followed_by(self.life.incarnation(), false).is_ok())
    }

    /// Whether the cluster's state, as this node has it, names this very process. One that does not tell needs none.
    pub(crate) fn is_introduced(&self, publisher: &Publisher) -> bool {
        let own = self.life.incarnation();
        let view = publisher.view();
        let facts = view.state().cluster.node(self.own);
        own.directory == 0 || facts.is_some_and(|facts| facts.incarnation == *own)
    }

    /// What keeps this node from answering a request for its vote as Raft would; then it does not
    /// grant it. `own` and `candidate` are the last log indexes; `handed_over`: the leader itself
    /// asked the candidate to campaign.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn abstains(
        &self,
        pre: bool,
        own: Option<u64>,
        candidate: Option<u64>,
        handed_over: bool,
    ) -> Result<Option<&'static str>, String> {
        if self.is_recovering() {
            // A log of one entry, the first membership: a cluster is being formed.
            let forming = own.is_none_or(|index| index == 0) && candidate == Some(0);
            if forming && !pre {
                // From this vote on it has something to know, and knows it.
                self.finish().await?;
            }
            return Ok((!forming).then_some("its log is new, and it does not hold yet what was acknowledged before"));
        }
        // A node without a log has heard from no leader.
        let free = own.is_none() || own == Some(0) || handed_over || Instant::now() >= self.leases_over;
        Ok((!free).then_some("it was only just started, and a leader may still count on it"))
    }

    /// Notes that the node has recovered, before anything is done in reliance on it.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn finish(&self) -> Result<(), String> {
        if !self.is_recovering() {
            return Ok(());
        }
        let log = self.log.clone();
        let mut batch = Batch::new();
        batch.delete(Table::LogMeta, KEY);
        let written = self.threads.run(move || log.write(batch, Durability::Synced)).await;
        written.map_err(|e| e.to_string())?.map_err(|e| {
            self.fatal.engine(&e);
            e.to_string()
        })?;
        self.recovering.store(false, Ordering::Release);
        Ok(())
    }

    /// Runs until the node has recovered.
    pub(crate) async fn run(self: Arc<Self>, raft: Raft, reads: Reads, publisher: Publisher) {
        let mut metrics = raft.metrics();
        while self.is_recovering() {
            // At once when there is a leader to ask: until it has recovered, its vote is missing.
            while metrics.borrow_watched().current_leader.is_none() {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
            // Whatever was acknowledged before this was asked is at or below the answer.
            let index = reads.index(Instant::now() + Duration::from_secs(5)).await;
            if let Ok(index) = index {
                let mut applied = publisher.applied();
                if applied
                    .wait_for(|applied| applied.is_some_and(|applied| applied >= index))
                    .await
                    .is_err()
                {
                    return;
                }
                if self.is_known(&publisher) {
                    if self.finish().await.is_err() {
                        return;
                    }
                    tracing::info!(index, "this node has recovered, and votes");
                }
            }
            sleep(PAUSE).await;
        }
        raft.runtime_config().elect(true);
    }
}

//! The one thing the rest of a node holds of consensus.

mod foresee;
mod liveness;
mod membership;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use serde::{Deserialize, Serialize};
use statemachine::{Answer, Entry, NodeId, Recorded, Replicated, Request, Stamp, cluster};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::blocking::Threads;
use crate::error::{Error, Fatal, MembershipRefusal};
use crate::log::writer::LogCounters;
use crate::net::{Identity, RefusalCounters};
use crate::node::Node;
use crate::propose::Carried;
use crate::state::machine::Shared;
use crate::status::Status;
use crate::view::View;

pub use membership::MemberChange;

/// Between two attempts at something that fails while leadership changes.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How fresh a read has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Consistency {
    /// Sees every write that was acknowledged anywhere before the read began.
    Linearizable,
    /// Sees what this node has applied. May be behind by any amount.
    Local,
}

/// Where a node is to be reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Endpoint {
    /// Node-to-node port, `host:port`.
    pub raft: String,
    /// API port, `host:port`.
    pub api: String,
}

/// A proposal that was committed and applied.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its log index.
    pub log_index: u64,
    /// What came of it.
    pub answer: Answer,
}

impl Committed {
    /// All of the revision it got, rejections included. `None` for entries that get none.
    pub fn unit(&self) -> Option<&Arc<Recorded>> {
        match &self.answer {
            Answer::Recorded(unit) => Some(unit),
            Answer::Refused(_) | Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => None,
        }
    }
}

/// A running member of a cluster. Cloning shares it. When done with, [`Handle::shutdown`] it:
/// dropping alone leaves the consensus core running.
#[derive(Clone)]
pub struct Handle {
    pub(crate) node: Arc<Node>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.node.own)
    }
}

impl Handle {
    pub(crate) fn new(node: Node) -> Self {
        Self { node: Arc::new(node) }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node.own.node
    }

    /// This node, its cluster and its mesh.
    pub fn identity(&self) -> &Identity {
        &self.node.own
    }

    fn check_running(&self) -> Result<(), Error> {
        if let Some(fatal) = self.node.fatal.get() {
            return Err(Error::Fatal(fatal));
        }
        if self.node.is_stopped() {
            return Err(Error::unavailable("this node is shutting down"));
        }
        Ok(())
    }

    /// Commits a command. Leader only; the leader stamps the times. Returns when this node has
    /// applied it, so that a read of [`Handle::view`] afterwards sees it.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Overloaded`] and [`Error::TooLarge`]: it was not, and will
    /// not be, applied. Otherwise [`Error::maybe_applied`] says whether it may have been.
    pub async fn propose(&self, request: Request, deadline: Instant) -> Result<Committed, Error> {
        self.check_running()?;
        self.node.proposer.propose(request, deadline).await
    }

    /// Commits a change of cluster state; its stamp is set by the leader. As [`Handle::propose`].
    pub async fn propose_cluster(&self, command: cluster::Command, deadline: Instant) -> Result<Committed, Error> {
        self.check_running()?;
        self.node.proposer.propose_cluster(command, deadline).await
    }

    /// Commits what another cluster's apply decided. As [`Handle::propose`].
    pub async fn propose_replicated(&self, replicated: Replicated, deadline: Instant) -> Result<Committed, Error> {
        self.check_running()?;
        self.node.proposer.propose_replicated(replicated, deadline).await
    }

    /// As [`Handle::propose`], but on a follower the request is carried to the leader, one hop.
    /// For a node's own loops: clients are sent to the leader instead. Returns when this node has
    /// applied it.
    pub async fn propose_anywhere(&self, request: Request, deadline: Instant) -> Result<Carried, Error> {
        self.check_running()?;
        let entry = Entry::Command(Box::new(request.stamp(Stamp::default())));
        self.carry(entry, deadline).await
    }

    /// As [`Handle::propose_anywhere`], for a change of cluster state.
    pub async fn propose_cluster_anywhere(
        &self,
        command: cluster::Command,
        deadline: Instant,
    ) -> Result<Carried, Error> {
        self.check_running()?;
        self.carry(Entry::Cluster(command), deadline).await
    }

    async fn carry(&self, entry: Entry, deadline: Instant) -> Result<Carried, Error> {
        let carried = self.node.proposer.carry(&self.node.pool, entry, deadline).await?;
        self.applied(carried.log_index, deadline, true).await?;
        Ok(carried)
    }

    /// The state, as fresh as asked for, on leader and follower alike. While leadership changes
    /// a linearizable read is tried again until the deadline, but for no longer than an election
    /// takes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::DeadlineExceeded`]: no majority, or this node is too
    /// far behind.
    pub async fn read(&self, consistency: Consistency, deadline: Instant) -> Result<View, Error> {
        self.check_running()?;
        if consistency == Consistency::Local {
            return Ok(self.view());
        }
        let patience = self.node.config.election_timeout_max.saturating_mul(2);
        let give_up = deadline.min(Instant::now() + patience);
        loop {
            match self.node.reads.index(deadline).await {
                Ok(index) => {
                    self.applied(index, deadline, false).await?;
                    return Ok(self.view());
                }
                Err(error @ (Error::Unavailable { .. } | Error::NotLeader { .. })) => {
                    if Instant::now() + RETRY_PAUSE >= give_up {
                        return Err(match error {
                            // The leader moved while it was asked. Readers need not care.
                            Error::NotLeader { .. } => Error::unavailable("no leader is known"),
                            other => other,
                        });
                    }
                    sleep(RETRY_PAUSE).await;
                    self.check_running()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The state as of a moment after the call at which this node led: a majority confirmed it in a round that began
    /// after it, shared by all who wait. Also where reads are answered by the leader's lease, which a clock that stood still
    /// takes for fresh.
    ///
    /// # Errors
    /// [`Error::NotLeader`]: it does not lead. [`Error::Unavailable`] and [`Error::DeadlineExceeded`]: no majority
    /// confirmed it.
    pub async fn confirm_leadership(&self, deadline: Instant) -> Result<View, Error> {
        self.check_running()?;
        let index = self.node.reads.index_confirmed(deadline).await?;
        self.applied(index, deadline, false).await?;
        Ok(self.view())
    }

    /// Waits until this node has applied a log index.
    async fn applied(&self, index: u64, deadline: Instant, maybe_applied: bool) -> Result<(), Error> {
        let mut applied = self.node.publisher.applied();
        let reached = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
        let fatal = self.node.fatal.wait();
        tokio::select! {
            biased;
            reached = timeout_at(deadline, reached) => match reached {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(Error::unavailable("this node is shutting down")),
                Err(_) => Err(Error::DeadlineExceeded { maybe_applied }),
            },
            fatal = fatal => Err(Error::Fatal(fatal)),
        }
    }

    /// What this node has applied.
    pub fn view(&self) -> View {
        self.node.publisher.view()
    }

    /// Mesh time now, in ms, as a proposal would be stamped.
    ///
    /// # Errors
    /// This node does not lead.
    pub fn mesh_time_ms(&self) -> Result<u64, Error> {
        Ok(self.node.proposer.stamp()?.mesh_time_ms)
    }

    /// Log index of the last entry that [`Handle::view`] contains, for those who wait for a
    /// change of it.
    pub fn watch_applied(&self) -> watch::Receiver<Option<u64>> {
        self.node.publisher.applied()
    }

    /// Applied units from now on, in order, each once. A receiver that falls behind the bound of
    /// the broadcast is told so, and a snapshot that is installed on this node skips units: who
    /// follows the history reads what is missing between two revisions from a [`View`].
    pub fn units(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.node.publisher.units()
    }

    /// What this node knows of consensus now.
    pub fn status(&self) -> Status {
        self.node.watched.status()
    }

    /// The same, for those who wait for a change: at most half a second old, and a moment behind
    /// [`Handle::status`].
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.node.status.clone()
    }

    /// The state store, and how it is read.
    pub(crate) fn state_store(&self) -> Result<(Arc<Shared>, Threads), Error> {
        self.check_running()?;
        Ok((self.node.machine.shared.clone(), self.node.config.threads))
    }

    /// This node's wall clock, ms since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.node.proposer.clock.wall_ms()
    }

    /// What the log writer did so far.
    pub fn log_counters(&self) -> &LogCounters {
        &self.node.log_counters
    }

    /// Node connections refused so far, by code.
    pub fn refusals(&self) -> &RefusalCounters {
        &self.node.refusals
    }

    /// Starts a new cluster with these voters, this node among them. Once in a cluster's life, on
    /// one node.
    ///
    /// # Errors
    /// [`Error::Membership`]: there is a cluster already, or this node is not one of its members.
    pub async fn initialize(&self, members: Vec<(NodeId, Endpoint)>, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        let members: BTreeMap<u64, Endpoint> = members.into_iter().map(|(n, e)| (n.0, e)).collect();
        if !self.status().initialized {
            // Whoever forms a cluster has nothing to have known before.
            self.node.recovery.life().founds();
            self.node.recovery.finish().await.map_err(|e| self.stopped(e))?;
            self.node.raft.runtime_config().elect(true);
        }
        match timeout_at(deadline, self.node.raft.initialize(members)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(RaftError::APIError(InitializeError::NotAllowed(_)))) => Err(Error::membership(
                MembershipRefusal::Other,
                "the cluster is initialized already",
                ("initialized", "not initialized"),
            )),
            Ok(Err(RaftError::APIError(InitializeError::NotInMembers(_)))) => {
                let reason = format!("node {} has to be one of the first members", self.node());
                let measure = ("another node", "one of the first members");
                Err(Error::membership(MembershipRefusal::Other, reason, measure))
            }
            Ok(Err(RaftError::Fatal(error))) => Err(self.stopped(error.to_string())),
            Err(_) => Err(Error::DeadlineExceeded { maybe_applied: true }),
        }
    }

    fn stopped(&self, reason: String) -> Error {
        match self.node.fatal.get() {
            Some(fatal) => Error::Fatal(fatal),
            None => Error::Unavailable {
                reason,
                maybe_applied: true,
            },
        }
    }

    /// Waits until this node has applied everything its log held when it was started, so that
    /// local reads do not go back in time over a restart. Needs a leader.
    pub async fn recovered(&self, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        let patience = deadline.saturating_duration_since(Instant::now());
        match self.node.raft.wait_for_recovery(Some(patience)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match self.node.fatal.get() {
                Some(fatal) => Error::Fatal(fatal),
                None => Error::unavailable(error.to_string()),
            }),
        }
    }

    /// Resolves when the node has stopped itself, with the reason; not on [`Handle::shutdown`].
    pub fn fatal(&self) -> impl Future<Output = Fatal> + Send + 'static {
        self.node.fatal.wait()
    }

    /// Stops taking part, flushes the state store, and returns when nothing of this node runs
    /// any more.
    ///
    /// # Errors
    /// The flush failed, or not all of it was done in time. Nothing acknowledged is lost by that.
    pub async fn shutdown(&self, within: Duration) -> Result<(), Error> {
        self.node.shutdown(within).await
    }
}

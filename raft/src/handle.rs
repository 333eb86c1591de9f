//! The one thing the rest of a node holds of consensus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use statemachine::{ClusterCommand, NodeId, Request, Unit};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::error::{Error, Fatal};
use crate::status::Status;
use crate::view::View;

/// How fresh a read has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Consistency {
    /// Sees every write that was acknowledged anywhere before the read began.
    Linearizable,
    /// Sees what this node has applied. May be behind by any amount.
    Local,
}

/// Where a node is to be reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
    /// Everything that happened in the revision it got, rejections included. `None` for entries
    /// that get no revision (cluster state).
    pub unit: Option<Arc<Unit>>,
}

/// A running member of a cluster. Cloning shares it.
#[derive(Clone)]
pub struct Handle {
}

impl Handle {
    /// This node.
    pub fn node(&self) -> NodeId { todo!() }

    /// Commits a command. Leader only; the leader stamps the times. Returns when this node has
    /// applied it (so a read of [`Handle::view`] afterwards sees it).
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Overloaded`] and [`Error::TooLarge`]: it was not, and will
    /// not be, applied. Otherwise [`Error::maybe_applied`] says whether it may have been.
    pub async fn propose(&self, request: Request, deadline: Instant) -> Result<Committed, Error> { todo!() }

    /// Commits a change of cluster state. As [`Handle::propose`].
    pub async fn propose_cluster(&self, command: ClusterCommand, deadline: Instant) -> Result<Committed, Error> { todo!() }

    /// The state, as fresh as asked for, on leader and follower alike.
    pub async fn read(&self, consistency: Consistency, deadline: Instant) -> Result<View, Error> { todo!() }

    /// What this node has applied.
    pub fn view(&self) -> View { todo!() }

    /// The latest view, for those who wait for a change of it.
    pub fn watch_view(&self) -> watch::Receiver<View> { todo!() }

    /// Applied units from now on, in order, each once. A receiver that falls behind the bound of
    /// the broadcast is told so, and reads what it missed from a [`View`].
    pub fn units(&self) -> broadcast::Receiver<Arc<Unit>> { todo!() }

    /// What this node knows of consensus now.
    pub fn status(&self) -> Status { todo!() }

    /// The same, for those who wait for a change.
    pub fn watch_status(&self) -> watch::Receiver<Status> { todo!() }

    /// Starts a new cluster with these voters. Once in a cluster's life, on one node.
    pub async fn initialize(&self, members: Vec<(NodeId, Endpoint)>, deadline: Instant) -> Result<(), Error> { todo!() }

    /// Adds a node that receives the log and does not vote. Leader only. Returns when the change
    /// is committed, not when the node has caught up: [`Status`] shows its lag.
    pub async fn add_learner(&self, node: NodeId, endpoint: Endpoint, deadline: Instant) -> Result<(), Error> { todo!() }

    /// Makes exactly these members the voters; others that vote now become learners. Leader only.
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>, deadline: Instant) -> Result<(), Error> { todo!() }

    /// Takes a node out of the cluster for good: out of the membership, and onto the replicated
    /// list of removed nodes, whose connections are refused. Leader only.
    pub async fn remove_node(&self, node: NodeId, deadline: Instant) -> Result<(), Error> { todo!() }

    /// Hands leadership to a voter, or to the most caught up one. Returns when another leads.
    pub async fn transfer_leadership(&self, to: Option<NodeId>, deadline: Instant) -> Result<(), Error> { todo!() }

    /// Waits until this node has applied everything its log held as committed before it was
    /// started, so that local reads do not go back in time.
    pub async fn recovered(&self, deadline: Instant) -> Result<(), Error> { todo!() }

    /// Resolves when the node has stopped itself, with the reason. Never resolves otherwise.
    pub async fn fatal(&self) -> Fatal { todo!() }

    /// Stops taking part, flushes the state store, and returns when nothing of this node runs
    /// any more.
    pub async fn shutdown(&self, within: Duration) -> Result<(), Error> { todo!() }
}

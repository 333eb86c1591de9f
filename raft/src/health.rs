//! How fit a node is: what it knows of its own machine, and what the cluster has agreed on about it.
//!
//! A node that may be wrong (`CORRUPT`) neither votes, leads, serves nor sends snapshots: what it holds must not spread.
//! A node that is right but should not be in the way (`NOSPACE`, `CLOCK`) goes on voting and appending, and leaves
//! leading to others while there are any.

use std::sync::Arc;

use parking_lot::Mutex;
use statemachine::cluster::AlarmKind;
use statemachine::{ClusterState, NodeId};

use crate::handle::Handle;
use crate::state::publish::Publisher;

/// The space on the disk of a node's data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// Bytes that are left for this node's own use, what it holds in reserve not counted.
    pub free_bytes: u64,
    /// Bytes that have to be left for mutations to be taken.
    pub mark_bytes: u64,
    /// Whether too little is left. Stays so until clearly more than the mark is.
    pub short: bool,
}

/// What a node found out about itself, and about its cluster where it leads.
#[derive(Debug, Default)]
pub struct Health(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    disk: Option<DiskSpace>,
    corrupt: Option<String>,
    divided: Option<String>,
}

impl Health {
    /// The disk as it was measured last. `None` before the first time.
    pub fn disk(&self) -> Option<DiskSpace> {
        self.0.lock().disk
    }

    /// Notes what was measured.
    pub fn set_disk(&self, space: DiskSpace) {
        self.0.lock().disk = Some(space);
    }

    /// Whether too little disk space is left.
    pub fn is_short(&self) -> bool {
        self.disk().is_some_and(|disk| disk.short)
    }

    /// What was found to be wrong with this node's own state, in one line. Never taken back while the process lives:
    /// only opening the stores anew checks all of them.
    pub fn corrupt(&self) -> Option<String> {
        self.0.lock().corrupt.clone()
    }

    /// Notes that the state is not what it should be. The first word stands.
    pub fn set_corrupt(&self, detail: String) {
        let mut found = self.0.lock();
        if found.corrupt.is_none() {
            tracing::error!(
                detail,
                "the state of this node is not what it should be: it stops serving"
            );
            found.corrupt = Some(detail);
        }
    }

    /// Why no mutation can be taken although this node leads: its voters do not agree on the state.
    pub fn divided(&self) -> Option<String> {
        self.0.lock().divided.clone()
    }

    /// Notes whether the voters agree on the state, as the leader sees it.
    pub fn set_divided(&self, detail: Option<String>) {
        let mut found = self.0.lock();
        if let (None, Some(detail)) = (&found.divided, &detail) {
            tracing::error!(detail, "no majority agrees on the state: mutations are refused");
        }
        found.divided = detail;
    }
}

/// Whether a node's state can be relied on.
#[derive(Clone)]
pub(crate) struct Soundness {
    pub own: NodeId,
    pub health: Arc<Health>,
    pub publisher: Publisher,
}

impl Soundness {
    /// Why it cannot, if so: by the node's own finding, or by the cluster's.
    pub(crate) fn corrupt(&self) -> Option<String> {
        let agreed = || {
            let view = self.publisher.view();
            let mut alarms = view.state().cluster.alarms();
            let alarm = alarms.find(|(node, kind, _)| *node == self.own && *kind == AlarmKind::Corrupt);
            alarm.map(|(_, _, alarm)| alarm.detail.clone())
        };
        self.health.corrupt().or_else(agreed)
    }

    /// Whether the cluster has found another node's state to be wrong.
    pub(crate) fn is_corrupt(&self, node: NodeId) -> bool {
        let view = self.publisher.view();
        view.state().cluster.has_alarm(node, AlarmKind::Corrupt)
    }
}

impl Handle {
    /// What this node knows of its own fitness.
    pub fn health(&self) -> &Arc<Health> {
        &self.node.soundness.health
    }

    /// Why this node's state cannot be relied on, if so: then it must not be shown to anybody.
    pub fn corrupt(&self) -> Option<String> {
        self.node.soundness.corrupt()
    }
}

/// The alarm that keeps a node from leading, as the cluster has agreed on it.
pub fn unfit_to_lead(cluster: &ClusterState, node: NodeId) -> Option<AlarmKind> {
    [AlarmKind::Corrupt, AlarmKind::Clock, AlarmKind::NoSpace]
        .into_iter()
        .find(|kind| cluster.has_alarm(node, *kind))
}

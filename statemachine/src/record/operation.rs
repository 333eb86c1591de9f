//! Long-running work.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::{NamespaceId, OperationId, PeerId};

/// What an operation does, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Moves everything off a peer.
    DrainPeer(PeerId),
    /// Drains several peers, a few at a time. From feature level 2 on.
    DrainPeers(Box<Selection>),
    /// Makes the shards of a namespace, or takes them away. From feature level 2 on.
    ShapeNamespace(NamespaceId),
}

/// The peers that an operation drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Which peers were asked for, as it was written.
    pub selector: String,
    /// The most that are drained at the same time.
    pub at_once: u32,
    /// Counts how often the controller went on; its next step has to name it.
    pub round: u32,
    /// The peers that were selected when it began, in order of id.
    pub peers: Vec<Selected>,
}

/// One peer among those that an operation drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// The peer.
    pub peer: PeerId,
    /// How far it is.
    pub state: SelectedState,
    /// The drain that was begun for it, or that was found running.
    pub operation: Option<OperationId>,
}

/// How far one peer of several is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SelectedState {
    /// Its turn has not come.
    Waiting,
    /// It is being drained.
    Draining,
    /// It holds nothing.
    Drained,
    /// Its drain was cancelled: it is as it was before.
    Returned,
    /// Its drain failed.
    Failed,
    /// It was deregistered meanwhile.
    Gone,
    /// The operation ended before its turn came.
    Skipped,
}

impl SelectedState {
    /// Whether nothing more happens to it.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Waiting | Self::Draining => false,
            Self::Drained | Self::Returned | Self::Failed | Self::Gone | Self::Skipped => true,
        }
    }
}

impl Selection {
    /// How many of the peers are in a state.
    #[must_use]
    pub fn count(&self, state: SelectedState) -> usize {
        self.peers.iter().filter(|selected| selected.state == state).count()
    }
}

/// On what terms an operation runs. All of it is from feature level 2 on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// When it fails if it has not ended.
    pub deadline: Option<Deadline>,
    /// It does not wait for what cannot be moved.
    pub forced: bool,
    /// The operation that it is a part of.
    pub parent: Option<OperationId>,
    /// Since when it waits for what `detail` says: the leader's wall clock, ms since 1970. For people.
    pub waiting_since_wall_ms: Option<u64>,
    /// Until when peers may serve what it has taken away, in ms of mesh time.
    pub served_until_ms: Option<u64>,
}

/// A point in time, on both of the leader's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Mesh time, in ms: what decides.
    pub mesh_ms: u64,
    /// Wall clock, ms since 1970. For people.
    pub wall_ms: u64,
}

impl OperationKind {
    /// Kind and id of the record that it works on: `peer/p1`.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::DrainPeer(peer) => format!("peer/{peer}"),
            Self::DrainPeers(selection) => format!("peers/{}", selection.selector),
            Self::ShapeNamespace(namespace) => format!("namespace/{namespace}"),
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OperationState {
    /// A controller works on it.
    Running,
    /// Done.
    Succeeded,
    /// Undone by request.
    Cancelled,
    /// Given up; `detail` says why.
    Failed,
}

impl OperationState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// How far one step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Not begun.
    Pending,
    /// Being worked on.
    Active,
    /// Done.
    Done,
    /// Will not be done.
    Skipped,
}

/// One step of an operation's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does, in one line.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
}

/// Long-running work: persisted, observable, cancellable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the mesh.
    pub id: OperationId,
    /// What it does, and to what.
    pub kind: OperationKind,
    /// How far it is.
    pub state: OperationState,
    /// Its plan.
    pub steps: Vec<Step>,
    /// Units of work that are done.
    pub done: u32,
    /// Units of work in all.
    pub total: u32,
    /// Why it ended as it did, or what it waits for.
    pub detail: String,
    /// Subject of who started it.
    pub actor: String,
    /// Why, in the words of who started it.
    pub reason: String,
    /// The change ticket.
    pub ticket: String,
    /// The leader's wall clock when it ended, ms since 1970.
    pub finished_wall_ms: Option<u64>,
    /// Changes of the record.
    pub meta: Meta,
    /// On what terms it runs. In a form of its own: see `Stored`.
    #[serde(skip)]
    pub terms: Terms,
}

impl Operation {
    /// The step that is being worked on.
    #[must_use]
    pub fn active_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.phase == Phase::Active)
    }
}

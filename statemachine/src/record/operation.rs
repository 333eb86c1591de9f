//! Long-running work.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::{OperationId, PeerId};

/// What an operation does, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Moves everything off a peer.
    DrainPeer(PeerId),
}

impl OperationKind {
    /// Kind and id of the record that it works on: `peer/p1`.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::DrainPeer(peer) => format!("peer/{peer}"),
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
}

impl Operation {
    /// The step that is being worked on.
    #[must_use]
    pub fn active_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.phase == Phase::Active)
    }
}

//! What goes through the log.

use serde::{Deserialize, Serialize};

use crate::{Command, Hash, NodeId, Revision, TimelineId, cluster};

/// One entry of the log. Nothing else changes state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A command of the active cluster: apply runs its handler.
    Command(Box<Proposal>),
    /// What another cluster's apply decided: apply repeats the result and runs no handler.
    Replicated(Replicated),
    /// A change of this cluster's own partition. Takes no revision.
    Cluster(cluster::Command),
}

impl Entry {
    /// The feature level that a program has to know to apply it. Beginning at a level, or raising it, takes that level:
    /// what comes after may be of it.
    #[must_use]
    pub fn level(&self) -> u32 {
        match self {
            Self::Command(proposal) => match &proposal.command {
                Command::InitMesh(init) => init.feature_level,
                Command::FinalizeUpgrade(finalize) => finalize.to,
                command => command.handler().level(),
            },
            Self::Replicated(_) | Self::Cluster(_) => 1,
        }
    }
}

/// A command with everything that apply may know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The leader's clocks when it proposed.
    pub stamp: Stamp,
    /// Who asks, and why.
    pub origin: Origin,
    /// What must hold for the command to take effect.
    pub conditions: Conditions,
    /// What to do.
    pub command: Command,
}

/// A command that has not been given its times yet: what a node hands to the leader loop of consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asks, and why.
    pub origin: Origin,
    /// What must hold for the command to take effect.
    pub conditions: Conditions,
    /// What to do.
    pub command: Command,
}

impl Request {
    /// Stamps the request with the leader's clocks.
    #[must_use]
    pub fn stamp(self, stamp: Stamp) -> Proposal {
        Proposal {
            stamp,
            origin: self.origin,
            conditions: self.conditions,
            command: self.command,
        }
    }
}

/// The leader's clocks when it proposed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Mesh time, in ms. Never steps back; apply takes the larger of this and what it has.
    pub mesh_time_ms: u64,
    /// Wall clock, ms since 1970. For people.
    pub wall_ms: u64,
}

/// Who asks, and why.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Subject after binding: `alice`, `system:drain`.
    pub actor: String,
    /// Why, in the actor's words.
    pub reason: String,
    /// The change ticket.
    pub ticket: String,
    /// The id of the request, as in logs and traces.
    pub request_id: String,
    /// `h3`, `h2`, `h1` or `internal`.
    pub transport: String,
    /// The node that received the request.
    pub node: NodeId,
    /// The receiving node's wall clock, ms since 1970.
    pub received_wall_ms: u64,
    /// Makes a retry safe.
    pub idempotency: Option<Idempotency>,
}

impl Origin {
    /// The longest reason, in bytes.
    pub const REASON_BYTES_MAX: usize = 1024;
    /// The longest ticket, in bytes.
    pub const TICKET_BYTES_MAX: usize = 128;

    /// The origin of a command that a node's own loop proposes.
    #[must_use]
    pub fn system(name: &str, node: NodeId, received_wall_ms: u64) -> Self {
        Self {
            actor: format!("system:{name}"),
            transport: "internal".to_owned(),
            node,
            received_wall_ms,
            ..Self::default()
        }
    }
}

/// An idempotency key and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// Opaque, at most [`Idempotency::KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// Hash over method, target, body and conditions.
    pub request: Hash,
}

impl Idempotency {
    /// The longest key, in bytes.
    pub const KEY_BYTES_MAX: usize = 64;
}

/// What must hold for a command to take effect.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The target's current ETag has to be this; `*` asks only that the target exists.
    pub if_match: Option<String>,
    /// The target must not exist (`If-None-Match: *`).
    pub if_absent: bool,
    /// The mesh has to be at this revision, as a dry run named it.
    pub if_revision: Option<Revision>,
}

/// A unit of another cluster, as it was decided there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicated {
    /// The canonical bytes of the [`crate::Unit`].
    #[serde(with = "serde_bytes")]
    pub unit: Vec<u8>,
    /// The chain's hash after the unit, at its origin.
    pub chain: Hash,
}

/// Why a replicated unit was not taken. The stream has to be mended; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ReplicationRefused {
    /// Units are missing between what is here and what came.
    #[error("a gap: revision {expected} is next, {found} came")]
    Gap {
        /// The next revision.
        expected: Revision,
        /// What came.
        found: Revision,
    },
    /// What came does not follow what is here.
    #[error("the history diverged: {found} does not follow timeline {expected} at revision {at}")]
    Diverged {
        /// The timeline here.
        expected: TimelineId,
        /// The timeline that the unit says it follows.
        found: TimelineId,
        /// The last revision here.
        at: Revision,
    },
    /// The bytes do not decode, or do not hash to the chain.
    #[error("the unit is damaged: {0}")]
    Damaged(String),
}

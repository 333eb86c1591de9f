//! What can go wrong with a request to the cluster, and what stops a node.

use std::fmt;

use statemachine::{NodeId, Revision};

/// Where the current leader is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader {
    /// Its node id.
    pub node: NodeId,
    /// Its API endpoint, `host:port`.
    pub api: String,
}

/// The rule that stands against a change of members or leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MembershipRefusal {
    /// The node is not a member.
    NotAMember,
    /// The node was removed for good.
    NodeRemoved,
    /// A member has this id already, with other endpoints.
    MemberExists,
    /// The node receives the log and does not vote.
    NotAVoter,
    /// There is nobody else to lead.
    NoOtherVoter,
    /// Without it nobody would vote.
    LastVoter,
    /// Too few of the voters that stay answer.
    QuorumAtRisk,
    /// Another change of members is under way.
    ChangeUnderWay,
    /// Anything else; the reason says what.
    Other,
}

/// Why a request to the cluster failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Only the leader does this, and this node is not it. Nothing happened.
    #[error("this node is not the leader{}", match leader { Some(l) => format!("; node {} at {} is", l.node, l.api), None => String::new() })]
    NotLeader {
        /// The leader as far as this node knows.
        leader: Option<Leader>,
    },
    /// The cluster cannot do this at the moment (no quorum, leadership changing, shutting down).
    /// Trying again later is right.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// For people.
        reason: String,
        /// Whether the request may nevertheless have been, or may yet be, applied.
        maybe_applied: bool,
    },
    /// The deadline passed. A proposal may nevertheless have been, or may yet be, applied.
    #[error("the deadline passed before the cluster answered")]
    DeadlineExceeded {
        /// Whether the request may nevertheless have been, or may yet be, applied.
        maybe_applied: bool,
    },
    /// Too many requests wait already. Nothing happened.
    #[error("overloaded: {queued} requests are waiting already")]
    Overloaded {
        /// How many.
        queued: usize,
    },
    /// The encoded entry is larger than the cluster takes. Nothing happened.
    #[error("an entry of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Size of the encoded entry.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A membership or leadership request that makes no sense as things are. Nothing happened.
    #[error("{reason}")]
    Membership {
        /// Which rule stands against it.
        refusal: MembershipRefusal,
        /// For people: what is wrong and what would be right.
        reason: String,
        /// What was measured, with its unit.
        measured: String,
        /// What it has to be.
        limit: String,
    },
    /// History is no longer kept as far back as was asked for.
    #[error("history is kept from revision {oldest} on")]
    Compacted {
        /// The oldest revision that can be had.
        oldest: Revision,
    },
    /// A history row that ought to be there could not be read.
    #[error("history could not be read: {0}")]
    History(String),
    /// This node has stopped itself.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::Unavailable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Overloaded { .. } => true,
            Self::TooLarge { .. }
            | Self::Membership { .. }
            | Self::Compacted { .. }
            | Self::History(_)
            | Self::Fatal(_) => false,
        }
    }

    /// Whether the proposal may have been, or may yet be, applied although this error was given.
    pub fn maybe_applied(&self) -> bool {
        match self {
            Self::Unavailable { maybe_applied, .. } | Self::DeadlineExceeded { maybe_applied } => *maybe_applied,
            Self::Fatal(_) => true,
            Self::NotLeader { .. }
            | Self::Overloaded { .. }
            | Self::TooLarge { .. }
            | Self::Membership { .. }
            | Self::Compacted { .. }
            | Self::History(_) => false,
        }
    }

    /// An [`Error::Membership`]. The last two say what was measured, and what it has to be.
    pub(crate) fn membership(
        refusal: MembershipRefusal,
        reason: impl Into<String>,
        (measured, limit): (impl Into<String>, impl Into<String>),
    ) -> Self {
        Self::Membership {
            refusal,
            reason: reason.into(),
            measured: measured.into(),
            limit: limit.into(),
        }
    }

    /// An [`Error::Unavailable`] of a request that certainly was not applied.
    /// It was not done, and may be tried again.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            maybe_applied: false,
        }
    }
}

/// Why a node stopped itself, by what its operator has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FatalKind {
    /// What is on disk is not what was written there. Wipe the node and let it rebuild, after
    /// looking at the hardware.
    Corrupt,
    /// The disk refused a write or a sync, or is full. What was promised as durable stays so;
    /// nothing new can be promised.
    Disk,
    /// The data directory belongs to another mesh, cluster or node, or to a newer release; or it is an old copy of
    /// this node's, and the others know better.
    Foreign,
    /// The cluster has removed this node.
    Removed,
    /// A bug, or the consensus core stopped for a reason of its own.
    Internal,
}

impl fmt::Display for FatalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "corrupt",
            Self::Disk => "disk",
            Self::Foreign => "foreign",
            Self::Removed => "removed",
            Self::Internal => "internal",
        })
    }
}

/// The reason for which a node has stopped itself.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stopped ({kind}): {detail}")]
pub struct Fatal {
    /// What has to be done about it.
    pub kind: FatalKind,
    /// What happened, naming table, log index or file.
    pub detail: String,
}

impl Fatal {
    /// A reason to stop.
    pub fn new(kind: FatalKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

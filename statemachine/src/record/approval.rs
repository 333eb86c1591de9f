//! A request that waits, or waited, for a second person.

use serde::{Deserialize, Serialize};

use super::{Kind, Meta};
use crate::{ApprovalId, Command, Conditions, Etag, Hash, Origin, Position, Stamp};

/// Who has to agree to a change beside whoever asks for it. What comes later asks for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Approvers {
    /// Nobody.
    None,
    /// One other person who may operate.
    Operator,
    /// One other person who may administer.
    Admin,
    /// Two other persons who may administer.
    TwoAdmins,
}

impl Approvers {
    /// The words for them, in order.
    pub const WORDS: [&'static str; 4] = ["none", "operator", "admin", "two_admins"];

    /// By the place among [`Self::WORDS`]. What is out of range, which no setting takes, asks for the most.
    #[must_use]
    pub fn of(value: u64) -> Self {
        match value {
            0 => Self::None,
            1 => Self::Operator,
            2 => Self::Admin,
            _ => Self::TwoAdmins,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::TwoAdmins => "two_admins",
        }
    }

    /// In words for people: `another admin`.
    #[must_use]
    pub const fn said(self) -> &'static str {
        match self {
            Self::None => "nobody",
            Self::Operator => "another operator",
            Self::Admin => "another admin",
            Self::TwoAdmins => "two other admins",
        }
    }

    /// How many persons have to agree.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::None => 0,
            Self::Operator | Self::Admin => 1,
            Self::TwoAdmins => 2,
        }
    }

    /// What each of them has to hold.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::None | Self::Operator => Scope::Operate,
            Self::Admin | Self::TwoAdmins => Scope::Admin,
        }
    }
}

/// What whoever decides may do, as the node that took the request saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// `mesh.operate`
    Operate,
    /// `mesh.admin`
    Admin,
}

impl Scope {
    /// The scope as it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operate => "mesh.operate",
            Self::Admin => "mesh.admin",
        }
    }
}

/// How far a request for approval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ApprovalState {
    /// Waits for somebody to agree.
    Pending,
    /// Everybody agreed that had to, and the request was carried out in the same commit.
    Approved,
    /// Somebody said no, or whoever asked took it back.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// What it was asked for has changed since.
    Stale,
}

impl ApprovalState {
    /// The word for it, as in the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending approval",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Stale => "stale",
        }
    }
}

/// What one person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Subject of who decided.
    pub actor: String,
    /// Whether they agree.
    pub agrees: bool,
    /// What they might do when they decided.
    pub scope: Scope,
    /// Why, in their words.
    pub reason: String,
    /// Where it was decided.
    pub at: Position,
    /// The leader's wall clock then, ms since 1970.
    pub wall_ms: u64,
}

/// A record that the request's effects depend on, and how it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The record's kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its ETag; absent where there was no such record.
    pub etag: Option<Etag>,
}

/// A request that waits, or waited, for a second person. Holds all that it takes to carry it out, and to tell that it
/// would still come to the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Unique in the mesh.
    pub id: ApprovalId,
    /// How far it is.
    pub state: ApprovalState,
    /// What was asked, as in the audit trail: `peers.drain`.
    pub action: String,
    /// Kind and id of the record that it is about: `peer/p1`.
    pub target: String,
    /// What was asked, whole.
    pub command: Command,
    /// What had to hold.
    pub conditions: Conditions,
    /// Who asked, and why.
    pub origin: Origin,
    /// Hash of command and conditions.
    pub request: Hash,
    /// Where it was asked. Plans that are compared are made as if there.
    pub asked: Position,
    /// The leader's clocks when it was asked.
    pub asked_stamp: Stamp,
    /// Hash of what it came to when it was asked.
    pub effects: Hash,
    /// What those effects depend on.
    pub reads: Vec<Read>,
    /// Who has to agree; more than at first where the rules have become stricter since.
    pub approvers: Approvers,
    /// The version of the settings that asked for it.
    pub policy_version: u64,
    /// Who decided, in order.
    pub decisions: Vec<Decision>,
    /// Until when it may be approved, in ms of mesh time.
    pub expires_ms: u64,
    /// Why it ended as it did.
    pub detail: String,
    /// Changes of the record.
    pub meta: Meta,
}

impl Approval {
    /// Who asked.
    #[must_use]
    pub fn requester(&self) -> &str {
        &self.origin.actor
    }

    /// How many of those who have agreed may, by what is asked of them now.
    #[must_use]
    pub fn agreed(&self) -> usize {
        let scope = self.approvers.scope();
        let counts = |decision: &&Decision| decision.agrees && decision.scope >= scope;
        self.decisions.iter().filter(counts).count()
    }

    /// Whether it has to be decided in the future.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.state == ApprovalState::Pending
    }
}

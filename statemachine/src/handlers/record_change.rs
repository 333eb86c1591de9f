//! `members.add` and its like: what is done to the nodes, in the trail of the mesh.

use serde::{Deserialize, Serialize};

use crate::{Effects, Handler, Rejection, View, record::Approvers, record::Kind};

/// The longest subject of a change, in bytes.
const SUBJECT_BYTES_MAX: usize = 128;

/// What is done to the nodes of a cluster, which is no part of the mesh state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeAction {
    /// A new node is given a token.
    Invite,
    /// A node becomes a learner.
    Add,
    /// A learner becomes a voter.
    Promote,
    /// A node is taken out for good.
    Remove,
    /// An alarm is said to be over.
    Disarm,
    /// Leadership is handed over.
    TransferLeadership,
    /// A node logs other things for a while.
    LogLevel,
}

super::level_2!(RecordChange);

impl NodeAction {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Invite,
        Self::Add,
        Self::Promote,
        Self::Remove,
        Self::Disarm,
        Self::TransferLeadership,
        Self::LogLevel,
    ];

    /// Its name in the audit trail, which is that of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invite => "members.invite",
            Self::Add => "members.add",
            Self::Promote => "members.promote",
            Self::Remove => "members.remove",
            Self::Disarm => "alarms.disarm",
            Self::TransferLeadership => "leader.transfer",
            Self::LogLevel => "node.log-level",
        }
    }
}

/// Notes that somebody changes the nodes of a cluster. Changes nothing: the change itself is no command of the mesh, and
/// is made once this is committed, so that none is made without a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordChange {
    /// What is done.
    pub action: NodeAction,
    /// What to: `member/4`, `alarm/2/NOSPACE`.
    pub subject: String,
}

impl Handler for RecordChange {
    fn action(&self) -> &'static str {
        self.action.word()
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn level(&self) -> u32 {
        2
    }

    // It is made outside of apply, where nothing can be staged.
    fn approvers(&self, _mesh: &crate::MeshState) -> Approvers {
        Approvers::None
    }

    fn subject(&self) -> String {
        self.subject.clone()
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        if view.mesh.mesh().is_none() {
            return Err(Rejection::MeshNotInitialized);
        }
        if self.subject.len() > SUBJECT_BYTES_MAX {
            return Err(Rejection::invalid(
                "subject",
                format!("at most {SUBJECT_BYTES_MAX} bytes"),
            ));
        }
        Ok(Effects::unchanged())
    }
}

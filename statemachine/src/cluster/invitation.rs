//! Leave for a new node to join, once.

use serde::{Deserialize, Serialize};

use crate::Hash;

/// Leave for a new node to join, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// SHA-256 of the secret in its join token.
    pub secret: Hash,
    /// Until when, in ms of mesh time.
    pub expires_ms: u64,
    /// The endpoints of the node that made use of it, API and node-to-node; absent while nobody has.
    pub used_by: Option<(String, String)>,
}

/// Why a node may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationRefused {
    /// Nobody invited it, or the secret is another.
    Unknown,
    /// The time is over.
    Expired,
    /// A node with other endpoints has used it.
    Used,
}

impl Invitation {
    /// Whether a node may join with this secret: true the first time, false when the same node asks again, because it
    /// never heard the answer.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(
        &self,
        secret: Hash,
        now_ms: u64,
        endpoints: &(String, String),
    ) -> Result<bool, InvitationRefused> {
        if self.secret != secret {
            return Err(InvitationRefused::Unknown);
        }
        match &self.used_by {
            Some(used_by) if used_by == endpoints => Ok(false),
            Some(_) => Err(InvitationRefused::Used),
            None if now_ms >= self.expires_ms => Err(InvitationRefused::Expired),
            None => Ok(true),
        }
    }
}

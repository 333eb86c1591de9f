//! A browser that acts for somebody who showed a token.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::Hash;

/// What the owner of a session holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Held {
    /// No scope.
    Nothing,
    /// `mesh.read`
    Read,
    /// `mesh.observe`
    Observe,
    /// `mesh.operate`
    Operate,
    /// `mesh.admin`
    Admin,
}

/// A browser that acts for somebody who showed a token, until it ends or is ended.
///
/// The browser's secret is nowhere in the mesh: the record goes by its hash, so neither state, history nor backups let
/// anybody act for anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// SHA-256 of the secret.
    pub id: Hash,
    /// For whom.
    pub subject: String,
    /// What they held when the session began.
    pub held: Held,
    /// When it ends, ms since 1970. Each node compares it with its own clock, as it does with a token's end; what is long
    /// over by mesh time is let go.
    pub expires_ms: u64,
    /// Changes of the record.
    pub meta: Meta,
}

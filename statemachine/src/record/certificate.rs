//! A certificate that signed points of the audit chain. Kept apart from them: one node signs many.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::Hash;

/// A certificate that signed points of the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of the DER.
    pub id: Hash,
    /// X.509, DER.
    #[serde(with = "serde_bytes")]
    pub der: Vec<u8>,
    /// Changes of the record.
    pub meta: Meta,
}

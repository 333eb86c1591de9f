//! A signed point of the audit chain.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::{Hash, NodeId, Revision};

/// A signed point of the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The revision whose chain hash was signed.
    pub revision: Revision,
    /// The chain's hash after that revision.
    pub hash: Hash,
    /// Who signed.
    pub node: NodeId,
    /// The id of the signer's [`super::Certificate`].
    pub certificate: Hash,
    /// ECDSA P-256 with SHA-256, ASN.1, over [`crate::audit::checkpoint_message`].
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
    /// Changes of the record.
    pub meta: Meta,
}

impl Checkpoint {
    /// The id: the revision, padded so that ids sort as numbers do.
    #[must_use]
    pub fn row_id(&self) -> String {
        Self::row_id_of(self.revision)
    }

    /// The id of a checkpoint of this revision.
    #[must_use]
    pub fn row_id_of(revision: Revision) -> String {
        format!("{:020}", revision.0)
    }
}

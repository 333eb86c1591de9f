//! `audit.checkpoint`: the leader signs the audit chain.

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, Hash, NodeId, Record, Rejection, Revision, View, audit,
    record::{Certificate, Checkpoint, Kind, Meta},
};

/// The largest certificate, and the largest signature, in bytes.
const SIGNED_BYTES_MAX: usize = 4096;

/// Records the leader's signature over the chain at a revision. Who reads it checks the signature; apply checks only
/// that what was signed is the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointAudit {
    /// The revision whose chain hash was signed.
    pub revision: Revision,
    /// The chain's hash after it.
    pub hash: Hash,
    /// Who signed.
    pub node: NodeId,
    /// The signer's certificate, DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// ECDSA P-256 with SHA-256, ASN.1, over [`crate::audit::checkpoint_message`].
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

impl Handler for CheckpointAudit {
    fn action(&self) -> &'static str {
        "audit.checkpoint"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Checkpoint, Checkpoint::row_id_of(self.revision)))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        for (field, bytes) in [("certificate", &self.certificate), ("signature", &self.signature)] {
            if bytes.len() > SIGNED_BYTES_MAX {
                return Err(Rejection::invalid(field, format!("at most {SIGNED_BYTES_MAX} bytes")));
            }
        }
        if view.mesh.chain_at(self.revision) != Some(self.hash) {
            return Err(Rejection::CheckpointStale {
                revision: self.revision,
            });
        }
        let certificate = audit::fingerprint(&self.certificate);
        let checkpoint = Checkpoint {
            revision: self.revision,
            hash: self.hash,
            node: self.node,
            certificate,
            signature: self.signature.clone(),
            meta: Meta::default(),
        };
        let mut effects = Effects::default();
        if view.mesh.certificate(certificate).is_none() {
            let record = Certificate {
                id: certificate,
                der: self.certificate.clone(),
                meta: Meta::default(),
            };
            effects = effects.put(Record::Certificate(record.into()));
        }
        Ok(effects
            .put(Record::Checkpoint(checkpoint.into()))
            .event(Event::AuditCheckpointed {
                revision: self.revision,
                hash: self.hash,
                node: self.node,
            }))
    }
}

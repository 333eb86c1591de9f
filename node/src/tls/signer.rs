//! Signing with the node's own key: checkpoints of the audit trail.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use controllers::{Signed, Signer, SignerError};

use super::Certificates;

/// The key of a node's certificate, as a signer.
pub(super) struct NodeKey {
    leaf: Bytes,
    key: EcdsaKeyPair,
}

impl NodeKey {
    /// Takes a P-256 key in PKCS #8.
    pub(super) fn new(leaf: &[u8], pkcs8: &[u8]) -> Result<Self, String> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
            .map_err(|error| format!("has to be an ECDSA P-256 key in PKCS #8: {error}"))?;
        Ok(Self {
            leaf: Bytes::copy_from_slice(leaf),
            key,
        })
    }
}

impl Signer for Certificates {
    fn sign(&self, message: &[u8]) -> Result<Signed, SignerError> {
        // One state of the files for both halves.
        let current = self.current();
        let signature = current.signer.key.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|error| SignerError(error.to_string()))?;
        Ok(Signed {
            certificate: current.signer.leaf.to_vec(),
            signature: signature.as_ref().to_vec(),
        })
    }
}

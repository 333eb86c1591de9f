//! What the loops need of the rest of the node.

/// Why something could not be signed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot sign: {0}")]
pub struct SignerError(pub String);

/// Signs with the node's own key.
pub trait Signer: Send + Sync + 'static {
    /// The node's leaf certificate, DER, whose key signs.
    fn certificate(&self) -> Vec<u8>;

    /// An ECDSA P-256 signature with SHA-256 over the message, ASN.1.
    ///
    /// # Errors
    /// The key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

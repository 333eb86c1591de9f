//! What the loops need of the rest of the node.

/// Why something could not be signed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot sign: {0}")]
pub struct SignerError(pub String);

/// Signs with the node's own key.
pub trait Signer: Send + Sync + 'static {
    /// Signs a message. Signature and certificate come together, since the key may be replaced between two calls.
    ///
    /// # Errors
    /// The key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Signed, SignerError>;
}

/// A signature and what verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The node's leaf certificate, DER, whose key has signed.
    pub certificate: Vec<u8>,
    /// An ECDSA P-256 signature with SHA-256, ASN.1.
    pub signature: Vec<u8>,
}

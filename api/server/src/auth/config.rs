//! What an operator says about authentication, with key files already read.

use super::Binding;

/// What callers are known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// Tokens; absent where none are accepted.
    pub jwt: Option<JwtConfig>,
    /// What certificates' names stand for.
    pub bindings: Vec<Binding>,
    /// Whether a plaintext connection from this machine may do everything without a credential. For development.
    pub loopback_admin: bool,
    /// The longest token, in bytes.
    pub token_bytes_max: usize,
}

/// Who signs tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtConfig {
    /// The `iss` that a token has to have.
    pub issuer: String,
    /// Contents of public key files, PEM: Ed25519, P-256 or RSA, one or more in each. Each with the name that errors
    /// call it by.
    pub pem_keys: Vec<(String, Vec<u8>)>,
    /// Contents of a JWKS file, with the name that errors call it by.
    pub jwks: Option<(String, Vec<u8>)>,
    /// How far the signer's clock may be off, in seconds.
    pub leeway_s: u64,
}

/// Why an authentication configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuth {
    /// A key file is not what it should be.
    #[error("{file}: {why}")]
    Key {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Tokens are accepted, but nothing says from whom.
    #[error("tokens need an issuer and at least one public key")]
    NoKeys,
    /// A binding makes no sense.
    #[error(transparent)]
    Binding(#[from] super::InvalidBinding),
}

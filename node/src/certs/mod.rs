//! Certificates, keys and tokens, made offline by whoever holds the CA's key.
//!
//! A *node* certificate says which node of which cluster of which mesh somebody is; a *client*
//! certificate names a client of the mesh. Both are ECDSA P-256, good as server and as client,
//! and carry the identity as a SPIFFE id. A *token* is a JWT signed with a key that the nodes
//! know the public half of. Nothing here talks to a network or to a running node.

pub mod authority;
pub mod command;
pub mod files;
pub mod identity;
pub mod issue;
pub mod token;

use std::path::PathBuf;

/// Why a certificate, key or token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is there already.
    #[error("{} exists already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {detail}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The cryptography refused.
    #[error("{doing}: {detail}")]
    Crypto {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        detail: String,
    },
}

impl Error {
    fn crypto(doing: &'static str) -> impl Fn(rcgen::Error) -> Self {
        move |error| Self::Crypto {
            doing,
            detail: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;

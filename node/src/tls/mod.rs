//! The node's own TLS: listeners and dialler of production.
//!
//! All listeners show the node's certificate. The API listeners, over TCP and QUIC, take clients with or without a
//! certificate of the mesh's authorities, the Raft listener only those with one, and the dialler
//! insists on a node of this mesh and cluster. What they yield is a byte stream and who is at the
//! other end: nothing behind them knows TLS. Whether who that is still counts travels with it, as a
//! standing that a change of the authorities withdraws.

pub mod dial;
mod endpoint;
pub mod expiry;
pub mod files;
pub mod listen;
pub mod quic;
mod signer;
mod standing;
mod verify;

pub use dial::TlsDial;
pub use files::Certificates;
pub use listen::{Door, TlsListen};
pub use quic::QuicDoor;

use std::path::PathBuf;

use raft::env::Purpose;

/// Why certificates could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, or does not hold what it should.
    #[error("{}: {detail}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The files are good but do not fit each other or the node.
    #[error("{0}")]
    Mismatch(String),
}

/// Makes aws-lc-rs the process's cryptography. Doing it twice changes nothing.
pub fn install_provider() {
    // The error only says that one is installed already; nothing else in the tree installs any.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The protocols offered for a purpose, most wanted first.
fn alpn(purpose: Purpose) -> Vec<Vec<u8>> {
    match purpose {
        Purpose::Raft => vec![b"meshkit-raft/1".to_vec()],
        Purpose::Api => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    }
}

#[cfg(test)]
mod tests;

//! The audit chain: every unit's canonical bytes, hashed onto the hash before.
//!
//! `chain(n) = SHA-256("meshkit-audit-v1" ‖ chain(n-1) ‖ unit(n))`, with 32 zero bytes before the first. Whoever has
//! the units can recompute it; whoever has one signed checkpoint can tell whether anything up to it was altered.

use sha2::{Digest as _, Sha256};

use crate::{Hash, MeshId, Revision};

const DOMAIN: &[u8] = b"meshkit-audit-v1";

/// The chain's hash after a unit.
#[must_use]
pub fn extend(previous: Hash, unit: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(previous.0);
    hasher.update(unit);
    Hash(hasher.finalize().into())
}

/// What a certificate goes by: the SHA-256 of its DER.
#[must_use]
pub fn fingerprint(der: &[u8]) -> Hash {
    Hash(Sha256::digest(der).into())
}

/// What a checkpoint's signature is over.
#[must_use]
pub fn checkpoint_message(mesh: &MeshId, revision: Revision, hash: Hash) -> Vec<u8> {
    let mut message = DOMAIN.to_vec();
    message.extend_from_slice(b" checkpoint ");
    message.extend_from_slice(mesh.as_str().as_bytes());
    message.push(b' ');
    message.extend_from_slice(revision.to_string().as_bytes());
    message.push(b' ');
    message.extend_from_slice(&hash.0);
    message
}

/// Hashes the parts of a request, each with its length, for the idempotency table.
#[must_use]
pub fn request_hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

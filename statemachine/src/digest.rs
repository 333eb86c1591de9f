//! A digest of a set of rows that is kept up to date in constant time.
//!
//! The digest is the sum, modulo 2²⁵⁶, of the SHA-256 of every row: an additive multiset hash (Bellare and Micciancio,
//! "A New Paradigm for Collision-Free Hashing", 1997). It finds corruption and divergence; it is not meant to withstand
//! someone who chooses rows to collide, which the audit chain is for.

use sha2::{Digest as _, Sha256};

use crate::{Hash, Position};

/// The running sum.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    limbs: [u64; 4],
}

/// The hash of one row.
#[must_use]
pub fn row_hash(key: &[u8], value: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    Hash(hasher.finalize().into())
}

fn limbs(hash: Hash) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(hash.0.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*chunk);
    }
    limbs
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, row: Hash) {
        let mut carry = false;
        for (sum, limb) in self.limbs.iter_mut().zip(limbs(row)) {
            let (partial, first) = sum.overflowing_add(limb);
            let (total, second) = partial.overflowing_add(u64::from(carry));
            *sum = total;
            carry = first | second;
        }
    }

    /// Takes a row away.
    pub fn remove(&mut self, row: Hash) {
        let mut borrow = false;
        for (sum, limb) in self.limbs.iter_mut().zip(limbs(row)) {
            let (partial, first) = sum.overflowing_sub(limb);
            let (total, second) = partial.overflowing_sub(u64::from(borrow));
            *sum = total;
            borrow = first | second;
        }
    }

    /// The digest of these rows with this history behind them.
    #[must_use]
    pub fn finish(&self, position: Position, chain: Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(b"meshkit-digest-v1");
        hasher.update(position.timeline.0.to_be_bytes());
        hasher.update(position.revision.0.to_be_bytes());
        hasher.update(chain.0);
        for limb in self.limbs {
            hasher.update(limb.to_le_bytes());
        }
        Hash(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let rows = [row_hash(b"a", b"1"), row_hash(b"b", b"2"), Hash([0xff; 32])];
        let mut forward = Digest::default();
        let mut backward = Digest::default();
        rows.iter().for_each(|row| forward.add(*row));
        rows.iter().rev().for_each(|row| backward.add(*row));
        assert_eq!(forward, backward);
        rows.iter().for_each(|row| forward.remove(*row));
        assert_eq!(forward, Digest::default());
        assert_ne!(backward, Digest::default());
    }

    #[test]
    fn keys_and_values_do_not_run_together() {
        assert_ne!(row_hash(b"ab", b"c"), row_hash(b"a", b"bc"));
    }
}

//! Writing a backup.

use sha2::{Digest as _, Sha256};

use super::{CHECKSUM_BYTES, End, Header, LENGTH_BYTES, MAGIC, Part, Row};
use crate::{
    Hash,
    codec::{self, Format},
};

/// Turns rows into the bytes of a backup. Keeps none of them.
#[derive(Debug)]
pub struct Encoder {
    hasher: Sha256,
    rows: u64,
    bytes: u64,
}

impl Encoder {
    /// Begins a backup; answers its first bytes.
    #[must_use]
    pub fn begin(header: Header) -> (Self, Vec<u8>) {
        let mut encoder = Self {
            hasher: Sha256::new(),
            rows: 0,
            bytes: 0,
        };
        let mut bytes = MAGIC.to_vec();
        encoder.take(&bytes);
        let part = encoder.part(&Part::Header(Box::new(header)));
        bytes.extend_from_slice(&part);
        (encoder, bytes)
    }

    /// The bytes of some rows, which follow the ones before in order of table and key.
    #[must_use]
    pub fn rows(&mut self, rows: Vec<Row>) -> Vec<u8> {
        self.rows += rows.len() as u64;
        self.part(&Part::Rows(rows))
    }

    /// The last bytes.
    #[must_use]
    pub fn end(mut self) -> (End, Vec<u8>) {
        let end = End {
            rows: self.rows,
            bytes: self.bytes,
            sha256: Hash(self.hasher.clone().finalize().into()),
        };
        (end, self.part(&Part::End(end)))
    }

    fn part(&mut self, part: &Part) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH_BYTES];
        codec::encode_into(Format::Backup, part, &mut bytes);
        let length = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
        bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.take(&bytes);
        let sum = self.hasher.clone().finalize();
        let checksum = &sum[..CHECKSUM_BYTES];
        self.take(checksum);
        bytes.extend_from_slice(checksum);
        bytes
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

//! Reading a backup: whether every byte is there and as it was written.

use sha2::{Digest as _, Sha256};

use super::{CHECKSUM_BYTES, End, LENGTH_BYTES, MAGIC, PART_BYTES_MAX, Part};
use crate::{
    Hash,
    codec::{self, Format},
};

/// Where a backup is damaged, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("part {part}, at byte {offset}: {why}")]
pub struct Damage {
    /// The part, from 0: the header.
    pub part: u64,
    /// The byte at which the part begins, from 0.
    pub offset: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Takes a backup apart, however its bytes arrive. Holds one part at the most, as long as whoever pushes bytes takes the
/// parts out.
#[derive(Debug, Default)]
pub struct Decoder {
    hasher: Sha256,
    /// Bytes that belong to no complete part yet.
    waiting: Vec<u8>,
    /// Where `waiting` begins.
    offset: u64,
    parts: u64,
    rows: u64,
    magic_seen: bool,
    ended: Option<End>,
}

impl Decoder {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes some bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next part, if all of it has arrived.
    ///
    /// # Errors
    /// The part is not what was written.
    pub fn part(&mut self) -> Result<Option<Part>, Damage> {
        if self.ended.is_some() && !self.waiting.is_empty() {
            return Err(self.damage("something follows the end"));
        }
        if !self.magic_seen && !self.magic()? {
            return Ok(None);
        }
        let Some(head) = self.waiting.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > PART_BYTES_MAX {
            return Err(self.damage(format!("it claims {length} bytes, over the limit of {PART_BYTES_MAX}")));
        }
        let (body_end, whole) = (LENGTH_BYTES + length, LENGTH_BYTES + length + CHECKSUM_BYTES);
        if self.waiting.len() < whole {
            return Ok(None);
        }
        let before = Hash(self.hasher.clone().finalize().into());
        self.hasher.update(&self.waiting[..body_end]);
        let sum = self.hasher.clone().finalize();
        if sum[..CHECKSUM_BYTES] != self.waiting[body_end..whole] {
            return Err(self.damage("its checksum does not match its bytes"));
        }
        let part: Part = codec::decode(Format::Backup, &self.waiting[LENGTH_BYTES..body_end])
            .map_err(|error| self.damage(error.to_string()))?;
        self.in_order(&part, before)?;
        self.hasher.update(&self.waiting[body_end..whole]);
        self.advance(whole);
        self.parts += 1;
        Ok(Some(part))
    }

    /// Whether all of it came; where it did, what its end says.
    ///
    /// # Errors
    /// It breaks off.
    pub fn finish(self) -> Result<End, Damage> {
        match self.ended {
            Some(end) => Ok(end),
            None => {
                let left = self.waiting.len();
                Err(self.damage(format!(
                    "the backup breaks off here, {left} bytes into it: it has no end"
                )))
            }
        }
    }

    /// Bytes taken in so far, as far as they are checked.
    #[must_use]
    pub fn checked_bytes(&self) -> u64 {
        self.offset
    }

    fn magic(&mut self) -> Result<bool, Damage> {
        let there = self.waiting.len().min(MAGIC.len());
        if self.waiting[..there] != MAGIC[..there] {
            return Err(self.damage("this is no backup: it does not begin as one"));
        }
        if there < MAGIC.len() {
            return Ok(false);
        }
        self.hasher.update(MAGIC);
        self.advance(MAGIC.len());
        self.magic_seen = true;
        Ok(true)
    }

    /// The header first, the end last, and the end has to add up.
    fn in_order(&mut self, part: &Part, before: Hash) -> Result<(), Damage> {
        match (self.parts, part) {
            (0, Part::Header(_)) => Ok(()),
            (0, Part::Rows(_) | Part::End(_)) => Err(self.damage("the header is missing")),
            (_, Part::Header(_)) => Err(self.damage("a second header")),
            (_, Part::Rows(rows)) => {
                self.rows += rows.len() as u64;
                Ok(())
            }
            (_, Part::End(end)) => {
                let found = End {
                    rows: self.rows,
                    bytes: self.offset,
                    sha256: before,
                };
                if *end != found {
                    return Err(self.damage(format!(
                        "the end speaks of {} rows in {} bytes with SHA-256 {}; there are {} in {} with {}",
                        end.rows, end.bytes, end.sha256, found.rows, found.bytes, found.sha256
                    )));
                }
                self.ended = Some(found);
                Ok(())
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.waiting.drain(..bytes);
        self.offset += bytes as u64;
    }

    fn damage(&self, why: impl Into<String>) -> Damage {
        Damage {
            part: self.parts,
            offset: self.offset,
            why: why.into(),
        }
    }
}

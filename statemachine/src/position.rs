//! Where in the mesh's history something is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Epoch, Revision, TimelineId};

/// A revision on a timeline. Revisions are unique within a timeline only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The timeline.
    pub timeline: TimelineId,
    /// The revision on it.
    pub revision: Revision,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.revision, self.timeline)
    }
}

/// The position of a record's last change, as an opaque token for clients.
///
/// Since it names the timeline, a record that was deleted and made again, or that lives on after a fork or a
/// restore, never has an ETag that it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Etag(pub Position);

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digit by digit: a page has a thousand of them, and the formatter takes its time over numbers.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let (timeline, revision) = (self.0.timeline.0, self.0.revision.0);
        let mut text = [b'-'; 32 + 1 + 16];
        let (first, rest) = text.split_at_mut(32);
        for (half, digits) in [(timeline >> 64) as u64, timeline as u64]
            .into_iter()
            .zip(first.chunks_mut(16))
        {
            for (at, digit) in digits.iter_mut().rev().enumerate() {
                *digit = DIGITS[(half >> (4 * at)) as usize & 0xf];
            }
        }
        let count = revision.checked_ilog2().unwrap_or_default() as usize / 4 + 1;
        for (at, digit) in rest[1..=count].iter_mut().rev().enumerate() {
            *digit = DIGITS[(revision >> (4 * at)) as usize & 0xf];
        }
        f.write_str(std::str::from_utf8(&text[..33 + count]).map_err(|_| fmt::Error)?)
    }
}

/// A line of history: minted by `init`, each promotion and each restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Random, 128 bits.
    pub id: TimelineId,
    /// The mesh's fencing number while this timeline is written.
    pub epoch: Epoch,
    /// The timeline that it forked from.
    pub parent: Option<TimelineId>,
    /// The last revision that it shares with its parent; 0 for the first.
    pub fork: Revision,
    /// The cluster that is active on it.
    pub cluster: ClusterId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_the_timeline_in_32_hex_digits_and_the_revision() {
        for timeline in [0, 1, 0xfedc_ba98_7654_3210, u128::MAX, u128::MAX << 60] {
            for revision in [0, 1, 15, 16, 0x0abc_def0, u64::MAX >> 4, u64::MAX] {
                let etag = Etag(Position {
                    timeline: TimelineId(timeline),
                    revision: Revision(revision),
                });
                assert_eq!(etag.to_string(), format!("{timeline:032x}-{revision:x}"));
            }
        }
    }
}

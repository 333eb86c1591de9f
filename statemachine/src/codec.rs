//! The one codec of everything that is stored or replicated: `[format][version][payload]`.
//!
//! The payload is bincode 2 (<https://docs.rs/bincode/2.0.1>) over serde, which carries no type information; the frame
//! is what keeps one kind of record from decoding silently as another. Decoding is strict: an unknown format or
//! version, a payload above the limit and a single byte too many are errors. bincode is used nowhere else, so that it
//! can be replaced here (docs/adr/0003).

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// The largest payload that is decoded, in bytes. Bounds what a corrupt length can allocate.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a frame holds. The discriminant is the first byte on disk and on the wire, and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// A log entry of the state machine ([`crate::Entry`]).
    Entry = 1,
    /// A current record or idempotency entry.
    Record = 2,
    /// All of one revision ([`crate::Unit`]).
    Unit = 3,
    /// The head of the mesh state: position, time, chain.
    Head = 4,
    /// A record or audit entry of the cluster partition.
    Cluster = 5,
    /// Raft's own bookkeeping: votes, log ids, membership.
    Raft = 6,
    /// A message between nodes.
    Wire = 7,
    /// A chunk of a snapshot.
    Snapshot = 8,
    /// Opaque tokens handed to clients: cursors, resume tokens.
    Token = 9,
    /// A part of a backup file ([`crate::backup`]).
    Backup = 10,
}

impl Format {
    /// The version that is written, and the only one that is read.
    #[must_use]
    pub const fn version(self) -> u8 {
        match self {
            Self::Entry
            | Self::Record
            | Self::Unit
            | Self::Head
            | Self::Cluster
            | Self::Raft
            | Self::Wire
            | Self::Snapshot
            | Self::Token
            | Self::Backup => 1,
        }
    }
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer than the two bytes of the frame.
    #[error("{0} bytes are too few for a frame")]
    Short(usize),
    /// The frame holds something else.
    #[error("the frame holds format {found}, expected {expected:?}")]
    Format {
        /// What was asked for.
        expected: Format,
        /// The first byte.
        found: u8,
    },
    /// A newer or unknown version of the format.
    #[error("version {found} of {format:?} is not known to this program, which reads version {known}", known = format.version())]
    Version {
        /// The format.
        format: Format,
        /// The second byte.
        found: u8,
    },
    /// The payload does not decode, or has bytes left over.
    #[error("{format:?} does not decode: {why}")]
    Payload {
        /// The format.
        format: Format,
        /// What bincode says.
        why: String,
    },
}

fn config() -> Configuration<LittleEndian, Varint, Limit<PAYLOAD_BYTES_MAX>> {
    bincode::config::standard().with_limit::<PAYLOAD_BYTES_MAX>()
}

/// Encodes a value with its frame.
///
/// Every type that is encoded in this workspace is plain data whose serialization cannot fail; should one ever
/// fail, the frame comes back without a payload, which no decoder accepts.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(format: Format, value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    encode_into(format, value, &mut bytes);
    bytes
}

/// Appends the frame of a value to `bytes`.
pub fn encode_into<T: Serialize + ?Sized>(format: Format, value: &T, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[format as u8, format.version()]);
    let start = bytes.len();
    if bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard()).is_err() {
        bytes.truncate(start);
    }
}

/// Decodes a frame, whole.
///
/// # Errors
/// The bytes are of another format or version, do not decode, or go on after the value.
pub fn decode<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, Error> {
    let (found, version, payload) = match bytes {
        [found, version, payload @ ..] => (*found, *version, payload),
        _ => return Err(Error::Short(bytes.len())),
    };
    if found != format as u8 {
        return Err(Error::Format {
            expected: format,
            found,
        });
    }
    if version != format.version() {
        return Err(Error::Version { format, found: version });
    }
    let (value, used) = bincode::serde::decode_from_slice(payload, config()).map_err(|error| Error::Payload {
        format,
        why: error.to_string(),
    })?;
    if used != payload.len() {
        return Err(Error::Payload {
            format,
            why: format!("{} bytes left over", payload.len() - used),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_strict() {
        let good = encode(Format::Record, &(7_u64, "x"));
        assert_eq!(&good[..2], &[2, 1]);
        assert_eq!(decode::<(u64, String)>(Format::Record, &good), Ok((7, "x".into())));
        assert!(matches!(
            decode::<(u64, String)>(Format::Unit, &good),
            Err(Error::Format { found: 2, .. })
        ));
        let mut newer = good.clone();
        newer[1] = 2;
        assert!(matches!(
            decode::<(u64, String)>(Format::Record, &newer),
            Err(Error::Version { found: 2, .. })
        ));
        let mut long = good.clone();
        long.push(0);
        assert!(matches!(
            decode::<(u64, String)>(Format::Record, &long),
            Err(Error::Payload { .. })
        ));
        assert!(decode::<(u64, String)>(Format::Record, &good[..3]).is_err());
        assert_eq!(decode::<u64>(Format::Record, &[2]), Err(Error::Short(1)));
    }

    #[test]
    fn a_corrupt_length_does_not_allocate() {
        // A string that claims 2^60 bytes.
        let bytes = [2, 1, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(decode::<String>(Format::Record, &bytes).is_err());
    }
}

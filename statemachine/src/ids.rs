//! Newtype ids. Each parses from what people write and refuses everything else with the reason.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

/// The longest id, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` is not a valid id: 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`, starting and ending with a letter or digit"
)]
pub struct InvalidId {
    shown: String,
}

impl InvalidId {
    fn new(text: &str) -> Self {
        // Bounded and printable, because it is echoed to the caller and to logs.
        let shown = text.chars().take(80).flat_map(char::escape_default).collect();
        Self { shown }
    }
}

/// Checks `[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?`.
fn check(text: &str) -> Result<(), InvalidId> {
    let bytes = text.as_bytes();
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| edge(b) || matches!(b, b'.' | b'_' | b'-');
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last))
            if bytes.len() <= ID_BYTES_MAX && edge(first) && edge(last) && bytes.iter().all(|&b| inner(b)) =>
        {
            Ok(())
        }
        _ => Err(InvalidId::new(text)),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses an id.
            ///
            /// # Errors
            /// The text does not have the form of an id.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        // Decoding checks the form again: bytes from disk or the wire are input.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A mesh: all clusters that share one history.
    MeshId
}
text_id! {
    /// A cluster: one Raft group in one region.
    ClusterId
}
text_id! {
    /// A peer: a data-plane member of the mesh.
    PeerId
}
text_id! {
    /// An operation: long-running work that is persisted and can be watched and cancelled.
    OperationId
}

text_id! {
    /// A namespace: a set of keys that is split into shards.
    NamespaceId
}
text_id! {
    /// A request that waits, or waited, for a second person.
    ApprovalId
}

impl ApprovalId {
    /// The id of a request that was staged at a position: unique across timelines, and sorted by revision.
    #[must_use]
    pub fn at(position: crate::Position) -> Self {
        let short = position.timeline.0 >> 104;
        Self(format!("ap-{:012}-{short:06x}", position.revision.0).into())
    }
}

impl NamespaceId {
    /// What sorts before every id, to begin a range with; not an id itself.
    pub(crate) fn least() -> Self {
        Self("".into())
    }
}

impl OperationId {
    /// The id of an operation that is made at a position: unique across timelines, and sorted by revision.
    #[must_use]
    pub fn at(position: crate::Position) -> Self {
        let short = position.timeline.0 >> 104;
        Self(format!("op-{:012}-{short:06x}", position.revision.0).into())
    }

    /// The id of the n-th among several operations that are made at one position.
    #[must_use]
    pub fn nth(position: crate::Position, n: usize) -> Self {
        let first = Self::at(position);
        Self(format!("{first}-{n:03}").into())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number! {
    /// One `meshkit-node` process; unique within its cluster, from 1.
    NodeId
}
number! {
    /// A command's place in the mesh's history; unique within a timeline, from 1.
    Revision
}
number! {
    /// The mesh's fencing number. It only grows.
    Epoch
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A random 128-bit id of a timeline.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(pub u128);

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A 256-bit hash, shown as 64 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Hash {
    /// Parses 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_form() {
        for good in ["a", "p1", "a.b-c_d9", &"x".repeat(64)] {
            assert_eq!(PeerId::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "A",
            "-a",
            "a-",
            ".",
            "a b",
            "a:b",
            "a/b",
            "ä",
            &"x".repeat(65),
            "a\n",
        ] {
            assert!(PeerId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn decoding_refuses_a_malformed_id() {
        use crate::codec::{self, Format};
        let bytes = codec::encode(Format::Record, "NOT AN ID");
        assert!(codec::decode::<PeerId>(Format::Record, &bytes).is_err());
    }

    #[test]
    fn hashes_parse_back() {
        let hash = Hash([0xa5; 32]);
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::parse("zz"), None);
        assert_eq!(Hash::parse(&"g".repeat(64)), None);
    }
}

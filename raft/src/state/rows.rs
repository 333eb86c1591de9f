//! How the state's rows are laid out in the engine.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use statemachine::codec::{self, Format};
use statemachine::rows::Table as StateTable;

use crate::checksum::{seal, unseal};
use crate::engine::{EngineError, KeyRange, Table};
use crate::types::{LogIdRow, StoredMembershipRow};

/// Key in [`Table::StateMeta`] of the row that says what is current.
pub(crate) const CURRENT: &[u8] = b"current";

/// Which rows are in force, and where in the log they stand. Written with every batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Current {
    /// Rows whose key begins with this.
    pub generation: u32,
    /// The last entry in them.
    pub applied: Option<LogIdRow>,
    /// The last snapshot that was installed: the log may rightly end before `applied` if it
    /// ends before this.
    pub installed: Option<LogIdRow>,
    /// The last revision whose history row is there; 0 before the first.
    pub revision: u64,
    /// The members, as of `applied`.
    pub membership: StoredMembershipRow,
    /// The state's own head row.
    #[serde(with = "serde_bytes_compat")]
    pub head: Vec<u8>,
}

/// Byte strings in one piece rather than element by element.
mod serde_bytes_compat {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Bytes::copy_from_slice(value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from).map(Into::into)
    }
}

impl Current {
    /// Generation 1, with nothing in it.
    pub(crate) fn empty() -> Self {
        Self {
            generation: 1,
            applied: None,
            installed: None,
            revision: 0,
            membership: (&crate::types::StoredMembership::default()).into(),
            head: statemachine::State::default().head_row(),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        seal(codec::encode(Format::Raft, self))
    }

    pub(crate) fn decode(row: &Bytes) -> Result<Self, EngineError> {
        let damaged = |detail| EngineError::corrupt("table state_meta, row current", detail);
        let value = unseal(row).map_err(damaged)?;
        codec::decode(Format::Raft, &value).map_err(|e| damaged(e.to_string()))
    }
}

/// Tables that hold rows of a generation.
pub(crate) const TABLES: [Table; 4] = [Table::Records, Table::History, Table::Index, Table::Cluster];

/// The engine's table for one of the state's.
pub(crate) fn engine_table(table: StateTable) -> Table {
    match table {
        StateTable::Records => Table::Records,
        StateTable::History => Table::History,
        StateTable::Index => Table::Index,
        StateTable::Cluster => Table::Cluster,
    }
}

/// A row's key in the engine.
pub(crate) fn full_key(generation: u32, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(4 + key.len());
    full.extend_from_slice(&generation.to_be_bytes());
    full.extend_from_slice(key);
    full
}

/// The state's key of a row in the engine.
pub(crate) fn bare_key(full: &Bytes) -> Bytes {
    full.slice(4.min(full.len())..)
}

/// All keys of a generation.
pub(crate) fn generation_range(table: Table, generation: u32) -> KeyRange {
    let from = generation.to_be_bytes().to_vec();
    let to = match generation.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => vec![0xff; 5],
    };
    KeyRange { table, from, to }
}

/// The value of a stored row of the state, or which row of which table is damaged and how.
pub(crate) fn value(table: Table, key: &Bytes, sealed: &Bytes) -> Result<Bytes, EngineError> {
    unseal(sealed).map_err(|detail| {
        let hex: String = bare_key(key).iter().take(64).map(|b| format!("{b:02x}")).collect();
        EngineError::corrupt(format!("table {table}, row {hex}"), detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_do_not_overlap() {
        let range = generation_range(Table::Records, 7);
        let (from, to) = (&range.from[..], &range.to[..]);
        for inside in [full_key(7, b""), full_key(7, &[0xff; 40])] {
            assert!(&inside[..] >= from && &inside[..] < to);
        }
        for outside in [full_key(6, &[0xff; 40]), full_key(8, b"")] {
            assert!(&outside[..] < from || &outside[..] >= to);
        }
        let last = generation_range(Table::Records, u32::MAX);
        assert!(full_key(u32::MAX, &[0xff; 0]) < last.to);
    }

    #[test]
    fn the_current_row_round_trips_and_finds_damage() {
        let current = Current {
            applied: Some(LogIdRow { term: 3, index: 9 }),
            ..Current::empty()
        };
        let row = current.encode();
        assert_eq!(Current::decode(&row).ok(), Some(current));
        let mut bad = row.to_vec();
        bad[5] ^= 1;
        assert!(Current::decode(&bad.into()).is_err());
    }
}

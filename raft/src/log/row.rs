//! A log entry, and its one encoding: the row on disk and the bytes on the wire are the same.
//!
//! `[version u8][kind u8][term u64][index u64][payload][crc32 u32]`, numbers big-endian, the
//! checksum over all that precedes it.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::entry::{RaftEntry, RaftPayload};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use statemachine::codec::{self, Format};

use crate::types::{
    Command, CommittedLeaderId, LogId, Membership, MembershipRow, NUMBER_MAX, Payload, log_id, never_serialized,
};

/// The only version of the row there is.
const VERSION: u8 = 1;
const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;
const HEADER_BYTES: usize = 18;
const CHECKSUM_BYTES: usize = 4;

/// What a row has besides the command in it, in bytes.
pub(crate) const ROW_OVERHEAD: usize = HEADER_BYTES + CHECKSUM_BYTES;

/// An entry of the log.
#[derive(Clone)]
pub struct LogEntry {
    log_id: LogId,
    payload: Payload,
    /// The encoding, once it is known.
    row: Option<Bytes>,
}

never_serialized!(LogEntry);

impl LogEntry {
    /// What it carries.
    pub(crate) fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The encoding; made on first use and kept. The command is then a part of it, and not held twice.
    pub(crate) fn row(&mut self) -> Bytes {
        if let Some(row) = &self.row {
            return row.clone();
        }
        let row = encode(&self.log_id, &self.payload);
        if let EntryPayload::Normal(command) = &mut self.payload {
            command.0 = row.slice(HEADER_BYTES..row.len() - CHECKSUM_BYTES);
        }
        self.row = Some(row.clone());
        row
    }

    /// Bytes it takes on disk, or will.
    pub(crate) fn size(&self) -> usize {
        match (&self.row, &self.payload) {
            (Some(row), _) => row.len(),
            (None, EntryPayload::Normal(command)) => ROW_OVERHEAD + command.0.len(),
            (None, EntryPayload::Blank | EntryPayload::Membership(_)) => ROW_OVERHEAD + 256,
        }
    }

    /// Decodes a row. The entry keeps a reference to it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn decode(row: Bytes) -> Result<Self, String> {
        if row.len() < ROW_OVERHEAD {
            return Err(format!(
                "truncated: {} bytes, at least {ROW_OVERHEAD} expected",
                row.len()
            ));
        }
        let (body, sum) = row.split_at(row.len() - CHECKSUM_BYTES);
        let found = number(sum) as u32;
        let expected = crc32fast::hash(body);
        if found != expected {
            return Err(format!("checksum is {found:08x}, its bytes have {expected:08x}"));
        }
        let (version, kind) = (row[0], row[1]);
        if version != VERSION {
            return Err(format!("format version {version} is not known to this release"));
        }
        let (term, index) = (number(&row[2..10]), number(&row[10..18]));
        if term.max(index) > NUMBER_MAX {
            return Err(format!("term {term}, index {index}: nobody can have counted so far"));
        }
        let log_id = log_id(term, index);
        let data = row.slice(HEADER_BYTES..row.len() - CHECKSUM_BYTES);
        let payload = match kind {
            BLANK if data.is_empty() => EntryPayload::Blank,
            NORMAL => EntryPayload::Normal(Command(data)),
            MEMBERSHIP => {
                let row: MembershipRow = codec::decode(Format::Raft, &data).map_err(|e| e.to_string())?;
                EntryPayload::Membership(row.try_into()?)
            }
            other => return Err(format!("entry kind {other} is not known to this release")),
        };
        Ok(Self {
            log_id,
            payload,
            row: Some(row),
        })
    }
}

/// A big-endian number of at most 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn encode(log_id: &LogId, payload: &Payload) -> Bytes {
    let membership;
    let (kind, data): (u8, &[u8]) = match payload {
        EntryPayload::Blank => (BLANK, &[]),
        EntryPayload::Normal(command) => (NORMAL, &command.0),
        EntryPayload::Membership(m) => {
            membership = codec::encode(Format::Raft, &MembershipRow::from(m));
            (MEMBERSHIP, &membership)
        }
    };
    let mut row = BytesMut::with_capacity(ROW_OVERHEAD + data.len());
    row.put_u8(VERSION);
    row.put_u8(kind);
    row.put_u64(*log_id.leader_id);
    row.put_u64(log_id.index);
    row.put_slice(data);
    let sum = crc32fast::hash(&row);
    row.put_u32(sum);
    row.freeze()
}

impl RaftEntry for LogEntry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = Payload;

    fn new(log_id: LogId, payload: Payload) -> Self {
        Self {
            log_id,
            payload,
            row: None,
        }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
        self.row = None;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.log_id, self.payload)
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log_id, self.payload)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::handle::Endpoint;

    fn normal(bytes: &'static [u8]) -> LogEntry {
        LogEntry::new(log_id(3, 7), EntryPayload::Normal(Command(Bytes::from_static(bytes))))
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let nodes = BTreeMap::from([(
            1,
            Endpoint {
                raft: "a:1".into(),
                api: "a:2".into(),
            },
        )]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(Bytes::from_static(b"abc"))),
            EntryPayload::Membership(membership),
        ] {
            let mut entry = LogEntry::new(log_id(3, 7), payload.clone());
            let mut back = LogEntry::decode(entry.row()).unwrap();
            assert_eq!(back.log_id(), log_id(3, 7));
            assert_eq!(*back.payload(), payload);
            assert_eq!(back.row(), entry.row());
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        assert_eq!(
            normal(b"abc").row().to_vec(),
            [
                1, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 7, b'a', b'b', b'c', 155, 149, 15, 202
            ]
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let row = normal(b"abcdef").row();
        for at in 0..row.len() * 8 {
            let mut bad = row.to_vec();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(LogEntry::decode(bad.into()).is_err(), "bit {at}");
        }
        for keep in 0..row.len() {
            assert!(LogEntry::decode(row.slice(..keep)).is_err(), "cut to {keep}");
        }
    }

    #[test]
    fn a_new_log_id_is_a_new_row() {
        let mut entry = normal(b"abc");
        let before = entry.row();
        entry.set_log_id(log_id(4, 8));
        assert_ne!(entry.row(), before);
    }
}

//! All of one revision: what was asked, by whom, and what came of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ApprovalId, Event, Hash, Origin, Position, Record, Rejection, Revision, Stamp, TimelineId,
    codec::{self, Format},
    record::{Approval, Kind},
};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It took effect. Both lists are empty where everything was so already.
    Applied {
        /// Every record that changed. These alone suffice to rebuild the state.
        changes: Vec<Change>,
        /// What happened, in words for observers.
        events: Vec<Event>,
    },
    /// It did not take effect.
    Rejected(Rejection),
    /// It was a retry; the answer is the one given at this revision.
    Replayed {
        /// Where the first attempt was answered.
        of: Revision,
    },
    /// It waits for a second person and has not taken effect.
    Staged {
        /// What it waits as.
        approval: ApprovalId,
        /// The record of it, and what was let go to make room; empty where the same request waits already.
        changes: Vec<Change>,
        /// What happened, in words for observers.
        events: Vec<Event>,
    },
}

/// What one record was and became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absent where the record is new.
    pub before: Option<Record>,
    /// Absent where the record is gone.
    pub after: Option<Record>,
}

impl Change {
    /// Kind and id of the record.
    #[must_use]
    pub fn key(&self) -> Option<(Kind, String)> {
        self.after
            .as_ref()
            .or(self.before.as_ref())
            .map(|record| (record.kind(), record.id()))
    }
}

/// All of one revision. Its canonical bytes are the history row, what the audit chain hashes, and what is sent to
/// other clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Where it is.
    pub position: Position,
    /// What it follows; the default position for the first of all.
    pub parent: Position,
    /// The leader's clocks. Mesh time is the one that apply settled on.
    pub stamp: Stamp,
    /// Who asked, and why.
    pub origin: Origin,
    /// `peers.drain`
    pub action: String,
    /// `peer/p1`
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Unit {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(Format::Unit, self)
    }

    /// Decodes canonical bytes.
    ///
    /// # Errors
    /// The bytes are not a unit of a version that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode(Format::Unit, bytes)
    }

    /// The changes, none where it was not applied.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        match &self.outcome {
            Outcome::Applied { changes, .. } | Outcome::Staged { changes, .. } => changes,
            Outcome::Rejected(_) | Outcome::Replayed { .. } => &[],
        }
    }

    /// The request for approval that this carried out, or decided, or made.
    #[must_use]
    pub fn approval(&self) -> Option<&Approval> {
        self.changes().iter().find_map(|change| match &change.after {
            Some(Record::Approval(approval)) => Some(&**approval),
            _ => None,
        })
    }
}

/// A unit as it stands in history: with its bytes, and the chain and digest after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The unit.
    pub unit: Unit,
    /// Its canonical bytes.
    pub bytes: Arc<[u8]>,
    /// The audit chain's hash after it.
    pub chain: Hash,
    /// The state's digest after it.
    pub digest: Hash,
}

impl Recorded {
    /// The history row: chain, digest, unit.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(64 + self.bytes.len());
        row.extend_from_slice(&self.chain.0);
        row.extend_from_slice(&self.digest.0);
        row.extend_from_slice(&self.bytes);
        row
    }

    /// Decodes a history row.
    ///
    /// # Errors
    /// The row is too short or its unit does not decode.
    pub fn decode(row: &[u8]) -> Result<Self, codec::Error> {
        let (Some((chain, rest)), true) = (row.split_first_chunk::<32>(), row.len() >= 64) else {
            return Err(codec::Error::Short(row.len()));
        };
        let Some((digest, bytes)) = rest.split_first_chunk::<32>() else {
            return Err(codec::Error::Short(row.len()));
        };
        Ok(Self {
            unit: Unit::decode(bytes)?,
            bytes: bytes.into(),
            chain: Hash(*chain),
            digest: Hash(*digest),
        })
    }

    /// The timeline that the unit is on.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.unit.position.timeline
    }
}

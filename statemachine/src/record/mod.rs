//! The records that make up mesh state.

mod checkpoint;
mod mesh;
mod operation;
mod peer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    checkpoint::Checkpoint,
    mesh::{Mesh, Settings},
    operation::{Operation, OperationKind, OperationState, Phase, Step},
    peer::{
        ATTRIBUTES_MAX, Attributes, Health, Peer, PeerSpec, PeerStatus, WEIGHT_DEFAULT, check_attribute_key,
        check_attributes,
    },
};
use crate::{
    Etag, Position,
    codec::{self, Format},
};

/// What every record carries about its own changes. Stamped by apply, never by a handler.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Counts the changes of the record, from 1.
    pub version: u64,
    /// Where the record was made.
    pub created: Position,
    /// Where it changed last.
    pub changed: Position,
    /// The leader's wall clock when it was made, ms since 1970. For people.
    pub created_wall_ms: u64,
    /// The leader's wall clock when it changed last, ms since 1970. For people.
    pub changed_wall_ms: u64,
}

impl Meta {
    /// The record's ETag.
    #[must_use]
    pub fn etag(&self) -> Etag {
        Etag(self.changed)
    }
}

/// The kinds of record. The discriminant leads a record's key on disk and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// The mesh itself: one record.
    Mesh = 1,
    /// A peer.
    Peer = 2,
    /// An operation.
    Operation = 3,
    /// A signed point of the audit chain.
    Checkpoint = 4,
}

impl Kind {
    /// The word for it, as in `peer/p1`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Peer => "peer",
            Self::Operation => "operation",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// One record of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The mesh itself.
    Mesh(Arc<Mesh>),
    /// A peer.
    Peer(Arc<Peer>),
    /// An operation.
    Operation(Arc<Operation>),
    /// A signed point of the audit chain.
    Checkpoint(Arc<Checkpoint>),
}

impl Record {
    /// The record's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh(_) => Kind::Mesh,
            Self::Peer(_) => Kind::Peer,
            Self::Operation(_) => Kind::Operation,
            Self::Checkpoint(_) => Kind::Checkpoint,
        }
    }

    /// The record's id within its kind.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Mesh(mesh) => mesh.id.to_string(),
            Self::Peer(peer) => peer.id.to_string(),
            Self::Operation(operation) => operation.id.to_string(),
            Self::Checkpoint(checkpoint) => checkpoint.row_id(),
        }
    }

    /// What the record carries about its own changes.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Mesh(record) => &record.meta,
            Self::Peer(record) => &record.meta,
            Self::Operation(record) => &record.meta,
            Self::Checkpoint(record) => &record.meta,
        }
    }

    pub(crate) fn set_meta(&mut self, meta: Meta) {
        match self {
            Self::Mesh(record) => Arc::make_mut(record).meta = meta,
            Self::Peer(record) => Arc::make_mut(record).meta = meta,
            Self::Operation(record) => Arc::make_mut(record).meta = meta,
            Self::Checkpoint(record) => Arc::make_mut(record).meta = meta,
        }
    }

    /// The canonical bytes: what is stored, hashed and compared.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(Format::Record, self)
    }
}

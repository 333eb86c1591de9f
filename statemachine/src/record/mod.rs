//! The records that make up mesh state.

mod certificate;
mod checkpoint;
mod cluster;
mod config;
mod mesh;
mod operation;
mod peer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    certificate::Certificate,
    checkpoint::Checkpoint,
    cluster::{Cluster, ClusterPhase, ClusterSpec, Fencing, PRIORITY_DEFAULT},
    config::{Config, DEFINITIONS, Definition, Overrides, Settings, Unit as SettingUnit, definition},
    mesh::Mesh,
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
    /// A cluster's descriptor.
    Cluster = 5,
    /// The settings: one record.
    Config = 6,
    /// A certificate that signed points of the audit chain.
    Certificate = 7,
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
            Self::Cluster => "cluster",
            Self::Config => "config",
            Self::Certificate => "certificate",
        }
    }
}

/// One record of any kind.
///
/// Encoded as [`Stored`], so that what a later feature level adds to a record is not in the bytes of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub enum Record {
    /// The mesh itself.
    Mesh(Arc<Mesh>),
    /// A peer.
    Peer(Arc<Peer>),
    /// An operation.
    Operation(Arc<Operation>),
    /// A signed point of the audit chain.
    Checkpoint(Arc<Checkpoint>),
    /// A cluster's descriptor.
    Cluster(Arc<Cluster>),
    /// The settings.
    Config(Arc<Config>),
    /// A certificate that signed points of the audit chain.
    Certificate(Arc<Certificate>),
}

/// How records are encoded. The order is part of the encoding: add at the end, remove nothing.
///
/// A field that a feature level adds is left out of its struct's encoding and comes in a form of its own, which is
/// written only where the field is set. Below that level nothing sets it, so the bytes are those that older programs
/// read and write.
#[derive(Serialize, Deserialize)]
enum Stored {
    Mesh(Arc<Mesh>),
    Peer(Arc<Peer>),
    Operation(Arc<Operation>),
    Checkpoint(Arc<Checkpoint>),
    Cluster(Arc<Cluster>),
    Config(Arc<Config>),
    Certificate(Arc<Certificate>),
    /// Level 2: a peer with [`Peer::status_reason`].
    #[cfg(not(feature = "previous-level"))]
    PeerWithReason(Arc<Peer>, String),
}

impl From<Record> for Stored {
    fn from(record: Record) -> Self {
        match record {
            Record::Mesh(record) => Self::Mesh(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Peer(record) if !record.status_reason.is_empty() => {
                let reason = record.status_reason.clone();
                Self::PeerWithReason(record, reason)
            }
            Record::Peer(record) => Self::Peer(record),
            Record::Operation(record) => Self::Operation(record),
            Record::Checkpoint(record) => Self::Checkpoint(record),
            Record::Cluster(record) => Self::Cluster(record),
            Record::Config(record) => Self::Config(record),
            Record::Certificate(record) => Self::Certificate(record),
        }
    }
}

impl TryFrom<Stored> for Record {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        Ok(match stored {
            Stored::Mesh(record) => Self::Mesh(record),
            Stored::Peer(record) => Self::Peer(record),
            Stored::Operation(record) => Self::Operation(record),
            Stored::Checkpoint(record) => Self::Checkpoint(record),
            Stored::Cluster(record) => Self::Cluster(record),
            Stored::Config(record) => Self::Config(record),
            Stored::Certificate(record) => Self::Certificate(record),
            #[cfg(not(feature = "previous-level"))]
            Stored::PeerWithReason(_, reason) if reason.is_empty() => return Err("a peer with a reason has none"),
            #[cfg(not(feature = "previous-level"))]
            Stored::PeerWithReason(mut record, reason) => {
                Arc::make_mut(&mut record).status_reason = reason;
                Self::Peer(record)
            }
        })
    }
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
            Self::Cluster(_) => Kind::Cluster,
            Self::Config(_) => Kind::Config,
            Self::Certificate(_) => Kind::Certificate,
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
            Self::Cluster(cluster) => cluster.id.to_string(),
            Self::Config(_) => Config::ID.to_owned(),
            Self::Certificate(certificate) => certificate.id.to_string(),
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
            Self::Cluster(record) => &record.meta,
            Self::Config(record) => &record.meta,
            Self::Certificate(record) => &record.meta,
        }
    }

    pub(crate) fn set_meta(&mut self, meta: Meta) {
        match self {
            Self::Mesh(record) => Arc::make_mut(record).meta = meta,
            Self::Peer(record) => Arc::make_mut(record).meta = meta,
            Self::Operation(record) => Arc::make_mut(record).meta = meta,
            Self::Checkpoint(record) => Arc::make_mut(record).meta = meta,
            Self::Cluster(record) => Arc::make_mut(record).meta = meta,
            Self::Config(record) => Arc::make_mut(record).meta = meta,
            Self::Certificate(record) => Arc::make_mut(record).meta = meta,
        }
    }

    /// The canonical bytes: what is stored, hashed and compared.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(Format::Record, self)
    }
}

//! The records that make up mesh state.

mod approval;
mod attributes;
mod certificate;
mod checkpoint;
mod cluster;
mod config;
mod mesh;
mod namespace;
mod operation;
mod peer;
mod session;
mod shard;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    approval::{Approval, ApprovalState, Approvers, Decision, Read, Scope},
    attributes::Attributes,
    certificate::Certificate,
    checkpoint::Checkpoint,
    cluster::{Cluster, ClusterPhase, ClusterSpec, Fencing, PRIORITY_DEFAULT},
    config::{Config, DEFINITIONS, Definition, Overrides, Settings, Unit as SettingUnit, definition},
    mesh::Mesh,
    namespace::{HandOff, Namespace, NamespacePhase, NamespacePolicy, NamespaceSpec, StrategyKind, Target},
    operation::{
        Deadline, Operation, OperationKind, OperationState, Phase, Selected, SelectedState, Selection, Step, Terms,
    },
    peer::{ATTRIBUTES_MAX, Health, Peer, PeerSpec, PeerStatus, WEIGHT_DEFAULT, check_attribute_key, check_attributes},
    session::{Held, Session},
    shard::{Cause, FencingToken, Move, MoveStep, Shard, ShardId, ShardStatus},
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
    /// A request that waits, or waited, for a second person.
    Approval = 8,
    /// A browser that acts for somebody.
    Session = 9,
    /// A namespace.
    Namespace = 10,
    /// A shard of a namespace.
    Shard = 11,
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
            Self::Approval => "approval",
            Self::Session => "session",
            Self::Namespace => "namespace",
            Self::Shard => "shard",
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
    /// A request that waits, or waited, for a second person.
    Approval(Arc<Approval>),
    /// A browser that acts for somebody.
    Session(Arc<Session>),
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// A shard of a namespace.
    Shard(Arc<Shard>),
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
    /// Level 2: an operation with [`Operation::terms`].
    #[cfg(not(feature = "previous-level"))]
    OperationWithTerms(Arc<Operation>, Terms),
    /// Level 2.
    #[cfg(not(feature = "previous-level"))]
    Approval(Arc<Approval>),
    /// Level 2.
    #[cfg(not(feature = "previous-level"))]
    Session(Arc<Session>),
    /// Level 2.
    #[cfg(not(feature = "previous-level"))]
    Namespace(Arc<Namespace>),
    /// Level 2.
    #[cfg(not(feature = "previous-level"))]
    Shard(Arc<Shard>),
    /// Level 2: a peer with [`Peer::status_reason`], which may be empty, and [`Peer::health_since_ms`].
    #[cfg(not(feature = "previous-level"))]
    PeerObserved(Arc<Peer>, String, u64),
    /// A program of the level before has no form for it, and no command that makes one.
    #[cfg(feature = "previous-level")]
    #[serde(skip)]
    Unknown(Arc<Approval>),
    /// Likewise.
    #[cfg(feature = "previous-level")]
    #[serde(skip)]
    UnknownSession(Arc<Session>),
    /// Likewise.
    #[cfg(feature = "previous-level")]
    #[serde(skip)]
    UnknownNamespace(Arc<Namespace>),
    /// Likewise.
    #[cfg(feature = "previous-level")]
    #[serde(skip)]
    UnknownShard(Arc<Shard>),
}

impl From<Record> for Stored {
    fn from(record: Record) -> Self {
        match record {
            Record::Mesh(record) => Self::Mesh(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Peer(record) if record.health_since_ms > 0 => {
                let (reason, since_ms) = (record.status_reason.clone(), record.health_since_ms);
                Self::PeerObserved(record, reason, since_ms)
            }
            #[cfg(not(feature = "previous-level"))]
            Record::Peer(record) if !record.status_reason.is_empty() => {
                let reason = record.status_reason.clone();
                Self::PeerWithReason(record, reason)
            }
            Record::Peer(record) => Self::Peer(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Operation(record) if record.terms != Terms::default() => {
                let terms = record.terms.clone();
                Self::OperationWithTerms(record, terms)
            }
            Record::Operation(record) => Self::Operation(record),
            Record::Checkpoint(record) => Self::Checkpoint(record),
            Record::Cluster(record) => Self::Cluster(record),
            Record::Config(record) => Self::Config(record),
            Record::Certificate(record) => Self::Certificate(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Approval(record) => Self::Approval(record),
            #[cfg(feature = "previous-level")]
            Record::Approval(record) => Self::Unknown(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Session(record) => Self::Session(record),
            #[cfg(feature = "previous-level")]
            Record::Session(record) => Self::UnknownSession(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Namespace(record) => Self::Namespace(record),
            #[cfg(feature = "previous-level")]
            Record::Namespace(record) => Self::UnknownNamespace(record),
            #[cfg(not(feature = "previous-level"))]
            Record::Shard(record) => Self::Shard(record),
            #[cfg(feature = "previous-level")]
            Record::Shard(record) => Self::UnknownShard(record),
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
            Stored::PeerObserved(_, _, 0) => return Err("a peer that was observed was not"),
            #[cfg(not(feature = "previous-level"))]
            Stored::PeerObserved(mut record, reason, since_ms) => {
                let peer = Arc::make_mut(&mut record);
                (peer.status_reason, peer.health_since_ms) = (reason, since_ms);
                Self::Peer(record)
            }
            #[cfg(not(feature = "previous-level"))]
            Stored::PeerWithReason(_, reason) if reason.is_empty() => return Err("a peer with a reason has none"),
            #[cfg(not(feature = "previous-level"))]
            Stored::PeerWithReason(mut record, reason) => {
                Arc::make_mut(&mut record).status_reason = reason;
                Self::Peer(record)
            }
            #[cfg(not(feature = "previous-level"))]
            Stored::Approval(record) => Self::Approval(record),
            #[cfg(feature = "previous-level")]
            Stored::Unknown(record) => Self::Approval(record),
            #[cfg(not(feature = "previous-level"))]
            Stored::Session(record) => Self::Session(record),
            #[cfg(feature = "previous-level")]
            Stored::UnknownSession(record) => Self::Session(record),
            #[cfg(not(feature = "previous-level"))]
            Stored::Namespace(record) => Self::Namespace(record),
            #[cfg(feature = "previous-level")]
            Stored::UnknownNamespace(record) => Self::Namespace(record),
            #[cfg(not(feature = "previous-level"))]
            Stored::Shard(record) => Self::Shard(record),
            #[cfg(feature = "previous-level")]
            Stored::UnknownShard(record) => Self::Shard(record),
            #[cfg(not(feature = "previous-level"))]
            Stored::OperationWithTerms(_, terms) if terms == Terms::default() => {
                return Err("an operation with terms has none");
            }
            #[cfg(not(feature = "previous-level"))]
            Stored::OperationWithTerms(mut record, terms) => {
                Arc::make_mut(&mut record).terms = terms;
                Self::Operation(record)
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
            Self::Approval(_) => Kind::Approval,
            Self::Session(_) => Kind::Session,
            Self::Namespace(_) => Kind::Namespace,
            Self::Shard(_) => Kind::Shard,
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
            Self::Approval(approval) => approval.id.to_string(),
            Self::Session(session) => session.id.to_string(),
            Self::Namespace(namespace) => namespace.id.to_string(),
            Self::Shard(shard) => shard.id.to_string(),
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
            Self::Approval(record) => &record.meta,
            Self::Session(record) => &record.meta,
            Self::Namespace(record) => &record.meta,
            Self::Shard(record) => &record.meta,
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
            Self::Approval(record) => Arc::make_mut(record).meta = meta,
            Self::Session(record) => Arc::make_mut(record).meta = meta,
            Self::Namespace(record) => Arc::make_mut(record).meta = meta,
            Self::Shard(record) => Arc::make_mut(record).meta = meta,
        }
    }

    /// Shards say under which epoch of the mesh they were changed.
    pub(crate) fn set_epoch(&mut self, epoch: crate::Epoch) {
        if let Self::Shard(record) = self {
            Arc::make_mut(record).mesh_epoch = epoch;
        }
    }

    /// The canonical bytes: what is stored, hashed and compared.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(Format::Record, self)
    }
}

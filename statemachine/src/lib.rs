//! The replicated state machine of a mesh.
//!
//! Owns what the mesh knows and every rule about it: records, commands, rejections, events, the audit chain, the
//! idempotency table, the digest, planners, and the one codec of what is stored or replicated.
//!
//! Deliberately has no IO, no clock, no randomness, no floats, no unordered maps and no tasks: the same entries in the
//! same order give the same state on every node. Knows no wire format but its own codec, and nothing of Raft.
//!
//! Start reading at [`command`], then [`apply`].

pub mod audit;
pub mod backup;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod codec;
pub mod digest;
pub mod plan;
pub mod presence;
pub mod record;
pub mod rows;
pub mod selector;
pub mod staging;
pub mod strategy;

mod apply;
mod command;
mod entry;
mod event;
mod handlers;
mod idempotency;
mod ids;
mod position;
mod rejection;
mod state;
mod unit;

pub use self::{
    apply::{Answer, Applied, CHANGES_MAX, UNIT_BYTES_MAX, apply, dry_run, preview, target_of},
    check::{Check, Checks, Preview, Rule},
    cluster::ClusterState,
    command::{Command, Effects, Handler, View},
    entry::{Conditions, Entry, Idempotency, Origin, Proposal, Replicated, ReplicationRefused, Request, Stamp},
    event::{Event, Refusal},
    handlers::*,
    ids::{
        ApprovalId, ClusterId, Epoch, Hash, ID_BYTES_MAX, InvalidId, MeshId, NamespaceId, NodeId, OperationId, PeerId,
        Revision, TimelineId,
    },
    position::{Etag, Position, Timeline},
    record::Record,
    rejection::{CODES as REJECTION_CODES, Rejection, percent},
    state::{LoadError, Loader, MeshState, Mismatch, PeersByStatus, RECENT_MAX, Recent, State, Tally},
    unit::{Change, Outcome, Recorded, Unit},
};

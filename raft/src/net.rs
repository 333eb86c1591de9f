//! How nodes of a cluster talk: a framed protocol of this crate's own over the byte streams of
//! [`env`](crate::env).
//!
//! A node keeps three connections to each other, so that none waits behind another: one for the
//! append stream, one for heartbeats, votes and read indexes, one for snapshots. A connection
//! begins with a hello, in which the two sides name mesh, cluster and nodes; who dialled must be
//! a node of this very cluster by its certificate, and the one it claims to be, and not removed.
//! Both sides tell the life of their data directory, and an old copy is spoken to by nobody.
//!
//! Raft has members take appends and votes of nodes that they do not know to be members: their
//! own membership may be behind. Such a node may ask for nothing else, but to be taken in.

pub(crate) mod append;
pub(crate) mod client;
pub(crate) mod conn;
pub(crate) mod frame;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
#[cfg(test)]
mod golden;
pub(crate) mod identity;
pub(crate) mod join;
pub(crate) mod life;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod pool;
pub(crate) mod server;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
pub(crate) mod transfer;

use std::time::Duration;

pub use identity::{Identity, RefusalCode, RefusalCounters};
pub use join::{JoinError, JoinRefusal, JoinRequest};

/// Limits and deadlines of the transport.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one frame.
    pub frame_bytes: usize,
    /// Frames that wait to be sent on one connection.
    pub outgoing_frames: usize,
    /// Append requests on their way to one follower.
    pub appends_in_flight: usize,
    /// Requests of one connection being worked on, appends aside.
    pub requests_in_flight: usize,
    /// Accepted connections.
    pub connections: usize,
    /// From dialling to the answer to the hello.
    pub connect_timeout: Duration,
    /// For an answer to a vote, a read index or an append.
    pub request_timeout: Duration,
    /// Bytes of a snapshot that are sent to one node in a second, so that clients notice little of it: reading, sending
    /// and taking in a snapshot compete with them for processors and disks.
    pub snapshot_bytes_per_s: u64,
    /// For an answer to one chunk of a snapshot.
    pub chunk_timeout: Duration,
    /// For checking and installing a snapshot once all of it has arrived.
    pub install_timeout: Duration,
    /// For bytes to be taken by the other side.
    pub write_timeout: Duration,
    /// After which a silent connection is closed.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 16 << 20,
            outgoing_frames: 256,
            appends_in_flight: 64,
            requests_in_flight: 64,
            connections: 256,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(1),
            snapshot_bytes_per_s: 32 << 20,
            chunk_timeout: Duration::from_secs(10),
            install_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// Why a request to another node failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// There is no connection, and none could be made.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke while the request was on its way.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other side refused the connection.
    #[error("refused ({code}): {detail}")]
    Refused { code: RefusalCode, detail: String },
    /// The other side sent what makes no sense.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The other side could not do it.
    #[error("the other node: {0}")]
    Remote(String),
}

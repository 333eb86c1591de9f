//! What a peer's [`Core`](super::core::Core) is told, and what it answers.

use std::{fmt, sync::Arc, time::Duration};

use proto::v1::shard::r#move::Step;

use crate::shards::{Known, Token, Update};

/// Which shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its number.
    pub shard: u32,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.shard)
    }
}

/// How a peer is, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// It serves.
    #[default]
    Ready,
    /// It asks to be given nothing more.
    Busy,
    /// It is about to stop.
    Leaving,
}

/// Why a shard is not served any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It goes to another peer, which waits for this one to stop.
    Moving,
    /// It is another peer's, or nobody's.
    Lost,
    /// The lease ran out: the mesh was not heard for too long.
    Lease,
    /// It is served under another token, at once.
    Token,
    /// The mesh is at a later epoch than the view or the lease is of: both are asked for anew.
    Epoch,
    /// The peer stops.
    Leaving,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time went by.
    Tick,
    /// A heartbeat was answered.
    Answered {
        /// When it was sent.
        sent: Duration,
        /// For how long the peer may serve, from then on.
        lease: Duration,
        /// How late the view has to be, where the lease had lapsed or was of an earlier epoch.
        view_revision: u64,
        /// The mesh's epoch, as its leader says.
        epoch: u64,
        /// When to send the next.
        next: Duration,
    },
    /// A heartbeat was not answered.
    Unanswered,
    /// The mesh does not know this peer, or not with this credential: it may not serve.
    Refused,
    /// A watch on the peer's shards begins: what comes from now on is of this mesh and epoch.
    Begun {
        /// Which mesh.
        mesh: String,
        /// At which epoch.
        epoch: u64,
    },
    /// What the peer knows of its shards.
    View(Update),
    /// A shard was prepared, or could not be.
    Prepared {
        /// Which.
        shard: ShardKey,
        /// For which move.
        begun: u64,
        /// Whether it can be served.
        ready: bool,
    },
    /// Work on a shard has ended.
    Stopped {
        /// Which.
        shard: ShardKey,
    },
    /// The program did not come to the end of stopping: whether work on the shard has ended is not known.
    StopFailed {
        /// Which.
        shard: ShardKey,
    },
    /// An acknowledgement was taken, or is of no use; or is to be sent again.
    Told {
        /// Of which shard.
        shard: ShardKey,
        /// For which move.
        begun: u64,
        /// Of which step.
        step: Step,
        /// False where it has to be sent again.
        done: bool,
    },
    /// The peer is to stop.
    Leave,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a heartbeat.
    Beat {
        /// The revision that the view is at.
        seen_revision: u64,
        /// Whether the peer is about to stop.
        leaving: bool,
    },
    /// Get ready for a shard.
    Prepare {
        /// Which.
        shard: ShardKey,
        /// For which move.
        begun: u64,
    },
    /// What was prepared is of no use.
    Abandon {
        /// Which.
        shard: ShardKey,
    },
    /// Serve a shard.
    Start {
        /// Which.
        shard: ShardKey,
        /// Under which token.
        token: Token,
    },
    /// Serve it no more.
    Stop {
        /// Which.
        shard: ShardKey,
        /// The token that it was served under.
        token: Token,
        /// Why.
        why: Why,
    },
    /// Begin another watch in place of the one that runs, with all there is: that one is of an earlier epoch.
    Follow(Known),
    /// Tell the mesh that a step is done.
    Acknowledge(Acknowledgement),
}

/// That a step of a move is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which shard.
    pub shard: ShardKey,
    /// Which move.
    pub begun: u64,
    /// Which step.
    pub step: Step,
    /// The shard's token.
    pub token: Token,
    /// It cannot be done.
    pub failed: bool,
}

//! What happened, in the past tense, for observers.

use serde::{Deserialize, Serialize};

use crate::{
    ApprovalId, ClusterId, Epoch, Hash, MeshId, NamespaceId, NodeId, OperationId, PeerId, Revision, Timeline,
    record::{ApprovalState, Health, MoveStep, OperationState, ShardId, ShardStatus},
};

/// What happened. The records themselves are in the changes of the same unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The mesh began.
    MeshInitialized {
        /// Its name.
        mesh: MeshId,
        /// Its first epoch.
        epoch: Epoch,
    },
    /// A peer was added.
    PeerRegistered(PeerId),
    /// Labels or metadata changed.
    PeerPatched(PeerId),
    /// A peer was removed.
    PeerDeregistered(PeerId),
    /// A peer takes no new work.
    PeerCordoned(PeerId),
    /// A peer takes new work again.
    PeerUncordoned(PeerId),
    /// Work is being moved off a peer.
    PeerDrainStarted(PeerId),
    /// A peer holds nothing any more.
    PeerDrained(PeerId),
    /// A drain was undone.
    PeerUndrained(PeerId),
    /// Work began.
    OperationStarted(OperationId),
    /// A step of it was finished.
    OperationAdvanced {
        /// Which.
        operation: OperationId,
        /// The step that was finished, from 0.
        step: u32,
    },
    /// Work ended.
    OperationFinished {
        /// Which.
        operation: OperationId,
        /// How.
        state: OperationState,
    },
    /// The audit chain was signed.
    AuditCheckpointed {
        /// Up to where.
        revision: Revision,
        /// The chain's hash there.
        hash: Hash,
        /// By whom.
        node: NodeId,
    },
    /// A cluster's descriptor was written.
    ClusterDescribed(ClusterId),
    /// Settings changed.
    ConfigChanged {
        /// Which.
        names: Vec<String>,
    },
    /// The level of behaviour was raised.
    FeatureLevelRaised(u32),
    /// History below a revision is no longer kept.
    HistoryCompacted {
        /// The oldest revision that is kept.
        floor: Revision,
    },
    /// Requests were refused before they became commands.
    RequestsRefused {
        /// Each refusal that is recorded.
        refusals: Vec<Refusal>,
        /// How many more there were of the same principal.
        suppressed: u64,
    },
    /// The mesh was restored from a backup: its history goes on on this timeline.
    MeshRestored(Timeline),
    /// The mesh goes on on this timeline after a majority of its cluster's nodes was lost.
    MeshRecovered(Timeline),
    /// Somebody takes the whole mesh away as a file.
    BackupStarted {
        /// The node that it is read from.
        node: NodeId,
    },
    /// A request waits for a second person.
    ApprovalRequested(ApprovalId),
    /// Somebody agreed to it.
    ApprovalGiven {
        /// Which.
        approval: ApprovalId,
        /// Who.
        actor: String,
    },
    /// It waits no more.
    ApprovalEnded {
        /// Which.
        approval: ApprovalId,
        /// How it ended.
        state: ApprovalState,
    },
    /// A namespace was made; its shards follow.
    NamespaceCreated(NamespaceId),
    /// A namespace has all its shards.
    NamespaceReady(NamespaceId),
    /// What its moves are held to changed.
    NamespaceChanged(NamespaceId),
    /// A namespace is gone, with all its shards.
    NamespaceDeleted(NamespaceId),
    /// What may be done with a shard changed.
    ShardHeld {
        /// Which.
        shard: ShardId,
        /// What it is now.
        status: ShardStatus,
    },
    /// A shard is on its way to another owner.
    ShardMoveBegun {
        /// Which.
        shard: ShardId,
        /// Where it goes.
        to: PeerId,
    },
    /// A move is at its next step.
    ShardMoveAdvanced {
        /// Which shard.
        shard: ShardId,
        /// The step that began.
        step: MoveStep,
    },
    /// A move was given up: the shard stays with its owner.
    ShardMoveGivenUp {
        /// Which shard.
        shard: ShardId,
        /// Where it was going.
        to: PeerId,
    },
    /// A shard has another owner.
    ShardMoved {
        /// Which.
        shard: ShardId,
        /// Who owned it.
        from: Option<PeerId>,
        /// Who owns it.
        to: PeerId,
        /// Its epoch from now on.
        epoch: u64,
    },
    /// A peer is seen otherwise than before.
    PeerObserved {
        /// Which.
        peer: PeerId,
        /// How.
        health: Health,
    },
}

/// A request that was refused before it became a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Subject after binding.
    pub actor: String,
    /// `peers.drain`
    pub action: String,
    /// `peer/p1`; empty where there is none.
    pub target: String,
    /// The error code.
    pub code: String,
    /// The id of the request.
    pub request_id: String,
    /// `h3`, `h2` or `h1`.
    pub transport: String,
    /// The node that refused.
    pub node: NodeId,
    /// Its wall clock, ms since 1970.
    pub refused_wall_ms: u64,
}

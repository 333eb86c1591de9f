//! What happened, in the past tense, for observers.

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Epoch, Hash, MeshId, NodeId, OperationId, PeerId, Revision, Timeline, record::OperationState};

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

//! Why a command was not carried out. A rejection is an answer, never a failure of the program.

mod measure;
mod words;

use serde::{Deserialize, Serialize};

use crate::{
    ApprovalId, ClusterId, Etag, NamespaceId, OperationId, PeerId, Revision,
    record::{
        ApprovalState, Approvers, ClusterPhase, FencingToken, MoveStep, NamespacePhase, OperationState, Scope, ShardId,
        ShardStatus,
    },
};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// A field is not of the right form.
    InvalidArgument {
        /// The field.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such record.
    NotFound {
        /// `peer`, `operation` …
        kind: String,
        /// Its id.
        id: String,
    },
    /// There is such a record.
    AlreadyExists {
        /// `peer`, `operation` …
        kind: String,
        /// Its id.
        id: String,
        /// Its ETag.
        current: Etag,
    },
    /// The record is not as the caller last saw it.
    EtagMismatch {
        /// What the caller gave.
        given: String,
        /// The record's ETag now; absent where there is no record.
        current: Option<Etag>,
    },
    /// The mesh has moved on since the preview.
    RevisionMismatch {
        /// What the caller gave.
        given: Revision,
        /// The mesh's revision now.
        current: Revision,
    },
    /// The key was used for another request.
    IdempotencyKeyReused {
        /// Where it was used.
        revision: Revision,
    },
    /// The key is older than what is remembered.
    IdempotencyKeyExpired {
        /// How old the key is, in ms of mesh time.
        age_ms: u64,
        /// How long keys are kept, in ms of mesh time.
        ttl_ms: u64,
    },
    /// A quota is used up.
    ResourceExhausted {
        /// What of.
        what: String,
        /// How much there is now.
        measured: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The peer is being drained, or has been.
    PeerDraining {
        /// The peer.
        peer: PeerId,
        /// The operation.
        operation: Option<OperationId>,
    },
    /// The peer still owns shards.
    PeerOwnsShards {
        /// The peer.
        peer: PeerId,
        /// How many.
        shards: u64,
    },
    /// The operation has ended.
    OperationFinished {
        /// The operation.
        operation: OperationId,
        /// How it ended.
        state: OperationState,
    },
    /// The operation is not at the step that a controller wanted to finish.
    OperationMoved {
        /// The operation.
        operation: OperationId,
        /// The step that was to be finished.
        step: u32,
    },
    /// What was signed is not what the chain says, or is too long ago to tell.
    CheckpointStale {
        /// The revision that was signed.
        revision: Revision,
    },
    /// `InitMesh` for a mesh that is there.
    MeshInitialized,
    /// Any other command for a mesh that is not there yet.
    MeshNotInitialized,
    /// Without it the mesh would take no mutations.
    LastActiveCluster {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The cluster does not follow the active one, so it has nothing to go on with.
    ReplicationNotConfigured {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A cluster does not go from one state to the other in this way.
    ClusterTransition {
        /// The cluster.
        cluster: ClusterId,
        /// What it is.
        from: ClusterPhase,
        /// What was asked for.
        to: ClusterPhase,
    },
    /// There may be nodes that cannot do it yet.
    FeatureLevelTooLow {
        /// The level that it takes.
        needed: u32,
        /// The level that is in force.
        current: u32,
    },
    /// There is no such level to raise to.
    FeatureLevelUnknown {
        /// What was asked for.
        asked: u32,
        /// The level that is in force.
        current: u32,
        /// The highest that this program knows.
        known: u32,
    },
    /// A retry may still have to be answered from that history.
    HistoryInUse {
        /// What was to be the oldest revision.
        to: Revision,
        /// How old that is, in ms of mesh time.
        age_ms: u64,
        /// How old it has to be.
        needed_ms: u64,
    },
    /// What was to be approved is not what would happen now.
    ApprovalStale {
        /// The request.
        approval: ApprovalId,
        /// What differs.
        why: String,
    },
    /// Nobody approves their own request.
    ApprovalOwn {
        /// The request.
        approval: ApprovalId,
    },
    /// One person does not count twice.
    ApprovalGiven {
        /// The request.
        approval: ApprovalId,
        /// Who has agreed already.
        actor: String,
    },
    /// The request was decided.
    ApprovalFinished {
        /// The request.
        approval: ApprovalId,
        /// How.
        state: ApprovalState,
    },
    /// The request was not decided in time.
    ApprovalExpired {
        /// The request.
        approval: ApprovalId,
        /// For how long it has been over, in ms of mesh time.
        for_ms: u64,
    },
    /// Deciding the request takes more than the caller may do.
    ScopeMissing {
        /// What it takes.
        needed: Scope,
        /// Who has to agree.
        approvers: Approvers,
    },
    /// A cluster would be left with too few active peers.
    ActivePeersLow {
        /// The cluster.
        cluster: ClusterId,
        /// How many it would be left with.
        left: u64,
        /// How many have to stay.
        needed: u64,
    },
    /// The selector selects no peer that could be drained.
    NothingSelected {
        /// The selector.
        selector: String,
        /// How many peers it selects that are draining or drained already.
        set_aside: u64,
    },
    /// More peers are selected than one operation drains.
    SelectionTooLarge {
        /// How many are selected.
        selected: u64,
        /// How many there may be.
        limit: u64,
    },
    /// Other peers are selected than were expected.
    SelectionChanged {
        /// How many are selected.
        selected: u64,
        /// How many were expected.
        expected: u64,
        /// The first peer that is in only one of the two.
        first: String,
    },
    /// Nobody else can take the peer's shards.
    NoEligiblePeer {
        /// The peer that is to give its shards up; none where a description of the namespace leaves nobody.
        peer: Option<PeerId>,
        /// The first namespace whose shards would have nowhere to go.
        namespace: NamespaceId,
    },
    /// An operation works on the namespace.
    NamespaceBusy {
        /// The namespace.
        namespace: NamespaceId,
        /// What is being done to it.
        phase: NamespacePhase,
        /// By which operation.
        operation: Option<OperationId>,
    },
    /// Shards of the namespace are served.
    NamespaceInUse {
        /// The namespace.
        namespace: NamespaceId,
        /// How many.
        served: u64,
    },
    /// A shard of this status is not treated in this way.
    ShardTransition {
        /// The shard.
        shard: ShardId,
        /// What it is.
        status: ShardStatus,
        /// What was asked for.
        action: String,
    },
    /// The peer owns the shard already.
    ShardThere {
        /// The shard.
        shard: ShardId,
        /// The peer.
        peer: PeerId,
    },
    /// The peer is not given shards of the namespace.
    TargetUnfit {
        /// The peer.
        peer: PeerId,
        /// What is in the way.
        why: String,
    },
    /// The move is not at that step, or there is no such move any more.
    MoveOver {
        /// The shard.
        shard: ShardId,
        /// The move: where it began.
        begun: Revision,
        /// The step that was spoken of.
        step: MoveStep,
    },
    /// The step of the move waits for somebody else.
    NotWaitedFor {
        /// The shard.
        shard: ShardId,
        /// Who spoke.
        peer: PeerId,
        /// Who has to; `nobody` where nobody.
        waits_for: String,
    },
    /// The shard has another fencing token.
    StaleToken {
        /// The shard.
        shard: ShardId,
        /// The token that was shown.
        token: FencingToken,
        /// The one that the shard has.
        current: FencingToken,
    },
    /// How many shards a namespace has cannot be changed.
    ShardCountFixed {
        /// The namespace.
        namespace: NamespaceId,
        /// How many it has.
        shards: u32,
        /// How many were asked for.
        asked: u32,
    },
    /// More shards would move than may.
    MovesTooMany {
        /// The namespace.
        namespace: NamespaceId,
        /// The share that would move beyond what has to, in tenths of a percent.
        measured: u32,
        /// The most that may.
        limit: u32,
    },
}

/// Tenths of a percent, as people write them.
#[must_use]
pub fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Every code that a rejection can have, for documentation tests.
pub const CODES: &[&str] = &[
    "invalid_argument",
    "not_found",
    "already_exists",
    "etag_mismatch",
    "revision_mismatch",
    "idempotency_key_reused",
    "idempotency_key_expired",
    "resource_exhausted",
    "peer_draining",
    "peer_owns_shards",
    "operation_finished",
    "operation_moved",
    "checkpoint_stale",
    "mesh_initialized",
    "unavailable",
    "last_active_cluster",
    "replication_not_configured",
    "cluster_transition",
    "feature_level_too_low",
    "feature_level_unknown",
    "history_in_use",
    "approval_stale",
    "approval_own",
    "approval_given",
    "approval_finished",
    "approval_expired",
    "scope_missing",
    "active_peers_low",
    "nothing_selected",
    "selection_too_large",
    "selection_changed",
    "no_eligible_peer",
    "namespace_busy",
    "namespace_in_use",
    "shard_transition",
    "shard_there",
    "target_unfit",
    "move_over",
    "not_waited_for",
    "stale_token",
    "shard_count_fixed",
    "moves_too_many",
    "not_waited_for",
    "stale_token",
    "shard_count_fixed",
    "moves_too_many",
];

impl Rejection {
    pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidArgument {
            field: field.into(),
            why: why.into(),
        }
    }

    /// The stable, documented code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "invalid_argument",
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::EtagMismatch { .. } => "etag_mismatch",
            Self::RevisionMismatch { .. } => "revision_mismatch",
            Self::IdempotencyKeyReused { .. } => "idempotency_key_reused",
            Self::IdempotencyKeyExpired { .. } => "idempotency_key_expired",
            Self::ResourceExhausted { .. } => "resource_exhausted",
            Self::PeerDraining { .. } => "peer_draining",
            Self::PeerOwnsShards { .. } => "peer_owns_shards",
            Self::OperationFinished { .. } => "operation_finished",
            Self::OperationMoved { .. } => "operation_moved",
            Self::CheckpointStale { .. } => "checkpoint_stale",
            Self::MeshInitialized => "mesh_initialized",
            Self::MeshNotInitialized => "unavailable",
            Self::LastActiveCluster { .. } => "last_active_cluster",
            Self::ReplicationNotConfigured { .. } => "replication_not_configured",
            Self::ClusterTransition { .. } => "cluster_transition",
            Self::FeatureLevelTooLow { .. } => "feature_level_too_low",
            Self::FeatureLevelUnknown { .. } => "feature_level_unknown",
            Self::HistoryInUse { .. } => "history_in_use",
            Self::ApprovalStale { .. } => "approval_stale",
            Self::ApprovalOwn { .. } => "approval_own",
            Self::ApprovalGiven { .. } => "approval_given",
            Self::ApprovalFinished { .. } => "approval_finished",
            Self::ApprovalExpired { .. } => "approval_expired",
            Self::ScopeMissing { .. } => "scope_missing",
            Self::ActivePeersLow { .. } => "active_peers_low",
            Self::NothingSelected { .. } => "nothing_selected",
            Self::SelectionTooLarge { .. } => "selection_too_large",
            Self::SelectionChanged { .. } => "selection_changed",
            Self::NoEligiblePeer { .. } => "no_eligible_peer",
            Self::NamespaceBusy { .. } => "namespace_busy",
            Self::NamespaceInUse { .. } => "namespace_in_use",
            Self::ShardTransition { .. } => "shard_transition",
            Self::ShardThere { .. } => "shard_there",
            Self::TargetUnfit { .. } => "target_unfit",
            Self::MoveOver { .. } => "move_over",
            Self::NotWaitedFor { .. } => "not_waited_for",
            Self::StaleToken { .. } => "stale_token",
            Self::ShardCountFixed { .. } => "shard_count_fixed",
            Self::MovesTooMany { .. } => "moves_too_many",
        }
    }

    /// True where the very same request may succeed later. Such rejections are not remembered for retries.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::ResourceExhausted { .. } | Self::MeshNotInitialized => true,
            Self::InvalidArgument { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::EtagMismatch { .. }
            | Self::RevisionMismatch { .. }
            | Self::IdempotencyKeyReused { .. }
            | Self::IdempotencyKeyExpired { .. }
            | Self::PeerDraining { .. }
            | Self::PeerOwnsShards { .. }
            | Self::OperationFinished { .. }
            | Self::OperationMoved { .. }
            | Self::CheckpointStale { .. }
            | Self::MeshInitialized
            | Self::LastActiveCluster { .. }
            | Self::ReplicationNotConfigured { .. }
            | Self::ClusterTransition { .. }
            | Self::FeatureLevelTooLow { .. }
            | Self::FeatureLevelUnknown { .. }
            | Self::HistoryInUse { .. }
            | Self::ApprovalStale { .. }
            | Self::ApprovalOwn { .. }
            | Self::ApprovalGiven { .. }
            | Self::ApprovalFinished { .. }
            | Self::ApprovalExpired { .. }
            | Self::ScopeMissing { .. }
            | Self::ActivePeersLow { .. }
            | Self::NothingSelected { .. }
            | Self::SelectionTooLarge { .. }
            | Self::SelectionChanged { .. }
            | Self::NoEligiblePeer { .. }
            | Self::NamespaceBusy { .. }
            | Self::NamespaceInUse { .. }
            | Self::ShardTransition { .. }
            | Self::ShardThere { .. }
            | Self::TargetUnfit { .. }
            | Self::MoveOver { .. }
            | Self::NotWaitedFor { .. }
            | Self::StaleToken { .. }
            | Self::ShardCountFixed { .. }
            | Self::MovesTooMany { .. } => false,
        }
    }
}

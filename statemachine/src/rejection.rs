//! Why a command was not carried out. A rejection is an answer, never a failure of the program.

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Etag, OperationId, PeerId, Revision,
    record::{ClusterPhase, OperationState},
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
        }
    }

    /// What happened, with names and values, in one line.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::InvalidArgument { field, why } => format!("{field}: {why}"),
            Self::NotFound { kind, id } => format!("there is no {kind} `{id}`"),
            Self::AlreadyExists { kind, id, current } => {
                format!("{kind} `{id}` exists; its ETag is {current}")
            }
            Self::EtagMismatch {
                given,
                current: Some(current),
            } => {
                format!("the record has changed: its ETag is {current}, not `{given}`")
            }
            Self::EtagMismatch { given, current: None } => {
                format!("there is no such record, so no ETag matches `{given}`")
            }
            Self::RevisionMismatch { given, current } => {
                format!("the mesh is at revision {current}, not {given}")
            }
            Self::IdempotencyKeyReused { revision } => {
                format!("the idempotency key was used for a different request at revision {revision}")
            }
            Self::IdempotencyKeyExpired { age_ms, ttl_ms } => {
                format!("the idempotency key is {age_ms} ms old; keys of this form are kept for {ttl_ms} ms")
            }
            Self::ResourceExhausted { what, measured, limit } => {
                format!("{what}: {measured} of at most {limit} are in use")
            }
            Self::PeerDraining {
                peer,
                operation: Some(operation),
            } => {
                format!("peer `{peer}` is draining or drained by operation `{operation}`")
            }
            Self::PeerDraining { peer, operation: None } => format!("peer `{peer}` is draining or drained"),
            Self::PeerOwnsShards { peer, shards } => format!("peer `{peer}` owns {shards} shards"),
            Self::OperationFinished { operation, state } => {
                format!("operation `{operation}` has ended: {}", state.word())
            }
            Self::OperationMoved { operation, step } => {
                format!("operation `{operation}` is not at step {step} any more")
            }
            Self::CheckpointStale { revision } => {
                format!("the checkpoint of revision {revision} does not match the chain, or is too old to tell")
            }
            Self::MeshInitialized => "the mesh is initialized already".to_owned(),
            Self::MeshNotInitialized => "the mesh is not initialized yet".to_owned(),
            Self::LastActiveCluster { cluster } => {
                format!("cluster `{cluster}` is the only active one: without it the mesh takes no mutations")
            }
            Self::ReplicationNotConfigured { cluster } => {
                format!("cluster `{cluster}` is not known to follow the active one, so it would go on with nothing")
            }
            Self::ClusterTransition { cluster, from, to } => {
                format!(
                    "cluster `{cluster}` is {}, and does not become {} in this way",
                    from.word(),
                    to.word()
                )
            }
            Self::FeatureLevelTooLow { needed, current } => {
                format!("this takes feature level {needed}; the mesh is at {current}")
            }
            Self::FeatureLevelUnknown { asked, current, known } => {
                format!("feature level {asked}: the mesh is at {current}, and the newest program knows up to {known}")
            }
            Self::HistoryInUse { to, age_ms, needed_ms } => {
                format!("revision {to} is {age_ms} ms old; for {needed_ms} ms a retry may have to be answered from it")
            }
        }
    }

    /// What to do next, in one line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::InvalidArgument { .. } => "correct the field and send the request again".to_owned(),
            Self::NotFound { kind, .. } => match kind.as_str() {
                "operation" => "`mesh operations list` shows what there is".to_owned(),
                _ => format!("`mesh {kind}s list` shows what there is"),
            },
            Self::AlreadyExists { .. } => "choose another id, or change the existing record".to_owned(),
            Self::EtagMismatch { current: Some(_), .. } => {
                "read the record again, check that the change still makes sense, and send its new ETag".to_owned()
            }
            Self::EtagMismatch { current: None, .. } => "send the request without If-Match".to_owned(),
            Self::RevisionMismatch { .. } => "preview again with --dry-run and use the revision it names".to_owned(),
            Self::IdempotencyKeyReused { .. } => "use a new key for a new request".to_owned(),
            Self::IdempotencyKeyExpired { .. } => {
                "look whether the first attempt took effect (`mesh audit list`), then use a new key".to_owned()
            }
            Self::ResourceExhausted { .. } => "remove what is not needed, wait, or have the limit raised".to_owned(),
            Self::PeerDraining { peer, .. } => format!("`mesh peers undrain {peer}` first"),
            Self::PeerOwnsShards { peer, .. } => format!("`mesh peers drain {peer} --wait` first"),
            Self::OperationFinished { operation, .. } => {
                format!("`mesh operations get {operation}` shows how it ended")
            }
            Self::OperationMoved { .. } => "read the operation again".to_owned(),
            Self::CheckpointStale { .. } => "sign a newer revision".to_owned(),
            Self::MeshInitialized => "nothing is left to do".to_owned(),
            Self::MeshNotInitialized => "wait for the first leader; `mesh status` shows when there is one".to_owned(),
            Self::LastActiveCluster { .. } => {
                "promote another cluster: that demotes this one in the same step".to_owned()
            }
            Self::ReplicationNotConfigured { cluster } => {
                format!(
                    "set up replication first: describe where it is reached with `mesh clusters apply {cluster}`, then wait \
                     until `mesh clusters get {cluster}` shows it ready"
                )
            }
            Self::ClusterTransition { cluster, to, .. } => match to {
                ClusterPhase::Active => format!("`mesh clusters promote {cluster}`"),
                ClusterPhase::Passive | ClusterPhase::Draining | ClusterPhase::Maintenance => {
                    "`apply` moves a cluster between passive and maintenance only".to_owned()
                }
            },
            Self::FeatureLevelTooLow { .. } => {
                "run the newer program on every node, then `mesh upgrade finalize`".to_owned()
            }
            Self::FeatureLevelUnknown { .. } => "`mesh upgrade status` shows what the nodes can do".to_owned(),
            Self::HistoryInUse { .. } => {
                "name an older revision, or wait; `mesh config get retention.idempotency_key` shows for how long"
                    .to_owned()
            }
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
            | Self::HistoryInUse { .. } => false,
        }
    }
}

impl OperationState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

//! The RPCs of the contract, as types: one marker per method, and one typed call on [`Client`] for each.

use bytes::Bytes;
use proto::{codec::Wire, v1};

use crate::{Answer, CallOptions, Client, Result};

/// One RPC of the contract.
pub trait Method: 'static {
    /// What is sent.
    type Request: Wire + Clone;
    /// What comes back.
    type Response: Wire;
    /// `/package.Service/Method`
    const PATH: &'static str;
    /// True where the call changes replicated state, so that only the leader serves it. Without a [`key`](Self::key) it
    /// is not repeated once it may have been carried out.
    const MUTATION: bool;
    /// True where only the leader answers: asked there first.
    const LEADER: bool = Self::MUTATION;
    /// The request's own idempotency key, where the message has a field for it.
    fn key(request: &mut Self::Request) -> Option<&mut String>;
    /// Whether nothing is to be changed, only to be said what would be.
    fn is_dry_run(request: &Self::Request) -> bool;
}

/// A method as calls are carried out, which need not know its messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rpc {
    /// [`Method::PATH`]
    pub(crate) path: &'static str,
    /// [`Method::MUTATION`]
    pub(crate) mutation: bool,
    /// [`Method::LEADER`]
    pub(crate) leader: bool,
}

impl Rpc {
    pub(crate) fn of<M: Method>() -> Self {
        Self {
            path: M::PATH,
            mutation: M::MUTATION,
            leader: M::LEADER,
        }
    }
}

/// A request that can be given another idempotency key.
pub(crate) trait Keyed: Send + Sync {
    /// [`Method::key`]
    fn key(&mut self) -> Option<&mut String>;
    /// As it is sent.
    fn to_wire(&self) -> Bytes;
}

/// The request of a method.
pub(crate) struct Asked<M: Method>(pub(crate) M::Request);

impl<M: Method> Keyed for Asked<M> {
    fn key(&mut self) -> Option<&mut String> {
        M::key(&mut self.0)
    }

    fn to_wire(&self) -> Bytes {
        self.0.to_wire()
    }
}

/// The fields that every mutation of a record has.
pub trait Mutation: Default {
    /// Why, for the audit trail.
    fn set_reason(&mut self, reason: String);
    /// The change ticket, for the audit trail.
    fn set_ticket(&mut self, ticket: String);
    /// Answer what would happen, change nothing.
    fn set_dry_run(&mut self, dry_run: bool);
    /// Only where the record's ETag is this.
    fn set_if_match(&mut self, etag: String);
    /// Only where the mesh is at this revision.
    fn set_if_revision(&mut self, revision: u64);
    /// Makes a retry safe.
    fn set_idempotency_key(&mut self, key: String);
}

macro_rules! methods {
    ($($(#[$doc:meta])* $kind:ident $call:ident = $marker:ident($service:literal, $name:literal): $request:ident -> $response:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $marker;

            impl Method for $marker {
                type Request = v1::$request;
                type Response = v1::$response;
                const PATH: &'static str = concat!("/meshkit.v1.", $service, "/", $name);
                const MUTATION: bool = methods!(@mutation $kind);
                const LEADER: bool = methods!(@leader $kind);
                fn key(request: &mut Self::Request) -> Option<&mut String> {
                    methods!(@key $kind request)
                }
                fn is_dry_run(request: &Self::Request) -> bool {
                    methods!(@dry $kind request)
                }
            }

            methods!(@impl $kind $request);
        )*

        impl Client {
            $(
                $(#[$doc])*
                pub async fn $call(&self, request: v1::$request) -> Result<Answer<v1::$response>> {
                    self.call::<$marker>(request, CallOptions::default()).await
                }
            )*
        }

        #[cfg(test)]
        pub(crate) const ALL: &[(&str, bool)] = &[$(($marker::PATH, $marker::MUTATION)),*];
    };
    (@mutation read) => { false };
    (@mutation leader) => { false };
    (@mutation record) => { true };
    (@mutation admin) => { true };
    (@leader read) => { false };
    (@leader $kind:ident) => { true };
    (@key record $request:ident) => { Some(&mut $request.idempotency_key) };
    (@key $kind:ident $request:ident) => { { let _ = $request; None } };
    (@dry record $request:ident) => { $request.dry_run };
    (@dry $kind:ident $request:ident) => { { let _ = $request; false } };
    (@impl record $request:ident) => {
        impl Mutation for v1::$request {
            fn set_reason(&mut self, reason: String) {
                self.reason = reason;
            }
            fn set_ticket(&mut self, ticket: String) {
                self.ticket = ticket;
            }
            fn set_dry_run(&mut self, dry_run: bool) {
                self.dry_run = dry_run;
            }
            fn set_if_match(&mut self, etag: String) {
                self.if_match = etag;
            }
            fn set_if_revision(&mut self, revision: u64) {
                self.if_revision = revision;
            }
            fn set_idempotency_key(&mut self, key: String) {
                self.idempotency_key = key;
            }
        }
    };
    (@impl $kind:ident $request:ident) => {};
}

methods! {
    /// Lists peers in order of id, all pages at one revision.
    read list_peers = ListPeers("PeerService", "ListPeers"): ListPeersRequest -> ListPeersResponse;
    /// One peer.
    read get_peer = GetPeer("PeerService", "GetPeer"): GetPeerRequest -> Peer;
    /// Adds a peer. The same id twice answers `already_exists`.
    record register_peer = RegisterPeer("PeerService", "RegisterPeer"): RegisterPeerRequest -> Peer;
    /// Changes what was said about a peer when it was registered; what is not given stays as it is.
    record patch_peer = PatchPeer("PeerService", "PatchPeer"): PatchPeerRequest -> Peer;
    /// Removes a peer that holds nothing. Answers the record as it was last.
    record deregister_peer = DeregisterPeer("PeerService", "DeregisterPeer"): DeregisterPeerRequest -> Peer;
    /// Stops new work from reaching the peer.
    record cordon_peer = CordonPeer("PeerService", "CordonPeer"): CordonPeerRequest -> Peer;
    /// Lets new work reach the peer again.
    record uncordon_peer = UncordonPeer("PeerService", "UncordonPeer"): UncordonPeerRequest -> Peer;
    /// Starts moving everything off the peer; `operation` of the answer names the operation to follow.
    record drain_peer = DrainPeer("PeerService", "DrainPeer"): DrainPeerRequest -> Peer;
    /// Drains all peers that a selector selects, a few at a time, as one operation.
    record drain_peers = DrainPeers("PeerService", "DrainPeers"): DrainPeersRequest -> Operation;
    /// Unwinds a running drain, or returns a drained peer to the status that it had before.
    record undrain_peer = UndrainPeer("PeerService", "UndrainPeer"): UndrainPeerRequest -> Peer;
    /// Lists operations, newest first, all pages at one revision.
    read list_operations = ListOperations("OperationService", "ListOperations"): ListOperationsRequest -> ListOperationsResponse;
    /// One operation. For a long poll use [`Client::wait_operation`].
    read get_operation = GetOperation("OperationService", "GetOperation"): GetOperationRequest -> Operation;
    /// Cancels a running operation and unwinds what it did.
    record cancel_operation = CancelOperation("OperationService", "CancelOperation"): CancelOperationRequest -> Operation;
    /// Lists requests for approval, newest first, all pages at one revision.
    read list_approvals = ListApprovals("ApprovalService", "ListApprovals"): ListApprovalsRequest -> ListApprovalsResponse;
    /// One request for approval, with what it would change.
    read get_approval = GetApproval("ApprovalService", "GetApproval"): GetApprovalRequest -> Approval;
    /// Agrees to a request of somebody else. The last who has to agree carries it out.
    record approve_approval = ApproveApproval("ApprovalService", "ApproveApproval"): ApproveApprovalRequest -> Approval;
    /// Says no to a request, or takes it back.
    record reject_approval = RejectApproval("ApprovalService", "RejectApproval"): RejectApprovalRequest -> Approval;
    /// Lists the audit trail in order of revision, or newest first.
    read list_audit_records = ListAuditRecords("AuditService", "ListAuditRecords"): ListAuditRecordsRequest -> ListAuditRecordsResponse;
    /// Lists the audit trail's signed checkpoints in order of revision.
    read list_audit_checkpoints = ListAuditCheckpoints("AuditService", "ListAuditCheckpoints"): ListAuditCheckpointsRequest -> ListAuditCheckpointsResponse;
    /// How the cluster is, as the answering node sees it. Answers without a quorum too.
    read get_status = GetStatus("ClusterService", "GetStatus"): GetStatusRequest -> Status;
    /// The nodes of the cluster, and the ids that were removed.
    read list_members = ListMembers("ClusterService", "ListMembers"): ListMembersRequest -> ListMembersResponse;
    /// Takes a node out for good.
    admin remove_member = RemoveMember("ClusterService", "RemoveMember"): RemoveMemberRequest -> ListMembersResponse;
    /// Hands leadership to a voter that has caught up.
    admin transfer_leadership = TransferLeadership("ClusterService", "TransferLeadership"): TransferLeadershipRequest -> Status;
    /// Gives leave for one new node to join within a time.
    admin invite_member = InviteMember("ClusterService", "InviteMember"): InviteMemberRequest -> Invitation;
    /// Adds a node that receives the log and does not vote.
    admin add_member = AddMember("ClusterService", "AddMember"): AddMemberRequest -> ListMembersResponse;
    /// Lets a node vote that has caught up.
    admin promote_member = PromoteMember("ClusterService", "PromoteMember"): PromoteMemberRequest -> ListMembersResponse;
    /// What is wrong with which node.
    read list_alarms = ListAlarms("ClusterService", "ListAlarms"): ListAlarmsRequest -> ListAlarmsResponse;
    /// Takes an alarm down.
    admin disarm_alarm = DisarmAlarm("ClusterService", "DisarmAlarm"): DisarmAlarmRequest -> ListAlarmsResponse;
    /// How much history there is.
    read get_history = GetHistory("ClusterService", "GetHistory"): GetHistoryRequest -> History;
    /// Lets go of history and audit below a revision.
    record compact_history = CompactHistory("ClusterService", "CompactHistory"): CompactHistoryRequest -> Compaction;
    /// What the nodes can do, and what is in force.
    read get_upgrade = GetUpgrade("ClusterService", "GetUpgrade"): GetUpgradeRequest -> Upgrade;
    /// Raises the feature level to what every node can do.
    record finalize_upgrade = FinalizeUpgrade("ClusterService", "FinalizeUpgrade"): FinalizeUpgradeRequest -> FeatureLevel;
    /// Lists cluster descriptors in order of id, all pages at one revision.
    read list_clusters = ListClusters("ClusterDescriptorService", "ListClusters"): ListClustersRequest -> ListClustersResponse;
    /// One cluster's descriptor.
    read get_cluster = GetCluster("ClusterDescriptorService", "GetCluster"): GetClusterRequest -> Cluster;
    /// Writes a cluster's descriptor, whole.
    record apply_cluster = ApplyCluster("ClusterDescriptorService", "ApplyCluster"): ApplyClusterRequest -> Cluster;
    /// Makes a passive cluster the active one.
    record promote_cluster = PromoteCluster("ClusterDescriptorService", "PromoteCluster"): PromoteClusterRequest -> Cluster;
    /// Makes the active cluster a passive one.
    record demote_cluster = DemoteCluster("ClusterDescriptorService", "DemoteCluster"): DemoteClusterRequest -> Cluster;
    /// Lists namespaces in order of id, all pages at one revision.
    read list_namespaces = ListNamespaces("NamespaceService", "ListNamespaces"): ListNamespacesRequest -> ListNamespacesResponse;
    /// One namespace.
    read get_namespace = GetNamespace("NamespaceService", "GetNamespace"): GetNamespaceRequest -> Namespace;
    /// Makes a namespace. Its shards are made by the operation that the answer names.
    record create_namespace = CreateNamespace("NamespaceService", "CreateNamespace"): CreateNamespaceRequest -> Namespace;
    /// Changes by which preference shards are placed, and how many copies there are.
    record reshape_namespace = ReshapeNamespace("NamespaceService", "ReshapeNamespace"): ReshapeNamespaceRequest -> Namespace;
    /// Changes what a namespace's moves are held to, whole.
    record set_namespace_policy = SetNamespacePolicy("NamespaceService", "SetNamespacePolicy"): SetNamespacePolicyRequest -> Namespace;
    /// Takes a namespace away by an operation.
    record delete_namespace = DeleteNamespace("NamespaceService", "DeleteNamespace"): DeleteNamespaceRequest -> Namespace;
    /// Lists shards in order of namespace and number, all pages at one revision.
    read list_shards = ListShards("ShardService", "ListShards"): ListShardsRequest -> ListShardsResponse;
    /// One shard, as it is or as it was.
    read get_shard = GetShard("ShardService", "GetShard"): GetShardRequest -> Shard;
    /// The shard that a key belongs to. Whoever asks often keeps a [`ShardMap`](crate::ShardMap).
    read locate_shard = LocateShard("ShardService", "LocateShard"): LocateShardRequest -> Shard;
    /// What became of a shard, newest first.
    read list_shard_history = ListShardHistory("ShardService", "ListShardHistory"): ListShardHistoryRequest -> ListShardHistoryResponse;
    /// What differs between two revisions.
    read diff_shards = DiffShards("ShardService", "DiffShards"): DiffShardsRequest -> DiffShardsResponse;
    /// What a change would move. Nothing is done.
    read simulate_shards = SimulateShards("ShardService", "SimulateShards"): SimulateShardsRequest -> SimulateShardsResponse;
    /// Begins to move a shard to another owner.
    record move_shard = MoveShard("ShardService", "MoveShard"): MoveShardRequest -> Shard;
    /// Gives a move up that has not switched yet.
    record cancel_move = CancelMove("ShardService", "CancelMove"): CancelMoveRequest -> Shard;
    /// A peer has done what a move waits for from it.
    record acknowledge_move = AcknowledgeMove("ShardService", "AcknowledgeMove"): AcknowledgeMoveRequest -> Shard;
    /// The shard stays where it is, and is served.
    record pause_shard = PauseShard("ShardService", "PauseShard"): PauseShardRequest -> Shard;
    /// A paused shard may be moved again.
    record resume_shard = ResumeShard("ShardService", "ResumeShard"): ResumeShardRequest -> Shard;
    /// Nobody serves the shard.
    record disable_shard = DisableShard("ShardService", "DisableShard"): DisableShardRequest -> Shard;
    /// The owner of a disabled shard serves it again, under a new token.
    record enable_shard = EnableShard("ShardService", "EnableShard"): EnableShardRequest -> Shard;
    /// A peer says that it is there, and is told for how long it may serve; a [`Peer`](crate::peer::Peer) does so by itself.
    leader heartbeat = Heartbeat("PresenceService", "Heartbeat"): HeartbeatRequest -> HeartbeatResponse;
    /// What the leader has heard of peers, in order of id.
    read list_presence = ListPresence("PresenceService", "ListPresence"): ListPresenceRequest -> ListPresenceResponse;
    /// All settings.
    read get_config = GetConfig("ConfigService", "GetConfig"): GetConfigRequest -> Config;
    /// Sets settings; those that are not named stay.
    record patch_config = PatchConfig("ConfigService", "PatchConfig"): PatchConfigRequest -> Config;
    /// Versions of the settings, newest first.
    read list_config_versions = ListConfigVersions("ConfigService", "ListConfigVersions"): ListConfigVersionsRequest -> ListConfigVersionsResponse;
    /// Goes back to the settings as they were at a revision.
    record rollback_config = RollbackConfig("ConfigService", "RollbackConfig"): RollbackConfigRequest -> Config;
    /// Everything that helps to find out what is wrong with the answering node.
    read get_node_report = GetNodeReport("NodeService", "GetNodeReport"): GetNodeReportRequest -> NodeReport;
    /// Changes how much the answering node logs, for a while.
    read set_log_level = SetLogLevel("NodeService", "SetLogLevel"): SetLogLevelRequest -> LogLevel;
    /// Whether the caller may do something.
    read can_i = CanI("AuthService", "CanI"): CanIRequest -> CanIResponse;
    /// Everything that can be asked of a node, and whether the caller may.
    read list_actions = ListActions("AuthService", "ListActions"): ListActionsRequest -> ListActionsResponse;
    /// Trades the token for a session of a browser; its cookie is in the answer's metadata.
    read begin_session = BeginSession("AuthService", "BeginSession"): BeginSessionRequest -> Session;
    /// The session that the request's cookie names.
    read get_session = GetSession("AuthService", "GetSession"): GetSessionRequest -> Session;
    /// Ends the session that the request's cookie names.
    read end_session = EndSession("AuthService", "EndSession"): EndSessionRequest -> EndSessionsResponse;
    /// Ends all sessions of a principal.
    read revoke_sessions = RevokeSessions("AuthService", "RevokeSessions"): RevokeSessionsRequest -> EndSessionsResponse;
}

/// Streams a backup of the whole mesh: see [`Client::save_backup`].
#[derive(Debug, Clone, Copy)]
pub struct SaveBackup;

impl Method for SaveBackup {
    type Request = v1::SaveBackupRequest;
    type Response = v1::BackupChunk;
    const PATH: &'static str = "/meshkit.v1.BackupService/SaveBackup";
    const MUTATION: bool = false;
    fn key(_: &mut Self::Request) -> Option<&mut String> {
        None
    }
    fn is_dry_run(_: &Self::Request) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Method as _, SaveBackup};

    /// Every method of the contract has a call, and mutations are marked as the contract marks them.
    #[test]
    fn the_calls_are_those_of_the_contract() {
        let mut contract: Vec<(&str, bool)> = proto::methods::all()
            .iter()
            .map(|method| (method.path.as_str(), method.mutation))
            .collect();
        let mut calls = super::ALL.to_vec();
        calls.push((SaveBackup::PATH, SaveBackup::MUTATION));
        calls.extend_from_slice(crate::watch::ALL);
        contract.sort_unstable();
        calls.sort_unstable();
        assert_eq!(calls, contract);
    }
}

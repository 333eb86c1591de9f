//! A node that answers as it is told, and remembers what it was asked. Speaks real gRPC on a real socket.
#![allow(dead_code, reason = "each of the test programs that use it uses a part")]

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::v1::{
    self, Problem, audit_service_server::AuditServiceServer, auth_service_server::AuthServiceServer,
    cluster_service_server::ClusterServiceServer, operation_service_server::OperationServiceServer,
    peer_service_server::PeerServiceServer,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Code, Request, Response, Status, body::Body};
use tower::Service as _;

/// What the node says to one request.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a handful of them, in tests")]
pub enum Reply {
    /// The encoded response, and metadata beside it.
    Message(Vec<u8>, Vec<(&'static str, String)>),
    /// A refusal with its problem document.
    Problem(Code, Problem),
    /// A gRPC status without details, as a proxy would send.
    Bare(Code, &'static str),
    /// Nothing, for longer than anybody waits.
    Silence,
}

impl Reply {
    /// A message without metadata.
    pub fn ok(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec(), Vec::new())
    }

    /// The usual metadata of a mutation's answer.
    pub fn at(message: &impl Message, revision: u64) -> Self {
        let metadata = vec![
            ("mesh-revision", revision.to_string()),
            ("mesh-epoch", "1".to_owned()),
            ("etag", format!("e{revision}")),
        ];
        Self::Message(message.encode_to_vec(), metadata)
    }

    /// `not_leader`, naming a leader's endpoint where there is one.
    pub fn not_leader(api: Option<&str>) -> Self {
        let leader = api.map(|api| v1::problem::Leader {
            id: 9,
            api: api.to_owned(),
        });
        let problem = Problem {
            code: "not_leader".into(),
            detail: "node 1 follows".into(),
            retryable: true,
            leader,
            ..Problem::default()
        };
        Self::Problem(Code::Unavailable, problem)
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: &'static str,
    pub body: Vec<u8>,
    pub metadata: BTreeMap<String, String>,
}

impl Asked {
    /// The request message.
    pub fn message<M: Message + Default>(&self) -> M {
        M::decode(self.body.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", self.method))
    }
}

/// The node. Clones are the same node.
#[derive(Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    replies: BTreeMap<&'static str, VecDeque<Reply>>,
    asked: Vec<Asked>,
}

impl Fake {
    /// Adds what to say to the next requests of `method`; the last reply stands for all later ones.
    pub fn says(&self, method: &'static str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        self.lock().replies.entry(method).or_default().extend(replies);
        self
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// Serves without TLS on a port of its own until the test ends.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        tokio::spawn(self.clone().accept(listener));
        address
    }

    /// Serves what the listener accepts.
    pub async fn accept(self, listener: tokio::net::TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().connection(stream));
        }
    }

    /// Speaks HTTP/2 on one stream until it ends.
    pub async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request: http::Request<Incoming>| self.clone().dispatch(request));
        let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        drop(serving.await);
    }

    /// Answers one request, over whatever it came.
    pub async fn dispatch<B>(self, request: http::Request<B>) -> Result<http::Response<Body>, Infallible>
    where
        B: hyper::body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        match service.as_str() {
            "meshkit.v1.PeerService" => PeerServiceServer::new(self).call(request).await,
            "meshkit.v1.OperationService" => OperationServiceServer::new(self).call(request).await,
            "meshkit.v1.ApprovalService" => {
                v1::approval_service_server::ApprovalServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.AuditService" => AuditServiceServer::new(self).call(request).await,
            "meshkit.v1.ClusterService" => ClusterServiceServer::new(self).call(request).await,
            "meshkit.v1.ClusterDescriptorService" => {
                v1::cluster_descriptor_service_server::ClusterDescriptorServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.ConfigService" => {
                v1::config_service_server::ConfigServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.NodeService" => {
                v1::node_service_server::NodeServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.BackupService" => {
                v1::backup_service_server::BackupServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.NamespaceService" => {
                v1::namespace_service_server::NamespaceServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.ShardService" => {
                v1::shard_service_server::ShardServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.PresenceService" => {
                v1::presence_service_server::PresenceServiceServer::new(self)
                    .call(request)
                    .await
            }
            "meshkit.v1.AuthService" => AuthServiceServer::new(self).call(request).await,
            _ => Ok(Status::unimplemented("no such service").into_http()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let metadata = request.metadata().iter().filter_map(|entry| match entry {
            tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                Some((key.to_string(), value.to_str().ok()?.to_owned()))
            }
            tonic::metadata::KeyAndValueRef::Binary(..) => None,
        });
        let asked = Asked {
            method,
            metadata: metadata.collect(),
            body: request.get_ref().encode_to_vec(),
        };
        let reply = {
            let mut state = self.lock();
            state.asked.push(asked);
            let replies = state.replies.entry(method).or_default();
            if replies.len() > 1 {
                replies.pop_front()
            } else {
                replies.front().cloned()
            }
        };
        match reply {
            None => Err(Status::unimplemented(format!("nothing to say to {method}"))),
            Some(Reply::Bare(code, message)) => Err(Status::new(code, message)),
            Some(Reply::Silence) => {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                Err(Status::internal("nobody waits for this"))
            }
            Some(Reply::Problem(code, problem)) => Err(status(code, &problem)),
            Some(Reply::Message(bytes, metadata)) => {
                let mut response =
                    Response::new(A::decode(bytes.as_slice()).map_err(|error| Status::internal(error.to_string()))?);
                for (name, value) in metadata {
                    // As it is on the wire: what is binary is in base64 already.
                    let value = http::HeaderValue::try_from(value).map_err(|_| Status::internal("metadata"))?;
                    response.metadata_mut().as_mut().insert(name, value);
                }
                Ok(response)
            }
        }
    }
}

/// A status as the server builds it: ErrorInfo and Problem among the details.
pub fn status(code: Code, problem: &Problem) -> Status {
    let info = tonic_types::pb::ErrorInfo {
        reason: problem.code.clone(),
        domain: "meshkit".into(),
        ..Default::default()
    };
    let any = |name: &str, value| prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    let details = vec![
        any("google.rpc.ErrorInfo", info.encode_to_vec()),
        any("meshkit.v1.Problem", problem.encode_to_vec()),
    ];
    let body = tonic_types::pb::Status {
        code: code.into(),
        message: problem.detail.clone(),
        details,
    };
    Status::with_details(code, problem.detail.clone(), body.encode_to_vec().into())
}

/// Metadata of a `SaveBackup` reply: break off after the data.
pub const BREAKS_OFF: &str = "fake-breaks-off";

#[tonic::async_trait]
impl v1::backup_service_server::BackupService for Fake {
    type SaveBackupStream =
        std::pin::Pin<Box<dyn tonic::codegen::tokio_stream::Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

    /// The data of one reply, in small pieces.
    async fn save_backup(
        &self,
        request: Request<v1::SaveBackupRequest>,
    ) -> Result<Response<Self::SaveBackupStream>, Status> {
        let whole: Response<v1::BackupChunk> = self.handle("SaveBackup", request).await?;
        let breaks_off = whole.metadata().contains_key(BREAKS_OFF);
        let data = whole.into_inner().data;
        let mut chunks: Vec<_> = data
            .chunks(1000)
            .map(|data| Ok(v1::BackupChunk { data: data.to_vec() }))
            .collect();
        if breaks_off {
            chunks.push(Err(Status::unavailable("the connection broke")));
        }
        Ok(Response::new(Box::pin(tonic::codegen::tokio_stream::iter(chunks))))
    }
}

macro_rules! services {
    ($($module:ident::$service:ident { $($method:ident = $name:literal ($request:ident) -> $response:ident;)* })*) => {
        $(
            #[tonic::async_trait]
            impl v1::$module::$service for Fake {
                $(
                    async fn $method(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                        self.handle($name, request).await
                    }
                )*
            }
        )*
    };
}

services! {
    peer_service_server::PeerService {
        list_peers = "ListPeers" (ListPeersRequest) -> ListPeersResponse;
        get_peer = "GetPeer" (GetPeerRequest) -> Peer;
        register_peer = "RegisterPeer" (RegisterPeerRequest) -> Peer;
        patch_peer = "PatchPeer" (PatchPeerRequest) -> Peer;
        deregister_peer = "DeregisterPeer" (DeregisterPeerRequest) -> Peer;
        cordon_peer = "CordonPeer" (CordonPeerRequest) -> Peer;
        uncordon_peer = "UncordonPeer" (UncordonPeerRequest) -> Peer;
        drain_peer = "DrainPeer" (DrainPeerRequest) -> Peer;
        drain_peers = "DrainPeers" (DrainPeersRequest) -> Operation;
        undrain_peer = "UndrainPeer" (UndrainPeerRequest) -> Peer;
    }
    operation_service_server::OperationService {
        list_operations = "ListOperations" (ListOperationsRequest) -> ListOperationsResponse;
        get_operation = "GetOperation" (GetOperationRequest) -> Operation;
        cancel_operation = "CancelOperation" (CancelOperationRequest) -> Operation;
    }
    namespace_service_server::NamespaceService {
        list_namespaces = "ListNamespaces" (ListNamespacesRequest) -> ListNamespacesResponse;
        get_namespace = "GetNamespace" (GetNamespaceRequest) -> Namespace;
        create_namespace = "CreateNamespace" (CreateNamespaceRequest) -> Namespace;
        reshape_namespace = "ReshapeNamespace" (ReshapeNamespaceRequest) -> Namespace;
        set_namespace_policy = "SetNamespacePolicy" (SetNamespacePolicyRequest) -> Namespace;
        delete_namespace = "DeleteNamespace" (DeleteNamespaceRequest) -> Namespace;
    }
    shard_service_server::ShardService {
        list_shards = "ListShards" (ListShardsRequest) -> ListShardsResponse;
        get_shard = "GetShard" (GetShardRequest) -> Shard;
        locate_shard = "LocateShard" (LocateShardRequest) -> Shard;
        list_shard_history = "ListShardHistory" (ListShardHistoryRequest) -> ListShardHistoryResponse;
        diff_shards = "DiffShards" (DiffShardsRequest) -> DiffShardsResponse;
        simulate_shards = "SimulateShards" (SimulateShardsRequest) -> SimulateShardsResponse;
        move_shard = "MoveShard" (MoveShardRequest) -> Shard;
        cancel_move = "CancelMove" (CancelMoveRequest) -> Shard;
        acknowledge_move = "AcknowledgeMove" (AcknowledgeMoveRequest) -> Shard;
        pause_shard = "PauseShard" (PauseShardRequest) -> Shard;
        resume_shard = "ResumeShard" (ResumeShardRequest) -> Shard;
        disable_shard = "DisableShard" (DisableShardRequest) -> Shard;
        enable_shard = "EnableShard" (EnableShardRequest) -> Shard;
    }
    presence_service_server::PresenceService {
        heartbeat = "Heartbeat" (HeartbeatRequest) -> HeartbeatResponse;
        list_presence = "ListPresence" (ListPresenceRequest) -> ListPresenceResponse;
    }
    approval_service_server::ApprovalService {
        list_approvals = "ListApprovals" (ListApprovalsRequest) -> ListApprovalsResponse;
        get_approval = "GetApproval" (GetApprovalRequest) -> Approval;
        approve_approval = "ApproveApproval" (ApproveApprovalRequest) -> Approval;
        reject_approval = "RejectApproval" (RejectApprovalRequest) -> Approval;
    }
    audit_service_server::AuditService {
        list_audit_records = "ListAuditRecords" (ListAuditRecordsRequest) -> ListAuditRecordsResponse;
        list_audit_checkpoints = "ListAuditCheckpoints" (ListAuditCheckpointsRequest) -> ListAuditCheckpointsResponse;
    }
    cluster_service_server::ClusterService {
        get_status = "GetStatus" (GetStatusRequest) -> Status;
        list_members = "ListMembers" (ListMembersRequest) -> ListMembersResponse;
        remove_member = "RemoveMember" (RemoveMemberRequest) -> ListMembersResponse;
        transfer_leadership = "TransferLeadership" (TransferLeadershipRequest) -> Status;
        invite_member = "InviteMember" (InviteMemberRequest) -> Invitation;
        add_member = "AddMember" (AddMemberRequest) -> ListMembersResponse;
        promote_member = "PromoteMember" (PromoteMemberRequest) -> ListMembersResponse;
        list_alarms = "ListAlarms" (ListAlarmsRequest) -> ListAlarmsResponse;
        disarm_alarm = "DisarmAlarm" (DisarmAlarmRequest) -> ListAlarmsResponse;
        get_history = "GetHistory" (GetHistoryRequest) -> History;
        compact_history = "CompactHistory" (CompactHistoryRequest) -> Compaction;
        get_upgrade = "GetUpgrade" (GetUpgradeRequest) -> Upgrade;
        finalize_upgrade = "FinalizeUpgrade" (FinalizeUpgradeRequest) -> FeatureLevel;
    }
    cluster_descriptor_service_server::ClusterDescriptorService {
        list_clusters = "ListClusters" (ListClustersRequest) -> ListClustersResponse;
        get_cluster = "GetCluster" (GetClusterRequest) -> Cluster;
        apply_cluster = "ApplyCluster" (ApplyClusterRequest) -> Cluster;
        promote_cluster = "PromoteCluster" (PromoteClusterRequest) -> Cluster;
        demote_cluster = "DemoteCluster" (DemoteClusterRequest) -> Cluster;
    }
    config_service_server::ConfigService {
        get_config = "GetConfig" (GetConfigRequest) -> Config;
        patch_config = "PatchConfig" (PatchConfigRequest) -> Config;
        list_config_versions = "ListConfigVersions" (ListConfigVersionsRequest) -> ListConfigVersionsResponse;
        rollback_config = "RollbackConfig" (RollbackConfigRequest) -> Config;
    }
    node_service_server::NodeService {
        get_node_report = "GetNodeReport" (GetNodeReportRequest) -> NodeReport;
        set_log_level = "SetLogLevel" (SetLogLevelRequest) -> LogLevel;
    }
    auth_service_server::AuthService {
        can_i = "CanI" (CanIRequest) -> CanIResponse;
        list_actions = "ListActions" (ListActionsRequest) -> ListActionsResponse;
        begin_session = "BeginSession" (BeginSessionRequest) -> Session;
        get_session = "GetSession" (GetSessionRequest) -> Session;
        end_session = "EndSession" (EndSessionRequest) -> EndSessionsResponse;
        revoke_sessions = "RevokeSessions" (RevokeSessionsRequest) -> EndSessionsResponse;
    }
}

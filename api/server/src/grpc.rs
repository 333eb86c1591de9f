//! The gRPC services of the node behind one door, for callers from the network and for REST in process alike.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use proto::{
    codes::Code,
    v1::{
        self, approval_service_server::ApprovalServiceServer, audit_service_server::AuditServiceServer,
        auth_service_server::AuthServiceServer, backup_service_server::BackupServiceServer,
        cluster_descriptor_service_server::ClusterDescriptorServiceServer,
        cluster_service_server::ClusterServiceServer, config_service_server::ConfigServiceServer,
        namespace_service_server::NamespaceServiceServer, node_service_server::NodeServiceServer,
        operation_service_server::OperationServiceServer, peer_service_server::PeerServiceServer,
        presence_service_server::PresenceServiceServer, shard_service_server::ShardServiceServer,
    },
};
use tonic::{Status, body::Body, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tower::{Service, util::BoxCloneSyncService};

use crate::{Error, body::RequestBody, core::Core, error::CODE, made, services};

/// Which service a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Peers,
    Operations,
    Approvals,
    Audit,
    Cluster,
    Clusters,
    Namespaces,
    Shards,
    Presence,
    Config,
    Backup,
    Node,
    Auth,
    /// No service of the library: watches make their own answers (see [`crate::watch`]).
    Watch,
    Health,
    Reflection,
}

impl Target {
    /// The service of a path such as `/meshkit.v1.PeerService/DrainPeer`.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        match service {
            "meshkit.v1.PeerService" => Some(Self::Peers),
            "meshkit.v1.OperationService" => Some(Self::Operations),
            "meshkit.v1.ApprovalService" => Some(Self::Approvals),
            "meshkit.v1.AuditService" => Some(Self::Audit),
            "meshkit.v1.ClusterService" => Some(Self::Cluster),
            "meshkit.v1.ClusterDescriptorService" => Some(Self::Clusters),
            "meshkit.v1.NamespaceService" => Some(Self::Namespaces),
            "meshkit.v1.ShardService" => Some(Self::Shards),
            "meshkit.v1.PresenceService" => Some(Self::Presence),
            "meshkit.v1.ConfigService" => Some(Self::Config),
            "meshkit.v1.NodeService" => Some(Self::Node),
            "meshkit.v1.BackupService" => Some(Self::Backup),
            "meshkit.v1.AuthService" => Some(Self::Auth),
            v1::watch_service_server::SERVICE_NAME => Some(Self::Watch),
            "grpc.health.v1.Health" => Some(Self::Health),
            "grpc.reflection.v1.ServerReflection" => Some(Self::Reflection),
            _ => None,
        }
    }
}

/// All services.
#[derive(Clone)]
pub(crate) struct Services {
    peers: PeerServiceServer<services::Api>,
    operations: OperationServiceServer<services::Api>,
    approvals: ApprovalServiceServer<services::Api>,
    audit: AuditServiceServer<services::Api>,
    cluster: ClusterServiceServer<services::Api>,
    clusters: ClusterDescriptorServiceServer<services::Api>,
    namespaces: NamespaceServiceServer<services::Api>,
    shards: ShardServiceServer<services::Api>,
    presence: PresenceServiceServer<services::Api>,
    config: ConfigServiceServer<services::Api>,
    node: NodeServiceServer<services::Api>,
    backup: BackupServiceServer<services::Api>,
    auth: AuthServiceServer<services::Api>,
    health: HealthServer<services::Api>,
    reflection: BoxCloneSyncService<Request<RequestBody>, Response<Body>, Infallible>,
}

impl Services {
    pub(crate) fn new(core: Arc<Core>) -> Result<Self, tonic_reflection::server::Error> {
        let limit = core.config.limits.body_bytes_max;
        let api = Arc::new(services::Api::new(core));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?
            .max_decoding_message_size(limit);
        Ok(Self {
            peers: PeerServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            operations: OperationServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            approvals: ApprovalServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            audit: AuditServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            cluster: ClusterServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            clusters: ClusterDescriptorServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            namespaces: NamespaceServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            shards: ShardServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            presence: PresenceServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            config: ConfigServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            node: NodeServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            backup: BackupServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            auth: AuthServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            health: HealthServer::from_arc(api).max_decoding_message_size(limit),
            reflection: BoxCloneSyncService::new(reflection),
        })
    }

    /// Lets a service answer. The services are always ready, and never fail but by a status.
    pub(crate) async fn call(&self, target: Target, request: Request<RequestBody>) -> Response<Body> {
        // Cloning a service clones a reference count.
        let answer: Result<_, Infallible> = match target {
            Target::Peers => self.peers.clone().call(request).await,
            Target::Operations => self.operations.clone().call(request).await,
            Target::Approvals => self.approvals.clone().call(request).await,
            Target::Audit => self.audit.clone().call(request).await,
            Target::Cluster => self.cluster.clone().call(request).await,
            Target::Clusters => self.clusters.clone().call(request).await,
            Target::Namespaces => self.namespaces.clone().call(request).await,
            Target::Shards => self.shards.clone().call(request).await,
            Target::Presence => self.presence.clone().call(request).await,
            Target::Config => self.config.clone().call(request).await,
            Target::Node => self.node.clone().call(request).await,
            Target::Backup => self.backup.clone().call(request).await,
            Target::Auth => self.auth.clone().call(request).await,
            Target::Watch => Ok(refusal(unimplemented(), "")),
            Target::Health => self.health.clone().call(request).await,
            Target::Reflection => self.reflection.clone().call(request).await,
        };
        match answer {
            Ok(response) => made::in_place(response),
            Err(never) => match never {},
        }
    }
}

/// The names of the services that are served, for tests that hold them against the contract.
pub(crate) fn served() -> [&'static str; 14] {
    [
        <PeerServiceServer<services::Api> as NamedService>::NAME,
        <OperationServiceServer<services::Api> as NamedService>::NAME,
        <ApprovalServiceServer<services::Api> as NamedService>::NAME,
        <AuditServiceServer<services::Api> as NamedService>::NAME,
        <ClusterServiceServer<services::Api> as NamedService>::NAME,
        <ClusterDescriptorServiceServer<services::Api> as NamedService>::NAME,
        <NamespaceServiceServer<services::Api> as NamedService>::NAME,
        <ShardServiceServer<services::Api> as NamedService>::NAME,
        <PresenceServiceServer<services::Api> as NamedService>::NAME,
        <ConfigServiceServer<services::Api> as NamedService>::NAME,
        <NodeServiceServer<services::Api> as NamedService>::NAME,
        <BackupServiceServer<services::Api> as NamedService>::NAME,
        <AuthServiceServer<services::Api> as NamedService>::NAME,
        v1::watch_service_server::SERVICE_NAME,
    ]
}

/// Whether a request is gRPC. HTTP/1.1 cannot carry it.
pub(crate) fn is_grpc(head: &http::request::Parts) -> bool {
    let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    matches!(head.version, http::Version::HTTP_2 | http::Version::HTTP_3)
        && content_type.is_some_and(|value| {
            value
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest, b"" | b"+proto") || rest[0] == b';')
        })
}

/// The answer that a refusal is in gRPC: a status without a body.
pub(crate) fn refusal(error: Error, request_id: &str) -> Response<Body> {
    error.into_status(request_id).into_http()
}

/// Gives refusals that the gRPC library made up itself (a message that does not decode, an unknown method) the form
/// of all others.
pub(crate) fn normalise(response: Response<Body>, request_id: &str) -> Response<Body> {
    let headers: &HeaderMap = response.headers();
    if headers.contains_key(CODE) || !headers.contains_key(Status::GRPC_STATUS) {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(status) if status.code() != tonic::Code::Ok => refusal(ours(&status), request_id),
        _ => response,
    }
}

fn ours(status: &Status) -> Error {
    let found = Error::from_status(status);
    if !found.problem().hint.is_empty() || !found.problem().limit.is_empty() {
        return found;
    }
    let text = status.message();
    match status.code() {
        tonic::Code::OutOfRange if text.contains("message length too large") => Error::new(Code::TooLarge, text),
        tonic::Code::Internal if text.contains("decode") => Error::new(Code::InvalidArgument, text)
            .hint("the message does not decode: compare the contract that the client was built from"),
        tonic::Code::Internal if text.contains("Missing request message") => no_message(),
        tonic::Code::Unimplemented if text.is_empty() => unimplemented(),
        _ => found,
    }
}

/// A request without what is asked for, or with more than one message.
pub(crate) fn no_message() -> Error {
    Error::new(Code::InvalidArgument, "the request is not one message")
}

/// No such RPC.
pub(crate) fn unimplemented() -> Error {
    Error::new(Code::Unimplemented, "there is no such RPC here")
        .hint("server reflection lists what there is; a newer client may know more than this node")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_the_contract_is_served() {
        for method in proto::methods::all() {
            assert!(Target::of(&method.path).is_some(), "{}", method.path);
            let service = method.path.split('/').nth(1).unwrap();
            assert!(served().contains(&service), "{service}");
        }
    }

    #[test]
    fn what_the_library_says_becomes_ours() {
        for (status, code) in [
            (
                Status::out_of_range("Error, decoded message length too large: found 9"),
                Code::TooLarge,
            ),
            (
                Status::internal("failed to decode Protobuf message: x"),
                Code::InvalidArgument,
            ),
            (Status::new(tonic::Code::Unimplemented, ""), Code::Unimplemented),
            (Status::internal("Missing request message."), Code::InvalidArgument),
        ] {
            let normal = normalise(status.into_http(), "r");
            assert_eq!(normal.headers()[CODE], code.as_str());
            let back = Error::from_status(&Status::from_header_map(normal.headers()).unwrap());
            assert_eq!(back.problem().request_id, "r");
        }
    }
}

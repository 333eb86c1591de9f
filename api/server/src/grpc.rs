//! The gRPC services of the node behind one door, for callers from the network and for REST in process alike.

use std::{convert::Infallible, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use proto::{
    codes::Code,
    v1::{
        audit_service_server::AuditServiceServer, auth_service_server::AuthServiceServer,
        backup_service_server::BackupServiceServer, cluster_descriptor_service_server::ClusterDescriptorServiceServer,
        cluster_service_server::ClusterServiceServer, config_service_server::ConfigServiceServer,
        node_service_server::NodeServiceServer, operation_service_server::OperationServiceServer,
        peer_service_server::PeerServiceServer,
    },
};
use tonic::{Status, body::Body, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tower::{Service, util::BoxCloneSyncService};

use crate::{Error, body::RequestBody, core::Core, error::CODE, services};

/// Length of the head of a gRPC message: a flag and the message's length.
const MESSAGE_HEAD_BYTES: usize = 5;

/// Which service a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Peers,
    Operations,
    Audit,
    Cluster,
    Clusters,
    Config,
    Backup,
    Node,
    Auth,
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
            "meshkit.v1.AuditService" => Some(Self::Audit),
            "meshkit.v1.ClusterService" => Some(Self::Cluster),
            "meshkit.v1.ClusterDescriptorService" => Some(Self::Clusters),
            "meshkit.v1.ConfigService" => Some(Self::Config),
            "meshkit.v1.NodeService" => Some(Self::Node),
            "meshkit.v1.BackupService" => Some(Self::Backup),
            "meshkit.v1.AuthService" => Some(Self::Auth),
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
    audit: AuditServiceServer<services::Api>,
    cluster: ClusterServiceServer<services::Api>,
    clusters: ClusterDescriptorServiceServer<services::Api>,
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
            audit: AuditServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            cluster: ClusterServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
            clusters: ClusterDescriptorServiceServer::from_arc(Arc::clone(&api)).max_decoding_message_size(limit),
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
            Target::Audit => self.audit.clone().call(request).await,
            Target::Cluster => self.cluster.clone().call(request).await,
            Target::Clusters => self.clusters.clone().call(request).await,
            Target::Config => self.config.clone().call(request).await,
            Target::Node => self.node.clone().call(request).await,
            Target::Backup => self.backup.clone().call(request).await,
            Target::Auth => self.auth.clone().call(request).await,
            Target::Health => self.health.clone().call(request).await,
            Target::Reflection => self.reflection.clone().call(request).await,
        };
        match answer {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The names of the services that are served, for tests that hold them against the contract.
pub(crate) fn served() -> [&'static str; 9] {
    [
        <PeerServiceServer<services::Api> as NamedService>::NAME,
        <OperationServiceServer<services::Api> as NamedService>::NAME,
        <AuditServiceServer<services::Api> as NamedService>::NAME,
        <ClusterServiceServer<services::Api> as NamedService>::NAME,
        <ClusterDescriptorServiceServer<services::Api> as NamedService>::NAME,
        <ConfigServiceServer<services::Api> as NamedService>::NAME,
        <NodeServiceServer<services::Api> as NamedService>::NAME,
        <BackupServiceServer<services::Api> as NamedService>::NAME,
        <AuthServiceServer<services::Api> as NamedService>::NAME,
    ]
}

/// Whether a request is gRPC. HTTP/1.1 cannot carry it.
pub(crate) fn is_grpc(head: &http::request::Parts) -> bool {
    let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    head.version == http::Version::HTTP_2
        && content_type.is_some_and(|value| {
            value
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest, b"" | b"+proto") || rest[0] == b';')
        })
}

/// A message as the body of a gRPC request.
pub(crate) fn frame(message: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(message.len()).ok()?;
    let mut framed = BytesMut::with_capacity(MESSAGE_HEAD_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    Some(framed.freeze())
}

/// The one message in the body of a gRPC answer or request.
pub(crate) fn unframe(mut body: Bytes) -> Option<Bytes> {
    let (&[flag, a, b, c, d], _) = body.split_first_chunk::<MESSAGE_HEAD_BYTES>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let message = body.split_off(MESSAGE_HEAD_BYTES);
    (flag == 0 && message.len() == length).then_some(message)
}

/// Takes the next message out of the bytes of a stream, if all of it has arrived.
///
/// # Errors
/// The message is compressed, which nothing here asks for.
pub(crate) fn take_message(arrived: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some(&[flag, a, b, c, d]) = arrived.first_chunk::<MESSAGE_HEAD_BYTES>() else {
        return Ok(None);
    };
    if flag != 0 {
        return Err(Error::internal("a message of a stream is compressed").into_status(""));
    }
    let whole = MESSAGE_HEAD_BYTES + u32::from_be_bytes([a, b, c, d]) as usize;
    if arrived.len() < whole {
        return Ok(None);
    }
    let mut message = arrived.split_to(whole).freeze();
    Ok(Some(message.split_off(MESSAGE_HEAD_BYTES)))
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
        tonic::Code::Internal if text.contains("Missing request message") => {
            Error::new(Code::InvalidArgument, "the request has no message")
        }
        tonic::Code::Unimplemented if text.is_empty() => unimplemented(),
        _ => found,
    }
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
    fn frames_read_back() {
        let framed = frame(b"abc").unwrap();
        assert_eq!(unframe(framed.clone()).unwrap(), "abc");
        for bad in [&framed[..4], &framed[..7], b"", b"\x01\0\0\0\x01x", b"\0\0\0\0\x01xx"] {
            assert_eq!(unframe(Bytes::copy_from_slice(bad)), None);
        }
    }

    #[test]
    fn messages_are_taken_out_of_a_stream_as_they_are_completed() {
        let mut arrived = BytesMut::new();
        let all: Vec<u8> = [b"abc".as_slice(), b"", b"de"]
            .iter()
            .flat_map(|message| frame(message).unwrap())
            .collect();
        let mut taken = Vec::new();
        for byte in all {
            arrived.extend_from_slice(&[byte]);
            taken.extend(take_message(&mut arrived).unwrap());
        }
        assert_eq!(
            (taken, arrived.len()),
            (vec!["abc".into(), Bytes::new(), "de".into()], 0)
        );
        let mut compressed = BytesMut::from(&b"\x01\0\0\0\x01x"[..]);
        assert!(take_message(&mut compressed).is_err());
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

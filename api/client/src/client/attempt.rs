//! One request to one endpoint.

use http::uri::PathAndQuery;
use tokio::time::Instant;
use tonic::{Code, Request, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;

use super::Shared;
use crate::{Answer, CallOptions, Consistency, Endpoint, Error, Meta, Method, connect::ConnectError, pool::Connection};

/// Responses larger than this are refused: 1,000 records of the largest size stay far below.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a request failed.
pub(super) enum Failed {
    /// Nothing was sent.
    NotConnected(ConnectError),
    /// The server answered, or the connection broke (`broke`) before it did.
    Refused { error: Error, broke: bool },
}

/// Sends `request` to `endpoint` and waits until `deadline` at most.
pub(super) async fn send<M: Method>(
    shared: &Shared,
    endpoint: &Endpoint,
    request: &M::Request,
    key: &str,
    options: &CallOptions,
    deadline: Instant,
) -> Result<Answer<M::Response>, Failed> {
    let connect_by = deadline.min(Instant::now() + shared.connect_timeout);
    let connection = shared
        .pool
        .get(endpoint, connect_by)
        .await
        .map_err(Failed::NotConnected)?;
    let request = prepare::<M>(shared, request, options, deadline);
    let mut grpc =
        Grpc::with_origin(connection.clone(), connection.origin.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let unary = async {
        grpc.ready().await.map_err(tonic::Status::from_error)?;
        grpc.unary(
            request,
            PathAndQuery::from_static(M::PATH),
            ProstCodec::<M::Request, M::Response>::default(),
        )
        .await
    };
    let status = match tokio::time::timeout_at(deadline, unary).await {
        Ok(Ok(response)) => {
            let mut meta = Meta::read(response.metadata());
            meta.endpoint = endpoint.to_string();
            meta.idempotency_key = key.to_owned();
            return Ok(Answer {
                message: response.into_inner(),
                meta,
            });
        }
        Ok(Err(status)) => status,
        Err(_) => return Err(silent(shared, endpoint)),
    };
    Err(failed(shared, endpoint, &connection, &status).await)
}

/// Begins a stream at `endpoint`, within `deadline`. The stream itself has none.
pub(super) async fn open<M: Method>(
    shared: &Shared,
    endpoint: &Endpoint,
    request: &M::Request,
    options: &CallOptions,
    deadline: Instant,
) -> Result<(Meta, tonic::Streaming<M::Response>), Failed> {
    let connect_by = deadline.min(Instant::now() + shared.connect_timeout);
    let connection = shared
        .pool
        .get(endpoint, connect_by)
        .await
        .map_err(Failed::NotConnected)?;
    let mut request = prepare::<M>(shared, request, options, deadline);
    request.metadata_mut().remove("grpc-timeout");
    let mut grpc =
        Grpc::with_origin(connection.clone(), connection.origin.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let begun = async {
        grpc.ready().await.map_err(tonic::Status::from_error)?;
        grpc.server_streaming(
            request,
            PathAndQuery::from_static(M::PATH),
            ProstCodec::<M::Request, M::Response>::default(),
        )
        .await
    };
    match tokio::time::timeout_at(deadline, begun).await {
        Ok(Ok(response)) => {
            let mut meta = Meta::read(response.metadata());
            meta.endpoint = endpoint.to_string();
            Ok((meta, response.into_inner()))
        }
        Ok(Err(status)) => Err(failed(shared, endpoint, &connection, &status).await),
        Err(_) => Err(silent(shared, endpoint)),
    }
}

/// No answer by the deadline.
fn silent(shared: &Shared, endpoint: &Endpoint) -> Failed {
    // It may be frozen rather than slow: the next call gets a fresh connection.
    shared.pool.forget(endpoint);
    let error = Error::deadline(format!("{endpoint} did not answer in time"), "");
    Failed::Refused { error, broke: true }
}

/// What a status is that came instead of an answer.
async fn failed(shared: &Shared, endpoint: &Endpoint, connection: &Connection, status: &tonic::Status) -> Failed {
    let error = Error::from_status(status);
    let broke = !error.is_remote()
        && (std::error::Error::source(status).is_some()
            || matches!(status.code(), Code::Unavailable | Code::Cancelled));
    if !broke {
        return Failed::Refused { error, broke };
    }
    let ended = connection.why_ended().await;
    shared.pool.forget(endpoint);
    let why = ended.unwrap_or_else(|| error.detail().to_owned());
    Failed::Refused {
        error: broken(endpoint, &why, status.code()),
        broke,
    }
}

fn prepare<M: Method>(
    shared: &Shared,
    message: &M::Request,
    options: &CallOptions,
    deadline: Instant,
) -> Request<M::Request> {
    let mut request = Request::new(message.clone());
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    let metadata = request.metadata_mut();
    if let Some(authorization) = shared.authorization() {
        metadata.insert("authorization", authorization);
    }
    metadata.insert("user-agent", shared.user_agent.clone());
    let consistency = options.consistency.unwrap_or(shared.consistency);
    if consistency != Consistency::Default && !M::MUTATION {
        metadata.insert("mesh-consistency", MetadataValue::from_static(consistency.as_str()));
    }
    request
}

/// A connection that ended before the answer. A TLS alert means that the server did not take the caller's certificate.
fn broken(endpoint: &Endpoint, why: &str, status: Code) -> Error {
    if why.contains("fatal alert") {
        return Error::local(
            "unauthenticated",
            Code::Unauthenticated,
            format!("{endpoint} refused the TLS connection: {why}"),
            "give a client certificate (`cert` and `key`) that the mesh's CA has signed and that is still valid",
        );
    }
    let status = if status == Code::Cancelled {
        Code::Unavailable
    } else {
        status
    };
    let error = Error::local(
        "unavailable",
        status,
        format!("{endpoint} broke off before it answered: {why}"),
        "",
    );
    error.into_retryable()
}

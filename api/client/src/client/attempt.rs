//! One request to one endpoint.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use proto::codec::Codec;
use tokio::time::Instant;
use tonic::{
    Code, Request,
    client::Grpc,
    metadata::{MetadataMap, MetadataValue},
};

use super::Shared;
use crate::{
    Answer, CallOptions, Consistency, Downgrade, Endpoint, Error, Meta,
    connect::{ConnectError, Stage},
    methods::Rpc,
    pool::{Connection, is_untouched},
};

/// Responses larger than this are refused: 1,000 records of the largest size stay far below.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long nothing may come over UDP, pings unanswered, before it counts as blocked.
const SILENCE: Duration = Duration::from_millis(1_500);

/// How a request failed.
pub(super) enum Failed {
    /// Nothing was sent.
    NotConnected(ConnectError),
    /// The server answered, or the connection broke (`broke`) before it did.
    Refused { error: Error, broke: bool },
}

/// Sends `request` to `endpoint` and waits until `deadline` at most.
pub(super) async fn send(
    shared: &Shared,
    endpoint: &Endpoint,
    rpc: Rpc,
    request: &Bytes,
    key: &str,
    options: &CallOptions,
    deadline: Instant,
) -> Result<Answer<Bytes>, Failed> {
    let connect_by = deadline.min(Instant::now() + shared.connect_timeout);
    let connection = shared
        .pool
        .get(endpoint, connect_by)
        .await
        .map_err(Failed::NotConnected)?;
    let request = prepare(shared, rpc, request, options, connection.downgrade, deadline)?;
    let begun = Begun::now(&connection);
    let mut grpc =
        Grpc::with_origin(connection.clone(), connection.origin.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let unary = async {
        grpc.ready().await.map_err(tonic::Status::from_error)?;
        grpc.unary(
            request,
            PathAndQuery::from_static(rpc.path),
            Codec::<Bytes, Bytes>::default(),
        )
        .await
    };
    let status = match tokio::time::timeout_at(deadline, unary).await {
        Ok(Ok(response)) => {
            let mut meta = meta(response.metadata(), endpoint, &connection);
            meta.idempotency_key = key.to_owned();
            return Ok(Answer {
                message: response.into_inner(),
                meta,
            });
        }
        Ok(Err(status)) => status,
        Err(_) => return Err(silent(shared, endpoint, &connection, &begun)),
    };
    Err(failed(shared, endpoint, &connection, &status).await)
}

/// Begins a stream at `endpoint`, within `deadline`. The stream itself has none.
pub(super) async fn open(
    shared: &Shared,
    endpoint: &Endpoint,
    rpc: Rpc,
    request: &Bytes,
    options: &CallOptions,
    deadline: Instant,
) -> Result<(Meta, tonic::Streaming<Bytes>), Failed> {
    let connect_by = deadline.min(Instant::now() + shared.connect_timeout);
    let connection = shared
        .pool
        .get(endpoint, connect_by)
        .await
        .map_err(Failed::NotConnected)?;
    let mut request = prepare(shared, rpc, request, options, connection.downgrade, deadline)?;
    request.metadata_mut().remove("grpc-timeout");
    let began = Begun::now(&connection);
    let mut grpc =
        Grpc::with_origin(connection.clone(), connection.origin.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let begun = async {
        grpc.ready().await.map_err(tonic::Status::from_error)?;
        grpc.server_streaming(
            request,
            PathAndQuery::from_static(rpc.path),
            Codec::<Bytes, Bytes>::default(),
        )
        .await
    };
    match tokio::time::timeout_at(deadline, begun).await {
        Ok(Ok(response)) => {
            let meta = meta(response.metadata(), endpoint, &connection);
            Ok((meta, response.into_inner()))
        }
        Ok(Err(status)) => Err(failed(shared, endpoint, &connection, &status).await),
        Err(_) => Err(silent(shared, endpoint, &connection, &began)),
    }
}

/// What an answer says about itself, and where it came from.
fn meta(metadata: &MetadataMap, endpoint: &Endpoint, connection: &Connection) -> Meta {
    Meta {
        endpoint: endpoint.to_string(),
        transport: connection.transport(),
        downgrade: connection.downgrade,
        ..Meta::read(metadata)
    }
}

/// How things stood when a request was sent.
struct Begun {
    at: Instant,
    heard: Option<u64>,
}

impl Begun {
    fn now(connection: &Connection) -> Self {
        Self {
            at: Instant::now(),
            heard: connection.heard(),
        }
    }

    /// Whether UDP has brought nothing since, for longer than pings go unanswered on a way that is open.
    fn nothing_since(&self, connection: &Connection) -> bool {
        self.heard.is_some() && self.heard == connection.heard() && self.at.elapsed() >= SILENCE
    }
}

/// No answer by the deadline.
fn silent(shared: &Shared, endpoint: &Endpoint, connection: &Connection, begun: &Begun) -> Failed {
    // It may be frozen rather than slow: the next call gets a fresh connection.
    if begun.nothing_since(connection) {
        shared.pool.lost(endpoint);
    } else {
        shared.pool.forget(endpoint);
    }
    let error = Error::deadline(format!("{endpoint} did not answer in time"), "");
    Failed::Refused { error, broke: true }
}

/// What a status is that came instead of an answer.
async fn failed(shared: &Shared, endpoint: &Endpoint, connection: &Connection, status: &tonic::Status) -> Failed {
    if is_untouched(status) {
        // The node is about to close the connection.
        shared.pool.forget(endpoint);
        return Failed::NotConnected(ConnectError {
            stage: Stage::Http3,
            detail: "the node takes no more requests on this connection".to_owned(),
        });
    }
    let error = Error::from_status(status);
    let broke = !error.is_remote()
        && (std::error::Error::source(status).is_some()
            || matches!(status.code(), Code::Unavailable | Code::Cancelled));
    if !broke {
        return Failed::Refused { error, broke };
    }
    let ended = connection.why_ended().await;
    if connection.fell_silent() {
        shared.pool.lost(endpoint);
    } else {
        shared.pool.forget(endpoint);
    }
    let why = ended.unwrap_or_else(|| error.detail().to_owned());
    Failed::Refused {
        error: broken(endpoint, &why, status.code()),
        broke,
    }
}

fn prepare(
    shared: &Shared,
    rpc: Rpc,
    message: &Bytes,
    options: &CallOptions,
    downgrade: Option<Downgrade>,
    deadline: Instant,
) -> Result<Request<Bytes>, Failed> {
    let mut request = Request::new(message.clone());
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    let metadata = request.metadata_mut();
    if let Some(authorization) = shared.authorization() {
        metadata.insert("authorization", authorization);
    }
    metadata.insert("user-agent", shared.user_agent.clone());
    if let Some(traceparent) = &shared.traceparent {
        metadata.insert("traceparent", traceparent.clone());
    }
    if let Some(why) = downgrade {
        metadata.insert("mesh-transport-downgrade", MetadataValue::from_static(why.as_str()));
    }
    let consistency = options.consistency.unwrap_or(shared.consistency);
    if consistency != Consistency::Default && !rpc.mutation {
        metadata.insert("mesh-consistency", MetadataValue::from_static(consistency.as_str()));
    }
    if options.dry_run {
        metadata.insert("mesh-dry-run", MetadataValue::from_static("true"));
    }
    if !options.idempotency_key.is_empty() {
        let key = options.idempotency_key.parse().map_err(|_| Failed::Refused {
            error: Error::invalid("the idempotency key holds what no header can", "use printable ASCII"),
            broke: false,
        })?;
        metadata.insert("idempotency-key", key);
    }
    Ok(request)
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

//! The seam between the SDK and the network: how a byte stream to an endpoint comes about.

use std::fmt;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Downgrade, Endpoint};

/// A byte stream in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// A boxed [`ByteStream`], TLS (if any) already done: HTTP/2 is spoken from its first byte.
pub type BoxStream = Box<dyn ByteStream>;

/// Opens byte streams to endpoints. Production's is [`crate::TlsConnect`]; simulation plugs its own.
///
/// The caller bounds the future with a timeout and drops it when that is over.
pub trait Connect: Send + Sync + 'static {
    /// Opens one stream to `endpoint`.
    fn connect(&self, endpoint: &Endpoint) -> BoxFuture<'static, Result<BoxStream, ConnectError>>;

    /// Begins HTTP/3 with `endpoint`, over QUIC. None where this connector or this endpoint has no QUIC: nothing is tried
    /// then, and speaking HTTP/2 is no downgrade.
    fn connect_h3(&self, endpoint: &Endpoint) -> Option<BoxFuture<'static, Result<api_quic::Dialled, QuicError>>> {
        let _ = endpoint;
        None
    }
}

/// How far an attempt to connect came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Name resolution or TCP.
    Network,
    /// The TLS handshake: a certificate that is not trusted, or a client certificate that was refused.
    Tls,
    /// HTTP/2's own handshake.
    Http,
    /// UDP, QUIC, or HTTP/3's own handshake.
    Http3,
    /// No answer in the time that one attempt has.
    Timeout,
}

/// Why a stream could not be opened.
#[derive(Debug, Clone)]
pub struct ConnectError {
    /// How far it came.
    pub stage: Stage,
    /// One line for people: "connection refused".
    pub detail: String,
}

impl ConnectError {
    /// An error of `stage`, with the deepest cause of `error` as its text.
    pub fn new(stage: Stage, error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            stage,
            detail: root_cause(error),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            Stage::Network | Stage::Timeout => f.write_str(&self.detail),
            Stage::Tls => write!(f, "TLS: {}", self.detail),
            Stage::Http => write!(f, "HTTP/2: {}", self.detail),
            Stage::Http3 => write!(f, "HTTP/3: {}", self.detail),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Why HTTP/3 could not be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct QuicError {
    /// In one word, for those who count it.
    pub why: Downgrade,
    /// For the caller, where HTTP/3 is all that is asked for.
    pub error: ConnectError,
}

/// The text of the last error in the chain of causes: the one that says what really happened.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    // "Connection refused (os error 111)": the number helps nobody.
    match text.find(" (os error ") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

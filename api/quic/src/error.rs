//! What goes wrong on an HTTP/3 connection, and how `h3` is told of it.

use std::sync::Arc;

use h3::{
    error::{Code, ConnectionError, StreamError},
    quic::{ConnectionErrorIncoming, StreamErrorIncoming},
};
use quinn::{ReadError, VarInt, WriteError};

/// Why a request was not answered, or a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used with QUIC.
    #[error("QUIC cannot be used so: {0}")]
    Config(String),
    /// The connection is over: nothing more comes of any request on it.
    #[error("the connection broke off: {0}")]
    Connection(String),
    /// The server is closing the connection and has not looked at the request: it may be sent again elsewhere.
    #[error("the server takes no more requests on this connection")]
    Closing,
    /// The other side, or this one, broke the request off, with a code of RFC 9114 §8.1.
    #[error("the request was broken off: {}", Code::from(*.0))]
    Stream(u64),
    /// The headers are larger than the other side or this one takes, in bytes as RFC 9114 §4.2.2 counts them.
    #[error("the headers have {0} bytes, more than the {1} that are taken")]
    HeaderTooBig(u64, u64),
    /// A body has not the length that its `content-length` says.
    #[error("the body has {got} bytes where {declared} were declared")]
    Length {
        /// What `content-length` says.
        declared: u64,
        /// What had come when the body ended, or went past that.
        got: u64,
    },
    /// Anything else that `h3` makes known.
    #[error("{0}")]
    Other(String),
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::StreamError { code, .. } | StreamError::RemoteTerminate { code, .. } => {
                Self::Stream(code.value())
            }
            StreamError::ConnectionError { 0: error, .. } => error.into(),
            StreamError::HeaderTooBig {
                actual_size, max_size, ..
            } => Self::HeaderTooBig(actual_size, max_size),
            StreamError::RemoteClosing { .. } => Self::Closing,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error.to_string())
    }
}

impl From<quinn::ConnectionError> for Error {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Connection(error.to_string())
    }
}

/// A code as QUIC carries it.
pub(crate) fn varint(code: u64) -> VarInt {
    VarInt::try_from(code).unwrap_or(VarInt::MAX)
}

pub(crate) fn connection_lost(error: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose {
            error_code: close.error_code.into_inner(),
        },
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

pub(crate) fn stream_lost(error: quinn::ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: connection_lost(error),
    }
}

pub(crate) fn terminated(code: Code) -> StreamErrorIncoming {
    StreamErrorIncoming::StreamTerminated {
        error_code: code.value(),
    }
}

pub(crate) fn not_written(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => stream_lost(error),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

pub(crate) fn not_read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => stream_lost(error),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            StreamErrorIncoming::Unknown(Box::new(error))
        }
    }
}

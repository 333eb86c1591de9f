//! A client's connection from its first datagram, and how it ends where nobody says so.

use std::{net::SocketAddr, sync::Arc};

use h3::error::Code;
use quinn::{ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportErrorCode};
use tokio::sync::watch;

use crate::{
    Client, Error,
    error::varint,
    socket::{ConnectedSocket, NoWay},
};

/// QUIC's codes for TLS alerts (RFC 9001 §4.8): this and the alert's number.
const CRYPTO: u64 = 0x100;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nothing listens there on UDP, or the server takes no more connections.
    #[error("connection refused")]
    Refused,
    /// There is no way to that address, or no socket to be had.
    #[error("{0}")]
    Unreachable(String),
    /// One side does not trust the other.
    #[error("{0}")]
    Tls(String),
    /// The handshake failed otherwise.
    #[error("{0}")]
    Handshake(String),
    /// It was begun, and nothing more was heard.
    #[error("no answer")]
    Silent,
}

/// A connection, and how it ended once it has.
#[derive(Clone)]
pub struct Dialled {
    client: Client,
    heard: watch::Receiver<Option<NoWay>>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The port is closed by now: the server's program has ended.
    #[error("the server is gone: connection refused")]
    Gone,
    /// Nothing was heard of the server for longer than the connection bears: it does not run, or UDP does not get through
    /// any more.
    #[error("nothing was heard of it any more")]
    Silent,
    /// The server did not take the certificate that was shown, or wanted one.
    #[error("received fatal alert: {0}")]
    Alert(String),
    /// The server closed it, or either side broke it off.
    #[error("{0}")]
    Closed(String),
}

/// Connects to `server`, who has to be `name`, and begins HTTP/3. Takes as long as the server; the caller sets a limit and
/// drops it then. Has to be called inside a tokio runtime.
///
/// The connection has a socket of its own, so that a server that has ended is noticed with the next datagram to it, where
/// the network says so; `config`'s pings see to it that there is one.
///
/// # Errors
/// There is no connection.
pub async fn dial(server: SocketAddr, name: &str, config: quinn::ClientConfig) -> Result<Dialled, DialError> {
    let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
    let (socket, heard) = ConnectedSocket::new(server).map_err(unreachable)?;
    let (socket, runtime) = (Arc::new(socket), Arc::new(TokioRuntime));
    let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket.clone(), runtime)
        .map_err(unreachable)?;
    let connecting = endpoint
        .connect_with(config, server, name)
        .map_err(|error| DialError::Handshake(error.to_string()))?;
    let mut hears = heard.clone();
    let told = async { hears.wait_for(Option::is_some).await.ok().and_then(|told| *told) };
    let connection = tokio::select! {
        connection = connecting => connection.map_err(|error| refused(&error))?,
        told = told => return Err(match told {
            Some(NoWay::Refused) => DialError::Refused,
            Some(NoWay::Unreachable) | None => DialError::Unreachable("no way to that address".to_owned()),
        }),
        () = socket.listen() => return Err(DialError::Silent),
    };
    // Ends with the connection.
    tokio::spawn(watch_over(connection.clone(), socket, hears));
    let begun = Client::new(connection.clone()).await;
    let client = begun.map_err(|error| match connection.close_reason() {
        Some(why) => refused(&why),
        None => DialError::Handshake(error.to_string()),
    })?;
    Ok(Dialled { client, heard })
}

/// Closes a connection whose server has ended. That there is no way for a moment is no reason.
async fn watch_over(
    connection: quinn::Connection,
    socket: Arc<ConnectedSocket>,
    mut heard: watch::Receiver<Option<NoWay>>,
) {
    // What is waited for is let go of before the connection is closed: whoever sends holds the connection's lock while it says
    // here what the network told.
    let gone = async { heard.wait_for(|told| *told == Some(NoWay::Refused)).await.is_ok() };
    tokio::select! {
        _ = connection.closed() => {}
        () = socket.listen() => {}
        true = gone => connection.close(varint(Code::H3_NO_ERROR.value()), b""),
    }
}

/// The TLS alert of a code, if it is one.
fn alert(code: TransportErrorCode) -> Option<String> {
    let alert = u8::try_from(u64::from(code).checked_sub(CRYPTO)?).ok()?;
    Some(format!("{:?}", rustls::AlertDescription::from(alert)))
}

fn refused(error: &ConnectionError) -> DialError {
    match error {
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            DialError::Refused
        }
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => DialError::Tls(format!("received fatal alert: {alert}")),
            None => DialError::Handshake(error.to_string()),
        },
        ConnectionError::TransportError(failed) if alert(failed.code).is_some() => {
            DialError::Tls(failed.reason.clone())
        }
        ConnectionError::TimedOut => DialError::Silent,
        ConnectionError::TransportError(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => DialError::Handshake(error.to_string()),
    }
}

impl Dialled {
    /// To ask on it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How many datagrams came from the server so far: while it runs and UDP gets through, one at least for each ping.
    #[must_use]
    pub fn datagrams_received(&self) -> u64 {
        self.client.connection().stats().udp_rx.datagrams
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        let why = self.client.connection().close_reason()?;
        Some(match &why {
            ConnectionError::LocallyClosed if *self.heard.borrow() == Some(NoWay::Refused) => Ended::Gone,
            ConnectionError::TimedOut => Ended::Silent,
            ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
                Some(alert) => Ended::Alert(alert),
                None => Ended::Closed(why.to_string()),
            },
            ConnectionError::Reset => Ended::Gone,
            ConnectionError::ApplicationClosed(_) => Ended::Closed("the server closed the connection".to_owned()),
            ConnectionError::LocallyClosed
            | ConnectionError::TransportError(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::CidsExhausted => Ended::Closed(why.to_string()),
        })
    }
}

impl Error {
    /// True where the server has done nothing of the request: it may be sent again, elsewhere too (RFC 9114 §4.1.1, §5.2).
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        match self {
            Self::Closing => true,
            Self::Stream(code) => *code == Code::H3_REQUEST_REJECTED.value(),
            Self::Config(_) | Self::Connection(_) | Self::HeaderTooBig(..) | Self::Length { .. } | Self::Other(_) => {
                false
            }
        }
    }
}

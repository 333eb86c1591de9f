//! QUIC's settings, from TLS configurations and limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{ALPN, Error};

/// Unidirectional streams that the other side may have open: HTTP/3 needs three (RFC 9114 §6.2), and some send one of
/// no meaning for practice.
const UNIDIRECTIONAL_MAX: u32 = 8;

/// What one connection may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// Requests that the other side may have under way at once; 0 on a client's side.
    pub requests_max: u32,
    /// What the other side may send on one stream before it is read, in bytes.
    pub stream_window_bytes: u32,
    /// The same, on all streams together.
    pub connection_window_bytes: u32,
    /// What is kept of what was sent until it is acknowledged, in bytes on all streams together.
    pub send_window_bytes: u64,
    /// How long nothing may be heard of the other side.
    pub silence_max: Duration,
    /// How often it is asked for a sign of life while nothing else is said; none: never.
    pub ping_interval: Option<Duration>,
}

impl Default for Transport {
    /// Fit for a client.
    fn default() -> Self {
        Self {
            requests_max: 0,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 8 * 1024 * 1024,
            send_window_bytes: 2 * 1024 * 1024,
            silence_max: Duration::from_secs(30),
            ping_interval: Some(Duration::from_secs(10)),
        }
    }
}

impl Transport {
    fn build(&self) -> Result<Arc<TransportConfig>, Error> {
        let silence = IdleTimeout::try_from(self.silence_max).map_err(|error| Error::Config(error.to_string()))?;
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.requests_max))
            .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL_MAX))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.connection_window_bytes))
            .send_window(self.send_window_bytes)
            .max_idle_timeout(Some(silence))
            .keep_alive_interval(self.ping_interval)
            // Nothing here speaks in datagrams.
            .datagram_receive_buffer_size(None);
        Ok(Arc::new(config))
    }
}

/// The TLS side of a server, from a configuration for TCP with the same certificates: TLS 1.3 with [`ALPN`].
///
/// # Errors
/// The configuration has no cipher suite that QUIC needs.
pub fn server_tls(tls: &rustls::ServerConfig) -> Result<Arc<QuicServerConfig>, Error> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // What is sent before the handshake is done can be sent again by anybody.
    tls.max_early_data_size = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| Error::Config(error.to_string()))?;
    Ok(Arc::new(tls))
}

/// A server's settings. A connection keeps the address that it began with: whoever it belongs to was logged under it.
///
/// # Errors
/// `transport.silence_max` is longer than QUIC can say.
pub fn server(tls: Arc<QuicServerConfig>, transport: &Transport) -> Result<quinn::ServerConfig, Error> {
    let mut config = quinn::ServerConfig::with_crypto(tls);
    config.transport_config(transport.build()?);
    config.migration(false);
    Ok(config)
}

/// A client's settings, from a configuration for TCP with the same authorities and certificate.
///
/// # Errors
/// The configuration has no cipher suite that QUIC needs, or `transport.silence_max` is longer than QUIC can say.
pub fn client(tls: &rustls::ClientConfig, transport: &Transport) -> Result<quinn::ClientConfig, Error> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| Error::Config(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport.build()?);
    Ok(config)
}

/// A server's endpoint on a UDP socket that is bound. Has to be called inside a tokio runtime. With the default of
/// `endpoint`, whoever was connected to an earlier process hears nothing from this one.
///
/// # Errors
/// The socket cannot be used.
pub fn server_endpoint(
    socket: std::net::UdpSocket,
    config: quinn::ServerConfig,
    endpoint: EndpointConfig,
) -> io::Result<Endpoint> {
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
}

/// A client's endpoint, for servers of the same family of addresses as `server`. Has to be called inside a tokio
/// runtime. One endpoint carries any number of connections.
///
/// # Errors
/// No socket can be had.
pub fn client_endpoint(server: SocketAddr) -> io::Result<Endpoint> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0u8; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    Endpoint::client(any)
}

//! TLS as a client: the context's CA, the caller's certificate if there is one, over TCP with HTTP/2 and over QUIC with
//! HTTP/3.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api_quic::{DialError, Dialled, config::Transport, quinn};
use futures::{FutureExt as _, future::BoxFuture};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    Downgrade, Endpoint, Error,
    connect::{BoxStream, Connect, ConnectError, QuicError, Stage},
};

/// How often a QUIC connection asks for a sign of life while nothing else is said. A node whose program has ended is
/// noticed with the first datagram that its machine refuses, so this is how much later that may be than over TCP.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// How long nothing may be heard on a QUIC connection.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// Addresses of one name that are tried at most.
const ADDRESSES_MAX: usize = 4;

/// Connects over TCP with TLS 1.3 or 1.2, and over QUIC with TLS 1.3. A loopback `http` endpoint is connected without
/// TLS, over TCP.
#[derive(Clone)]
pub struct TlsConnect {
    tls: Option<TlsConnector>,
    quic: Option<quinn::ClientConfig>,
}

impl TlsConnect {
    /// Trusts the certificates of `ca` (PEM, one or more), and presents `identity` (PEM certificate chain and PEM key).
    ///
    /// Without `ca` only loopback `http` endpoints can be connected.
    ///
    /// # Errors
    /// `invalid_argument` where a PEM holds no certificate or key, or they do not belong together.
    pub fn new(ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<Self, Error> {
        let Some(ca) = ca else {
            return Ok(Self { tls: None, quic: None });
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::invalid(format!("TLS cannot be set up: {error}"), ""))?
            .with_root_certificates(roots(ca)?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert, "cert")?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
                    Error::invalid(
                        format!("`key` holds no private key: {error}"),
                        "give the PEM file of the certificate's key",
                    )
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    Error::invalid(
                        format!("`cert` and `key` cannot be used: {error}"),
                        "give the certificate and the key that belongs to it",
                    )
                })?
            }
        };
        let transport = Transport {
            silence_max: SILENCE_MAX,
            ping_interval: Some(PING_INTERVAL),
            ..Transport::default()
        };
        let quic = api_quic::config::client(&config, &transport)
            .map_err(|error| Error::invalid(format!("TLS cannot be set up: {error}"), ""))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            tls: Some(TlsConnector::from(Arc::new(config))),
            quic: Some(quic),
        })
    }
}

/// The certificates of a PEM file as trust anchors.
pub(crate) fn roots(ca: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "ca")? {
        roots.add(certificate).map_err(|error| {
            Error::invalid(
                format!("`ca` holds a certificate that cannot be trusted: {error}"),
                "give the mesh's CA certificate",
            )
        })?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let hint = "give a PEM file with one or more certificates";
    match found {
        Ok(found) if found.is_empty() => Err(Error::invalid(format!("`{what}` holds no certificate"), hint)),
        Ok(found) => Ok(found),
        Err(error) => Err(Error::invalid(format!("`{what}` is damaged: {error}"), hint)),
    }
}

impl Connect for TlsConnect {
    fn connect(&self, endpoint: &Endpoint) -> BoxFuture<'static, Result<BoxStream, ConnectError>> {
        let endpoint = endpoint.clone();
        let tls = self.tls.clone();
        async move {
            let tcp = dial(&endpoint).await?;
            if !endpoint.is_tls() {
                return Ok(Box::new(tcp) as BoxStream);
            }
            let Some(tls) = tls else {
                let detail = "the context names no `ca`, so the server cannot be verified".to_owned();
                return Err(ConnectError {
                    stage: Stage::Tls,
                    detail,
                });
            };
            let name = ServerName::try_from(endpoint.host().to_owned())
                .map_err(|error| ConnectError::new(Stage::Network, &error))?;
            let stream = tls
                .connect(name, tcp)
                .await
                .map_err(|error| ConnectError::new(Stage::Tls, &error))?;
            Ok(Box::new(stream) as BoxStream)
        }
        .boxed()
    }

    fn connect_h3(&self, endpoint: &Endpoint) -> Option<BoxFuture<'static, Result<Dialled, QuicError>>> {
        let config = self.quic.clone().filter(|_| endpoint.is_tls())?;
        Some(dial_h3(endpoint.clone(), config).boxed())
    }
}

/// Tries the addresses that the host resolves to, in order, over UDP.
async fn dial_h3(endpoint: Endpoint, config: quinn::ClientConfig) -> Result<Dialled, QuicError> {
    let mut last = no_address();
    let mut why = Downgrade::Unreachable;
    for address in resolve(&endpoint).await.map_err(|error| QuicError { why, error })? {
        match api_quic::dial(address, endpoint.host(), config.clone()).await {
            Ok(dialled) => return Ok(dialled),
            Err(error) => {
                let stage = match error {
                    DialError::Tls(_) => Stage::Tls,
                    DialError::Refused | DialError::Unreachable(_) | DialError::Handshake(_) | DialError::Silent => {
                        Stage::Http3
                    }
                };
                why = match error {
                    DialError::Refused => Downgrade::Refused,
                    DialError::Unreachable(_) => Downgrade::Unreachable,
                    DialError::Tls(_) | DialError::Handshake(_) => Downgrade::Handshake,
                    DialError::Silent => Downgrade::Timeout,
                };
                last = ConnectError::new(stage, &error);
            }
        }
    }
    Err(QuicError { why, error: last })
}

fn no_address() -> ConnectError {
    ConnectError {
        stage: Stage::Network,
        detail: "the name has no address".to_owned(),
    }
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ConnectError> {
    let addresses = tokio::net::lookup_host((endpoint.host(), endpoint.port())).await;
    let addresses = addresses.map_err(|error| ConnectError::new(Stage::Network, &error))?;
    Ok(addresses.take(ADDRESSES_MAX).collect())
}

/// The same over TCP.
async fn dial(endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
    const EACH: Duration = Duration::from_millis(1_500);
    let network = |error: std::io::Error| ConnectError::new(Stage::Network, &error);
    let mut last = no_address();
    for address in resolve(endpoint).await? {
        match tokio::time::timeout(EACH, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(network)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = network(error),
            Err(_) => {
                last = ConnectError {
                    stage: Stage::Timeout,
                    detail: "no answer".to_owned(),
                }
            }
        }
    }
    Err(last)
}

//! TLS as a client: the context's CA, the caller's certificate if there is one, HTTP/2 by ALPN.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    Endpoint, Error,
    connect::{BoxStream, Connect, ConnectError, Stage},
};

/// Connects over TCP and TLS 1.3 or 1.2. A loopback `http` endpoint is connected without TLS.
#[derive(Clone)]
pub struct TlsConnect {
    tls: Option<TlsConnector>,
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
            return Ok(Self { tls: None });
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
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            tls: Some(TlsConnector::from(Arc::new(config))),
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
}

/// Tries the addresses that the host resolves to, in order.
async fn dial(endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
    const EACH: Duration = Duration::from_millis(1_500);
    let network = |error: std::io::Error| ConnectError::new(Stage::Network, &error);
    let addresses = tokio::net::lookup_host((endpoint.host(), endpoint.port()))
        .await
        .map_err(network)?;
    let mut last = ConnectError {
        stage: Stage::Network,
        detail: "the name has no address".to_owned(),
    };
    for address in addresses.take(4) {
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

//! The certificates in use, read from files and replaced while connections go on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api_quic::quinn::EndpointConfig;
use api_quic::quinn::crypto::rustls::QuicServerConfig;
use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use raft::env::{PeerIdentity, Purpose};
use statemachine::audit::fingerprint;

use super::expiry::{self, Expiries, Expiry};
use super::signer::NodeKey;
use super::standing::{Side, Standings};
use super::verify::NodeVerifier;
use super::{Error, alpn, endpoint};
use crate::certs::identity::{self, Identity};
use crate::config::sections;

/// A certificate that ends sooner than this is worth a warning.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);

/// What the listeners and the dialler use at the moment.
pub struct Certificates {
    /// Who this node is, and therefore what its own certificate has to say.
    own: Identity,
    current: ArcSwap<Loaded>,
    /// The connections that are up and whose other side has shown a certificate.
    standings: Standings,
    expiries: Expiries,
}

/// One state of the files.
pub(super) struct Loaded {
    pub(super) api: Arc<ServerConfig>,
    /// The same as `api`, for QUIC.
    pub(super) quic: Arc<QuicServerConfig>,
    /// For the endpoint that QUIC connections come to. It is made once: a key that is replaced while the node runs counts
    /// for it from the next start on.
    pub(super) endpoint: EndpointConfig,
    pub(super) raft: Arc<ServerConfig>,
    pub(super) dial_api: Arc<ClientConfig>,
    pub(super) dial_raft: Arc<ClientConfig>,
    pub(super) signer: NodeKey,
    /// Judges who dials us …
    clients: Arc<dyn ClientCertVerifier>,
    /// … and whom we dial.
    nodes: Arc<NodeVerifier>,
    /// When the node's certificate ends, and those of the authorities.
    expiries: Vec<Expiry>,
    /// The fingerprints of the authorities.
    authorities: Vec<String>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files of `tls` for the node that is `own`.
    ///
    /// # Errors
    /// When a file cannot be used, or the certificate is not this node's.
    pub fn load(tls: &sections::Tls, own: Identity) -> Result<Arc<Self>, Error> {
        let loaded = Loaded::read(tls, &own)?;
        let expiries = Expiries::default();
        expiries.show(&loaded.expiries);
        Ok(Arc::new(Self {
            own,
            current: ArcSwap::from_pointee(loaded),
            standings: Standings::default(),
            expiries,
        }))
    }

    /// Reads the files again. New connections use what was read. Connections that are up stay, but for those whose
    /// other side showed a certificate that none of the authorities has signed any more: their standing is withdrawn.
    /// Answers how many these are.
    ///
    /// # Errors
    /// A file cannot be used; everything then stays as it was.
    pub fn reload(&self, tls: &sections::Tls) -> Result<usize, Error> {
        let loaded = Arc::new(Loaded::read(tls, &self.own)?);
        self.expiries.show(&loaded.expiries);
        self.current.store(loaded.clone());
        Ok(self.standings.withdraw(|side, chain| !loaded.trusts(side, chain)))
    }

    /// The other side of a finished handshake that went by `under`; `None` when it showed no certificate.
    ///
    /// # Errors
    /// Its certificate names nobody, or more than one, or its authority was dropped during the handshake.
    pub(super) fn admit(
        &self,
        side: Side,
        chain: Option<&[CertificateDer<'_>]>,
        under: &Arc<Loaded>,
    ) -> std::io::Result<Option<PeerIdentity>> {
        let Some(chain) = chain.filter(|chain| !chain.is_empty()) else {
            return Ok(None);
        };
        let identity = self.standings.admit(side, chain)?;
        // Whoever reloads stores first and withdraws then, so one of the two sees the other.
        let current = self.current();
        if !Arc::ptr_eq(under, &current) && !current.trusts(side, chain) {
            return Err(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                format!("the authority of {} is not trusted any more", identity.uri),
            ));
        }
        Ok(Some(identity))
    }

    /// When the node's certificate ends.
    pub fn not_after(&self) -> SystemTime {
        let current = self.current.load();
        let own = current.expiries.iter().find(|expiry| expiry.of == expiry::Use::Node);
        own.map_or(SystemTime::UNIX_EPOCH, |expiry| expiry.not_after)
    }

    /// What ends first among the node's certificate and those of the authorities that it trusts.
    pub fn nearest_expiry(&self) -> Option<Expiry> {
        self.current
            .load()
            .expiries
            .iter()
            .min_by_key(|expiry| expiry.not_after)
            .cloned()
    }

    /// When each of the certificates in use ends.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.current.load().expiries.clone()
    }

    /// The SHA-256 fingerprints of the authorities that are trusted, in hexadecimal digits.
    pub fn authorities(&self) -> Vec<String> {
        self.current.load().authorities.clone()
    }

    /// Has the ends of all certificates shown as `meshkit_certificate_expiry_seconds`.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.expiries.register(registry);
    }

    pub(super) fn current(&self) -> Arc<Loaded> {
        self.current.load_full()
    }
}

impl Loaded {
    fn read(tls: &sections::Tls, own: &Identity) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let authorities = certificates(&tls.ca_file)?;
        let mut expiries = expiry::of_authorities(&authorities).map_err(|why| file(&tls.ca_file, why))?;
        let fingerprints = authorities.iter().map(|der| fingerprint(der).to_string()).collect();
        let roots = Arc::new(roots(authorities, &tls.ca_file)?);
        let chain = certificates(&tls.cert_file)?;
        expiries.push(check_own(&chain, own, &tls.cert_file)?);
        let key = || PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|error| file(&tls.key_file, describe(&error)));
        let verifier = Arc::new(NodeVerifier::new(roots.clone(), provider.clone(), own.clone()));
        // Our own certificate has to pass what we demand of others, else nobody will talk to us.
        verifier.verify_chain(&chain, UnixTime::now()).map_err(|error| {
            Error::Mismatch(format!(
                "{}: not signed by any authority in {} or not valid now: {error}",
                tls.cert_file.display(),
                tls.ca_file.display()
            ))
        })?;
        let leaf = chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
        let signer = NodeKey::new(&leaf, key()?.secret_der()).map_err(|why| file(&tls.key_file, why))?;
        let endpoint = endpoint::settings(key()?.secret_der()).map_err(Error::Mismatch)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let clients = clients.map_err(|error| Error::Mismatch(error.to_string()))?;
        let api = server(&provider, &roots, chain.clone(), key()?, Purpose::Api, tls)?;
        Ok(Self {
            signer,
            endpoint,
            clients,
            nodes: verifier.clone(),
            quic: api_quic::config::server_tls(&api).map_err(|error| Error::Mismatch(error.to_string()))?,
            api: Arc::new(api),
            raft: Arc::new(server(&provider, &roots, chain.clone(), key()?, Purpose::Raft, tls)?),
            dial_api: Arc::new(client(&provider, &verifier, chain.clone(), key()?, Purpose::Api, tls)?),
            dial_raft: Arc::new(client(&provider, &verifier, chain, key()?, Purpose::Raft, tls)?),
            expiries,
            authorities: fingerprints,
        })
    }

    /// Whether one of the authorities has signed a chain that was good when its connection began. Whether it has ended
    /// since is asked elsewhere, each time it counts, and answered with what to do.
    fn trusts(&self, side: Side, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return false;
        };
        let now = UnixTime::now();
        let at = match expiry::not_after(leaf) {
            Ok(end) => now.min(UnixTime::since_unix_epoch(end)),
            Err(_) => return false,
        };
        match side {
            Side::Accepted => self.clients.verify_client_cert(leaf, intermediates, at).is_ok(),
            Side::Dialled => self.nodes.verify_chain(chain, at).is_ok(),
        }
    }
}

fn file(path: &Path, detail: impl Into<String>) -> Error {
    Error::File {
        path: path.to_owned(),
        detail: detail.into(),
    }
}

fn describe(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error as Pem;
    match error {
        Pem::Io(error) => error.to_string(),
        Pem::NoItemsFound => "has no PEM block of the kind expected here".to_owned(),
        other => format!("is not valid PEM: {other:?}"),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| file(path, describe(&error)))?;
    let certificates: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| file(path, describe(&error)))?;
    if certificates.is_empty() {
        return Err(file(path, "holds no certificate"));
    }
    Ok(certificates)
}

fn roots(authorities: Vec<CertificateDer<'static>>, path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots
            .add(certificate)
            .map_err(|error| file(path, format!("an authority cannot be used: {error}")))?;
    }
    Ok(roots)
}

/// Checks that the node's certificate is the node's. Answers when it ends.
fn check_own(chain: &[CertificateDer<'_>], own: &Identity, path: &Path) -> Result<Expiry, Error> {
    let leaf = chain.first().ok_or_else(|| file(path, "holds no certificate"))?;
    let uri = identity::of_certificate(leaf).map_err(|detail| file(path, detail))?;
    if uri != own.to_string() {
        return Err(Error::Mismatch(format!(
            "{}: is the certificate of {uri}, but this node is {own}",
            path.display()
        )));
    }
    let expiry = Expiry::of_node(leaf).map_err(|why| file(path, why))?;
    let left = expiry.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    if left < EXPIRES_SOON {
        tracing::warn!(file = %path.display(), days = left.as_secs() / 86_400, "the node's certificate expires soon");
    }
    Ok(expiry)
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    purpose: Purpose,
    tls: &sections::Tls,
) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let verifier = match purpose {
        Purpose::Raft => verifier.build(),
        Purpose::Api => verifier.allow_unauthenticated().build(),
    };
    let verifier = verifier.map_err(|error| file(&tls.ca_file, error.to_string()))?;
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = match purpose {
        Purpose::Raft => builder.with_protocol_versions(&[&rustls::version::TLS13]),
        Purpose::Api => builder.with_safe_default_protocol_versions(),
    };
    let mut config = builder
        .map_err(|error| Error::Mismatch(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unfit(tls, &error))?;
    config.alpn_protocols = alpn(purpose);
    // A resumed session skips the certificate check, and with it a CA that was withdrawn.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<NodeVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    purpose: Purpose,
    tls: &sections::Tls,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Mismatch(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_auth_cert(chain, key)
        .map_err(|error| unfit(tls, &error))?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match purpose {
        Purpose::Raft => alpn(purpose),
        // Forwarded requests are multiplexed: HTTP/2 or nothing.
        Purpose::Api => vec![b"h2".to_vec()],
    };
    Ok(config)
}

fn unfit(tls: &sections::Tls, error: &rustls::Error) -> Error {
    Error::Mismatch(format!(
        "{} and {} do not fit each other: {error}",
        tls.cert_file.display(),
        tls.key_file.display()
    ))
}

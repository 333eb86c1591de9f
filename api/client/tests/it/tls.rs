//! TLS: whom the SDK trusts, and what it says when it is not trusted itself.

use std::{net::SocketAddr, sync::Arc};

use api_client::{Client, TlsConnect};
use proto::v1::{GetPeerRequest, Peer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::fake::{Fake, Reply};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    der: CertificateDer<'static>,
}

pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    pub pem: String,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a CA");
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key,
        }
    }
}

/// What a server of 127.0.0.1 is known by, to clients that the authority knows.
pub fn server(authority: &Authority) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .expect("a verifier");
    let identity = authority.issue("127.0.0.1");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            identity.chain,
            PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key"),
        )
        .expect("a server");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A node that knows one peer.
pub fn node() -> Fake {
    let node = Fake::default();
    node.says(
        "GetPeer",
        [Reply::ok(&Peer {
            id: "p1".into(),
            ..Peer::default()
        })],
    );
    node
}

/// Serves what the listener accepts over TLS.
pub async fn accept(node: Fake, listener: tokio::net::TcpListener, tls: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, node) = (acceptor.clone(), node.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(tcp).await {
                node.connection(stream).await;
            }
        });
    }
}

/// Serves a peer over TLS to clients that the authority knows.
async fn serve(authority: &Authority) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(accept(node(), listener, server(authority)));
    address
}

async fn ask(address: SocketAddr, ca: &Authority, identity: Option<&Identity>) -> api_client::Result<String> {
    let key = identity.map(|identity| identity.key.serialize_pem());
    let identity = identity
        .zip(key.as_ref())
        .map(|(identity, key)| (identity.pem.as_bytes(), key.as_bytes()));
    let connector = TlsConnect::new(Some(ca.pem.as_bytes()), identity)?;
    let endpoint = format!("https://{address}").parse().expect("an endpoint");
    let client = Client::builder(vec![endpoint], Arc::new(connector)).build()?;
    Ok(client.get_peer(GetPeerRequest { id: "p1".into() }).await?.message.id)
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let address = serve(&ours).await;
    assert_eq!(
        ask(address, &ours, Some(&ours.issue("alice")))
            .await
            .expect("trusted on both sides"),
        "p1"
    );

    let error = ask(address, &foreign, Some(&ours.issue("alice")))
        .await
        .expect_err("the server is not known to this CA");
    assert_eq!((error.code(), error.exit_code()), ("unavailable", 3));
    assert!(error.detail().contains("TLS: invalid peer certificate"), "{error}");

    for identity in [None, Some(foreign.issue("mallory"))] {
        let error = ask(address, &ours, identity.as_ref())
            .await
            .expect_err("the client is not known to the server");
        assert_eq!((error.code(), error.exit_code()), ("unauthenticated", 4), "{error}");
    }
}

#[test]
fn unusable_pems_are_named() {
    let authority = Authority::new();
    let code = |result: api_client::Result<TlsConnect>| result.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(code(TlsConnect::new(Some(b"nothing"), None)).contains("`ca` holds no certificate"));
    let (alice, bob) = (authority.issue("alice"), authority.issue("bob"));
    let key = bob.key.serialize_pem();
    assert!(
        code(TlsConnect::new(
            Some(authority.pem.as_bytes()),
            Some((alice.pem.as_bytes(), key.as_bytes()))
        ))
        .contains("cannot be used")
    );
    assert!(
        code(TlsConnect::new(
            Some(authority.pem.as_bytes()),
            Some((alice.pem.as_bytes(), b"x"))
        ))
        .contains("no private key")
    );
}

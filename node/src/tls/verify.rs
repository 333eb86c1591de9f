//! How a dialled node's certificate is judged: by authority and identity, not by host name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certs::identity::{self, Identity};

/// Accepts nodes of our own mesh and cluster whose certificate one of our authorities signed.
///
/// The address a node is dialled at says nothing of who it is: addresses move, and a name in a
/// certificate would only repeat what the configuration says. Its SPIFFE id does.
#[derive(Debug)]
pub(super) struct NodeVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    own: Identity,
}

impl NodeVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>, own: Identity) -> Self {
        Self { roots, provider, own }
    }

    /// Checks a chain as of a time, without asking whose it is.
    pub(super) fn verify_chain(&self, chain: &[CertificateDer<'_>], at: UnixTime) -> Result<(), Error> {
        let (leaf, intermediates) = chain
            .split_first()
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        self.verify_signed(leaf, intermediates, at)
    }

    fn verify_signed(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_signed(end_entity, intermediates, now)?;
        let uri = identity::of_certificate(end_entity).map_err(Error::General)?;
        if !is_fellow(&self.own, &uri) {
            return Err(Error::General(format!("{uri} is no node of this mesh and cluster")));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether `uri` is a node of the same mesh and cluster as `own`.
fn is_fellow(own: &Identity, uri: &str) -> bool {
    match (own, Identity::parse(uri)) {
        (
            Identity::Node { mesh, cluster, .. },
            Some(Identity::Node {
                mesh: its_mesh,
                cluster: its_cluster,
                ..
            }),
        ) => *mesh == its_mesh && *cluster == its_cluster,
        _ => false,
    }
}

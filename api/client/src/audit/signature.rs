//! Who may sign a checkpoint, and whether they did.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use proto::v1::AuditCheckpoint;
use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use statemachine::{Hash, MeshId, Revision, audit};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{Error, Result, tls};

/// The nodes of one mesh, as its CA vouches for them.
pub struct Signers {
    mesh: MeshId,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Signers {
    /// Trusts node certificates of `mesh` that chain to `ca` (PEM, one or more).
    ///
    /// # Errors
    /// `invalid_argument` where the PEM holds no usable certificate or the mesh id is malformed.
    pub fn new(ca: &[u8], mesh: &str) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(tls::roots(ca)?), provider)
            .build()
            .map_err(|error| {
                Error::invalid(
                    format!("`ca` cannot be used: {error}"),
                    "give the mesh's CA certificate",
                )
            })?;
        let mesh = MeshId::new(mesh)
            .map_err(|error| Error::invalid(format!("the mesh's id `{mesh}` is malformed: {error}"), ""))?;
        Ok(Self { mesh, verifier })
    }

    /// Checks signer and signature of `checkpoint`. `wall_ms` is about when it was signed; a certificate that has
    /// expired since does not undo what it signed. The error says what is wrong, as the end of "the checkpoint …".
    pub fn check(&self, checkpoint: &AuditCheckpoint, wall_ms: Option<u64>) -> std::result::Result<(), String> {
        let (_, certificate) = X509Certificate::from_der(&checkpoint.certificate)
            .map_err(|_| "carries a certificate that does not decode".to_owned())?;
        self.is_node(&certificate, &checkpoint.node)?;
        let at = moment(&certificate, wall_ms);
        self.verifier
            .verify_client_cert(&CertificateDer::from(checkpoint.certificate.as_slice()), &[], at)
            .map_err(|error| format!("is signed with a certificate that the CA does not vouch for: {error}"))?;
        let hash = Hash::parse(&checkpoint.hash).ok_or("has a `hash` that is not a hash")?;
        let message = audit::checkpoint_message(&self.mesh, Revision(checkpoint.revision), hash);
        let key = certificate.public_key().subject_public_key.data.as_ref();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(&message, &checkpoint.signature)
            .map_err(|_| "has a signature that does not fit".to_owned())
    }

    /// A node certificate of this mesh, of the node that is said to have signed: no client's, no peer's.
    fn is_node(&self, certificate: &X509Certificate<'_>, node: &str) -> std::result::Result<(), String> {
        let names = certificate.subject_alternative_name().ok().flatten();
        let uris = names
            .iter()
            .flat_map(|names| names.value.general_names.iter())
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let prefix = format!("spiffe://{}/cluster/", self.mesh.as_str());
        for uri in uris {
            let Some((_, signer)) = uri.strip_prefix(&prefix).and_then(|rest| rest.split_once("/node/")) else {
                continue;
            };
            return if signer == node {
                Ok(())
            } else {
                Err(format!("claims node {node}, but node {signer} signed"))
            };
        }
        Err("is not signed by a node of this mesh".to_owned())
    }
}

/// The moment at which the certificate is judged: that of signing, as far as it is known, moved into its validity at
/// the beginning (a quiet mesh signs old revisions with new certificates) and, where it is not known, at the end.
fn moment(certificate: &X509Certificate<'_>, wall_ms: Option<u64>) -> UnixTime {
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let from = seconds(certificate.validity().not_before.timestamp());
    let until = seconds(certificate.validity().not_after.timestamp());
    let at = match wall_ms {
        Some(wall_ms) => wall_ms / 1_000,
        None => UnixTime::now().as_secs().min(until),
    };
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.max(from)))
}

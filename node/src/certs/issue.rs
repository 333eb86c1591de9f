//! Certificates for nodes and clients.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::authority::{self, Authority};
use super::identity::{self, Identity};
use super::{Error, files};

/// A new certificate and its private key, PEM.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Issues a certificate with a new key for `identity`, who is reached under `hosts` (names or
/// IP addresses; empty for a client).
pub fn issue(ca: &Authority, identity: &Identity, hosts: &[String], days: u32) -> Result<Issued, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::crypto("making a key"))?;
    let mut names = vec![uri(&identity.to_string())?];
    for host in hosts {
        names.push(host_name(host)?);
    }
    let certificate = ca.sign(params(identity, names), &key, days)?;
    Ok(Issued {
        certificate,
        key: key.serialize_pem(),
    })
}

/// Issues a certificate anew: same identity, same names, same key, later end.
pub fn renew(ca: &Authority, cert_file: &Path, key_file: &Path, days: u32) -> Result<String, Error> {
    let content = |path: &Path, detail: String| Error::Content {
        path: path.to_owned(),
        detail,
    };
    let key = KeyPair::from_pem(&files::read(key_file)?).map_err(|error| content(key_file, error.to_string()))?;
    let pem = files::read(cert_file)?;
    let der =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| content(cert_file, format!("{error:?}")))?;
    let (_, old) =
        X509Certificate::from_der(&der).map_err(|error| content(cert_file, format!("not a certificate: {error}")))?;
    if old.public_key().raw != key.subject_public_key_info().as_slice() {
        return Err(content(
            cert_file,
            format!("does not belong to the key in {}", key_file.display()),
        ));
    }
    let spiffe = identity::of_parsed(&old).map_err(|detail| content(cert_file, detail))?;
    let identity =
        Identity::parse(&spiffe).ok_or_else(|| content(cert_file, format!("{spiffe} is no identity of a mesh")))?;
    let mut names = Vec::new();
    let old_names = old
        .subject_alternative_name()
        .map_err(|error| content(cert_file, error.to_string()))?;
    for name in old_names.iter().flat_map(|extension| &extension.value.general_names) {
        names.push(match name {
            GeneralName::URI(text) => uri(text)?,
            GeneralName::DNSName(text) => host_name(text)?,
            GeneralName::IPAddress(bytes) => SanType::IpAddress(
                ip(bytes).ok_or_else(|| content(cert_file, "an IP address of odd length".to_owned()))?,
            ),
            other => return Err(content(cert_file, format!("a name of a kind we do not issue: {other}"))),
        });
    }
    ca.sign(params(&identity, names), &key, days)
}

fn params(identity: &Identity, names: Vec<SanType>) -> CertificateParams {
    let (common, mesh) = match identity {
        Identity::Node { mesh, cluster, node } => (format!("{cluster} node {node}"), mesh),
        Identity::Client { mesh, name } => (format!("client {name}"), mesh),
        Identity::Peer { mesh, id } => (format!("peer {id}"), mesh),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = authority::name(&common, mesh);
    params.subject_alt_names = names;
    // Said outright, and it makes the subject's key identifier appear.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn uri(text: &str) -> Result<SanType, Error> {
    text.try_into()
        .map(SanType::URI)
        .map_err(|_| Error::Invalid(format!("{text:?} is not ASCII")))
}

fn host_name(host: &str) -> Result<SanType, Error> {
    if let Ok(address) = IpAddr::from_str(host) {
        return Ok(SanType::IpAddress(address));
    }
    let valid = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        });
    if !valid {
        return Err(Error::Invalid(format!(
            "{host:?} is neither a host name nor an IP address"
        )));
    }
    host.try_into()
        .map(SanType::DnsName)
        .map_err(|_| Error::Invalid(format!("{host:?} is not ASCII")))
}

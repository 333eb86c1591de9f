//! A certificate authority: made, and read back from its bundle and key.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{Error, files};

/// Certificates are valid from a little before they are made, for machines whose clocks differ.
const BACKDATED: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(86_400);

/// A CA that can sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate's end of life: nothing it signs may outlive it.
    not_after: SystemTime,
}

/// A new CA, as PEM.
#[derive(Debug)]
pub struct NewAuthority {
    /// Its certificate: a bundle of one.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Makes a CA for a mesh.
pub fn create(mesh: &str, days: u32) -> Result<NewAuthority, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::crypto("making the CA's key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("{mesh} CA"), mesh);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, days, None)?;
    let certificate = params
        .self_signed(&key)
        .map_err(Error::crypto("signing the CA's certificate"))?;
    Ok(NewAuthority {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

impl Authority {
    /// Reads the CA whose private key is in `key_file` from a bundle that has its certificate.
    pub fn load(ca_file: &Path, key_file: &Path) -> Result<Self, Error> {
        Self::from_pem(&files::read(ca_file)?, &files::read(key_file)?, ca_file, key_file)
    }

    /// As [`Authority::load`], of texts; the paths only name them in errors.
    pub fn from_pem(bundle: &str, key: &str, ca_file: &Path, key_file: &Path) -> Result<Self, Error> {
        let content = |path: &Path, detail: String| Error::Content {
            path: path.to_owned(),
            detail,
        };
        let key = KeyPair::from_pem(key).map_err(|error| content(key_file, error.to_string()))?;
        let public = key.subject_public_key_info();
        for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let der = der.map_err(|error| content(ca_file, format!("{error:?}")))?;
            let (_, parsed) = X509Certificate::from_der(&der)
                .map_err(|error| content(ca_file, format!("not a certificate: {error}")))?;
            if parsed.public_key().raw == public.as_slice() {
                let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
                let issuer =
                    Issuer::from_ca_cert_der(&der, key).map_err(|error| content(ca_file, error.to_string()))?;
                return Ok(Self {
                    issuer,
                    not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
                });
            }
        }
        Err(content(
            ca_file,
            format!("no certificate in it belongs to the key in {}", key_file.display()),
        ))
    }

    /// Signs `params` for `key`, valid from now for `days` but not beyond the CA itself.
    pub(super) fn sign(&self, mut params: CertificateParams, key: &KeyPair, days: u32) -> Result<String, Error> {
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, days, Some(self.not_after))?;
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(Error::crypto("signing the certificate"))?;
        Ok(certificate.pem())
    }
}

/// A distinguished name: for people, never for decisions.
pub(super) fn name(common: &str, organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organization);
    name.push(DnType::CommonName, common);
    name
}

fn validity(params: &mut CertificateParams, days: u32, limit: Option<SystemTime>) -> Result<(), Error> {
    let now = SystemTime::now();
    let mut end = now + DAY * days;
    if let Some(limit) = limit {
        if limit <= now {
            return Err(Error::Invalid(
                "the CA has expired: make a new one with `certs ca`".to_owned(),
            ));
        }
        end = end.min(limit);
    }
    let since_1970 = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| Error::Invalid("this machine's clock stands before 1970".to_owned()))
    };
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(now)?.saturating_sub(BACKDATED);
    params.not_after = epoch + since_1970(end)?;
    let mut serial = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| Error::Crypto {
        doing: "drawing a serial number",
        detail: "no randomness".to_owned(),
    })?;
    // Positive and of full length, as RFC 5280 wants.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

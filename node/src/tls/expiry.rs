//! When certificates end: as a fact for `mesh status`, and as a metric.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// This node's own certificate.
    Node,
    /// An authority whose certificates are trusted.
    Ca,
}

impl Use {
    /// `node` or `ca`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Ca => "ca",
        }
    }
}

/// The end of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What it is for.
    pub of: Use,
    /// The first 16 hexadecimal digits of its SHA-256 fingerprint, which tell two authorities of one name apart.
    pub fingerprint: String,
    /// Until when it is good.
    pub not_after: SystemTime,
}

impl Expiry {
    fn new(of: Use, der: &[u8]) -> Result<Self, String> {
        let hash = digest(&SHA256, der);
        let fingerprint = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
        Ok(Self {
            of,
            fingerprint: fingerprint.collect(),
            not_after: SystemTime::UNIX_EPOCH + not_after(der)?,
        })
    }

    pub(super) fn of_node(leaf: &[u8]) -> Result<Self, String> {
        Self::new(Use::Node, leaf)
    }

    /// The end in seconds since 1970.
    pub fn unix_s(&self) -> u64 {
        let since = self.not_after.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }
}

pub(super) fn of_authorities(bundle: &[CertificateDer<'_>]) -> Result<Vec<Expiry>, String> {
    bundle.iter().map(|authority| Expiry::new(Use::Ca, authority)).collect()
}

/// When a certificate (DER) ends, since 1970.
pub(super) fn not_after(der: &[u8]) -> Result<Duration, String> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| format!("not a certificate: {error}"))?;
    // Before 1970 is long ago in any case.
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Duration::from_secs(seconds))
}

/// The metric: one sample per certificate in use.
#[derive(Clone, Default)]
pub(super) struct Expiries(Family<Vec<(&'static str, String)>, Gauge>);

impl Expiries {
    /// Shows these, and no others any more.
    pub(super) fn show(&self, expiries: &[Expiry]) {
        self.0.clear();
        for expiry in expiries {
            let labels = vec![
                ("use", expiry.of.as_str().to_owned()),
                ("fingerprint", expiry.fingerprint.clone()),
            ];
            let end = i64::try_from(expiry.unix_s()).unwrap_or(i64::MAX);
            self.0.get_or_create(&labels).set(end);
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "meshkit_certificate_expiry_seconds",
            "When a certificate in use ends, in seconds since 1970",
            self.0.clone(),
        );
    }
}

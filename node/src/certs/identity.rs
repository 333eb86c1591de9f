//! The names in certificates: SPIFFE ids.
//!
//! The form is the SPIFFE standard's (<https://spiffe.io/docs/latest/spiffe-about/spiffe-concepts/>):
//! the mesh is the trust domain, and a certificate carries exactly one such URI.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::check::is_id;

/// Who somebody is to a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `spiffe://<mesh>/cluster/<cluster>/node/<node>`
    Node {
        /// The mesh.
        mesh: String,
        /// The cluster.
        cluster: String,
        /// The node's number.
        node: u64,
    },
    /// `spiffe://<mesh>/client/<name>`
    Client {
        /// The mesh.
        mesh: String,
        /// The client's name.
        name: String,
    },
    /// `spiffe://<mesh>/peer/<id>`
    Peer {
        /// The mesh.
        mesh: String,
        /// The peer's id.
        id: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { mesh, cluster, node } => write!(f, "spiffe://{mesh}/cluster/{cluster}/node/{node}"),
            Self::Client { mesh, name } => write!(f, "spiffe://{mesh}/client/{name}"),
            Self::Peer { mesh, id } => write!(f, "spiffe://{mesh}/peer/{id}"),
        }
    }
}

impl Identity {
    /// Reads a SPIFFE id of one of the three forms; `None` for anything else.
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("spiffe://")?.split('/');
        let mesh = parts.next().filter(|mesh| is_id(mesh))?.to_owned();
        let identity = match (parts.next()?, parts.next()?, parts.next(), parts.next()) {
            ("cluster", cluster, Some("node"), Some(node)) if is_id(cluster) => {
                let number = node.parse::<u64>().ok().filter(|&number| number > 0)?;
                // One identity, one spelling: no sign, no leading zero.
                if number.to_string() != node {
                    return None;
                }
                Self::Node {
                    mesh,
                    cluster: cluster.to_owned(),
                    node: number,
                }
            }
            ("client", name, None, None) if is_id(name) => Self::Client {
                mesh,
                name: name.to_owned(),
            },
            ("peer", id, None, None) if is_id(id) => Self::Peer {
                mesh,
                id: id.to_owned(),
            },
            _ => return None,
        };
        parts.next().is_none().then_some(identity)
    }
}

/// The SPIFFE id of a certificate (DER).
///
/// # Errors
/// When it is no certificate, or carries none or more than one URI: an identity that could be
/// read in two ways is none.
pub fn of_certificate(der: &[u8]) -> Result<String, String> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| format!("not a certificate: {error}"))?;
    if !rest.is_empty() {
        return Err("bytes follow the certificate".to_owned());
    }
    of_parsed(&certificate)
}

/// As [`of_certificate`], of one that is parsed already.
pub(super) fn of_parsed(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("unreadable subject alternative names: {error}"))?
        .ok_or("the certificate has no subject alternative names")?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) if uri.starts_with("spiffe://") => Ok(uri.to_owned()),
        (Some(uri), None) => Err(format!("{uri:?} is not a SPIFFE id")),
        (None, _) => Err("the certificate carries no SPIFFE id".to_owned()),
        (Some(_), Some(_)) => Err("the certificate carries more than one URI".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_back_as_they_are_written() {
        for identity in [
            Identity::Node {
                mesh: "m".into(),
                cluster: "eu-1".into(),
                node: 7,
            },
            Identity::Client {
                mesh: "m".into(),
                name: "ops".into(),
            },
            Identity::Peer {
                mesh: "m".into(),
                id: "p.1".into(),
            },
        ] {
            assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        }
    }

    #[test]
    fn anything_else_is_nobody() {
        for uri in [
            "",
            "spiffe://",
            "spiffe://m",
            "spiffe://m/node/1",
            "https://m/client/a",
            "spiffe://m/client/",
            "spiffe://m/client/a/b",
            "spiffe://m/cluster/c/node/0",
            "spiffe://m/cluster/c/node/01",
            "spiffe://m/cluster/c/node/+1",
            "spiffe://m/cluster/c/node/1/x",
            "spiffe://M/client/a",
            "spiffe://m/cluster//node/1",
            "spiffe://m/peer/a?b",
            "spiffe://m//client/a",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
    }
}

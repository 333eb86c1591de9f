//! Certificates and tokens of a development mesh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::certs::authority::{self, Authority};
use crate::certs::files::{self, Secrecy};
use crate::certs::identity::Identity;
use crate::certs::token::{self, Claims};
use crate::certs::{self, issue};
use crate::exit::{Exit, Failure};

use super::layout::Layout;

/// Tokens of a mesh that lives for a day or two need not end sooner.
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);

const DAYS: u32 = 365;

/// Names a node is reached under on this machine.
const HOSTS: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

/// Token name, subject, scope. `admin2` is a second person.
const TOKENS: [(&str, &str, &str); 5] = [
    ("read", "dev-reader", "mesh.read"),
    ("observe", "dev-observer", "mesh.observe"),
    ("operate", "dev-operator", "mesh.operate"),
    ("admin", "dev-admin", "mesh.admin"),
    ("admin2", "dev-admin-2", "mesh.admin"),
];

/// What was issued.
#[derive(Debug)]
pub struct Credentials {
    /// The CA's certificate.
    pub ca_file: PathBuf,
    /// Tokens by name.
    pub tokens: BTreeMap<&'static str, String>,
}

/// Issues everything a mesh of `nodes` nodes needs.
pub fn issue(layout: &Layout, mesh: &str, cluster: &str, nodes: u16) -> Result<Credentials, Failure> {
    let failed = |error: certs::Error| Failure::new(Exit::Failed, error.to_string());
    let secret = |path: &Path, text: &str| files::write(path, text.as_bytes(), Secrecy::Secret, false);
    let public = |path: &Path, text: &str| files::write(path, text.as_bytes(), Secrecy::Public, false);

    let (ca_file, ca_key_file) = (layout.file("ca.crt"), layout.file("ca.key"));
    let made = authority::create(mesh, DAYS).map_err(failed)?;
    secret(&ca_key_file, &made.key)
        .and_then(|()| public(&ca_file, &made.certificate))
        .map_err(failed)?;
    let ca = Authority::from_pem(&made.certificate, &made.key, &ca_file, &ca_key_file).map_err(failed)?;
    let hosts = HOSTS.map(str::to_owned);
    for node in 1..=nodes {
        let directory = layout.node(cluster, node);
        layout.make(&directory)?;
        let identity = Identity::Node {
            mesh: mesh.to_owned(),
            cluster: cluster.to_owned(),
            node: u64::from(node),
        };
        let issued = issue::issue(&ca, &identity, &hosts, DAYS).map_err(failed)?;
        secret(&directory.join("node.key"), &issued.key)
            .and_then(|()| public(&directory.join("node.crt"), &issued.certificate))
            .map_err(failed)?;
    }

    let key_file = layout.file("jwt.key");
    let key = token::new_key().map_err(failed)?;
    secret(&key_file, &key.private)
        .and_then(|()| public(&layout.file("jwt.pub"), &key.public))
        .map_err(failed)?;
    layout.make(&layout.file("tokens"))?;
    let mut tokens = BTreeMap::new();
    for (name, subject, scope) in TOKENS {
        let claims = Claims {
            subject: subject.to_owned(),
            scopes: vec![scope.to_owned()],
            ttl: TOKEN_TTL,
            issuer: "meshkit".to_owned(),
            mesh: mesh.to_owned(),
            key_id: String::new(),
        };
        let signed = token::sign(&key_file, &claims).map_err(failed)?;
        secret(&token_file(layout, name), &signed).map_err(failed)?;
        tokens.insert(name, signed);
    }
    Ok(Credentials { ca_file, tokens })
}

/// Where a token is kept.
pub fn token_file(layout: &Layout, name: &str) -> PathBuf {
    layout.file("tokens").join(format!("{name}.jwt"))
}

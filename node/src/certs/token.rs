//! Tokens: JWTs signed offline (ES256), for development and for whoever has no issuer.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::Serialize;

use super::identity::Identity;
use super::{Error, files};

/// The scopes there are. A higher one includes the lower, but for [`PEER`], which stands beside them.
pub const SCOPES: [&str; 5] = ["mesh.read", "mesh.observe", "mesh.operate", "mesh.admin", PEER];

/// To speak as the peer that the subject names.
pub const PEER: &str = "mesh.peer";

/// A new key to sign tokens with, PEM.
#[derive(Debug)]
pub struct NewKey {
    /// The private half: whoever has it is everybody.
    pub private: String,
    /// The public half, for `auth.key_files`.
    pub public: String,
}

/// Makes a signing key.
pub fn new_key() -> Result<NewKey, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::crypto("making a signing key"))?;
    Ok(NewKey {
        private: key.serialize_pem(),
        public: key.public_key_pem(),
    })
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Whose it is.
    pub subject: String,
    /// Space-separated scopes.
    pub scopes: Vec<String>,
    /// How long it is good for.
    pub ttl: Duration,
    /// `iss`: as the nodes' `auth.issuer`.
    pub issuer: String,
    /// `aud`: the mesh's id.
    pub mesh: String,
    /// `kid`: as in the nodes' JWKS file. Empty: left out.
    pub key_id: String,
}

impl Claims {
    /// Of a peer: to heartbeat and acknowledge as it, and to watch what is told of its shards.
    pub fn of_peer(mesh: &str, peer: &str, ttl: Duration) -> Self {
        let identity = Identity::Peer {
            mesh: mesh.to_owned(),
            id: peer.to_owned(),
        };
        Self {
            subject: identity.to_string(),
            scopes: vec![PEER.to_owned(), "mesh.observe".to_owned()],
            ttl,
            issuer: "meshkit".to_owned(),
            mesh: mesh.to_owned(),
            key_id: String::new(),
        }
    }
}

#[derive(Serialize)]
struct Body<'c> {
    iss: &'c str,
    aud: &'c str,
    sub: &'c str,
    scope: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

/// Signs a token with the private key in `key_file`.
pub fn sign(key_file: &Path, claims: &Claims) -> Result<String, Error> {
    if claims.subject.is_empty() || claims.subject.len() > 256 {
        return Err(Error::Invalid("a subject has 1 to 256 bytes".to_owned()));
    }
    let scopes: BTreeSet<&str> = claims.scopes.iter().map(String::as_str).collect();
    if let Some(unknown) = scopes.iter().find(|scope| !SCOPES.contains(scope)) {
        return Err(Error::Invalid(format!(
            "unknown scope {unknown:?}; scopes are {}",
            SCOPES.join(", ")
        )));
    }
    if scopes.contains(PEER) && !is_peer(&claims.subject, &claims.mesh) {
        return Err(Error::Invalid(format!(
            "{PEER} is for peers alone: the subject has to be spiffe://{}/peer/ID (`--peer ID`)",
            claims.mesh
        )));
    }
    let content = |detail: String| Error::Content {
        path: key_file.to_owned(),
        detail,
    };
    let pem = files::read(key_file)?;
    let key = EncodingKey::from_ec_pem(pem.as_bytes())
        .map_err(|error| content(format!("not an ECDSA private key: {error}")))?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| Error::Invalid("this machine's clock stands before 1970".to_owned()))?
        .as_secs();
    let mut id = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| Error::Crypto {
        doing: "drawing a token id",
        detail: "no randomness".to_owned(),
    })?;
    let body = Body {
        iss: &claims.issuer,
        aud: &claims.mesh,
        sub: &claims.subject,
        scope: scopes.into_iter().collect::<Vec<_>>().join(" "),
        iat: now,
        nbf: now,
        exp: now.saturating_add(claims.ttl.as_secs()),
        jti: id.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let mut header = Header::new(Algorithm::ES256);
    header.kid = (!claims.key_id.is_empty()).then(|| claims.key_id.clone());
    jsonwebtoken::encode(&header, &body, &key).map_err(|error| Error::Crypto {
        doing: "signing the token",
        detail: error.to_string(),
    })
}

fn is_peer(subject: &str, mesh: &str) -> bool {
    matches!(Identity::parse(subject), Some(Identity::Peer { mesh: of, .. }) if of == mesh)
}

/// Reads a duration such as `90s`, `15m`, `12h` or `30d`.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: give a number and s, m, h or d, like 12h");
    let units = [('s', 1_u64), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let found = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, unit) = found.ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number
        .checked_mul(unit)
        .filter(|&seconds| (1..=315_360_000).contains(&seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not between 1s and 3650d"))
}

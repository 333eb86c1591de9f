//! Tokens: which keys sign them, and what has to be in them.

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use proto::{codes::Code, methods::Scope};
use serde::Deserialize;
use statemachine::MeshId;

use super::{InvalidAuth, JwtConfig, Principal, Proof, expired, grant::Grant, unauthenticated};
use crate::Error;

/// The longest subject, in bytes: it goes into every audit record.
const SUBJECT_BYTES_MAX: usize = 256;

/// Checks tokens of one issuer for one mesh.
pub(super) struct Verifier {
    mesh: MeshId,
    keys: Vec<Key>,
    leeway_s: u64,
    /// One per algorithm in use: issuer and audience are checked by the library.
    validations: Vec<(Algorithm, Validation)>,
}

struct Key {
    /// `kid` of a JWKS entry; PEM keys have none and are tried for every token of their algorithm.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    /// Space-separated, as RFC 8693 writes it.
    #[serde(default)]
    scope: String,
}

impl Verifier {
    pub(super) fn new(mesh: &MeshId, config: &JwtConfig) -> Result<Self, InvalidAuth> {
        let mut keys = Vec::new();
        for (file, pem) in &config.pem_keys {
            keys.extend(pem_keys(pem).ok_or_else(|| InvalidAuth::Key {
                file: file.clone(),
                why: "not PEM public keys of Ed25519, P-256 or RSA".to_owned(),
            })?);
        }
        if let Some((file, text)) = &config.jwks {
            keys.extend(jwks_keys(text).map_err(|why| InvalidAuth::Key {
                file: file.clone(),
                why,
            })?);
        }
        if keys.is_empty() || config.issuer.is_empty() {
            return Err(InvalidAuth::NoKeys);
        }
        let mut validations: Vec<(Algorithm, Validation)> = Vec::new();
        for key in &keys {
            if validations.iter().all(|(algorithm, _)| *algorithm != key.algorithm) {
                let mut validation = Validation::new(key.algorithm);
                validation.set_audience(&[mesh.as_str()]);
                validation.set_issuer(&[config.issuer.as_str()]);
                validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
                // Times are checked below, against the node's own clock.
                validation.validate_exp = false;
                validation.validate_nbf = false;
                validations.push((key.algorithm, validation));
            }
        }
        Ok(Self {
            mesh: mesh.clone(),
            keys,
            leeway_s: config.leeway_s,
            validations,
        })
    }

    /// The caller that a token names.
    ///
    /// # Errors
    /// `unauthenticated` or `credential_expired`.
    pub(super) fn verify(&self, token: &[u8], now_s: u64) -> Result<Principal, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| unauthenticated("the token is malformed"))?;
        let fits = |key: &&Key| {
            let named = match (&header.kid, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            key.algorithm == header.alg && named
        };
        let mut refusal = unauthenticated("no key here has signed the token");
        for key in self.keys.iter().filter(fits) {
            let Some((_, validation)) = self
                .validations
                .iter()
                .find(|(algorithm, _)| *algorithm == key.algorithm)
            else {
                continue;
            };
            match jsonwebtoken::decode::<Claims>(token, &key.key, validation) {
                Ok(data) => return self.principal(data.claims, now_s),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    kind => refusal = unauthenticated(why(kind)),
                },
            }
        }
        Err(refusal)
    }

    fn principal(&self, claims: Claims, now_s: u64) -> Result<Principal, Error> {
        let end = claims.exp.saturating_add(self.leeway_s);
        if end <= now_s {
            return Err(expired());
        }
        if claims.nbf > now_s.saturating_add(self.leeway_s) {
            return Err(Error::new(
                Code::Unauthenticated,
                "the token is not valid yet, by this node's clock",
            )
            .hint(
                "the clock of this node or of the token's issuer is off: ask another node, and see `mesh status` there",
            ));
        }
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX || claims.sub.chars().any(char::is_control) {
            return Err(unauthenticated(
                "the token's subject is empty, too long or has control characters",
            ));
        }
        if claims.sub.starts_with("system:") {
            return Err(unauthenticated("subjects that start with `system:` are the nodes' own"));
        }
        // Scopes of others are none of our business.
        let scopes = claims.scope.split_ascii_whitespace().filter_map(Scope::parse);
        let Grant { scope, peer } = Grant::of(&self.mesh, &claims.sub, scopes).map_err(unauthenticated)?;
        Ok(Principal {
            scope,
            peer,
            subject: claims.sub,
            proof: Proof::Jwt,
            expires_s: Some(end),
            session: None,
        })
    }
}

fn why(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another mesh",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of exp, sub, iss and aud",
        _ => "the token is malformed",
    }
}

/// The keys of a file, one block after the other: while keys are replaced, old and new ones count. None where one of
/// them is no key or breaks off, or there is none. Text between blocks is for people.
fn pem_keys(file: &[u8]) -> Option<Vec<Key>> {
    let mut keys = Vec::new();
    let mut block: Option<String> = None;
    for line in std::str::from_utf8(file).ok()?.lines().map(str::trim) {
        if line.starts_with("-----BEGIN ") && block.replace(String::new()).is_some() {
            return None;
        }
        let Some(text) = &mut block else { continue };
        text.push_str(line);
        text.push('\n');
        if line.starts_with("-----END ") {
            keys.push(pem_key(text.as_bytes())?);
            block = None;
        }
    }
    (block.is_none() && !keys.is_empty()).then_some(keys)
}

fn pem_key(pem: &[u8]) -> Option<Key> {
    let key = |algorithm, key| Key {
        id: None,
        algorithm,
        key,
    };
    // A private key in the place of a public one is a mistake that must not pass.
    if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
        return None;
    }
    DecodingKey::from_ed_pem(pem)
        .map(|found| key(Algorithm::EdDSA, found))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|found| key(Algorithm::ES256, found)))
        .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|found| key(Algorithm::RS256, found)))
        .ok()
}

fn jwks_keys(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(text).map_err(|error| format!("not a JWK set: {error}"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let name = jwk.common.key_id.as_deref().unwrap_or("without a kid");
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            continue;
        }
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            _ => return Err(format!("key {name}: only Ed25519, P-256 and RSA keys are used")),
        };
        let stated = match jwk.common.key_algorithm {
            None => algorithm,
            Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
            Some(KeyAlgorithm::ES256) => Algorithm::ES256,
            Some(KeyAlgorithm::RS256) => Algorithm::RS256,
            Some(_) => return Err(format!("key {name}: only EdDSA, ES256 and RS256 are used")),
        };
        if stated != algorithm {
            return Err(format!("key {name}: its algorithm does not fit its type"));
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("key {name}: {error}"))?;
        keys.push(Key {
            id: jwk.common.key_id.clone(),
            algorithm,
            key,
        });
    }
    Ok(keys)
}

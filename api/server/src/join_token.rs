//! The token with which a new node joins: shown once, to whoever invites it.
//!
//! It is base64url without padding of a JSON document, so that a person can look into it. It names whom the new node
//! may believe: the mesh, the cluster, its members, and the authorities that sign their certificates.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// A token is longer than this only by mistake.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Random bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// What a token says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// The mesh.
    pub mesh: String,
    /// The cluster.
    pub cluster: String,
    /// The only node that it is good for.
    pub node: u64,
    /// Where the cluster's members are.
    pub members: Vec<Contact>,
    /// SHA-256 of each authority's certificate, in hexadecimal digits.
    pub authorities: Vec<String>,
    /// What proves its bearer, in hexadecimal digits.
    pub secret: String,
    /// Until when by the wall clock of the leader that made it, ms since 1970. What counts is mesh time.
    pub expires_ms: u64,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Its id.
    pub node: u64,
    /// `host:port` of its node-to-node port.
    pub raft: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "JoinToken(node {} of cluster {} of mesh {})",
            self.node, self.cluster, self.mesh
        )
    }
}

impl JoinToken {
    /// The token as it is handed over.
    ///
    /// # Errors
    /// It has no JSON form, which does not happen with text and numbers.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn decode(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
            return Err(format!("a token of {} bytes", text.len()));
        }
        let json = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| "is not base64url: was all of it copied?".to_owned())?;
        let error =
            |error: serde_json::Error| format!("does not say what a join token says (column {})", error.column());
        serde_json::from_slice(&json).map_err(error)
    }

    /// The secret itself.
    ///
    /// # Errors
    /// It is not [`SECRET_BYTES`] bytes in hexadecimal digits.
    pub fn secret_bytes(&self) -> Result<Vec<u8>, String> {
        let wrong = || "its secret is not one".to_owned();
        if self.secret.len() != 2 * SECRET_BYTES || !self.secret.is_ascii() {
            return Err(wrong());
        }
        let pairs = (0..SECRET_BYTES).map(|at| u8::from_str_radix(&self.secret[2 * at..2 * at + 2], 16));
        pairs.collect::<Result<_, _>>().map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            mesh: "m1".into(),
            cluster: "c1".into(),
            node: 4,
            members: vec![Contact {
                node: 1,
                raft: "h:1".into(),
            }],
            authorities: vec!["ab".repeat(32)],
            secret: "07".repeat(32),
            expires_ms: 9,
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let text = token().encode().unwrap();
        assert_eq!(JoinToken::decode(&format!(" {text}\n")).unwrap(), token());
        assert_eq!(token().secret_bytes(), Ok(vec![7; 32]));
        assert!(!format!("{:?}", token()).contains("0707"), "it shows its secret");
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        let text = token().encode().unwrap();
        for bad in [
            "",
            "no token",
            &text[..text.len() - 3],
            "e30",
            &"A".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            let why = JoinToken::decode(bad).unwrap_err();
            assert!(!why.contains("0707"), "{why}");
        }
        for secret in ["", "07", &"zz".repeat(32), &"é".repeat(32)] {
            let bad = JoinToken {
                secret: secret.to_owned(),
                ..token()
            };
            assert!(bad.secret_bytes().is_err(), "{secret}");
        }
    }
}

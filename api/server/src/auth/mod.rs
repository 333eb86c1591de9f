//! Who a caller is and what they hold.
//!
//! A bearer token names a person or a program; a client certificate names one through the bindings of the node's
//! configuration. What is found here is all that the rest of the server knows of a caller. Authorisation is one
//! comparison of scopes and happens in [`crate::stack`].

mod binding;
mod cache;
mod config;
pub(crate) mod forwarded;
mod grant;
mod identity;
mod jwt;

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use proto::{codes::Code, methods::Scope};
use raft::env::{ConnInfo, PeerIdentity};
use statemachine::{ClusterId, MeshId, PeerId};

pub use self::{
    binding::{Binding, InvalidBinding},
    config::{AuthConfig, InvalidAuth, JwtConfig},
    identity::{NodeIdentity, node_identity, peer_identity},
};
use crate::Error;

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A signed token.
    Jwt,
    /// A client certificate and a binding.
    Certificate,
    /// Being on the same machine, where the node was told to accept that.
    Loopback,
    /// A browser's cookie, which a token was traded for.
    Session,
}

impl Proof {
    /// `jwt`, `certificate`, `loopback` or `session`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Certificate => "certificate",
            Self::Loopback => "loopback",
            Self::Session => "session",
        }
    }

    /// The proof of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Jwt, Self::Certificate, Self::Loopback, Self::Session]
            .into_iter()
            .find(|proof| proof.as_str() == text)
    }
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Subject after binding: `alice`, `spiffe://mesh-1/client/ci`.
    pub subject: String,
    /// The highest scope held of those that include lower ones; absent where none is.
    pub scope: Option<Scope>,
    /// The peer that the caller is, with `mesh.peer`; absent for everybody else.
    pub peer: Option<PeerId>,
    /// How the caller proved it.
    pub proof: Proof,
    /// When the credential ends, seconds since 1970.
    pub expires_s: Option<u64>,
    /// With a session: its id.
    pub session: Option<String>,
}

impl Principal {
    /// Whether the caller holds a scope.
    #[must_use]
    pub fn holds(&self, scope: Scope) -> bool {
        match scope {
            // Beside the ladder: who is no peer cannot speak as one, whatever else they may do.
            Scope::Peer => self.peer.is_some(),
            Scope::Read | Scope::Observe | Scope::Operate | Scope::Admin => {
                self.scope.is_some_and(|held| held >= scope)
            }
        }
    }

    /// Every scope held, lower ones included.
    #[must_use]
    pub fn scopes(&self) -> Vec<&'static str> {
        std::iter::once(Scope::Peer)
            .chain(Scope::LADDER)
            .filter(|scope| self.holds(*scope))
            .map(Scope::as_str)
            .collect()
    }
}

/// Decides who a caller is. One for the life of a server; what it goes by can be replaced while it runs.
pub struct Authenticator {
    mesh: MeshId,
    cluster: ClusterId,
    rules: ArcSwap<Rules>,
}

/// What an authenticator goes by, and the tokens it has verified under it.
struct Rules {
    jwt: Option<jwt::Verifier>,
    bindings: binding::Bindings,
    loopback: Option<Arc<Principal>>,
    token_bytes_max: usize,
    verified: cache::Verified,
}

impl Authenticator {
    /// An authenticator for nodes of one cluster of one mesh.
    ///
    /// # Errors
    /// A key does not parse, a binding makes no sense, or nothing at all could authenticate anybody.
    pub fn new(mesh: MeshId, cluster: ClusterId, config: &AuthConfig) -> Result<Self, InvalidAuth> {
        let rules = Rules::new(&mesh, config)?;
        Ok(Self {
            mesh,
            cluster,
            rules: ArcSwap::from_pointee(rules),
        })
    }

    /// Goes by another configuration from the next request on. Verified tokens are forgotten.
    ///
    /// # Errors
    /// As [`Authenticator::new`]; the old configuration then stays in force.
    pub fn replace(&self, config: &AuthConfig) -> Result<(), InvalidAuth> {
        self.rules.store(Arc::new(Rules::new(&self.mesh, config)?));
        Ok(())
    }

    /// The mesh whose callers are known here.
    #[must_use]
    pub fn mesh(&self) -> &MeshId {
        &self.mesh
    }

    /// The node of this mesh and cluster that a connection comes from, as long as its certificate counts. Whether it is
    /// a member is not known here.
    #[must_use]
    pub fn node(&self, conn: &ConnInfo, now_s: u64) -> Option<NodeIdentity> {
        let shown = conn.identity.as_ref()?;
        if shown.has_expired(now_s) || shown.standing.is_withdrawn() {
            return None;
        }
        let identity = node_identity(&shown.uri)?;
        (identity.mesh == self.mesh && identity.cluster == self.cluster).then_some(identity)
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// `unauthenticated` or `credential_expired`. What was wrong with a token is said in general terms only.
    pub fn principal(&self, conn: &ConnInfo, headers: &HeaderMap, now_s: u64) -> Result<Arc<Principal>, Error> {
        let rules = self.rules.load();
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
                return Err(unauthenticated("more than one Authorization header"));
            }
            return rules.bearer(value.as_bytes(), now_s);
        }
        if let Some(identity) = &conn.identity {
            return rules.certificate(identity, now_s);
        }
        match &rules.loopback {
            Some(principal) if !conn.tls && is_loopback(conn.peer) => Ok(Arc::clone(principal)),
            _ => Err(unauthenticated("the request carries no credential")),
        }
    }
}

impl Rules {
    fn new(mesh: &MeshId, config: &AuthConfig) -> Result<Self, InvalidAuth> {
        Ok(Self {
            jwt: config
                .jwt
                .as_ref()
                .map(|jwt| jwt::Verifier::new(mesh, jwt))
                .transpose()?,
            bindings: binding::Bindings::new(mesh, &config.bindings)?,
            loopback: config.loopback_admin.then(|| {
                Arc::new(Principal {
                    subject: "loopback".to_owned(),
                    scope: Some(Scope::Admin),
                    peer: None,
                    proof: Proof::Loopback,
                    expires_s: None,
                    session: None,
                })
            }),
            token_bytes_max: config.token_bytes_max,
            verified: cache::Verified::default(),
        })
    }

    /// The caller that a client certificate names. It was good in the handshake; whether it still is, is asked for
    /// every request.
    fn certificate(&self, identity: &PeerIdentity, now_s: u64) -> Result<Arc<Principal>, Error> {
        if identity.standing.is_withdrawn() {
            return Err(Error::new(
                Code::Unauthenticated,
                "the certificate's authority is not trusted here any more",
            )
            .hint("get a certificate from a current authority and connect again"));
        }
        if identity.has_expired(now_s) {
            return Err(
                Error::new(Code::CredentialExpired, "the client certificate has expired")
                    .hint("renew the certificate (`meshkit-node certs renew`) and connect again"),
            );
        }
        // A certificate's last second still counts; an end is the first moment that does not.
        let end = identity.not_after_s.map(|last| last.saturating_add(1));
        let found = self.bindings.principal(&identity.uri, end).map_err(unauthenticated)?;
        found.ok_or_else(|| {
            unauthenticated(format!(
                "the certificate's name `{}` is not bound to a subject here",
                identity.uri
            ))
        })
    }

    fn bearer(&self, value: &[u8], now_s: u64) -> Result<Arc<Principal>, Error> {
        let token = match value.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
            _ => {
                return Err(unauthenticated(
                    "the Authorization header is not of the form `Bearer <token>`",
                ));
            }
        };
        if token.len() > self.token_bytes_max {
            return Err(unauthenticated("the token is too long"));
        }
        let Some(verifier) = &self.jwt else {
            return Err(unauthenticated("this node accepts no tokens"));
        };
        let principal = match self.verified.get(token) {
            Some(principal) => principal,
            None => {
                let principal = Arc::new(verifier.verify(token, now_s)?);
                self.verified.put(token, &principal, now_s);
                principal
            }
        };
        if principal.expires_s.is_some_and(|end| end <= now_s) {
            return Err(expired());
        }
        Ok(principal)
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

pub(crate) fn unauthenticated(detail: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, detail)
        .hint("send `Authorization: Bearer <token>`, or connect with a client certificate that is bound to a subject")
}

fn expired() -> Error {
    Error::new(Code::CredentialExpired, "the token has expired, by this node's clock").hint(
        "get a new token and send the request again; if a new one is refused too, this node's clock is off: ask another \
         node, and see `mesh status` there",
    )
}

#[cfg(test)]
mod tests;

//! Sessions of browsers: a cookie in place of a token, since `EventSource` sends no header and a page should not keep what
//! acts for its user everywhere.
//!
//! The cookie is a random secret. The mesh knows its hash only, as a replicated record: so the cookie is good on every
//! node, and ending the session reaches all of them with the revision that ends it. What the page has to send beside the
//! cookie, to change anything, follows from the secret, and no other site's page can learn it.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use proto::{codes::Code, methods::Scope};
use raft::Consistency;
use statemachine::{
    Hash,
    record::{Held, Session},
};
use tokio::time::Instant;

use crate::{
    Error,
    auth::{Principal, Proof, unauthenticated},
    core::Core,
    headers,
};

/// The cookie. Browsers take one of this prefix only over TLS, for exactly this host and all of its paths.
pub(crate) const COOKIE: &str = "__Host-meshkit-session";
/// How long a node that does not know a session waits to hear whether there is one.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// What only the browser has.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub(crate) fn random() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| Error::internal("the machine gives no random bytes"))?;
        Ok(Self(bytes))
    }

    /// The secret in a request's cookie; none where it has no such cookie.
    ///
    /// # Errors
    /// `unauthenticated`: the cookie is there twice, or is none of ours.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let fields = headers.get_all(header::COOKIE).iter();
        let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        let mut found = pairs.filter_map(|pair| {
            let rest = pair.trim_ascii().strip_prefix(COOKIE.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        let Some(value) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(unauthenticated("the session's cookie is there twice"));
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(value).ok();
        let secret = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        secret.map_or_else(|| Err(unknown()), |secret| Ok(Some(Self(secret))))
    }

    /// What the mesh knows the session by.
    pub(crate) fn id(&self) -> Hash {
        self.derive(b"meshkit-session-id")
    }

    /// What the page sends beside the cookie.
    pub(crate) fn csrf_token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.derive(b"meshkit-session-csrf").0)
    }

    /// One hash cannot be had from another: both are of the secret, under names of their own.
    fn derive(&self, name: &[u8]) -> Hash {
        let hashed = digest(&SHA256, &[name, &self.0].concat());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hashed.as_ref());
        Hash(bytes)
    }

    /// `Set-Cookie`, for as long as the session lasts.
    pub(crate) fn cookie(&self, seconds: u64) -> String {
        set_cookie(&BASE64_URL_SAFE_NO_PAD.encode(self.0), seconds)
    }
}

/// `Set-Cookie` that has the browser forget.
pub(crate) fn no_cookie() -> String {
    set_cookie("", 0)
}

fn set_cookie(value: &str, seconds: u64) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={seconds}")
}

/// Refuses a request that changes something and comes without what only the session's own page can know.
///
/// # Errors
/// `invalid_argument`, naming the header.
pub(crate) fn check_csrf(headers: &HeaderMap) -> Result<(), Error> {
    let wrong = |detail: &str| {
        Err(Error::invalid("Mesh-Csrf-Token", detail)
            .hint("send the `csrfToken` that `POST /meshkit/session` and `GET /meshkit/session` answer"))
    };
    let Some(sent) = headers::text(headers, headers::CSRF_TOKEN)? else {
        return wrong("a request by a session that is no GET needs this header");
    };
    let expected = Secret::of(headers)?.map(|secret| secret.csrf_token());
    match expected {
        Some(expected) if verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_ok() => Ok(()),
        Some(_) | None => wrong("it is not the one of this session"),
    }
}

/// What a scope is called in a session's record.
pub(crate) fn held(scope: Option<Scope>) -> Held {
    match scope {
        // What a peer holds beside the ladder, no session does.
        None | Some(Scope::Peer) => Held::Nothing,
        Some(Scope::Read) => Held::Read,
        Some(Scope::Observe) => Held::Observe,
        Some(Scope::Operate) => Held::Operate,
        Some(Scope::Admin) => Held::Admin,
    }
}

fn scope(held: Held) -> Option<Scope> {
    match held {
        Held::Nothing => None,
        Held::Read => Some(Scope::Read),
        Held::Observe => Some(Scope::Observe),
        Held::Operate => Some(Scope::Operate),
        Held::Admin => Some(Scope::Admin),
    }
}

impl Core {
    /// Who acts through the session of a secret. A node that has not heard of it asks whether it is behind.
    ///
    /// # Errors
    /// `unauthenticated` or `credential_expired`; what a read answers where there is no quorum to ask.
    pub(crate) async fn in_session(&self, secret: &Secret) -> Result<Arc<Principal>, Error> {
        let id = secret.id();
        let here = self.handle.view();
        let session = match here.state().mesh.session(id) {
            Some(session) => session.clone(),
            None => {
                // Made-up secrets cost a share of a round that readers make anyway, and only so many at once.
                let _place = self.places.anonymous()?;
                let asked = self
                    .handle
                    .read(Consistency::Linearizable, Instant::now() + KNOWN_WITHIN);
                asked.await?.state().mesh.session(id).cloned().ok_or_else(unknown)?
            }
        };
        principal(&session, self.clock.wall_ms())
    }

    /// Whether a caller's session, if it is one, still is.
    pub(crate) fn session_stands(&self, principal: &Principal) -> bool {
        let Some(id) = &principal.session else { return true };
        let view = self.handle.view();
        Hash::parse(id).is_some_and(|id| view.state().mesh.session(id).is_some())
    }
}

fn principal(session: &Session, now_ms: u64) -> Result<Arc<Principal>, Error> {
    if session.expires_ms <= now_ms {
        return Err(
            Error::new(Code::CredentialExpired, "the session has ended, by this node's clock")
                .hint("sign in again: `POST /meshkit/session` with a token"),
        );
    }
    Ok(Arc::new(Principal {
        subject: session.subject.clone(),
        scope: scope(session.held),
        peer: None,
        proof: Proof::Session,
        expires_s: Some(session.expires_ms / 1000),
        session: Some(session.id.to_string()),
    }))
}

fn unknown() -> Error {
    Error::new(Code::Unauthenticated, "there is no such session, or it was ended")
        .hint("sign in again: `POST /meshkit/session` with a token")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, cookie.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_reads_back_among_others() {
        let secret = Secret::random().unwrap();
        let cookie = secret.cookie(60);
        let pair = cookie.split(';').next().unwrap();
        for cookies in [
            vec![pair.to_owned()],
            vec![format!("a=b; {pair};c=d")],
            vec!["x=y".to_owned(), pair.to_owned()],
        ] {
            let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
            let found = Secret::of(&headers(&cookies)).unwrap().unwrap();
            assert_eq!(found.id(), secret.id());
            assert_eq!(found.csrf_token(), secret.csrf_token());
        }
        assert_ne!(secret.id().to_string(), secret.csrf_token());
        assert!(Secret::of(&headers(&["other=1; meshkit-session=2"])).unwrap().is_none());
        for bad in [
            format!("{pair}; {pair}"),
            format!("{COOKIE}="),
            format!("{COOKIE}=abc"),
            format!("{pair}A"),
            format!("{COOKIE}=%%"),
        ] {
            let refused = Secret::of(&headers(&[&bad])).err().unwrap();
            assert_eq!(refused.code(), Code::Unauthenticated, "{bad}");
        }
    }

    #[test]
    fn the_page_has_to_know_what_no_other_page_can() {
        let (secret, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        let cookie = secret.cookie(60);
        let mut request = headers(&[cookie.split(';').next().unwrap()]);
        assert!(check_csrf(&request).is_err());
        request.insert(headers::CSRF_TOKEN, other.csrf_token().parse().unwrap());
        assert!(check_csrf(&request).is_err());
        request.insert(headers::CSRF_TOKEN, secret.csrf_token().parse().unwrap());
        assert!(check_csrf(&request).is_ok());
        request.remove(header::COOKIE);
        assert!(check_csrf(&request).is_err());
    }
}

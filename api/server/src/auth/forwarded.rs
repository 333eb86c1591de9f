//! The one header in which a node tells the leader on whose behalf it carries a request.
//!
//! Taken only from an authenticated member of this cluster that has not been removed. From everybody else the header
//! is thrown away unread, and the sender is judged by its own credential.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use proto::methods::Scope;
use serde::{Deserialize, Serialize};
use statemachine::PeerId;

use super::{Principal, Proof};

/// The header.
pub(crate) const HEADER: &str = "mesh-forwarded";

/// The longest value that is read, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// A caller, as the node that it spoke to knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forwarded {
    pub(crate) principal: Arc<Principal>,
    /// `h3`, `h2` or `h1`.
    pub(crate) transport: &'static str,
    pub(crate) address: SocketAddr,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form<'a> {
    subject: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<std::borrow::Cow<'a, str>>,
    proof: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<std::borrow::Cow<'a, str>>,
    transport: std::borrow::Cow<'a, str>,
    address: SocketAddr,
}

impl Forwarded {
    /// The header's value. None only for a subject that no header can carry, which base64 rules out.
    pub(crate) fn encode(&self) -> Option<HeaderValue> {
        let form = Form {
            subject: self.principal.subject.as_str().into(),
            scope: self.principal.scope.map(|scope| scope.as_str().into()),
            peer: self.principal.peer.as_ref().map(|peer| peer.as_str().into()),
            proof: self.principal.proof.as_str().into(),
            expires_s: self.principal.expires_s,
            session: self.principal.session.as_deref().map(Into::into),
            transport: self.transport.into(),
            address: self.address,
        };
        let json = serde_json::to_vec(&form).ok()?;
        HeaderValue::try_from(BASE64_URL_SAFE_NO_PAD.encode(json)).ok()
    }

    /// Reads the header's value. None where it is not what a node of this release writes.
    pub(crate) fn decode(value: &HeaderValue) -> Option<Self> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        let json = BASE64_URL_SAFE_NO_PAD.decode(value.as_bytes()).ok()?;
        let form: Form<'_> = serde_json::from_slice(&json).ok()?;
        let scope = match &form.scope {
            Some(name) => Some(Scope::parse(name)?),
            None => None,
        };
        let peer = match &form.peer {
            Some(id) => Some(PeerId::new(id).ok()?),
            None => None,
        };
        Some(Self {
            principal: Arc::new(Principal {
                subject: form.subject.into_owned(),
                scope,
                peer,
                proof: Proof::parse(&form.proof)?,
                expires_s: form.expires_s,
                session: form.session.map(std::borrow::Cow::into_owned),
            }),
            transport: crate::transport::label(&form.transport)?,
            address: form.address,
        })
    }
}

//! Who asks, what they may do, and what is noted of those who may not.

use http::request::Parts as Head;
use hyper::body::Incoming;
use proto::{
    codes::Code,
    methods::{self, Method},
};
use raft::env::ConnInfo;
use statemachine::Refusal;

use crate::{
    Error,
    access::Exchange,
    auth::{Principal, forwarded},
    body::{self, RequestBody},
    browser, grpc, rest,
    stack::{Caller, Stack},
};

impl Stack {
    /// Who asks: a member node on somebody's behalf, or the sender itself.
    pub(crate) fn caller(&self, exchange: &mut Exchange, conn: &ConnInfo, head: &mut Head) -> Result<Caller, Error> {
        let now_s = self.core.clock.wall_ms() / 1000;
        if let Some(value) = head.headers.remove(forwarded::HEADER) {
            if let Some(member) = self.core.member(conn, now_s) {
                let forwarded = forwarded::Forwarded::decode(&value)
                    .ok_or_else(|| Error::invalid(forwarded::HEADER, "not of the form that nodes write"))?;
                if forwarded.principal.expires_s.is_some_and(|end| end <= now_s) {
                    return Err(Error::new(
                        Code::CredentialExpired,
                        "the caller's credential has expired",
                    ));
                }
                tracing::debug!(via = %member.node, request_id = %exchange.request_id, "forwarded");
                exchange.transport = forwarded.transport;
                exchange.address = forwarded.address;
                exchange.forwarded = true;
                return Ok(Caller {
                    principal: forwarded.principal,
                    hop: true,
                });
            }
            self.core.metrics.forged.inc();
            tracing::warn!(address = %conn.peer, request_id = %exchange.request_id,
                "a forwarding header from somebody who is no member node was thrown away");
        }
        let principal = self.core.auth.principal(conn, &head.headers, now_s)?;
        Ok(Caller { principal, hop: false })
    }

    /// Whether the caller holds a scope.
    pub(crate) fn need(&self, scope: methods::Scope, principal: &Principal) -> Result<(), Error> {
        if principal.holds(scope) {
            return Ok(());
        }
        let held = match principal.scope {
            Some(held) => format!("`{}` holds {held}", principal.subject),
            None => format!("`{}` holds none", principal.subject),
        };
        Err(Error::scope_missing(scope, &held))
    }

    /// Whether the caller may use a method, and does so of their own accord.
    pub(crate) fn may(&self, method: &Method, caller: &Caller, head: &Head) -> Result<(), Error> {
        self.need(method.scope, &caller.principal)?;
        // What a member carried here was looked at where it came in.
        if method.mutation && !caller.hop {
            browser::check(caller.principal.proof, head)?;
        }
        Ok(())
    }

    /// Has a refusal of a known caller written into the audit trail.
    pub(crate) fn note(&self, exchange: &Exchange, method: &Method, target: String, error: Error) -> Error {
        self.core.refusals.note(Refusal {
            actor: exchange
                .principal
                .as_ref()
                .map(|principal| principal.subject.clone())
                .unwrap_or_default(),
            action: method.action.clone(),
            target,
            code: error.name().to_owned(),
            request_id: exchange.request_id.clone(),
            transport: exchange.transport.to_owned(),
            node: self.core.handle.node(),
            refused_wall_ms: self.core.clock.wall_ms(),
        });
        error
    }

    /// What a refused request was about: `peer/p1`; empty where that cannot be told.
    pub(crate) async fn named_target(
        &self,
        method: &'static Method,
        variables: Option<&[(&'static str, String)]>,
        unread: &mut Option<Incoming>,
    ) -> String {
        let Some(kind) = rest::kind_of(method) else {
            return String::new();
        };
        let id = match variables {
            Some(variables) => variables
                .iter()
                .find(|(name, _)| *name == "id")
                .map(|(_, id)| id.clone()),
            None => {
                let Some(body) = unread.take() else {
                    return String::new();
                };
                let read = body::collect(RequestBody::network(body, self.core.config.limits.body_bytes_max));
                match tokio::time::timeout(self.core.drain_within(), read).await {
                    Ok(Ok(framed)) => grpc::unframe(framed).and_then(|message| rest::id_in(method, message)),
                    _ => None,
                }
            }
        };
        // Only what could be an id gets into the trail.
        let id = id.and_then(|id| statemachine::PeerId::new(&id).ok());
        id.map(|id| format!("{kind}/{id}")).unwrap_or_default()
    }
}

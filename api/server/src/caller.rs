//! Who asks, what they may do, and what is noted of those who may not.

use http::{header, request::Parts as Head};
use proto::{
    codes::Code,
    methods::{self, HttpVerb, Method},
};
use raft::env::ConnInfo;
use statemachine::Refusal;
use tokio::time::Instant;

use crate::{
    Error,
    access::Exchange,
    auth::{Principal, Proof, forwarded},
    body::{self, Arriving, RequestBody},
    browser,
    context::Call,
    core::Core,
    framing, rest,
    session::{self, Secret},
    shares::Place,
    stack::{Caller, Stack, What},
};

/// Whether the caller holds a scope.
fn need(scope: methods::Scope, principal: &Principal) -> Result<(), Error> {
    if principal.holds(scope) {
        return Ok(());
    }
    let held = match (principal.scope, &principal.peer) {
        (Some(held), None) => format!("`{}` holds {held}", principal.subject),
        (Some(held), Some(_)) => format!("`{}` holds {held} and mesh.peer", principal.subject),
        (None, Some(_)) => format!("`{}` holds mesh.peer", principal.subject),
        (None, None) => format!("`{}` holds none", principal.subject),
    };
    Err(Error::scope_missing(scope, &held))
}

impl Core {
    /// Whether the caller may force what the method lets them do, which takes `mesh.admin`. A refusal goes into the audit
    /// trail like that of a method.
    pub(crate) fn may_force(&self, call: &Call, action: &str, target: String) -> Result<(), Error> {
        need(methods::Scope::Admin, &call.principal).inspect_err(|error| self.note_refusal(call, action, target, error))
    }

    /// Has a refusal that no command came of written into the audit trail.
    pub(crate) fn note_refusal(&self, call: &Call, action: &str, target: String, error: &Error) {
        self.refusals.note(Refusal {
            actor: call.principal.subject.clone(),
            action: action.to_owned(),
            target,
            code: error.name().to_owned(),
            request_id: call.request_id.clone(),
            transport: call.transport.to_owned(),
            node: self.handle.node(),
            refused_wall_ms: self.clock.wall_ms(),
        });
    }
}

impl Stack {
    /// Who asks: a member node on somebody's behalf, or the sender itself.
    pub(crate) async fn caller(
        &self,
        exchange: &mut Exchange,
        conn: &ConnInfo,
        head: &mut Head,
    ) -> Result<Caller, Error> {
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
                    standing: None,
                });
            }
            self.core.metrics.forged.inc();
            tracing::warn!(address = %conn.peer, request_id = %exchange.request_id,
                "a forwarding header from somebody who is no member node was thrown away");
        }
        let secret = match head.headers.contains_key(header::AUTHORIZATION) {
            true => None,
            false => Secret::of(&head.headers)?,
        };
        let principal = match secret {
            Some(secret) => self.core.in_session(&secret).await?,
            None => self.core.auth.principal(conn, &head.headers, now_s)?,
        };
        Ok(Caller {
            principal,
            hop: false,
            standing: conn.identity.as_ref().map(|identity| identity.standing.clone()),
        })
    }

    /// Whether the caller holds a scope.
    pub(crate) fn need(&self, scope: methods::Scope, principal: &Principal) -> Result<(), Error> {
        need(scope, principal)
    }

    /// Whether the caller may use a method, and does so of their own accord.
    pub(crate) fn may(&self, method: &Method, caller: &Caller, head: &Head) -> Result<(), Error> {
        self.need(method.scope, &caller.principal)?;
        // What a member carried here was looked at where it came in.
        if caller.hop {
            return Ok(());
        }
        let proof = caller.principal.proof;
        if proof == Proof::Session {
            browser::check(proof, head)?;
            if method.http.verb != HttpVerb::Get {
                session::check_csrf(&head.headers)?;
            }
        } else if method.mutation {
            browser::check(proof, head)?;
        }
        Ok(())
    }

    /// Whether the caller may ask for one more thing now. What a member carried here was counted where it came in.
    ///
    /// # Errors
    /// `rate_limited`, or `resource_exhausted`; the former goes into the audit trail.
    pub(crate) fn admit(&self, exchange: &Exchange, caller: &Caller, what: &What) -> Result<Place, Error> {
        let subject = &caller.principal.subject;
        let counted = match caller.hop {
            true => Ok(()),
            false => self.core.rates.take(subject, Instant::now()),
        };
        let place = counted.and_then(|()| self.core.places.request(subject));
        place.map_err(|error| match (exchange.method, error.code()) {
            (Some(method), Code::RateLimited) => {
                // Only what is at hand says what it was about: reading a body is part of what is refused.
                let target = match what {
                    What::Rest(_, variables) => named(method, variables),
                    What::Grpc(..) | What::GrpcOther(_) | What::System(_) => String::new(),
                };
                self.note(exchange, method, target, error)
            }
            _ => error,
        })
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
        unread: &mut Option<Arriving>,
    ) -> String {
        if let Some(variables) = variables {
            return named(method, variables);
        }
        let Some(body) = unread.take().filter(|_| rest::kind_of(method).is_some()) else {
            return String::new();
        };
        let read = body::collect(RequestBody::network(body, self.core.config.limits.body_bytes_max));
        let id = match tokio::time::timeout(self.core.drain_within(), read).await {
            Ok(Ok(framed)) => framing::unframe(framed).and_then(|message| rest::id_in(method, message)),
            _ => None,
        };
        id.map(|id| target(method, &id)).unwrap_or_default()
    }
}

/// What a REST request is about, by its path: `peer/p1`; empty where that cannot be told.
fn named(method: &'static Method, variables: &[(&'static str, String)]) -> String {
    let named = |wanted| variables.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text);
    match (named("id"), named("namespace"), named("shard")) {
        (Some(id), _, _) => target(method, id),
        (None, Some(namespace), Some(shard)) => target(method, &format!("{namespace}/{shard}")),
        (None, _, _) => String::new(),
    }
}

/// Only what could be an id gets into the trail.
fn target(method: &'static Method, id: &str) -> String {
    let Some(kind) = rest::kind_of(method) else {
        return String::new();
    };
    let is_one = match kind {
        "shard" => id.parse::<statemachine::record::ShardId>().is_ok(),
        _ => statemachine::PeerId::new(id).is_ok(),
    };
    if is_one { format!("{kind}/{id}") } else { String::new() }
}

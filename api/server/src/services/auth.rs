//! `AuthService`

use std::time::Duration;

use http::{HeaderValue, header};
use proto::{
    methods::{self, Scope},
    v1::{self, auth_service_server::AuthService},
};
use statemachine::{BeginSession, Command, Conditions, EndSessions, Hash, Origin, Outcome, Rejection, Revision};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{Api, Received};
use crate::{
    Error,
    auth::{Principal, Proof},
    convert, headers,
    session::{self, Secret},
};

#[tonic::async_trait]
impl AuthService for Api {
    async fn can_i(&self, request: Request<v1::CanIRequest>) -> Result<Response<v1::CanIResponse>, Status> {
        self.answer(request, async |received: Received<v1::CanIRequest>| {
            let what = received.message.what.as_str();
            let needed = Scope::parse(what).or_else(|| methods::by_action(what).map(|method| method.scope));
            let needed = needed.ok_or_else(|| {
                let detail = "neither a scope such as `mesh.operate` nor an action such as `peers.drain`";
                Error::invalid("what", detail)
            })?;
            let principal = &received.call.principal;
            let answer = v1::CanIResponse {
                allowed: principal.holds(needed),
                principal: principal.subject.clone(),
                scopes: scopes(principal),
                needed: needed.as_str().to_owned(),
                method: principal.proof.as_str().to_owned(),
            };
            Ok(self.at(self.core.handle.view().position().revision, answer))
        })
        .await
    }

    async fn list_actions(
        &self,
        request: Request<v1::ListActionsRequest>,
    ) -> Result<Response<v1::ListActionsResponse>, Status> {
        self.answer(request, async |received: Received<v1::ListActionsRequest>| {
            let principal = &received.call.principal;
            let action = |method: &methods::Method| v1::list_actions_response::Action {
                action: method.action.clone(),
                needed: method.scope.as_str().to_owned(),
                allowed: principal.holds(method.scope),
                mutation: method.mutation,
                rest: format!("{} {}", method.http.verb.as_str(), method.http.template.text),
            };
            let answer = v1::ListActionsResponse {
                principal: principal.subject.clone(),
                scopes: scopes(principal),
                method: principal.proof.as_str().to_owned(),
                actions: methods::all().iter().map(action).collect(),
            };
            Ok(self.at(self.core.handle.view().position().revision, answer))
        })
        .await
    }

    async fn begin_session(&self, request: Request<v1::BeginSessionRequest>) -> Result<Response<v1::Session>, Status> {
        self.answer(request, |received| self.session_begins(received)).await
    }

    async fn get_session(&self, request: Request<v1::GetSessionRequest>) -> Result<Response<v1::Session>, Status> {
        self.answer(request, async |received: Received<v1::GetSessionRequest>| {
            let secret = Secret::of(&received.headers)?.ok_or_else(no_session)?;
            let principal = &received.call.principal;
            if principal.session.as_deref() != Some(secret.id().to_string().as_str()) {
                return Err(no_session());
            }
            let expires_ms = principal.expires_s.unwrap_or_default().saturating_mul(1000);
            let answer = shown(principal, &secret, expires_ms);
            Ok(private(self.at(self.core.handle.view().position().revision, answer)))
        })
        .await
    }

    async fn end_session(
        &self,
        request: Request<v1::EndSessionRequest>,
    ) -> Result<Response<v1::EndSessionsResponse>, Status> {
        self.answer(request, async |received: Received<v1::EndSessionRequest>| {
            let principal = &received.call.principal;
            let id = principal
                .session
                .as_deref()
                .and_then(Hash::parse)
                .ok_or_else(no_session)?;
            let (subject, id) = (principal.subject.clone(), Some(id));
            let ended = self
                .propose_session(&received, EndSessions { subject, id }, "", "")
                .await?;
            let mut answer = private(ended);
            set_cookie(&mut answer, &session::no_cookie())?;
            Ok(answer)
        })
        .await
    }

    async fn revoke_sessions(
        &self,
        request: Request<v1::RevokeSessionsRequest>,
    ) -> Result<Response<v1::EndSessionsResponse>, Status> {
        self.answer(request, |received| self.sessions_are_revoked(received))
            .await
    }
}

impl Api {
    async fn session_begins(
        &self,
        received: Received<v1::BeginSessionRequest>,
    ) -> Result<Response<v1::Session>, Error> {
        let principal = &received.call.principal;
        if principal.proof != Proof::Jwt {
            return Err(
                Error::invalid("Authorization", "a session is traded for a bearer token alone")
                    .hint("send `Authorization: Bearer <token>`; other credentials need no session"),
            );
        }
        let most = Duration::from_secs(self.core.config.session_max_s);
        let lifetime = match received.message.lifetime {
            None => most,
            Some(asked) if asked.seconds < 1 || asked.nanos < 0 => {
                return Err(Error::invalid("lifetime", "a second at least"));
            }
            Some(asked) => Duration::try_from(asked).map_or(most, |asked| asked.min(most)),
        };
        let now_ms = self.core.clock.wall_ms();
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let credential_ms = principal.expires_s.map_or(u64::MAX, |end| end.saturating_mul(1000));
        let expires_ms = now_ms.saturating_add(lifetime_ms).min(credential_ms);
        let secret = Secret::random()?;
        let begin = BeginSession {
            id: secret.id(),
            held: session::held(principal.scope),
            expires_ms,
        };
        let revision = self.session_revision(&received, begin.command()?, "", "").await?;
        let mut answer = private(self.at(revision, shown(principal, &secret, expires_ms)));
        set_cookie(
            &mut answer,
            &secret.cookie(expires_ms.saturating_sub(now_ms).div_ceil(1000)),
        )?;
        Ok(answer)
    }

    async fn sessions_are_revoked(
        &self,
        received: Received<v1::RevokeSessionsRequest>,
    ) -> Result<Response<v1::EndSessionsResponse>, Error> {
        let v1::RevokeSessionsRequest {
            principal,
            reason,
            ticket,
        } = &received.message;
        let call = &received.call;
        let own = &call.principal.subject;
        let subject = if principal.is_empty() {
            own.clone()
        } else {
            principal.clone()
        };
        if subject != *own {
            self.core
                .may_force(call, "sessions.revoke", format!("sessions/{subject}"))?;
        }
        let reason = headers::words(&received.headers, headers::REASON, "reason", reason)?;
        let ticket = headers::words(&received.headers, headers::TICKET, "ticket", ticket)?;
        let end = EndSessions { subject, id: None };
        self.propose_session(&received, end, &reason, &ticket).await
    }

    /// Ends sessions, and says how many.
    async fn propose_session<T>(
        &self,
        received: &Received<T>,
        end: EndSessions,
        reason: &str,
        ticket: &str,
    ) -> Result<Response<v1::EndSessionsResponse>, Error> {
        let revision = self.session_revision(received, end.command()?, reason, ticket).await?;
        let unit = self.core.handle.view().unit(revision)?;
        let ended = unit.map_or(0, |unit| unit.unit.changes().len());
        let ended = u32::try_from(ended).unwrap_or(u32::MAX);
        Ok(self.at(revision, v1::EndSessionsResponse { ended }))
    }

    /// Commits a command about sessions by way of whichever node was asked: browsers follow no redirects to others.
    async fn session_revision<T>(
        &self,
        received: &Received<T>,
        command: Command,
        reason: &str,
        ticket: &str,
    ) -> Result<Revision, Error> {
        headers::no_dry_run(&received.headers)?;
        headers::no_etag(&received.headers)?;
        let (call, handle) = (&received.call, &self.core.handle);
        let request = statemachine::Request {
            origin: Origin {
                actor: call.principal.subject.clone(),
                reason: reason.to_owned(),
                ticket: ticket.to_owned(),
                request_id: call.request_id.clone(),
                transport: call.transport.to_owned(),
                node: handle.node(),
                received_wall_ms: call.received_wall_ms,
                idempotency: None,
            },
            conditions: Conditions::default(),
            command,
        };
        let carried = handle.propose_anywhere(request, call.deadline).await?;
        let revision = carried.revision.ok_or(Rejection::MeshNotInitialized)?;
        match handle.view().unit(revision)?.map(|unit| unit.unit.outcome.clone()) {
            Some(Outcome::Rejected(rejection)) => Err(rejection.into()),
            Some(Outcome::Applied { .. } | Outcome::Staged { .. } | Outcome::Replayed { .. }) | None => Ok(revision),
        }
    }
}

fn scopes(principal: &Principal) -> Vec<String> {
    principal.scopes().into_iter().map(str::to_owned).collect()
}

fn shown(principal: &Principal, secret: &Secret, expires_ms: u64) -> v1::Session {
    v1::Session {
        principal: principal.subject.clone(),
        scopes: scopes(principal),
        expires_at: Some(convert::time(expires_ms)),
        csrf_token: secret.csrf_token(),
        id: secret.id().to_string(),
    }
}

/// Keeps an answer out of every cache.
fn private<A>(response: Response<A>) -> Response<A> {
    let (metadata, message, extensions) = response.into_parts();
    let mut headers = metadata.into_headers();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Response::from_parts(MetadataMap::from_headers(headers), message, extensions)
}

fn set_cookie<A>(response: &mut Response<A>, cookie: &str) -> Result<(), Error> {
    let value = cookie
        .parse()
        .map_err(|_| Error::internal("a cookie that no header can carry"))?;
    response.metadata_mut().insert(header::SET_COOKIE.as_str(), value);
    Ok(())
}

fn no_session() -> Error {
    Error::invalid("Cookie", "the request was not sent by way of a session")
        .hint("begin one: `POST /meshkit/session` with a token")
}

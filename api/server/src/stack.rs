//! The way of one request: limits, who, what, deadline, where, and the answer's form. Nothing is changed before all of
//! it has passed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request::Parts as Head};
use hyper::body::Incoming;
use proto::{
    codes::Code,
    methods::{self, Method},
};
use raft::env::ConnInfo;
use statemachine::Refusal;
use tokio::time::Instant;
use tonic::body::Body;

use crate::{
    Error,
    access::{Api, Exchange},
    auth::{Principal, forwarded},
    body::{self, Bounded, RequestBody},
    connection::Connection,
    context::Call,
    core::Core,
    grpc::{self, Services, Target},
    headers::{self, REQUEST_ID},
    rest,
    route::{Routed, Router},
    system::{self, Page},
    transport,
    way::Way,
};

/// How long after its deadline a request is broken off, where a service has not noticed by itself.
const GRACE: Duration = Duration::from_millis(100);
/// How long a health check by nobody in particular may take: it must not hold a place that others need.
const ANONYMOUS_WITHIN: Duration = Duration::from_secs(2);
/// The most bytes that such a check may send.
const ANONYMOUS_BYTES_MAX: usize = 1024;

/// Everything that answers requests.
pub(crate) struct Stack {
    pub(crate) core: Arc<Core>,
    services: Services,
    router: Router,
    openapi: Bytes,
}

/// What a request is for.
enum What {
    /// An RPC over gRPC.
    Grpc(&'static Method, Target),
    /// Health or reflection.
    GrpcOther(Target),
    /// An RPC over REST, with what its path says.
    Rest(&'static Method, Vec<(&'static str, String)>),
    /// A page that is no RPC.
    System(Page),
}

/// Who asks, and over what.
pub(crate) struct Caller {
    pub(crate) principal: Arc<Principal>,
    /// Whether a member node carried the request here.
    pub(crate) hop: bool,
}

impl Stack {
    pub(crate) fn new(core: Arc<Core>) -> Result<Self, tonic_reflection::server::Error> {
        Ok(Self {
            services: Services::new(Arc::clone(&core))?,
            router: Router::new(),
            openapi: Bytes::from(crate::openapi::document().to_string()),
            core,
        })
    }

    /// Answers one request. Never fails: every refusal is an answer.
    pub(crate) async fn serve(&self, connection: &Connection, request: Request<Incoming>) -> Response<Body> {
        let conn = &connection.info;
        let (head, body) = request.into_parts();
        let mut exchange = Exchange {
            started: Instant::now(),
            api: if grpc::is_grpc(&head) { Api::Grpc } else { Api::Rest },
            request_id: headers::request_id(&head.headers).map_or_else(|| self.core.next_request_id(), str::to_owned),
            transport: transport::of(head.version),
            address: conn.peer,
            method: None,
            other: "none",
            principal: None,
            forwarded: false,
        };
        let path = head.uri.path_and_query().cloned();
        // Who waits to be told that the body is wanted need not send it.
        let waits = head.headers.contains_key(header::EXPECT);
        let mut unread = Some(body);
        self.core.metrics.in_flight.inc();
        let answer = match self.core.in_flight.try_acquire() {
            Ok(_place) => self.answer(&mut exchange, connection, head, &mut unread).await,
            Err(_) => Err(
                Error::new(Code::ResourceExhausted, "too many requests are under way at this node")
                    .with(|problem| problem.retry_after_ms = 100)
                    .hint("try again in a moment, or another node"),
            ),
        };
        self.core.metrics.in_flight.dec();
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                if let Some(body) = unread.take().filter(|_| !waits) {
                    body::drain(body, self.core.config.limits.drain_bytes_max, self.core.drain_within()).await;
                }
                let path = path.as_ref().map_or("/", |path| path.as_str());
                self.refuse(&exchange, error, path)
            }
        };
        if let Ok(id) = HeaderValue::from_str(&exchange.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        exchange.finish(&response, &self.core.metrics);
        response
    }

    fn refuse(&self, exchange: &Exchange, error: Error, path: &str) -> Response<Body> {
        match exchange.api {
            Api::Grpc => grpc::refusal(error, &exchange.request_id),
            Api::Rest => error.into_response(&exchange.request_id, path),
        }
    }

    async fn answer(
        &self,
        exchange: &mut Exchange,
        connection: &Connection,
        mut head: Head,
        unread: &mut Option<Incoming>,
    ) -> Result<Response<Body>, Error> {
        let what = self.what(exchange, &head)?;
        let length = head
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let limit = self.core.config.limits.body_bytes_max;
        if length.is_some_and(|length| length > limit as u64) {
            return Err(body::too_large(limit));
        }
        let what = match what {
            What::System(Page::Live | Page::Ready | Page::OpenApi) | What::GrpcOther(Target::Health)
                if !is_watch(&head) =>
            {
                return self.anonymous(what, connection, head, unread).await;
            }
            what => what,
        };
        let caller = self.caller(exchange, &connection.info, &mut head)?;
        exchange.principal = Some(Arc::clone(&caller.principal));
        match what {
            What::System(page) => {
                self.need(methods::Scope::Observe, &caller.principal)?;
                system::answer(page, &self.core, &self.openapi)
            }
            What::GrpcOther(target) => {
                self.need(methods::Scope::Read, &caller.principal)?;
                let (deadline, limit) = (self.deadline(&head, None)?, self.core.config.limits.body_bytes_max);
                self.stream(target, connection, head, unread, deadline, limit).await
            }
            What::Grpc(method, target) => {
                if let Err(error) = self.need(method.scope, &caller.principal) {
                    let target = self.named_target(method, None, unread).await;
                    return Err(self.note(exchange, method, target, error));
                }
                self.grpc(exchange, caller, method, target, head, unread).await
            }
            What::Rest(method, variables) => {
                if let Err(error) = self.need(method.scope, &caller.principal) {
                    let target = self.named_target(method, Some(&variables), unread).await;
                    return Err(self.note(exchange, method, target, error));
                }
                self.rest(exchange, caller, method, variables, head, unread).await
            }
        }
    }

    /// What a request is for, by its path alone.
    fn what(&self, exchange: &mut Exchange, head: &Head) -> Result<What, Error> {
        let path = head.uri.path();
        if exchange.api == Api::Grpc {
            let target = Target::of(path).ok_or_else(grpc::unimplemented)?;
            if let Target::Health | Target::Reflection = target {
                exchange.other = if target == Target::Health {
                    "health"
                } else {
                    "reflection"
                };
                return Ok(What::GrpcOther(target));
            }
            let method = methods::by_path(path).ok_or_else(grpc::unimplemented)?;
            exchange.method = Some(method);
            return Ok(What::Grpc(method, target));
        }
        if let Some(page) = Page::of(path) {
            exchange.other = page.as_str();
            if head.method != http::Method::GET && head.method != http::Method::HEAD {
                return Err(rest::other_verb(&["GET"]));
            }
            return Ok(What::System(page));
        }
        match self.router.route(&head.method, path) {
            Routed::Method(method, variables) => {
                exchange.method = Some(method);
                let variables = variables
                    .into_iter()
                    .map(|(name, value)| (name, value.into_owned()))
                    .collect();
                Ok(What::Rest(method, variables))
            }
            Routed::OtherVerb(allowed) => Err(rest::other_verb(&allowed)),
            Routed::Nothing => {
                Err(Error::new(Code::NotFound, "there is no such path").hint("`/openapi.json` lists what there is"))
            }
        }
    }

    /// Who asks: a member node on somebody's behalf, or the sender itself.
    fn caller(&self, exchange: &mut Exchange, conn: &ConnInfo, head: &mut Head) -> Result<Caller, Error> {
        let now_s = self.core.clock.wall_ms() / 1000;
        if let Some(value) = head.headers.remove(forwarded::HEADER) {
            if let Some(member) = self.core.member(conn) {
                let forwarded = forwarded::Forwarded::decode(&value)
                    .ok_or_else(|| Error::invalid(forwarded::HEADER, "not of the form that nodes write"))?;
                if forwarded.principal.expires_s.is_some_and(|end| end <= now_s) {
                    return Err(Error::new(Code::CredentialExpired, "the token has expired"));
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

    fn need(&self, scope: methods::Scope, principal: &Principal) -> Result<(), Error> {
        if principal.holds(scope) {
            return Ok(());
        }
        let held = match principal.scope {
            Some(held) => format!("`{}` holds {held}", principal.subject),
            None => format!("`{}` holds none", principal.subject),
        };
        Err(Error::scope_missing(scope, &held))
    }

    /// Has a refusal of a known caller written into the audit trail.
    fn note(&self, exchange: &Exchange, method: &Method, target: String, error: Error) -> Error {
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
    async fn named_target(
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

    /// Pages and checks that anybody may see.
    async fn anonymous(
        &self,
        what: What,
        connection: &Connection,
        head: Head,
        unread: &mut Option<Incoming>,
    ) -> Result<Response<Body>, Error> {
        match what {
            What::System(page) => system::answer(page, &self.core, &self.openapi),
            What::GrpcOther(target) => {
                let deadline = Instant::now() + ANONYMOUS_WITHIN;
                self.stream(target, connection, head, unread, deadline, ANONYMOUS_BYTES_MAX)
                    .await
            }
            What::Grpc(..) | What::Rest(..) => Err(Error::internal("a request took a way that is not its own")),
        }
    }

    /// Health and reflection: streams that end with the server and after a while.
    async fn stream(
        &self,
        target: Target,
        connection: &Connection,
        head: Head,
        unread: &mut Option<Incoming>,
        deadline: Instant,
        limit: usize,
    ) -> Result<Response<Body>, Error> {
        let body = take(unread, limit);
        let (stop, busy) = (self.core.stop.clone(), connection.begin());
        let response = self.services.call(target, Request::from_parts(head, body));
        let response = tokio::time::timeout_at(deadline, response).await.map_err(|_| late())?;
        Ok(response.map(|body| Body::new(Bounded::new(body, deadline, stop, Some(busy)))))
    }

    async fn grpc(
        &self,
        exchange: &Exchange,
        caller: Caller,
        method: &'static Method,
        target: Target,
        mut head: Head,
        unread: &mut Option<Incoming>,
    ) -> Result<Response<Body>, Error> {
        let deadline = self.deadline(&head, Some(method))?;
        let mut body = take(unread, self.core.config.limits.body_bytes_max);
        match self.way(method, &caller, &head)? {
            Way::Here => {}
            Way::Leader => {
                let body = self.collect(body, deadline).await?;
                return self.forward(exchange, &caller, &head, body, deadline).await;
            }
            Way::LeaderIfItAnswers => {
                let all = self.collect(body, deadline).await?;
                if let Some(answer) = self.ask_leader(exchange, &caller, &head, all.clone(), deadline).await {
                    return Ok(answer);
                }
                body = RequestBody::memory(all);
            }
        }
        head.extensions.insert(self.call(exchange, caller, method, deadline));
        let response = self.within(deadline, target, Request::from_parts(head, body)).await?;
        Ok(grpc::normalise(response, &exchange.request_id))
    }

    async fn rest(
        &self,
        exchange: &Exchange,
        caller: Caller,
        method: &'static Method,
        variables: Vec<(&'static str, String)>,
        head: Head,
        unread: &mut Option<Incoming>,
    ) -> Result<Response<Body>, Error> {
        let deadline = self.deadline(&head, Some(method))?;
        rest::check_content_type(method, &head)?;
        let body = take(unread, self.core.config.limits.body_bytes_max);
        let body = self.collect(body, deadline).await?;
        match self.way(method, &caller, &head)? {
            Way::Here => {}
            Way::Leader => return self.forward(exchange, &caller, &head, body, deadline).await,
            Way::LeaderIfItAnswers => {
                if let Some(answer) = self.ask_leader(exchange, &caller, &head, body.clone(), deadline).await {
                    return Ok(answer);
                }
            }
        }
        let message = rest::request_message(method, &variables, head.uri.query(), &body)?;
        let asked = rest::Asked::of(&head);
        let mut request = rest::grpc_request(method, head, &message)?;
        request
            .extensions_mut()
            .insert(self.call(exchange, caller, method, deadline));
        let target = Target::of(&method.path).ok_or_else(grpc::unimplemented)?;
        let response = self.within(deadline, target, request).await?;
        let response = grpc::normalise(response, &exchange.request_id);
        rest::answer(method, response, &asked).await
    }

    fn call(&self, exchange: &Exchange, caller: Caller, method: &'static Method, deadline: Instant) -> Arc<Call> {
        Arc::new(Call {
            request_id: exchange.request_id.clone(),
            principal: caller.principal,
            transport: exchange.transport,
            deadline,
            received_wall_ms: self.core.clock.wall_ms(),
            method,
        })
    }

    async fn within(
        &self,
        deadline: Instant,
        target: Target,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, Error> {
        let answer = self.services.call(target, request);
        tokio::time::timeout_at(deadline + GRACE, answer)
            .await
            .map_err(|_| late())
    }

    /// When the caller stops waiting: by its own word, or ours.
    fn deadline(&self, head: &Head, method: Option<&Method>) -> Result<Instant, Error> {
        let deadlines = &self.core.config.deadlines;
        let most = Duration::from_millis(deadlines.request_max_ms);
        let asked = headers::timeout(&head.headers)?;
        let usual = match method {
            Some(method) if method.name != "GetOperation" => Duration::from_millis(deadlines.request_default_ms),
            // Long polls and streams state their own end.
            _ => most,
        };
        let within = asked.unwrap_or(usual).min(most);
        if within.is_zero() {
            Err(late())
        } else {
            Ok(Instant::now() + within)
        }
    }
}

fn take(unread: &mut Option<Incoming>, limit: usize) -> RequestBody {
    match unread.take() {
        Some(body) => RequestBody::network(body, limit),
        None => RequestBody::memory(Bytes::new()),
    }
}

/// Whether a health request is a stream, which anonymous callers do not get.
fn is_watch(head: &Head) -> bool {
    head.uri.path().ends_with("/Watch")
}

pub(crate) fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "the request was not answered by its deadline")
        .hint("a mutation may have taken effect all the same: a retry with the same Idempotency-Key is safe")
}

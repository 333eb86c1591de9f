//! The way of one request: limits, who, what, deadline, where, and the answer's form. Nothing is changed before all of
//! it has passed.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response, header, request::Parts as Head};
use proto::{
    codes::Code,
    methods::{self, Form, Method},
};
use raft::env::Standing;
use tokio::time::Instant;
use tonic::body::Body;
use tracing::Instrument as _;

use crate::{
    Error,
    access::{Api, Exchange},
    auth::Principal,
    body::{self, Arriving, Bounded, RequestBody},
    connection::Connection,
    context::Call,
    core::Core,
    deadlines, framing,
    grpc::{self, Services, Target},
    headers::{self, REQUEST_ID},
    metrics::{Counted, DowngradeLabels},
    outgoing::{self, Held, Outgoing},
    rest,
    route::{Routed, Router},
    shares::Place,
    system::{self, Page},
    trace, transport,
    watch::{self, Wire},
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
    /// What tells clients over TCP that HTTP/3 is to be had.
    http3: Option<HeaderValue>,
}

/// What a request is for.
pub(crate) enum What {
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
    /// Whether the certificate counts that the connection began with, where it began with one.
    pub(crate) standing: Option<Standing>,
}

impl Stack {
    pub(crate) fn new(core: Arc<Core>) -> Result<Self, tonic_reflection::server::Error> {
        Ok(Self {
            services: Services::new(Arc::clone(&core))?,
            router: Router::new(),
            openapi: Bytes::from(crate::openapi::document().to_string()),
            http3: core.config.http3_port.and_then(alt_svc),
            core,
        })
    }

    /// Answers one request. Never fails: every refusal is an answer.
    pub(crate) async fn serve(&self, connection: &Connection, request: Request<Arriving>) -> Response<Outgoing> {
        let conn = &connection.info;
        let (busy, counted) = (connection.begin(), Counted::new(&self.core.metrics.in_flight));
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
            span: tracing::Span::none(),
        };
        if exchange.transport != transport::H3
            && let Some(reason) = headers::downgrade_label(&head.headers)
        {
            let labels = DowngradeLabels { reason };
            self.core.metrics.downgrades.get_or_create(&labels).inc();
        }
        let path = head.uri.path_and_query().cloned();
        // Who waits to be told that the body is wanted need not send it.
        let waits = head.headers.contains_key(header::EXPECT);
        let mut unread = Some(body);
        let bodiless = head.method == http::Method::HEAD;
        let mut place = None;
        let request_id = exchange.request_id.clone();
        // Whatever is logged on the way says which request it was, at any level.
        let span = tracing::error_span!("request", request_id = %request_id);
        let transport = exchange.transport;
        let traced = span.in_scope(|| trace::request(&head.headers, &request_id, exchange.api.as_str(), transport));
        exchange.span = traced.clone();
        let answer = AssertUnwindSafe(self.answer(&mut exchange, connection, head, &mut unread, &mut place));
        let answer = answer.catch_unwind().instrument(traced).instrument(span).await;
        let answer = answer.unwrap_or_else(|panic| Err(self.core.metrics.panics.caught(&exchange.request_id, &*panic)));
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                if let Some(body) = unread.take().filter(|_| !waits) {
                    self.read_away(body, &mut place).await;
                }
                let path = path.as_ref().map_or("/", |path| path.as_str());
                self.refuse(&exchange, error, path)
            }
        };
        if bodiless {
            response = outgoing::head_alone(response);
        }
        if let Ok(id) = HeaderValue::from_str(&exchange.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if let Some(http3) = self.http3.as_ref().filter(|_| exchange.transport != transport::H3) {
            response.headers_mut().insert(header::ALT_SVC, http3.clone());
        }
        exchange.finish(&response, &self.core.metrics);
        let held = Held {
            busy,
            _counted: (!exchange.watches(&response)).then_some(counted),
            _place: place,
        };
        let panics = self.core.metrics.panics.clone();
        response.map(|body| Outgoing::new(body, held, panics, exchange.request_id))
    }

    /// Reads the body of a refused request away, where there is a place for it.
    async fn read_away(&self, body: Arriving, place: &mut Option<Place>) {
        if place.is_none() {
            *place = self.core.places.anonymous().ok();
        }
        if place.is_some() {
            body::drain(body, self.core.config.limits.drain_bytes_max, self.core.drain_within()).await;
        }
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
        unread: &mut Option<Arriving>,
        place: &mut Option<Place>,
    ) -> Result<Response<Body>, Error> {
        let limit = self.core.config.limits.header_bytes_max as usize;
        if exchange.transport == transport::H3 && headers::block_bytes(&head.headers) > limit {
            return Err(headers::too_large(limit));
        }
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
                *place = Some(self.core.places.anonymous()?);
                return self.anonymous(what, head, unread).await;
            }
            what => what,
        };
        let caller = self.caller(exchange, &connection.info, &mut head).await?;
        exchange.principal = Some(Arc::clone(&caller.principal));
        connection.authenticated();
        *place = Some(self.admit(exchange, &caller, &what)?);
        match what {
            What::System(page) => {
                self.need(methods::Scope::Observe, &caller.principal)?;
                system::answer(page, &self.core, &self.openapi)
            }
            What::GrpcOther(target) => {
                self.need(methods::Scope::Read, &caller.principal)?;
                let (deadline, limit) = (
                    deadlines::of_request(&self.core.config.deadlines, &head, None)?,
                    self.core.config.limits.body_bytes_max,
                );
                self.stream(target, head, unread, deadline, limit).await
            }
            What::Grpc(method, target) => {
                if let Err(error) = self.may(method, &caller, &head) {
                    let target = self.named_target(method, None, unread).await;
                    return Err(self.note(exchange, method, target, error));
                }
                let answer = self.grpc(exchange, caller, method, target, head, unread).await;
                give_up_place(method, &answer, place);
                answer
            }
            What::Rest(method, variables) => {
                if let Err(error) = self.may(method, &caller, &head) {
                    let target = self.named_target(method, Some(&variables), unread).await;
                    return Err(self.note(exchange, method, target, error));
                }
                let answer = self.rest(exchange, caller, method, variables, head, unread).await;
                give_up_place(method, &answer, place);
                answer
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

    /// Pages and checks that anybody may see.
    async fn anonymous(&self, what: What, head: Head, unread: &mut Option<Arriving>) -> Result<Response<Body>, Error> {
        match what {
            What::System(page) => system::answer(page, &self.core, &self.openapi),
            What::GrpcOther(target) => {
                let deadline = Instant::now() + ANONYMOUS_WITHIN;
                self.stream(target, head, unread, deadline, ANONYMOUS_BYTES_MAX).await
            }
            What::Grpc(..) | What::Rest(..) => Err(Error::internal("a request took a way that is not its own")),
        }
    }

    /// Health and reflection: streams that end with the server and after a while.
    async fn stream(
        &self,
        target: Target,
        head: Head,
        unread: &mut Option<Arriving>,
        deadline: Instant,
        limit: usize,
    ) -> Result<Response<Body>, Error> {
        let body = take(unread, limit);
        let stop = self.core.stop.clone();
        let response = self.services.call(target, Request::from_parts(head, body));
        let response = tokio::time::timeout_at(deadline, response)
            .await
            .map_err(|_| deadlines::late())?;
        Ok(response.map(|body| Body::new(Bounded::new(body, deadline, stop))))
    }

    async fn grpc(
        &self,
        exchange: &Exchange,
        caller: Caller,
        method: &'static Method,
        target: Target,
        mut head: Head,
        unread: &mut Option<Arriving>,
    ) -> Result<Response<Body>, Error> {
        let deadline = deadlines::of_request(&self.core.config.deadlines, &head, Some(method))?;
        check_consistency(method, &head)?;
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
        let call = self.call(exchange, caller, method, deadline);
        let ends = deadlines::of_stream(&head, method)?;
        if let Some(ends) = ends.filter(|_| method.form == Form::Events) {
            let message = framing::unframe(self.collect(body, deadline).await?).ok_or_else(grpc::no_message)?;
            return self.watch(exchange, call, &head, &message, Wire::Grpc, ends).await;
        }
        head.extensions.insert(call);
        let response = self.within(deadline, target, Request::from_parts(head, body)).await?;
        let response = grpc::normalise(response, &exchange.request_id);
        Ok(match ends {
            Some(ends) => response.map(|body| Body::new(Bounded::new(body, ends, self.core.stop.clone()))),
            None => response,
        })
    }

    async fn rest(
        &self,
        exchange: &Exchange,
        caller: Caller,
        method: &'static Method,
        variables: Vec<(&'static str, String)>,
        head: Head,
        unread: &mut Option<Arriving>,
    ) -> Result<Response<Body>, Error> {
        let deadline = deadlines::of_request(&self.core.config.deadlines, &head, Some(method))?;
        check_consistency(method, &head)?;
        rest::check_content_type(method, &head)?;
        if method.form == Form::Events {
            rest::check_accepts_events(&head)?;
        }
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
        let call = self.call(exchange, caller, method, deadline);
        let ends = deadlines::of_stream(&head, method)?;
        if let Some(ends) = ends.filter(|_| method.form == Form::Events) {
            return self.watch(exchange, call, &head, &message, Wire::Sse, ends).await;
        }
        let mut request = rest::grpc_request(method, head, &message)?;
        request.extensions_mut().insert(call);
        let target = Target::of(&method.path).ok_or_else(grpc::unimplemented)?;
        let response = self.within(deadline, target, request).await?;
        let response = grpc::normalise(response, &exchange.request_id);
        match ends {
            Some(ends) => rest::download(method, response, ends, self.core.stop.clone()),
            None => rest::answer(method, response, &asked).await,
        }
    }

    async fn watch(
        &self,
        exchange: &Exchange,
        call: Arc<Call>,
        head: &Head,
        message: &[u8],
        wire: Wire,
        ends: Instant,
    ) -> Result<Response<Body>, Error> {
        let deadline = call.deadline;
        let opening = watch::Opening {
            method: call.method,
            call,
            address: exchange.address,
            headers: &head.headers,
            message,
            wire,
            ends,
        };
        tokio::time::timeout_at(deadline, watch::open(&self.core, opening))
            .await
            .map_err(|_| deadlines::late())?
    }

    fn call(&self, exchange: &Exchange, caller: Caller, method: &'static Method, deadline: Instant) -> Arc<Call> {
        Arc::new(Call {
            request_id: exchange.request_id.clone(),
            principal: caller.principal,
            standing: caller.standing,
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
            .map_err(|_| deadlines::late())
    }
}

/// Refuses a word that means nothing, also where whatever it meant would make no difference.
fn check_consistency(method: &Method, head: &Head) -> Result<(), Error> {
    if method.mutation {
        return Ok(());
    }
    headers::consistency(&head.headers).map(|_| ())
}

/// A watch that has begun has a place of its own, and takes none of those of requests for as long as it lasts.
fn give_up_place(method: &Method, answer: &Result<Response<Body>, Error>, place: &mut Option<Place>) {
    if method.form == Form::Events && answer.is_ok() {
        *place = None;
    }
}

/// `Alt-Svc` (RFC 7838): the same authority over QUIC on this port, for a day.
fn alt_svc(port: u16) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma=86400")).ok()
}

fn take(unread: &mut Option<Arriving>, limit: usize) -> RequestBody {
    match unread.take() {
        Some(body) => RequestBody::network(body, limit),
        None => RequestBody::memory(Bytes::new()),
    }
}

/// Whether a health request is a stream, which anonymous callers do not get.
fn is_watch(head: &Head) -> bool {
    head.uri.path().ends_with("/Watch")
}

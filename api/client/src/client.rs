//! The client: whom it speaks to, as whom, and how one call is carried out.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost_types::Duration as ProtoDuration;
use proto::{
    codec::Wire as _,
    v1::{GetOperationRequest, Operation},
};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    Answer, Connect, Consistency, Context, Downgrade, Endpoint, Entropy, Error, Meta, Method, Result, SystemEntropy,
    TlsConnect, Transport,
    context::Credential,
    error::Attempt,
    methods::{self, Asked, Keyed, Rpc},
    pool::Pool,
};

mod attempt;
mod call;
mod outcome;
mod route;
mod stream;

pub use stream::Stream;

/// Speaks to a mesh. Cheap to clone; clones share connections and what was learnt about the leader.
///
/// Any node will do as an endpoint. A call tries the endpoints in order until one answers, follows the leader where
/// only the leader will do, and repeats what failed on the way, within its deadline. Mutations carry one idempotency
/// key through all of it, so that none is applied twice. Changes of the cluster itself (removing a node, handing over
/// leadership) have no key: once one may have been carried out it is not asked again, and the error says so.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    pool: Arc<Pool>,
    transport: Transport,
    credential: Token,
    timeout: Duration,
    connect_timeout: Duration,
    attempt_timeout: Duration,
    consistency: Consistency,
    entropy: Arc<dyn Entropy>,
    user_agent: MetadataValue<Ascii>,
    /// The trace that every call is part of.
    traceparent: Option<MetadataValue<Ascii>>,
    /// The endpoint in `endpoints` that answered last: where a read starts.
    current: AtomicUsize,
    /// Where the leader's API was last: where a mutation starts.
    leader: Mutex<Option<Endpoint>>,
}

/// The token, where it comes from a place that may change.
enum Token {
    None,
    Fixed(MetadataValue<Ascii>),
    File {
        path: PathBuf,
        last: Mutex<MetadataValue<Ascii>>,
    },
}

/// How one call is to be carried out. The default suits nearly all.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// The whole call's limit, retries included; the client's where absent. A mutation never takes longer than
    /// [`Client::MUTATION_TIMEOUT_MAX`], so that its idempotency key outlives it.
    pub timeout: Option<Duration>,
    /// One request's limit within the call. Where absent it is the client's, or for a change without an idempotency
    /// key, which is not asked twice, the whole call's.
    pub attempt_timeout: Option<Duration>,
    /// How fresh a read must be; the client's where absent.
    pub consistency: Option<Consistency>,
    /// Ask only this endpoint: neither try another nor follow the leader.
    pub only: Option<Endpoint>,
    /// Do not repeat what failed. Redirects to the leader are still followed.
    pub once: bool,
    /// Do not follow a redirect to the leader: answer it as the error that it is.
    pub stay: bool,
    /// For changes whose message has no field for it: look at every check, and change nothing.
    pub dry_run: bool,
    /// For changes whose message has no field for it: makes repeating the call safe. Empty for none.
    pub idempotency_key: String,
}

/// Makes a [`Client`] where a [`Context`] is not enough.
pub struct Builder {
    endpoints: Vec<Endpoint>,
    connector: Arc<dyn Connect>,
    transport: Transport,
    credential: Credential,
    timeout: Duration,
    connect_timeout: Duration,
    attempt_timeout: Duration,
    consistency: Consistency,
    entropy: Arc<dyn Entropy>,
    user_agent: String,
    traceparent: Option<String>,
}

impl Client {
    /// The longest that a mutation is retried: shorter than the 60 s that a node remembers a ULID key.
    pub const MUTATION_TIMEOUT_MAX: Duration = Duration::from_secs(50);
    /// A call's limit where the context names none.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// The longest that one long poll may wait; the server's limit.
    pub const LONG_POLL_MAX: Duration = Duration::from_secs(60);

    /// A client for `context`. Connects when first used.
    ///
    /// # Errors
    /// `invalid_argument` where the context names no endpoint, or its files cannot be read or used.
    pub fn new(context: &Context) -> Result<Self> {
        Builder::from_context(context)?.build()
    }

    /// Starts from endpoints and a connector of one's own.
    pub fn builder(endpoints: Vec<Endpoint>, connector: Arc<dyn Connect>) -> Builder {
        Builder {
            endpoints,
            connector,
            transport: Transport::Auto,
            credential: Credential::None,
            timeout: Self::TIMEOUT,
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(4),
            consistency: Consistency::Default,
            entropy: Arc::new(SystemEntropy),
            user_agent: concat!("meshkit-sdk/", env!("CARGO_PKG_VERSION")).to_owned(),
            traceparent: None,
        }
    }

    /// The same connections and limits with another token: for a process that speaks for many. What was learnt about
    /// the leader is not shared.
    ///
    /// # Errors
    /// `invalid_argument` where the token holds bytes that no token has.
    pub fn with_token(&self, token: &SecretString) -> Result<Self> {
        let shared = &self.shared;
        Ok(Self {
            shared: Arc::new(Shared {
                endpoints: shared.endpoints.clone(),
                pool: Arc::clone(&shared.pool),
                transport: shared.transport,
                credential: Token::Fixed(bearer(token)?),
                timeout: shared.timeout,
                connect_timeout: shared.connect_timeout,
                attempt_timeout: shared.attempt_timeout,
                consistency: shared.consistency,
                entropy: Arc::clone(&shared.entropy),
                user_agent: shared.user_agent.clone(),
                traceparent: shared.traceparent.clone(),
                current: AtomicUsize::new(shared.current.load(Ordering::Relaxed)),
                leader: Mutex::new(shared.leader.lock().clone()),
            }),
        })
    }

    /// The endpoints that the client was given.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.shared.endpoints
    }

    /// The limit of a call that states none.
    pub fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// The nodes that are spoken to over HTTP/2 now although HTTP/3 was wanted, and why.
    pub fn downgrades(&self) -> Vec<(Endpoint, Downgrade)> {
        self.shared.pool.downgrades()
    }

    /// Carries out one call of the contract. [`CallOptions::default`] is what the typed calls use.
    ///
    /// # Errors
    /// The mesh's refusal; `unavailable` where nobody could be reached or nobody leads; `deadline_exceeded`.
    pub async fn call<M: Method>(&self, request: M::Request, options: CallOptions) -> Result<Answer<M::Response>> {
        let meant = !M::is_dry_run(&request) && !options.dry_run;
        let carried = self.carry(Rpc::of::<M>(), Box::new(Asked::<M>(request)), meant, options);
        let Answer { message, meta } = carried.await?;
        match M::Response::from_wire(message) {
            Ok(message) => Ok(Answer { message, meta }),
            Err(why) => Err(self.unread(&why, &meta, M::MUTATION && meant)),
        }
    }

    /// An answer that is none of the contract. What was to be changed may have been: that much was answered.
    fn unread(&self, why: &prost::DecodeError, meta: &Meta, changes: bool) -> Error {
        self.avoid(&meta.endpoint);
        let detail = format!("{} answered what is not in the contract: {why}", meta.endpoint);
        Error::local("internal", tonic::Code::Internal, detail, "")
            .with_outcome(changes, true, &meta.idempotency_key)
            .or_hint("ask another node; where all answer so, use the SDK of the mesh's release")
    }

    /// Boxed, so that it is compiled here and not once more for each method by whoever calls.
    fn carry(
        &self,
        rpc: Rpc,
        request: Box<dyn Keyed>,
        meant: bool,
        options: CallOptions,
    ) -> BoxFuture<'_, Result<Answer<Bytes>>> {
        Box::pin(async move { call::Call::new(&self.shared, rpc, request, meant, options)?.run().await })
    }

    /// Waits up to `wait` (60 s at most) until the operation has a version above `version` or has ended, and answers
    /// it as it is then. Ask again with the answer's version to follow an operation to its end.
    ///
    /// # Errors
    /// As [`Client::call`]; `not_found` where there is no such operation.
    pub async fn wait_operation(&self, id: &str, version: u64, wait: Duration) -> Result<Answer<Operation>> {
        let wait = wait.min(Self::LONG_POLL_MAX);
        let request = GetOperationRequest {
            id: id.to_owned(),
            wait_version: Some(version),
            timeout: Some(ProtoDuration {
                seconds: i64::try_from(wait.as_secs()).unwrap_or(60),
                nanos: i32::try_from(wait.subsec_nanos()).unwrap_or(0),
            }),
        };
        let slack = self.shared.attempt_timeout;
        let options = CallOptions {
            timeout: Some(wait.saturating_add(self.shared.timeout)),
            attempt_timeout: Some(wait.saturating_add(slack)),
            ..CallOptions::default()
        };
        self.call::<methods::GetOperation>(request, options).await
    }
}

impl Builder {
    /// Endpoints, TLS, credential and limits of `context`.
    ///
    /// # Errors
    /// `invalid_argument` where the context names no endpoint, or its files cannot be read or used.
    pub fn from_context(context: &Context) -> Result<Self> {
        let endpoints = context.require_endpoints()?;
        let ca = context.read_ca()?;
        if ca.is_none() && endpoints.iter().any(Endpoint::is_tls) {
            return Err(Error::invalid(
                "the context names no `ca`, so no server can be verified",
                "set `ca` in the context, MESH_CA or --ca to the mesh's CA certificate (PEM)",
            ));
        }
        let identity = context.read_identity()?;
        let identity = identity
            .as_ref()
            .map(|(cert, key)| (cert.as_slice(), key.expose_secret().as_bytes()));
        let connector = TlsConnect::new(ca.as_deref(), identity)?;
        let mut builder = Client::builder(endpoints, Arc::new(connector));
        builder.credential = context.credential().clone();
        builder.timeout = context.timeout();
        builder.transport = context.transport().value;
        Ok(builder)
    }

    /// Which protocol to speak; the best that both sides can otherwise.
    ///
    /// With [`Transport::Auto`], HTTP/3 and HTTP/2 are raced when a node is first spoken to; where nothing comes back over
    /// UDP, that costs 240 ms once, and HTTP/2 is spoken for three minutes before HTTP/3 is tried again, beside the calls.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Sends `token` as the bearer of every call.
    #[must_use]
    pub fn token(mut self, token: SecretString) -> Self {
        self.credential = Credential::Token(token);
        self
    }

    /// The limit of a call that states none; 10 s otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one attempt to connect may take; 2 s otherwise.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may stay unanswered before another node is asked; 4 s otherwise.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How fresh reads must be that do not say; the server's default (linearizable) otherwise.
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Randomness and wall time; the operating system's otherwise.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// The program's name and version, for the server's logs.
    #[must_use]
    pub fn user_agent(mut self, user_agent: &str) -> Self {
        user_agent.clone_into(&mut self.user_agent);
        self
    }

    /// Sends `traceparent` (W3C Trace Context) with every call, so that the nodes' work becomes part of the caller's trace.
    #[must_use]
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.to_owned());
        self
    }

    /// The client. Connects when first used.
    ///
    /// # Errors
    /// `invalid_argument` where there is no endpoint, or the token cannot be read or sent.
    pub fn build(self) -> Result<Client> {
        if self.endpoints.is_empty() {
            return Err(crate::context::no_endpoints());
        }
        let credential = match self.credential {
            Credential::None | Credential::Certificate { .. } => Token::None,
            Credential::Token(token) => Token::Fixed(bearer(&token)?),
            Credential::TokenFile(path) => {
                let last = Mutex::new(bearer(&crate::context::read_token(&path)?)?);
                Token::File { path, last }
            }
        };
        let user_agent = MetadataValue::try_from(self.user_agent.as_str())
            .map_err(|_| Error::invalid("the user agent is not ASCII", ""))?;
        let traceparent = self.traceparent.as_deref().map(MetadataValue::try_from).transpose();
        let traceparent = traceparent.map_err(|_| Error::invalid("the traceparent is not ASCII", ""))?;
        Ok(Client {
            shared: Arc::new(Shared {
                endpoints: self.endpoints,
                pool: Arc::new(Pool::new(self.connector, self.transport)),
                transport: self.transport,
                credential,
                timeout: self.timeout,
                connect_timeout: self.connect_timeout,
                attempt_timeout: self.attempt_timeout,
                consistency: self.consistency,
                entropy: self.entropy,
                user_agent,
                traceparent,
                current: AtomicUsize::new(0),
                leader: Mutex::new(None),
            }),
        })
    }
}

impl Shared {
    /// The endpoint at which a call starts.
    fn start(&self, mutation: bool) -> Endpoint {
        if mutation && let Some(leader) = self.leader.lock().clone() {
            return leader;
        }
        let index = self.current.load(Ordering::Relaxed) % self.endpoints.len().max(1);
        self.endpoints[index].clone()
    }

    /// Notes that `endpoint` answered.
    fn answered(&self, endpoint: &Endpoint, mutation: bool) {
        if mutation {
            *self.leader.lock() = Some(endpoint.clone());
        } else if let Some(index) = self.endpoints.iter().position(|known| known == endpoint) {
            self.current.store(index, Ordering::Relaxed);
        }
    }

    /// Notes that `endpoint` did not, or does not lead.
    fn failed(&self, endpoint: &Endpoint) {
        let mut leader = self.leader.lock();
        if leader.as_ref() == Some(endpoint) {
            *leader = None;
        }
    }

    /// `unavailable`, for endpoints of which none could be reached.
    fn cannot_connect(&self, attempts: Vec<Attempt>) -> Error {
        let error = Error::cannot_connect(attempts);
        match self.transport {
            Transport::Auto | Transport::H2 => error,
            Transport::H3 => error.with_hint(
                "`transport` is h3, so nothing else was tried: with auto or h2 it goes over TCP; else see that UDP reaches \
                 the node on that port, and that it serves HTTP/3 (`[api] http3`)",
            ),
        }
    }

    fn authorization(&self) -> Option<MetadataValue<Ascii>> {
        match &self.credential {
            Token::None => None,
            Token::Fixed(value) => Some(value.clone()),
            Token::File { last, .. } => Some(last.lock().clone()),
        }
    }

    /// Reads the token file again; true where it holds another token than before.
    fn reload_token(&self) -> bool {
        let Token::File { path, last } = &self.credential else {
            return false;
        };
        let Ok(value) = crate::context::read_token(path).and_then(|token| bearer(&token)) else {
            return false;
        };
        let mut last = last.lock();
        let changed = *last != value;
        *last = value;
        changed
    }
}

/// The value of the `authorization` header; marked sensitive, so that no log shows it.
fn bearer(token: &SecretString) -> Result<MetadataValue<Ascii>> {
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose_secret().trim())).map_err(|_| {
        Error::invalid(
            "the token holds bytes that no token has",
            "give the token as it was issued, on one line",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

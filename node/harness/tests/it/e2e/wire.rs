//! A client of a node's API that hides nothing: REST over HTTP/1.1, HTTP/2 and HTTP/3, and gRPC over the latter two, from
//! the contract's own descriptors, so that one call in a test can be made in every form.
//!
//! The SDK follows leaders and repeats requests; here each call is one request on a connection of its own, and every
//! header can be set and seen.

use std::{
    collections::BTreeMap,
    error::Error as _,
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use api_quic::{
    config::{self, Transport},
    quinn,
};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use proto::methods::Method;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::{Map, Value, json};
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// No single request of these tests takes longer, long polls included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// The runtime of all clients.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    H1,
    H2,
    Grpc,
    H3,
    GrpcH3,
}

impl Wire {
    pub const ALL: [Self; 5] = [Self::H1, Self::H2, Self::Grpc, Self::H3, Self::GrpcH3];

    /// As audit and metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 | Self::Grpc => "h2",
            Self::H3 | Self::GrpcH3 => "h3",
        }
    }

    pub fn is_rest(self) -> bool {
        match self {
            Self::H1 | Self::H2 | Self::H3 => true,
            Self::Grpc | Self::GrpcH3 => false,
        }
    }
}

/// Whom a client trusts, and what it shows.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the CA in `ca_pem`; shows `identity` (certificate chain and key, PEM).
    pub fn new(ca_pem: &[u8], identity: Option<(&[u8], &[u8])>) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(cert).map(Result::unwrap).collect();
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap())
                    .unwrap()
            }
        };
        Self(Arc::new(config))
    }

    /// A TLS connection to `address`. `alpn` may be empty.
    pub async fn connect(&self, address: &str, alpn: &[u8]) -> Result<TlsStream<TcpStream>, String> {
        let address: SocketAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|error| format!("connecting: {error}"))?;
        let mut config = ClientConfig::clone(&self.0);
        if !alpn.is_empty() {
            config.alpn_protocols = vec![alpn.to_vec()];
        }
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        stream.map_err(|error| format!("TLS: {error}"))
    }

    /// An HTTP/3 connection to `address`, over UDP alone.
    pub async fn connect_h3(&self, address: &str) -> Result<api_quic::Client, String> {
        let address: SocketAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let quic = self.connect_quic(address).await?;
        api_quic::Client::new(quic).await.map_err(|error| error.to_string())
    }

    /// A QUIC connection to `address`, and nothing on it yet.
    pub async fn connect_quic(&self, address: SocketAddr) -> Result<quinn::Connection, String> {
        self.connect_quic_with(address, &Transport::default()).await
    }

    /// The same with other windows.
    pub async fn connect_quic_with(&self, address: SocketAddr, to: &Transport) -> Result<quinn::Connection, String> {
        let config = config::client(&self.0, to).map_err(|error| error.to_string())?;
        let endpoint = config::client_endpoint(address).map_err(|error| format!("a UDP socket: {error}"))?;
        let connecting = endpoint.connect_with(config, address, &address.ip().to_string());
        let connecting = connecting.map_err(|error| error.to_string())?;
        connecting.await.map_err(|error| format!("QUIC: {error}"))
    }
}

/// One node's API, as one caller sees it.
#[derive(Clone)]
pub struct Caller {
    pub address: String,
    pub wire: Wire,
    pub tls: Tls,
    pub headers: HeaderMap,
}

impl Caller {
    /// `api` is `https://host:port`.
    pub fn new(api: &str, wire: Wire, tls: Tls) -> Self {
        let address = api.strip_prefix("https://").unwrap_or(api).to_owned();
        Self {
            address,
            wire,
            tls,
            headers: HeaderMap::new(),
        }
    }

    /// The same with a header on every request.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same without a header.
    pub fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    /// The same as the bearer of `token`.
    pub fn bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// The same, written otherwise.
    pub fn over(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// Calls an RPC by its name (`DrainPeer`) with its request in JSON.
    pub fn call(&self, rpc: &str, request: Value) -> Reply {
        self.try_call(rpc, request)
            .unwrap_or_else(|error| panic!("{rpc} at {} over {:?}: {error}", self.address, self.wire))
    }

    /// As [`Caller::call`], for a caller that may not even get a connection.
    pub fn try_call(&self, rpc: &str, request: Value) -> Result<Reply, String> {
        let method = method(rpc);
        runtime().block_on(async {
            let call = async {
                if self.wire.is_rest() {
                    self.rest(method, request).await
                } else {
                    self.grpc(method, &request).await
                }
            };
            within(call).await
        })
    }

    /// Any REST request: verb, path and query, and body as it is.
    pub fn raw(&self, verb: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Reply {
        let reply = self.try_raw(verb, path, content_type, body);
        reply.unwrap_or_else(|error| panic!("{verb} {path} at {}: {error}", self.address))
    }

    /// As [`Caller::raw`], for a request that may not be read to its end.
    pub fn try_raw(&self, verb: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<Reply, String> {
        runtime()
            .block_on(within(self.request(verb, path, content_type, body.into())))
            .map(Reply::rest)
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Reply {
        self.raw("GET", path, "", Bytes::new())
    }

    /// `GET path`, whatever its answer is made of.
    pub fn bytes(&self, path: &str) -> Result<Answer, String> {
        runtime().block_on(within(self.request("GET", path, "", Bytes::new())))
    }

    /// A request with a JSON body.
    pub fn send(&self, verb: &str, path: &str, body: &Value) -> Reply {
        self.raw(verb, path, "application/json", body.to_string())
    }

    async fn rest(&self, method: &Method, request: Value) -> Result<Reply, String> {
        let Value::Object(mut fields) = request else {
            panic!("a request is an object")
        };
        let path = path_of(method, &mut fields);
        let verb = method.http.verb.as_str();
        let sent = if method.http.body {
            self.request(
                verb,
                &path,
                "application/json",
                Value::Object(fields).to_string().into(),
            )
            .await
        } else {
            self.request(verb, &with_query(path, &fields), "", Bytes::new()).await
        };
        sent.map(Reply::rest)
    }

    async fn grpc(&self, method: &Method, request: &Value) -> Result<Reply, String> {
        let message = proto::json::read(&method.input, request.to_string().as_bytes()).map_err(|e| e.to_string())?;
        let answer = self.grpc_bytes(&method.path, message.encode_to_vec().into()).await?;
        Reply::grpc(answer, method)
    }

    /// A gRPC call by its path, with an encoded message.
    pub fn grpc_raw(&self, path: &str, message: Bytes) -> Answer {
        runtime().block_on(within(self.grpc_bytes(path, message))).unwrap()
    }

    async fn grpc_bytes(&self, path: &str, message: Bytes) -> Result<Answer, String> {
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&message);
        self.clone()
            .with("te", "trailers")
            .request("POST", path, "application/grpc", framed.into())
            .await
    }

    async fn request(&self, verb: &str, path: &str, content_type: &str, body: Bytes) -> Result<Answer, String> {
        let uri: Uri = format!("https://{}{path}", self.address)
            .parse()
            .map_err(|e| format!("{path}: {e}"))?;
        let mut request = Request::builder().method(verb).uri(uri);
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
            if !content_type.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
            }
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        exchange(self, request).await
    }
}

async fn within<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(REQUEST_TIMEOUT, work)
        .await
        .map_err(|_| "no answer in time".to_owned())?
}

async fn exchange(caller: &Caller, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let broken = |error: hyper::Error| {
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        format!("{error}{cause}")
    };
    let response = match caller.wire {
        Wire::H1 => {
            let stream = caller.tls.connect(&caller.address, b"http/1.1").await?;
            let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(broken)?;
            tokio::spawn(connection);
            request
                .headers_mut()
                .insert(header::HOST, HeaderValue::from_str(&caller.address).unwrap());
            let path = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
            *request.uri_mut() = path;
            send.send_request(request).await.map_err(broken)?
        }
        Wire::H2 | Wire::Grpc => {
            let stream = caller.tls.connect(&caller.address, b"h2").await?;
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut send, connection) = handshake.await.map_err(broken)?;
            tokio::spawn(connection);
            send.send_request(request).await.map_err(broken)?
        }
        Wire::H3 | Wire::GrpcH3 => {
            let client = caller.tls.connect_h3(&caller.address).await?;
            let response = client.send(request).await.map_err(|error| error.to_string())?;
            return whole(response).await;
        }
    };
    whole(response).await
}

async fn whole<B>(response: Response<B>) -> Result<Answer, String>
where
    B: Body<Data = Bytes>,
    B::Error: std::error::Error,
{
    let (head, body) = response.into_parts();
    let collected = body.collect().await;
    let collected = collected.map_err(|error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })?;
    let mut headers = head.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    Ok(Answer {
        status: head.status.as_u16(),
        headers,
        body: collected.to_bytes(),
    })
}

/// A response, its trailers among the headers.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The message of a gRPC answer; empty where there is none.
    pub fn message(&self) -> Bytes {
        if self.body.len() < 5 {
            Bytes::new()
        } else {
            self.body.slice(5..)
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// What came of a call, in one form for every wire.
pub struct Reply {
    /// The HTTP status; of gRPC too, where it is 200 as a rule.
    pub status: u16,
    /// The gRPC status, over gRPC.
    pub grpc: Option<i32>,
    /// Headers, and over gRPC trailers.
    pub headers: HeaderMap,
    /// The record or list, or the problem.
    pub json: Value,
    /// What was sent, where it is not JSON.
    pub text: String,
    ok: bool,
}

impl Reply {
    fn rest(answer: Answer) -> Self {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Self {
            ok: answer.status < 300,
            status: answer.status,
            grpc: None,
            headers: answer.headers,
            json,
            text,
        }
    }

    fn grpc(answer: Answer, method: &Method) -> Result<Self, String> {
        let status: i32 = answer.header("grpc-status").parse().map_err(|_| {
            format!(
                "no grpc-status; HTTP {} {:?} {:?}",
                answer.status, answer.headers, answer.body
            )
        })?;
        let json = if status == 0 {
            let message = DynamicMessage::decode(method.output.clone(), answer.message()).map_err(|e| e.to_string())?;
            let mut text = Vec::new();
            proto::json::write(&message, &mut text).map_err(|e| e.to_string())?;
            serde_json::from_slice(&text).map_err(|e| e.to_string())?
        } else {
            problem_of(&answer).unwrap_or_else(|| json!({ "detail": answer.header("grpc-message") }))
        };
        Ok(Self {
            ok: status == 0,
            status: answer.status,
            grpc: Some(status),
            headers: answer.headers,
            json,
            text: String::new(),
        })
    }

    /// A gRPC stream that was read to its end; `text` is all of its messages.
    pub fn of_stream(answer: Answer, text: String) -> Self {
        let grpc: i32 = answer.header("grpc-status").parse().unwrap_or(-1);
        Self {
            status: answer.status,
            grpc: Some(grpc),
            json: problem_of(&answer).unwrap_or(Value::Null),
            headers: answer.headers,
            text,
            ok: grpc == 0,
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The code of a refusal; empty for a success.
    pub fn code(&self) -> &str {
        if self.ok {
            ""
        } else {
            self.json["code"].as_str().unwrap_or("(no code)")
        }
    }

    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// The JSON of a success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.ok, "refused: {self:?}");
        self
    }

    /// Itself, where it was refused with this code and the HTTP or gRPC status that belongs to it.
    #[track_caller]
    pub fn refused(self, code: &str) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        let kind = proto::codes::Code::of(code);
        match self.grpc {
            Some(status) => assert_eq!(status, kind.grpc() as i32, "{self:?}"),
            None => {
                assert_eq!(self.status, kind.http(), "{self:?}");
                assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
                assert_eq!(self.json["status"], self.status, "{self:?}");
            }
        }
        for member in ["detail", "hint", "requestId"] {
            assert!(
                self.json[member].as_str().is_some_and(|text| !text.is_empty()),
                "no {member}: {self:?}"
            );
        }
        assert!(self.grpc.is_some() || self.json["retryable"].is_boolean(), "{self:?}");
        self
    }

    /// `Mesh-Revision`
    pub fn revision(&self) -> u64 {
        self.header("mesh-revision")
            .parse()
            .unwrap_or_else(|_| panic!("no Mesh-Revision: {self:?}"))
    }

    /// The ETag, without the quotes that REST puts around it.
    pub fn etag(&self) -> &str {
        self.header("etag").trim_matches('"')
    }

    /// A text member of the JSON.
    pub fn str(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or_default()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HTTP {} gRPC {:?} {:?} {} {}",
            self.status, self.grpc, self.headers, self.json, self.text
        )
    }
}

/// The RPC of this name.
#[track_caller]
pub fn method(rpc: &str) -> &'static Method {
    proto::methods::all()
        .iter()
        .find(|method| method.name == rpc)
        .unwrap_or_else(|| panic!("no RPC {rpc}"))
}

/// The path of a request; takes the fields out that are in it.
fn path_of(method: &Method, fields: &mut Map<String, Value>) -> String {
    use proto::methods::Segment;
    let mut path = String::new();
    for segment in &method.http.template.segments {
        path.push('/');
        match segment {
            Segment::Literal(literal) => path.push_str(literal),
            Segment::Variable(name) => {
                let value = fields
                    .remove(name)
                    .unwrap_or_else(|| panic!("{}: no {name}", method.name));
                path.push_str(&encoded(&plain(&value)));
            }
        }
    }
    if let Some(verb) = &method.http.template.verb {
        path.push(':');
        path.push_str(verb);
    }
    path
}

fn with_query(path: String, fields: &Map<String, Value>) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(&plain(value))))
        .collect();
    if pairs.is_empty() {
        path
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Percent-encodes everything but what is never special.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// The problem in the details of a gRPC status; its `ErrorInfo` has to say the same code.
fn problem_of(answer: &Answer) -> Option<Value> {
    let details = answer.header("grpc-status-details-bin").trim_end_matches('=');
    let bytes = BASE64_STANDARD_NO_PAD.decode(details).ok()?;
    let status = tonic_types::pb::Status::decode(bytes.as_slice()).ok()?;
    let by_type: BTreeMap<&str, &[u8]> = status
        .details
        .iter()
        .map(|any| (any.type_url.rsplit('/').next().unwrap_or(""), any.value.as_slice()))
        .collect();
    let problem = proto::v1::Problem::decode(*by_type.get("meshkit.v1.Problem")?).ok()?;
    let info = tonic_types::pb::ErrorInfo::decode(*by_type.get("google.rpc.ErrorInfo")?).ok()?;
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        (problem.code.as_str(), "meshkit")
    );
    proto::json::to_value(&problem).ok()
}

//! The adapter over real sockets: what is cut off, left lying and never ends, on either side.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod fuzz;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use meshkit_api_quic::{Body, Client, Connection, SendStream, Side, Stopped, config, h3, quinn};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Nothing here takes this long, on a machine however busy.
pub const LONG: Duration = Duration::from_secs(20);
/// The longest headers that the server takes.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The sending half of an answer.
pub type Answer = h3::server::RequestStream<SendStream<Bytes>, Bytes>;

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("nothing came of it")
}

/// A server and what its clients need.
pub struct Server {
    pub address: SocketAddr,
    pub client: quinn::Endpoint,
    endpoint: quinn::Endpoint,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"");
    }
}

/// Starts one that does `handle` with every connection.
pub fn listen<F>(handle: impl Fn(quinn::Connection) -> F + Send + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let transport = config::Transport {
        requests_max: 32,
        ..config::Transport::default()
    };
    let server = config::server(config::server_tls(&tls).unwrap(), &transport).unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = config::server_endpoint(socket, server, quinn::EndpointConfig::default()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let Ok(connection) = incoming.await else { continue };
            tokio::spawn(handle(connection));
        }
    });

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = config::client_endpoint(address).unwrap();
    client.set_default_client_config(config::client(&tls, &config::Transport::default()).unwrap());
    Server {
        address,
        client,
        endpoint,
    }
}

/// Starts one that does `handle` with every request.
pub fn serve<F>(handle: impl Fn(Request<Body>, Answer, Stopped) -> F + Clone + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    listen(move |connection| requests(connection, handle.clone()))
}

async fn requests<F>(
    connection: quinn::Connection,
    handle: impl Fn(Request<Body>, Answer, Stopped) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let adapted = Connection::new(connection, Side::Server, HEADER_BYTES_MAX);
    let stops = adapted.stops();
    let mut h3: h3::server::Connection<_, Bytes> = h3::server::builder().build(adapted).await.unwrap();
    while let Ok(Some(resolver)) = h3.accept().await {
        let (handle, stops) = (handle.clone(), stops.clone());
        tokio::spawn(async move {
            let Ok((request, stream)) = resolver.resolve_request().await else {
                return;
            };
            let stopped = stops.take(stream.id()).expect("given out once");
            let (send, receive) = stream.split();
            let body = Body::of_request(receive, request.headers());
            handle(request.map(|()| body), send, stopped).await;
        });
    }
}

impl Server {
    pub async fn raw(&self) -> quinn::Connection {
        soon(self.client.connect(self.address, "localhost").unwrap())
            .await
            .unwrap()
    }

    pub async fn client(&self) -> Client {
        soon(Client::new(self.raw().await)).await.unwrap()
    }
}

pub fn get(path: &str) -> Request<http_body_util::Empty<Bytes>> {
    let request = Request::get(format!("https://localhost{path}"));
    request.body(http_body_util::Empty::new()).unwrap()
}

/// A body that is sent as whoever holds the other end says.
pub fn channel() -> (
    tokio::sync::mpsc::Sender<Bytes>,
    impl http_body::Body<Data = Bytes, Error = &'static str> + Send,
) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures::stream::poll_fn(move |cx| {
        receiver
            .poll_recv(cx)
            .map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    });
    (sender, http_body_util::StreamBody::new(stream))
}

pub fn shared<T>(value: T) -> Arc<parking_lot::Mutex<T>> {
    Arc::new(parking_lot::Mutex::new(value))
}

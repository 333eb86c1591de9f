//! The one HTTP/2 client that both sides are measured with: TLS, no pool, no retries, nothing that only one side has.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api_client::{Connect as _, Endpoint, TlsConnect};
use futures::{FutureExt as _, future::BoxFuture};
use http::uri::PathAndQuery;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::codec::{Codec, Wire};
use tonic::{Request, Status, body::Body, client::Grpc};

use crate::{Error, Result};

/// How long opening a connection may take.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long one call may take; longer is counted as an error.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Link {
    send: SendRequest<Body>,
    origin: http::Uri,
}

impl Link {
    /// Opens a connection to `endpoint`, whose certificate `tls` trusts.
    ///
    /// # Errors
    /// Where it cannot be opened within 5 s.
    pub async fn open(tls: &Arc<TlsConnect>, endpoint: &Endpoint) -> Result<Self> {
        let failed = |why: String| Error::Connect {
            endpoint: endpoint.to_string(),
            why,
        };
        let opening = async {
            let stream = tls.connect(endpoint).await.map_err(|error| failed(error.to_string()))?;
            let (send, driver) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| failed(error.to_string()))?;
            // Ends with the last clone, or with the connection.
            tokio::spawn(driver);
            let origin = http::Uri::builder()
                .scheme("https")
                .authority(endpoint.authority())
                .path_and_query("/")
                .build()
                .map_err(|error| failed(error.to_string()))?;
            Ok(Self { send, origin })
        };
        tokio::time::timeout(OPEN_WITHIN, opening)
            .await
            .unwrap_or_else(|_| Err(failed("no answer".to_owned())))
    }

    /// One unary call.
    ///
    /// # Errors
    /// The server's status; `deadline_exceeded` after 10 s.
    pub async fn unary<Q, A>(&self, path: &'static str, request: Request<Q>) -> std::result::Result<A, Status>
    where
        Q: Wire,
        A: Wire,
    {
        let mut grpc = Grpc::with_origin(self.clone(), self.origin.clone());
        let calling = async {
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = Codec::<Q, A>::default();
            grpc.unary(request, PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(CALL_WITHIN, calling).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer within 10 s")),
        }
    }
}

/// Streams of the measured calls.
impl Link {
    /// One call that answers with a stream.
    ///
    /// # Errors
    /// The server's status.
    pub async fn streaming<Q, A>(
        &self,
        path: &'static str,
        request: Request<Q>,
    ) -> std::result::Result<tonic::Streaming<A>, Status>
    where
        Q: Wire,
        A: Wire,
    {
        let mut grpc = Grpc::with_origin(self.clone(), self.origin.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = Codec::<Q, A>::default();
        let answer = grpc
            .server_streaming(request, PathAndQuery::from_static(path), codec)
            .await;
        answer.map(tonic::Response::into_inner)
    }

    /// One call with a stream in each direction.
    ///
    /// # Errors
    /// The server's status.
    pub async fn both_ways<Q, A>(
        &self,
        path: &'static str,
        requests: Request<impl futures::Stream<Item = Q> + Send + 'static>,
    ) -> std::result::Result<tonic::Streaming<A>, Status>
    where
        Q: Wire,
        A: Wire,
    {
        let mut grpc = Grpc::with_origin(self.clone(), self.origin.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = Codec::<Q, A>::default();
        let answer = grpc.streaming(requests, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The answer to a GET, its body still to be read.
    ///
    /// # Errors
    /// Another status than 200.
    pub async fn get(
        &self,
        path: &str,
        authorization: &str,
    ) -> std::result::Result<http::Response<hyper::body::Incoming>, Status> {
        let authority = self.origin.authority().map_or("", |authority| authority.as_str());
        let request = http::Request::get(format!("https://{authority}{path}"))
            .header("authorization", authorization)
            .body(Body::empty())
            .map_err(|error| Status::internal(error.to_string()))?;
        let answer = self.send.clone().send_request(request).await;
        match answer.map_err(|error| Status::unavailable(error.to_string()))? {
            answer if answer.status() == http::StatusCode::OK => Ok(answer),
            answer => Err(Status::unavailable(answer.status().to_string())),
        }
    }
}

impl tower::Service<http::Request<Body>> for Link {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), hyper::Error>> {
        self.send.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.send.send_request(request).boxed()
    }
}

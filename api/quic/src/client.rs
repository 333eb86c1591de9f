//! A client's connection.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use h3::{client::SendRequest, error::Code};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::{Body, Connection, Error, Opener, SendStream, Side, error::varint};

/// The largest headers of an answer, and what is held of all answers' headers at once, in bytes.
const HEADER_BYTES_MAX: u32 = 256 * 1024;

/// One connection to a server, for any number of requests at once. A clone is the same connection, which closes when
/// all clones and all bodies of its answers are gone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    requests: SendRequest<Opener, Bytes>,
    connection: quinn::Connection,
    _driver: AbortOnDropHandle<()>,
}

impl Client {
    /// Begins HTTP/3 on a connection whose handshake is done. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The connection broke off.
    pub async fn new(connection: quinn::Connection) -> Result<Self, Error> {
        let adapted = Connection::new(connection.clone(), Side::Client, HEADER_BYTES_MAX as usize);
        let (mut driver, requests) = h3::client::builder()
            .max_field_section_size(u64::from(HEADER_BYTES_MAX))
            .send_grease(false)
            .build::<_, _, Bytes>(adapted)
            .await?;
        let driver = tokio::spawn(async move {
            // Ends with the connection, whose end every request sees for itself.
            let _ = poll_fn(|cx| driver.poll_close(cx)).await;
        });
        Ok(Self(Arc::new(Inner {
            requests,
            connection,
            _driver: AbortOnDropHandle::new(driver),
        })))
    }

    /// The connection beneath.
    #[must_use]
    pub fn connection(&self) -> &quinn::Connection {
        &self.0.connection
    }

    /// Sends a request, whose URI has scheme and authority, and answers when the head of the answer is there. The body is
    /// sent meanwhile and further on, until it is out or the answer's body is dropped. Whoever drops the future, or the
    /// answer's body before its end, breaks the request off.
    ///
    /// # Errors
    /// No whole head came back. [`Error::Closing`]: the server has not looked at the request.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Body>, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let (head, body) = request.into_parts();
        let to_head = head.method == http::Method::HEAD;
        let stream = self
            .0
            .requests
            .clone()
            .send_request(Request::from_parts(head, ()))
            .await?;
        let (mut send, mut receive) = stream.split();
        let upload = if body.is_end_stream() {
            send.finish().await?;
            None
        } else {
            Some(AbortOnDropHandle::new(tokio::spawn(upload(send, body))))
        };
        let answer = loop {
            let answer = receive.recv_response().await?;
            if !answer.status().is_informational() {
                break answer;
            }
        };
        let bodiless = to_head || matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let with = Arc::new((Arc::clone(&self.0), upload));
        let body = Body::of_answer(receive, answer.headers(), bodiless, with);
        Ok(answer.map(|()| body))
    }
}

/// Sends a body. If it fails, or the server wants no more of it, the stream is dropped unfinished, which is what says so.
async fn upload<B>(mut send: h3::client::RequestStream<SendStream<Bytes>, Bytes>, body: B)
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return };
        let sent = match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => send.send_data(data).await,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => send.send_trailers(trailers).await,
                Err(_) => Ok(()),
            },
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = send.finish().await;
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.close(varint(Code::H3_NO_ERROR.value()), b"");
    }
}

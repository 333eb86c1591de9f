//! An answer as it is sent, for all who are sent the same.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::{Status, body::Body};

use crate::{Error, framing};

/// An answer that was encoded before. Beside an answer (in its extensions) it takes the place of the message.
#[derive(Debug)]
pub(crate) struct Made {
    /// The message, as a frame of gRPC.
    framed: Bytes,
    /// The same as a JSON document, once somebody has asked for it.
    text: OnceLock<Bytes>,
}

impl Made {
    /// The message whose encoded fields these are, one part after the other.
    ///
    /// # Errors
    /// It is too long for a frame.
    pub(crate) fn new(parts: &[&[u8]]) -> Result<Arc<Self>, Error> {
        let framed = framing::frame(parts).ok_or_else(|| Error::internal("an answer that no frame holds"))?;
        Ok(Arc::new(Self {
            framed,
            text: OnceLock::new(),
        }))
    }

    /// The encoded message.
    pub(crate) fn message(&self) -> &[u8] {
        self.framed.get(framing::MESSAGE_HEAD_BYTES..).unwrap_or_default()
    }

    /// The document, written by `write` where nobody has asked for it before.
    pub(crate) fn text(&self, write: impl FnOnce() -> Result<Vec<u8>, Error>) -> Result<Bytes, Error> {
        if let Some(text) = self.text.get() {
            return Ok(text.clone());
        }
        let text = Bytes::from(write()?);
        Ok(self.text.get_or_init(|| text).clone())
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.framed.len() + self.text.get().map_or(0, Bytes::len)
    }

    /// The body of a gRPC answer.
    fn body(&self) -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        let sent = Full::new(self.framed.clone());
        Body::new(sent.with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers)))))
    }
}

/// A service's answer with the message that was made for it before, where there is one.
pub(crate) fn in_place(response: Response<Body>) -> Response<Body> {
    match response.extensions().get::<Arc<Made>>().map(|made| made.body()) {
        Some(body) => response.map(|_| body),
        None => response,
    }
}

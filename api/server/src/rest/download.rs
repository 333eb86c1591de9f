//! Streams whose messages are pieces of one file, as the file itself.
//!
//! A stream that ends in an error breaks the body off: there is no other way to say so once the first byte is out, and
//! the file's own end is missing in any case.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use proto::methods::Method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use super::answer::{check, is_ours};
use crate::{Error, body::Bounded, framing};

/// The HTTP response that a stream of pieces is. It is over at `ends`, or when the server stops.
///
/// # Errors
/// The refusal that the RPC answered with before its first piece.
pub(crate) fn download(
    method: &Method,
    response: Response<Body>,
    ends: Instant,
    stop: CancellationToken,
) -> Result<Response<Body>, Error> {
    let (head, body) = response.into_parts();
    check(&head.headers)?;
    let pieces = Pieces {
        body: Box::pin(Bounded::new(body, ends, stop)),
        arrived: BytesMut::new(),
        of: method.output.clone(),
    };
    let file = futures::stream::try_unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Ok::<_, Status>(piece.map(|piece| (Frame::data(piece), pieces)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(file)));
    let out = response.headers_mut();
    out.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    out.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in &head.headers {
        if is_ours(name) {
            out.insert(name.clone(), value.clone());
        }
    }
    Ok(response)
}

/// The pieces in a gRPC answer.
struct Pieces {
    body: Pin<Box<Bounded<Body>>>,
    /// Bytes that are no whole message yet.
    arrived: BytesMut,
    of: MessageDescriptor,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = framing::take_message(&mut self.arrived)? {
                let piece = self.data(message)?;
                if !piece.is_empty() {
                    return Ok(Some(piece));
                }
                continue;
            }
            let Some(frame) = self.body.frame().await else {
                return Err(broken("it ended without a status"));
            };
            match frame?.into_data() {
                Ok(data) => self.arrived.extend_from_slice(&data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        check(&trailers).map_err(|error| error.into_status(""))?;
                    }
                    if !self.arrived.is_empty() {
                        return Err(broken("it ended within a message"));
                    }
                    return Ok(None);
                }
            }
        }
    }

    fn data(&self, message: Bytes) -> Result<Bytes, Status> {
        let message = DynamicMessage::decode(self.of.clone(), message).map_err(|error| broken(&error.to_string()))?;
        match message.get_field_by_name("data").as_deref() {
            Some(Value::Bytes(data)) => Ok(data.clone()),
            _ => Err(broken("a piece without data")),
        }
    }
}

fn broken(why: &str) -> Status {
    Error::internal(format!("a stream of pieces is not what it should be: {why}")).into_status("")
}

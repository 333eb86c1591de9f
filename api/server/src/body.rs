//! Request bodies with a limit, and the bodies of answers.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use proto::codes::Code;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use crate::{Error, outgoing::Piece};

/// A body that is all there.
pub(crate) fn full(data: impl Into<Bytes>) -> tonic::body::Body {
    tonic::body::Body::new(Full::new(data.into()))
}

/// `too_large`, naming the limit.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        Code::TooLarge,
        format!("the request body is over the limit of {limit} bytes"),
    )
    .with(|problem| {
        problem.hint = "send less in one request".to_owned();
        problem.limit = format!("{limit} B");
    })
}

pin_project! {
    /// The body of a request as it arrives, whatever it arrives over.
    #[project = ArrivingProjection]
    pub(crate) enum Arriving {
        /// HTTP/2 and HTTP/1.1.
        Tcp { #[pin] body: Incoming },
        /// HTTP/3.
        Quic { #[pin] body: api_quic::Body<Piece> },
    }
}

/// A body that broke off, in words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error(transparent)]
    Tcp(#[from] hyper::Error),
    #[error(transparent)]
    Quic(#[from] api_quic::Error),
}

impl From<Incoming> for Arriving {
    fn from(body: Incoming) -> Self {
        Self::Tcp { body }
    }
}

impl From<api_quic::Body<Piece>> for Arriving {
    fn from(body: api_quic::Body<Piece>) -> Self {
        Self::Quic { body }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.project() {
            ArrivingProjection::Tcp { body } => body.poll_frame(cx).map_err(BrokenOff::from),
            ArrivingProjection::Quic { body } => body.poll_frame(cx).map_err(BrokenOff::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tcp { body } => body.is_end_stream(),
            Self::Quic { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tcp { body } => body.size_hint(),
            Self::Quic { body } => body.size_hint(),
        }
    }
}

pin_project! {
    /// The body of a request: from the network, counted against the limit, or already in memory.
    pub(crate) struct RequestBody {
        #[pin]
        source: Source,
        left: usize,
        limit: usize,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source {
        Network { #[pin] body: Arriving },
        Memory { #[pin] body: Full<Bytes> },
    }
}

impl RequestBody {
    /// A body from the network that yields at most `limit` bytes and then fails with `too_large`.
    pub(crate) fn network(body: Arriving, limit: usize) -> Self {
        Self {
            source: Source::Network { body },
            left: limit,
            limit,
        }
    }

    /// A body that is in memory.
    pub(crate) fn memory(data: Bytes) -> Self {
        Self {
            left: data.len(),
            limit: data.len(),
            source: Source::Memory { body: Full::new(data) },
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = match this.source.project() {
            SourceProjection::Network { body } => ready!(body.poll_frame(cx)),
            SourceProjection::Memory { body } => {
                return body
                    .poll_frame(cx)
                    .map_err(|never: std::convert::Infallible| match never {});
            }
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match this.left.checked_sub(bytes) {
                    Some(left) => {
                        *this.left = left;
                        Some(Ok(frame))
                    }
                    None => Some(Err(too_large(*this.limit).into_status(""))),
                }
            }
            Some(Err(error)) => Some(Err(Status::cancelled(format!("the request body broke off: {error}")))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Network { body } => body.is_end_stream(),
            Source::Memory { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Network { body } => body.size_hint(),
            Source::Memory { body } => body.size_hint(),
        }
    }
}

/// Reads a whole body.
///
/// # Errors
/// `too_large`, or the body broke off.
pub(crate) async fn collect(mut body: RequestBody) -> Result<Bytes, Error> {
    let mut first: Option<Bytes> = None;
    let mut more: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|status| Error::from_status(&status))?;
        let Ok(data) = frame.into_data() else { continue };
        // Most bodies are one frame, which is then passed on as it is.
        match &first {
            None => first = Some(data),
            Some(head) => {
                if more.is_empty() {
                    more.extend_from_slice(head);
                }
                more.extend_from_slice(&data);
            }
        }
    }
    Ok(if more.is_empty() {
        first.unwrap_or_default()
    } else {
        more.into()
    })
}

/// Reads a refused body away, up to a bound in bytes and time: a client that is still sending would otherwise see a
/// broken connection instead of the refusal.
pub(crate) async fn drain(mut body: Arriving, bytes_max: usize, within: Duration) {
    if body.is_end_stream() || body.size_hint().lower() > bytes_max as u64 {
        return;
    }
    let mut left = bytes_max;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(within, read).await;
}

pin_project! {
    /// The body of a streamed answer: ends with `deadline_exceeded` at its deadline and with `unavailable` when the
    /// server stops, so that no stream outlives either.
    pub(crate) struct Bounded<B> {
        #[pin]
        body: B,
        #[pin]
        deadline: Sleep,
        #[pin]
        stop: WaitForCancellationFutureOwned,
        over: bool,
    }
}

impl<B> Bounded<B> {
    pub(crate) fn new(body: B, deadline: Instant, stop: CancellationToken) -> Self {
        Self {
            body,
            deadline: tokio::time::sleep_until(deadline),
            stop: stop.cancelled_owned(),
            over: false,
        }
    }
}

impl<B: Body<Data = Bytes, Error = Status>> Body for Bounded<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let end = if this.stop.poll(cx).is_ready() {
            Error::new(Code::Unavailable, "this node is stopping").hint("go on at another node")
        } else if this.deadline.poll(cx).is_ready() {
            Error::new(Code::DeadlineExceeded, "the stream's time is over").hint("open it again")
        } else {
            return this.body.poll_frame(cx);
        };
        *this.over = true;
        // As trailers: to the client this is an orderly end with a status.
        let mut trailers = http::HeaderMap::new();
        let _ = end.into_status("").add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_in_memory_is_collected() {
        assert_eq!(
            collect(RequestBody::memory(Bytes::from_static(b"abc"))).await.unwrap(),
            "abc"
        );
        assert_eq!(collect(RequestBody::memory(Bytes::new())).await.unwrap(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_its_deadline() {
        let endless = tonic::body::Body::new(http_body_util::StreamBody::new(futures::stream::pending::<
            Result<Frame<Bytes>, Status>,
        >()));
        let body = Bounded::new(
            endless,
            Instant::now() + Duration::from_secs(5),
            CancellationToken::new(),
        );
        let end = body.collect().await.unwrap();
        let status = Status::from_header_map(end.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}

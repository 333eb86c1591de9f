//! Bodies that come in.

use std::{
    any::Any,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::error::StreamError;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

use crate::{Error, RecvStream};

/// The body of a request or an answer: its data, then its trailers. Ends without an error only if all of it has come.
/// Dropped before its end, the other side is told to stop.
pub struct Body<B = Bytes> {
    stream: Stream<B>,
    at: At,
    declared: Option<u64>,
    got: u64,
    /// What has to live as long as the body.
    _with: Option<Arc<dyn Any + Send + Sync>>,
}

/// `B` is what the other half of the stream sends.
enum Stream<B> {
    Server(h3::server::RequestStream<RecvStream, B>),
    Client(h3::client::RequestStream<RecvStream, B>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Data,
    Trailers,
    End,
}

impl<B: Buf> Body<B> {
    /// The body of a request that a server got with these headers.
    #[must_use]
    pub fn of_request(stream: h3::server::RequestStream<RecvStream, B>, headers: &HeaderMap) -> Self {
        Self {
            stream: Stream::Server(stream),
            at: At::Data,
            declared: declared(headers),
            got: 0,
            _with: None,
        }
    }

    /// The body of an answer that a client got with these headers, and what it needs to go on. `bodiless`: the answer
    /// has none, whatever length it states (RFC 9110 §6.4.1).
    #[must_use]
    pub fn of_answer(
        stream: h3::client::RequestStream<RecvStream, B>,
        headers: &HeaderMap,
        bodiless: bool,
        with: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            stream: Stream::Client(stream),
            at: At::Data,
            declared: if bodiless { None } else { declared(headers) },
            got: 0,
            _with: Some(with),
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        // Copies nothing: what `h3` hands over is `Bytes`, though it does not say so.
        match &mut self.stream {
            Stream::Server(stream) => stream
                .poll_recv_data(cx)
                .map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining()))),
            Stream::Client(stream) => stream
                .poll_recv_data(cx)
                .map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining()))),
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        match &mut self.stream {
            Stream::Server(stream) => stream.poll_recv_trailers(cx),
            Stream::Client(stream) => stream.poll_recv_trailers(cx),
        }
    }

    /// Whether as much came as was declared, so far (`over`: in all).
    fn check_length(&self, over: bool) -> Result<(), Error> {
        match self.declared {
            Some(declared) if self.got > declared || (over && self.got < declared) => Err(Error::Length {
                declared,
                got: self.got,
            }),
            _ => Ok(()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        if self.at == At::Data {
            if let Some(data) = ready!(self.poll_data(cx))? {
                self.got += data.len() as u64;
                self.check_length(false)?;
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.at = At::Trailers;
        }
        if self.at == At::Trailers {
            let trailers = ready!(self.poll_trailers(cx))?;
            self.at = At::End;
            self.check_length(true)?;
            return Poll::Ready(Ok(trailers.map(Frame::trailers)));
        }
        Poll::Ready(Ok(None))
    }
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

// Nothing in it is pinned, whatever `B` is: there is none of it inside.
impl<B> Unpin for Body<B> {}

impl<B: Buf> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(self.poll(cx));
        if polled.is_err() {
            self.at = At::End;
        }
        Poll::Ready(polled.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.at == At::End
    }

    fn size_hint(&self) -> SizeHint {
        match (self.at, self.declared) {
            (At::End, _) => SizeHint::with_exact(0),
            (_, Some(declared)) => SizeHint::with_exact(declared.saturating_sub(self.got)),
            (_, None) => SizeHint::default(),
        }
    }
}

//! A connection: quinn's as `h3` wants it.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId},
};
use parking_lot::Mutex;

use crate::{
    error::{connection_lost, stream_lost, varint},
    frames::{Frames, Room},
    stream::{BidiStream, RecvStream, SendStream},
};

/// Which end of a connection this is. Decides what the other is told of streams that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Asks.
    Client,
    /// Answers.
    Server,
}

impl Side {
    /// Of a stream that was to be sent and will not be.
    pub(crate) const fn unfinished(self) -> Code {
        match self {
            Self::Client => Code::H3_REQUEST_CANCELLED,
            Self::Server => Code::H3_INTERNAL_ERROR,
        }
    }

    /// Of a stream that is not read to its end. An answer may well be whole without the request's body (RFC 9114 §4.1).
    pub(crate) const fn unread(self) -> Code {
        match self {
            Self::Client => Code::H3_REQUEST_CANCELLED,
            Self::Server => Code::H3_NO_ERROR,
        }
    }
}

/// What resolves when the other side does not want the rest of a stream, has received all of it, or is gone.
pub type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams that the other side began, so that whoever answers on one can learn that nobody wants the answer.
#[derive(Clone)]
pub struct Stops(Arc<StopsInner>);

#[derive(Default)]
pub(crate) struct StopsInner(Mutex<HashMap<StreamId, Stopped>>);

impl Stops {
    /// What to wait for beside the work on a stream. Given out once for each stream.
    #[must_use]
    pub fn take(&self, stream: StreamId) -> Option<Stopped> {
        self.0.0.lock().remove(&stream)
    }
}

impl StopsInner {
    pub(crate) fn forget(&self, stream: StreamId) {
        let stopped = self.0.lock().remove(&stream);
        drop(stopped);
    }
}

type Pair = (quinn::SendStream, quinn::RecvStream);
type Opening<T> = Pin<Box<dyn Future<Output = Result<T, quinn::ConnectionError>> + Send + Sync>>;
type Arriving<T> = BoxStream<'static, Result<T, quinn::ConnectionError>>;

/// A QUIC connection for [`h3::server`] or [`h3::client`].
pub struct Connection {
    opener: Opener,
    requests: Arriving<Pair>,
    unidirectional: Arriving<quinn::RecvStream>,
    stops: Stops,
}

/// Begins streams on a connection.
pub struct Opener {
    connection: quinn::Connection,
    side: Side,
    room: Arc<Room>,
    both: Option<Opening<Pair>>,
    send: Option<Opening<quinn::SendStream>>,
}

impl Connection {
    /// Takes a connection over. `head_bytes_max` bounds each frame that is not DATA, and what is held of all those that
    /// have not come to their end: the memory that the headers of messages can take before they are looked at.
    #[must_use]
    pub fn new(connection: quinn::Connection, side: Side, head_bytes_max: usize) -> Self {
        // One allocation each for all streams that come, and what waits for them is not lost between two polls.
        let requests = stream::unfold(connection.clone(), |connection| async {
            Some((connection.accept_bi().await, connection))
        });
        let unidirectional = stream::unfold(connection.clone(), |connection| async {
            Some((connection.accept_uni().await, connection))
        });
        Self {
            requests: requests.boxed(),
            unidirectional: unidirectional.boxed(),
            stops: Stops(Arc::default()),
            opener: Opener {
                connection,
                side,
                room: Room::of(head_bytes_max),
                both: None,
                send: None,
            },
        }
    }

    /// How to learn that streams of this connection are not wanted any more.
    #[must_use]
    pub fn stops(&self) -> Stops {
        self.stops.clone()
    }
}

/// What `accept` brings; its stream never ends by itself.
fn arrived<T>(next: Option<Result<T, quinn::ConnectionError>>) -> Result<T, ConnectionErrorIncoming> {
    match next {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) => Err(connection_lost(error)),
        None => Err(ConnectionErrorIncoming::InternalError(
            "nothing more is accepted".into(),
        )),
    }
}

/// A stream's number as `h3` knows it; the same 62 bits.
fn id(stream: quinn::StreamId) -> Result<StreamId, ConnectionErrorIncoming> {
    StreamId::try_from(quinn::VarInt::from(stream).into_inner())
        .map_err(|_| ConnectionErrorIncoming::InternalError("a stream has a number that there is not".into()))
}

fn opened_id(stream: quinn::StreamId) -> Result<StreamId, StreamErrorIncoming> {
    id(stream).map_err(|connection_error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error })
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let stream = arrived(ready!(self.unidirectional.poll_next_unpin(cx)))?;
        let id = id(stream.id())?;
        let frames = Frames::of_unidirectional(&self.opener.room);
        Poll::Ready(Ok(RecvStream::new(stream, id, self.opener.side, frames)))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream<B>, ConnectionErrorIncoming>> {
        let (send, recv) = arrived(ready!(self.requests.poll_next_unpin(cx)))?;
        let id = id(send.id())?;
        let stopped = send.stopped();
        let stopped = Box::pin(async move {
            // Stopped, all received, or connection lost: in each case nobody waits for more.
            let _ = stopped.await;
        });
        self.stops.0.0.lock().insert(id, stopped);
        let send = SendStream::new(send, id, self.opener.side, Some(Arc::clone(&self.stops.0)));
        let frames = Frames::of_request(&self.opener.room);
        let recv = RecvStream::new(recv, id, self.opener.side, frames);
        Poll::Ready(Ok(BidiStream::new(send, recv)))
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.both.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_bi().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.both = None;
        let (send, recv) = opened.map_err(stream_lost)?;
        let id = opened_id(send.id())?;
        let send = SendStream::new(send, id, self.side, None);
        let recv = RecvStream::new(recv, id, self.side, Frames::of_request(&self.room));
        Poll::Ready(Ok(BidiStream::new(send, recv)))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.send.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.send = None;
        let send = opened.map_err(stream_lost)?;
        let id = opened_id(send.id())?;
        Poll::Ready(Ok(SendStream::new(send, id, self.side, None)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code.value()), reason);
    }
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            side: self.side,
            room: Arc::clone(&self.room),
            both: None,
            send: None,
        }
    }
}

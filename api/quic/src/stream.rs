//! Streams: quinn's as `h3` wants them.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{self, StreamErrorIncoming, StreamId, WriteBuf},
};

use crate::{
    connection::{Side, StopsInner},
    error::{not_read, not_written, terminated, varint},
    frames::{Frames, Refused},
};

/// The sending half of a stream. Dropped before it is finished, it is reset: what was sent does not look whole.
pub struct SendStream<B> {
    stream: quinn::SendStream,
    id: StreamId,
    side: Side,
    writing: Option<WriteBuf<B>>,
    /// Finished or reset.
    over: bool,
    /// Where it is noted that the other side may stop this stream, until the stream is dropped.
    stops: Option<Arc<StopsInner>>,
}

/// The receiving half of a stream. Dropped before its end, the other side is told to stop.
pub struct RecvStream {
    stream: quinn::RecvStream,
    id: StreamId,
    side: Side,
    frames: Frames,
    state: Reading,
}

/// How far a stream was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// To its end, which was in its place.
    Whole,
    /// Until something was wrong with it, or it was not wanted any more.
    Broken,
}

/// Both halves.
pub struct BidiStream<B> {
    send: SendStream<B>,
    recv: RecvStream,
}

impl<B> SendStream<B> {
    pub(crate) fn new(stream: quinn::SendStream, id: StreamId, side: Side, stops: Option<Arc<StopsInner>>) -> Self {
        Self {
            stream,
            id,
            side,
            writing: None,
            over: false,
            stops,
        }
    }

    fn abandon(&mut self, code: u64) {
        self.writing = None;
        if !self.over {
            self.over = true;
            // Fails where the stream is over already, which is what is wanted.
            let _ = self.stream.reset(varint(code));
        }
    }
}

impl<B: Buf> quic::SendStream<B> for SendStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = &mut self.writing {
            if data.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(not_written)?;
                data.advance(written);
            } else {
                self.writing = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            // Whoever gave up waiting for a write cannot go on behind it.
            return Err(StreamErrorIncoming::Unknown(
                "a frame was not written to its end".into(),
            ));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        self.over = true;
        Poll::Ready(self.stream.finish().map_err(|error| not_written(error.into())))
    }

    fn reset(&mut self, reset_code: u64) {
        self.abandon(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl<B> Drop for SendStream<B> {
    fn drop(&mut self) {
        self.abandon(self.side.unfinished().value());
        if let Some(stops) = &self.stops {
            stops.forget(self.id);
        }
    }
}

impl RecvStream {
    pub(crate) fn new(stream: quinn::RecvStream, id: StreamId, side: Side, frames: Frames) -> Self {
        Self {
            stream,
            id,
            side,
            frames,
            state: Reading::Open,
        }
    }

    fn stop(&mut self, code: u64) {
        if self.state == Reading::Open {
            self.state = Reading::Broken;
            // Fails where there is nothing to stop any more.
            let _ = self.stream.stop(varint(code));
        }
    }

    /// The next bytes as they arrived; none at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // Cancel-safe, and what it registers outlives it: a new one for each poll will do.
        let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
        if read.is_err() {
            self.state = Reading::Broken;
        }
        Poll::Ready(read.map(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(not_read))
    }

    fn refuse(&mut self, refused: Refused) -> StreamErrorIncoming {
        let code = match refused {
            Refused::TooLong => Code::H3_EXCESSIVE_LOAD,
            Refused::Truncated => Code::H3_FRAME_ERROR,
        };
        self.stop(code.value());
        terminated(code)
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        match self.state {
            Reading::Open => {}
            Reading::Whole => return Poll::Ready(Ok(None)),
            Reading::Broken => return Poll::Ready(Err(terminated(Code::H3_REQUEST_CANCELLED))),
        }
        loop {
            match ready!(self.poll_chunk(cx))? {
                Some(chunk) => match self.frames.pass(chunk) {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Poll::Ready(Ok(Some(bytes))),
                    Err(refused) => return Poll::Ready(Err(self.refuse(refused))),
                },
                None => {
                    if let Err(refused) = self.frames.end() {
                        return Poll::Ready(Err(self.refuse(refused)));
                    }
                    self.state = Reading::Whole;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.stop(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(self.side.unread().value());
    }
}

impl<B> BidiStream<B> {
    pub(crate) fn new(send: SendStream<B>, recv: RecvStream) -> Self {
        Self { send, recv }
    }
}

impl<B: Buf> quic::SendStream<B> for BidiStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.id
    }
}

impl<B> quic::RecvStream for BidiStream<B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.id
    }
}

impl<B: Buf> quic::BidiStream<B> for BidiStream<B> {
    type SendStream = SendStream<B>;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream<B>, RecvStream) {
        (self.send, self.recv)
    }
}

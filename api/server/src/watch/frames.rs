//! Messages of watches in the bytes that leave: made once, shared by all who get them.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes};
use prost::Message;
use prost_reflect::MessageDescriptor;
use statemachine::Position;

use crate::{framing::MESSAGE_HEAD_BYTES, rest};

/// What the caller reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// gRPC messages.
    Grpc,
    /// Server-sent events.
    Sse,
}

/// A message with the position that it is about.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) position: Position,
    grpc: Bytes,
    sse: OnceLock<Bytes>,
}

impl Event {
    pub(crate) fn new(position: Position, grpc: Bytes) -> Self {
        Self {
            position,
            grpc,
            sse: OnceLock::new(),
        }
    }

    /// Its bytes on a wire. `of` is what it is.
    pub(crate) fn on(&self, wire: Wire, of: &MessageDescriptor) -> Bytes {
        match wire {
            Wire::Grpc => self.grpc.clone(),
            Wire::Sse => {
                let event = || rest::event(of, self.grpc.slice(MESSAGE_HEAD_BYTES..));
                self.sse.get_or_init(event).clone()
            }
        }
    }

    /// About how much memory it takes.
    pub(crate) fn cost(&self) -> usize {
        // As an event it is about twice as long.
        3 * self.grpc.len() + 256
    }
}

/// A message as gRPC sends it.
pub(crate) fn grpc<M: Message>(message: &M) -> Bytes {
    let length = message.encoded_len();
    // A vector, since messages are written a few bytes at a time.
    let mut framed = Vec::with_capacity(MESSAGE_HEAD_BYTES + length);
    framed.put_u8(0);
    // A unit is bounded by far less than what 32 bits say.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut framed);
    framed.into()
}

//! Messages on their way into gRPC frames and out of them.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::{
    DecodeError,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{self, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// What calls carry: a message, written and read where it is defined, or bytes that somebody else wrote and will read.
///
/// What prost makes of messages is generic over where the bytes go, and would be compiled by every crate that calls: there it
/// is spread over units of code that do not inline each other's calls, of which there is one for every field. `wire!` makes
/// this of a [`prost::Message`].
pub trait Wire: Default + Send + Sync + 'static {
    /// All of it.
    fn to_wire(&self) -> Bytes;

    /// Reads it.
    ///
    /// # Errors
    /// The bytes are no such message.
    fn from_wire(bytes: Bytes) -> Result<Self, DecodeError>;
}

impl Wire for Bytes {
    fn to_wire(&self) -> Bytes {
        self.clone()
    }

    fn from_wire(bytes: Bytes) -> Result<Self, DecodeError> {
        Ok(bytes)
    }
}

/// Has messages that are named written and read in this crate: `wire! { A, B }`.
#[macro_export]
macro_rules! wire {
    ($($message:ty),* $(,)?) => {
        $(
            impl $crate::codec::Wire for $message {
                // Inlined, it would be compiled elsewhere again.
                #[inline(never)]
                fn to_wire(&self) -> ::bytes::Bytes {
                    // A vector's writes are inlined where a buffer's are calls, one for each field and its length.
                    ::prost::Message::encode_to_vec(self).into()
                }

                #[inline(never)]
                fn from_wire(bytes: ::bytes::Bytes) -> ::std::result::Result<Self, ::prost::DecodeError> {
                    ::prost::Message::decode(&*bytes)
                }
            }
        )*
    };
}

include!(concat!(env!("OUT_DIR"), "/wire.rs"));

/// Writes messages `E` and reads messages `D`: `application/grpc+proto`, as every client and server of the protocol has it.
///
/// It differs from tonic's own in what it costs. A message is written into room for all of it, where a buffer that grows is
/// copied as often as it doubles; and it is read from one slice, where every field would ask a chain of buffers how much is
/// left. On pages of a thousand records that is a good part of the work.
#[derive(Debug)]
pub struct Codec<E, D, const SERVED: bool = false>(PhantomData<(E, D)>);

/// What servers read requests with. An empty message of a list takes two bytes on the wire and a hundred times that in memory,
/// so there is a limit to the fields of one request, each item of a list counted.
pub type Served<E, D> = Codec<E, D, true>;

impl<E, D, const SERVED: bool> Default for Codec<E, D, SERVED> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D, const SERVED: bool> codec::Codec for Codec<E, D, SERVED>
where
    E: Wire,
    D: Wire,
{
    type Encode = E;
    type Decode = D;
    type Encoder = Writer<E>;
    type Decoder = Reader<D, SERVED>;

    fn encoder(&mut self) -> Writer<E> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<D, SERVED> {
        Reader(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct Writer<M>(PhantomData<M>);

impl<M: Wire> Encoder for Writer<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = message.to_wire();
        out.reserve(bytes.len());
        out.put_slice(&bytes);
        Ok(())
    }
}

/// Reads a request; what is wrong with it, in words, where it is none of ours or has too many fields.
///
/// # Errors
/// As said.
pub fn request<M: Wire>(bytes: Bytes) -> Result<M, String> {
    count(&bytes, super::json::VALUES_MAX)?;
    M::from_wire(bytes).map_err(|error| error.to_string())
}

/// Refuses a message that has too many fields. What is no message at all is left to who decodes it.
fn count(mut bytes: &[u8], most: usize) -> Result<(), String> {
    let mut fields = 0_usize;
    while let Ok((number, form)) = decode_key(&mut bytes) {
        fields += 1;
        if fields > most {
            return Err(format!(
                "a message has at most {most} fields, each item of a list counted"
            ));
        }
        if skip_field(form, number, &mut bytes, DecodeContext::default()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads messages.
#[derive(Debug)]
pub struct Reader<M, const SERVED: bool>(PhantomData<M>);

impl<M: Wire, const SERVED: bool> Decoder for Reader<M, SERVED> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        // Shares what came in; it is not copied.
        let bytes = from.copy_to_bytes(from.remaining());
        let read = match SERVED {
            true => request(bytes).map_err(Status::invalid_argument),
            false => M::from_wire(bytes).map_err(|error| Status::internal(error.to_string())),
        };
        read.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_too_many_fields_is_refused_before_it_is_decoded() {
        // Field 1, a message without content.
        let items = |count: usize| [0x0a, 0].repeat(count);
        assert!(count(&items(9), 9).is_ok());
        assert!(count(&items(10), 9).is_err());
        // Torn, or none of ours: to be refused by who decodes it.
        assert!(count(&[0x0a, 9, 1], 9).is_ok());
        assert!(count(&[0xff; 12], 9).is_ok());
    }
}

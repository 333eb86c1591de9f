//! Frames: `[length u32][id u64][message length u32][message]([part length u32][part])*`,
//! numbers big-endian, the length counting what comes after it.
//!
//! The message is a [`Message`] in the one codec; parts are bytes that have an encoding and a
//! checksum of their own (log rows, snapshot chunks) and are neither copied nor looked at here.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use statemachine::codec::{self, Format};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::net::message::Message;

/// Frames before the hello is answered are no longer than this.
pub(crate) const HELLO_BYTES_MAX: usize = 4096;
const ID_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// A frame.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Frame {
    /// Names a request; its answer has the same.
    pub id: u64,
    pub message: Message,
    pub parts: Vec<Bytes>,
}

impl Frame {
    pub(crate) fn new(id: u64, message: Message) -> Self {
        Self {
            id,
            message,
            parts: Vec::new(),
        }
    }

    /// Bytes to send: everything but the parts in one piece, each part where it already is.
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let message = codec::encode(Format::Wire, &self.message);
        let parts: usize = self.parts.iter().map(|part| LENGTH_BYTES + part.len()).sum();
        let length = ID_BYTES + LENGTH_BYTES + message.len() + parts;
        let mut head = BytesMut::with_capacity(LENGTH_BYTES + length - parts);
        head.put_u32(length as u32);
        head.put_u64(self.id);
        head.put_u32(message.len() as u32);
        head.put_slice(&message);
        let mut pieces = vec![head.freeze()];
        for part in &self.parts {
            pieces.push(Bytes::copy_from_slice(&(part.len() as u32).to_be_bytes()));
            pieces.push(part.clone());
        }
        pieces
    }

    /// Decodes what comes after the length.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, String> {
        if bytes.len() < ID_BYTES + LENGTH_BYTES {
            return Err(format!("a frame of {} bytes", bytes.len()));
        }
        let id = bytes.get_u64();
        let message = codec::decode(Format::Wire, &take(&mut bytes)?).map_err(|e| e.to_string())?;
        let mut parts = Vec::new();
        while bytes.has_remaining() {
            parts.push(take(&mut bytes)?);
        }
        Ok(Self { id, message, parts })
    }
}

/// Takes a length and as many bytes.
fn take(bytes: &mut Bytes) -> Result<Bytes, String> {
    if bytes.remaining() < LENGTH_BYTES {
        return Err("a frame that ends inside a length".into());
    }
    let length = bytes.get_u32() as usize;
    if bytes.remaining() < length {
        return Err(format!("a part of {length} bytes where {} are left", bytes.remaining()));
    }
    Ok(bytes.split_to(length))
}

/// Reads a frame. `None` when the other side closed the connection between two frames.
pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R, bytes_max: usize) -> io::Result<Option<Frame>> {
    let mut length = [0; LENGTH_BYTES];
    match from.read(&mut length[..1]).await? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..]).await?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(invalid(format!(
            "a frame of {length} bytes is over the limit of {bytes_max}"
        )));
    }
    let mut body = BytesMut::zeroed(length);
    from.read_exact(&mut body).await?;
    Frame::decode(body.freeze()).map(Some).map_err(invalid)
}

/// Writes a frame, without flushing.
pub(crate) async fn write<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame) -> io::Result<()> {
    for piece in frame.encode() {
        to.write_all(&piece).await?;
    }
    Ok(())
}

fn invalid(detail: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let parts = vec![Bytes::from_static(b"one"), Bytes::new()];
        Frame {
            id: 7,
            message: Message::SnapshotChunk { number: 3 },
            parts,
        }
    }

    #[tokio::test]
    async fn frames_come_back_as_they_were() {
        let mut wire = Vec::new();
        write(&mut wire, &frame()).await.unwrap();
        write(&mut wire, &Frame::new(8, Message::ReadIndex)).await.unwrap();
        let mut reader = &wire[..];
        assert_eq!(read(&mut reader, 1 << 20).await.unwrap(), Some(frame()));
        assert_eq!(read(&mut reader, 1 << 20).await.unwrap().unwrap().id, 8);
        assert_eq!(read(&mut reader, 1 << 20).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_long_or_cut_short_is_refused() {
        let mut wire = Vec::new();
        write(&mut wire, &frame()).await.unwrap();
        assert!(read(&mut &wire[..], 8).await.is_err());
        for keep in 1..wire.len() {
            assert!(read(&mut &wire[..keep], 1 << 20).await.is_err(), "cut to {keep}");
        }
    }

    #[test]
    fn garbage_is_refused_without_allocating() {
        assert!(Frame::decode(Bytes::from_static(&[0xff; 40])).is_err());
        assert!(Frame::decode(Bytes::from_static(&[0; 12])).is_err());
    }
}

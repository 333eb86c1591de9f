//! Messages of gRPC as bytes: a flag, a length, the message.

use bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;

use crate::Error;

/// Length of the head of a gRPC message: a flag and the message's length.
pub(crate) const MESSAGE_HEAD_BYTES: usize = 5;

/// A message, given in parts that follow each other, as the body of a gRPC request or answer.
pub(crate) fn frame(parts: &[&[u8]]) -> Option<Bytes> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(bytes).ok()?;
    let mut framed = BytesMut::with_capacity(MESSAGE_HEAD_BYTES + bytes);
    framed.put_u8(0);
    framed.put_u32(length);
    for part in parts {
        framed.put_slice(part);
    }
    Some(framed.freeze())
}

/// The one message in the body of a gRPC answer or request.
pub(crate) fn unframe(mut body: Bytes) -> Option<Bytes> {
    let (&[flag, a, b, c, d], _) = body.split_first_chunk::<MESSAGE_HEAD_BYTES>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let message = body.split_off(MESSAGE_HEAD_BYTES);
    (flag == 0 && message.len() == length).then_some(message)
}

/// Takes the next message out of the bytes of a stream, if all of it has arrived.
///
/// # Errors
/// The message is compressed, which nothing here asks for.
pub(crate) fn take_message(arrived: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some(&[flag, a, b, c, d]) = arrived.first_chunk::<MESSAGE_HEAD_BYTES>() else {
        return Ok(None);
    };
    if flag != 0 {
        return Err(Error::internal("a message of a stream is compressed").into_status(""));
    }
    let whole = MESSAGE_HEAD_BYTES + u32::from_be_bytes([a, b, c, d]) as usize;
    if arrived.len() < whole {
        return Ok(None);
    }
    let mut message = arrived.split_to(whole).freeze();
    Ok(Some(message.split_off(MESSAGE_HEAD_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back() {
        let framed = frame(&[b"ab", b"", b"c"]).unwrap();
        assert_eq!(unframe(framed.clone()).unwrap(), "abc");
        for bad in [&framed[..4], &framed[..7], b"", b"\x01\0\0\0\x01x", b"\0\0\0\0\x01xx"] {
            assert_eq!(unframe(Bytes::copy_from_slice(bad)), None);
        }
    }

    #[test]
    fn messages_are_taken_out_of_a_stream_as_they_are_completed() {
        let mut arrived = BytesMut::new();
        let all: Vec<u8> = [b"abc".as_slice(), b"", b"de"]
            .iter()
            .flat_map(|message| frame(&[message]).unwrap())
            .collect();
        let mut taken = Vec::new();
        for byte in all {
            arrived.extend_from_slice(&[byte]);
            taken.extend(take_message(&mut arrived).unwrap());
        }
        assert_eq!(
            (taken, arrived.len()),
            (vec!["abc".into(), Bytes::new(), "de".into()], 0)
        );
        let mut compressed = BytesMut::from(&b"\x01\0\0\0\x01x"[..]);
        assert!(take_message(&mut compressed).is_err());
    }
}

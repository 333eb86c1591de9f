//! The checksum that closes every stored value and every chunk: CRC-32 (ISO-HDLC), big-endian.

use bytes::Bytes;

const BYTES: usize = 4;

/// `value` with its checksum behind it.
pub(crate) fn seal(mut value: Vec<u8>) -> Bytes {
    let sum = crc32fast::hash(&value);
    value.extend_from_slice(&sum.to_be_bytes());
    value.into()
}

/// The value in front of its checksum.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn unseal(sealed: &Bytes) -> Result<Bytes, String> {
    let Some((value, sum)) = sealed.split_last_chunk::<BYTES>() else {
        return Err(format!("truncated: {} bytes, at least {BYTES} expected", sealed.len()));
    };
    let (found, expected) = (u32::from_be_bytes(*sum), crc32fast::hash(value));
    if found != expected {
        return Err(format!("checksum is {found:08x}, its bytes have {expected:08x}"));
    }
    Ok(sealed.slice(..value.len()))
}

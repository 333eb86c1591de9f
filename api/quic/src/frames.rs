//! The frames of one stream, followed as its bytes go by (RFC 9114 §7.1).
//!
//! `h3` holds any frame but DATA in memory until it is whole, whatever its length; takes time that grows with the square
//! of the number of pieces it came in; takes the end of a stream inside a DATA frame for the end of the body; and an
//! empty DATA frame likewise. So frames are looked at before `h3` sees them: it gets those that are not DATA in one piece
//! or not at all, no empty ones, and never the end of a stream where a frame has not ended.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};

const DATA: u64 = 0x0;
/// The type of a unidirectional stream that carries frames.
const CONTROL: u64 = 0x0;

/// What cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A frame that is not DATA is longer than allowed, or too many are held.
    TooLong,
    /// The stream ended inside a frame.
    Truncated,
}

/// What the streams of one connection may hold together of frames that are not yet whole. Each alone may hold all of it.
#[derive(Debug)]
pub(crate) struct Room {
    bytes_max: usize,
    held: AtomicUsize,
}

impl Room {
    /// So many bytes.
    pub(crate) fn of(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            held: AtomicUsize::new(0),
        })
    }
}

/// Follows the frames of one stream.
#[derive(Debug)]
pub(crate) struct Frames {
    at: At,
    /// Bounds the payload of each frame that is not DATA, too.
    room: Arc<Room>,
    /// How much of the room this stream takes.
    taken: usize,
    /// What of a frame that is not yet whole has come: its beginning, at least.
    held: BytesMut,
}

#[derive(Debug, PartialEq, Eq)]
enum At {
    /// Before the type of a unidirectional stream.
    Type,
    /// Within a DATA frame of which this much is to come, or before a frame.
    Data(u64),
    /// In a stream that has no frames, or none that matter here.
    Opaque,
}

impl Frames {
    /// Of a request's stream.
    pub(crate) fn of_request(room: &Arc<Room>) -> Self {
        Self {
            at: At::Data(0),
            room: Arc::clone(room),
            taken: 0,
            held: BytesMut::new(),
        }
    }

    /// Of a unidirectional stream, which begins with what it is for.
    pub(crate) fn of_unidirectional(room: &Arc<Room>) -> Self {
        let mut frames = Self::of_request(room);
        frames.at = At::Type;
        frames
    }

    /// The next bytes of the stream. Answers those that may go on, which may be none.
    pub(crate) fn pass(&mut self, chunk: Bytes) -> Result<Bytes, Refused> {
        let mut empty = Vec::new();
        let passed = if self.held.is_empty() {
            let whole = self.walk(&chunk, &mut empty)?;
            self.held.extend_from_slice(&chunk[whole..]);
            chunk.slice(..whole)
        } else {
            self.held.extend_from_slice(&chunk);
            let mut held = std::mem::take(&mut self.held);
            let whole = self.walk(&held, &mut empty)?;
            let passed = held.split_to(whole).freeze();
            self.held = held;
            passed
        };
        self.take_room()?;
        Ok(without(passed, &empty))
    }

    /// Takes as much of the room as is held, or gives back what is not held any more.
    fn take_room(&mut self) -> Result<(), Refused> {
        let (before, now) = (self.taken, self.held.len());
        if before == now {
            return Ok(());
        }
        self.taken = now;
        if now < before {
            self.room.held.fetch_sub(before - now, Ordering::Relaxed);
            return Ok(());
        }
        let all = self.room.held.fetch_add(now - before, Ordering::Relaxed) + (now - before);
        if all > self.room.bytes_max {
            return Err(Refused::TooLong);
        }
        Ok(())
    }

    /// The stream has ended.
    pub(crate) fn end(&self) -> Result<(), Refused> {
        match self.at {
            At::Data(0) | At::Type | At::Opaque if self.held.is_empty() => Ok(()),
            _ => Err(Refused::Truncated),
        }
    }

    /// How many of the bytes may go on, and which of these are empty DATA frames.
    fn walk(&mut self, bytes: &[u8], empty: &mut Vec<Range<usize>>) -> Result<usize, Refused> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.at {
                At::Opaque => return Ok(bytes.len()),
                At::Type => {
                    let Some((of, length)) = varint(rest) else { break };
                    self.at = if of == CONTROL { At::Data(0) } else { At::Opaque };
                    at += length;
                }
                At::Data(0) => {
                    let Some((of, payload, head)) = frame(rest) else { break };
                    if of == DATA {
                        if payload == 0 {
                            empty.push(at..at + head);
                        }
                        self.at = At::Data(payload);
                        at += head;
                        continue;
                    }
                    let payload = usize::try_from(payload).unwrap_or(usize::MAX);
                    if payload > self.room.bytes_max {
                        return Err(Refused::TooLong);
                    }
                    let whole = payload.saturating_add(head);
                    if rest.len() < whole {
                        break;
                    }
                    at += whole;
                }
                At::Data(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= here as u64;
                    at += here;
                }
            }
        }
        Ok(at)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// The bytes but for some ranges, which are in order.
fn without(bytes: Bytes, ranges: &[Range<usize>]) -> Bytes {
    if ranges.is_empty() {
        return bytes;
    }
    let mut kept = BytesMut::with_capacity(bytes.len());
    let mut from = 0;
    for range in ranges {
        kept.extend_from_slice(&bytes[from..range.start]);
        from = range.end;
    }
    kept.extend_from_slice(&bytes[from..]);
    kept.freeze()
}

/// A variable-length integer (RFC 9000 §16) and the bytes it takes; none if they are not all there.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest
        .iter()
        .fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// A frame's type, the length of its payload, and the bytes that these take.
fn frame(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (of, first) = varint(bytes)?;
    let (payload, second) = varint(&bytes[first..])?;
    Some((of, payload, first + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: u8 = 0x1;

    /// What comes out of bytes that come in pieces of one size, without where one piece ends and the next begins.
    fn through(frames: &mut Frames, bytes: &[u8], piece: usize) -> Result<Vec<u8>, Refused> {
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            out.extend_from_slice(&frames.pass(Bytes::copy_from_slice(piece))?);
        }
        frames.end()?;
        Ok(out)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = vec![HEADERS, 3, 1, 2, 3, 0, 0x40, 70];
        bytes.extend_from_slice(&[7; 70]);
        // A type of four bytes that nobody knows, then DATA of one byte.
        bytes.extend_from_slice(&[0x80, 0, 0x12, 0x34, 2, 9, 9, 0, 1, 5]);
        for piece in 1..=bytes.len() {
            assert_eq!(
                through(&mut Frames::of_request(&Room::of(10)), &bytes, piece).unwrap(),
                bytes
            );
        }
    }

    #[test]
    fn headers_come_out_in_one_piece() {
        let mut frames = Frames::of_request(&Room::of(100));
        for byte in [HEADERS, 3, 1, 2] {
            assert!(frames.pass(Bytes::copy_from_slice(&[byte])).unwrap().is_empty());
        }
        assert_eq!(
            frames.pass(Bytes::from_static(&[3, 0])).unwrap()[..],
            [HEADERS, 3, 1, 2, 3]
        );
        assert_eq!(frames.end(), Err(Refused::Truncated));
    }

    #[test]
    fn empty_data_is_left_out() {
        let bytes = [0, 0, HEADERS, 1, 8, 0, 0, 0, 2, 5, 6, 0, 0, 0, 0];
        for piece in 1..=bytes.len() {
            let out = through(&mut Frames::of_request(&Room::of(10)), &bytes, piece).unwrap();
            assert_eq!(out, [HEADERS, 1, 8, 0, 2, 5, 6], "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_cut_off_is_not_whole() {
        let bytes = [HEADERS, 3, 1, 2, 3, 0, 4, 1, 2, 3, 4];
        for (end, whole) in (1..=bytes.len()).map(|end| (end, end == 5 || end == bytes.len())) {
            for piece in 1..=end {
                let out = through(&mut Frames::of_request(&Room::of(10)), &bytes[..end], piece);
                assert_eq!(out.is_ok(), whole, "{end} bytes");
            }
        }
    }

    #[test]
    fn a_frame_that_must_be_held_has_a_limit_and_data_has_none() {
        let long = [HEADERS, 0x80, 1, 0, 0];
        assert_eq!(
            through(&mut Frames::of_request(&Room::of(0xffff)), &long, 5),
            Err(Refused::TooLong)
        );
        let mut frames = Frames::of_request(&Room::of(1));
        assert!(
            frames
                .pass(Bytes::from_static(&[0, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]))
                .is_ok()
        );
        assert_eq!(frames.pass(Bytes::from(vec![1; 4096])).unwrap().len(), 4096);
    }

    #[test]
    fn streams_share_what_may_be_held() {
        let room = Room::of(10);
        let (mut one, mut other) = (Frames::of_request(&room), Frames::of_request(&room));
        assert!(
            one.pass(Bytes::from_static(&[HEADERS, 8, 1, 2, 3, 4]))
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            other.pass(Bytes::from_static(&[HEADERS, 8, 1, 2, 3])),
            Err(Refused::TooLong)
        );
        drop(other);
        // What is given up or whole makes room again.
        let mut other = Frames::of_request(&room);
        assert!(other.pass(Bytes::from_static(&[HEADERS, 8, 1])).unwrap().is_empty());
        assert_eq!(one.pass(Bytes::from_static(&[5, 6, 7, 8])).unwrap().len(), 10);
        assert!(other.pass(Bytes::from_static(&[2, 3, 4, 5])).unwrap().is_empty());
        assert_eq!(room.held.load(Ordering::Relaxed), 7);
        drop((one, other));
        assert_eq!(room.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn of_unidirectional_streams_only_the_control_stream_has_frames() {
        // Type 0, then SETTINGS.
        let control = [0, 4, 2, 1, 5];
        for piece in 1..=5 {
            assert_eq!(
                through(&mut Frames::of_unidirectional(&Room::of(10)), &control, piece).unwrap(),
                control
            );
        }
        let long = [0, 4, 0x7f, 0xff];
        assert_eq!(
            through(&mut Frames::of_unidirectional(&Room::of(10)), &long, 4),
            Err(Refused::TooLong)
        );
        let encoder = [2, 4, 0x7f, 0xff, 0xff];
        assert_eq!(
            through(&mut Frames::of_unidirectional(&Room::of(10)), &encoder, 2).unwrap(),
            encoder
        );
    }
}

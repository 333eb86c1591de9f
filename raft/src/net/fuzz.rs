//! What nodes read of each other, given what no node would send: frames, hellos, rows of entries, chunks of snapshots.
//! Lengths and checksums are put right again, so that what is behind them is reached. See [`chaos_fuzz`].

use std::collections::BTreeMap;

use bytes::Bytes;
use chaos_fuzz::{Rng, Target};
use futures::executor::block_on;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use statemachine::cluster::Incarnation;
use statemachine::codec::{self, Format};

use crate::checksum::seal;
use crate::log::row::LogEntry;
use crate::net::frame::{self, Frame};
use crate::net::golden::{current, messages};
use crate::net::life::Life;
use crate::net::message::Message;
use crate::state::rows::Current;
use crate::state::snapshot::{ChunkRow, decode_chunk, encode_chunk};
use crate::types::{Command, Membership, log_id};

/// As many inputs as `./check` has time for.
const INPUTS: u64 = 30_000;
/// The longest frame that is taken here.
const FRAME_BYTES: usize = 1 << 20;

/// What the changing begins with: all of it is valid.
struct Samples {
    /// As on the wire, with their lengths.
    frames: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    lives: Vec<Vec<u8>>,
    /// Without their checksums, as all that follow.
    entries: Vec<Vec<u8>>,
    chunks: Vec<Vec<u8>>,
    currents: Vec<Vec<u8>>,
}

/// The checksum is the last four bytes.
fn unsealed(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() - 4].to_vec()
}

impl Samples {
    fn new() -> Self {
        let parts = [Bytes::from_static(b"one"), Bytes::new()];
        let frames = messages().into_iter().enumerate().map(|(n, message)| {
            let frame = Frame {
                id: n as u64,
                message,
                parts: parts[..n % 3].to_vec(),
            };
            frame.encode().concat()
        });
        let life = Life {
            incarnation: Incarnation {
                directory: 7,
                boots: 3,
                life: 300,
            },
            new: true,
        };
        let member = crate::Endpoint {
            raft: "a:1".into(),
            api: "a:2".into(),
        };
        let voters = vec![[1_u64].into(), [1, 2].into()];
        let nodes = [(1, member.clone()), (2, member)].into_iter();
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(Bytes::from_static(b"abc"))),
            EntryPayload::Membership(Membership::new(voters, nodes.collect::<BTreeMap<_, _>>()).unwrap()),
        ];
        let entries = payloads.map(|payload| unsealed(&LogEntry::new(log_id(3, 7), payload).row()));
        let row = |table| ChunkRow {
            table,
            key: Bytes::from_static(b"key"),
            value: Bytes::from_static(b"value"),
        };
        Self {
            frames: frames.collect(),
            messages: messages()
                .iter()
                .map(|message| codec::encode(Format::Wire, message))
                .collect(),
            lives: vec![life.to_parts().concat(), Life::default().to_parts().concat()],
            entries: entries.into(),
            chunks: [vec![], vec![row(1)], vec![row(2), row(4)]]
                .iter()
                .map(|rows| unsealed(&encode_chunk(rows)))
                .collect(),
            currents: vec![unsealed(&current().encode()), unsealed(&Current::empty().encode())],
        }
    }
}

const TARGETS: [Target<Samples>; 6] = [
    Target::new("frames", |samples| &samples.frames, frames),
    Target::new("messages", |samples| &samples.messages, whole_messages),
    Target::new("lives", |samples| &samples.lives, lives),
    Target::new("entries", |samples| &samples.entries, entries),
    Target::new("chunks", |samples| &samples.chunks, chunks),
    Target::new("descriptions of snapshots", |samples| &samples.currents, currents),
];

/// Whatever is taken is written as it was read.
fn again(read: &Frame) {
    let wire = read.encode().concat();
    assert_eq!(&Frame::decode(Bytes::from(wire[4..].to_vec())).unwrap(), read);
}

/// A stream of frames, as it comes out of a connection: to its end, or to the first that is none.
fn frames(_: &Samples, _: &mut Rng, bytes: &[u8]) {
    let mut from = bytes;
    while let Ok(Some(read)) = block_on(frame::read(&mut from, FRAME_BYTES)) {
        again(&read);
    }
}

/// A message in a frame whose lengths are right.
fn whole_messages(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let mut body = rng.next().to_be_bytes().to_vec();
    body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    body.extend_from_slice(bytes);
    if let Ok(read) = Frame::decode(Bytes::from(body)) {
        again(&read);
        // What a log shows of it is no secret, and of any message there is something to show.
        assert!(!format!("{:?}", read.message).is_empty());
    }
}

fn lives(_: &Samples, rng: &mut Rng, bytes: &[u8]) {
    let (one, other) = bytes.split_at(rng.below(bytes.len() + 1));
    let parts = match rng.below(4) {
        0 => vec![Bytes::copy_from_slice(one), Bytes::copy_from_slice(other)],
        _ => vec![Bytes::copy_from_slice(bytes)],
    };
    if let Ok(life) = Life::of_parts(&parts) {
        assert_eq!(Life::of_parts(&life.to_parts()), Ok(life));
    }
}

/// Rows of entries, as parts of an append, with a checksum that is right.
fn entries(_: &Samples, _: &mut Rng, bytes: &[u8]) {
    let row = seal(bytes.to_vec());
    if let Ok(mut entry) = LogEntry::decode(row.clone()) {
        assert_eq!(entry.row(), row, "the log keeps what came");
        assert!(entry.size() >= bytes.len());
    }
}

fn chunks(_: &Samples, _: &mut Rng, bytes: &[u8]) {
    if let Ok(rows) = decode_chunk(&seal(bytes.to_vec())) {
        assert_eq!(decode_chunk(&encode_chunk(&rows)).as_ref(), Ok(&rows));
    }
}

/// What a snapshot begins with; as bytes that are stored, and as a part of a message.
fn currents(_: &Samples, _: &mut Rng, bytes: &[u8]) {
    if let Ok(read) = Current::decode(&seal(bytes.to_vec())) {
        assert!(Current::decode(&read.encode()).is_ok_and(|again| again == read));
        again(&Frame::new(1, Message::SnapshotBegin { current: read }));
    }
}

#[test]
fn decoders_survive_whatever_comes() {
    chaos_fuzz::run(&Samples::new(), &TARGETS, INPUTS);
}

/// The samples themselves are read, or nothing behind a first check would be reached.
#[test]
fn samples_are_valid() {
    let samples = Samples::new();
    for bytes in &samples.frames {
        let mut from = &bytes[..];
        assert!(matches!(block_on(frame::read(&mut from, FRAME_BYTES)), Ok(Some(_))));
        assert!(from.is_empty());
    }
    assert!(
        samples
            .messages
            .iter()
            .all(|one| codec::decode::<Message>(Format::Wire, one).is_ok())
    );
    assert!(
        samples
            .lives
            .iter()
            .all(|one| Life::of_parts(&[Bytes::copy_from_slice(one)]).is_ok())
    );
    assert!(
        samples
            .entries
            .iter()
            .all(|one| LogEntry::decode(seal(one.clone())).is_ok())
    );
    assert!(
        samples
            .chunks
            .iter()
            .all(|one| decode_chunk(&seal(one.clone())).is_ok())
    );
    assert!(
        samples
            .currents
            .iter()
            .all(|one| Current::decode(&seal(one.clone())).is_ok())
    );
}

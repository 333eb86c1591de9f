//! Golden bytes of what consensus writes to disk and wire: what version 1 wrote must be readable
//! for ever.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use statemachine::Hash;
use statemachine::cluster::Incarnation;
use statemachine::codec::{self, Format};

use crate::checkup::Vitals;
use crate::log::row::LogEntry;
use crate::net::frame::Frame;
use crate::net::identity::RefusalCode;
use crate::net::join::JoinRefusal;
use crate::net::life::Life;
use crate::net::message::{AppendOutcome, Lane, Message, PROTOCOL, Secret, TransferOutcome};
use crate::state::rows::Current;
use crate::state::snapshot::{ChunkRow, encode_chunk};
use crate::types::{Command, LogIdRow, MembershipRow, StoredMembershipRow, VoteRow, log_id};

pub(super) fn messages() -> Vec<Message> {
    let vote = VoteRow {
        term: 3,
        node: 2,
        committed: true,
    };
    let id = LogIdRow { term: 3, index: 300 };
    vec![
        Message::Hello {
            protocol: PROTOCOL,
            mesh: "m1".into(),
            cluster: "c1".into(),
            from: 1,
            to: 2,
            lane: Lane::Snapshot,
        },
        Message::Welcome { protocol: PROTOCOL },
        Message::Refused {
            code: RefusalCode::Removed,
            detail: "gone".into(),
        },
        Message::Append {
            session: 9,
            vote,
            prev: Some(id),
            commit: None,
        },
        Message::Appended(AppendOutcome::Upto(Some(id))),
        Message::Appended(AppendOutcome::Conflict(id)),
        Message::Appended(AppendOutcome::HigherVote(vote)),
        Message::Vote {
            pre: true,
            vote,
            last: Some(id),
            transfer: false,
        },
        Message::Voted {
            vote,
            granted: true,
            last: None,
        },
        Message::Transfer {
            from: vote,
            to: 1,
            last: Some(id),
        },
        Message::Transferred(TransferOutcome::LogNotFlushed {
            expected: Some(id),
            actual: None,
        }),
        Message::ReadIndex,
        Message::ReadIndexIs { index: 300 },
        Message::SnapshotBegin { current: current() },
        Message::SnapshotChunk { number: 4 },
        Message::SnapshotEnd { chunks: 5, vote },
        Message::SnapshotTaken,
        Message::SnapshotInstalled { vote },
        Message::Propose { patience_ms: 1000 },
        Message::Proposed {
            log_index: 300,
            revision: Some(7),
        },
        Message::NotProposed { reason: "no".into() },
        Message::Failed { reason: "no".into() },
        Message::Checkup { revision: 300 },
        Message::CheckedUp(Vitals {
            wall_ms: 1000,
            held_ms: 3,
            digest: Some(Hash([7; 32])),
            revision: 301,
            free_bytes: None,
            short: true,
            corrupt: Some("row 1".into()),
        }),
        Message::Join {
            secret: Secret(vec![1, 2]),
            endpoint: endpoint(),
        },
        Message::Joined {
            members: vec![(1, endpoint())],
        },
        Message::JoinElsewhere { leader: None },
        Message::JoinRefused {
            refusal: JoinRefusal::TokenUsed,
            detail: "used".into(),
        },
    ]
}

fn endpoint() -> crate::Endpoint {
    crate::Endpoint {
        raft: "a:1".into(),
        api: "a:2".into(),
    }
}

pub(super) fn current() -> Current {
    let id = LogIdRow { term: 3, index: 300 };
    let membership = MembershipRow {
        configs: vec![vec![1]],
        nodes: vec![(1, endpoint())],
    };
    Current {
        generation: 2,
        applied: Some(id),
        installed: None,
        revision: 7,
        membership: StoredMembershipRow {
            log_id: Some(id),
            membership,
        },
        head: vec![1, 2, 3],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn version_1() {
    let mut text = String::new();
    for message in messages() {
        let bytes = codec::encode(Format::Wire, &message);
        assert_eq!(codec::decode::<Message>(Format::Wire, &bytes).as_ref(), Ok(&message));
        writeln!(text, "message {}", hex(&bytes)).unwrap();
    }
    let frame = Frame {
        id: 7,
        message: Message::ReadIndex,
        parts: vec![Bytes::from_static(b"part")],
    };
    writeln!(text, "frame {}", hex(&frame.encode().concat())).unwrap();
    let life = Life {
        incarnation: Incarnation {
            directory: 7,
            boots: 3,
            life: 300,
        },
        new: true,
    };
    writeln!(text, "life {}", hex(&life.to_parts().concat())).unwrap();
    writeln!(text, "current {}", hex(&current().encode())).unwrap();
    let row = ChunkRow {
        table: 1,
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
    };
    writeln!(text, "chunk {}", hex(&encode_chunk(&[row]))).unwrap();
    for payload in [
        EntryPayload::Blank,
        EntryPayload::Normal(Command(Bytes::from_static(b"abc"))),
    ] {
        writeln!(text, "entry {}", hex(&LogEntry::new(log_id(3, 7), payload).row())).unwrap();
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1.txt");
    if std::env::var_os("MESHKIT_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; an encoding changed:\n{text}",
        path.display()
    );
}

//! What nodes say to each other.
//!
//! The order of variants and fields is the encoding: new ones go to the end, and the version in
//! [`Message::Hello`] tells a node whether the other knows them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checkup::Vitals;
use crate::handle::Endpoint;
use crate::net::identity::RefusalCode;
use crate::net::join::JoinRefusal;
use crate::state::rows::Current;
use crate::types::{LogIdRow, VoteRow};

/// The version of this protocol.
pub(crate) const PROTOCOL: u32 = 1;

/// What a connection is used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub(crate) enum Lane {
    Append,
    Control,
    Snapshot,
}

/// A request, or an answer to one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first frame of a connection.
    Hello {
        protocol: u32,
        mesh: String,
        cluster: String,
        from: u64,
        to: u64,
        lane: Lane,
    },
    /// The hello is accepted.
    Welcome {
        protocol: u32,
    },
    /// The connection is refused, or ended, and closed.
    Refused {
        code: RefusalCode,
        detail: String,
    },
    /// Entries; their rows are the parts. `session` numbers the append streams of a connection:
    /// after an error the rest of the session is void.
    Append {
        session: u64,
        vote: VoteRow,
        prev: Option<LogIdRow>,
        commit: Option<LogIdRow>,
    },
    Appended(AppendOutcome),
    Vote {
        pre: bool,
        vote: VoteRow,
        last: Option<LogIdRow>,
        transfer: bool,
    },
    Voted {
        vote: VoteRow,
        granted: bool,
        last: Option<LogIdRow>,
    },
    /// Take over leadership.
    Transfer {
        from: VoteRow,
        to: u64,
        last: Option<LogIdRow>,
    },
    Transferred(TransferOutcome),
    /// From which log index on does a read see everything acknowledged before now?
    ReadIndex,
    ReadIndexIs {
        index: u64,
    },
    /// A snapshot begins. `current` describes it.
    SnapshotBegin {
        current: Current,
    },
    /// Rows; the chunk is the only part.
    SnapshotChunk {
        number: u64,
    },
    /// All chunks are sent.
    SnapshotEnd {
        chunks: u64,
        vote: VoteRow,
    },
    /// The begin or the chunk was taken.
    SnapshotTaken,
    SnapshotInstalled {
        vote: VoteRow,
    },
    /// An entry to propose, from a node that does not lead; the leader stamps it. The entry is
    /// the only part.
    Propose {
        patience_ms: u64,
    },
    /// It was committed and applied.
    Proposed {
        log_index: u64,
        revision: Option<u64>,
    },
    /// It certainly was not, and will not be, applied.
    NotProposed {
        reason: String,
    },
    /// The request was understood and could not be done.
    Failed {
        reason: String,
    },
    /// How are you? And what is your digest at this revision?
    Checkup {
        revision: u64,
    },
    CheckedUp(Vitals),
    /// Take the sender in, who is no member yet.
    Join {
        secret: Secret,
        endpoint: Endpoint,
    },
    /// It is a member now. These are all.
    Joined {
        members: Vec<(u64, Endpoint)>,
    },
    /// Another node leads, and decides; where it is, if that is known.
    JoinElsewhere {
        leader: Option<(u64, Endpoint)>,
    },
    JoinRefused {
        refusal: JoinRefusal,
        detail: String,
    },
}

/// What a join token proves its bearer by. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What came of an append.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum AppendOutcome {
    /// Durable up to here.
    Upto(Option<LogIdRow>),
    /// The log does not have this entry.
    Conflict(LogIdRow),
    /// A later leader or candidate is known.
    HigherVote(VoteRow),
}

/// What came of a leadership transfer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum TransferOutcome {
    Accepted,
    VoteChanged {
        expected: VoteRow,
        actual: VoteRow,
    },
    LogNotFlushed {
        expected: Option<LogIdRow>,
        actual: Option<LogIdRow>,
    },
}

//! Everything that was done and seen in a story, in the one order in which it happened.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use statemachine::{Hash, NodeId, Recorded, Revision, audit};

use crate::{clock, port::PeerSeen};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Registers a peer.
    Register(String),
    /// Takes a peer away.
    Deregister(String),
    /// Writes a value that no other operation writes, into a label of a peer; where an ETag is given, only onto that.
    Write {
        /// The peer.
        peer: String,
        /// The ETag that the client read before.
        if_match: Option<String>,
    },
    /// Cordons a peer.
    Cordon(String),
    /// Uncordons a peer.
    Uncordon(String),
    /// Starts the drain of a peer.
    Drain(String),
    /// Undoes the drain of a peer.
    Undrain(String),
    /// Reads a peer, linearizably.
    Read(String),
    /// Reads a peer as one node has it.
    ReadLocal(String),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register(peer) => write!(f, "register {peer}"),
            Self::Deregister(peer) => write!(f, "deregister {peer}"),
            Self::Write { peer, if_match: None } => write!(f, "write {peer}"),
            Self::Write {
                peer,
                if_match: Some(_),
            } => write!(f, "write-if-match {peer}"),
            Self::Cordon(peer) => write!(f, "cordon {peer}"),
            Self::Uncordon(peer) => write!(f, "uncordon {peer}"),
            Self::Drain(peer) => write!(f, "drain {peer}"),
            Self::Undrain(peer) => write!(f, "undrain {peer}"),
            Self::Read(peer) => write!(f, "read {peer}"),
            Self::ReadLocal(peer) => write!(f, "read-local {peer}"),
        }
    }
}

/// How an operation ended, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect at this revision, after which the audit chain is this, where that was told.
    Applied(Revision, Option<Hash>),
    /// An earlier attempt was answered at `of`; this one at `at`.
    Replayed {
        /// Where the retry was recorded.
        at: Revision,
        /// Where the first attempt was.
        of: Revision,
    },
    /// It was refused with this code, at this revision, where that was told.
    Rejected(Option<Revision>, String),
    /// What a read saw: the revision, the audit chain after it where that was told, and the peer.
    Seen(Revision, Option<Hash>, Option<PeerSeen>),
    /// It certainly did not and will not take effect.
    Failed(String),
    /// It may have taken effect, or may yet.
    Unknown(String),
}

impl Outcome {
    /// Whether the cluster answered it.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        match self {
            Self::Applied(..) | Self::Replayed { .. } | Self::Rejected(..) | Self::Seen(..) => true,
            Self::Failed(_) | Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(revision, _) => write!(f, "applied at {revision}"),
            Self::Replayed { at, of } => write!(f, "replayed at {at}, of {of}"),
            Self::Rejected(Some(revision), code) => write!(f, "rejected at {revision}: {code}"),
            Self::Rejected(None, code) => write!(f, "rejected: {code}"),
            Self::Seen(revision, _, Some(peer)) => {
                write!(
                    f,
                    "seen at {revision}: version {} value {:?} {}",
                    peer.version, peer.value, peer.status
                )
            }
            Self::Seen(revision, _, None) => write!(f, "seen at {revision}: no such peer"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// One operation of one client, over all its attempts.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The principal.
    pub client: String,
    /// The idempotency key; also the value that a write writes. Unique.
    pub key: String,
    /// What was asked.
    pub call: Call,
    /// Place of its beginning in the order of everything.
    pub invoked: u64,
    /// Place of its end; none while it runs.
    pub completed: Option<u64>,
    /// When it began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// The node that gave the last answer.
    pub node: Option<NodeId>,
    /// How often it was sent.
    pub attempts: u32,
    /// How it ended; unknown while it runs.
    pub outcome: Outcome,
}

impl Operation {
    /// Key, call and outcome in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let node = self.node.map_or_else(|| "-".to_owned(), |node| format!("n{node}"));
        let Self {
            key,
            call,
            attempts,
            outcome,
            ..
        } = self;
        format!("{key} {call} via {node}, {attempts} attempts: {outcome}")
    }
}

/// What one life of a node published about a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub life: u64,
    /// The revision.
    pub revision: Revision,
    /// The audit chain after it.
    pub chain: Hash,
}

/// A node that stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Which.
    pub node: NodeId,
    /// Why.
    pub why: String,
    /// Whether the reason was that it is no member any more.
    pub removed: bool,
}

impl Stopped {
    /// Whether this node stopped because it was removed.
    #[must_use]
    pub fn is_removal_of(&self, node: NodeId) -> bool {
        self.removed && self.node == node
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("n{} stopped by itself: {}", self.node, self.why)
    }
}

/// A node was seen to lead for the first time in a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// When.
    pub at: Duration,
    /// The term.
    pub term: u64,
    /// The node.
    pub node: NodeId,
}

/// One line of a story.
#[derive(Debug, Clone)]
pub struct Line {
    /// When.
    pub at: Duration,
    /// What.
    pub text: String,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    operations: Vec<Operation>,
    published: Vec<Published>,
    archive: BTreeMap<Revision, Arc<Recorded>>,
    leaders: BTreeMap<u64, Vec<NodeId>>,
    led: Vec<Led>,
    stopped: Vec<Stopped>,
    lines: Vec<Line>,
}

/// The record of a story. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

/// What a finished story leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Every operation, in order of beginning.
    pub operations: Vec<Operation>,
    /// What nodes published, in order.
    pub published: Vec<Published>,
    /// Who was seen to lead in each term.
    pub leaders: BTreeMap<u64, Vec<NodeId>>,
    /// The same, in order of time.
    pub led: Vec<Led>,
    /// What the first node to publish each revision published: history from the first revision on, also where nodes have
    /// let go of it.
    pub archive: BTreeMap<Revision, Arc<Recorded>>,
    /// Nodes that stopped by themselves, and why.
    pub stopped: Vec<Stopped>,
    /// Everything that happened, for people.
    pub lines: Vec<Line>,
}

impl Record {
    /// A hash over every line: two runs of one story have the same.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| format!("{:?} {}", line.at, line.text))
            .collect();
        let parts: Vec<_> = lines.iter().map(String::as_bytes).collect();
        audit::request_hash(&parts)
    }
}

impl History {
    /// Notes that an operation begins; answers its number.
    pub fn invoke(&self, client: &str, key: String, call: Call) -> usize {
        let mut inner = self.0.lock();
        let invoked = inner.next;
        inner.next += 1;
        inner.operations.push(Operation {
            client: client.to_owned(),
            key,
            call,
            invoked,
            completed: None,
            began: clock::now(),
            ended: clock::now(),
            node: None,
            attempts: 0,
            outcome: Outcome::Unknown("it did not end".to_owned()),
        });
        inner.operations.len() - 1
    }

    /// Notes that an operation ended.
    pub fn complete(&self, number: usize, node: Option<NodeId>, attempts: u32, outcome: Outcome) {
        let mut inner = self.0.lock();
        let completed = inner.next;
        inner.next += 1;
        let Some(operation) = inner.operations.get_mut(number) else {
            return;
        };
        operation.completed = Some(completed);
        operation.ended = clock::now();
        operation.node = node;
        operation.attempts = attempts;
        operation.outcome = outcome;
        let text = operation.line();
        inner.lines.push(Line { at: clock::now(), text });
    }

    /// Notes what one life of a node published.
    pub fn published(&self, node: NodeId, life: u64, recorded: Arc<Recorded>) {
        let mut inner = self.0.lock();
        let revision = recorded.unit.position.revision;
        inner.published.push(Published {
            node,
            life,
            revision,
            chain: recorded.chain,
        });
        inner.archive.entry(revision).or_insert(recorded);
    }

    /// Notes that a node leads.
    pub fn leads(&self, node: NodeId, term: u64) {
        let mut inner = self.0.lock();
        let leaders = inner.leaders.entry(term).or_default();
        if !leaders.contains(&node) {
            leaders.push(node);
            let at = clock::now();
            inner.led.push(Led { at, term, node });
            let text = format!("n{node} leads in term {term}");
            inner.lines.push(Line { at: clock::now(), text });
        }
    }

    /// Notes that a node stopped by itself, and whether because it was removed.
    pub fn stopped(&self, node: NodeId, why: &str, removed: bool) {
        let why = why.to_owned();
        let stopped = Stopped { node, why, removed };
        self.line(clock::now(), stopped.line());
        self.0.lock().stopped.push(stopped);
    }

    /// Whether a node has stopped because it was removed.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.0.lock().stopped.iter().any(|stopped| stopped.is_removal_of(node))
    }

    /// Notes anything else.
    pub fn line(&self, at: Duration, text: String) {
        self.0.lock().lines.push(Line { at, text });
    }

    /// How many operations were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let inner = self.0.lock();
        inner
            .operations
            .iter()
            .filter(|operation| operation.outcome.is_acknowledged())
            .count()
    }

    /// Takes the record out; what is noted afterwards is lost.
    #[must_use]
    pub fn take(&self) -> Record {
        let Inner {
            next: _,
            operations,
            published,
            archive,
            leaders,
            led,
            stopped,
            lines,
        } = std::mem::take(&mut *self.0.lock());
        Record {
            operations,
            published,
            archive,
            leaders,
            led,
            stopped,
            lines,
        }
    }
}

//! The type parameters of openraft, as this crate uses it. Nothing here leaves the crate.

use std::fmt;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::type_config::alias::{CommittedLeaderIdOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::vote::RaftLeaderId;
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::handle::Endpoint;
use crate::log::row::LogEntry;

/// Tokio, with randomness that follows from one seed, so that a simulation can be repeated. In
/// production the seed is random.
pub(crate) type Runtime = DeterministicRng<TokioRuntime>;

openraft::declare_raft_types!(
    /// openraft's type parameters.
    pub TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Endpoint,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        Entry = LogEntry,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type CommittedLeaderId = CommittedLeaderIdOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Endpoint>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type Payload = EntryPayload<Command, u64, Endpoint>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// An encoded entry of the state machine. Encoded once, when it is proposed; decoded once per
/// node, when it is applied; the same bytes on every disk and wire in between.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What apply answers to the proposer on the same node.
#[derive(Clone, Debug, Default)]
pub struct Reply(pub(crate) Option<statemachine::Answer>);

/// openraft asks for serde on everything it is given, though replies never leave the process and
/// entries have their own encoding.
macro_rules! never_serialized {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom(concat!(
                    stringify!($name),
                    " is not serialized with serde"
                )))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Err(serde::de::Error::custom(concat!(
                    stringify!($name),
                    " is not serialized with serde"
                )))
            }
        }
    };
}
pub(crate) use never_serialized;

never_serialized!(Reply);

/// A log id from its parts.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId {
        leader_id: CommittedLeaderId::from(term),
        index,
    }
}

/// No term, log index or node id is larger. Leaves room to count on from any of them.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// Refuses numbers that nobody can have counted up to.
fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if number > NUMBER_MAX {
        return Err(serde::de::Error::custom(format!("{number} is no term, index or node")));
    }
    Ok(number)
}

/// A log id as it is written to disk and wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogIdRow {
    #[serde(deserialize_with = "bounded")]
    pub term: u64,
    #[serde(deserialize_with = "bounded")]
    pub index: u64,
}

impl From<LogId> for LogIdRow {
    fn from(id: LogId) -> Self {
        Self {
            term: *id.leader_id,
            index: id.index,
        }
    }
}

impl From<LogIdRow> for LogId {
    fn from(row: LogIdRow) -> Self {
        log_id(row.term, row.index)
    }
}

/// A vote as it is written to disk and wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct VoteRow {
    #[serde(deserialize_with = "bounded")]
    pub term: u64,
    #[serde(deserialize_with = "bounded")]
    pub node: u64,
    pub committed: bool,
}

impl From<&Vote> for VoteRow {
    fn from(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term(),
            node: *vote.leader_id.node_id(),
            committed: vote.committed,
        }
    }
}

impl From<VoteRow> for Vote {
    fn from(row: VoteRow) -> Self {
        if row.committed {
            Self::new_committed(row.term, row.node)
        } else {
            Self::new(row.term, row.node)
        }
    }
}

/// A membership as it is written to disk and wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MembershipRow {
    /// Sets of voters: one, or two while a change is under way.
    pub configs: Vec<Vec<u64>>,
    /// Every member, learners included.
    pub nodes: Vec<(u64, Endpoint)>,
}

impl From<&Membership> for MembershipRow {
    fn from(membership: &Membership) -> Self {
        let configs = membership.get_joint_config().iter();
        Self {
            configs: configs.map(|set| set.iter().copied().collect()).collect(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.clone())).collect(),
        }
    }
}

impl TryFrom<MembershipRow> for Membership {
    type Error = String;

    fn try_from(row: MembershipRow) -> Result<Self, String> {
        if row.configs.is_empty() && row.nodes.is_empty() {
            return Ok(Self::default());
        }
        let configs = row.configs.into_iter().map(|set| set.into_iter().collect()).collect();
        let nodes: std::collections::BTreeMap<_, _> = row.nodes.into_iter().collect();
        Self::new(configs, nodes).map_err(|e| format!("not a membership: {e}"))
    }
}

/// A membership and the log id that set it, as written to disk and wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredMembershipRow {
    pub log_id: Option<LogIdRow>,
    pub membership: MembershipRow,
}

impl From<&StoredMembership> for StoredMembershipRow {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().map(Into::into),
            membership: stored.membership().into(),
        }
    }
}

impl TryFrom<StoredMembershipRow> for StoredMembership {
    type Error = String;

    fn try_from(row: StoredMembershipRow) -> Result<Self, String> {
        Ok(Self::new(row.log_id.map(Into::into), row.membership.try_into()?))
    }
}

//! What a node knows of its cluster's consensus at the moment.

use std::collections::BTreeSet;
use std::time::Duration;

use statemachine::NodeId;

use crate::error::{Fatal, Leader};

/// What a node is to its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Role {
    /// Receives the log, does not vote.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped, or stopping.
    Stopped,
}

impl Role {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// One member of the cluster, as the answering node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its node id.
    pub node: NodeId,
    /// Address of its node-to-node port, `host:port`.
    pub raft: String,
    /// Its API endpoint, `host:port`.
    pub api: String,
    /// Whether it votes.
    pub voter: bool,
    /// The last log index known to be durable there. Only the leader knows those of others.
    pub matched_index: Option<u64>,
    /// Entries it is behind the leader's log. Only the leader knows; `None` before first contact.
    pub lag_entries: Option<u64>,
    /// Time since it last answered. Only the leader knows; zero for the leader itself.
    pub last_contact: Option<Duration>,
}

/// Whether enough voters answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quorum {
    /// How many vote.
    pub voters: usize,
    /// How many have to agree.
    pub needed: usize,
    /// How many answered the leader within the election timeout, itself included. On a follower:
    /// zero, as it cannot know.
    pub reachable: usize,
    /// Whether the answering node believes that the cluster can commit: on the leader, that
    /// enough are reachable; on others, that there is a leader which they have heard from lately.
    pub ok: bool,
}

/// A change of the voters that is not through. Until it is, a majority of both sets is needed for everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoterChange {
    /// Who voted before.
    pub from: BTreeSet<u64>,
    /// Who will vote.
    pub to: BTreeSet<u64>,
}

/// Consensus as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// What it is at the moment.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Current leader, if known.
    pub leader: Option<Leader>,
    /// Last index in this node's log.
    pub last_log_index: Option<u64>,
    /// Last log index known to be committed.
    pub committed_index: Option<u64>,
    /// Last log index applied to this node's state.
    pub applied_index: Option<u64>,
    /// Last log index whose effects are durable in the state store.
    pub durable_index: Option<u64>,
    /// Last log index removed from this node's log.
    pub purged_index: Option<u64>,
    /// Members by id.
    pub members: Vec<Member>,
    /// Whether enough voters answer.
    pub quorum: Quorum,
    /// A change of the voters that is under way, if any.
    pub change: Option<VoterChange>,
    /// Whether the cluster has been initialised, as far as this node knows.
    pub initialized: bool,
    /// Whether this node's log is new and does not hold yet what was acknowledged before it: until
    /// it does, the node neither votes nor campaigns, and its cluster lacks a vote.
    pub recovering: bool,
    /// Whether the cluster knows, and this node knows that it does, of the process that runs now: until then an old copy
    /// of the data directory could still be taken for it.
    pub introduced: bool,
    /// Set when this node has stopped itself.
    pub fatal: Option<Fatal>,
}

impl Status {
    /// Whether there is a leader, and this node has a state to show, a vote to give, and is known for what it is: whoever
    /// waits for all nodes to be ready may lose any one of them.
    pub fn is_ready(&self) -> bool {
        self.applied_index.is_some()
            && self.leader.is_some()
            && self.quorum.ok
            && !self.recovering
            && self.introduced
            && self.fatal.is_none()
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}

//! The cluster partition: what belongs to one Raft group and never leaves it. Takes no revisions of the mesh.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

mod alarm;
mod apply;
mod invitation;

pub use self::{
    alarm::{Alarm, AlarmKind},
    invitation::{Invitation, InvitationRefused},
};

use crate::{
    ClusterId, Hash, NodeId, Stamp, audit,
    codec::{self, Format},
    rows::{RowChange, Table},
};

/// A change of the cluster partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A node tells what it runs. Also names the cluster, the first time.
    DescribeNode {
        /// The leader's clocks.
        stamp: Stamp,
        /// The cluster.
        cluster: ClusterId,
        /// The node.
        node: NodeId,
        /// What it runs.
        facts: NodeFacts,
    },
    /// A node is out for good and may not come back under its id.
    RemoveNode {
        /// The leader's clocks.
        stamp: Stamp,
        /// The node.
        node: NodeId,
        /// Who removed it.
        actor: String,
        /// Why.
        reason: String,
    },
    /// A new node may join, once, with a secret. Takes the place of an earlier invitation of the same node.
    InviteNode {
        /// The leader's clocks.
        stamp: Stamp,
        /// The node.
        node: NodeId,
        /// SHA-256 of the secret in its join token.
        secret: Hash,
        /// For how long, in ms of mesh time.
        ttl_ms: u64,
        /// Who invited it.
        actor: String,
        /// Why.
        reason: String,
    },
    /// A node makes use of its invitation. It becomes a member by a change of Raft's own membership, which follows.
    AdmitNode {
        /// The leader's clocks.
        stamp: Stamp,
        /// The node.
        node: NodeId,
        /// SHA-256 of the secret that it showed.
        secret: Hash,
        /// `host:port` of its API.
        api: String,
        /// `host:port` of its node-to-node port.
        raft: String,
    },
    /// Something is wrong with a node.
    RaiseAlarm {
        /// The leader's clocks.
        stamp: Stamp,
        /// The node.
        node: NodeId,
        /// What.
        kind: AlarmKind,
        /// With measured value and limit, in one line.
        detail: String,
    },
    /// It is well again, or an operator says so.
    ClearAlarm {
        /// The leader's clocks.
        stamp: Stamp,
        /// The node.
        node: NodeId,
        /// What.
        kind: AlarmKind,
        /// Who says so.
        actor: String,
        /// Why.
        reason: String,
    },
}

impl Command {
    /// The leader's clocks, to be stamped when it is proposed.
    pub fn stamp_mut(&mut self) -> &mut Stamp {
        match self {
            Self::DescribeNode { stamp, .. }
            | Self::RemoveNode { stamp, .. }
            | Self::InviteNode { stamp, .. }
            | Self::AdmitNode { stamp, .. }
            | Self::RaiseAlarm { stamp, .. }
            | Self::ClearAlarm { stamp, .. } => stamp,
        }
    }
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// `https://host:port`
    pub api: String,
    /// `host:port`
    pub raft: String,
    /// Version of its program.
    pub version: String,
    /// The highest level of behaviour that it can follow.
    pub feature_level: u32,
    /// The life of its data directory that it runs on.
    pub incarnation: Incarnation,
}

/// A life of a data directory: tells an old copy that is brought back, and a directory that was made anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Random id of the directory. One that was wiped and made anew has another.
    pub directory: u128,
    /// How many times a process has started on it. An old copy that is brought back is known by a smaller number.
    pub boots: u64,
    /// Drawn at random by the process. A copy that was started as often as its original is known by another number.
    pub life: u64,
}

/// Why a life of a data directory cannot be what has become of the one that the cluster knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// It is a copy from before the known life began: fewer processes have started on it.
    Older,
    /// It is a copy from before the known life began, on which as many processes have started since.
    Forked,
    /// It is another directory, and not a new one.
    Foreign,
}

impl Incarnation {
    /// Whether a node may come with the life `shown` that the cluster knows by this one. `new` says that the process
    /// that shows it began with an empty directory, so that nothing in it is taken for what the node once knew.
    ///
    /// A directory of number 0 is that of a node that does not tell; it is believed.
    ///
    /// # Errors
    /// Why not.
    pub fn followed_by(&self, shown: &Self, new: bool) -> Result<(), Stale> {
        if self.directory == 0 || shown.directory == 0 {
            return Ok(());
        }
        if self.directory != shown.directory {
            return if new { Ok(()) } else { Err(Stale::Foreign) };
        }
        match shown.boots.cmp(&self.boots) {
            std::cmp::Ordering::Less => Err(Stale::Older),
            std::cmp::Ordering::Equal if shown.life != self.life => Err(Stale::Forked),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Ok(()),
        }
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Applied,
    /// Everything was so already.
    Unchanged,
    /// The node was removed, so nothing is kept of it.
    NodeRemoved,
    /// The invitation is not good.
    NotInvited(InvitationRefused),
}

/// The cluster partition. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub struct ClusterState {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) nodes: OrdMap<NodeId, NodeFacts>,
    pub(crate) removed: OrdSet<NodeId>,
    pub(crate) invitations: OrdMap<NodeId, Invitation>,
    pub(crate) alarms: OrdMap<(NodeId, AlarmKind), Alarm>,
    pub(crate) chain: Hash,
    pub(crate) sequence: u64,
}

#[derive(Serialize, Deserialize)]
enum Row {
    Cluster(ClusterId),
    Node(NodeId, NodeFacts),
    Removed(NodeId),
    Invitation(NodeId, Invitation),
    Alarm(NodeId, AlarmKind, Alarm),
    /// One entry of the partition's own audit chain.
    Audit(Command, Hash),
}

impl ClusterState {
    /// The cluster, once a node has described itself.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterId> {
        self.cluster.as_ref()
    }

    /// What the nodes said of themselves.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeFacts)> {
        self.nodes.iter().map(|(node, facts)| (*node, facts))
    }

    /// What one node said of itself.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeFacts> {
        self.nodes.get(&node)
    }

    /// Whether a node was removed for good.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// The nodes that were removed for good.
    pub fn removed(&self) -> impl Iterator<Item = NodeId> {
        self.removed.iter().copied()
    }

    /// Who was invited and is not a member yet, or joined by its invitation.
    pub fn invitations(&self) -> impl Iterator<Item = (NodeId, &Invitation)> {
        self.invitations.iter().map(|(node, invitation)| (*node, invitation))
    }

    /// What is wrong with which node, in order of node.
    pub fn alarms(&self) -> impl Iterator<Item = (NodeId, AlarmKind, &Alarm)> {
        self.alarms.iter().map(|((node, kind), alarm)| (*node, *kind, alarm))
    }

    /// Whether an alarm is up.
    #[must_use]
    pub fn has_alarm(&self, node: NodeId, kind: AlarmKind) -> bool {
        self.alarms.contains_key(&(node, kind))
    }

    /// Head of the partition's own audit chain, and its length.
    #[must_use]
    pub fn audit_head(&self) -> (Hash, u64) {
        (self.chain, self.sequence)
    }

    /// Extends the partition's own audit chain.
    fn record(&mut self, command: &Command, rows: &mut Vec<RowChange>) {
        self.chain = audit::extend(self.chain, &codec::encode(Format::Cluster, command));
        self.sequence += 1;
        let mut key = vec![b'a'];
        key.extend_from_slice(&self.sequence.to_be_bytes());
        rows.push(put(key, &Row::Audit(command.clone(), self.chain)));
    }

    /// Takes a stored row back in, at start.
    ///
    /// `replayed` is what the partition's audit entries alone come to, for [`ClusterState::is_as_replayed`].
    pub(crate) fn load(&mut self, value: &[u8], replayed: &mut Self) -> Result<(), codec::Error> {
        match codec::decode::<Row>(Format::Cluster, value)? {
            Row::Cluster(cluster) => self.cluster = Some(cluster),
            Row::Node(node, facts) => {
                self.nodes.insert(node, facts);
            }
            Row::Removed(node) => {
                self.removed.insert(node);
            }
            Row::Invitation(node, invitation) => {
                self.invitations.insert(node, invitation);
            }
            Row::Alarm(node, kind, alarm) => {
                self.alarms.insert((node, kind), alarm);
            }
            Row::Audit(command, _) => {
                replayed.apply(&command, &mut Vec::new());
            }
        }
        Ok(())
    }

    /// Whether the stored rows are what the stored audit entries come to: the partition has no digest, and its chain
    /// covers every change.
    pub(crate) fn is_as_replayed(&self, replayed: &Self) -> bool {
        let Self {
            cluster,
            nodes,
            removed,
            invitations,
            alarms,
            chain,
            sequence,
        } = self;
        *cluster == replayed.cluster
            && *nodes == replayed.nodes
            && *removed == replayed.removed
            && *invitations == replayed.invitations
            && *alarms == replayed.alarms
            && *chain == replayed.chain
            && *sequence == replayed.sequence
    }
}

fn node_key(lead: u8, node: NodeId) -> Vec<u8> {
    let mut key = vec![lead];
    key.extend_from_slice(&node.0.to_be_bytes());
    key
}

fn put(key: Vec<u8>, row: &Row) -> RowChange {
    RowChange {
        table: Table::Cluster,
        key,
        value: Some(codec::encode(Format::Cluster, row)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_other_directories_are_told_from_what_the_cluster_knows() {
        let life = |directory, boots, life| Incarnation { directory, boots, life };
        let known = life(7, 3, 30);
        for (shown, new, verdict) in [
            (life(7, 3, 30), false, Ok(())),
            (life(7, 4, 40), false, Ok(())),
            (life(7, 2, 20), false, Err(Stale::Older)),
            (life(7, 3, 31), false, Err(Stale::Forked)),
            (life(8, 9, 90), false, Err(Stale::Foreign)),
            (life(8, 1, 90), true, Ok(())),
            (life(0, 0, 0), false, Ok(())),
        ] {
            assert_eq!(known.followed_by(&shown, new), verdict, "{shown:?}, new: {new}");
        }
        assert_eq!(Incarnation::default().followed_by(&known, false), Ok(()));
    }
}

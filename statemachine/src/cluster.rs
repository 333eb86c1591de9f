//! The cluster partition: what belongs to one Raft group and never leaves it. Takes no revisions of the mesh.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

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
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Applied,
    /// Everything was so already.
    Unchanged,
    /// The node was removed, so nothing is kept of it.
    NodeRemoved,
}

/// The cluster partition. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub struct ClusterState {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) nodes: OrdMap<NodeId, NodeFacts>,
    pub(crate) removed: OrdSet<NodeId>,
    pub(crate) chain: Hash,
    pub(crate) sequence: u64,
}

#[derive(Serialize, Deserialize)]
enum Row {
    Cluster(ClusterId),
    Node(NodeId, NodeFacts),
    Removed(NodeId),
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

    /// Head of the partition's own audit chain, and its length.
    #[must_use]
    pub fn audit_head(&self) -> (Hash, u64) {
        (self.chain, self.sequence)
    }

    pub(crate) fn apply(&mut self, command: &Command, rows: &mut Vec<RowChange>) -> Outcome {
        match command {
            Command::DescribeNode {
                stamp: _,
                cluster,
                node,
                facts,
            } => {
                if self.removed.contains(node) {
                    return Outcome::NodeRemoved;
                }
                if self.nodes.get(node) == Some(facts) && self.cluster.is_some() {
                    return Outcome::Unchanged;
                }
                if self.cluster.is_none() {
                    self.cluster = Some(cluster.clone());
                    rows.push(put(b"c".to_vec(), &Row::Cluster(cluster.clone())));
                }
                self.nodes.insert(*node, facts.clone());
                rows.push(put(node_key(b'n', *node), &Row::Node(*node, facts.clone())));
            }
            Command::RemoveNode {
                stamp: _,
                node,
                actor: _,
                reason: _,
            } => {
                if self.removed.insert(*node).is_some() {
                    return Outcome::Unchanged;
                }
                self.nodes.remove(node);
                rows.push(RowChange {
                    table: Table::Cluster,
                    key: node_key(b'n', *node),
                    value: None,
                });
                rows.push(put(node_key(b'r', *node), &Row::Removed(*node)));
            }
        }
        self.record(command, rows);
        Outcome::Applied
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
            chain,
            sequence,
        } = self;
        *cluster == replayed.cluster
            && *nodes == replayed.nodes
            && *removed == replayed.removed
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

//! What the invariants look at: the record of the story, and every node as it stood at the end.

use std::sync::Arc;

use raft::{Error, View};
use statemachine::{Hash, NodeId, Position, Recorded, Revision};

use crate::history::Record;

/// Units read at once.
const PAGE: usize = 512;

/// A node at the end, read from what it serves: its state, and every history row of its state store.
#[derive(Debug, Clone)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// The mesh's position.
    pub position: Position,
    /// The digest of the mesh's state.
    pub digest: Hash,
    /// The head of the audit chain.
    pub chain: Hash,
    /// The head of the cluster partition's own audit chain, and its length.
    pub cluster: (Hash, u64),
    /// Every revision from the first, in order.
    pub units: Vec<Arc<Recorded>>,
}

impl Node {
    /// Reads a node.
    ///
    /// # Errors
    /// Its history could not be read.
    pub fn read(id: NodeId, view: &View) -> Result<Self, Error> {
        let mesh = &view.state().mesh;
        let head = mesh.position().revision;
        let mut units = Vec::new();
        let mut next = Revision(1);
        while next <= head {
            let page = view.units(next..=head, PAGE)?;
            let Some(last) = page.last() else { break };
            next = last.unit.position.revision.next();
            units.extend(page);
        }
        Ok(Self {
            id,
            position: mesh.position(),
            digest: mesh.digest(),
            chain: mesh.chain(),
            cluster: view.state().cluster.audit_head(),
            units,
        })
    }

    /// All of one revision.
    #[must_use]
    pub fn unit(&self, revision: Revision) -> Option<&Arc<Recorded>> {
        let at = usize::try_from(revision.0.checked_sub(1)?).ok()?;
        self.units
            .get(at)
            .filter(|recorded| recorded.unit.position.revision == revision)
    }

    /// The audit chain after a revision; of revision 0, before all history, the empty one.
    #[must_use]
    pub fn chain_at(&self, revision: Revision) -> Option<Hash> {
        if revision == Revision(0) {
            return Some(Hash::default());
        }
        self.unit(revision).map(|recorded| recorded.chain)
    }
}

/// Everything there is to judge a story by.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was done and seen.
    pub record: Record,
    /// The nodes, in order of id.
    pub nodes: Vec<Node>,
    /// Nodes that could not be read at the end, or did not come to agree, and why.
    pub missing: Vec<String>,
}

impl Evidence {
    /// The node with the longest history: what really happened, as far as the cluster knows. Whether the others agree
    /// is for other invariants.
    #[must_use]
    pub fn longest(&self) -> Option<&Node> {
        self.nodes.iter().max_by_key(|node| node.units.len())
    }
}

//! What the invariants look at: the record of the story, and every node as it stood at the end.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use raft::{Error, Handle};
use statemachine::{Hash, NodeId, Position, Recorded, Revision};

use crate::{history::Record, restored::Restored};

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
    /// Every revision from the first, in order; those below the floor from what was published while they were kept.
    pub units: Vec<Arc<Recorded>>,
    /// Where its history begins.
    pub floor: Revision,
    /// The first revision that it has a row of, read from the floor on.
    pub first_row: Option<Revision>,
    /// Whether it shows anything below the floor.
    pub shows_below_floor: bool,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who was removed, by id.
    pub removed: Vec<NodeId>,
}

impl Node {
    /// Reads a node; what it has let go of is taken from the archive.
    ///
    /// # Errors
    /// Its history could not be read.
    pub fn read(handle: &Handle, archive: &BTreeMap<Revision, Arc<Recorded>>) -> Result<Self, Error> {
        let (view, status) = (handle.view(), handle.status());
        let mesh = &view.state().mesh;
        let (head, floor) = (mesh.position().revision, mesh.floor());
        let mut units: Vec<_> = archive.range(..floor).map(|(_, recorded)| recorded.clone()).collect();
        let archived = units.len();
        let below = Revision(floor.0.saturating_sub(1));
        let shows_below_floor =
            below > Revision(0) && (view.units(below..=below, PAGE).is_ok() || view.unit(below)?.is_some());
        let mut next = floor.max(Revision(1));
        while next <= head {
            let page = view.units(next..=head, PAGE)?;
            let Some(last) = page.last() else { break };
            next = last.unit.position.revision.next();
            units.extend(page);
        }
        Ok(Self {
            id: handle.node(),
            position: mesh.position(),
            digest: mesh.digest(),
            chain: mesh.chain(),
            cluster: view.state().cluster.audit_head(),
            first_row: units.get(archived).map(|recorded| recorded.unit.position.revision),
            units,
            floor,
            shows_below_floor,
            voters: status.members.iter().filter(|m| m.voter).map(|m| m.node).collect(),
            removed: view.state().cluster.removed().collect(),
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
    /// Who has to vote in the end.
    pub voters: BTreeSet<NodeId>,
    /// Who was removed, and when that was acknowledged.
    pub removed: Vec<(NodeId, Duration)>,
    /// What became of each backup.
    pub backups: Vec<Restored>,
}

impl Evidence {
    /// The node with the longest history: what really happened, as far as the cluster knows. Whether the others agree
    /// is for other invariants.
    #[must_use]
    pub fn longest(&self) -> Option<&Node> {
        self.nodes.iter().max_by_key(|node| node.units.len())
    }
}

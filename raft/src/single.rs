//! One node goes on alone after a majority of its cluster was lost for good.
//!
//! Works on the stores of a node that does not run. Everything in this node's log is kept, and a new membership, this
//! node alone, is put behind it, under a term of its own. What the lost nodes acknowledged among themselves and this one
//! never received is gone: that is why `RecoverMesh` begins a new timeline, and why the lost nodes may not come back.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use statemachine::codec::{self, Format};
use statemachine::{Entry, NodeId, Origin, Position, Proposal, RecoverMesh, Stamp, State, TimelineId, cluster};

use crate::checksum::seal;
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::handle::Endpoint;
use crate::log::reader::decode;
use crate::log::row::LogEntry;
use crate::log::{key, meta, open};
use crate::net::Identity;
use crate::types::{Command, LogId, Membership, Payload, StoredMembership, VoteRow, log_id};
use crate::{format, recovery, state};

/// Rows read in one call to the engine.
const SCAN_ROWS: usize = 4096;

/// Where a node that does not run stands.
#[derive(Debug)]
pub struct Standing {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Every member, learners included.
    pub members: BTreeMap<NodeId, Endpoint>,
    /// The last entry that is known to be committed: at or before it nothing is lost.
    pub committed: u64,
    /// The last entry in this node's log. What was acknowledged after it is lost.
    pub last: u64,
    /// Whether this node was being rebuilt, and so may lack what it once had.
    pub recovering: bool,
    /// The position of the state on disk; entries after it are applied at the next start.
    pub position: Position,
    last_id: Option<LogId>,
    vote_term: u64,
    state: State,
}

/// Who recovers a cluster, when and why.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// For both audit trails.
    pub origin: Origin,
    /// Random.
    pub timeline: TimelineId,
    /// This node's wall clock, ms since 1970.
    pub wall_ms: u64,
}

impl Standing {
    /// Reads where a node stands. Blocks while it reads all of both stores; changes nothing that matters.
    ///
    /// # Errors
    /// The stores are damaged, or another's.
    pub fn read(log: &dyn Engine, state_store: &dyn Engine, own: &Identity) -> Result<Self, EngineError> {
        format::claim(log, state_store, own)?;
        let (current, state) = state::load::open(state_store)?;
        let membership = StoredMembership::try_from(current.membership.clone())
            .map_err(|e| EngineError::corrupt("table state_meta, row current", e))?;
        let tail = open::load(log, 0)?;
        let applied = current.applied.map(LogId::from);
        let membership = last_membership(log, membership.membership().clone())?;
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        Ok(Self {
            voters: membership.voter_ids().map(NodeId).collect(),
            members: membership.nodes().map(|(id, at)| (NodeId(*id), at.clone())).collect(),
            committed: index(tail.committed).max(index(applied)),
            last: index(tail.last.max(applied)),
            recovering: log.get(Table::LogMeta, recovery::KEY)?.is_some(),
            position: state.mesh.position(),
            last_id: tail.last.max(applied),
            vote_term: tail.vote.as_ref().map_or(0, |vote| VoteRow::from(vote).term),
            state,
        })
    }

    /// Makes `own` the only member, in one synced write. Blocks.
    ///
    /// # Errors
    /// The disk failed, or `own` is no member: then nothing was changed.
    pub fn force_single(&self, log: &dyn Engine, own: &Identity, recovered: Recovered) -> Result<(), EngineError> {
        let Some(endpoint) = self.members.get(&own.node) else {
            return Err(EngineError::Foreign {
                place: "log store".to_owned(),
                detail: format!("node {} is no member of its own cluster", own.node),
            });
        };
        let term = 1 + self.vote_term.max(self.last_id.map_or(0, |id| *id.leader_id));
        let nodes = BTreeMap::from([(own.node.0, endpoint.clone())]);
        let alone = Membership::new(vec![BTreeSet::from([own.node.0])], nodes)
            .map_err(|e| EngineError::corrupt("membership", e.to_string()))?;
        let mut payloads: Vec<Payload> = vec![EntryPayload::Membership(alone)];
        payloads.extend(self.entries(own, &recovered).iter().map(|entry| {
            let bytes = codec::encode(Format::Entry, entry);
            EntryPayload::Normal(Command(bytes.into()))
        }));
        let mut batch = Batch::new();
        let first = self.last_id.map_or(0, |id| id.index + 1);
        for (index, payload) in (first..).zip(payloads) {
            batch.put(
                Table::Log,
                key(index),
                LogEntry::new(log_id(term, index), payload).row(),
            );
        }
        let vote = VoteRow {
            term,
            node: own.node.0,
            committed: false,
        };
        batch.put(Table::LogMeta, meta::VOTE, seal(codec::encode(Format::Raft, &vote)));
        batch.delete(Table::LogMeta, recovery::KEY);
        log.write(batch, Durability::Synced)
    }

    /// What both trails are told, and the lost nodes put where they are refused.
    fn entries(&self, own: &Identity, recovered: &Recovered) -> Vec<Entry> {
        let Recovered {
            origin,
            timeline,
            wall_ms,
        } = recovered;
        // Apply takes the later of this and its own time.
        let stamp = Stamp {
            mesh_time_ms: self.state.mesh.stamp().mesh_time_ms,
            wall_ms: *wall_ms,
        };
        let recover = Proposal {
            stamp,
            origin: origin.clone(),
            conditions: statemachine::Conditions::default(),
            command: RecoverMesh {
                mesh: own.mesh.clone(),
                cluster: own.cluster.clone(),
                timeline: *timeline,
            }
            .into(),
        };
        let others = self.members.keys().filter(|node| **node != own.node);
        let removals = others.map(|node| {
            Entry::Cluster(cluster::Command::RemoveNode {
                stamp,
                node: *node,
                actor: origin.actor.clone(),
                reason: origin.reason.clone(),
            })
        });
        std::iter::once(Entry::Command(Box::new(recover)))
            .chain(removals)
            .collect()
    }
}

/// The last membership in the log; `applied` where it has none.
fn last_membership(log: &dyn Engine, applied: Membership) -> Result<Membership, EngineError> {
    let mut found = applied;
    let mut from = 0;
    loop {
        let rows = log.scan(Table::Log, &key(from), &key(u64::MAX), SCAN_ROWS)?;
        if rows.is_empty() {
            return Ok(found);
        }
        for row in rows {
            let entry = decode(row)?;
            from = entry.index() + 1;
            if let EntryPayload::Membership(membership) = entry.payload() {
                found = membership.clone();
            }
        }
    }
}

//! A new cluster on the state of a backup.
//!
//! The restored state stands where a new cluster's first membership does, at index 0 of the log: to consensus the cluster
//! has just been formed, and its other nodes, which are empty, get the state as a snapshot. `RestoreMesh` is applied to
//! it before anything else can be, by the same `apply` as every other command.

use std::sync::Arc;

use statemachine::backup::{self, Header, Row};
use statemachine::codec::{self, Format};
use statemachine::{Answer, Entry, NodeId, Outcome, Position, Proposal, Rejection, State, rows};

use crate::checksum::seal;
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::handle::Endpoint;
use crate::log::meta;
use crate::net::Identity;
use crate::state::load;
use crate::state::rows::{CURRENT, Current, engine_table, full_key};
use crate::types::{LogIdRow, MembershipRow, StoredMembershipRow};
use crate::{format, recovery};

/// The generation that is written: the first of a new store.
const GENERATION: u32 = 1;

/// Where a cluster's first membership stands.
const FIRST: LogIdRow = LogIdRow { term: 0, index: 0 };

/// Why a backup could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The disk failed, or what was written does not add up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The mesh refuses to be restored so.
    #[error("{}", .0.detail())]
    Rejected(Rejection),
}

/// A restore under way. The directory is of no use before [`Restore::finish`] has returned.
pub struct Restore {
    log: Arc<dyn Engine>,
    state: Arc<dyn Engine>,
}

/// What a restore came to.
#[derive(Debug)]
pub struct Restored {
    /// Where the restored history ends: the backup's position.
    pub from: Position,
    /// The position of `RestoreMesh`.
    pub to: Position,
    /// The state after it.
    pub state: State,
}

impl Restore {
    /// Begins on two new, empty stores. Blocks, as everything here does.
    ///
    /// # Errors
    /// The disk failed, or the stores are somebody's already.
    pub fn begin(log: Arc<dyn Engine>, state: Arc<dyn Engine>, own: &Identity) -> Result<Self, EngineError> {
        format::claim(&*log, &*state, own)?;
        if state.get(Table::StateMeta, CURRENT)?.is_some() {
            return Err(EngineError::Foreign {
                place: "state store".to_owned(),
                detail: "holds a state already".to_owned(),
            });
        }
        Ok(Self { log, state })
    }

    /// Writes some rows.
    ///
    /// # Errors
    /// The disk failed.
    pub fn rows(&mut self, rows: Vec<Row>) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        for row in rows {
            let Some(table) = row.table() else {
                return Err(EngineError::corrupt("backup", "a row of a table that is not known"));
            };
            if table == rows::Table::History {
                let index = backup::index_rows(&row.value)
                    .map_err(|error| EngineError::corrupt("backup, history", error.to_string()))?;
                for key in index {
                    batch.put(Table::Index, full_key(GENERATION, &key), seal(Vec::new()));
                }
            }
            batch.put(engine_table(table), full_key(GENERATION, &row.key), seal(row.value));
        }
        self.state.write(batch, Durability::Unlogged)
    }

    /// Ends it: reads everything back, applies `proposal`, which has to be `RestoreMesh`, and forms the cluster of
    /// `members`.
    ///
    /// # Errors
    /// The rows do not add up to the header, or the mesh refuses the command.
    pub fn finish(
        self,
        header: &Header,
        members: &[(NodeId, Endpoint)],
        proposal: Proposal,
    ) -> Result<Restored, RestoreError> {
        let mut current = Current {
            generation: GENERATION,
            applied: Some(FIRST),
            installed: Some(FIRST),
            revision: header.position.revision.0,
            membership: StoredMembershipRow {
                log_id: Some(FIRST),
                membership: MembershipRow {
                    configs: vec![members.iter().map(|(node, _)| node.0).collect()],
                    nodes: members.iter().map(|(node, at)| (node.0, at.clone())).collect(),
                },
            },
            head: header.head.clone(),
        };
        let mut state = load::generation(&*self.state, &current)?;
        let applied = statemachine::apply(&mut state, &Entry::Command(Box::new(proposal)));
        let unit = match applied.answer {
            Answer::Recorded(unit) => unit,
            Answer::Refused(rejection) => return Err(RestoreError::Rejected(rejection)),
            Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => {
                return Err(EngineError::corrupt("backup", "a command was not answered as one").into());
            }
        };
        if let Outcome::Rejected(rejection) = &unit.unit.outcome {
            return Err(RestoreError::Rejected(rejection.clone()));
        }
        let mut batch = Batch::new();
        for row in applied.rows {
            let (table, key) = (engine_table(row.table), full_key(GENERATION, &row.key));
            match row.value {
                Some(value) => batch.put(table, key, seal(value)),
                None => batch.delete(table, key),
            }
        }
        current.revision = state.mesh.position().revision.0;
        current.head = state.head_row();
        batch.put(Table::StateMeta, CURRENT, current.encode());
        self.state.write(batch, Durability::Unlogged)?;
        self.state.flush()?;
        let mut batch = Batch::new();
        batch.put(Table::LogMeta, meta::PURGED, seal(codec::encode(Format::Raft, &FIRST)));
        // Who forms a cluster has nothing to have known before.
        batch.delete(Table::LogMeta, recovery::KEY);
        self.log.write(batch, Durability::Synced)?;
        Ok(Restored {
            from: header.position,
            to: state.mesh.position(),
            state,
        })
    }
}

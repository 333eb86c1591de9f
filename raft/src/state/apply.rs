//! Applying entries: the one place where the state changes.

use std::sync::Arc;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::ApplyResponder;
use statemachine::codec::{self, Format};
use statemachine::{Answer, Entry, FEATURE_LEVEL, Recorded, State};

use crate::checksum::seal;
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::env::Clock;
use crate::log::row::LogEntry;
use crate::state::history::{Generation, History};
use crate::state::publish::Publisher;
use crate::state::rows::{CURRENT, Current, TABLES, engine_table, full_key, generation_range};
use crate::types::{LogId, Reply, StoredMembership, StoredMembershipRow, TypeConfig};

/// The state as it is being applied to.
pub(crate) struct Applier {
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<dyn Clock>,
    pub publisher: Publisher,
    pub state: State,
    pub applied: Option<LogId>,
    pub installed: Option<LogId>,
    pub membership: StoredMembership,
    pub generation: Arc<Generation>,
    /// Bytes written since the last flush began.
    pub unflushed_bytes: usize,
    /// When the last flush began.
    pub flushed_at: Duration,
    /// Changes entries between log and state, as a bit that flips in memory does.
    #[cfg(feature = "simulation")]
    pub tamper: Option<Tamper>,
}

/// What changes entries.
#[cfg(feature = "simulation")]
pub(crate) type Tamper = Box<dyn FnMut(&mut Entry) + Send>;

/// An entry to apply, and who waits for what comes of it on this node.
pub(crate) type Item = (LogEntry, Option<ApplyResponder<TypeConfig>>);

impl Applier {
    /// Applies a run of entries: writes their rows as one batch, publishes one view, answers.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] when a committed entry does not decode. The state is then
    /// unusable and the node has to stop.
    pub(crate) fn apply(&mut self, items: Vec<Item>) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        let mut units = Vec::new();
        let mut answers = Vec::new();
        for (entry, responder) in items {
            let answer = self.entry(&entry, &mut batch, &mut units)?;
            if let Some(responder) = responder {
                answers.push((responder, answer));
            }
        }
        batch.put(Table::StateMeta, CURRENT, self.current().encode());
        self.unflushed_bytes += batch.bytes();
        self.engine.write(batch, Durability::Unlogged)?;
        self.publisher
            .publish(self.state.clone(), self.applied, self.history(), units);
        for (responder, answer) in answers {
            responder.send(Reply(answer));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &LogEntry,
        batch: &mut Batch,
        units: &mut Vec<Arc<Recorded>>,
    ) -> Result<Option<Answer>, EngineError> {
        let log_id = entry.log_id();
        self.applied = Some(log_id);
        match entry.payload() {
            EntryPayload::Blank => Ok(None),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership.clone());
                Ok(None)
            }
            EntryPayload::Normal(command) => {
                let decoded: Entry = codec::decode(Format::Entry, &command.0)
                    .map_err(|e| EngineError::corrupt(format!("table log, entry {}", log_id.index), e.to_string()))?;
                #[cfg(feature = "simulation")]
                let decoded = self.tampered(decoded);
                let level = decoded.level();
                if level > FEATURE_LEVEL {
                    return Err(EngineError::Foreign {
                        place: format!("table log, entry {}", log_id.index),
                        detail: format!(
                            "the mesh is raised to feature level {level}, and this program goes up to {FEATURE_LEVEL}: run \
                             a newer one"
                        ),
                    });
                }
                let span = self.publisher.traces().applying(&decoded, log_id.index);
                let applied = span.in_scope(|| statemachine::apply(&mut self.state, &decoded));
                for row in applied.rows {
                    let (table, key) = (engine_table(row.table), full_key(self.generation.0, &row.key));
                    match row.value {
                        Some(value) => batch.put(table, key, seal(value)),
                        None => batch.delete(table, key),
                    }
                }
                if let Answer::Recorded(unit) = &applied.answer {
                    units.push(unit.clone());
                }
                Ok(Some(applied.answer))
            }
        }
    }

    #[cfg(feature = "simulation")]
    fn tampered(&mut self, mut entry: Entry) -> Entry {
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut entry);
        }
        entry
    }

    /// The row that says what is current.
    pub(crate) fn current(&self) -> Current {
        Current {
            generation: self.generation.0,
            applied: self.applied.map(Into::into),
            installed: self.installed.map(Into::into),
            revision: self.state.mesh.position().revision.0,
            membership: StoredMembershipRow::from(&self.membership),
            head: self.state.head_row(),
        }
    }

    pub(crate) fn history(&self) -> History {
        History {
            engine: self.engine.clone(),
            generation: self.generation.clone(),
        }
    }
}

/// Removes all rows of a generation.
pub(crate) fn remove_generation(engine: &dyn Engine, generation: u32) -> Result<(), EngineError> {
    for table in TABLES {
        let range = generation_range(table, generation);
        engine.delete_range(table, &range.from, &range.to)?;
    }
    Ok(())
}

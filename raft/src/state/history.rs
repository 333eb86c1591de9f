//! Reads of history rows.

use std::ops::Range;
use std::sync::Arc;

use statemachine::record::Kind;
use statemachine::rows::{history_key, index_key, index_revision};
use statemachine::{Record, Recorded, Revision};

use crate::engine::{Engine, EngineError, KeyRange, Table};
use crate::state::load::each;
use crate::state::prune::Pruned;
use crate::state::rows::{full_key, value};

/// A generation of rows. As long as somebody holds it, its rows are kept.
#[derive(Debug)]
pub(crate) struct Generation(pub u32, pub Pruned);

impl Generation {
    pub(crate) fn new(number: u32) -> Self {
        Self(number, Pruned::default())
    }
}

/// The history of one generation.
#[derive(Clone)]
pub(crate) struct History {
    pub engine: Arc<dyn Engine>,
    pub generation: Arc<Generation>,
}

impl History {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        full_key(self.generation.0, key)
    }

    /// All of one revision, if its row is there.
    pub(crate) fn unit(&self, revision: Revision) -> Result<Option<Arc<Recorded>>, EngineError> {
        let key = self.key(&history_key(revision));
        let Some(sealed) = self.engine.get(Table::History, &key)? else {
            return Ok(None);
        };
        let bytes = value(Table::History, &key.into(), &sealed)?;
        decode(revision, &bytes).map(Some)
    }

    /// The units of `first..=last`, at most `limit`.
    pub(crate) fn units(
        &self,
        first: Revision,
        last: Revision,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, EngineError> {
        let (from, to) = (self.key(&history_key(first)), self.key(&history_key(last.next())));
        let rows = self.engine.scan(Table::History, &from, &to, limit)?;
        let units = rows.into_iter().map(|(key, sealed)| {
            let bytes = value(Table::History, &key, &sealed)?;
            let revision = index_revision(&key).unwrap_or_default();
            decode(revision, &bytes)
        });
        units.collect()
    }

    /// A record as it was at a revision, given the first revision that is kept and what the record is at `now`: `None`
    /// where it did not exist then.
    ///
    /// The last change up to that revision left it behind. Where that one is no longer kept, the first change after it
    /// tells what was before, and without one the record is what it was.
    pub(crate) fn record_at(
        &self,
        (kind, id): (Kind, &str),
        revision: Revision,
        first: Revision,
        now: (Revision, Option<Record>),
    ) -> Result<Option<Record>, EngineError> {
        let place = |revision| self.key(&index_key(kind, id, revision));
        let row = self.engine.last(Table::Index, &place(first), &place(revision.next()))?;
        if let Some(changed) = row.and_then(|(key, _)| index_revision(&key)) {
            let unit = self.unit(changed)?;
            return Ok(unit.and_then(|unit| change_of(&unit, kind, id).and_then(|change| change.after.clone())));
        }
        let (head, record) = now;
        let later = self
            .engine
            .scan(Table::Index, &place(revision.next()), &place(head.next()), 1)?;
        match later.first().and_then(|(key, _)| index_revision(key)) {
            Some(changed) => {
                let unit = self.unit(changed)?;
                Ok(unit.and_then(|unit| change_of(&unit, kind, id).and_then(|change| change.before.clone())))
            }
            None => Ok(record),
        }
    }

    /// The oldest revision whose rows are certainly there; what was read from it on is whole.
    pub(crate) fn oldest(&self) -> Revision {
        self.generation.1.oldest()
    }

    /// The revisions of a range that changed a record, newest first, at most `limit`.
    pub(crate) fn changes_before(
        &self,
        kind: Kind,
        id: &str,
        range: Range<Revision>,
        limit: usize,
    ) -> Result<Vec<Revision>, EngineError> {
        let from = self.key(&index_key(kind, id, range.start));
        let mut found: Vec<Revision> = Vec::new();
        while found.len() < limit {
            let below = found.last().copied().unwrap_or(range.end);
            let to = self.key(&index_key(kind, id, below));
            if to <= from {
                break;
            }
            match self.engine.last(Table::Index, &from, &to)? {
                Some((key, _)) => match index_revision(&key) {
                    Some(revision) => found.push(revision),
                    None => break,
                },
                None => break,
            }
        }
        Ok(found)
    }

    /// The revisions in `first..=last` that changed a record, oldest first, at most `limit`.
    pub(crate) fn changes_of(
        &self,
        kind: Kind,
        id: &str,
        first: Revision,
        last: Revision,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, EngineError> {
        let (from, to) = (index_key(kind, id, first), index_key(kind, id, last.next()));
        let rows = self
            .engine
            .scan(Table::Index, &self.key(&from), &self.key(&to), limit)?;
        let revisions = rows.iter().filter_map(|(key, _)| index_revision(key));
        let units = revisions.map(|revision| self.unit(revision));
        units.filter_map(Result::transpose).collect()
    }

    /// Visits all units of `first..=last` in order.
    pub(crate) fn each(
        &self,
        first: Revision,
        last: Revision,
        mut visit: impl FnMut(Recorded) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let range = KeyRange {
            table: Table::History,
            from: self.key(&history_key(first)),
            to: self.key(&history_key(last.next())),
        };
        each(&*self.engine, range, |key, bytes| {
            let revision = index_revision(key).unwrap_or_default();
            visit(Arc::unwrap_or_clone(decode(revision, bytes)?))
        })
    }
}

/// What a unit did to a record. A unit changes a record once at the most.
fn change_of<'a>(unit: &'a Recorded, kind: Kind, id: &str) -> Option<&'a statemachine::Change> {
    let mut changes = unit.unit.changes().iter();
    changes.find(|change| change.key().is_some_and(|(k, i)| k == kind && i == id))
}

fn decode(revision: Revision, bytes: &[u8]) -> Result<Arc<Recorded>, EngineError> {
    let place = || format!("table history, revision {revision}");
    let recorded = Recorded::decode(bytes).map_err(|e| EngineError::corrupt(place(), e.to_string()))?;
    if recorded.unit.position.revision != revision {
        let found = recorded.unit.position.revision;
        return Err(EngineError::corrupt(
            place(),
            format!("the row is that of revision {found}"),
        ));
    }
    Ok(Arc::new(recorded))
}

//! Whether a backup's rows hold together: the digest, the audit chain, and what the header says of them.

use std::collections::BTreeMap;

use super::{End, Header, Part, Row, TABLES};
use crate::{
    FEATURE_LEVEL, Hash, LoadError, Loader, Position, Record, Recorded, Revision, State, audit,
    codec::{self, Format},
    record::Kind,
    rows::{self, Table},
};

/// Why a backup whose bytes are all there is not a mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It was made by a newer program.
    #[error("it is of feature level {level}, and this program goes up to {FEATURE_LEVEL}: use a newer one")]
    TooNew {
        /// Its level.
        level: u32,
    },
    /// Rows do not follow one another.
    #[error("the rows are out of order: a row of table {0:?} comes too late, or twice")]
    Order(Table),
    /// A row of a table that this program does not know.
    #[error("it holds rows of a table that this program does not know")]
    Table,
    /// A row does not decode, or the rows do not add up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The audit chain does not hold.
    #[error("audit, revision {revision}: {why}")]
    Chain {
        /// Where.
        revision: Revision,
        /// What is wrong.
        why: String,
    },
    /// The header says something else than the rows.
    #[error("the header's {0} is not what the rows say")]
    Header(&'static str),
}

/// What a backup holds, once it is known to hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What it is of.
    pub header: Header,
    /// Its end.
    pub end: End,
    /// The oldest revision in it.
    pub first_revision: Revision,
    /// How many revisions are in it; each is a record of the audit trail.
    pub revisions: u64,
    /// Whether the oldest is the mesh's first, or follows a signed checkpoint that is in it.
    pub anchored: bool,
    /// How many signed checkpoints match the chain. Signatures are not checked here.
    pub checkpoints: u64,
    /// How many peers.
    pub peers: u64,
    /// How many operations.
    pub operations: u64,
    /// How many clusters.
    pub clusters: u64,
    /// How many remembered requests.
    pub idempotency_keys: u64,
}

/// A backup that holds together: what it holds, and the state that it is.
#[derive(Debug)]
pub struct Checked {
    /// What it holds.
    pub contents: Contents,
    /// The state.
    pub state: State,
}

/// Checks the parts of a backup, in the order in which they come.
#[derive(Debug, Default)]
pub struct Check {
    loader: Loader,
    header: Option<Header>,
    last: Option<(usize, Vec<u8>)>,
    first_revision: Option<Revision>,
    head: Option<(Position, Hash)>,
    revisions: u64,
    anchored: bool,
    /// Checkpoints whose revision has not come yet, or lies before the first that is kept.
    checkpoints: BTreeMap<Revision, Hash>,
    matched: u64,
}

impl Check {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a part in.
    ///
    /// # Errors
    /// The part does not fit with those before it.
    pub fn part(&mut self, part: &Part) -> Result<(), Wrong> {
        match part {
            Part::Header(header) => {
                if header.feature_level > FEATURE_LEVEL {
                    return Err(Wrong::TooNew {
                        level: header.feature_level,
                    });
                }
                self.header = Some(Header::clone(header));
                Ok(())
            }
            Part::Rows(rows) => rows.iter().try_for_each(|row| self.row(row)),
            Part::End(_) => Ok(()),
        }
    }

    /// Ends with what the decoder found at the end.
    ///
    /// # Errors
    /// The rows do not add up.
    pub fn finish(self, end: End) -> Result<Checked, Wrong> {
        let header = self.header.ok_or(Wrong::Header("absence"))?;
        let state = self.loader.finish(Some(&header.head))?;
        let mesh = &state.mesh;
        let again = Header::of(&state, header.cluster.clone(), header.created_wall_ms);
        let again = again.ok_or(Wrong::Header("mesh"))?;
        for (what, same) in [
            ("mesh", again.mesh == header.mesh),
            ("position", again.position == header.position),
            ("epoch", again.epoch == header.epoch),
            ("feature level", again.feature_level == header.feature_level),
            ("floor", again.floor == header.floor),
            ("times", again.stamp == header.stamp),
            ("chain", again.chain == header.chain),
            ("digest", again.digest == header.digest),
        ] {
            if !same {
                return Err(Wrong::Header(what));
            }
        }
        let first_revision = self.first_revision.ok_or(Wrong::Header("history"))?;
        if first_revision != header.floor {
            let why = format!("history should begin at revision {}", header.floor);
            return Err(Wrong::Chain {
                revision: first_revision,
                why,
            });
        }
        let contents = Contents {
            first_revision,
            revisions: self.revisions,
            anchored: self.anchored,
            checkpoints: self.matched,
            peers: mesh.peer_count(),
            operations: mesh.operation_count(),
            clusters: mesh.cluster_count(),
            idempotency_keys: mesh.idempotency_keys() as u64,
            header,
            end,
        };
        Ok(Checked { contents, state })
    }

    fn row(&mut self, row: &Row) -> Result<(), Wrong> {
        let table = row.table().ok_or(Wrong::Table)?;
        let place = TABLES.iter().position(|known| *known == table).ok_or(Wrong::Table)?;
        let here = (place, row.key.clone());
        if self.last.as_ref().is_some_and(|last| *last >= here) {
            return Err(Wrong::Order(table));
        }
        self.last = Some(here);
        match table {
            Table::Records => self.checkpoint(row),
            Table::History => self.unit(row)?,
            Table::Index | Table::Cluster => return Err(Wrong::Table),
        }
        Ok(self.loader.row(table, &row.key, &row.value)?)
    }

    fn checkpoint(&mut self, row: &Row) {
        if row.key.first() != Some(&(Kind::Checkpoint as u8)) {
            return;
        }
        // What does not decode is the loader's to refuse.
        if let Ok(Record::Checkpoint(checkpoint)) = codec::decode(Format::Record, &row.value) {
            self.checkpoints.insert(checkpoint.revision, checkpoint.hash);
        }
    }

    fn unit(&mut self, row: &Row) -> Result<(), Wrong> {
        let recorded = Recorded::decode(&row.value).map_err(|error| {
            let key = row.key.iter().map(|byte| format!("{byte:02x}")).collect();
            let table = Table::History;
            LoadError::Row { table, key, error }
        })?;
        let position = recorded.unit.position;
        let revision = position.revision;
        let broken = |why: String| Err(Wrong::Chain { revision, why });
        if row.key != rows::history_key(revision) {
            return broken("it is stored under another revision".to_owned());
        }
        let before = match self.head {
            Some((before, chain)) => {
                if revision != before.revision.next() || recorded.unit.parent != before {
                    return broken(format!("it does not follow {before}"));
                }
                Some(chain)
            }
            None => {
                self.first_revision = Some(revision);
                let before = match revision {
                    Revision(1) => Some(Hash::default()),
                    later => self.checkpoints.get(&Revision(later.0.saturating_sub(1))).copied(),
                };
                self.anchored = before.is_some();
                before
            }
        };
        if before.is_some_and(|before| audit::extend(before, &recorded.bytes) != recorded.chain) {
            return broken("its bytes do not hash to what the chain says".to_owned());
        }
        if let Some(signed) = self.checkpoints.get(&revision) {
            if *signed != recorded.chain {
                return broken("the checkpoint of this revision signs another hash".to_owned());
            }
            self.matched += 1;
        }
        self.revisions += 1;
        self.head = Some((position, recorded.chain));
        Ok(())
    }
}

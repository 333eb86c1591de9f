//! The state, taken back from stored rows. The digest is computed again from the bytes that were read and compared
//! with the one that was stored, so that a flipped bit is found before anything is served.

use super::{RECENT_MAX, Recent, State};
use crate::{
    ClusterState, FEATURE_LEVEL, Hash, Record, Recorded,
    codec::{self, Format},
    digest::row_hash,
    rows::{self, HeadRow, Table},
};

/// Why stored rows are not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A row does not decode.
    #[error("a row of table {table:?} does not decode (key {key}): {error}")]
    Row {
        /// The table.
        table: Table,
        /// The key, in hex.
        key: String,
        /// What is wrong.
        error: codec::Error,
    },
    /// The head row does not decode.
    #[error("the head row does not decode: {0}")]
    Head(codec::Error),
    /// The state is of a level that this program does not know.
    #[error("the mesh is at feature level {level}, and this program goes up to {FEATURE_LEVEL}: run a newer one")]
    TooNew {
        /// The mesh's level.
        level: u32,
    },
    /// Rows are there, and do not add up to what was stored with them.
    #[error("table Records does not match its digest: stored {stored}, computed {computed}")]
    Digest {
        /// What the head row says.
        stored: Hash,
        /// What the rows add up to.
        computed: Hash,
    },
    /// The newest history row is not the one that the head row speaks of.
    #[error("table History does not match the head row: {0}")]
    History(String),
    /// The cluster's own rows are not what its audit entries come to.
    #[error("table Cluster does not match its audit chain")]
    Cluster,
}

impl LoadError {
    fn history(what: &str) -> Self {
        Self::History(what.to_owned())
    }
}

/// Builds a state from stored rows, in any order of tables and in order of key within each; of the history, only the
/// last [`RECENT_MAX`] rows are needed.
#[derive(Debug, Default)]
pub struct Loader {
    state: State,
    replayed: ClusterState,
}

impl Loader {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one row.
    ///
    /// # Errors
    /// The row does not decode.
    pub fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let named = |error| LoadError::Row {
            table,
            key: hex(key),
            error,
        };
        match table {
            Table::Records if key.first() == Some(&rows::IDEMPOTENCY) => {
                let hash = self.state.mesh.idempotency.load(key, value).map_err(named)?;
                self.state.mesh.load_hash(hash);
            }
            Table::Records => {
                let record: Record = codec::decode(Format::Record, value).map_err(named)?;
                // The mesh's own record comes first, before any that a newer program wrote.
                if let Record::Mesh(mesh) = &record
                    && mesh.feature_level > FEATURE_LEVEL
                {
                    return Err(LoadError::TooNew {
                        level: mesh.feature_level,
                    });
                }
                self.state.mesh.load_record(record, row_hash(key, value));
            }
            Table::History => {
                let recorded = Recorded::decode(value).map_err(named)?;
                let recent = &mut self.state.mesh.recent;
                if recent.len() == RECENT_MAX {
                    recent.pop_front();
                }
                let revision = recorded.unit.position.revision;
                recent.push_back(Recent {
                    revision,
                    chain: recorded.chain,
                    digest: recorded.digest,
                });
            }
            Table::Index => {}
            Table::Cluster => self.state.cluster.load(value, &mut self.replayed).map_err(named)?,
        }
        Ok(())
    }

    /// Ends with the head row; without one the state is empty.
    ///
    /// # Errors
    /// The head row does not decode, or the rows do not add up to the digest that it holds.
    pub fn finish(mut self, head: Option<&[u8]>) -> Result<State, LoadError> {
        let head: HeadRow = match head {
            Some(bytes) => codec::decode(Format::Head, bytes).map_err(LoadError::Head)?,
            None => codec::decode(Format::Head, &State::default().head_row()).map_err(LoadError::Head)?,
        };
        let HeadRow {
            position,
            stamp,
            chain,
            digest,
            vector,
            cluster_chain,
            cluster_sequence,
        } = head;
        let mesh = &mut self.state.mesh;
        mesh.position = position;
        mesh.stamp = stamp;
        mesh.chain = chain;
        mesh.vector = vector
            .into_iter()
            .map(|(cluster, epoch, sequence)| (cluster, (epoch, sequence)))
            .collect();
        self.state.cluster.chain = cluster_chain;
        self.state.cluster.sequence = cluster_sequence;
        if !self.state.cluster.is_as_replayed(&self.replayed) {
            return Err(LoadError::Cluster);
        }
        let newest = self.state.mesh.recent.back();
        match newest.filter(|newest| newest.revision == position.revision) {
            Some(newest) if (newest.chain, newest.digest) == (chain, digest) => {}
            Some(_) => return Err(LoadError::history("chain or digest differs")),
            None if position.revision.0 == 0 => {}
            None => return Err(LoadError::history("the newest revision is missing")),
        }
        let computed = self.state.mesh.digest();
        if computed != digest {
            return Err(LoadError::Digest {
                stored: digest,
                computed,
            });
        }
        Ok(self.state)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect()
}

//! A mesh as one file: how its bytes are laid out, and how it is told whether they are all there and hold together.
//!
//! ```text
//! magic                                    16 bytes
//! part, part, …                            [length u32, big-endian][part][8 bytes of checksum]
//! ```
//!
//! The first part is a [`Header`], then come rows, the last is an [`End`]. Each part is a frame of the one codec. A
//! part's checksum is the beginning of the SHA-256 over all of the file up to there, so that damage is found, and named,
//! in the first part that has it; the end holds that sum whole.
//!
//! What belongs to a cluster alone (members, alarms, its own trail) is not in a backup, and there are no secrets in the
//! state to begin with. The index of changes is made again from the history ([`index_rows`]). Remembered requests are in
//! it, so that a retry stays one over a restore.

mod check;
mod decode;
mod encode;

use serde::{Deserialize, Serialize};

pub use self::{
    check::{Check, Checked, Contents, Wrong},
    decode::{Damage, Decoder},
    encode::Encoder,
};
use crate::{
    Change, ClusterId, Epoch, Hash, MeshId, Position, Recorded, Revision, Stamp, State, codec,
    rows::{Table, index_key},
};

/// What every backup begins with.
pub const MAGIC: &[u8; 16] = b"meshkit backup\n\0";
/// The largest part. A chunk of rows ends with the row that fills it, and a row holds one revision at the most.
pub const PART_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of rows after which a part is full.
pub const ROWS_BYTES: usize = 512 * 1024;

const LENGTH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 8;

/// What a backup is of. Only the head row counts for who loads it; the rest says the same for who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The mesh.
    pub mesh: MeshId,
    /// The cluster that it was read from.
    pub cluster: ClusterId,
    /// The last revision in it, and on which timeline.
    pub position: Position,
    /// The mesh's fencing number.
    pub epoch: Epoch,
    /// The level that a program has to know to read it.
    pub feature_level: u32,
    /// The oldest revision whose history is in it.
    pub floor: Revision,
    /// The last command's times.
    pub stamp: Stamp,
    /// The audit chain's hash.
    pub chain: Hash,
    /// The digest of the mesh state.
    pub digest: Hash,
    /// The wall clock of the node that wrote it, ms since 1970.
    pub created_wall_ms: u64,
    /// [`State::head_row`], without the cluster's own partition.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
}

impl Header {
    /// The header of a backup of `state`; none where there is no mesh yet.
    #[must_use]
    pub fn of(state: &State, cluster: ClusterId, created_wall_ms: u64) -> Option<Self> {
        let record = state.mesh.mesh()?;
        let alone = State {
            mesh: state.mesh.clone(),
            cluster: crate::ClusterState::default(),
        };
        Some(Self {
            mesh: record.id.clone(),
            cluster,
            position: state.mesh.position(),
            epoch: record.epoch(),
            feature_level: record.feature_level,
            floor: record.floor,
            stamp: state.mesh.stamp(),
            chain: state.mesh.chain(),
            digest: state.mesh.digest(),
            created_wall_ms,
            head: alone.head_row(),
        })
    }
}

/// A row of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    table: u8,
    /// Its key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// Its value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

impl Row {
    /// A row; none of a table that is not part of a backup.
    #[must_use]
    pub fn new(table: Table, key: Vec<u8>, value: Vec<u8>) -> Option<Self> {
        Some(Self {
            table: number(table)?,
            key,
            value,
        })
    }

    /// Its table; none where this program does not know it.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        TABLES.into_iter().find(|table| number(*table) == Some(self.table))
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + 8
    }
}

/// The tables in a backup, in the order in which they come.
pub const TABLES: [Table; 2] = [Table::Records, Table::History];

/// Number of a table in a backup. Never reused.
fn number(table: Table) -> Option<u8> {
    match table {
        Table::Records => Some(1),
        Table::History => Some(2),
        Table::Index | Table::Cluster => None,
    }
}

/// The keys in the index of changes ([`Table::Index`]) of what a history row says; values are empty.
///
/// # Errors
/// The row does not decode.
pub fn index_rows(history: &[u8]) -> Result<Vec<Vec<u8>>, codec::Error> {
    let recorded = Recorded::decode(history)?;
    let revision = recorded.unit.position.revision;
    let changed = recorded.unit.changes().iter().filter_map(Change::key);
    Ok(changed.map(|(kind, id)| index_key(kind, &id, revision)).collect())
}

/// The end of a backup: without it, it is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How many rows there are.
    pub rows: u64,
    /// How many bytes came before this part.
    pub bytes: u64,
    /// The SHA-256 of these bytes.
    pub sha256: Hash,
}

/// A part of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The first.
    Header(Box<Header>),
    /// In order of table and key.
    Rows(Vec<Row>),
    /// The last.
    End(End),
}

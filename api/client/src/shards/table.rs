//! The map at one revision: never changed, only followed by another.

use std::{cmp::Ordering, fmt, sync::Arc};

use imbl::{OrdMap, Vector};
use proto::v1::{self, shard::Status};
use statemachine::strategy::shard_of;

use super::{Change, Token, Update};

/// One shard, as far as whoever routes needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its number.
    pub shard: u32,
    /// Who serves it; nobody where there is nobody to.
    pub owner: Option<Arc<str>>,
    /// Who holds a copy beside it.
    pub replicas: Vec<Arc<str>>,
    /// Whether it is served: not where disabled.
    pub status: Status,
    /// Under which token.
    pub token: Token,
    /// Where it was made: a shard of a namespace that was deleted and made again is another.
    pub created_revision: u64,
    /// Where it changed last.
    pub changed_revision: u64,
}

/// Where a key is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located(Arc<Cell>);

impl Located {
    /// The shard's number.
    pub fn shard(&self) -> u32 {
        self.0.shard
    }

    /// The peer that serves it; none where nobody does: it has no owner, or is disabled.
    pub fn owner(&self) -> Option<&str> {
        match self.0.status {
            Status::Disabled => None,
            Status::Unspecified | Status::Active | Status::Moving | Status::Paused => self.0.owner.as_deref(),
        }
    }

    /// The token to send with every write.
    pub fn token(&self) -> Token {
        self.0.token
    }

    /// Everything that is known of it.
    pub fn cell(&self) -> &Arc<Cell> {
        &self.0
    }
}

/// What a map does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing is known of the namespace: there is none, or the map has not been told yet.
    Namespace,
    /// It is not known yet how many shards it has.
    Count,
    /// The namespace is there, and not yet (or no longer) this shard.
    Shard(u32),
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("the map has no such namespace"),
            Self::Count => f.write_str("the map does not know yet how many shards the namespace has"),
            Self::Shard(shard) => write!(f, "the map has no shard {shard} of the namespace"),
        }
    }
}

impl std::error::Error for Miss {}

/// How many shards a namespace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) shards: u32,
    /// Of the namespace that was made here.
    pub(super) created: u64,
}

#[derive(Debug, Clone, Default)]
struct Table {
    count: Option<Count>,
    /// Where a shard was last taken away: a namespace that is older than that is not the one that is here now.
    taken_away: u64,
    cells: Vector<Option<Arc<Cell>>>,
}

impl Table {
    fn made_at(&self) -> Option<u64> {
        self.cells.iter().flatten().next().map(|cell| cell.created_revision)
    }
}

/// The most names of peers that are remembered: twice as many as a mesh has.
const NAMES_MAX: usize = 20_000;

/// The map at one revision.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    epoch: u64,
    revision: u64,
    tables: OrdMap<Arc<str>, Table>,
    /// Names of peers, each once.
    peers: OrdMap<Arc<str>, Arc<str>>,
    refused_older: u64,
}

impl View {
    /// As an earlier process left it.
    pub(super) fn restored(epoch: u64, revision: u64) -> Self {
        Self {
            epoch,
            revision,
            ..Self::default()
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn refused_older(&self) -> u64 {
        self.refused_older
    }

    pub(super) fn locate(&self, namespace: &str, key: &[u8]) -> Result<Located, Miss> {
        let table = self.tables.get(namespace).ok_or(Miss::Namespace)?;
        let count = table.count.ok_or(Miss::Count)?;
        if count.shards == 0 {
            return Err(Miss::Count);
        }
        self.at(table, shard_of(key, count.shards))
    }

    pub(super) fn shard(&self, namespace: &str, shard: u32) -> Result<Located, Miss> {
        let table = self.tables.get(namespace).ok_or(Miss::Namespace)?;
        self.at(table, shard)
    }

    fn at(&self, table: &Table, shard: u32) -> Result<Located, Miss> {
        let cell = table.cells.get(shard as usize).and_then(Option::as_ref);
        let cell = cell.ok_or(Miss::Shard(shard))?;
        let token = self.token(cell);
        if token == cell.token {
            return Ok(Located(Arc::clone(cell)));
        }
        let cell = Cell::clone(cell);
        Ok(Located(Arc::new(Cell { token, ..cell })))
    }

    /// A shard's token. Where the mesh has come to a later epoch since the shard changed last, its token has too.
    pub(super) fn token(&self, cell: &Cell) -> Token {
        Token {
            mesh_epoch: cell.token.mesh_epoch.max(self.epoch),
            ..cell.token
        }
    }

    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        let cells = self.tables.values().flat_map(|table| table.cells.iter().flatten());
        cells.map(Arc::clone).collect()
    }

    /// The namespaces that have shards, and of which it is not known how many they should have.
    pub(super) fn uncounted(&self) -> Vec<Arc<str>> {
        let uncounted = self.tables.iter().filter(|(_, table)| table.count.is_none());
        uncounted.map(|(namespace, _)| Arc::clone(namespace)).collect()
    }

    pub(super) fn counts(&self) -> Vec<(Arc<str>, Count)> {
        let counted = self
            .tables
            .iter()
            .filter_map(|(id, table)| Some((Arc::clone(id), table.count?)));
        counted.collect()
    }

    /// The mesh is at this epoch.
    pub(super) fn reach_epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Where the first shard of a namespace was made; none where it is not here. It tells namespaces of one name apart.
    pub(super) fn made_at(&self, namespace: &str) -> Option<u64> {
        self.tables.get(namespace)?.made_at()
    }

    /// A namespace has this many shards. Not taken where it is another of the same name: one that is gone, or one whose
    /// shards are not here yet. It is asked for again then.
    pub(super) fn learn(&mut self, namespace: &str, count: Count) {
        if let Some(table) = self.tables.get_mut(namespace) {
            let its_own = table
                .cells
                .iter()
                .flatten()
                .all(|cell| cell.created_revision >= count.created);
            let fits = table.cells.len() <= count.shards as usize;
            if its_own && fits && count.created > table.taken_away {
                table.count = Some(count);
            }
        }
    }

    /// Takes it that every namespace has the shards that are here, and no others.
    pub(super) fn count_as_they_are(&mut self) {
        let namespaces: Vec<_> = self.tables.keys().cloned().collect();
        for namespace in namespaces {
            if let Some(table) = self.tables.get_mut(&namespace) {
                let shards = u32::try_from(table.cells.len()).unwrap_or(u32::MAX);
                table.count = Some(Count { shards, created: 0 });
            }
        }
    }

    /// Takes a step, whole. Whatever is older than what is here stays out.
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Reached { revision } => self.revision = self.revision.max(revision),
            Update::Revision { revision, changes } => {
                for change in changes {
                    match change {
                        Change::Is(shard) => self.put(shard),
                        Change::Gone { namespace, shard } => self.drop(&namespace, shard, revision),
                    }
                }
                self.revision = self.revision.max(revision);
            }
            Update::Whole { revision, shards } => {
                let before = std::mem::take(&mut self.tables);
                self.peers.clear();
                for shard in shards {
                    let held = before.get(shard.namespace.as_str());
                    let held = held.and_then(|table| table.cells.get(shard.shard as usize)?.clone());
                    match held.filter(|held| is_older(&shard, held, self.epoch)) {
                        Some(held) => {
                            self.refused_older += 1;
                            self.put_cell(held);
                        }
                        None => self.put(shard),
                    }
                }
                for (namespace, old) in before {
                    // It may be another of that name, and not the one that was counted.
                    let same = self.made_at(&namespace) == old.made_at();
                    if let Some(count) = old.count.filter(|_| same) {
                        self.learn(&namespace, count);
                    }
                }
                // Whatever epoch it is of, this is what there is.
                self.revision = revision;
            }
        }
    }

    pub(super) fn put(&mut self, shard: v1::Shard) {
        let table = self.tables.get(shard.namespace.as_str());
        let held = table.and_then(|table| table.cells.get(shard.shard as usize)?.as_ref());
        let of_before = Token::from(shard.token).mesh_epoch < self.epoch;
        if of_before || held.is_some_and(|held| is_older(&shard, held, self.epoch)) {
            self.refused_older += 1;
            return;
        }
        let status = shard.status();
        let token = Token::from(shard.token);
        self.epoch = self.epoch.max(token.mesh_epoch);
        let owner = (!shard.owner.is_empty()).then(|| self.name(&shard.owner));
        let replicas = shard.replicas.iter().map(|peer| self.name(peer)).collect();
        let namespace = match self.tables.get_key_value(shard.namespace.as_str()) {
            Some((namespace, _)) => Arc::clone(namespace),
            None => Arc::from(shard.namespace.as_str()),
        };
        self.put_cell(Arc::new(Cell {
            namespace,
            shard: shard.shard,
            owner,
            replicas,
            status,
            token,
            created_revision: shard.created_revision,
            changed_revision: shard.changed_revision,
        }));
    }

    fn put_cell(&mut self, cell: Arc<Cell>) {
        let index = cell.shard as usize;
        let table = self.tables.entry(Arc::clone(&cell.namespace)).or_default();
        while table.cells.len() <= index {
            table.cells.push_back(None);
        }
        if table
            .count
            .is_some_and(|count| cell.created_revision < count.created || cell.shard >= count.shards)
        {
            table.count = None;
        }
        table.cells.set(index, Some(cell));
    }

    fn drop(&mut self, namespace: &str, shard: u32, revision: u64) {
        let Some(table) = self.tables.get_mut(namespace) else {
            return;
        };
        // Only a namespace that is being deleted loses shards: how many there are is not known any more.
        table.count = None;
        table.taken_away = table.taken_away.max(revision);
        let index = shard as usize;
        if index < table.cells.len() {
            table.cells.set(index, None);
        }
        while table.cells.last().is_some_and(Option::is_none) {
            table.cells.pop_back();
        }
        if table.cells.is_empty() {
            self.tables.remove(namespace);
        }
    }

    /// A peer's name, of which there is one copy.
    fn name(&mut self, peer: &str) -> Arc<str> {
        if let Some(known) = self.peers.get(peer) {
            return Arc::clone(known);
        }
        // Peers come and go, and nobody says when a name is of no use any more. Whoever holds one keeps it.
        if self.peers.len() >= NAMES_MAX {
            self.peers.clear();
        }
        let name: Arc<str> = Arc::from(peer);
        self.peers.insert(Arc::clone(&name), Arc::clone(&name));
        name
    }
}

/// Whether a record is of before the one that is held, in a mesh that is known to be at `epoch`. A shard that was made later is
/// another one, whatever its epoch.
fn is_older(shard: &v1::Shard, held: &Cell, epoch: u64) -> bool {
    let token = Token::from(shard.token);
    let held_token = Token {
        mesh_epoch: held.token.mesh_epoch.max(epoch),
        ..held.token
    };
    match shard.created_revision.cmp(&held.created_revision) {
        Ordering::Greater => token.mesh_epoch < epoch,
        Ordering::Less => token.mesh_epoch <= held_token.mesh_epoch,
        Ordering::Equal => {
            token < held_token || (token == held_token && shard.changed_revision < held.changed_revision)
        }
    }
}

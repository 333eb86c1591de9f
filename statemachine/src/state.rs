//! What the nodes of a cluster agree on, in persistent maps: a clone costs a few reference counts.

mod approvals;
mod by_peer;
mod load;
mod scrub;
mod shards;
mod write;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};

pub use self::load::{LoadError, Loader};
pub use self::scrub::{Mismatch, Tally};
use self::{approvals::Approvals, shards::Shards};
use crate::{
    ClusterId, ClusterState, Epoch, Hash, OperationId, PeerId, Position, Record, Revision, Stamp, Unit,
    codec::{self, Format},
    digest::Digest,
    idempotency,
    record::{
        Certificate, Checkpoint, Cluster, Config, Kind, Mesh, Meta, Operation, OperationState, Peer, PeerStatus,
        Session, Settings, ShardId,
    },
    rows::HeadRow,
};

/// How many `(revision, digest)` pairs are kept to be compared between replicas. More than the proposals that may be on
/// their way at once, so that what a leader signs can still be checked when the signature arrives.
pub const RECENT_MAX: usize = 16_384;

/// Everything that a cluster's log decides.
#[derive(Debug, Default, Clone)]
pub struct State {
    /// What is the same in every cluster of the mesh.
    pub mesh: MeshState,
    /// What belongs to this cluster alone.
    pub cluster: ClusterState,
}

/// A record with the hash of its row, so that it can be taken out of the digest without being encoded again.
#[derive(Debug, Clone)]
struct Row<T> {
    record: Arc<T>,
    hash: Hash,
}

/// Chain and digest after a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// The revision.
    pub revision: Revision,
    /// The audit chain's hash after it.
    pub chain: Hash,
    /// The digest after it.
    pub digest: Hash,
}

/// What is the same in every cluster of the mesh.
#[derive(Debug, Default, Clone)]
pub struct MeshState {
    mesh: Option<Row<Mesh>>,
    config: Option<Row<Config>>,
    // What the config record comes to.
    settings: Arc<Settings>,
    clusters: OrdMap<ClusterId, Row<Cluster>>,
    certificates: OrdMap<Hash, Row<Certificate>>,
    peers: OrdMap<PeerId, Row<Peer>>,
    operations: OrdMap<OperationId, Row<Operation>>,
    running: OrdSet<OperationId>,
    approvals: Approvals,
    sessions: OrdMap<Hash, Row<Session>>,
    shards: Shards,
    checkpoints: OrdMap<Revision, Row<Checkpoint>>,
    pub(crate) idempotency: idempotency::Table,
    pub(crate) position: Position,
    pub(crate) stamp: Stamp,
    pub(crate) chain: Hash,
    vector: OrdMap<ClusterId, (Epoch, u64)>,
    digest: Digest,
    recent: Vector<Recent>,
}

/// How many peers there are of each status.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PeersByStatus {
    /// Take new work.
    pub active: u32,
    /// Keep what they have.
    pub cordoned: u32,
    /// Being emptied.
    pub draining: u32,
    /// Empty.
    pub drained: u32,
}

impl State {
    /// The head row: everything that is in no other row. Written with every batch of rows.
    #[must_use]
    pub fn head_row(&self) -> Vec<u8> {
        let head = HeadRow {
            position: self.mesh.position,
            stamp: self.mesh.stamp,
            chain: self.mesh.chain,
            digest: self.mesh.digest(),
            vector: self
                .mesh
                .vector
                .iter()
                .map(|(id, (epoch, seq))| (id.clone(), *epoch, *seq))
                .collect(),
            cluster_chain: self.cluster.chain,
            cluster_sequence: self.cluster.sequence,
        };
        codec::encode(Format::Head, &head)
    }
}

impl MeshState {
    /// The record of the mesh itself; absent before `InitMesh`.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref().map(|row| &*row.record)
    }

    /// The settings in force; the defaults before `InitMesh`.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The record of settings; absent before `InitMesh`.
    #[must_use]
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref().map(|row| &*row.record)
    }

    /// The oldest revision whose history is kept.
    #[must_use]
    pub fn floor(&self) -> Revision {
        self.mesh().map_or(Revision(1), |mesh| mesh.floor)
    }

    /// The level of behaviour that is in force; 1 before `InitMesh`.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.mesh().map_or(1, |mesh| mesh.feature_level)
    }

    /// A cluster's descriptor.
    #[must_use]
    pub fn cluster(&self, id: &ClusterId) -> Option<&Cluster> {
        self.clusters.get(id).map(|row| &*row.record)
    }

    /// Descriptors in order of id, from the one after `after`.
    pub fn clusters_after(&self, after: Option<&ClusterId>) -> impl Iterator<Item = &Arc<Cluster>> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.clusters
            .range((from, Bound::Unbounded))
            .map(|(_, row)| &row.record)
    }

    /// How many clusters there are.
    #[must_use]
    pub fn cluster_count(&self) -> u64 {
        self.clusters.len() as u64
    }

    /// A certificate that signed points of the audit chain.
    #[must_use]
    pub fn certificate(&self, id: Hash) -> Option<&Certificate> {
        self.certificates.get(&id).map(|row| &*row.record)
    }

    /// A session of a browser, ended ones included for a while.
    #[must_use]
    pub fn session(&self, id: Hash) -> Option<&Session> {
        self.sessions.get(&id).map(|row| &*row.record)
    }

    /// All sessions of browsers, in order of id.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values().map(|row| &*row.record)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// Signed points of the audit chain below a revision, oldest first.
    pub fn checkpoints_below(&self, below: Revision) -> impl DoubleEndedIterator<Item = &Checkpoint> {
        self.checkpoints.range(..below).map(|(_, row)| &*row.record)
    }

    /// The position of the last command.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The mesh's fencing number.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.mesh().map_or(Epoch(0), Mesh::epoch)
    }

    /// The clocks of the last command.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The audit chain's hash after the last command.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.chain
    }

    /// The audit chain's hash after a revision, where it is among the last [`RECENT_MAX`].
    #[must_use]
    pub fn chain_at(&self, revision: Revision) -> Option<Hash> {
        self.recent_at(revision).map(|recent| recent.chain)
    }

    /// Chain and digest after a revision, where it is among the last [`RECENT_MAX`] and not below the floor: what is below
    /// is still in the memory of some nodes and gone from others, and must not decide anything.
    #[must_use]
    pub fn recent_at(&self, revision: Revision) -> Option<Recent> {
        if revision < self.floor() {
            return None;
        }
        let first = self.recent.front()?.revision;
        let at = usize::try_from(revision.0.checked_sub(first.0)?).ok()?;
        self.recent
            .get(at)
            .filter(|recent| recent.revision == revision)
            .copied()
    }

    /// The digest of everything that is the same in every cluster.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.digest.finish(self.position, self.chain)
    }

    /// What each cluster originated, as far as this state contains it: the epoch and the sequence of the last.
    pub fn version_vector(&self) -> impl Iterator<Item = (&ClusterId, Epoch, u64)> {
        self.vector
            .iter()
            .map(|(cluster, (epoch, sequence))| (cluster, *epoch, *sequence))
    }

    /// A peer.
    #[must_use]
    pub fn peer(&self, id: &PeerId) -> Option<&Peer> {
        self.peers.get(id).map(|row| &*row.record)
    }

    /// Peers in order of id, from the one after `after`.
    pub fn peers_after(&self, after: Option<&PeerId>) -> impl Iterator<Item = &Arc<Peer>> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.peers.range((from, Bound::Unbounded)).map(|(_, row)| &row.record)
    }

    /// How many peers there are.
    #[must_use]
    pub fn peer_count(&self) -> u64 {
        self.peers.len() as u64
    }

    /// How many peers there are of each status. Walks all of them.
    #[must_use]
    pub fn peers_by_status(&self) -> PeersByStatus {
        let mut counts = PeersByStatus::default();
        for (_, row) in &self.peers {
            match row.record.status {
                PeerStatus::Active => counts.active += 1,
                PeerStatus::Cordoned => counts.cordoned += 1,
                PeerStatus::Draining => counts.draining += 1,
                PeerStatus::Drained => counts.drained += 1,
            }
        }
        counts
    }

    /// An operation.
    #[must_use]
    pub fn operation(&self, id: &OperationId) -> Option<&Operation> {
        self.operations.get(id).map(|row| &*row.record)
    }

    /// Operations, newest first, from the one before `before`. Ids sort by the revision that made them.
    pub fn operations_before(&self, before: Option<&OperationId>) -> impl Iterator<Item = &Arc<Operation>> {
        use std::ops::Bound;
        let to = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.operations
            .range((Bound::Unbounded, to))
            .rev()
            .map(|(_, row)| &row.record)
    }

    /// Operations that run, oldest first.
    pub fn running(&self) -> impl Iterator<Item = &Operation> {
        self.running.iter().filter_map(|id| self.operation(id))
    }

    /// How many operations there are, ended ones included.
    #[must_use]
    pub fn operation_count(&self) -> u64 {
        self.operations.len() as u64
    }

    /// Operations that have ended, oldest first.
    pub fn ended(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .iter()
            .map(|(_, row)| &*row.record)
            .filter(|operation| !self.running.contains(&operation.id))
    }

    /// How many operations run.
    #[must_use]
    pub fn operations_running(&self) -> u64 {
        self.running.len() as u64
    }

    /// Signed points of the audit chain, in order, from the one after `after`.
    pub fn checkpoints_after(&self, after: Revision) -> impl Iterator<Item = &Arc<Checkpoint>> {
        self.checkpoints.range(after.next()..).map(|(_, row)| &row.record)
    }

    /// How many signed points of the audit chain are kept.
    #[must_use]
    pub fn checkpoint_count(&self) -> u64 {
        self.checkpoints.len() as u64
    }

    /// The last signed point of the audit chain.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoints.get_max().map(|(_, row)| &*row.record)
    }

    /// How many idempotency keys are remembered.
    #[must_use]
    pub fn idempotency_keys(&self) -> usize {
        self.idempotency.len()
    }

    /// What a record carries about its changes.
    #[must_use]
    pub fn meta(&self, kind: Kind, id: &str) -> Option<Meta> {
        self.record(kind, id).map(|record| *record.meta())
    }

    /// A record of any kind.
    #[must_use]
    pub fn record(&self, kind: Kind, id: &str) -> Option<Record> {
        match kind {
            Kind::Mesh => {
                let row = self.mesh.as_ref().filter(|row| row.record.id.as_str() == id)?;
                Some(Record::Mesh(row.record.clone()))
            }
            Kind::Peer => self.peers.get(id).map(|row| Record::Peer(row.record.clone())),
            Kind::Operation => self.operations.get(id).map(|row| Record::Operation(row.record.clone())),
            Kind::Checkpoint => {
                let revision = Revision(id.parse().ok()?);
                self.checkpoints
                    .get(&revision)
                    .map(|row| Record::Checkpoint(row.record.clone()))
            }
            Kind::Cluster => self.clusters.get(id).map(|row| Record::Cluster(row.record.clone())),
            Kind::Config => {
                let row = self.config.as_ref().filter(|_| id == Config::ID)?;
                Some(Record::Config(row.record.clone()))
            }
            Kind::Certificate => self
                .certificates
                .get(&Hash::parse(id)?)
                .map(|row| Record::Certificate(row.record.clone())),
            Kind::Approval => self
                .approvals
                .all
                .get(id)
                .map(|row| Record::Approval(row.record.clone())),
            Kind::Session => self
                .sessions
                .get(&Hash::parse(id)?)
                .map(|row| Record::Session(row.record.clone())),
            Kind::Namespace => {
                let row = self.shards.namespaces.get(id);
                row.map(|row| Record::Namespace(row.record.clone()))
            }
            Kind::Shard => {
                let row = self.shards.all.get(&id.parse::<ShardId>().ok()?);
                row.map(|row| Record::Shard(row.record.clone()))
            }
        }
    }

    /// Takes back what a unit did to the records, to look at the state as it was before. Only records and position go
    /// back; digest, chain and idempotency keys stay, so the result is for reading.
    pub fn revert(&mut self, unit: &Unit) {
        for change in unit.changes() {
            match (&change.before, &change.after) {
                // The result is for reading: no row hash is kept.
                (Some(before), _) => drop(self.insert(before.clone(), Hash::default())),
                (None, Some(after)) => drop(self.delete(after.kind(), &after.id())),
                (None, None) => {}
            }
        }
        self.position = unit.parent;
    }

    fn delete(&mut self, kind: Kind, id: &str) -> Option<Hash> {
        match kind {
            Kind::Mesh => self.mesh.take().map(|row| row.hash),
            Kind::Peer => self.peers.remove(id).map(|row| row.hash),
            Kind::Operation => {
                self.running.remove(id);
                self.operations.remove(id).map(|row| row.hash)
            }
            Kind::Checkpoint => {
                let revision = Revision(id.parse().ok()?);
                self.checkpoints.remove(&revision).map(|row| row.hash)
            }
            Kind::Cluster => self.clusters.remove(id).map(|row| row.hash),
            Kind::Config => {
                self.settings = Arc::default();
                self.config.take().map(|row| row.hash)
            }
            Kind::Certificate => self.certificates.remove(&Hash::parse(id)?).map(|row| row.hash),
            Kind::Approval => self.approvals.remove(id),
            Kind::Session => self.sessions.remove(&Hash::parse(id)?).map(|row| row.hash),
            Kind::Namespace => self.shards.namespaces.remove(id).map(|row| row.hash),
            Kind::Shard => self.shards.remove(&id.parse().ok()?),
        }
    }

    /// Puts a record into its map; answers the hash of the row that it replaces.
    fn insert(&mut self, record: Record, hash: Hash) -> Option<Hash> {
        match record {
            Record::Mesh(record) => self.mesh.replace(Row { record, hash }).map(|row| row.hash),
            Record::Peer(record) => self
                .peers
                .insert(record.id.clone(), Row { record, hash })
                .map(|row| row.hash),
            Record::Operation(record) => {
                match record.state {
                    OperationState::Running => self.running.insert(record.id.clone()),
                    OperationState::Succeeded | OperationState::Cancelled | OperationState::Failed => {
                        self.running.remove(&record.id)
                    }
                };
                self.operations
                    .insert(record.id.clone(), Row { record, hash })
                    .map(|row| row.hash)
            }
            Record::Checkpoint(record) => self
                .checkpoints
                .insert(record.revision, Row { record, hash })
                .map(|row| row.hash),
            Record::Cluster(record) => self
                .clusters
                .insert(record.id.clone(), Row { record, hash })
                .map(|row| row.hash),
            Record::Config(record) => {
                self.settings = record.settings();
                self.config.replace(Row { record, hash }).map(|row| row.hash)
            }
            Record::Certificate(record) => self
                .certificates
                .insert(record.id, Row { record, hash })
                .map(|row| row.hash),
            Record::Approval(record) => self.approvals.insert(record, hash),
            Record::Session(record) => self
                .sessions
                .insert(record.id, Row { record, hash })
                .map(|row| row.hash),
            Record::Namespace(record) => {
                let namespaces = &mut self.shards.namespaces;
                namespaces
                    .insert(record.id.clone(), Row { record, hash })
                    .map(|row| row.hash)
            }
            Record::Shard(record) => self.shards.insert(record, hash),
        }
    }
}

//! The state, counted again while it is in use: the rows on disk without taking them into memory, and the records in
//! memory without looking at the disk. Either finds a bit that has changed on its own.

use std::sync::Arc;

use imbl::OrdSet;

use super::{MeshState, Row};
use crate::{
    ClusterState, Hash, Record, Recorded, Revision, audit,
    codec::{self, Format},
    digest::{Digest, row_hash},
    record::OperationState,
    rows::{self, HeadRow, Table},
};

/// What does not add up, in one line that names the table and, where it is known, the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// Adds stored rows up. Tables in any order, each in order of key; all of them as they were at one instant.
#[derive(Debug, Default)]
pub struct Tally {
    digest: Digest,
    cluster: ClusterState,
    replayed: ClusterState,
    newest: Option<(Revision, Hash, Hash)>,
}

impl Tally {
    /// Counts one row.
    ///
    /// # Errors
    /// It does not decode, or does not follow the one before.
    pub fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Mismatch> {
        let damaged = |error: codec::Error| Mismatch(format!("table {table:?}, row {}: {error}", hex(key)));
        match table {
            Table::Records => self.digest.add(row_hash(key, value)),
            Table::History => {
                let recorded = Recorded::decode(value).map_err(damaged)?;
                self.follow(&recorded)?;
            }
            Table::Index => {}
            Table::Cluster => self.cluster.load(value, &mut self.replayed).map_err(damaged)?,
        }
        Ok(())
    }

    fn follow(&mut self, recorded: &Recorded) -> Result<(), Mismatch> {
        let revision = recorded.unit.position.revision;
        let before = self.newest.map(|(before, ..)| before);
        if let Some(before) = before.filter(|before| before.next() != revision) {
            return Err(Mismatch(format!("table History: revision {revision} follows {before}")));
        }
        // The chain begins with zeros; what the oldest revision that is kept extends may be gone.
        let begins = (revision == Revision(1)).then(Hash::default);
        let chain = self.newest.map(|(_, chain, _)| chain).or(begins);
        if chain.is_some_and(|chain| recorded.chain != audit::extend(chain, &recorded.bytes)) {
            return Err(Mismatch(format!(
                "table History, revision {revision}: it does not extend the audit chain"
            )));
        }
        self.newest = Some((revision, recorded.chain, recorded.digest));
        Ok(())
    }

    /// Compares what was counted with the head row of the same instant, and the cluster's own partition in memory with
    /// its rows, if it has not gone on since. Answers the revision that was checked.
    ///
    /// # Errors
    /// The rows are not what the head row speaks of, or memory is not what the rows are.
    pub fn finish(mut self, head: &[u8], in_memory: &ClusterState) -> Result<Revision, Mismatch> {
        let head: HeadRow =
            codec::decode(Format::Head, head).map_err(|error| Mismatch(format!("the head row: {error}")))?;
        let computed = self.digest.finish(head.position, head.chain);
        if computed != head.digest {
            return Err(Mismatch(format!(
                "table Records adds up to {computed}, not {}, at revision {}",
                head.digest, head.position.revision
            )));
        }
        let newest = (head.position.revision, head.chain, head.digest);
        if head.position.revision.0 > 0 && self.newest != Some(newest) {
            return Err(Mismatch(format!(
                "table History does not end in revision {} as the head row has it",
                head.position.revision
            )));
        }
        (self.cluster.chain, self.cluster.sequence) = (head.cluster_chain, head.cluster_sequence);
        if !self.cluster.is_as_replayed(&self.replayed) {
            return Err(Mismatch("table Cluster does not match its audit chain".to_owned()));
        }
        if in_memory.sequence == self.cluster.sequence && !in_memory.is_as_replayed(&self.cluster) {
            return Err(Mismatch(
                "the cluster's own state in memory is not what table Cluster holds".to_owned(),
            ));
        }
        Ok(head.position.revision)
    }
}

impl MeshState {
    /// Encodes every record anew and compares it with the hash that was taken when it was put in, and all hashes with
    /// the digest. `pace` is told the bytes of every record and stops the check by answering false.
    ///
    /// # Errors
    /// A record in memory is not what was put there.
    pub fn recount(&self, pace: &mut dyn FnMut(usize) -> bool) -> Result<(), Mismatch> {
        let mut count = Recount {
            digest: Digest::default(),
            pace,
        };
        let records = self.mesh.iter().map(|row| row.shown(Record::Mesh));
        let records = records.chain(self.config.iter().map(|row| row.shown(Record::Config)));
        let records = records.chain(self.clusters.values().map(|row| row.shown(Record::Cluster)));
        let records = records.chain(self.certificates.values().map(|row| row.shown(Record::Certificate)));
        let records = records.chain(self.peers.values().map(|row| row.shown(Record::Peer)));
        let records = records.chain(self.operations.values().map(|row| row.shown(Record::Operation)));
        let records = records.chain(self.approvals.all.values().map(|row| row.shown(Record::Approval)));
        let records = records.chain(self.shards.namespaces.values().map(|row| row.shown(Record::Namespace)));
        let records = records.chain(self.shards.all.values().map(|row| row.shown(Record::Shard)));
        let records = records.chain(self.sessions.values().map(|row| row.shown(Record::Session)));
        let mut records = records.chain(self.checkpoints.values().map(|row| row.shown(Record::Checkpoint)));
        let go_on = records.try_fold(true, |go_on, (record, hash)| {
            let (kind, id) = (record.kind(), record.id());
            let go_on = go_on && count.add(&rows::record_key(kind, &id), &record.encode(), hash)?;
            // What it is looked up by may have changed although the record has not.
            if self.record(kind, &id).is_none_or(|found| found != record) {
                return Err(Mismatch(format!("{kind:?} {id} is in memory, and is not found there")));
            }
            Ok(go_on)
        })?;
        if !go_on || !self.idempotency.rows(|key, value| count.add_unnamed(key, value)) {
            return Ok(());
        }
        if count.digest != self.digest {
            return Err(Mismatch("the records in memory do not add up to the digest".to_owned()));
        }
        self.derived_follow()
    }

    /// What is kept beside the records is what follows from them.
    fn derived_follow(&self) -> Result<(), Mismatch> {
        let settings = self
            .config
            .as_ref()
            .map(|row| row.record.settings())
            .unwrap_or_default();
        let running = self.operations.values().map(|row| &row.record);
        let running = running.filter(|operation| operation.state == OperationState::Running);
        let running: OrdSet<_> = running.map(|operation| operation.id.clone()).collect();
        let newest = (self.position.revision, self.chain, self.digest());
        let recent = self.recent.back();
        let recent = recent.is_none_or(|recent| (recent.revision, recent.chain, recent.digest) == newest);
        for (follows, what) in [
            (self.settings == settings, "the settings"),
            (self.running == running, "the list of running operations"),
            (self.approvals.follow(), "the list of requests that wait for approval"),
            (self.shards.follow(), "a list of shards"),
            (recent, "position, chain or digest"),
        ] {
            if !follows {
                return Err(Mismatch(format!("{what} in memory changed on its own")));
            }
        }
        Ok(())
    }
}

struct Recount<'a> {
    digest: Digest,
    pace: &'a mut dyn FnMut(usize) -> bool,
}

impl Recount<'_> {
    fn add(&mut self, key: &[u8], value: &[u8], hash: Hash) -> Result<bool, Mismatch> {
        if row_hash(key, value) != hash {
            return Err(Mismatch(format!(
                "the record of row {} in memory has changed on its own",
                hex(key)
            )));
        }
        self.digest.add(hash);
        Ok((self.pace)(key.len() + value.len()))
    }

    /// Counts a row of which no hash is kept: a change shows in the sum alone.
    fn add_unnamed(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.digest.add(row_hash(key, value));
        (self.pace)(key.len() + value.len())
    }
}

impl<T> Row<T> {
    fn shown(&self, record: fn(Arc<T>) -> Record) -> (Record, Hash) {
        (record(self.record.clone()), self.hash)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClusterId, Conditions, Entry, Idempotency, InitMesh, MeshId, Origin, PeerId, RegisterPeer, Request, Stamp,
        State, TimelineId, apply,
        record::{Overrides, PeerSpec},
        rows::RowChange,
    };

    fn applied() -> (State, Vec<RowChange>) {
        let cluster = ClusterId::new("c1").unwrap();
        let init = InitMesh {
            mesh: MeshId::new("m1").unwrap(),
            cluster: cluster.clone(),
            timeline: TimelineId(7),
            settings: Overrides::new(),
            feature_level: crate::FEATURE_LEVEL,
        };
        let spec = PeerSpec {
            cluster,
            role: "worker".into(),
            region: "eu".into(),
            zone: "a".into(),
            endpoints: vec!["127.0.0.1:9000".into()],
            labels: Default::default(),
            metadata: Default::default(),
            weight: 100,
        };
        let id = PeerId::new("p1").unwrap();
        let (mut state, mut rows) = (State::default(), Vec::new());
        for command in [init.into(), RegisterPeer { id, spec }.into()] {
            let request = Request {
                origin: Origin {
                    actor: "alice".into(),
                    idempotency: Some(Idempotency {
                        key: format!("key-{}", rows.len()),
                        request: Hash([3; 32]),
                    }),
                    ..Origin::default()
                },
                conditions: Conditions::default(),
                command,
            };
            let stamp = Stamp {
                mesh_time_ms: 1_000,
                wall_ms: 1_000,
            };
            rows.extend(apply(&mut state, &Entry::Command(Box::new(request.stamp(stamp)))).rows);
        }
        (state, rows)
    }

    fn tally(rows: &[RowChange], state: &State) -> Result<Revision, Mismatch> {
        let mut tally = Tally::default();
        let mut last = std::collections::BTreeMap::new();
        for row in rows {
            last.insert((row.table, row.key.clone()), row.value.clone());
        }
        for ((table, key), value) in last {
            if let Some(value) = value {
                tally.row(table, &key, &value)?;
            }
        }
        tally.finish(&state.head_row(), &state.cluster)
    }

    #[test]
    fn whole_rows_and_records_add_up() {
        let (state, rows) = applied();
        assert_eq!(tally(&rows, &state), Ok(Revision(2)));
        let mut bytes = 0;
        state
            .mesh
            .recount(&mut |more| {
                bytes += more;
                true
            })
            .unwrap();
        assert!(bytes > 200, "only {bytes} bytes were looked at");
    }

    #[test]
    fn every_flipped_row_is_found() {
        let (state, rows) = applied();
        let counted = rows.iter().enumerate().filter(|(_, row)| row.table != Table::Index);
        for (at, row) in counted {
            let overwritten = rows[at + 1..]
                .iter()
                .any(|later| (later.table, &later.key) == (row.table, &row.key));
            let Some(length) = row.value.as_ref().map(Vec::len) else {
                continue;
            };
            for byte in [0, length / 2, length - 1] {
                let mut flipped = rows.clone();
                if let Some(value) = &mut flipped[at].value {
                    value[byte] ^= 1;
                }
                assert_eq!(tally(&flipped, &state).is_ok(), overwritten, "row {at}, byte {byte}");
            }
        }
    }

    #[test]
    fn a_record_that_changes_in_memory_is_found() {
        let (mut state, _) = applied();
        let id = PeerId::new("p1").unwrap();
        let row = state.mesh.peers.get_mut(&id).unwrap();
        Arc::make_mut(&mut row.record).spec.weight ^= 4;
        let found = state.mesh.recount(&mut |_| true).unwrap_err();
        assert!(found.0.contains("changed on its own"), "{found}");

        let (mut state, _) = applied();
        state.mesh.peers.remove(&id);
        let found = state.mesh.recount(&mut |_| true).unwrap_err();
        assert!(found.0.contains("do not add up"), "{found}");
    }
    #[test]
    fn what_is_kept_beside_the_records_is_looked_at_too() {
        let whole = |state: &State| state.mesh.recount(&mut |_| true);
        let (state, rows) = applied();
        whole(&state).unwrap();

        let mut moved = state.clone();
        let row = moved.mesh.peers.remove("p1").unwrap();
        moved.mesh.peers.insert(PeerId::new("p3").unwrap(), row);
        let found = whole(&moved).unwrap_err();
        assert!(found.0.contains("not found"), "{found}");

        let mut moved = state.clone();
        moved.mesh.position.revision = Revision(3);
        whole(&moved).unwrap_err();
        let mut moved = state.clone();
        moved.mesh.chain.0[7] ^= 1;
        whole(&moved).unwrap_err();
        let mut moved = state.clone();
        moved.mesh.running.insert(crate::OperationId::new("op-9").unwrap());
        whole(&moved).unwrap_err();

        // The cluster's own partition has no digest: its rows are what it is compared with, if it stands where they do.
        let mut moved = state.clone();
        moved.cluster.removed.insert(crate::NodeId(4));
        assert!(tally(&rows, &moved).unwrap_err().0.contains("in memory"));
        moved.cluster.sequence += 1;
        let mut counted = Tally::default();
        for row in rows
            .iter()
            .filter_map(|row| Some((row.table, &row.key, row.value.as_ref()?)))
        {
            counted.row(row.0, row.1, row.2).unwrap();
        }
        assert_eq!(counted.finish(&state.head_row(), &moved.cluster), Ok(Revision(2)));
    }
}

//! How a unit becomes part of the state. The same for a command's own unit and for one from another cluster.

use super::{MeshState, RECENT_MAX, Recent};
use crate::{
    Change, Hash, Outcome, Recorded, Rejection, Unit, audit,
    digest::row_hash,
    idempotency::{RowUpdate, Verdict},
    record::Record,
    rows::{self, RowChange, Table},
};

impl MeshState {
    /// Takes a unit in: records, idempotency, chain, version vector, digest. Its position has been checked.
    pub(crate) fn commit(&mut self, unit: Unit, bytes: Vec<u8>, rows: &mut Vec<RowChange>) -> Recorded {
        self.remember(&unit, rows);
        for change in unit.changes() {
            self.change(change, &unit, rows);
        }
        self.position = unit.position;
        self.stamp = unit.stamp;
        self.chain = audit::extend(self.chain, &bytes);
        self.count();
        let digest = self.digest();
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            revision: unit.position.revision,
            chain: self.chain,
            digest,
        });
        let recorded = Recorded {
            unit,
            bytes: bytes.into(),
            chain: self.chain,
            digest,
        };
        let key = rows::history_key(recorded.unit.position.revision).to_vec();
        rows.push(RowChange {
            table: Table::History,
            key,
            value: Some(recorded.encode()),
        });
        recorded
    }

    /// Forgets old idempotency keys, and remembers this unit's.
    fn remember(&mut self, unit: &Unit, rows: &mut Vec<RowChange>) {
        let now_ms = unit.stamp.mesh_time_ms;
        let mut updates = self.idempotency.expire(now_ms);
        if let Some(given) = unit
            .origin
            .idempotency
            .as_ref()
            .filter(|_| is_remembered(&unit.outcome))
        {
            let actor = &unit.origin.actor;
            if let Verdict::New { expires_ms } = self.idempotency.judge(actor, given, now_ms, self.settings()) {
                updates.extend(
                    self.idempotency
                        .insert(actor, given, unit.position.revision, expires_ms),
                );
            }
        }
        for RowUpdate { key, value, hash } in updates {
            match value {
                Some(_) => self.digest.add(hash),
                None => self.digest.remove(hash),
            }
            rows.push(RowChange {
                table: Table::Records,
                key,
                value,
            });
        }
    }

    fn change(&mut self, change: &Change, unit: &Unit, rows: &mut Vec<RowChange>) {
        let Some((kind, id)) = change.key() else { return };
        let key = rows::record_key(kind, &id);
        let (replaced, value) = match &change.after {
            Some(after) => {
                let value = after.encode();
                let hash = row_hash(&key, &value);
                self.digest.add(hash);
                (self.insert(after.clone(), hash), Some(value))
            }
            None => (self.delete(kind, &id), None),
        };
        if let Some(hash) = replaced {
            self.digest.remove(hash);
        }
        let index = rows::index_key(kind, &id, unit.position.revision);
        rows.push(RowChange {
            table: Table::Index,
            key: index,
            value: Some(Vec::new()),
        });
        rows.push(RowChange {
            table: Table::Records,
            key,
            value,
        });
    }

    /// Counts the unit as originated by the cluster that is active on its timeline.
    fn count(&mut self) {
        let Some(timeline) = self.mesh().and_then(|mesh| mesh.timeline()) else {
            return;
        };
        let (cluster, epoch) = (timeline.cluster.clone(), timeline.epoch);
        self.vector.insert(cluster, (epoch, self.position.revision.0));
    }

    /// Takes a stored record back in, at start.
    pub(super) fn load_record(&mut self, record: Record, hash: Hash) {
        self.digest.add(hash);
        self.insert(record, hash);
    }

    /// Counts a stored idempotency row in the digest, at start.
    pub(super) fn load_hash(&mut self, hash: Hash) {
        self.digest.add(hash);
    }
}

/// Whether a retry of this shall be answered the same.
fn is_remembered(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Applied { .. } | Outcome::Staged { .. } => true,
        Outcome::Rejected(Rejection::IdempotencyKeyReused { .. } | Rejection::IdempotencyKeyExpired { .. }) => false,
        Outcome::Rejected(rejection) => !rejection.is_retryable(),
        Outcome::Replayed { .. } => false,
    }
}

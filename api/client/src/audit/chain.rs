//! The hash chain, link by link.

use proto::v1::AuditRecord;
use statemachine::{Hash, Position, Unit, audit};

use super::shown;

/// The chain as far as it was seen.
#[derive(Default)]
pub(super) struct Chain {
    first: u64,
    records: u64,
    last: Option<(Position, Hash)>,
}

/// What one record added.
pub(super) struct Link {
    /// The chain's hash after it, hex.
    pub hash: String,
    /// The leader's wall clock when it was proposed, ms since 1970.
    pub wall_ms: u64,
}

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn len(&self) -> u64 {
        self.records
    }

    pub(super) fn first_revision(&self) -> u64 {
        self.first
    }

    pub(super) fn last_revision(&self) -> u64 {
        self.last.map_or(0, |(position, _)| position.revision.0)
    }

    /// Hex; 64 zeros before the first record.
    pub(super) fn head(&self) -> String {
        self.last.map_or(Hash([0; 32]), |(_, hash)| hash).to_string()
    }

    /// Checks that `record` is what follows, and takes it in. The error says what is wrong.
    pub(super) fn extend(&mut self, record: &AuditRecord) -> Result<Link, String> {
        let unit =
            Unit::decode(&record.canonical).map_err(|error| format!("its canonical bytes do not decode: {error}"))?;
        let previous = Hash::parse(&record.previous_hash).ok_or("its `previousHash` is not a hash")?;
        self.follows(&unit, record, previous)?;
        if let Some(field) = shown::difference(&unit, record) {
            return Err(format!("its `{field}` is not what its canonical bytes say"));
        }
        let hash = audit::extend(previous, &record.canonical);
        if hash.to_string() != record.hash {
            return Err(format!("its bytes hash to {hash}, it claims {}", record.hash));
        }
        if self.records == 0 {
            self.first = record.revision;
        }
        self.records += 1;
        self.last = Some((unit.position, hash));
        Ok(Link {
            hash: record.hash.clone(),
            wall_ms: unit.stamp.wall_ms,
        })
    }

    fn follows(&self, unit: &Unit, record: &AuditRecord, previous: Hash) -> Result<(), String> {
        match &self.last {
            Some((position, hash)) => {
                if record.revision != position.revision.0 + 1 {
                    return Err(format!(
                        "it follows revision {}: records are missing or out of order",
                        position.revision.0
                    ));
                }
                if unit.parent != *position {
                    return Err(format!("it names {} as what it follows, not {position}", unit.parent));
                }
                if previous != *hash {
                    return Err(format!(
                        "its `previousHash` is {previous}, the record before it has {hash}"
                    ));
                }
            }
            None if record.revision == 1 && previous != Hash([0; 32]) => {
                return Err("it is the first, but claims that something was before it".to_owned());
            }
            None => {}
        }
        Ok(())
    }
}

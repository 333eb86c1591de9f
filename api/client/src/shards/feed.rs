//! What the messages of a watch on shards come to, without IO.

use proto::v1::{self, audit_record::record, watch_message};

/// What became of one shard.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are of the large kind")]
pub enum Change {
    /// It is as this says.
    Is(v1::Shard),
    /// It is not selected any more, or not there any more.
    Gone {
        /// Its namespace.
        namespace: String,
        /// Its number.
        shard: u32,
    },
}

/// One step of what is known, to be taken whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// What there is, all of it: what was known before and is not in here is not there.
    Whole {
        /// As of this revision.
        revision: u64,
        /// The shards.
        shards: Vec<v1::Shard>,
    },
    /// Everything that one revision changed.
    Revision {
        /// Which.
        revision: u64,
        /// What it changed.
        changes: Vec<Change>,
    },
    /// Nothing up to here was left out.
    Reached {
        /// Up to where.
        revision: u64,
    },
}

/// What is known of a mesh as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Its id; empty before it was heard.
    pub mesh: String,
    /// Its epoch.
    pub epoch: u64,
}

/// The stream shows the mesh as it was before what is known already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Older(pub(crate) String);

/// Puts messages together, and refuses those that go back.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    known: Known,
    revision: u64,
    /// What has come of a snapshot that is not whole yet.
    pieces: Vec<v1::Shard>,
}

impl Feed {
    /// Goes on from what is known.
    pub(crate) fn from(known: Known, revision: u64) -> Self {
        Self {
            known,
            revision,
            pieces: Vec::new(),
        }
    }

    /// The mesh, as far as was heard.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    /// The stream broke off: a snapshot that was not whole is of no use.
    pub(crate) fn broke(&mut self) {
        self.pieces.clear();
    }

    /// Takes a message. Tokens in what it answers hold the mesh's epoch of now.
    pub(crate) fn take(&mut self, message: v1::WatchMessage) -> Result<Option<Update>, Older> {
        let revision = message.revision;
        match message.message {
            Some(watch_message::Message::Begun(begun)) => {
                if !self.known.mesh.is_empty() && begun.mesh != self.known.mesh {
                    // Epochs and revisions of one mesh say nothing about another's.
                    *self = Self::default();
                }
                let known = self.known.epoch;
                if begun.epoch < known {
                    let why = format!("node {} is at epoch {}, {known} is known", begun.node, begun.epoch);
                    return Err(Older(why));
                }
                if begun.epoch > known {
                    // Revisions of another history: lower ones are not older for that.
                    (self.known.epoch, self.revision) = (begun.epoch, 0);
                }
                self.known.mesh = begun.mesh;
                Ok(None)
            }
            Some(watch_message::Message::Snapshot(snapshot)) => {
                if revision < self.revision {
                    let why = format!("a snapshot of revision {revision}, {} is known", self.revision);
                    return Err(Older(why));
                }
                self.pieces.extend(snapshot.items.into_iter().filter_map(shard_of));
                if !snapshot.last {
                    return Ok(None);
                }
                let mut shards = std::mem::take(&mut self.pieces);
                shards.iter_mut().for_each(|shard| self.put_epoch(shard));
                self.revision = revision;
                Ok(Some(Update::Whole { revision, shards }))
            }
            Some(watch_message::Message::Unit(unit)) => {
                let changes = unit
                    .changes
                    .into_iter()
                    .filter_map(|change| self.change(change))
                    .collect();
                self.revision = self.revision.max(revision);
                Ok(Some(Update::Revision { revision, changes }))
            }
            Some(watch_message::Message::Progress(_)) => {
                self.revision = self.revision.max(revision);
                Ok(Some(Update::Reached { revision }))
            }
            None => Ok(None),
        }
    }

    fn change(&mut self, change: watch_message::Change) -> Option<Change> {
        let gone = change.r#type() == watch_message::change::Type::Removed;
        if gone {
            let shard = shard_of(change.before?)?;
            return Some(Change::Gone {
                namespace: shard.namespace,
                shard: shard.shard,
            });
        }
        let mut shard = shard_of(change.after?)?;
        self.put_epoch(&mut shard);
        Some(Change::Is(shard))
    }

    /// A record has the mesh's epoch of when it changed last; the token's is that of now.
    fn put_epoch(&mut self, shard: &mut v1::Shard) {
        if let Some(token) = &mut shard.token {
            self.known.epoch = self.known.epoch.max(token.mesh_epoch);
            token.mesh_epoch = self.known.epoch;
        }
    }
}

fn shard_of(record: v1::audit_record::Record) -> Option<v1::Shard> {
    match record.record? {
        record::Record::Shard(shard) => Some(shard),
        _ => None,
    }
}

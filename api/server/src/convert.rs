//! Which message answers for which record.

use proto::v1;
use statemachine::{Epoch, Record, record::Shard};

pub(crate) use api_records::{
    approval, audit, change, checkpoint, choice, cluster, cluster_phase, config, duration, has_status, is_in_state,
    namespace, namespace_phase, operation, peer, peer_status, shard, shard_status, time, version_vector,
};

/// A shard under the token that it has in this epoch of the mesh. Its record has the epoch in which it changed last.
pub(crate) fn shard_in(found: &Shard, epoch: Epoch) -> v1::Shard {
    let mut shown = shard(found);
    if let Some(token) = &mut shown.token {
        token.mesh_epoch = epoch.0;
    }
    shown
}

/// A message that answers a mutation or a read of one record.
pub(crate) trait FromRecord: Sized {
    /// The message of a record; none where the record is of another kind.
    fn from_record(record: &Record) -> Option<Self>;
}

impl FromRecord for v1::Peer {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Peer(found) => Some(peer(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Namespace {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Namespace(found) => Some(namespace(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Shard {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Shard(found) => Some(shard(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Approval {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Approval(found) => Some(approval(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Operation {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Operation(found) => Some(operation(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Cluster {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Cluster(found) => Some(cluster(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::Config {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Config(found) => Some(config(found)),
            _ => None,
        }
    }
}

impl FromRecord for v1::FeatureLevel {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Mesh(found) => Some(Self {
                feature_level: found.feature_level,
                etag: found.meta.etag().to_string(),
            }),
            _ => None,
        }
    }
}

impl FromRecord for v1::Compaction {
    fn from_record(record: &Record) -> Option<Self> {
        match record {
            Record::Mesh(found) => Some(Self {
                oldest_revision: found.floor.0,
                etag: found.meta.etag().to_string(),
            }),
            _ => None,
        }
    }
}

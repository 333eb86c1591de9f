//! What a watch is about: which records or audit entries it selects, and the messages that they become.

use prost_types::Duration as ProtoDuration;
use proto::{methods::Method, v1};
use statemachine::{Change, Hash, MeshId, Position, Record, Recorded, record::Kind};

use super::{
    frames::{self, Event},
    request::{self, asked, decode},
};
use crate::{
    Error, convert,
    cursor::{Cursor, Filter},
    filter,
};

/// The kinds of record that the contract has, in the order of a snapshot.
pub(crate) const KINDS: &[Kind] = &[
    Kind::Cluster,
    Kind::Config,
    Kind::Peer,
    Kind::Operation,
    Kind::Approval,
    Kind::Namespace,
    Kind::Shard,
];

/// What the caller asks of any watch.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) token: String,
    pub(crate) snapshot: bool,
    pub(crate) progress: Option<ProtoDuration>,
}

/// What a watch is about. Watches of equal subjects see the same messages.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) method: &'static Method,
    /// Everything that selects, in text: what tells subjects apart.
    pub(crate) key: Vec<String>,
    /// What its tokens are good for.
    pub(crate) filter: Filter,
    selects: Selects,
}

#[derive(Debug)]
pub(super) enum Selects {
    /// Records of these kinds that all of the rest selects.
    Records { kinds: Vec<Kind>, filters: Box<Filters> },
    /// Entries of the audit trail.
    Trail { trail: filter::Trail, canonical: bool },
}

/// What selects among records, kind by kind. The default selects all.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) id: String,
    pub(super) peers: filter::Peers,
    pub(super) operations: filter::Operations,
    pub(super) clusters: filter::Clusters,
    pub(super) approvals: filter::Approvals,
    pub(super) namespaces: filter::Namespaces,
    pub(super) shards: filter::Shards,
    /// Only descriptors of this cluster.
    pub(super) cluster: String,
}

/// What a request asks to be selected of records of some kinds.
pub(super) fn records(kinds: &[Kind], filters: Filters) -> Selects {
    Selects::Records {
        kinds: kinds.to_vec(),
        filters: filters.into(),
    }
}

impl Subject {
    /// Reads the request of a watch.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn read(method: &'static Method, message: &[u8]) -> Result<(Self, Asked), Error> {
        let (selects, asked, key) = match method.name.as_str() {
            "Watch" => request::all(decode(message)?)?,
            "WatchPeers" => request::peers(decode(message)?)?,
            "WatchOperations" => request::operations(decode(message)?)?,
            "WatchClusters" => request::clusters(decode(message)?)?,
            "WatchConfig" => {
                let v1::WatchConfigRequest {
                    token,
                    snapshot,
                    progress_interval,
                } = decode(message)?;
                (
                    records(&[Kind::Config], Filters::default()),
                    asked(token, snapshot, progress_interval),
                    Vec::new(),
                )
            }
            "WatchApprovals" => request::approvals(decode(message)?)?,
            "WatchNamespaces" => request::namespaces(decode(message)?)?,
            "WatchShards" => request::shards(decode(message)?)?,
            "WatchAudit" => request::audit(decode(message)?)?,
            other => return Err(Error::internal(format!("nothing is known of the watch {other}"))),
        };
        let settings: Vec<&str> = key.iter().map(String::as_str).collect();
        let filter = Filter::new(&method.name, &settings);
        let subject = Self {
            method,
            key: std::iter::once(method.name.clone()).chain(key).collect(),
            filter,
            selects,
        };
        Ok((subject, asked))
    }

    /// The token that says that everything up to a position was sent.
    pub(crate) fn token(&self, mesh: &MeshId, position: Position) -> String {
        let last = String::new();
        Cursor { position, last }.encode(mesh, self.filter)
    }

    /// Whether the watch is about the audit trail.
    pub(crate) fn is_audit(&self) -> bool {
        matches!(self.selects, Selects::Trail { .. })
    }

    /// The kinds of record that a snapshot has to look through.
    pub(crate) fn kinds(&self) -> &[Kind] {
        match &self.selects {
            Selects::Records { kinds, .. } => kinds,
            Selects::Trail { .. } => &[],
        }
    }

    /// Whether a record is one of those watched.
    pub(crate) fn selects(&self, record: &Record) -> bool {
        let Selects::Records { kinds, filters } = &self.selects else {
            return false;
        };
        let Filters {
            id,
            peers,
            operations,
            clusters,
            approvals,
            namespaces,
            shards,
            cluster,
        } = &**filters;
        if !kinds.contains(&record.kind()) || !(id.is_empty() || record.id() == *id) {
            return false;
        }
        match record {
            Record::Peer(peer) => peers.selects(peer),
            Record::Operation(operation) => operations.selects(operation),
            Record::Cluster(found) => {
                clusters.selects(found) && (cluster.is_empty() || found.id.as_str() == cluster.as_str())
            }
            Record::Approval(approval) => approvals.selects(approval),
            Record::Namespace(namespace) => namespaces.selects(namespace),
            Record::Shard(shard) => shards.selects(shard),
            Record::Config(_)
            | Record::Mesh(_)
            | Record::Checkpoint(_)
            | Record::Certificate(_)
            | Record::Session(_) => true,
        }
    }

    /// What the watch is told of a revision; none where it selects nothing of it. `previous` is the audit chain's hash
    /// before it.
    pub(crate) fn event(&self, recorded: &Recorded, previous: Hash, mesh: &MeshId) -> Option<Event> {
        let position = recorded.unit.position;
        let revision = position.revision.0;
        let bytes = match &self.selects {
            Selects::Records { .. } => {
                let changes: Vec<_> = recorded
                    .unit
                    .changes()
                    .iter()
                    .filter_map(|change| self.change(change))
                    .collect();
                if changes.is_empty() {
                    return None;
                }
                let message = v1::watch_message::Message::Unit(unit(recorded, changes));
                frames::grpc(&v1::WatchMessage {
                    message: Some(message),
                    token: self.token(mesh, position),
                    revision,
                })
            }
            Selects::Trail { trail, canonical } => {
                if !trail.selects(recorded) {
                    return None;
                }
                let record = convert::audit(recorded, previous, *canonical);
                frames::grpc(&v1::WatchAuditMessage {
                    message: Some(v1::watch_audit_message::Message::Record(record)),
                    token: self.token(mesh, position),
                    revision,
                })
            }
        };
        Some(Event::new(position, bytes))
    }

    /// That everything up to a position was sent.
    pub(crate) fn progress(&self, position: Position, mesh: &MeshId) -> Event {
        let (token, revision) = (self.token(mesh, position), position.revision.0);
        let progress = v1::watch_message::Progress {};
        let bytes = if self.is_audit() {
            frames::grpc(&v1::WatchAuditMessage {
                message: Some(v1::watch_audit_message::Message::Progress(progress)),
                token,
                revision,
            })
        } else {
            frames::grpc(&v1::WatchMessage {
                message: Some(v1::watch_message::Message::Progress(progress)),
                token,
                revision,
            })
        };
        Event::new(position, bytes)
    }

    /// The first message.
    pub(crate) fn begun(&self, begun: v1::watch_message::Begun, position: Position, token: String) -> Event {
        let revision = position.revision.0;
        let bytes = if self.is_audit() {
            frames::grpc(&v1::WatchAuditMessage {
                message: Some(v1::watch_audit_message::Message::Begun(begun)),
                token,
                revision,
            })
        } else {
            frames::grpc(&v1::WatchMessage {
                message: Some(v1::watch_message::Message::Begun(begun)),
                token,
                revision,
            })
        };
        Event::new(position, bytes)
    }

    fn change(&self, change: &Change) -> Option<v1::watch_message::Change> {
        use v1::watch_message::change::Type;
        let selected = |record: &Option<Record>| record.as_ref().is_some_and(|record| self.selects(record));
        let kind = match (selected(&change.before), selected(&change.after)) {
            (false, false) => return None,
            (false, true) => Type::Added,
            (true, true) => Type::Changed,
            (true, false) => Type::Removed,
        };
        let v1::audit_record::Change {
            kind: word,
            id,
            before,
            after,
        } = api_records::change(change)?;
        Some(v1::watch_message::Change {
            r#type: kind.into(),
            kind: word,
            id,
            before,
            after,
        })
    }
}

fn unit(recorded: &Recorded, changes: Vec<v1::watch_message::Change>) -> v1::watch_message::Unit {
    let unit = &recorded.unit;
    let origin = &unit.origin;
    v1::watch_message::Unit {
        timeline: unit.position.timeline.to_string(),
        action: unit.action.clone(),
        target: unit.target.clone(),
        actor: origin.actor.clone(),
        reason: origin.reason.clone(),
        ticket: origin.ticket.clone(),
        request_id: origin.request_id.clone(),
        proposed_at: Some(convert::time(unit.stamp.wall_ms)),
        mesh_time_ms: unit.stamp.mesh_time_ms,
        changes,
    }
}

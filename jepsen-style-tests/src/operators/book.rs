//! The audit trail, read from its first record to its last: what happened, in the form in which it is compared.
//!
//! What the trail has to be by itself is judged while it is read: no revision is missing, the chain holds, each record
//! changes from what it was to what it is next, and mass drains keep to their bounds.

use std::collections::BTreeMap;

use api_client::Client;
use proto::v1::{
    self, AuditRecord, ListAuditRecordsRequest, approval, audit_record,
    audit_record::{Outcome, record::Record as Form},
    watch_message,
    watch_message::{Unit, change::Type},
};

use super::{
    drains::Drains,
    journal,
    stage::{self, EDITED},
};
use crate::{Result, error::Doing as _};

/// How many complaints of the trail itself are kept.
const COMPLAINTS_MAX: usize = 50;

/// One record of the trail.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its revision.
    pub revision: u64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The rule that was against it.
    pub code: String,
    /// The request for approval that it is about.
    pub approval: String,
}

/// A record as a revision left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The revision.
    pub revision: u64,
    /// Its content; none where it was removed.
    pub content: Option<u64>,
    /// How many times it was changed, and its ETag.
    pub version: u64,
    /// Empty where it was removed.
    pub etag: String,
}

/// Everything that happened.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// The newest revision.
    pub last: u64,
    /// The records of the operators' own commands, by their numbers.
    pub rows: BTreeMap<u64, Vec<Row>>,
    /// What a watch of all records tells: revision and content.
    pub units: Vec<(u64, u64)>,
    /// What a watch of the trail tells.
    pub trail: Vec<(u64, u64)>,
    /// Marks that changes left, and when.
    pub marks: BTreeMap<String, Vec<u64>>,
    /// How often the label of a peer was counted up.
    pub counts: BTreeMap<String, u64>,
    /// Every record's versions, by kind and id.
    pub versions: BTreeMap<(String, String), Vec<Version>>,
    /// The states of each request for approval, in order.
    pub approvals: BTreeMap<String, Vec<(u64, approval::Status)>>,
    /// What was turned away for want of a scope: `who action target`, and how often it is noted.
    pub refusals: BTreeMap<String, u32>,
    /// How many refusals were only counted.
    pub suppressed: u64,
    /// Drains, and those that are a part of others.
    pub drains: Drains,
    /// What is wrong with the trail by itself.
    pub complaints: Vec<String>,
    hash: String,
}

/// The content of a watch's message, as [`Book::units`] has it.
pub fn unit_digest(message: &v1::WatchMessage) -> u64 {
    match &message.message {
        Some(watch_message::Message::Unit(unit)) => journal::digest(unit),
        _ => 0,
    }
}

/// What a watch of all records tells of a record of the trail; none where it changed nothing that is watched.
fn unit_of(record: &AuditRecord) -> Option<Unit> {
    let changes = record.changes.iter().filter_map(|change| {
        let form = match (&change.before, &change.after) {
            (None, None) => return None,
            (None, Some(_)) => Type::Added,
            (Some(_), Some(_)) => Type::Changed,
            (Some(_), None) => Type::Removed,
        };
        Some(watch_message::Change {
            r#type: form.into(),
            kind: change.kind.clone(),
            id: change.id.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        })
    });
    let changes: Vec<_> = changes.collect();
    (!changes.is_empty()).then(|| Unit {
        timeline: record.timeline.clone(),
        action: record.action.clone(),
        target: record.target.clone(),
        actor: record.actor.clone(),
        reason: record.reason.clone(),
        ticket: record.ticket.clone(),
        request_id: record.request_id.clone(),
        proposed_at: record.proposed_at,
        mesh_time_ms: record.mesh_time_ms,
        changes,
    })
}

/// Reads the whole trail, a page at a time, and hands each record on.
///
/// # Errors
/// Where the trail cannot be read.
pub async fn read(client: &Client, mut take: impl FnMut(AuditRecord)) -> Result<()> {
    let mut cursor = String::new();
    loop {
        let request = ListAuditRecordsRequest {
            limit: 1_000,
            cursor,
            ..ListAuditRecordsRequest::default()
        };
        let page = client.list_audit_records(request).await;
        let page = page.doing("reading the audit trail")?.message;
        page.items.into_iter().for_each(&mut take);
        if page.next_cursor.is_empty() {
            return Ok(());
        }
        cursor = page.next_cursor;
    }
}

impl Book {
    /// Takes the next record.
    pub fn take(&mut self, record: &AuditRecord) {
        let revision = record.revision;
        if revision != self.last + 1 {
            self.complain(format!("revision {revision} follows {} in the trail", self.last));
        }
        if record.previous_hash != self.hash && self.last > 0 {
            self.complain(format!("revision {revision} does not continue the chain"));
        }
        (self.last, self.hash) = (revision, record.hash.clone());
        self.trail.push((revision, journal::digest(record)));
        if let Some(unit) = unit_of(record) {
            self.units.push((revision, journal::digest(&unit)));
        }
        if let Some(number) = journal::number(&record.ticket) {
            self.rows.entry(number).or_default().push(Row {
                revision,
                actor: record.actor.clone(),
                action: record.action.clone(),
                target: record.target.clone(),
                outcome: record.outcome(),
                code: record.code.clone(),
                approval: record.approval.clone(),
            });
        }
        if record.action == "audit.refusals" {
            self.refused(&record.detail);
        }
        let quiet = matches!(record.outcome(), Outcome::Rejected | Outcome::Replayed);
        if quiet && !record.changes.is_empty() {
            self.complain(format!(
                "revision {revision} is {:?}, and changed something",
                record.outcome()
            ));
        }
        for change in &record.changes {
            self.change(revision, change);
        }
        for complaint in self.drains.at_end_of(revision) {
            self.complain(complaint);
        }
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }

    /// `reader peers.cordon peer/p1: scope_missing; and 3 more`
    fn refused(&mut self, detail: &str) {
        for line in detail.split("; ") {
            let more = line.strip_prefix("and ").and_then(|line| line.strip_suffix(" more"));
            match (
                more.and_then(|more| more.parse::<u64>().ok()),
                line.strip_suffix(": scope_missing"),
            ) {
                (Some(more), _) => self.suppressed += more,
                (None, Some(who)) => *self.refusals.entry(who.to_owned()).or_default() += 1,
                (None, None) => {}
            }
        }
    }

    fn change(&mut self, revision: u64, change: &audit_record::Change) {
        let form = |record: &Option<audit_record::Record>| record.as_ref().and_then(|record| record.record.clone());
        let (before, after) = (form(&change.before), form(&change.after));
        if before.is_none() && after.is_none() {
            return;
        }
        let next = version(revision, after.as_ref());
        let versions = self
            .versions
            .entry((change.kind.clone(), change.id.clone()))
            .or_default();
        let last = versions.last().cloned();
        versions.push(next.clone());
        let was = version(revision, before.as_ref());
        let broken = match (&last, &was.content) {
            (None, None) => next.version != 1,
            (Some(last), Some(_)) => {
                (last.content, last.version, &last.etag) != (was.content, was.version, &was.etag)
                    || (next.content.is_some() && next.version != was.version + 1)
            }
            (Some(last), None) => last.content.is_some(),
            (None, Some(_)) => true,
        };
        if broken {
            let (kind, id) = (&change.kind, &change.id);
            self.complain(format!("revision {revision} does not begin where {kind}/{id} was left"));
        }
        if let (Some(Form::Peer(before)), Some(Form::Peer(after))) = (&before, &after)
            && changed(&before.labels, &after.labels).is_some()
            && stage::count(after) != stage::count(before) + 1
        {
            self.complain(format!("revision {revision} does not count {} up by one", after.id));
        }
        self.marks_of(revision, before.as_ref(), after.as_ref());
        match after {
            Some(Form::Approval(approval)) => {
                let states = self.approvals.entry(approval.id.clone()).or_default();
                states.push((revision, approval.status()));
            }
            Some(Form::Operation(operation)) => self.drains.take(revision, &operation),
            _ => {}
        }
    }

    /// What a change leaves behind that no other leaves.
    fn marks_of(&mut self, revision: u64, before: Option<&Form>, after: Option<&Form>) {
        let mut mark = |mark: String| self.marks.entry(mark).or_default().push(revision);
        match (before, after) {
            (before, Some(Form::Peer(after))) => {
                let before = match before {
                    Some(Form::Peer(peer)) => peer,
                    _ => &v1::Peer::default(),
                };
                if let Some(by) = changed(&before.labels, &after.labels) {
                    mark(format!("label/{by}"));
                    *self.counts.entry(after.id.clone()).or_default() += 1;
                }
                if let Some(by) = changed(&before.metadata, &after.metadata) {
                    mark(format!("metadata/{by}"));
                }
            }
            (before, Some(Form::Cluster(after))) => {
                let before = match before {
                    Some(Form::Cluster(cluster)) => cluster,
                    _ => &v1::Cluster::default(),
                };
                if let Some(by) = changed(&before.annotations, &after.annotations) {
                    mark(format!("cluster/{by}"));
                }
            }
            (Some(Form::Config(before)), Some(Form::Config(after))) => {
                let value = |config: &v1::Config| {
                    config
                        .items
                        .iter()
                        .find(|item| item.name == EDITED)
                        .map(|item| item.value)
                };
                if value(before) != value(after) {
                    mark(format!("config/{}", value(after).unwrap_or(0)));
                }
            }
            (None, Some(Form::Operation(after))) => {
                if after.kind() == v1::operation::Kind::DrainPeers
                    && let Some(number) = journal::number(&after.ticket)
                {
                    mark(format!("drain/{number}"));
                }
            }
            _ => {}
        }
    }
}

fn changed<'m>(before: &BTreeMap<String, String>, after: &'m BTreeMap<String, String>) -> Option<&'m String> {
    let by = after.get("by")?;
    (before.get("by") != Some(by)).then_some(by)
}

fn version(revision: u64, form: Option<&Form>) -> Version {
    let (version, etag, content) = match form {
        Some(Form::Peer(peer)) => (peer.version, peer.etag.clone(), Some(journal::digest(peer))),
        Some(Form::Operation(one)) => (one.version, one.etag.clone(), Some(journal::digest(one))),
        Some(Form::Cluster(one)) => (one.version, one.etag.clone(), Some(journal::digest(one))),
        Some(Form::Config(one)) => (one.version, one.etag.clone(), Some(journal::digest(one))),
        Some(Form::Approval(one)) => (one.version, one.etag.clone(), Some(journal::digest(one))),
        Some(Form::Namespace(one)) => (one.version, one.etag.clone(), Some(journal::digest(one))),
        Some(Form::Shard(one)) => (one.version, one.etag.clone(), Some(journal::digest(one))),
        None => (0, String::new(), None),
    };
    Version {
        revision,
        content,
        version,
        etag,
    }
}

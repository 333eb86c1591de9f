//! What a watch brings, a line for each record: columns that only ever get wider, since what comes is not known yet.

use prost::{Message, Name};
use proto::v1::{
    Approval, AuditRecord, Operation, WatchMessage,
    audit_record::{self, record::Record},
    watch_message::{Change, Message as Part, Unit, change},
};

use super::{
    Look,
    audit::outcome,
    config, diff, operations, shards, style,
    table::Text,
    time::{clock, rfc3339},
};
use crate::failure::Failure;

/// Lines whose columns line up as far as that can be known.
pub struct Lines {
    columns: &'static [&'static str],
    widths: Vec<usize>,
    begun: bool,
}

const RECORDS: &[&str] = &["revision", "time", "change", "record", "actor", "action", "what"];
const TRAIL: &[&str] = &[
    "revision", "time", "actor", "action", "target", "outcome", "ticket", "reason",
];

impl Lines {
    /// For changes of records.
    pub fn of_records() -> Self {
        Self::new(RECORDS, &[8, 8, 8, 16, 12, 16, 0])
    }

    /// For the audit trail.
    pub fn of_trail() -> Self {
        Self::new(TRAIL, &[8, 8, 12, 16, 16, 8, 8, 0])
    }

    fn new(columns: &'static [&'static str], widths: &[usize]) -> Self {
        Self {
            columns,
            widths: widths.to_vec(),
            begun: false,
        }
    }

    /// The lines of a message of a watch on records.
    pub fn records(&mut self, message: &WatchMessage, look: Look) -> Result<String, Failure> {
        let revision = message.revision;
        let rows = match &message.message {
            Some(Part::Snapshot(snapshot)) => {
                let items = snapshot.items.iter().filter_map(|item| item.record.as_ref());
                items.map(|item| there(revision, item)).collect()
            }
            Some(Part::Unit(unit)) => {
                let changes = unit.changes.iter();
                changes.map(|change| row(revision, unit, change, look)).collect()
            }
            Some(Part::Begun(_) | Part::Progress(_)) | None => Ok(Vec::new()),
        };
        Ok(self.lines(&rows?, look.colour))
    }

    /// The line of an entry of the audit trail.
    pub fn trail(&mut self, record: &AuditRecord, look: Look) -> String {
        let cells = [
            record.revision.into(),
            at(record.proposed_at.as_ref(), look),
            Text::new(&record.actor),
            Text::new(&record.action),
            Text::new(&record.target),
            outcome(record),
            Text::new(&record.ticket),
            Text::new(&record.reason),
        ];
        self.lines(&[cells], look.colour)
    }

    /// What comes together is measured together, so that the header stands above it.
    fn lines<const N: usize>(&mut self, rows: &[[Text; N]], colour: bool) -> String {
        let mut out = String::new();
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        if !self.begun && !rows.is_empty() {
            self.begun = true;
            let header: Vec<Text> = self
                .columns
                .iter()
                .map(|column| Text::from(column.to_uppercase()))
                .collect();
            self.pad(&mut out, &header, false);
        }
        for row in rows {
            self.pad(&mut out, row, colour);
        }
        out
    }

    fn pad(&self, out: &mut String, cells: &[Text], colour: bool) {
        let mut line = String::new();
        for (width, cell) in self.widths.iter().zip(cells) {
            line.push_str(&cell.paint(colour));
            line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// What a watch begins with.
fn there(revision: u64, item: &Record) -> Result<[Text; 7], Failure> {
    Ok([
        revision.into(),
        Text::new(""),
        Text::from("there").styled(style::CYAN),
        Text::new(&name_of(item)),
        Text::new(""),
        Text::new(""),
        Text::new(&what(None, Some(item))?),
    ])
}

fn row(revision: u64, unit: &Unit, change: &Change, look: Look) -> Result<[Text; 7], Failure> {
    let (before, after) = (side(change.before.as_ref()), side(change.after.as_ref()));
    let word = match change.r#type() {
        change::Type::Added => Text::from("added").styled(style::GREEN),
        change::Type::Changed => Text::from("changed").styled(style::YELLOW),
        change::Type::Removed => Text::from("removed").styled(style::RED),
        change::Type::Unspecified => Text::new(""),
    };
    Ok([
        revision.into(),
        at(unit.proposed_at.as_ref(), look),
        word,
        Text::new(&format!("{}/{}", change.kind, change.id)),
        Text::new(&unit.actor),
        Text::new(&unit.action),
        Text::new(&what(before, after)?),
    ])
}

fn at(time: Option<&prost_types::Timestamp>, look: Look) -> Text {
    if look.wide {
        rfc3339(time).into()
    } else {
        clock(time, look.now).into()
    }
}

fn side(record: Option<&audit_record::Record>) -> Option<&Record> {
    record.and_then(|record| record.record.as_ref())
}

/// `peer/p1`
pub fn name_of(record: &Record) -> String {
    match record {
        Record::Peer(peer) => format!("peer/{}", peer.id),
        Record::Operation(operation) => format!("operation/{}", operation.id),
        Record::Cluster(cluster) => format!("cluster/{}", cluster.id),
        Record::Config(_) => "config/mesh".to_owned(),
        Record::Approval(approval) => format!("approval/{}", approval.id),
        Record::Namespace(namespace) => format!("namespace/{}", namespace.id),
        Record::Shard(shard) => format!("shard/{}/{}", shard.namespace, shard.shard),
    }
}

/// What differs, on one line; of a record that came or went only what says most.
fn what(before: Option<&Record>, after: Option<&Record>) -> Result<String, Failure> {
    match (before, after) {
        (Some(Record::Peer(before)), Some(Record::Peer(after))) => differences(before, after),
        (Some(Record::Operation(before)), Some(Record::Operation(after))) => Ok(progress(before, after)),
        (Some(Record::Cluster(before)), Some(Record::Cluster(after))) => differences(before, after),
        (Some(Record::Namespace(before)), Some(Record::Namespace(after))) => differences(before, after),
        (Some(Record::Shard(before)), Some(Record::Shard(after))) => Ok(shards::difference(before, after)),
        (Some(Record::Approval(before)), Some(Record::Approval(after))) => {
            let word = |approval: &Approval| super::word(approval.status().as_str_name());
            let agreed = format!("{} of {} agreed", after.agreed, after.needed);
            Ok(match before.status == after.status {
                true => agreed,
                false => format!("{} -> {}, {agreed}", word(before), word(after)),
            })
        }
        (Some(Record::Config(before)), Some(Record::Config(after))) => {
            let changed = after.items.iter().filter_map(|after| {
                let before = before.items.iter().find(|before| before.name == after.name)?;
                (before.value != after.value)
                    .then(|| format!("{} {} -> {}", after.name, config::shown(before), config::shown(after)))
            });
            Ok(changed.collect::<Vec<_>>().join(", "))
        }
        (_, Some(record)) | (Some(record), None) => Ok(standing(record)),
        (None, None) => Ok(String::new()),
    }
}

/// How far an operation is: its state, or the step that it is at, and what it waits for.
fn progress(before: &Operation, after: &Operation) -> String {
    let mut parts = Vec::new();
    if before.state != after.state {
        let word = |operation: &Operation| super::word(operation.state().as_str_name());
        parts.push(format!("{} -> {}", word(before), word(after)));
    }
    for part in [
        operations::step(after),
        operations::progress(after),
        after.detail.clone(),
    ] {
        if !part.is_empty() && part != "-" {
            parts.push(part);
        }
    }
    parts.join(", ")
}

fn standing(record: &Record) -> String {
    let word = match record {
        Record::Peer(peer) => peer.status().as_str_name(),
        Record::Operation(operation) => operation.state().as_str_name(),
        Record::Cluster(cluster) => cluster.state().as_str_name(),
        Record::Approval(approval) => approval.status().as_str_name(),
        Record::Namespace(namespace) => namespace.phase().as_str_name(),
        Record::Shard(shard) => return shards::standing(shard),
        Record::Config(config) => return format!("version {}", config.version),
    };
    super::word(word)
}

fn differences<M: Message + Name>(before: &M, after: &M) -> Result<String, Failure> {
    let differences = diff::between(Some(before), Some(after))?;
    let parts = differences.iter().filter(|one| one.field != "version").map(|one| {
        let field = &one.field;
        match (&one.before, &one.after) {
            (Some(before), Some(after)) => format!("{field} {before} -> {after}"),
            (None, Some(after)) => format!("+{field} {after}"),
            (Some(before), None) => format!("-{field} {before}"),
            (None, None) => String::new(),
        }
    });
    Ok(parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use proto::v1::{operation, watch_message::Snapshot};

    use super::*;

    /// The columns of what comes together stand below their names, however long an id is.
    #[test]
    fn the_header_stands_above_what_comes_first() {
        let item = |id: &str| audit_record::Record {
            record: Some(Record::Operation(Operation {
                id: id.to_owned(),
                state: operation::State::Running.into(),
                ..Operation::default()
            })),
        };
        let message = WatchMessage {
            revision: 7,
            message: Some(Part::Snapshot(Snapshot {
                items: vec![item("op-000000000041-0123ab"), item("op-1")],
                ..Snapshot::default()
            })),
            ..WatchMessage::default()
        };
        let look = Look {
            wide: false,
            colour: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let text = Lines::of_records().records(&message, look).unwrap();
        let at = text.lines().next().unwrap().find("WHAT").unwrap();
        assert_eq!(text.lines().count(), 3);
        for line in text.lines().skip(1) {
            assert_eq!(&line[at..], "running", "{text}");
        }
    }
}

//! Whether what the operators were told, what the trail has, and what the watchers saw is one and the same story.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use proto::v1::{approval::Status, audit_record::Outcome};

use super::{
    book::{Book, Row},
    journal::{End, Entry},
    watchers::{Watched, What},
};

/// Everything that is known of a run once it is over.
#[derive(Clone)]
pub struct Evidence {
    /// What was asked and answered.
    pub journal: Vec<Entry>,
    /// The audit trail.
    pub book: Book,
    /// What the watchers were told.
    pub watched: Vec<Watched>,
    /// The records that there are in the end, by kind.
    pub left: Vec<Left>,
    /// Whether a node was killed: then a refusal may be noted twice, or in the dead node's file alone.
    pub killed: bool,
}

/// The records of one kind, as a list shows them.
#[derive(Debug, Clone)]
pub struct Left {
    /// The kind.
    pub kind: &'static str,
    /// The revision that the list shows.
    pub revision: u64,
    /// By id: version and ETag.
    pub records: BTreeMap<String, (u64, String)>,
}

impl Left {
    /// A list without anything in it.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            revision: 0,
            records: BTreeMap::new(),
        }
    }
}

/// What is wrong, one sentence each; empty where all is well.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut complaints = evidence.book.complaints.clone();
    let by_number = by_number(&evidence.journal);
    for (number, entries) in &by_number {
        let none = Vec::new();
        let rows = evidence.book.rows.get(number).unwrap_or(&none);
        complaints.extend(intention(*number, entries, rows, &evidence.book));
    }
    for (number, rows) in &evidence.book.rows {
        if !by_number.contains_key(number) {
            complaints.push(format!(
                "W-{number} is in the trail {} times, and nobody asked for it",
                rows.len()
            ));
        }
    }
    complaints.extend(marks(&evidence.journal, &evidence.book));
    complaints.extend(approvals(&evidence.book));
    complaints.extend(refusals(evidence));
    complaints.extend(evidence.book.drains.at_the_end());
    complaints.extend(evidence.left.iter().flat_map(|list| left(list, &evidence.book)));
    for watched in &evidence.watched {
        complaints.extend(watcher(watched, &evidence.book));
    }
    complaints
}

fn by_number(journal: &[Entry]) -> BTreeMap<u64, Vec<&Entry>> {
    let mut by_number: BTreeMap<u64, Vec<&Entry>> = BTreeMap::new();
    for entry in journal {
        by_number.entry(entry.number).or_default().push(entry);
    }
    by_number
}

/// All calls of one intention against what the trail has of it.
fn intention(number: u64, entries: &[&Entry], rows: &[Row], book: &Book) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |what: String| complaints.push(format!("W-{number}: {what}; {}", told(entries, rows)));
    let retried = rows.iter().filter(|row| row.outcome == Outcome::Replayed).count();
    let originals: Vec<_> = rows.iter().filter(|row| row.outcome != Outcome::Replayed).collect();
    // What a key was used for that stands for something else is not remembered under it: a retry is told so anew.
    let told_again = originals.iter().all(|row| row.code == "idempotency_key_reused");
    if originals.len() > 1 && !told_again {
        complain("carried out more than once".to_owned());
    }
    let original = originals.first();
    let mut replays = 0;
    let mut requests = Some(0);
    for entry in entries {
        let wrong = match (&entry.end, original) {
            (End::Done { .. } | End::Staged { .. } | End::Rejected { .. }, None) => Some("no audit record of it"),
            (End::Done { .. }, Some(row)) if row.outcome != Outcome::Applied => Some("done, and not in the trail"),
            (End::Done { revision, .. }, Some(row)) if *revision != row.revision => Some("at another revision"),
            (End::Staged { approval, .. }, Some(row))
                if row.outcome != Outcome::Staged || row.approval != *approval =>
            {
                Some("it waits, and the trail says otherwise")
            }
            (End::Rejected { code, .. }, Some(row)) if row.outcome != Outcome::Rejected || row.code != *code => {
                Some("rejected, and the trail says otherwise")
            }
            (End::Refused | End::Failed { .. }, Some(_)) => Some("it was never to become a command"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            complain(wrong.to_owned());
        }
        if let Some(row) = original
            && (row.actor != *entry.actor || row.action != entry.action || row.target != entry.target)
        {
            complain("by somebody else, or to something else".to_owned());
        }
        if let (End::Done { record, .. }, Some(row)) = (&entry.end, original)
            && !is_version(book, record, row.revision)
        {
            complain("the answer does not show the record as it was then".to_owned());
        }
        let (replayed, attempts) = match &entry.end {
            End::Done { replayed, attempts, .. } => (*replayed, Some(*attempts as usize)),
            End::Staged { replayed, .. } | End::Rejected { replayed, .. } => (*replayed, None),
            End::Refused | End::Failed { .. } | End::Unknown { .. } => (false, None),
        };
        replays += usize::from(replayed);
        requests = requests.zip(attempts).map(|(sum, attempts)| sum + attempts);
    }
    if retried < replays {
        complain(format!(
            "{replays} answers were stored ones, and the trail has {retried} retries"
        ));
    }
    if requests.is_some_and(|requests| rows.len() > requests) {
        complain(format!(
            "{requests:?} requests, and the trail has {} records",
            rows.len()
        ));
    }
    complaints
}

fn told(entries: &[&Entry], rows: &[Row]) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = write!(
            text,
            "{} {} {}: {:?}; ",
            entry.actor, entry.action, entry.target, entry.end
        );
    }
    for row in rows {
        let (revision, action, outcome, code) = (row.revision, &row.action, row.outcome, &row.code);
        let _ = write!(text, "trail {revision} {action} {outcome:?} {code}; ");
    }
    text
}

/// Whether a record had this content right after a revision.
fn is_version(book: &Book, (kind, id, content): &(&'static str, String, u64), revision: u64) -> bool {
    let Some(versions) = book.versions.get(&((*kind).to_owned(), id.clone())) else {
        return false;
    };
    let behind = versions.partition_point(|version| version.revision <= revision);
    let at = behind.checked_sub(1).and_then(|at| versions.get(at));
    // A removal is answered with the record as it was last.
    let before = behind.checked_sub(2).and_then(|at| versions.get(at));
    match at {
        Some(version) if version.content.is_none() => before.is_some_and(|before| before.content == Some(*content)),
        Some(version) => version.content == Some(*content),
        None => false,
    }
}

/// Every acknowledged change left its mark once, in the revision that says so; the others left none.
fn marks(journal: &[Entry], book: &Book) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut known = BTreeSet::new();
    let mut counted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for entry in journal {
        let Some(mark) = &entry.mark else { continue };
        let first = known.insert(mark);
        let none = Vec::new();
        let found = book.marks.get(mark).unwrap_or(&none);
        let wrong = match &entry.end {
            End::Done { revision, .. } => found != &[*revision],
            End::Staged { approval, .. } => *found != carried_out(book, approval),
            End::Rejected { .. } | End::Refused | End::Failed { .. } => !found.is_empty(),
            End::Unknown { .. } => found.len() > 1,
        };
        if wrong {
            let (number, end) = (entry.number, &entry.end);
            complaints.push(format!(
                "W-{number} ({end:?}) left its mark {mark} at revisions {found:?}"
            ));
        }
        if mark.starts_with("label/") && first {
            let count = counted.entry(&entry.target).or_default();
            count.0 += u64::from(matches!(entry.end, End::Done { .. }));
            count.1 += u64::from(matches!(entry.end, End::Unknown { .. }));
        }
    }
    for (mark, found) in &book.marks {
        if !known.contains(mark) {
            complaints.push(format!("nobody asked for {mark}, which came at revisions {found:?}"));
        }
    }
    for (target, (done, unknown)) in counted {
        let id = target.strip_prefix("peer/").unwrap_or(target);
        let count = book.counts.get(id).copied().unwrap_or(0);
        if count < done || count > done + unknown {
            complaints.push(format!(
                "{target} was counted up {done} times, and the trail has {count}"
            ));
        }
    }
    complaints
}

/// The revision that carried a request out, where one did.
fn carried_out(book: &Book, approval: &str) -> Vec<u64> {
    let states = book.approvals.get(approval).into_iter().flatten();
    let approved = states.filter(|(_, status)| *status == Status::Approved);
    approved.map(|(revision, _)| *revision).collect()
}

/// Each request waits first, and ends at most once.
fn approvals(book: &Book) -> Vec<String> {
    let mut complaints = Vec::new();
    for (id, states) in &book.approvals {
        let ends = states
            .iter()
            .skip_while(|(_, status)| *status == Status::PendingApproval)
            .count();
        if ends > 1
            || states
                .first()
                .is_none_or(|(_, status)| *status != Status::PendingApproval)
        {
            complaints.push(format!("the request {id} went through {states:?}"));
        }
    }
    complaints
}

/// What was turned away is noted, each once.
fn refusals(evidence: &Evidence) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    for entry in &evidence.journal {
        // Nobody knows what became of an attempt before the one that was refused; the refusal itself may be noted.
        let times = match &entry.end {
            End::Refused => 1,
            End::Unknown { .. } => 0,
            End::Done { .. } | End::Staged { .. } | End::Rejected { .. } | End::Failed { .. } => continue,
        };
        let line = format!("{} {} {}", entry.actor, entry.action, entry.target);
        *made.entry(line).or_default() += times;
    }
    let mut missing = 0;
    for (line, times) in &made {
        let noted = evidence.book.refusals.get(line).copied().unwrap_or(0);
        missing += u64::from(times.saturating_sub(noted));
        if noted > *times && !evidence.killed {
            complaints.push(format!("the refusal `{line}` is in the trail {noted} times"));
        }
    }
    for line in evidence.book.refusals.keys().filter(|line| !made.contains_key(*line)) {
        complaints.push(format!("the refusal `{line}` is in the trail, and nobody was refused"));
    }
    // The rest of a burst is only counted; and what a killed node had not handed on is in that node's file.
    if missing > evidence.book.suppressed && !evidence.killed {
        complaints.push(format!(
            "{missing} refusals are not in the trail, which counts {} beside those that it has",
            evidence.book.suppressed
        ));
    }
    complaints
}

/// A list shows the records that history says there were at its revision.
fn left(left: &Left, book: &Book) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for ((_, id), versions) in book.versions.iter().filter(|((kind, _), _)| kind == left.kind) {
        let behind = versions.partition_point(|version| version.revision <= left.revision);
        let last = behind.checked_sub(1).and_then(|at| versions.get(at));
        let expected = last.filter(|last| last.content.is_some());
        let expected = expected.map(|last| (last.version, last.etag.clone()));
        let there = left.records.get(id);
        seen += usize::from(there.is_some());
        if expected.as_ref() != there {
            let kind = left.kind;
            complaints.push(format!("{kind}/{id} is {there:?}, and history ends with {expected:?}"));
        }
    }
    if seen != left.records.len() {
        let (kind, unknown) = (left.kind, left.records.len() - seen);
        complaints.push(format!("{unknown} records of the kind {kind} have no history"));
    }
    complaints
}

/// A watcher was told everything behind where it began, in order, each once.
fn watcher(watched: &Watched, book: &Book) -> Option<String> {
    let history = match watched.what {
        What::Records => &book.units,
        What::Trail => &book.trail,
    };
    let begin = history.partition_point(|(revision, _)| *revision <= watched.from);
    let end = history.partition_point(|(revision, _)| *revision <= watched.to);
    let expected = history.get(begin..end.max(begin)).unwrap_or_default();
    if expected == watched.told {
        return None;
    }
    let at = expected
        .iter()
        .zip(&watched.told)
        .take_while(|(one, other)| one == other)
        .count();
    let (should, is) = (expected.get(at), watched.told.get(at));
    let (name, from, to) = (&watched.name, watched.from, watched.to);
    Some(format!(
        "{name}, from {from} to {to}: {} revisions were told and {} happened; the first that differs is {is:?}, not {should:?}",
        watched.told.len(),
        expected.len()
    ))
}

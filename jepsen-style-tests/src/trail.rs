//! Whether the audit trail says what the clients were told.
//!
//! The trail is one order of everything that was applied. Each acknowledged write stands in it exactly once, at the
//! revision that its client was told; one that failed does not; one of unknown outcome at most once. Every read saw
//! what the trail says of the revision that it named.

use std::collections::BTreeMap;

use api_client::Client;
use proto::v1::{AuditRecord, ListAuditRecordsRequest, audit_record};

use crate::{
    Result,
    error::Doing as _,
    history::{Call, End, INITIAL, Operation},
    keys::LABEL,
};

/// A change of a register, as the trail has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// When.
    pub revision: u64,
    /// The register.
    pub key: String,
    /// Its value before.
    pub before: Option<u64>,
    /// Its value after.
    pub after: Option<u64>,
}

/// Reads every applied change of a register, in order of revision.
///
/// # Errors
/// Where the trail cannot be read.
pub async fn read(client: &Client) -> Result<Vec<Applied>> {
    let mut applied = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut request = ListAuditRecordsRequest {
            limit: 1_000,
            cursor,
            action: "peers.patch".into(),
            ..Default::default()
        };
        request.set_outcome(audit_record::Outcome::Applied);
        let page = client
            .list_audit_records(request)
            .await
            .doing("reading the audit trail")?
            .message;
        applied.extend(page.items.iter().flat_map(changes));
        if page.next_cursor.is_empty() {
            return Ok(applied);
        }
        cursor = page.next_cursor;
    }
}

fn changes(record: &AuditRecord) -> impl Iterator<Item = Applied> {
    let value = |record: &Option<audit_record::Record>| {
        let record = record.as_ref().and_then(|record| record.record.as_ref())?;
        match record {
            audit_record::record::Record::Peer(peer) => peer.labels.get(LABEL)?.parse().ok(),
            audit_record::record::Record::Operation(_)
            | audit_record::record::Record::Cluster(_)
            | audit_record::record::Record::Config(_)
            | audit_record::record::Record::Approval(_)
            | audit_record::record::Record::Namespace(_)
            | audit_record::record::Record::Shard(_) => None,
        }
    };
    let peers = record.changes.iter().filter(|change| change.kind == "peer");
    peers.map(move |change| Applied {
        revision: record.revision,
        key: change.id.clone(),
        before: value(&change.before),
        after: value(&change.after),
    })
}

/// Holds a history against the trail. Says what is wrong, one sentence each; empty where all is well.
pub fn check(operations: &[Operation], trail: &[Applied]) -> Vec<String> {
    let mut complaints = chained(trail);
    let mut places: BTreeMap<u64, Vec<&Applied>> = BTreeMap::new();
    let mut at: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for applied in trail {
        if let Some(value) = applied.after {
            places.entry(value).or_default().push(applied);
            at.insert((&applied.key, applied.revision), value);
        }
    }
    for operation in operations {
        if let Call::Read = operation.call {
            complaints.extend(read_wrong(operation, &at));
        } else if let Some(value) = operation.call.writes() {
            let found = places.remove(&value).unwrap_or_default();
            complaints.extend(write_wrong(operation, &found));
        }
    }
    for (value, found) in places {
        let where_from = found.first().map_or(0, |applied| applied.revision);
        complaints.push(format!(
            "value {value} is in the trail at revision {where_from}, but nobody wrote it"
        ));
    }
    complaints
}

/// Each change begins where the one before it on the same register ended.
fn chained(trail: &[Applied]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for applied in trail {
        let before = last.get(applied.key.as_str()).copied().unwrap_or(INITIAL);
        if applied.before != Some(before) {
            complaints.push(format!(
                "revision {} changed {} from {:?}, but it was {before} after the change before",
                applied.revision, applied.key, applied.before
            ));
        }
        if let Some(after) = applied.after {
            last.insert(&applied.key, after);
        }
    }
    complaints
}

fn write_wrong(operation: &Operation, found: &[&Applied]) -> Option<String> {
    let id = operation.id;
    let value = operation.call.writes()?;
    if found.len() > 1 {
        return Some(format!(
            "operation {id} wrote {value} once, the trail has it {} times",
            found.len()
        ));
    }
    match (&operation.ended, found.first()) {
        (Some((_, End::Ok { changed, .. })), None) => Some(format!(
            "operation {id} wrote {value}, acknowledged at revision {changed}, and it is not in the trail"
        )),
        (Some((_, End::Fail { code, .. })), Some(applied)) => Some(format!(
            "operation {id} wrote {value} and failed ({code}), but revision {} applied it",
            applied.revision
        )),
        (_, None) => None,
        (ended, Some(applied)) => {
            if applied.key != operation.key {
                return Some(format!(
                    "operation {id} wrote {}, revision {} changed {}",
                    operation.key, applied.revision, applied.key
                ));
            }
            if let Some((_, End::Ok { changed, .. })) = ended
                && *changed != applied.revision
            {
                return Some(format!(
                    "operation {id} was told revision {changed}, the trail has it at {}",
                    applied.revision
                ));
            }
            match operation.call {
                Call::Cas { from, .. } if applied.before != Some(from) => Some(format!(
                    "operation {id} was to change {from}, revision {} changed {:?}",
                    applied.revision, applied.before
                )),
                Call::Read | Call::Write { .. } | Call::Cas { .. } => None,
            }
        }
    }
}

fn read_wrong(operation: &Operation, at: &BTreeMap<(&str, u64), u64>) -> Option<String> {
    let (_, End::Ok { value, changed, .. }) = operation.ended.as_ref()? else {
        return None;
    };
    // The registration is not among the changes.
    let recorded = at.get(&(operation.key.as_str(), *changed)).copied().unwrap_or(INITIAL);
    (*value != Some(recorded)).then(|| {
        format!(
            "operation {} read {value:?} of {} at revision {changed}, where the trail has {recorded}",
            operation.id, operation.key
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: u64, call: Call, end: End) -> Operation {
        let line = usize::try_from(id).unwrap() * 2;
        Operation {
            id,
            process: 0,
            node: 1,
            key: "r".into(),
            call,
            began: line,
            ended: Some((line + 1, end)),
            began_us: 0,
            ended_us: None,
        }
    }

    fn ok(value: u64, changed: u64) -> End {
        End::Ok {
            value: Some(value),
            changed,
            shown: None,
            attempts: 1,
        }
    }

    fn fail() -> End {
        End::Fail {
            code: "unavailable".into(),
            detail: String::new(),
        }
    }

    fn applied(revision: u64, before: u64, after: u64) -> Applied {
        Applied {
            revision,
            key: "r".into(),
            before: Some(before),
            after: Some(after),
        }
    }

    #[test]
    fn a_trail_that_tells_the_same_is_accepted() {
        let operations = [
            operation(0, Call::Write { to: 1 }, ok(1, 5)),
            operation(1, Call::Read, ok(1, 5)),
            operation(
                2,
                Call::Cas { from: 1, to: 2 },
                End::Info {
                    code: "unavailable".into(),
                    detail: String::new(),
                },
            ),
            operation(3, Call::Write { to: 3 }, fail()),
        ];
        assert_eq!(
            check(&operations, &[applied(5, 0, 1), applied(6, 1, 2)]),
            Vec::<String>::new()
        );
        assert_eq!(check(&operations, &[applied(5, 0, 1)]), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_seen() {
        let write = || [operation(0, Call::Write { to: 1 }, ok(1, 5))];
        let wrong: [(&[Operation], &[Applied], &str); 7] = [
            (&write(), &[], "not in the trail"),
            (&write(), &[applied(5, 0, 1), applied(6, 1, 1)], "2 times"),
            (&write(), &[applied(6, 0, 1)], "was told revision 5"),
            (
                &[operation(0, Call::Write { to: 1 }, fail())],
                &[applied(5, 0, 1)],
                "failed",
            ),
            (
                &[operation(0, Call::Cas { from: 7, to: 1 }, ok(1, 5))],
                &[applied(5, 0, 1)],
                "was to change 7",
            ),
            (
                &[operation(0, Call::Read, ok(9, 5))],
                &[applied(5, 0, 1)],
                "the trail has 1",
            ),
            (&[], &[applied(5, 3, 1)], "it was 0"),
        ];
        for (operations, trail, expected) in wrong {
            let complaints = check(operations, trail);
            assert!(
                complaints.iter().any(|complaint| complaint.contains(expected)),
                "{expected}: {complaints:?}"
            );
        }
    }
}

//! One line of the files: a JSON object with its `kind` in front. The names are those of the API.

use serde::{Deserialize, Serialize};
use statemachine::{Recorded, Refusal, Revision};

use super::files::{Last, read_position};

/// How every record's line begins, so that others need not be parsed to find one.
const RECORD: &[u8] = br#"{"kind":"record","#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
enum Line<'a> {
    #[serde(rename_all = "camelCase")]
    Record {
        revision: u64,
        timeline: &'a str,
        hash: String,
        at: String,
        mesh_time_ms: u64,
        actor: &'a str,
        action: &'a str,
        target: &'a str,
        outcome: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        code: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        detail: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        ticket: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        approval: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        requester: &'a str,
        request_id: &'a str,
        transport: &'a str,
        node: &'a str,
        received_at: String,
        changed: Vec<String>,
    },
    #[serde(rename_all = "camelCase")]
    Refusal {
        at: String,
        actor: &'a str,
        action: &'a str,
        target: &'a str,
        code: &'a str,
        request_id: &'a str,
        transport: &'a str,
        node: String,
    },
    #[serde(rename_all = "camelCase")]
    Suppressed { refusals: u64 },
    #[serde(rename_all = "camelCase")]
    Gap { after_revision: u64, next_revision: u64 },
    #[serde(rename_all = "camelCase")]
    Fork { after_revision: u64, timeline: String },
}

fn write(line: &Line<'_>, out: &mut Vec<u8>) {
    let before = out.len();
    match serde_json::to_writer(&mut *out, line) {
        Ok(()) => out.push(b'\n'),
        // Nothing in a line can fail to be written to memory; if it did, no half a line stays.
        Err(_) => out.truncate(before),
    }
}

/// A record, without what each changed record was and became: the trail has that, under the same hash.
pub(super) fn record(recorded: &Recorded, out: &mut Vec<u8>) {
    let unit = &recorded.unit;
    let said = api_records::of_unit_without_changes(unit);
    let time = |time: Option<&_>| time.map(ToString::to_string).unwrap_or_default();
    let line = Line::Record {
        revision: said.revision,
        timeline: &said.timeline,
        hash: recorded.chain.to_string(),
        at: time(said.proposed_at.as_ref()),
        mesh_time_ms: said.mesh_time_ms,
        actor: &said.actor,
        action: &said.action,
        target: &said.target,
        outcome: said.outcome().as_str_name(),
        code: &said.code,
        detail: &said.detail,
        reason: &said.reason,
        ticket: &said.ticket,
        approval: &said.approval,
        requester: &said.requester,
        request_id: &said.request_id,
        transport: &said.transport,
        node: &said.node,
        received_at: time(said.received_at.as_ref()),
        changed: unit
            .changes()
            .iter()
            .filter_map(|change| change.key())
            .map(|(kind, id)| format!("{}/{id}", kind.word()))
            .collect(),
    };
    write(&line, out);
}

/// A request of a known caller that never became a command.
pub(super) fn refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    let Refusal {
        actor,
        action,
        target,
        code,
        request_id,
        transport,
        node,
        refused_wall_ms,
    } = refusal;
    let line = Line::Refusal {
        at: api_records::time(*refused_wall_ms).to_string(),
        actor,
        action,
        target,
        code,
        request_id,
        transport,
        node: node.to_string(),
    };
    write(&line, out);
}

/// How many refusals found no room on their way here.
pub(super) fn suppressed(refusals: u64, out: &mut Vec<u8>) {
    write(&Line::Suppressed { refusals }, out);
}

/// Revisions that this node could not have any more.
pub(super) fn gap(after: Revision, next: Revision, out: &mut Vec<u8>) {
    let line = Line::Gap {
        after_revision: after.0,
        next_revision: next.0,
    };
    write(&line, out);
}

/// The lines above that are of later revisions are of a history that was left.
pub(super) fn fork(after: Revision, timeline: String, out: &mut Vec<u8>) {
    let line = Line::Fork {
        after_revision: after.0,
        timeline,
    };
    write(&line, out);
}

/// Which record a line is about; none where it is no record's.
pub(super) fn position(line: &[u8]) -> Option<Last> {
    #[derive(Deserialize)]
    struct Read {
        revision: u64,
        timeline: String,
        hash: String,
    }
    if !line.starts_with(RECORD) {
        return None;
    }
    let Read {
        revision,
        timeline,
        hash,
    } = serde_json::from_slice(line).ok()?;
    read_position(&timeline, revision, &hash)
}

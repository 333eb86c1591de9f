//! What a dry run says beside the record that it would lead to: the checks, the changes, the steps.

use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use proto::v1::{self, preview::check::Verdict};
use statemachine::{Check, Outcome, Preview, Record, Revision, Rule, record::OperationState};
use tonic::metadata::BinaryMetadataValue;

use crate::convert;

/// The metadata of a preview over gRPC.
pub(crate) const PREVIEW: &str = "mesh-preview-bin";
/// The most bytes of a preview in metadata: what clients take by default is 8 KiB for all headers, in base64.
const METADATA_BYTES_MAX: usize = 4 * 1024;

/// The whole preview, on its way to the JSON document of REST.
#[derive(Debug, Clone)]
pub(crate) struct Whole(pub(crate) v1::Preview);

/// The preview in the contract's form. `confirm` is what has to be named, `needs_approval` who has to agree first.
pub(crate) fn of(preview: &Preview, outcome: &Outcome, revision: Revision, confirm: &str, needs: &str) -> v1::Preview {
    let accepted = !matches!(outcome, Outcome::Rejected(_));
    let why = if accepted {
        "it was not asked for, or nothing would change"
    } else {
        "a check before it failed"
    };
    let made = preview.checks.iter().map(made);
    let not_made = preview.not_made.iter().map(|rule| not_made(rule, why));
    let changes = match outcome {
        Outcome::Applied { changes, .. } => changes.as_slice(),
        _ => &[],
    };
    let begun = changes.iter().find_map(|change| match (&change.before, &change.after) {
        (None, Some(Record::Operation(operation))) if operation.state == OperationState::Running => Some(operation),
        _ => None,
    });
    v1::Preview {
        revision: revision.0,
        accepted,
        checks: made.chain(not_made).collect(),
        changes: changes.iter().filter_map(convert::change).collect(),
        steps: begun.map_or_else(Vec::new, |operation| convert::operation(operation).steps),
        confirm: confirm.to_owned(),
        needs_approval: needs.to_owned(),
        truncated: false,
    }
}

fn made(check: &Check) -> v1::preview::Check {
    let verdict = if check.passed { Verdict::Passed } else { Verdict::Failed };
    v1::preview::Check {
        rule: check.rule.name.to_owned(),
        code: check.rule.code.to_owned(),
        verdict: verdict.into(),
        measured: check.measured.clone(),
        limit: check.limit.clone(),
        detail: String::new(),
    }
}

fn not_made(rule: &Rule, why: &str) -> v1::preview::Check {
    v1::preview::Check {
        rule: rule.name.to_owned(),
        code: rule.code.to_owned(),
        verdict: Verdict::NotMade.into(),
        detail: why.to_owned(),
        ..v1::preview::Check::default()
    }
}

/// Puts the preview into metadata, without the records of its changes where they are too large.
pub(crate) fn put(headers: &mut HeaderMap, preview: &v1::Preview) {
    let value = BinaryMetadataValue::from_bytes(&bounded(preview).encode_to_vec());
    if let Ok(value) = HeaderValue::from_bytes(value.as_encoded_bytes()) {
        headers.insert(HeaderName::from_static(PREVIEW), value);
    }
}

/// The preview as it fits into metadata and into the details of a status.
pub(crate) fn bounded(preview: &v1::Preview) -> v1::Preview {
    let mut preview = preview.clone();
    if preview.encoded_len() <= METADATA_BYTES_MAX {
        return preview;
    }
    preview.truncated = true;
    for change in &mut preview.changes {
        (change.before, change.after) = (None, None);
    }
    while preview.encoded_len() > METADATA_BYTES_MAX && preview.changes.pop().is_some() {}
    // A selector or a stale ETag in a check is bounded by the request's own limits, which are wider.
    for check in &mut preview.checks {
        for text in [&mut check.measured, &mut check.limit] {
            text.truncate(text.floor_char_boundary(128));
        }
    }
    preview
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    #[test]
    fn what_goes_into_metadata_is_bounded() {
        let peer = v1::Peer {
            endpoints: vec!["h:1".repeat(100); 4],
            ..v1::Peer::default()
        };
        let record = v1::audit_record::Record {
            record: Some(v1::audit_record::record::Record::Peer(peer)),
        };
        let change = |n: u32| v1::audit_record::Change {
            kind: "peer".into(),
            id: format!("edge-{n}"),
            before: Some(record.clone()),
            after: None,
        };
        let check = v1::preview::Check {
            rule: "the peer exists".into(),
            measured: "x".repeat(3000),
            ..v1::preview::Check::default()
        };
        for count in [0, 1, 5, 900] {
            let preview = v1::Preview {
                changes: (0..count).map(change).collect(),
                checks: vec![check.clone()],
                ..v1::Preview::default()
            };
            let sent = bounded(&preview);
            assert!(sent.encoded_len() <= METADATA_BYTES_MAX, "{count}");
            assert_eq!(sent.truncated, sent != preview, "{count}");
            assert_eq!(sent.checks.len(), 1, "the checks are what a dry run is for");
            let mut headers = HeaderMap::new();
            put(&mut headers, &preview);
            let metadata = MetadataMap::from_headers(headers);
            let value = metadata.get_bin(PREVIEW).unwrap().to_bytes().unwrap();
            assert_eq!(v1::Preview::decode(value).unwrap(), sent);
        }
    }
}

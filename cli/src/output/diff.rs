//! What a dry run would change, field by field.

use std::collections::BTreeMap;

use prost::{Message, Name};
use serde_json::Value;

use super::{clean, style};
use crate::failure::Failure;

/// Bookkeeping that changes with every change, and says nothing about what was asked for.
const BOOKKEEPING: [&str; 5] = ["etag", "changedAt", "changedRevision", "createdAt", "createdRevision"];
/// Fields whose values are words of an enum, which people read in lower case.
const WORDS: [&str; 10] = [
    "status",
    "health",
    "state",
    "kind",
    "phase",
    "strategy",
    "policy.handOff",
    "moving.step",
    "moving.cause",
    "moving.handOff",
];

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `status`, `labels.zone`
    pub field: String,
    /// Absent where the field is new.
    pub before: Option<String>,
    /// Absent where the field is gone.
    pub after: Option<String>,
}

/// The fields in which two states of a record differ. An absent record differs in every field that holds something.
pub fn between<M: Message + Name>(before: Option<&M>, after: Option<&M>) -> Result<Vec<Difference>, Failure> {
    let (before, after) = (flat(before)?, flat(after)?);
    let fields: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    Ok(fields
        .into_iter()
        .filter(|field| before.get(*field) != after.get(*field))
        .map(|field| Difference {
            field: field.clone(),
            before: before.get(field).cloned(),
            after: after.get(field).cloned(),
        })
        .collect())
}

/// One line for each difference: `  status: active -> cordoned`, `+ zone: a`, `- gpu: yes`.
pub fn render(differences: &[Difference], colour: bool) -> String {
    let mut out = String::new();
    for difference in differences {
        let field = clean(&difference.field);
        let line = match (&difference.before, &difference.after) {
            (Some(before), Some(after)) => {
                style::paint(colour, style::YELLOW, &format!("  ~ {field}: {before} -> {after}"))
            }
            (None, Some(after)) => style::paint(colour, style::GREEN, &format!("  + {field}: {after}")),
            (Some(before), None) => style::paint(colour, style::RED, &format!("  - {field}: {before}")),
            (None, None) => continue,
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Leaves by their path. Fields that hold nothing count as absent.
fn flat<M: Message + Name>(message: Option<&M>) -> Result<BTreeMap<String, String>, Failure> {
    let mut leaves = BTreeMap::new();
    if let Some(message) = message {
        let value = proto::json::to_value(message).map_err(|error| {
            Failure::found(
                "internal",
                format!("the record cannot be compared: {error}"),
                "use -o json",
            )
        })?;
        collect(&value, String::new(), &mut leaves);
        leaves.retain(|field, _| !BOOKKEEPING.contains(&field.as_str()));
    }
    Ok(leaves)
}

fn collect(value: &Value, path: String, leaves: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Null => return,
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                collect(value, path, leaves);
            }
            return;
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => plain(value),
    };
    let text = shown(&path, text);
    if !text.is_empty() {
        leaves.insert(path, clean(&text).into_owned());
    }
}

/// A field's value as people read it.
pub fn shown(field: &str, text: String) -> String {
    match WORDS.contains(&field) {
        true => super::word(&text),
        false => text,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{Peer, peer::Status};

    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let mut before = Peer {
            id: "p1".into(),
            version: 1,
            status: Status::Active.into(),
            ..Peer::default()
        };
        before.labels.insert("gpu".into(), "yes".into());
        let mut after = before.clone();
        after.status = Status::Cordoned.into();
        after.labels.clear();
        after.labels.insert("zone".into(), "a\u{7}".into());
        let differences = between(Some(&before), Some(&after)).unwrap_or_default();
        let shown = render(&differences, false);
        assert_eq!(
            shown,
            "  - labels.gpu: yes\n  + labels.zone: a\\u{7}\n  ~ status: active -> cordoned\n"
        );
        assert!(between(Some(&before), Some(&before)).is_ok_and(|d| d.is_empty()));
        assert!(between(None, Some(&before)).is_ok_and(|d| d.iter().all(|d| d.before.is_none())));
    }
}

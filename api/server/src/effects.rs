//! What a request that waits for approval would change, field by field.

use std::collections::BTreeMap;

use proto::{json, v1};
use serde_json::Value;
use statemachine::{
    Effects, MeshState, OperationId, Record,
    record::{Approval, Config, Kind},
    staging, target_of,
};

use crate::convert;

/// The most records that are shown one by one.
const SHOWN_MAX: usize = 200;
/// What changes with every change, and says nothing about what was asked for.
const BOOKKEEPING: [&str; 6] = [
    "version",
    "etag",
    "changedAt",
    "changedRevision",
    "createdAt",
    "createdRevision",
];

/// A request for approval with what it would change now, or why it cannot be approved any more.
pub(crate) fn approval(mesh: &MeshState, approval: &Approval) -> v1::Approval {
    let mut shown = convert::approval(approval);
    if !approval.is_pending() {
        return shown;
    }
    match staging::replan(mesh, approval) {
        Ok(effects) => shown.effects = of(mesh, approval, &effects),
        Err(statemachine::Rejection::ApprovalStale { why, .. }) => shown.stale_because = why,
        Err(other) => shown.stale_because = other.detail(),
    }
    shown
}

fn of(mesh: &MeshState, approval: &Approval, effects: &Effects) -> Vec<v1::approval::Effect> {
    // An operation gets its id when it begins.
    let placeholder = OperationId::at(approval.asked).to_string();
    let real = |text: &str| text.replace(&placeholder, "(new)");
    let puts = effects.puts.iter().map(|put| (put.kind(), put.id(), Some(put)));
    let deletes = effects.deletes.iter();
    let deletes = deletes.filter(|(kind, _)| matches!(kind, Kind::Peer | Kind::Cluster));
    let deletes = deletes.map(|(kind, id)| (*kind, id.clone(), None));
    let shown = puts.chain(deletes).take(SHOWN_MAX).map(|(kind, id, after)| {
        let before = mesh.record(kind, &id).map(|record| fields(&record)).unwrap_or_default();
        let after = after.map(fields).unwrap_or_default();
        let names = before
            .keys()
            .chain(after.keys().filter(|name| !before.contains_key(*name)));
        let differs = names.filter(|name| before.get(*name) != after.get(*name));
        let text =
            |fields: &BTreeMap<String, String>, name| fields.get(name).map(|text| real(text)).unwrap_or_default();
        let mut differences: Vec<_> = differs
            .map(|name| v1::approval::Difference {
                field: name.clone(),
                before: text(&before, name),
                after: text(&after, name),
            })
            .collect();
        differences.sort_by(|a, b| a.field.cmp(&b.field));
        v1::approval::Effect {
            record: real(&target_of(kind, &id)),
            differences,
        }
    });
    shown.collect()
}

/// The leaves of a record's readable form by their path. What holds nothing is left out.
fn fields(record: &Record) -> BTreeMap<String, String> {
    let value = match record {
        Record::Peer(peer) => json::to_value(&convert::peer(peer)),
        Record::Operation(operation) => json::to_value(&convert::operation(operation)),
        Record::Cluster(cluster) => json::to_value(&convert::cluster(cluster)),
        Record::Config(config) => Ok(settings(config)),
        Record::Namespace(namespace) => json::to_value(&convert::namespace(namespace)),
        Record::Shard(shard) => json::to_value(&convert::shard(shard)),
        Record::Mesh(mesh) => Ok(serde_json::json!({
            "featureLevel": mesh.feature_level, "oldestRevision": mesh.floor.0,
        })),
        Record::Checkpoint(_) | Record::Certificate(_) | Record::Approval(_) | Record::Session(_) => Ok(Value::Null),
    };
    let mut leaves = BTreeMap::new();
    collect(&value.unwrap_or_default(), String::new(), &mut leaves);
    leaves.retain(|name, _| !BOOKKEEPING.contains(&name.as_str()));
    leaves
}

fn settings(config: &Config) -> Value {
    let items = convert::config(config).items.into_iter();
    let shown = items.map(|item| {
        let value = match item.choice.is_empty() {
            true => Value::from(item.value),
            false => Value::from(item.choice),
        };
        (item.name, value)
    });
    Value::Object(shown.collect())
}

fn collect(value: &Value, path: String, leaves: &mut BTreeMap<String, String>) {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(step) if step.contains_key("name") => {
            step.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    };
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
    if !text.is_empty() {
        leaves.insert(path, text);
    }
}

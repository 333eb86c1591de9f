//! What is published is pinned. `MESHKIT_UPDATE_GOLDEN=1` writes it anew, to be looked at in the diff.

use std::{fs, path::PathBuf};

use meshkit_api_server::{error, openapi};
use proto::{codes::Code, methods};
use statemachine::REJECTION_CODES;

fn golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("MESHKIT_UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{name} differs from what is published; MESHKIT_UPDATE_GOLDEN=1 writes it anew"
    );
}

#[test]
fn error_codes() {
    let mut lines = Vec::new();
    let general = Code::ALL
        .iter()
        .filter(|code| **code != Code::Rule)
        .map(|code| code.as_str());
    let rules = REJECTION_CODES.iter().copied().chain(error::RULES.iter().copied());
    let names: std::collections::BTreeSet<&str> = general.chain(rules).collect();
    for name in names {
        let code = Code::of(name);
        let retryable = if code.is_retryable() { "retryable" } else { "final" };
        lines.push(format!(
            "{name} {} {:?} exit={} {retryable}",
            code.http(),
            code.grpc(),
            code.exit()
        ));
    }
    golden("error_codes.txt", &(lines.join("\n") + "\n"));
}

#[test]
fn openapi_document() {
    // Sorted by name, whatever order the JSON library keeps.
    fn sorted(value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => {
                let mut members: Vec<_> = map.iter().collect();
                members.sort_by_key(|(name, _)| name.as_str());
                members
                    .into_iter()
                    .map(|(name, value)| (name.clone(), sorted(value)))
                    .collect()
            }
            serde_json::Value::Array(items) => items.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    let text = serde_json::to_string_pretty(&sorted(&openapi::document())).unwrap();
    golden("openapi.json", &(text + "\n"));
}

#[test]
fn references_of_the_openapi_document_lead_somewhere() {
    fn walk(value: &serde_json::Value, root: &serde_json::Value) {
        if let Some(reference) = value.get("$ref").and_then(|reference| reference.as_str()) {
            assert!(
                root.pointer(&reference[1..]).is_some_and(|found| !found.is_null()),
                "{reference}"
            );
        }
        match value {
            serde_json::Value::Object(map) => map.values().for_each(|value| walk(value, root)),
            serde_json::Value::Array(items) => items.iter().for_each(|value| walk(value, root)),
            _ => {}
        }
    }
    let document = openapi::document();
    walk(&document, &document);
    assert!(document.pointer("/paths/~1meshkit~1peers~1{id}:drain/post").is_some());
}

#[test]
fn actions_are_those_of_the_audit_trail() {
    use statemachine::{
        CancelOperation, Command, CordonPeer, DeregisterPeer, DrainPeer, PatchPeer, UncordonPeer, UndrainPeer,
    };
    let id: statemachine::PeerId = "p".parse().unwrap();
    let commands: [(Command, &str); 7] = [
        (CordonPeer { id: id.clone() }.into(), "CordonPeer"),
        (UncordonPeer { id: id.clone() }.into(), "UncordonPeer"),
        (DrainPeer { id: id.clone() }.into(), "DrainPeer"),
        (UndrainPeer { id: id.clone() }.into(), "UndrainPeer"),
        (DeregisterPeer { id: id.clone() }.into(), "DeregisterPeer"),
        (
            CancelOperation {
                id: "op-1".parse().unwrap(),
            }
            .into(),
            "CancelOperation",
        ),
        (
            PatchPeer {
                id,
                labels: Default::default(),
                metadata: Default::default(),
                remove_labels: Vec::new(),
                remove_metadata: Vec::new(),
            }
            .into(),
            "PatchPeer",
        ),
    ];
    for (command, method) in commands {
        let method = methods::all().iter().find(|known| known.name == method).unwrap();
        assert_eq!(command.handler().action(), method.action);
    }
}

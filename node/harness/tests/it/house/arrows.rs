//! Dependencies between the crates point one way.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::File;

/// Folder → the folders it may depend on directly; what those depend on is allowed with them.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("statemachine", &[]),
    ("raft", &["statemachine", "proto"]),
    ("raft/rocksdb", &["raft"]),
    // Only openraft depends on it, by the name of what it stands in for.
    ("raft/base2histogram", &[]),
    ("controllers", &["raft"]),
    ("api/records", &["proto", "statemachine"]),
    ("api/quic", &[]),
    ("api/server", &["raft", "api/records", "api/quic"]),
    ("api/client", &["api/records", "api/quic"]),
    ("node", &["controllers", "api/server", "api/quic", "raft/rocksdb"]),
    ("node/harness", &["api/client"]),
    ("cli", &["api/client"]),
    ("chaos", &["node", "raft", "statemachine", "api/client", "node/harness"]),
    // For tests alone, of any crate.
    ("chaos/fuzz", &[]),
    ("jepsen-style-tests", &["api/client", "node/harness"]),
    ("bench", &["api/client", "node/harness"]),
];

/// Only these manifests may name openraft or rocksdb.
const STORAGE: [&str; 2] = ["raft/Cargo.toml", "raft/rocksdb/Cargo.toml"];

fn package_of(folder: &str) -> String {
    // `raft/rocksdb` is meshkit-raft-rocksdb.
    format!("meshkit-{}", folder.replace('/', "-"))
}

fn allowed(folder: &str) -> BTreeSet<&'static str> {
    let mut allowed = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for (from, to) in ARROWS {
            if *from == next {
                for to in *to {
                    if allowed.insert(*to) {
                        open.push((*to).to_owned());
                    }
                }
            }
        }
    }
    allowed
}

/// Every dependency of a manifest, those for tests aside, by the name cargo knows the package by.
fn dependencies(manifest: &File, aliases: &BTreeMap<String, String>) -> Vec<String> {
    let parsed: toml::Table = manifest.text.parse().unwrap();
    let mut tables = Vec::new();
    for table in ["dependencies", "build-dependencies"] {
        tables.extend(parsed.get(table));
        for target in parsed
            .get("target")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flat_map(toml::Table::values)
        {
            tables.extend(target.get(table));
        }
    }
    let mut found = Vec::new();
    for table in tables {
        for (name, value) in table.as_table().unwrap() {
            let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
            found.push(aliases.get(package).map_or(package, String::as_str).to_owned());
        }
    }
    found
}

/// The short names the workspace gives its own packages.
fn aliases() -> BTreeMap<String, String> {
    ARROWS
        .iter()
        .map(|(folder, _)| (folder.replace('/', "-"), package_of(folder)))
        .collect()
}

pub fn complaints(manifests: &[File]) -> Vec<String> {
    let aliases = aliases();
    let mut complaints = Vec::new();
    for manifest in manifests {
        let folder = manifest.path.trim_end_matches("/Cargo.toml");
        let Some((folder, _)) = ARROWS.iter().find(|(known, _)| *known == folder) else {
            complaints.push(format!(
                "{}: a crate whose place in the order of dependencies is unknown",
                manifest.path
            ));
            continue;
        };
        let allowed = allowed(folder);
        for dependency in dependencies(manifest, &aliases) {
            if let Some((to, _)) = ARROWS.iter().find(|(to, _)| package_of(to) == dependency)
                && !allowed.contains(to)
            {
                complaints.push(format!("{}: {folder} must not depend on {to}", manifest.path));
            }
        }
    }
    complaints
}

pub fn outside_raft(manifests: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for manifest in manifests
        .iter()
        .filter(|manifest| !STORAGE.contains(&manifest.path.as_str()))
    {
        for dependency in dependencies(manifest, &aliases()) {
            if dependency.starts_with("openraft") || dependency.contains("rocksdb-sys") || dependency == "rocksdb" {
                complaints.push(format!("{}: {dependency} belongs under raft/", manifest.path));
            }
        }
    }
    complaints
}

#[test]
fn a_turned_arrow_is_seen() {
    let turned = |path: &str, text: &str| complaints(&[File::new(path, text)]);
    assert_eq!(
        turned("statemachine/Cargo.toml", "[dependencies]\nraft.workspace = true").len(),
        1
    );
    assert_eq!(
        turned(
            "controllers/Cargo.toml",
            "[dependencies]\napi-server = { workspace = true }"
        )
        .len(),
        1
    );
    assert_eq!(
        turned(
            "api/server/Cargo.toml",
            "[dependencies]\nc = { package = \"meshkit-controllers\" }"
        )
        .len(),
        1
    );
    assert_eq!(
        turned(
            "raft/Cargo.toml",
            "[target.'cfg(unix)'.dependencies]\nnode.workspace = true"
        )
        .len(),
        1
    );
    assert_eq!(
        turned("cli/Cargo.toml", "[build-dependencies]\nchaos.workspace = true").len(),
        1
    );
    assert_eq!(turned("attic/Cargo.toml", "").len(), 1);
    assert!(turned("raft/Cargo.toml", "[dev-dependencies]\nraft-rocksdb.workspace = true").is_empty());
    assert!(
        turned(
            "cli/Cargo.toml",
            "[dependencies]\nproto.workspace = true\napi-client.workspace = true"
        )
        .is_empty()
    );
}

#[test]
fn storage_in_a_strange_manifest_is_seen() {
    let strange = File::new(
        "node/Cargo.toml",
        "[dependencies]\nrocksdb.workspace = true\nopenraft = \"1\"",
    );
    assert_eq!(outside_raft(&[strange]).len(), 2);
    assert!(outside_raft(&[File::new("raft/Cargo.toml", "[dependencies]\nopenraft = \"1\"")]).is_empty());
}

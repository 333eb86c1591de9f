//! Names that may not stand where they would do harm.

use super::source::{code, mentions, without_tests};
use super::tree::File;

/// What would make `apply` answer differently on two nodes, or at two times.
const IMPURE: &[(&str, &str)] = &[
    ("SystemTime", "a clock"),
    ("Instant", "a clock"),
    ("UNIX_EPOCH", "a clock"),
    ("HashMap", "no order"),
    ("HashSet", "no order"),
    ("RandomState", "no order"),
    ("f32", "a float"),
    ("f64", "a float"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("tokio", "a runtime"),
    ("futures", "a runtime"),
    ("async", "a runtime"),
    ("std::fs", "input and output"),
    ("std::net", "input and output"),
    ("std::io", "input and output"),
    ("std::process", "input and output"),
    ("std::env", "input and output"),
    ("std::thread", "threads"),
    ("std::time", "a clock"),
    ("thread_local", "hidden state"),
    ("static mut", "hidden state"),
    ("println", "input and output"),
    ("eprintln", "input and output"),
];

/// `std::time::Duration` is a number, not a clock.
const PURE: &[&str] = &["std::time::Duration"];

/// The one module that may name bincode, or the folder it has become.
const CODEC: [&str; 2] = ["statemachine/src/codec.rs", "statemachine/src/codec/"];

fn found(file: &File, name: &str) -> Vec<String> {
    let mut code = code(without_tests(&file.text));
    for pure in PURE {
        code = code.replace(pure, "");
    }
    mentions(&code, name)
        .iter()
        .map(|line| format!("{}:{line}: {name}", file.path))
        .collect()
}

pub fn impure(sources: &[File]) -> Vec<String> {
    let core = sources
        .iter()
        .filter(|file| file.path.starts_with("statemachine/src/") && !file.is_test());
    let mut complaints = Vec::new();
    for file in core {
        for (name, what) in IMPURE {
            let lines = found(file, name);
            complaints.extend(
                lines
                    .iter()
                    .map(|line| format!("{line}: {what} has no place in the pure core")),
            );
        }
    }
    complaints
}

pub fn outside_raft(sources: &[File]) -> Vec<String> {
    let others = sources.iter().filter(|file| !file.path.starts_with("raft/"));
    let lines = others.flat_map(|file| ["openraft", "rocksdb"].iter().flat_map(|name| found(file, name)));
    lines
        .map(|line| format!("{line} may be named only under raft/"))
        .collect()
}

pub fn second_bincode(sources: &[File]) -> Vec<String> {
    let others = sources
        .iter()
        .filter(|file| !CODEC.iter().any(|codec| file.path.starts_with(codec)));
    let lines = others.flat_map(|file| found(file, "bincode"));
    lines
        .map(|line| format!("{line} belongs to the codec module alone"))
        .collect()
}

#[test]
fn planted_impurities_are_seen() {
    for planted in [
        "use std::collections::HashMap;",
        "fn f() -> u64 { std::time::SystemTime::now(); 1 }",
        "fn f(x: f64) {}",
        "fn f() { let t = Instant::now(); }",
        "use std::fs;",
        "async fn f() {}",
        "fn f() { rand::random::<u8>(); }",
        "use tokio::sync::mpsc;",
        "fn f() { std::thread::spawn(|| ()); }",
    ] {
        assert!(
            !impure(&[File::new("statemachine/src/apply.rs", planted)]).is_empty(),
            "{planted}"
        );
    }
    let harmless =
        "// HashMap\nuse std::time::Duration;\n#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}\n";
    assert!(impure(&[File::new("statemachine/src/apply.rs", harmless)]).is_empty());
    assert!(impure(&[File::new("raft/src/handle.rs", "use std::time::Instant;")]).is_empty());
}

#[test]
fn planted_names_outside_their_room_are_seen() {
    assert_eq!(
        outside_raft(&[File::new("node/src/run.rs", "use openraft::Raft;\nuse rocksdb::DB;")]).len(),
        2
    );
    assert!(outside_raft(&[File::new("raft/src/a.rs", "use openraft::Raft;")]).is_empty());
    assert!(outside_raft(&[File::new("node/src/a.rs", "use raft_rocksdb::Options; // rocksdb")]).is_empty());
    assert_eq!(
        second_bincode(&[File::new("raft/src/log.rs", "bincode::encode()")]).len(),
        1
    );
    assert!(second_bincode(&[File::new("statemachine/src/codec.rs", "bincode::encode()")]).is_empty());
}

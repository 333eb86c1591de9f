//! Bugs that are put in on purpose have to be found, on ordinary seeds and by the standing invariants.

use crate::{chaos, text};

/// How many seeds may pass before a bug counts as missed.
const SEEDS: u64 = 5;

fn caught(plant: &str) {
    let mut missed = Vec::new();
    for seed in 0..SEEDS {
        let output = chaos(&["run", "--seed", &seed.to_string(), "--plant", plant]);
        let told = text(&output);
        if output.status.code() == Some(1) && told.contains("VIOLATED") {
            return;
        }
        missed.push(told);
    }
    panic!("{plant} was missed on {SEEDS} seeds:\n{}", missed.join("\n"));
}

#[test]
fn a_sync_that_does_nothing_is_caught() {
    caught("lying-sync");
}

#[test]
fn a_log_that_is_not_synced_is_caught() {
    caught("lying-log-sync");
}

/// It has to be a write that was acknowledged and is gone that gives it away, not some accident.
#[test]
fn it_is_acknowledged_writes_that_are_missed() {
    let found = (0..SEEDS).any(|seed| {
        let output = chaos(&["run", "--seed", &seed.to_string(), "--plant", "lying-sync"]);
        text(&output).contains("invariant acknowledged: VIOLATED")
    });
    assert!(found, "no acknowledged write was missed on {SEEDS} seeds");
}

/// A bug has to be found by the invariant that is there for it.
fn caught_by(plant: &str, invariant: &str) {
    let found = format!("invariant {invariant}: VIOLATED");
    let caught = (0..SEEDS).any(|seed| {
        let output = chaos(&["run", "--seed", &seed.to_string(), "--plant", plant]);
        output.status.code() == Some(1) && text(&output).contains(&found)
    });
    assert!(caught, "{plant} was missed by {invariant} on {SEEDS} seeds");
}

#[test]
fn a_node_that_compacts_otherwise_is_caught() {
    caught("uneven-floor");
}

#[test]
fn a_removed_node_that_nobody_knows_of_is_caught() {
    caught_by("forgotten-removal", "members");
}

#[test]
fn a_backup_from_before_it_was_asked_for_is_caught() {
    caught_by("stale-backup", "backups");
}

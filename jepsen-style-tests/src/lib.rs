//! Workloads against built programs, what they saw, and whether that could be.
//!
//! A run starts a real mesh, lets clients read, write and compare-and-set registers through every node while a
//! nemesis kills nodes, and records each call and its end in a [`history`]. Afterwards the history is judged:
//! [`register`] searches an order that explains it (linearizability, by `porcupine-rs`), [`recency`] compares the
//! revisions that answers carried, and [`trail`] holds the history against the audit trail. What a run must have
//! done to count at all is in [`gates`].
//!
//! ```text
//! meshkit-jepsen-style-tests run --seconds 60 --kills 5     a run, judged
//! meshkit-jepsen-style-tests check HISTORY.jsonl            the judgement alone, on a recorded history
//! meshkit-jepsen-style-tests failover --kills 20            how long until a write is acknowledged again
//! meshkit-jepsen-style-tests operators                      50 operators, approvals, mass drains, watches, audit
//! ```
//!
//! Not here: how processes are started and killed (`node/harness`), simulated faults (`chaos/`).

pub mod cluster;
mod error;
pub mod failover;
pub mod gates;
pub mod history;
pub mod keys;
pub mod nemesis;
pub mod operators;
pub mod recency;
pub mod register;
pub mod run;
pub mod trail;
pub mod workload;

pub use error::{Error, Result};

//! Tests of the house's rules, and of the harness itself.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

// The short name under which every other package knows it.
extern crate meshkit_node_harness as node_harness;

mod e2e;
mod house;

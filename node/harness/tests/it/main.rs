//! Tests of the house's rules, of the harness, and of the node's program as it was built.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

// The short name under which every other package knows it.
extern crate meshkit_node_harness as node_harness;

mod dev;
mod e2e;
mod house;
mod program;

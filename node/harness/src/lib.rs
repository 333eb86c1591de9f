//! Starts the built programs for tests, and treats them badly.
//!
//! Tests that say something about MeshKit as a user has it drive `meshkit-node` and `mesh` as
//! they were built, over real sockets. This crate finds the programs, starts a whole mesh of
//! them, kills and restarts its nodes, runs the CLI against it, and cleans up:
//!
//! ```no_run
//! use meshkit_node_harness::{Mesh, Options, wait_until};
//! use std::time::Duration;
//!
//! let mut mesh = Mesh::start(Options::default()).unwrap();
//! mesh.mesh(["peers", "register", "p1", "--endpoint", "127.0.0.1:9001"]).ok().unwrap();
//! mesh.kill(1).unwrap();
//! wait_until(Duration::from_secs(5), "a new leader", || mesh.mesh(["status"]).success()).unwrap();
//! mesh.restart(1).unwrap();
//! ```
//!
//! Not here: what the answers ought to be, and how to speak to a node (that is `api-client`).

#![allow(clippy::print_stderr, reason = "what a failed test needs to show")]

mod dev_file;
mod error;
mod mesh;
mod network;
mod output;
mod process;
mod programs;
mod usage;
mod wait;

pub use dev_file::{Cluster, DevFile, Node, Tokens};
pub use error::Error;
pub use mesh::{Mesh, Options};
pub use network::Network;
pub use output::Output;
pub use process::Running;
pub use programs::Programs;
pub use usage::Usage;
pub use wait::{wait_for, wait_until};

//! The sections of the configuration file, one file each where a section is long.

mod api;
mod auth;
mod cluster;
mod observe;
mod raft;
mod storage;

pub use api::{Api, Limits, Tls};
pub use auth::{Auth, AuthBinding};
pub use cluster::{Member, Mesh, Node};
pub use observe::{Audit, Log, LogFormat, LogLevel, Telemetry};
pub use raft::Raft;
pub use storage::{Retention, Storage};

/// Exactly representable in JSON: identifiers and counts stay below.
pub(super) const INTEGER_MAX: u64 = (1 << 53) - 1;

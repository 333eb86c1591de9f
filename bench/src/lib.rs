//! The mesh beside etcd: the same load, the same disk, the same run.
//!
//! [`compare`] starts three etcd members and a mesh of three nodes, TLS on both sides, and lets them take turns under
//! the same closed-loop load from the same HTTP/2 client. Machines differ and are shared; ratios of neighbours in
//! time say more than figures, so the tables show both, and the ratio is what is compared from run to run.
//!
//! Not here: what is claimed (`docs/performance.md`), and tests of correctness (`jepsen-style-tests/`, `chaos/`).

pub mod compare;
mod error;
pub mod etcd;
pub mod link;
pub mod load;
pub mod mesh;
pub mod plan;
pub mod recover;
pub mod shards;
pub mod table;
pub mod transports;
pub mod usage;
pub mod watchers;

pub use error::{Error, Result};

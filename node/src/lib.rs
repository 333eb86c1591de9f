//! A node of a cluster: what `meshkit-node` does, as a library.
//!
//! Owns: configuration, certificates and tokens, the data directory, TLS, the order in which a
//! node is started and stopped, and the development mesh. Puts together what the other crates
//! offer: consensus (`raft`), the leader's loops (`controllers`) and the API (`api-server`).
//!
//! Does not own: what any of these do. [`run`] takes an [`Env`], which stands for the machine;
//! without the feature `rocksdb` nothing here opens a disk, so that a simulation can run nodes on
//! its own.
//!
//! Start reading at [`run`].

pub mod audit_log;
pub mod certs;
pub mod config;
pub mod directory;
pub mod disk;
mod env;
pub mod exit;
mod logs;
mod presence;
pub mod run;
pub mod tls;
#[cfg(feature = "rocksdb")]
mod traces;
mod vitals;

#[cfg(feature = "rocksdb")]
pub mod args;
#[cfg(feature = "rocksdb")]
pub mod dev;
#[cfg(feature = "rocksdb")]
pub mod join;
#[cfg(feature = "rocksdb")]
mod metrics_listener;
#[cfg(feature = "rocksdb")]
mod notify;
#[cfg(feature = "rocksdb")]
mod production;
#[cfg(feature = "rocksdb")]
pub mod program;
#[cfg(feature = "rocksdb")]
pub mod recover;
#[cfg(feature = "rocksdb")]
mod reload;
#[cfg(feature = "rocksdb")]
mod report;
#[cfg(feature = "rocksdb")]
pub mod restore;
#[cfg(feature = "rocksdb")]
mod signals;
#[cfg(feature = "rocksdb")]
mod stores;

/// The version that this program gives as its own. The one of the level before is told from today's by it.
pub const VERSION: &str = if cfg!(feature = "previous-level") {
    "0.0.9-previous"
} else {
    env!("CARGO_PKG_VERSION")
};

pub use config::Config;
pub use env::Env;
pub use exit::{Exit, Failure};
pub use run::{Node, run};

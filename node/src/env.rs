//! What a node needs of the machine it runs on.
//!
//! Production fills this in over RocksDB, TLS and the system's clock; a simulation over a
//! simulated disk and network. Nothing behind it touches the machine in any other way.

use std::sync::Arc;

use api_server::Authenticator;
use api_server::ports::{Alarm, CertificateExpiry, Inspect, QuicListen};
use controllers::Signer;
use raft::Threads;
use raft::engine::Engine;
use raft::env::{Clock, Dial, Listen};
use rand::RngCore;
use statemachine::NodeId;
use statemachine::cluster::Incarnation;

use crate::audit_log;
use crate::disk::Disk;

/// The machine, as a node sees it.
pub struct Env {
    /// The engine of the log store.
    pub log: Arc<dyn Engine>,
    /// The engine of the state store.
    pub state: Arc<dyn Engine>,
    /// Where clients and other nodes reach the API.
    pub api: Box<dyn Listen>,
    /// The same over QUIC, where HTTP/3 is served; none in a simulation.
    pub quic: Option<Box<dyn QuicListen>>,
    /// Where other nodes reach consensus.
    pub raft: Box<dyn Listen>,
    /// How this node reaches others.
    pub dial: Arc<dyn Dial>,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// All randomness of the node follows from this.
    pub rng: Box<dyn RngCore + Send>,
    /// Where what blocks is run.
    pub threads: Threads,
    /// Signs with the node's key.
    pub signer: Arc<dyn Signer>,
    /// Knows who callers are; whoever fills this in may replace its rules while the node runs.
    pub auth: Arc<Authenticator>,
    /// Alarms about the machine, asked for whenever somebody looks.
    pub alarms: Arc<dyn Fn() -> Vec<Alarm> + Send + Sync>,
    /// What ends first among the certificates in use, asked for whenever somebody looks.
    pub certificate_expiry: Arc<dyn Fn() -> Option<CertificateExpiry> + Send + Sync>,
    /// The disk under the data directory.
    pub disk: Arc<dyn Disk>,
    /// What an operator can look into and turn on the node; none in a simulation.
    pub inspect: Option<Arc<dyn Inspect>>,
    /// The SHA-256 fingerprints of the authorities in use, asked for whenever somebody is invited.
    pub authorities: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The life of the data directory that this node runs on.
    pub incarnation: Incarnation,
    /// The files that the audit trail is written to on this node; none where it keeps none, and in a simulation.
    pub audit_log: Option<audit_log::Log>,
    /// The only nodes that this one speaks with before it has a membership; `None`: every node of its cluster.
    pub pinned: Option<Vec<NodeId>>,
    /// Whether this node founds its cluster: its data directory was made by `init`.
    pub founder: bool,
}

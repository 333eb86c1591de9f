//! Deterministic simulation of a cluster under faults.
//!
//! One seed is one story: three nodes on a simulated network and simulated disks, a fourth that takes the place of one,
//! clients that write and read, operators that compact, back up and move leadership, faults
//! on a schedule that follows from the seed, and at the end the questions that must have one answer. The same seed
//! gives the same story, to the last byte of its log, so a failure can be looked at as often as it takes.
//!
//! What runs is what ships: the whole of a node ([`::node::Node`]) with consensus, leader loops and API, and for half of the
//! clients the SDK; the others talk to consensus directly, to be told more than an API tells. What is simulated is what
//! those stand on: disks ([`raft::engine::memory`]), connections
//! ([`network`]), clocks ([`clock`]) and randomness. A simulation needs a thread to itself and sets nothing global, but
//! run one seed per process: a story then cannot depend on what ran before it.
//!
//! Start reading at [`run`], then [`invariants`].
//!
//! One part has nothing simulated but the peers: [`fleet`] plays data-plane peers against a mesh that runs (`meshkit-fleet`).
//!
//! Deliberately not here: tests of running processes (`jepsen-style-tests`), and any fault that only an operating
//! system can have.

pub mod clock;
pub mod coverage;
pub mod evidence;
pub mod fleet;
pub mod history;
pub mod invariants;
pub mod network;
pub mod node;
pub mod orders;
pub mod plant;
pub mod port;
pub mod report;
pub mod restored;
pub mod run;
pub mod schedule;
pub mod sdk;
pub mod seeds;
pub mod session;
pub mod workload;

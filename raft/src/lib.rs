//! Consensus of one cluster: its log, its replicated state, its snapshots, and how its nodes talk.
//!
//! Owns: the Raft log with group commit ([`log`]), the state on disk with its history and
//! snapshots ([`state`]), the node-to-node protocol ([`net`]), linearizable reads on every node
//! ([`reads`]), the leader's mesh clock, and the broadcast of what was applied. All of it stands
//! on two seams: [`engine`] for disks and [`env`] for clocks and connections, so that it runs
//! unchanged in a simulation.
//!
//! Does not own: what an entry means (`statemachine` decides that, as a pure function), who may
//! propose what (`api/server`), what a leader does with its time (`controllers`), certificates
//! and sockets (`node`). The consensus library is an implementation detail: none of its types is
//! visible outside. A node holds a [`Handle`] and nothing else.
//!
//! Start reading at [`Handle`], then [`start`].

pub mod backup;
pub mod checkup;
pub mod config;
pub mod engine;
pub mod env;
pub mod error;
pub mod handle;
pub mod health;
pub mod log;
pub mod net;
pub mod propose;
pub mod reads;
pub mod restore;
pub mod single;
pub mod state;
pub mod status;
#[cfg(feature = "simulation")]
pub mod testing;
pub mod traces;
pub mod view;

mod blocking;
mod calls;
mod campaign;
mod checksum;
mod fatal;
mod format;
mod node;
mod recovery;
mod settle;
mod task;
mod types;
mod watchdog;

pub use backup::Backup;
pub use blocking::Threads;
pub use checkup::{Checkup, Vitals};
pub use config::Config;
pub use error::{Error, Fatal, FatalKind, Leader, MembershipRefusal};
pub use handle::{Committed, Consistency, Endpoint, Handle, MemberChange};
pub use health::{DiskSpace, Health, unfit_to_lead};
pub use log::writer::LogCounters;
pub use net::{Identity, JoinError, JoinRefusal, JoinRequest, RefusalCode, RefusalCounters};
pub use node::{Boot, start};
pub use propose::Carried;
pub use reads::ReadMode;
pub use status::{Member, Quorum, Role, Status, VoterChange};
pub use view::View;

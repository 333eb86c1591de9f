//! The loops of a node: they look at the replicated state, see what is to be done, and propose it.
//!
//! A loop takes no input and keeps nothing that matters in memory: it is woken by every change of the state and by a
//! period, looks at the state afresh, and proposes the next step, conditioned so that a step proposed twice or by a
//! deposed leader is refused. Killing the process at any point loses nothing.
//!
//! Does not decide what a step does (`statemachine` handlers and planners do) and knows nothing of the API.

mod approvals;
mod bootstrap;
mod checkpoint;
mod checkup;
mod controller;
mod describe;
mod drain;
mod driver;
mod namespaces;
mod ports;
mod presence;
mod refusals;
mod retention;
mod shards;
mod standing;
#[cfg(test)]
mod world;

pub use self::{
    checkpoint::Schedule as CheckpointSchedule,
    checkup::Seen,
    driver::{Config, LoopStatus, Running, start},
    ports::{Signed, Signer, SignerError},
    presence::{Answer as BeatAnswer, Hearing},
    refusals::RefusalLog,
};

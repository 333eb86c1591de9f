//! Planners: pure functions from a state to the steps of an operation. The API previews with them, handlers commit
//! them, controllers carry them out; none makes a choice of its own.

pub mod avoid;
pub mod drain;
pub mod drain_peers;
pub mod reconcile;
pub mod reshape;
pub mod room;
pub mod shards;
pub mod simulate;

//! Planners: pure functions from a state to the steps of an operation. The API previews with them, handlers commit
//! them, controllers carry them out; none makes a choice of its own.

pub mod drain;

//! Log lines: text or JSON on standard error, with a level that can be changed while running, for a while or for good.
//! The last of them are kept in memory too, wherever standard error goes.

pub mod filter;
#[cfg(feature = "rocksdb")]
mod ring;

#[cfg(feature = "rocksdb")]
mod levels;

#[cfg(feature = "rocksdb")]
pub use levels::{Levels, start};

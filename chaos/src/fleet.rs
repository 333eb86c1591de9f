//! A fleet of data-plane peers that do everything but serve: thousands of them in one process, over real connections to a
//! mesh that runs.
//!
//! Each peer is the SDK's own ([`api_client::Peer`]) with a credential of its own; many share a connection. What it would do
//! with its shards is noted by [`watchman`], which asks of every shard, at every moment, who would serve a request for it:
//! two at once, a token that does not grow, and a shard that nobody serves for too long are violations. [`peer`] makes peers
//! that are slow, silent, dumb or dead for a while, and one that goes on serving although it said that it stopped: the
//! watchman has to see that one.
//!
//! Read [`play`] first. What is asked of a fleet while it runs is in [`orders`].

pub mod options;
pub mod orders;
pub mod peer;
pub mod play;
pub mod report;
pub mod setup;
pub mod watchman;

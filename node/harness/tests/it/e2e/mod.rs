//! The programs as users have them: `meshkit-node` and `mesh` as they were built, over real sockets, with real kills.
//!
//! Each module says which promise it holds the product to; numbers such as M2 are those of the requirements. Modules
//! whose tests do not disturb each other share one mesh ([`shared`]); tests that kill nodes have their own.

mod approvals;
mod backup;
mod bad_input;
mod browser;
mod cli;
mod clocks;
mod clusters;
mod config;
mod contract;
mod copies;
mod corruption;
mod day;
mod day2;
mod docs;
mod drain;
mod drains;
mod edges;
mod fitness;
mod fleet;
mod flips;
mod floods;
mod foreign;
mod growing;
mod guide;
mod history;
mod host;
mod http3;
mod joining;
mod keys;
mod kills;
mod map;
mod members;
mod metrics;
mod moves;
mod operators;
mod partition;
mod peers;
mod rebuilt;
mod rotation;
mod settings;
mod shards;
mod shared;
mod traces;
mod trail;
mod transports;
mod upgrade;
mod verbs;
mod views;
mod watchers;
mod watches;
mod watching;
mod wire;
mod world;

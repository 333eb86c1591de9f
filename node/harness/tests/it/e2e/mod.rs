//! The programs as users have them: `meshkit-node` and `mesh` as they were built, over real sockets, with real kills.
//!
//! Each module says which promise it holds the product to; numbers such as M2 are those of the requirements. Modules
//! whose tests do not disturb each other share one mesh ([`shared`]); tests that kill nodes have their own.

mod backup;
mod bad_input;
mod cli;
mod clusters;
mod config;
mod copies;
mod corruption;
mod day2;
mod docs;
mod drain;
mod fitness;
mod foreign;
mod growing;
mod history;
mod joining;
mod kills;
mod members;
mod operators;
mod rebuilt;
mod rotation;
mod settings;
mod shared;
mod upgrade;
mod verbs;
mod wire;
mod world;

//! Listeners, authentication, gRPC services and the REST that is derived from the contract.
//!
//! Owns everything between an accepted byte stream and consensus: HTTP, who the caller is and what they hold, limits
//! and deadlines, the services, and the conversion of every refusal into a status or a problem document. Each RPC is
//! implemented once, as a gRPC service; REST is transcoded from the contract's descriptors and calls the same
//! services in process.
//!
//! Deliberately does not own: sockets and TLS (the node's [`raft::env::Listen`] and [`raft::env::Dial`]), loops that
//! only a leader runs (see [`ports`]), rules of the domain (the state machine's), and the contract (`proto`).
//!
//! Start reading at [`Server`], then `stack.rs`, which is the way of one request.

pub mod auth;
pub mod config;
pub mod cursor;
mod effects;
pub mod error;
pub mod headers;
pub mod join_token;
pub mod metrics;
pub mod openapi;
pub mod ports;
pub mod transport;

mod access;
mod activity;
mod body;
mod browser;
mod caller;
mod connection;
mod context;
mod convert;
mod core;
mod deadlines;
mod filter;
mod forward;
mod framing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
mod fuzz;
mod grpc;
mod h3;
mod history;
mod listing;
mod made;
mod moves;
mod mutate;
mod operation_hub;
mod outgoing;
mod preview;
mod rates;
mod rest;
mod route;
mod server;
mod services;
mod session;
mod shares;
mod stack;
mod system;
mod trace;
mod watch;
mod way;

pub use self::{
    auth::{AuthConfig, Authenticator, Binding, InvalidAuth, JwtConfig, Principal},
    config::{Config, Deadlines, Limits},
    error::Error,
    server::{Parts, Server},
};

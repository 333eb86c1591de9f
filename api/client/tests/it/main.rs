//! The SDK against nodes that answer as they are told, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

extern crate meshkit_api_client as api_client;

mod calls;
mod fake;
mod http3;
mod tls;

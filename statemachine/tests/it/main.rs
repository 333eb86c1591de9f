//! Tests of the state machine from outside, by requirement number (shared wording: docs/architecture.md).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod backup;
mod clusters_and_settings;
mod encodings;
mod handlers;
mod properties;
mod world;

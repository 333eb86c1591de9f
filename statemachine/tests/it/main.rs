//! Tests of the state machine from outside, by requirement number (shared wording: docs/architecture.md).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[cfg(not(feature = "previous-level"))]
mod approvals;
#[cfg(not(feature = "previous-level"))]
mod avoid;
mod backup;
mod clusters_and_settings;
#[cfg(not(feature = "previous-level"))]
mod drains;
mod encodings;
mod handlers;
#[cfg(not(feature = "previous-level"))]
mod presence;
mod properties;
#[cfg(not(feature = "previous-level"))]
mod reshape;
#[cfg(not(feature = "previous-level"))]
mod room;
#[cfg(not(feature = "previous-level"))]
mod sessions;
#[cfg(not(feature = "previous-level"))]
mod shards;
mod strategies;
#[cfg(not(feature = "previous-level"))]
mod waits;
mod world;

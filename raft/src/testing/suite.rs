//! The consensus library's own test suite for log and state stores.

use std::sync::Arc;

use openraft::StorageError;
use openraft::async_runtime::AsyncRuntime;
use openraft::errors::ErrorSource;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::blocking::Threads;
use crate::fatal::FatalLatch;
use crate::log::store::LogStore;
use crate::node::run_writer;
use crate::state::machine::StateMachine;
use crate::testing::{Engines, SystemClock};
use crate::types::{Runtime, TypeConfig};
use crate::{log, state};

struct Builder<F> {
    open: F,
    threads: Threads,
}

impl<G, F> StoreBuilder<TypeConfig, LogStore, StateMachine, G> for Builder<F>
where
    G: Send + Sync + 'static,
    F: Fn() -> (G, Engines) + Send + Sync,
{
    async fn build(&self) -> Result<(G, LogStore, StateMachine), StorageError<TypeConfig>> {
        let (guard, engines) = (self.open)();
        let failed = |e: String| StorageError::<TypeConfig>::read(ErrorSource::from_string(e));
        let fatal = FatalLatch::new();
        let (clock, limits) = (Arc::new(SystemClock::default()), state::Limits::default());
        let machine = StateMachine::open(engines.state, clock, self.threads, limits, fatal.clone());
        let machine = machine.map_err(|e| failed(e.to_string()))?;
        // A small tail, so that reads go to disk as well.
        let limits = log::Limits {
            tail_bytes: 64,
            ..log::Limits::default()
        };
        let opened = log::open::open(engines.log, limits, self.threads, fatal);
        let (store, writer) = opened.map_err(|e| failed(e.to_string()))?;
        drop(run_writer(writer, self.threads));
        Ok((guard, store, machine))
    }
}

/// Runs the suite, each of its tests on engines that `open` makes, empty ones every time. Whatever
/// they live in goes with the guard that it makes as well.
///
/// # Errors
/// What failed. Most failures panic instead.
pub fn storage_suite<G: Send + Sync + 'static>(
    threads: Threads,
    open: impl Fn() -> (G, Engines) + Send + Sync,
) -> Result<(), String> {
    let mut runtime = <Runtime as AsyncRuntime>::new(2);
    runtime
        .block_on(Runtime::scope(1, Suite::test_all(Builder { open, threads })))
        .map_err(|e| e.to_string())
}

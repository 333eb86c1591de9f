//! Tasks, spawned so that the randomness of everything in them follows from the node's seed.

use std::future::Future;

use openraft::async_runtime::AsyncRuntime;
use tokio::task::JoinHandle;

use crate::types::Runtime;

/// Spawns a task. Only from within a node's tasks, which carry the seed.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    <Runtime as AsyncRuntime>::spawn(future)
}

/// Spawns a task from anywhere, also from the tasks of those who hold a handle, which carry no
/// seed. Its randomness follows from `seed` alone.
pub(crate) fn spawn_seeded<T: Send + 'static>(
    seed: u64,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(Runtime::scope(seed, future))
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! The one place where a node notes why it stops.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::engine::EngineError;
use crate::error::{Fatal, FatalKind};

/// Set once, by whoever first finds that the node cannot go on.
#[derive(Clone, Debug)]
pub(crate) struct FatalLatch {
    reason: Arc<watch::Sender<Option<Fatal>>>,
}

impl FatalLatch {
    pub(crate) fn new() -> Self {
        Self {
            reason: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Notes a reason. Only the first counts: later ones are its consequences.
    pub(crate) fn set(&self, fatal: Fatal) {
        let first = self.reason.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(fatal.clone());
            }
            first
        });
        if first {
            tracing::error!(kind = %fatal.kind, detail = %fatal.detail, "this node stops");
        }
    }

    /// Notes an engine's error.
    pub(crate) fn engine(&self, error: &EngineError) {
        self.set(error.to_fatal());
    }

    /// The reason noted, if any.
    pub(crate) fn get(&self) -> Option<Fatal> {
        self.reason.borrow().clone()
    }

    /// Resolves when a reason is noted.
    pub(crate) fn wait(&self) -> impl Future<Output = Fatal> + Send + 'static {
        let mut reason = self.reason.subscribe();
        async move {
            match reason.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
                Ok(Some(fatal)) => fatal,
                // The latch is gone with the node: it was shut down.
                Ok(None) | Err(_) => Fatal::new(FatalKind::Internal, "the node was shut down"),
            }
        }
    }
}

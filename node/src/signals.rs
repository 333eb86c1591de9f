//! What the operating system tells the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

fn on(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be received: {error}")))
}

/// SIGTERM and SIGINT: stop.
#[derive(Debug)]
pub struct Stop {
    term: Signal,
    int: Signal,
}

impl Stop {
    /// Takes both from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, Failure> {
        Ok(Self {
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
        })
    }

    /// Resolves when one came.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// SIGHUP: read files again.
#[derive(Debug)]
pub struct Reload(Signal);

impl Reload {
    /// Takes it from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, Failure> {
        on(SignalKind::hangup()).map(Self)
    }

    /// Resolves each time it came.
    pub async fn asked(&mut self) {
        self.0.recv().await;
    }
}

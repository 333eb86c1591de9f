//! Where calls that block on a disk run.

use std::io;

/// How a node uses threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Threads {
    /// The log writer has a thread of its own, other disk work goes to tokio's blocking pool:
    /// disks never hold up the network.
    #[default]
    Own,
    /// Everything runs in the caller's task: for a simulation, where disks take no real time and
    /// everything has to happen in one order.
    Inline,
}

impl Threads {
    /// Runs `work`, which may block.
    pub(crate) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        match self {
            Self::Own => tokio::task::spawn_blocking(work)
                .await
                .map_err(|e| io::Error::other(format!("blocking work did not finish: {e}"))),
            Self::Inline => Ok(work()),
        }
    }
}

//! What a loop is, and what every loop is given: the driver runs them, they know nothing of it.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use raft::{Error, Handle, Threads, env::Clock};
use statemachine::{Command, Conditions, Origin, Request};
use tokio::time::Instant;

/// How long one proposal of a loop may take.
pub(crate) const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nothing to do until the state changes or the period is over.
    Idle,
    /// Something is to be looked at again after this time, whatever happens.
    Again(Duration),
}

/// One loop.
pub(crate) trait Controller: Send + 'static {
    /// Its name in logs, metrics and the audit trail.
    fn name(&self) -> &'static str;

    /// How long it sleeps at the most while nothing changes.
    fn period(&self) -> Duration;

    /// Looks at the state and does what is to be done. Safe to repeat, and to drop at any await.
    fn pass(&mut self, node: &Node) -> impl Future<Output = Result<Pass, Error>> + Send;
}

/// What every loop has.
#[derive(Clone)]
pub(crate) struct Node {
    pub handle: Handle,
    pub clock: Arc<dyn Clock>,
}

impl Node {
    /// The origin of a command that a loop proposes.
    pub fn origin(&self, name: &str) -> Origin {
        Origin::system(name, self.handle.node(), self.clock.wall_ms())
    }

    /// When a proposal made now has to be answered.
    pub fn deadline(&self) -> Instant {
        Instant::now() + PROPOSAL_TIMEOUT
    }

    /// Works something out that takes more than a moment, where that holds nobody up.
    ///
    /// # Errors
    /// The work did not come to an end.
    pub async fn compute<T: Send + 'static>(
        &self,
        threads: Threads,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        match threads {
            Threads::Inline => Ok(work()),
            Threads::Own => {
                let done = tokio::task::spawn_blocking(work).await;
                done.map_err(|error| Error::unavailable(format!("planning did not finish: {error}")))
            }
        }
    }

    /// Proposes commands that do not depend on each other, and answers how many of them changed anything. Those that apply
    /// refuses are as good as done: another was faster, or the next look at the state will say otherwise.
    ///
    /// # Errors
    /// The first failure, when all have been answered.
    pub async fn propose_all(&self, name: &str, commands: Vec<Command>) -> Result<usize, Error> {
        let deadline = self.deadline();
        let proposals = commands.into_iter().map(|command| {
            let request = Request {
                origin: self.origin(name),
                conditions: Conditions::default(),
                command,
            };
            self.handle.propose(request, deadline)
        });
        let mut changed = 0;
        for answer in join_all(proposals).await {
            let answer = answer?;
            changed += usize::from(answer.unit().is_some_and(|unit| !unit.unit.changes().is_empty()));
        }
        Ok(changed)
    }
}

/// Keeps a loop that has much to work out from working all the time: the state may change as often as it likes.
pub(crate) struct Pace {
    not_before: Instant,
}

impl Pace {
    pub fn new() -> Self {
        Self {
            not_before: Instant::now(),
        }
    }

    /// How long to wait; none where there is no need to.
    pub fn wait(&self) -> Option<Duration> {
        let wait = self.not_before.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then_some(wait)
    }

    /// A look at the state took so long: a quarter of the time at the most is spent so.
    pub fn took(&mut self, took: Duration) {
        self.pause(took.saturating_mul(3));
    }

    /// Waits for so long at least.
    pub fn pause(&mut self, pause: Duration) {
        self.not_before = self.not_before.max(Instant::now() + pause);
    }
}

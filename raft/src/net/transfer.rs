//! Sending and receiving a snapshot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::engine::EngineError;
use crate::net::link::Link;
use crate::net::message::Message;
use crate::net::{Limits, NetError};
use crate::state::install::{Stage, StageError, Staged};
use crate::state::machine::Shared;
use crate::state::rows::Current;
use crate::state::snapshot::{Content, SnapshotData};
use crate::types::{Vote, VoteRow};

/// Why a snapshot was not sent.
pub(crate) enum SendError {
    /// The other node, or the way there.
    Net(NetError),
    /// The rows could not be read.
    Local(EngineError),
}

impl From<NetError> for SendError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

/// Holds sending down to a rate. What was not used of it is lost: there are no bursts after a wait for the receiver.
struct Pace {
    bytes_per_s: u64,
    next: Instant,
}

impl Pace {
    fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            next: Instant::now(),
        }
    }

    /// Returns when these bytes may be sent.
    async fn turn(&mut self, bytes: usize) {
        sleep_until(self.next).await;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let taken = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_s);
        self.next = Instant::now() + taken;
    }
}

/// Sends a snapshot. Answers with the receiver's vote once it is installed there.
pub(crate) async fn send(link: &Link, vote: Vote, snapshot: SnapshotData, limits: &Limits) -> Result<Vote, SendError> {
    let Content::Outgoing(mut outgoing) = snapshot.0 else {
        let error = EngineError::corrupt("snapshot", "it has no content to send");
        return Err(SendError::Local(error));
    };
    let conn = link.conn(Instant::now() + limits.connect_timeout).await?;
    let soon = || Instant::now() + limits.chunk_timeout;
    let begin = Message::SnapshotBegin {
        current: outgoing.current.clone(),
    };
    expect_taken(conn.request(begin, Vec::new(), soon()).await?)?;
    let mut number = 0;
    // One chunk is on its way while the one before is being written there.
    let mut before = None;
    let mut pace = Pace::new(limits.snapshot_bytes_per_s);
    while let Some(chunk) = outgoing.next().await.map_err(SendError::Local)? {
        pace.turn(chunk.len()).await;
        let deadline = soon();
        let answer = conn
            .send(Message::SnapshotChunk { number }, vec![chunk], deadline)
            .await?;
        if let Some((answer, deadline)) = before.replace((answer, deadline)) {
            expect_taken(answer.wait(deadline).await?)?;
        }
        number += 1;
    }
    if let Some((answer, deadline)) = before {
        expect_taken(answer.wait(deadline).await?)?;
    }
    let end = Message::SnapshotEnd {
        chunks: number,
        vote: VoteRow::from(&vote),
    };
    let deadline = Instant::now() + limits.install_timeout;
    match conn.request(end, Vec::new(), deadline).await? {
        Message::SnapshotInstalled { vote } => Ok(vote.into()),
        other => Err(NetError::Protocol(format!("unexpected answer {other:?}")).into()),
    }
}

fn expect_taken(answer: Message) -> Result<(), NetError> {
    match answer {
        Message::SnapshotTaken => Ok(()),
        other => Err(NetError::Protocol(format!("unexpected answer {other:?}"))),
    }
}

/// The receiving end of one connection.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    stage: Option<Stage>,
}

impl Receiver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stage: None }
    }

    /// Begins anew; what came before on this connection is dropped.
    pub(crate) async fn begin(&mut self, current: Current) -> Result<(), String> {
        tracing::info!(applied = ?current.applied, "a snapshot begins");
        self.stage = None;
        self.clean().await?;
        self.stage = Some(Stage::begin(self.shared.clone(), current));
        Ok(())
    }

    /// Removes the rows of transfers that were given up.
    async fn clean(&self) -> Result<(), String> {
        let shared = self.shared.clone();
        self.run(move || shared.forget_retired().map_err(StageError::Engine))
            .await
    }

    pub(crate) async fn chunk(&mut self, number: u64, parts: Vec<Bytes>) -> Result<(), String> {
        let [chunk] = <[Bytes; 1]>::try_from(parts).map_err(|_| "a chunk is one part".to_owned())?;
        let mut stage = self.stage.take().ok_or("no snapshot has begun")?;
        let work = move || stage.chunk(number, &chunk).map(|()| stage);
        match self.run(work).await {
            Ok(stage) => {
                self.stage = Some(stage);
                Ok(())
            }
            Err(error) => {
                self.clean().await?;
                Err(error)
            }
        }
    }

    pub(crate) async fn end(&mut self, chunks: u64) -> Result<Staged, String> {
        let stage = self.stage.take().ok_or("no snapshot has begun")?;
        let finished = self.run(move || stage.finish(chunks)).await;
        if finished.is_err() {
            self.clean().await?;
        }
        finished
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StageError> + Send + 'static,
    ) -> Result<T, String> {
        let outcome = self.shared.threads.run(work).await.map_err(|e| e.to_string())?;
        outcome.map_err(|error| {
            match &error {
                // A full or failing disk stops this node, whatever it was doing.
                StageError::Engine(error) => self.shared.fatal.engine(error),
                StageError::Refused(why) => tracing::warn!(why, "a snapshot is refused"),
            }
            error.to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn chunks_leave_at_the_rate_and_never_faster_after_a_wait() {
        let began = Instant::now();
        let mut pace = Pace::new(1_000);
        pace.turn(500).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "the first one need not wait");
        pace.turn(500).await;
        assert_eq!(began.elapsed().as_millis(), 500);
        // The receiver took its time. It is not made up for.
        tokio::time::sleep(Duration::from_secs(10)).await;
        pace.turn(500).await;
        pace.turn(500).await;
        assert_eq!(began.elapsed().as_millis(), 11_000);
    }
}

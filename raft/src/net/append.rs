//! Receiving appends: pipelined, answered in order.

use bytes::Bytes;
use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use tokio::sync::mpsc;

use crate::log::row::LogEntry;
use crate::net::frame::Frame;
use crate::net::message::{AppendOutcome, Message};
use crate::node::Raft;
use crate::task::{AbortOnDrop, spawn};
use crate::types::{LogIdRow, TypeConfig, VoteRow};

/// The appends of one connection.
pub(crate) struct Appends {
    raft: Raft,
    outgoing: mpsc::Sender<Frame>,
    in_flight: usize,
    session: Option<Session>,
}

/// An append stream of a leader. After its first failure the rest of it is void.
struct Session {
    number: u64,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
    ids: mpsc::Sender<u64>,
    _answering: AbortOnDrop,
}

/// The parts of [`Message::Append`].
pub(crate) struct Append {
    pub session: u64,
    pub vote: VoteRow,
    pub prev: Option<LogIdRow>,
    pub commit: Option<LogIdRow>,
    pub rows: Vec<Bytes>,
}

impl Appends {
    pub(crate) fn new(raft: Raft, outgoing: mpsc::Sender<Frame>, in_flight: usize) -> Self {
        Self {
            raft,
            outgoing,
            in_flight,
            session: None,
        }
    }

    /// Hands one append to openraft. Its answer goes out when the entries are durable.
    ///
    /// # Errors
    /// A row is damaged: the connection is not to be trusted any further.
    pub(crate) async fn take(&mut self, id: u64, append: Append) -> Result<(), String> {
        let entries = append
            .rows
            .into_iter()
            .map(LogEntry::decode)
            .collect::<Result<Vec<_>, _>>()?;
        let request = AppendEntriesRequest {
            vote: append.vote.into(),
            prev_log_id: append.prev.map(Into::into),
            entries,
            leader_commit: append.commit.map(Into::into),
        };
        if self
            .session
            .as_ref()
            .is_none_or(|session| session.number != append.session)
        {
            self.session = Some(self.begin(append.session));
        }
        if let Some(session) = &self.session {
            // Both fail once the session is void: the leader was told so, and begins another.
            if session.ids.send(id).await.is_ok() {
                session.requests.send(request).await.ok();
            }
        }
        Ok(())
    }

    fn begin(&self, number: u64) -> Session {
        let (requests, queue) = mpsc::channel(self.in_flight);
        let (ids, ids_queue) = mpsc::channel(self.in_flight);
        let queue = futures::stream::unfold(queue, |mut queue| async move {
            queue.recv().await.map(|request| (request, queue))
        });
        let answers = self.raft.stream_append(queue);
        let answering = spawn(answer(Box::pin(answers), ids_queue, self.outgoing.clone()));
        Session {
            number,
            requests,
            ids,
            _answering: AbortOnDrop(answering),
        }
    }
}

async fn answer<S, E>(mut answers: S, mut ids: mpsc::Receiver<u64>, outgoing: mpsc::Sender<Frame>)
where
    S: futures::Stream<Item = Result<openraft::raft::StreamAppendResult<TypeConfig>, E>> + Unpin,
    E: std::fmt::Display,
{
    while let (Some(answer), Some(id)) = (answers.next().await, ids.recv().await) {
        let message = match answer {
            Ok(Ok(upto)) => Message::Appended(AppendOutcome::Upto(upto.map(Into::into))),
            Ok(Err(StreamAppendError::Conflict(at))) => Message::Appended(AppendOutcome::Conflict(at.into())),
            Ok(Err(StreamAppendError::HigherVote(vote))) => {
                Message::Appended(AppendOutcome::HigherVote(VoteRow::from(&vote)))
            }
            Err(fatal) => Message::Failed {
                reason: fatal.to_string(),
            },
        };
        let over = !matches!(message, Message::Appended(AppendOutcome::Upto(_)));
        if outgoing.send(Frame::new(id, message)).await.is_err() || over {
            return;
        }
    }
}

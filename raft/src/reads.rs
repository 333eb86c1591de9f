//! Read indexes: from which log index on does a read see everything acknowledged before it?
//!
//! Only the leader knows, and only after a majority has confirmed that it still leads. One such
//! round answers every read that was waiting when it began; those that come while it is under way
//! share the next.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::net::NetError;
use crate::net::message::{Lane, Message};
use crate::net::pool::Pool;
use crate::node::{Raft, leader_of};

/// How reads are confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ReadMode {
    /// A round to a majority for every batch of reads. Assumes nothing of clocks.
    #[default]
    ReadIndex,
    /// The leader's lease, where it is fresh: no round. Assumes that while the lease lasts no two
    /// nodes' clocks drift apart by more than the election timeout exceeds it.
    Lease,
}

type Waiter = oneshot::Sender<Result<u64, Error>>;

/// Asks for read indexes. Cloning shares the rounds.
#[derive(Clone)]
pub(crate) struct Reads {
    /// Reads of this node, wherever the leader is.
    anywhere: mpsc::Sender<Waiter>,
    /// Reads of other nodes, which ask this one as the leader.
    here: mpsc::Sender<Waiter>,
    /// Whoever has to know that this node leads, whatever its clock says of its lease.
    confirmed: mpsc::Sender<Waiter>,
}

impl Reads {
    /// The reads of a node, and the loops that have to be run for them.
    pub(crate) fn new(
        raft: Raft,
        pool: Pool,
        mode: ReadMode,
        queue: usize,
        patience: Duration,
    ) -> (
        Self,
        [impl Future<Output = ()> + Send + use<>; 2],
        impl Future<Output = ()> + Send,
    ) {
        let (here, here_queue) = mpsc::channel(queue);
        let (confirmed, confirmed_queue) = mpsc::channel(queue);
        let (anywhere, anywhere_queue) = mpsc::channel(queue);
        let leads = |mode| Leader {
            raft: raft.clone(),
            mode,
        };
        let rounds_here = [
            rounds_of(leads(mode), here_queue, patience),
            rounds_of(leads(ReadMode::ReadIndex), confirmed_queue, patience),
        ];
        // Without leases the two are the same, and share their rounds.
        let confirmed = match mode {
            ReadMode::ReadIndex => here.clone(),
            ReadMode::Lease => confirmed,
        };
        let follower = Follower {
            raft,
            pool,
            here: here.clone(),
        };
        let rounds_anywhere = rounds(anywhere_queue, patience, move |deadline| {
            let follower = follower.clone();
            async move { follower.index(deadline).await }
        });
        let reads = Self {
            anywhere,
            here,
            confirmed,
        };
        (reads, rounds_here, rounds_anywhere)
    }

    /// The read index, asking the leader wherever it is.
    pub(crate) async fn index(&self, deadline: Instant) -> Result<u64, Error> {
        ask(&self.anywhere, deadline).await
    }

    /// The read index, if a majority confirms in a round that begins after the call that this node is the leader.
    pub(crate) async fn index_confirmed(&self, deadline: Instant) -> Result<u64, Error> {
        ask(&self.confirmed, deadline).await
    }

    /// The read index, if this node is the leader.
    pub(crate) async fn index_here(&self, deadline: Instant) -> Result<u64, Error> {
        ask(&self.here, deadline).await
    }
}

async fn ask(queue: &mpsc::Sender<Waiter>, deadline: Instant) -> Result<u64, Error> {
    let (waiter, answer) = oneshot::channel();
    match queue.try_send(waiter) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            return Err(Error::Overloaded {
                queued: queue.max_capacity(),
            });
        }
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::unavailable("shutting down")),
    }
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::unavailable("shutting down")),
        Err(_) => Err(Error::DeadlineExceeded { maybe_applied: false }),
    }
}

/// One round after the other, each for all who wait when it begins.
async fn rounds<F, R>(mut queue: mpsc::Receiver<Waiter>, patience: Duration, round: F)
where
    F: Fn(Instant) -> R + Send,
    R: Future<Output = Result<u64, Error>> + Send,
{
    while let Some(first) = queue.recv().await {
        let mut waiters = vec![first];
        while let Ok(waiter) = queue.try_recv() {
            waiters.push(waiter);
        }
        let deadline = Instant::now() + patience;
        let outcome = match timeout_at(deadline, round(deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::unavailable("no majority confirmed the leader in time")),
        };
        for waiter in waiters {
            waiter.send(outcome.clone()).ok();
        }
    }
}

/// The rounds of a leader.
fn rounds_of(leader: Leader, queue: mpsc::Receiver<Waiter>, patience: Duration) -> impl Future<Output = ()> + Send {
    rounds(queue, patience, move |deadline| {
        let leader = leader.clone();
        async move { leader.index(deadline).await }
    })
}

#[derive(Clone)]
struct Leader {
    raft: Raft,
    mode: ReadMode,
}

impl Leader {
    async fn index(&self, deadline: Instant) -> Result<u64, Error> {
        if self.mode == ReadMode::Lease
            && let Ok(index) = self.confirm(ReadPolicy::LeaseRead).await
        {
            return Ok(index);
        }
        // A lease that has lapsed fails at once, and says nothing about who leads.
        match timeout_at(deadline, self.confirm(ReadPolicy::ReadIndex)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::unavailable("no majority confirmed the leader in time")),
        }
    }

    async fn confirm(&self, policy: ReadPolicy) -> Result<u64, Error> {
        match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(crate::propose::forwarded(&forward, false))
            }
            Err(RaftError::APIError(error)) => Err(Error::unavailable(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(Error::unavailable(fatal.to_string())),
        }
    }
}

#[derive(Clone)]
struct Follower {
    raft: Raft,
    pool: Pool,
    here: mpsc::Sender<Waiter>,
}

impl Follower {
    async fn index(&self, deadline: Instant) -> Result<u64, Error> {
        let own = self.pool.dialer.own.node.0;
        let (leader, endpoint) = match leader_of(&self.raft) {
            Some((leader, _)) if leader == own => return ask(&self.here, deadline).await,
            Some((leader, Some(endpoint))) => (leader, endpoint),
            Some((_, None)) | None => return Err(Error::unavailable("no leader is known")),
        };
        let link = self.pool.link(leader, &endpoint, Lane::Control);
        let ask_leader = || async {
            let conn = link.conn(deadline).await?;
            conn.request(Message::ReadIndex, Vec::new(), deadline).await
        };
        let answer = match ask_leader().await {
            // A connection ends when certificates are replaced, among other reasons. To ask again changes nothing.
            Err(NetError::Lost(_)) => ask_leader().await,
            answer => answer,
        };
        match answer {
            Ok(Message::ReadIndexIs { index }) => Ok(index),
            Ok(other) => Err(Error::unavailable(format!("the leader answered {other:?}"))),
            Err(NetError::Timeout) => Err(Error::unavailable("the leader does not answer")),
            Err(error) => Err(Error::unavailable(format!("the leader: {error}"))),
        }
    }
}

//! Proposals: stamped with the leader's clocks, encoded once, bounded in size and number.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ChangeMembershipError, ClientWriteError, ForwardReason, ForwardToLeader, RaftError};
use parking_lot::Mutex;
use statemachine::clock::MeshClock;
use statemachine::codec::{self, Format};
use statemachine::{Answer, Entry, FEATURE_LEVEL, NodeId, Proposal, Rejection, Request, Revision, Stamp, cluster};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use crate::env::Clock;
use crate::error::{Error, Leader, MembershipRefusal};
use crate::fatal::FatalLatch;
use crate::handle::Committed;
use crate::net::NetError;
use crate::net::message::{Lane, Message};
use crate::net::pool::Pool;
use crate::node::{Raft, leader_of};
use crate::state::publish::Publisher;
use crate::traces;
use crate::types::{Command, CommittedLeaderId, TypeConfig};

/// Between two attempts at a proposal that a lapsed lease holds up.
const LEASE_PAUSE: Duration = Duration::from_millis(20);

/// Limits on proposals.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Proposals on their way at once.
    pub in_flight: usize,
    /// Bytes of the proposals on their way at once.
    pub in_flight_bytes: usize,
    /// Bytes of one encoded entry.
    pub entry_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 8192,
            in_flight_bytes: 64 << 20,
            entry_bytes: 2 << 20,
        }
    }
}

/// A proposal that was committed by way of the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Its log index. This node has applied it.
    pub log_index: u64,
    /// The revision it got, if any: [`View::unit`](crate::View::unit) says what came of it.
    pub revision: Option<Revision>,
}

/// Proposes on behalf of this node.
pub(crate) struct Proposer {
    pub raft: Raft,
    pub own: NodeId,
    pub publisher: Publisher,
    pub clock: Arc<dyn Clock>,
    pub fatal: FatalLatch,
    pub limits: Limits,
    /// How long a proposal waits for the leader's lease to be renewed before it is refused.
    pub lease_patience: Duration,
    pub room: Semaphore,
    pub bytes: Semaphore,
    /// Mesh time of the term in which this node leads.
    pub mesh_clock: Mutex<Option<(u64, MeshClock)>>,
}

impl Proposer {
    /// The leader's clocks now.
    ///
    /// # Errors
    /// This node does not lead.
    pub(crate) fn stamp(&self) -> Result<Stamp, Error> {
        let term = match self.raft.as_leader() {
            Ok(leader) => leader.term(),
            Err(forward) => return Err(forwarded(&forward, false)),
        };
        let committed_ms = self.publisher.view().state().mesh.stamp().mesh_time_ms;
        let monotonic_ms = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let wall_ms = self.clock.wall_ms();
        let mut kept = self.mesh_clock.lock();
        let (_, clock) = match &mut *kept {
            Some(kept) if kept.0 == term => kept,
            other => other.insert((term, MeshClock::take_over(committed_ms, monotonic_ms, wall_ms))),
        };
        let mut mesh_time_ms = clock.now(monotonic_ms, wall_ms);
        if mesh_time_ms < committed_ms {
            // Entries of earlier leaders were applied since this one took over.
            *clock = MeshClock::take_over(committed_ms, monotonic_ms, wall_ms);
            mesh_time_ms = committed_ms;
        }
        Ok(Stamp { mesh_time_ms, wall_ms })
    }

    /// Starts mesh time where the last leader's ended, as soon as this node leads: time in which
    /// nobody proposes anything counts as well.
    pub(crate) fn take_over_clock(&self) {
        // Not leading any more is not this caller's concern.
        self.stamp().ok();
    }

    pub(crate) async fn propose(&self, request: Request, deadline: Instant) -> Result<Committed, Error> {
        let stamp = self.stamp()?;
        let view = self.publisher.view();
        let (needed, current) = (request.command.handler().level(), view.state().mesh.feature_level());
        let entry = Entry::Command(Box::new(request.stamp(stamp)));
        let asked = entry.level();
        let refused = if needed > current {
            Some(Rejection::FeatureLevelTooLow { needed, current })
        } else if asked > FEATURE_LEVEL {
            let known = FEATURE_LEVEL;
            Some(Rejection::FeatureLevelUnknown { asked, current, known })
        } else {
            None
        };
        if let Some(rejection) = refused {
            // Not even into the log: there may be nodes that cannot read it, or that would have to stop.
            return Ok(Committed {
                log_index: view.applied_index().unwrap_or_default(),
                answer: Answer::Refused(rejection),
            });
        }
        let span = traces::proposing();
        let _followed = self.publisher.traces().follow(&entry, &span);
        self.commit(&entry, deadline).instrument(span).await
    }

    pub(crate) async fn propose_replicated(
        &self,
        replicated: statemachine::Replicated,
        deadline: Instant,
    ) -> Result<Committed, Error> {
        // Only the leader proposes; what is replicated brings its own times.
        self.stamp()?;
        self.commit(&Entry::Replicated(replicated), deadline).await
    }

    pub(crate) async fn propose_cluster(
        &self,
        mut command: cluster::Command,
        deadline: Instant,
    ) -> Result<Committed, Error> {
        let now = self.stamp()?;
        *command.stamp_mut() = now;
        self.commit(&Entry::Cluster(command), deadline).await
    }

    /// Proposes an entry that has no times yet, here or, if another node leads, there.
    pub(crate) async fn carry(&self, pool: &Pool, entry: Entry, deadline: Instant) -> Result<Carried, Error> {
        let (leader, endpoint) = match leader_of(&self.raft) {
            Some((leader, _)) if leader == self.own.0 => return self.carried(entry, deadline).await,
            Some((leader, Some(endpoint))) => (leader, endpoint),
            Some((_, None)) | None => return Err(Error::unavailable("no leader is known")),
        };
        let bytes = codec::encode(Format::Entry, &entry);
        if bytes.len() > self.limits.entry_bytes {
            return Err(Error::TooLarge {
                bytes: bytes.len(),
                limit: self.limits.entry_bytes,
            });
        }
        let link = pool.link(leader, &endpoint, Lane::Control);
        let conn = link
            .conn(deadline)
            .await
            .map_err(|e| Error::unavailable(e.to_string()))?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let answer = conn
            .request(Message::Propose { patience_ms }, vec![bytes.into()], deadline)
            .await;
        match answer {
            Ok(Message::Proposed { log_index, revision }) => Ok(Carried {
                log_index,
                revision: revision.map(Revision),
            }),
            Ok(Message::NotProposed { reason }) => Err(Error::unavailable(reason)),
            Ok(other) => Err(unknown(format!("the leader answered {other:?}"))),
            Err(NetError::Timeout) => Err(Error::DeadlineExceeded { maybe_applied: true }),
            Err(error) => Err(unknown(error.to_string())),
        }
    }

    /// Proposes an entry that another node carried here, or that has no times yet.
    pub(crate) async fn carried(&self, entry: Entry, deadline: Instant) -> Result<Carried, Error> {
        let committed = match entry {
            Entry::Command(proposal) => {
                let Proposal {
                    stamp: _,
                    origin,
                    conditions,
                    command,
                } = *proposal;
                self.propose(
                    Request {
                        origin,
                        conditions,
                        command,
                    },
                    deadline,
                )
                .await?
            }
            Entry::Cluster(command) => self.propose_cluster(command, deadline).await?,
            Entry::Replicated(replicated) => self.propose_replicated(replicated, deadline).await?,
        };
        let revision = committed.unit().map(|unit| unit.unit.position.revision);
        Ok(Carried {
            log_index: committed.log_index,
            revision,
        })
    }

    async fn commit(&self, entry: &Entry, deadline: Instant) -> Result<Committed, Error> {
        if let Some(fatal) = self.fatal.get() {
            return Err(Error::Fatal(fatal));
        }
        let bytes = codec::encode(Format::Entry, entry);
        if bytes.len() > self.limits.entry_bytes {
            return Err(Error::TooLarge {
                bytes: bytes.len(),
                limit: self.limits.entry_bytes,
            });
        }
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (Ok(_room), Ok(_bytes)) = (self.room.try_acquire(), self.bytes.try_acquire_many(size)) else {
            let free = self.room.available_permits();
            let queued = self.limits.in_flight.saturating_sub(free);
            return Err(Error::Overloaded { queued });
        };
        if deadline <= Instant::now() {
            return Err(Error::DeadlineExceeded { maybe_applied: false });
        }
        let bytes = Bytes::from(bytes);
        let give_up = deadline.min(Instant::now() + self.lease_patience);
        loop {
            let outcome = self.write(bytes.clone(), deadline).await;
            // Refused before it was appended, because the lease lapsed for a moment: a late heartbeat on a busy machine is
            // no news for a client.
            let lapsed = matches!(
                &outcome,
                Err(Error::Unavailable {
                    maybe_applied: false,
                    ..
                })
            );
            if !lapsed || Instant::now() + LEASE_PAUSE >= give_up || self.fatal.get().is_some() {
                return outcome;
            }
            sleep(LEASE_PAUSE).await;
        }
    }

    async fn write(&self, bytes: Bytes, deadline: Instant) -> Result<Committed, Error> {
        match timeout_at(deadline, self.raft.client_write(Command(bytes))).await {
            Ok(Ok(written)) => match written.data.0 {
                Some(answer) => Ok(Committed {
                    log_index: written.log_id.index,
                    answer,
                }),
                None => Err(Error::Unavailable {
                    reason: "the entry was applied without an answer".into(),
                    maybe_applied: true,
                }),
            },
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => Err(Error::DeadlineExceeded { maybe_applied: true }),
        }
    }

    fn failed(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => forwarded(&forward, false),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Error::Unavailable {
                reason: "leadership changed before the entry was committed".into(),
                maybe_applied: true,
            },
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => unchanged(&error),
            RaftError::APIError(ClientWriteError::PreconditionFailed(error)) => {
                let holds = ("a condition that does not hold", "all conditions hold");
                Error::membership(MembershipRefusal::Other, error.to_string(), holds)
            }
            RaftError::Fatal(error) => match self.fatal.get() {
                Some(fatal) => Error::Fatal(fatal),
                None => Error::Unavailable {
                    reason: error.to_string(),
                    maybe_applied: true,
                },
            },
        }
    }

    /// As [`Proposer::failed`], for callers outside.
    pub(crate) fn explain(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
        let error = self.failed(error);
        match (&error, leader_of(&self.raft)) {
            // openraft does not always know the address of the leader it names.
            (Error::NotLeader { leader: None }, Some((node, Some(endpoint)))) if node != self.own.0 => {
                Error::NotLeader {
                    leader: Some(Leader {
                        node: NodeId(node),
                        api: endpoint.api,
                    }),
                }
            }
            _ => error,
        }
    }
}

/// Why the members stay as they are.
fn unchanged(error: &ChangeMembershipError<CommittedLeaderId, u64>) -> Error {
    let (refusal, measure) = match error {
        // A leader that was only just elected; a moment later it can.
        ChangeMembershipError::UncommittedLeaderLog(_) => return Error::unavailable(error.to_string()),
        ChangeMembershipError::InProgress(_) => (
            MembershipRefusal::ChangeUnderWay,
            ("1 change under way", "none under way"),
        ),
        ChangeMembershipError::LearnerNotFound(_) => (MembershipRefusal::NotAMember, ("no member", "a member")),
        ChangeMembershipError::NodeMetadataChanged(_) => (
            MembershipRefusal::MemberExists,
            ("a member with other addresses", "no member"),
        ),
        ChangeMembershipError::EmptyMembership(_) => (MembershipRefusal::LastVoter, ("0 voters left", "1 voter left")),
        ChangeMembershipError::UnsupportedMembershipTransition(_) => (
            MembershipRefusal::Other,
            ("another change of the members", "one that can be made in one step"),
        ),
    };
    Error::membership(refusal, error.to_string(), measure)
}

fn unknown(reason: String) -> Error {
    Error::Unavailable {
        reason,
        maybe_applied: true,
    }
}

/// What openraft's pointer to the leader means to the caller.
pub(crate) fn forwarded(forward: &ForwardToLeader<TypeConfig>, maybe_applied: bool) -> Error {
    let unavailable = |reason: &str| Error::Unavailable {
        reason: reason.into(),
        maybe_applied,
    };
    match forward.reason {
        ForwardReason::LeaseExpired => unavailable("no majority has confirmed the leader recently"),
        ForwardReason::LeadershipTransfer => unavailable("leadership is being handed over"),
        ForwardReason::NotLeader => {
            let leader = forward.leader_id.zip(forward.leader_node.as_ref());
            let leader = leader.map(|(node, at)| Leader {
                node: NodeId(node),
                api: at.api.clone(),
            });
            Error::NotLeader { leader }
        }
    }
}

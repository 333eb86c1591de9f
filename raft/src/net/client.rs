//! openraft's view of the other nodes.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::RPCTypes;
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::TransferLeaderError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::handle::Endpoint;
use crate::health::Soundness;
use crate::net::conn::{Answer, Conn};
use crate::net::message::{AppendOutcome, Lane, Message, TransferOutcome};
use crate::net::pool::Pool;
use crate::net::{NetError, transfer};
use crate::state::snapshot::{SnapshotData, StateSnapshot};
use crate::task::{AbortOnDrop, spawn};
use crate::types::{LogId, TypeConfig, Vote, VoteRow};

type RpcError = RPCError<TypeConfig>;
type AppendResult = StreamAppendResult<TypeConfig>;

/// Makes clients.
#[derive(Clone)]
pub(crate) struct Factory {
    pub pool: Pool,
    pub soundness: Soundness,
}

impl Factory {
    fn client(&self, node: u64, endpoint: &Endpoint, appends: Lane) -> Client {
        Client {
            pool: self.pool.clone(),
            soundness: self.soundness.clone(),
            node,
            endpoint: endpoint.clone(),
            appends,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Endpoint) -> Client {
        self.client(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Endpoint) -> Client {
        self.client(target, node, Lane::Control)
    }
}

/// Speaks to one node.
pub(crate) struct Client {
    pool: Pool,
    soundness: Soundness,
    node: u64,
    endpoint: Endpoint,
    /// The lane that appends of this client take: heartbeats do not wait behind entries.
    appends: Lane,
}

/// Numbers append sessions over all clients of a process: several may share a connection.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

impl Client {
    async fn conn(&self, lane: Lane, deadline: Instant) -> Result<Arc<Conn>, NetError> {
        self.pool.link(self.node, &self.endpoint, lane).conn(deadline).await
    }

    async fn request(&self, lane: Lane, message: Message, deadline: Instant) -> Result<Message, NetError> {
        self.conn(lane, deadline)
            .await?
            .request(message, Vec::new(), deadline)
            .await
    }

    fn deadline(&self, option: &RPCOption) -> Instant {
        // openraft's bound for a heartbeat is its interval, which a disk's sync may well exceed.
        Instant::now() + option.soft_ttl().max(self.pool.dialer.limits.request_timeout)
    }

    async fn ask_vote(
        &self,
        pre: bool,
        rpc: VoteRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = Message::Vote {
            pre,
            vote: VoteRow::from(&rpc.vote),
            last: rpc.last_log_id.map(Into::into),
            transfer: rpc.leadership_transfer,
        };
        let answer = self.request(Lane::Control, message, self.deadline(option)).await;
        match answer.map_err(|e| rpc_error(self.node, RPCTypes::Vote, e))? {
            Message::Voted { vote, granted, last } => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(LogId::from), granted))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// openraft's word for a failure to reach a node.
pub(crate) fn rpc_error(target: u64, action: RPCTypes, error: NetError) -> RpcError {
    match error {
        NetError::Timeout => RPCError::Timeout(Timeout {
            action,
            id: 0,
            target,
            timeout: std::time::Duration::ZERO,
        }),
        NetError::Unreachable(_) | NetError::Refused { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        NetError::Lost(_) | NetError::Protocol(_) | NetError::Remote(_) => RPCError::Network(NetworkError::new(&error)),
    }
}

fn unexpected(answer: &Message) -> RpcError {
    let error = NetError::Protocol(format!("unexpected answer {answer:?}"));
    RPCError::Network(NetworkError::new(&error))
}

/// An append that was sent and not yet answered.
struct Sent {
    last: Option<LogId>,
    answer: Result<Answer, NetError>,
    deadline: Instant,
}

/// Sends requests as they come, never more than `room` ahead of their answers.
async fn feed<S>(
    conn: Arc<Conn>,
    mut requests: S,
    session: u64,
    patience: std::time::Duration,
    sent: mpsc::Sender<Sent>,
) where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    while let Some(request) = requests.next().await {
        let Ok(room) = sent.reserve().await else { return };
        let last = request.entries.last().map(RaftEntry::log_id).or(request.prev_log_id);
        let rows = request.entries.into_iter().map(|mut entry| entry.row()).collect();
        let message = Message::Append {
            session,
            vote: VoteRow::from(&request.vote),
            prev: request.prev_log_id.map(Into::into),
            commit: request.leader_commit.map(Into::into),
        };
        let deadline = Instant::now() + patience;
        let answer = conn.send(message, rows, deadline).await;
        let failed = answer.is_err();
        room.send(Sent { last, answer, deadline });
        if failed {
            return;
        }
    }
}

/// The answer to one append, and whether the session goes on.
async fn outcome(conn: &Conn, node: u64, sent: Sent) -> (Result<AppendResult, RpcError>, bool) {
    let answered = match sent.answer {
        Ok(answer) => answer.wait(sent.deadline).await,
        Err(error) => Err(error),
    };
    if matches!(answered, Err(NetError::Timeout)) {
        conn.close("an append was not answered in time");
    }
    match answered {
        Ok(Message::Appended(AppendOutcome::Upto(upto))) => {
            let upto = upto.map(LogId::from);
            // Less than was sent: what follows in this session does not fit any more.
            let whole = upto == sent.last;
            (Ok(Ok(upto)), whole)
        }
        Ok(Message::Appended(AppendOutcome::Conflict(at))) => (Ok(Err(StreamAppendError::Conflict(at.into()))), false),
        Ok(Message::Appended(AppendOutcome::HigherVote(vote))) => {
            (Ok(Err(StreamAppendError::HigherVote(vote.into()))), false)
        }
        Ok(other) => (Err(unexpected(&other)), false),
        Err(error) => (Err(rpc_error(node, RPCTypes::AppendEntries, error)), false),
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let request = futures::stream::iter([rpc]);
        let mut answers = self.stream_append(request, option).await?;
        match answers.next().await {
            Some(answer) => Ok(answer?.into()),
            None => Err(unexpected(&Message::Failed {
                reason: "no answer".into(),
            })),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let node = self.node;
            let deadline = self.deadline(&option);
            let conn = self
                .conn(self.appends, deadline)
                .await
                .map_err(|e| rpc_error(node, RPCTypes::AppendEntries, e))?;
            let limits = &self.pool.dialer.limits;
            let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
            let (sender, sent) = mpsc::channel(limits.appends_in_flight);
            let patience = limits.request_timeout.max(option.soft_ttl());
            let feeder = spawn(feed(conn.clone(), input, session, patience, sender));
            let state = Some((sent, AbortOnDrop(feeder), conn));
            let answers = futures::stream::unfold(state, move |state| async move {
                let (mut sent, feeder, conn) = state?;
                let next = sent.recv().await?;
                let (answer, goes_on) = outcome(&conn, node, next).await;
                Some((answer, goes_on.then_some((sent, feeder, conn))))
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(false, rpc, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(true, rpc, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: StateSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        if self.soundness.corrupt().is_some() {
            let error = io::Error::other("the state of this node cannot be relied on, so no snapshot of it is sent");
            return Err(StreamingError::Unreachable(Unreachable::new(&error)));
        }
        let link = self.pool.link(self.node, &self.endpoint, Lane::Snapshot);
        let limits = &self.pool.dialer.limits;
        tokio::select! {
            sent = transfer::send(&link, vote, snapshot.snapshot, limits) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(transfer::SendError::Net(error)) => Err(match rpc_error(self.node, RPCTypes::InstallSnapshot, error) {
                    RPCError::Timeout(e) => StreamingError::Timeout(e),
                    RPCError::Unreachable(e) => StreamingError::Unreachable(e),
                    RPCError::Network(e) => StreamingError::Network(e),
                }),
                Err(transfer::SendError::Local(error)) => {
                    let error = io::Error::from(error);
                    Err(StreamingError::Network(NetworkError::new(&error)))
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = Message::Transfer {
            from: VoteRow::from(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().copied().map(Into::into),
        };
        let answer = self.request(Lane::Control, message, self.deadline(&option)).await;
        match answer.map_err(|e| rpc_error(self.node, RPCTypes::TransferLeader, e))? {
            Message::Transferred(TransferOutcome::Accepted) => Ok(Ok(())),
            Message::Transferred(TransferOutcome::VoteChanged { expected, actual }) => {
                Ok(Err(TransferLeaderError::VoteChanged {
                    expected: expected.into(),
                    actual: actual.into(),
                }))
            }
            Message::Transferred(TransferOutcome::LogNotFlushed { expected, actual }) => {
                let (expected, actual) = (expected.map(Into::into), actual.map(Into::into));
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }
            other => Err(unexpected(&other)),
        }
    }
}

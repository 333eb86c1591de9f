//! Accepting connections of other nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{TransferLeaderError, TransferLeaderRequest, VoteRequest};
use openraft::storage::Snapshot;
use statemachine::codec::{self, Format};
use statemachine::{NodeId, Revision};
use tokio::io::{AsyncWriteExt, BufReader, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use crate::campaign::Heard;
use crate::checkup::Examiner;
use crate::env::{BoxStream, Clock, ConnInfo, Listen};
use crate::health::Soundness;
use crate::net::Limits;
use crate::net::append::{Append, Appends};
use crate::net::frame::{self, Frame, HELLO_BYTES_MAX};
use crate::net::identity::{Identity, Refusal, RefusalCode, RefusalCounters, node_of, still_good};
use crate::net::join::{self, Pins};
use crate::net::life::{Life, Lives};
use crate::net::message::{Lane, Message, PROTOCOL, TransferOutcome};
use crate::net::transfer::Receiver;
use crate::node::Raft;
use crate::propose::{Carried, Proposer};
use crate::reads::Reads;
use crate::recovery::Recovery;
use crate::state::machine::Shared;
use crate::state::publish::Publisher;
use crate::state::snapshot::{Content, SnapshotData};
use crate::task::{AbortOnDrop, spawn};
use crate::types::{TypeConfig, Vote, VoteRow};

/// Waits this long before accepting again after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers the other nodes.
pub(crate) struct Server {
    pub own: Identity,
    pub clock: Arc<dyn Clock>,
    pub raft: Raft,
    pub shared: Arc<Shared>,
    pub publisher: Publisher,
    pub reads: Reads,
    pub proposer: Arc<Proposer>,
    pub recovery: Arc<Recovery>,
    pub soundness: Soundness,
    pub examiner: Arc<Examiner>,
    pub heard: Arc<Heard>,
    pub limits: Limits,
    pub refusals: Arc<RefusalCounters>,
    pub lives: Lives,
    pub pins: Pins,
}

impl Server {
    /// Accepts until the task is ended.
    pub(crate) async fn run(self: Arc<Self>, mut listen: Box<dyn Listen>) {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections: Vec<AbortOnDrop> = Vec::new();
        loop {
            let accepted = listen.accept().await;
            connections.retain(|connection| !connection.0.is_finished());
            match accepted {
                Ok((mut stream, info)) => match room.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let server = self.clone();
                        connections.push(AbortOnDrop(spawn(async move {
                            server.serve(stream, info).await;
                            drop(permit);
                        })));
                    }
                    Err(_) => {
                        let refusal = (RefusalCode::TooMany, "too many connections".to_owned());
                        self.note(&info, &refusal);
                        timeout(ACCEPT_PAUSE, refuse(&mut stream, refusal)).await.ok();
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a node connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn note(&self, info: &ConnInfo, (code, detail): &Refusal) {
        self.refusals.count(*code);
        tracing::warn!(peer = %info.peer, %code, detail, "a node connection is refused");
    }

    async fn serve(self: Arc<Self>, mut stream: BoxStream, info: ConnInfo) {
        match timeout(self.limits.connect_timeout, self.greet(&mut stream, &info)).await {
            Ok(Ok(Ok((node, lane)))) => {
                if let Err(why) = self.clone().converse(stream, &info, node, lane).await {
                    tracing::debug!(%node, ?lane, why, "a node connection ends");
                }
            }
            Ok(Ok(Err(refusal))) => {
                self.note(&info, &refusal);
                timeout(self.limits.write_timeout, refuse(&mut stream, refusal))
                    .await
                    .ok();
            }
            Ok(Err(error)) => tracing::debug!(peer = %info.peer, %error, "no hello"),
            Err(_) => tracing::debug!(peer = %info.peer, "no hello in time"),
        }
    }

    fn is_member(&self, node: NodeId) -> bool {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().membership_config.get_node(&node.0).is_some()
    }

    /// Reads the hello and judges who sent it.
    async fn greet(&self, stream: &mut BoxStream, info: &ConnInfo) -> std::io::Result<Result<(NodeId, Lane), Refusal>> {
        // Before a byte of it is looked at: a certificate that is not a node's gets no further.
        let good = self.still_good(info);
        let node = match good.and_then(|()| node_of(&self.own, info.identity.as_ref())) {
            Ok(node) => node,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(frame) = frame::read(stream, HELLO_BYTES_MAX).await? else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        let verdict = self.judge(node, frame.message, &frame.parts);
        if verdict.is_ok() {
            let welcome = Frame {
                id: frame.id,
                message: Message::Welcome { protocol: PROTOCOL },
                parts: self.lives.own.told().to_parts(),
            };
            frame::write(stream, &welcome).await?;
            stream.flush().await?;
        }
        Ok(verdict)
    }

    fn judge(&self, node: NodeId, hello: Message, parts: &[Bytes]) -> Result<(NodeId, Lane), Refusal> {
        let Message::Hello {
            protocol,
            mesh,
            cluster,
            from,
            to,
            lane,
        } = hello
        else {
            return Err((RefusalCode::Protocol, "the first message is not a hello".into()));
        };
        if protocol != PROTOCOL {
            let detail = format!("version {PROTOCOL} is spoken here, {protocol} came");
            return Err((RefusalCode::Protocol, detail));
        }
        if mesh != self.own.mesh.as_str() {
            return Err((RefusalCode::ForeignMesh, format!("this is mesh {}", self.own.mesh)));
        }
        if cluster != self.own.cluster.as_str() {
            return Err((
                RefusalCode::ForeignCluster,
                format!("this is cluster {}", self.own.cluster),
            ));
        }
        if from != node.0 {
            let detail = format!("the certificate is that of node {node}, the hello says {from}");
            return Err((RefusalCode::WrongNode, detail));
        }
        if to != self.own.node.0 {
            return Err((
                RefusalCode::WrongTarget,
                format!("this is node {}, not {to}", self.own.node),
            ));
        }
        self.not_removed(node)?;
        self.lives.judge(node, &Life::of_parts(parts)?)?;
        if !self.pins.allows(node) && !self.is_initialized() {
            return Err((
                RefusalCode::NotPinned,
                format!(
                    "node {} has no data yet, and its token does not name node {node}",
                    self.own.node
                ),
            ));
        }
        Ok((node, lane))
    }

    /// Whether this node knows a membership.
    fn is_initialized(&self) -> bool {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().membership_config.nodes().next().is_some()
    }

    fn still_good(&self, info: &ConnInfo) -> Result<(), Refusal> {
        still_good(info.identity.as_ref(), self.clock.wall_ms() / 1000)
    }

    fn not_removed(&self, node: NodeId) -> Result<(), Refusal> {
        if self.publisher.view().state().cluster.is_removed(node) {
            return Err((
                RefusalCode::Removed,
                format!("node {node} was removed from the cluster"),
            ));
        }
        Ok(())
    }

    /// Answers requests until the connection ends. Says why it does.
    async fn converse(
        self: Arc<Self>,
        stream: BoxStream,
        info: &ConnInfo,
        node: NodeId,
        lane: Lane,
    ) -> Result<(), String> {
        let (read, write) = tokio::io::split(stream);
        let mut read = BufReader::with_capacity(64 << 10, read);
        let (outgoing, frames) = mpsc::channel(self.limits.outgoing_frames);
        let writer = spawn(write_all(write, frames, self.limits.write_timeout));
        let _writer = AbortOnDrop(writer);
        let in_flight = Arc::new(Semaphore::new(self.limits.requests_in_flight));
        let mut appends = Appends::new(self.raft.clone(), outgoing.clone(), self.limits.appends_in_flight);
        let mut snapshots = Receiver::new(self.shared.clone());
        let standing = info.identity.as_ref().map(|identity| identity.standing.clone());
        let standing = standing.unwrap_or_default();
        let withdrawn = standing.withdrawn();
        tokio::pin!(withdrawn);
        loop {
            let read = frame::read(&mut read, self.limits.frame_bytes);
            let read = tokio::select! {
                biased;
                () = &mut withdrawn => {
                    self.finish(&in_flight).await;
                    return Err("the node's authority is not trusted any more".into());
                }
                read = timeout(self.limits.idle_timeout, read) => read,
            };
            let frame = match read {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("idle".into()),
            };
            let verdict = self
                .not_removed(node)
                .and_then(|()| self.still_good(info))
                .and_then(|()| speaks_for_itself(node, &frame.message));
            if let Err(refusal) = verdict {
                return Err(self.end(info, refusal, &outgoing).await);
            }
            match (lane, frame.message) {
                (
                    Lane::Append | Lane::Control,
                    Message::Append {
                        session,
                        vote,
                        prev,
                        commit,
                    },
                ) => {
                    self.heard.note();
                    let append = Append {
                        session,
                        vote,
                        prev,
                        commit,
                        rows: frame.parts,
                    };
                    appends.take(frame.id, append).await?;
                }
                (
                    Lane::Snapshot,
                    message @ (Message::SnapshotBegin { .. }
                    | Message::SnapshotChunk { .. }
                    | Message::SnapshotEnd { .. }),
                ) => {
                    let answer = self.snapshot(&mut snapshots, message, frame.parts).await;
                    let answer = answer.unwrap_or_else(|reason| Message::Failed { reason });
                    outgoing
                        .send(Frame::new(frame.id, answer))
                        .await
                        .map_err(|e| e.to_string())?;
                }
                (Lane::Control, message) => {
                    let permit = in_flight.clone().acquire_owned().await.map_err(|e| e.to_string())?;
                    let (server, outgoing) = (self.clone(), outgoing.clone());
                    spawn(async move {
                        let answer = server.control(node, message, frame.parts).await;
                        outgoing.send(Frame::new(frame.id, answer)).await.ok();
                        drop(permit);
                    });
                }
                (lane, message) => return Err(format!("{message:?} on lane {lane:?}")),
            }
        }
    }

    /// Says why a connection that was let in is ended. Answers what to log.
    async fn end(&self, info: &ConnInfo, refusal: Refusal, outgoing: &mpsc::Sender<Frame>) -> String {
        self.note(info, &refusal);
        let (code, detail) = refusal;
        let said = detail.clone();
        let refused = Frame::new(0, Message::Refused { code, detail });
        outgoing.send_timeout(refused, self.limits.write_timeout).await.ok();
        // Give the writer a moment to send it.
        tokio::time::sleep(ACCEPT_PAUSE).await;
        said
    }

    /// Lets the requests of a connection that is about to be closed be answered.
    async fn finish(&self, in_flight: &Semaphore) {
        let all = u32::try_from(self.limits.requests_in_flight).unwrap_or(u32::MAX);
        timeout(self.limits.request_timeout, in_flight.acquire_many(all))
            .await
            .map(drop)
            .ok();
        // Give the writer a moment to send the answers.
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    async fn snapshot(&self, snapshots: &mut Receiver, message: Message, parts: Vec<Bytes>) -> Result<Message, String> {
        match message {
            Message::SnapshotBegin { current } => {
                snapshots.begin(current).await?;
                Ok(Message::SnapshotTaken)
            }
            Message::SnapshotChunk { number } => {
                snapshots.chunk(number, parts).await?;
                Ok(Message::SnapshotTaken)
            }
            Message::SnapshotEnd { chunks, vote } => {
                let staged = snapshots.end(chunks).await?;
                let meta = staged.meta();
                let snapshot = Snapshot {
                    meta,
                    snapshot: SnapshotData(Content::Staged(Box::new(staged))),
                };
                let done = self.raft.install_full_snapshot(Vote::from(vote), snapshot).await;
                let vote = VoteRow::from(&done.map_err(|e| e.to_string())?.vote);
                Ok(Message::SnapshotInstalled { vote })
            }
            other => Err(format!("{other:?} is no part of a snapshot")),
        }
    }

    async fn control(&self, node: NodeId, message: Message, parts: Vec<Bytes>) -> Message {
        let answer = match message {
            Message::Vote {
                pre,
                vote,
                last,
                transfer,
            } => self.vote(pre, vote, last, transfer).await,
            Message::Transfer { .. } if self.recovery.is_recovering() => {
                Err("this node does not campaign before it has recovered".to_owned())
            }
            Message::Transfer { .. } if self.soundness.corrupt().is_some() => {
                Err("this node's state cannot be relied on, so it does not campaign".to_owned())
            }
            Message::Propose { .. } | Message::ReadIndex | Message::Checkup { .. } if !self.is_member(node) => {
                Err(format!("node {node} is not a member of this cluster"))
            }
            Message::Transfer { from, to, last } => {
                let last = last.map(Into::into);
                let request = TransferLeaderRequest::<TypeConfig>::new(from.into(), to, last);
                let outcome = self.raft.handle_transfer_leader(request).await;
                outcome.map(transferred).map_err(|e| e.to_string())
            }
            Message::ReadIndex => {
                let deadline = Instant::now() + self.limits.request_timeout;
                let index = self.reads.index_here(deadline).await;
                index
                    .map(|index| Message::ReadIndexIs { index })
                    .map_err(|e| e.to_string())
            }
            Message::Propose { patience_ms } => self.propose(patience_ms, parts).await,
            Message::Join { secret, endpoint } => join::admit(&self.raft, &self.proposer, node, secret, endpoint).await,
            Message::Checkup { revision } => {
                let vitals = self.examiner.examine(Revision(revision)).await;
                Ok(Message::CheckedUp(vitals))
            }
            other => Err(format!("{other:?} is not a request")),
        };
        answer.unwrap_or_else(|reason| Message::Failed { reason })
    }

    async fn propose(&self, patience_ms: u64, parts: Vec<Bytes>) -> Result<Message, String> {
        let [entry] = <[Bytes; 1]>::try_from(parts).map_err(|_| "an entry is one part".to_owned())?;
        let entry = codec::decode(Format::Entry, &entry).map_err(|e| e.to_string())?;
        let patience = Duration::from_millis(patience_ms).min(self.limits.install_timeout);
        match self.proposer.carried(entry, Instant::now() + patience).await {
            Ok(Carried { log_index, revision }) => Ok(Message::Proposed {
                log_index,
                revision: revision.map(|r| r.0),
            }),
            Err(error) if error.maybe_applied() => Err(error.to_string()),
            Err(error) => Ok(Message::NotProposed {
                reason: error.to_string(),
            }),
        }
    }

    async fn vote(
        &self,
        pre: bool,
        vote: VoteRow,
        last: Option<crate::types::LogIdRow>,
        transfer: bool,
    ) -> Result<Message, String> {
        let (own_vote, own_last) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (VoteRow::from(&metrics.vote), metrics.last_log_index)
        };
        let candidate = last.map(|last| last.index);
        let mut why = self.recovery.abstains(pre, own_last, candidate, transfer).await?;
        if self.soundness.corrupt().is_some() {
            why = Some("its state cannot be relied on, and so neither can its vote");
        } else if self.soundness.is_corrupt(NodeId(vote.node)) {
            why = Some("the candidate's state cannot be relied on");
        }
        if let Some(why) = why {
            tracing::info!(candidate = vote.node, pre, why, "this node does not vote");
            return Ok(Message::Voted {
                vote: own_vote,
                granted: false,
                last: None,
            });
        }
        let mut request = VoteRequest::<TypeConfig>::new(vote.into(), last.map(Into::into));
        request.leadership_transfer = transfer;
        let answer = if pre {
            self.raft.pre_vote(request).await
        } else {
            self.raft.vote(request).await
        };
        let answer = answer.map_err(|e| e.to_string())?;
        Ok(Message::Voted {
            vote: VoteRow::from(&answer.vote),
            granted: answer.vote_granted,
            last: answer.last_log_id.map(Into::into),
        })
    }
}

/// Whoever speaks as leader or candidate has to be the one.
fn speaks_for_itself(node: NodeId, message: &Message) -> Result<(), Refusal> {
    let vote = match message {
        Message::Append { vote, .. } | Message::Vote { vote, .. } | Message::SnapshotEnd { vote, .. } => vote,
        Message::Transfer { from, .. } => from,
        _ => return Ok(()),
    };
    if vote.node != node.0 {
        let detail = format!("node {node} speaks for node {}", vote.node);
        return Err((RefusalCode::WrongNode, detail));
    }
    Ok(())
}

fn transferred(outcome: Result<(), TransferLeaderError<TypeConfig>>) -> Message {
    Message::Transferred(match outcome {
        Ok(()) => TransferOutcome::Accepted,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => TransferOutcome::VoteChanged {
            expected: VoteRow::from(&expected),
            actual: VoteRow::from(&actual),
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => TransferOutcome::LogNotFlushed {
            expected: expected.map(Into::into),
            actual: actual.map(Into::into),
        },
    })
}

async fn refuse(stream: &mut BoxStream, (code, detail): Refusal) -> std::io::Result<()> {
    frame::write(stream, &Frame::new(0, Message::Refused { code, detail })).await?;
    stream.flush().await?;
    stream.shutdown().await
}

async fn write_all(mut write: WriteHalf<BoxStream>, mut frames: mpsc::Receiver<Frame>, patience: Duration) {
    while let Some(frame) = frames.recv().await {
        let work = async {
            frame::write(&mut write, &frame).await?;
            while let Ok(frame) = frames.try_recv() {
                frame::write(&mut write, &frame).await?;
            }
            write.flush().await
        };
        match timeout(patience, work).await {
            Ok(Ok(())) => {}
            // The reading side finds the connection closed.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

//! The task that carries out what the core says.

use std::{
    collections::HashMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use proto::v1::{AcknowledgeMoveRequest, HeartbeatRequest, WatchShardsRequest, presence};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{
    Condition, Peer, Report,
    core::Core,
    event::{Acknowledgement, Action, Event, ShardKey},
    wire::Wire,
};
use crate::{
    Error,
    shards::{Heard, Known},
};

/// Acknowledgements on their way at once.
const ACKS_MAX: usize = 16;
/// Shards that are prepared at once; more wait their turn.
const PREPARING_MAX: usize = 64;
/// The pause before a watch is begun again that ended.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a peer that stops, and whose work has ended, tries to say so to a mesh that does not answer.
const FAREWELL: Duration = Duration::from_secs(2);
/// The longest lease or pause that is believed: a day.
const PERIOD_MAX: Duration = Duration::from_secs(86_400);

pub(super) async fn run(peer: Peer, stop: impl Future<Output = ()> + Send) {
    let mut running = Running {
        heard: follow(&peer, Known::default()),
        again: None,
        core: Core::new(&peer.id),
        began: Instant::now(),
        work: JoinSet::new(),
        acks: Arc::new(Semaphore::new(ACKS_MAX)),
        preparations: Arc::new(Semaphore::new(PREPARING_MAX)),
        preparing: HashMap::new(),
        peer,
    };
    let mut stop = std::pin::pin!(stop);
    running.on(Event::Tick);
    // Once it is told to stop: until when at the most.
    let mut end: Option<Instant> = None;
    let mut idle_since: Option<Instant> = None;
    loop {
        if end.is_some() && running.core.is_idle() {
            if running.core.has_said_all() {
                break;
            }
            idle_since = idle_since.or_else(|| Some(Instant::now()));
        }
        let wake = running.core.wake().map(|at| running.began + at);
        let farewell = idle_since.map(|since| since + FAREWELL);
        tokio::select! {
            () = &mut stop, if end.is_none() => {
                end = Some(Instant::now() + running.peer.stop_within);
                running.on(Event::Leave);
            }
            () = sleep_until(end.into_iter().chain(farewell).min()) => break,
            next = running.heard.recv(), if running.again.is_none() => match next {
                Some(next) => running.hear(next),
                // Not while a node can be asked; were it so, nothing would be heard any more.
                None => running.again = Some(Instant::now() + PAUSE),
            },
            () = sleep_until(running.again) => running.follow(running.core.known().clone()),
            done = running.work.join_next(), if !running.work.is_empty() => running.done(done),
            () = sleep_until(wake) => running.on(Event::Tick),
        }
    }
}

struct Running {
    peer: Peer,
    core: Core,
    /// The watch that runs.
    heard: mpsc::Receiver<Heard>,
    /// When to begin another, where it ended.
    again: Option<Instant>,
    began: Instant,
    /// What is under way; each answers what came of it.
    work: JoinSet<Event>,
    acks: Arc<Semaphore>,
    preparations: Arc<Semaphore>,
    /// Set where one that waits for its turn is of no use any more.
    preparing: HashMap<ShardKey, Arc<AtomicBool>>,
}

impl Running {
    /// Begins a watch in place of the one that runs.
    fn follow(&mut self, known: Known) {
        self.heard = follow(&self.peer, known);
        self.again = None;
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Update { update, .. } => self.on(Event::View(update)),
            Heard::Begun { mesh, epoch } => self.on(Event::Begun { mesh, epoch }),
            Heard::Older(why) => tracing::info!(peer = self.peer.id, why, "a node is behind what is known"),
            Heard::Broken(error) => {
                tracing::info!(peer = self.peer.id, %error, "the watch on the peer's shards broke off")
            }
        }
    }

    fn done(&mut self, done: Option<Result<Event, tokio::task::JoinError>>) {
        match done {
            Some(Ok(event)) => self.on(event),
            // The program's own calls do not get here: what they panic with is told by their tasks.
            Some(Err(error)) => tracing::error!(peer = self.peer.id, %error, "a task of the peer did not end"),
            None => {}
        }
    }

    fn on(&mut self, event: Event) {
        let actions = self.core.on(self.began.elapsed(), event);
        {
            // Before anything is told to the program: what is not to be served any more is not, from here on.
            let mut held = self.peer.serving.held.write();
            held.until = self.core.lease_until().map(|until| self.began + until);
            for action in &actions {
                match action {
                    Action::Start { shard, token } => drop(held.tokens.insert(shard.clone(), *token)),
                    Action::Stop { shard, .. } => drop(held.tokens.remove(shard)),
                    Action::Beat { .. }
                    | Action::Follow(_)
                    | Action::Prepare { .. }
                    | Action::Abandon { .. }
                    | Action::Acknowledge(_) => {}
                }
            }
        }
        actions.into_iter().for_each(|action| self.carry_out(action));
    }

    fn carry_out(&mut self, action: Action) {
        let duty = Arc::clone(&self.peer.duty);
        match action {
            Action::Beat { seen_revision, leaving } => self.beat(seen_revision, leaving),
            Action::Follow(known) => self.follow(known),
            Action::Prepare { shard, begun } => self.prepare(shard, begun),
            Action::Abandon { shard } => {
                if let Some(abandoned) = self.preparing.remove(&shard) {
                    abandoned.store(true, Ordering::Release);
                }
                duty.abandon(&shard);
            }
            Action::Start { shard, token } => {
                self.preparing.remove(&shard);
                duty.start(&shard, token);
            }
            Action::Stop { shard, token, why } => {
                // Called now; only its end is waited for.
                let stopped = catch_unwind(AssertUnwindSafe(|| duty.stop(&shard, token, why)));
                self.work.spawn(async move {
                    let ended = match stopped {
                        Ok(stopped) => AssertUnwindSafe(stopped).catch_unwind().await,
                        Err(panic) => Err(panic),
                    };
                    match ended {
                        Ok(()) => Event::Stopped { shard },
                        Err(_) => {
                            tracing::error!(%shard, "stopping the shard panicked: whether work on it has ended is not known");
                            Event::StopFailed { shard }
                        }
                    }
                });
            }
            Action::Acknowledge(acknowledgement) => self.acknowledge(acknowledgement),
        }
    }

    fn prepare(&mut self, shard: ShardKey, begun: u64) {
        let (duty, places) = (Arc::clone(&self.peer.duty), Arc::clone(&self.preparations));
        let abandoned = Arc::new(AtomicBool::new(false));
        self.preparing.insert(shard.clone(), Arc::clone(&abandoned));
        self.work.spawn(async move {
            let _place = places.acquire_owned().await;
            if abandoned.load(Ordering::Acquire) {
                // While it waited. The program was told already that it is of no use.
                return Event::Prepared {
                    shard,
                    begun,
                    ready: false,
                };
            }
            let ready = AssertUnwindSafe(async { duty.prepare(&shard).await })
                .catch_unwind()
                .await;
            let ready = match ready {
                Ok(Ok(())) => true,
                Ok(Err(why)) => {
                    tracing::warn!(%shard, why, "the shard cannot be prepared; its move is given up");
                    false
                }
                Err(_) => {
                    tracing::error!(%shard, "preparing the shard panicked; its move is given up");
                    false
                }
            };
            Event::Prepared { shard, begun, ready }
        });
    }

    fn beat(&mut self, seen_revision: u64, leaving: bool) {
        let Report {
            condition,
            capacity,
            load,
            telemetry,
        } = (self.peer.report)();
        let condition = match condition {
            _ if leaving => presence::Condition::Leaving,
            Condition::Ready => presence::Condition::Ready,
            Condition::Busy => presence::Condition::Busy,
            Condition::Leaving => presence::Condition::Leaving,
        };
        let request = HeartbeatRequest {
            id: self.peer.id.clone(),
            condition: condition.into(),
            capacity,
            load,
            telemetry: telemetry.into_iter().collect(),
            seen_revision,
        };
        // Before anything of it is sent: retries are part of it.
        let sent = self.began.elapsed();
        let answer = self.peer.wire.heartbeat(request);
        let peer = self.peer.id.clone();
        self.work.spawn(async move {
            match answer.await {
                Ok(answer) => Event::Answered {
                    sent,
                    lease: duration(answer.lease),
                    view_revision: answer.view_revision,
                    epoch: answer.epoch,
                    next: duration(answer.next),
                },
                Err(error) => {
                    tracing::info!(peer, %error, "a heartbeat was not answered");
                    if is_refusal(&error) {
                        Event::Refused
                    } else {
                        Event::Unanswered
                    }
                }
            }
        });
    }

    fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        let Acknowledgement {
            shard,
            begun,
            step,
            token,
            failed,
        } = acknowledgement;
        let request = AcknowledgeMoveRequest {
            namespace: shard.namespace.to_string(),
            shard: shard.shard,
            begun,
            step: step.into(),
            token: Some(token.into()),
            failed,
            ..AcknowledgeMoveRequest::default()
        };
        let (wire, places): (Arc<dyn Wire>, _) = (Arc::clone(&self.peer.wire), Arc::clone(&self.acks));
        self.work.spawn(async move {
            let _place = places.acquire_owned().await;
            let done = match wire.acknowledge(request).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::info!(%shard, begun, %error, "an acknowledgement was not taken");
                    // A move that is over, or waits for another: the view will say so.
                    !error.retryable() && !error.outcome_unknown()
                }
            };
            Event::Told {
                shard,
                begun,
                step,
                done,
            }
        });
    }
}

/// The peer's own shards, as a watch of its own brings them.
fn follow(peer: &Peer, known: Known) -> mpsc::Receiver<Heard> {
    let request = WatchShardsRequest {
        peer: peer.id.clone(),
        ..WatchShardsRequest::default()
    };
    peer.wire.follow(request, known)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether the mesh says no to this peer for good, rather than not answering.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        "not_found" | "unauthenticated" | "credential_expired" | "scope_missing"
    )
}

fn duration(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .unwrap_or_default()
        .min(PERIOD_MAX)
}

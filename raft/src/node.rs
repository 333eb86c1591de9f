//! A node of a cluster: opens its stores, starts what has to run, and stops it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use statemachine::NodeId;
use statemachine::cluster::Incarnation;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::blocking::Threads;
use crate::campaign::{Campaign, Heard};
use crate::checkup::Examiner;
use crate::config::Config;
use crate::engine::{Engine, EngineError};
use crate::env::{Clock, Dial, Listen};
use crate::error::{Error, Fatal, FatalKind};
use crate::fatal::FatalLatch;
use crate::handle::{Endpoint, Handle};
use crate::health::{Health, Soundness};
use crate::log::store::LogStore;
use crate::log::writer::{LogCounters, LogWriter};
use crate::net::client::Factory;
use crate::net::join::Pins;
use crate::net::life::Lives;
use crate::net::link::Dialer;
use crate::net::pool::{Pool, RefusedBy};
use crate::net::server::Server;
use crate::net::{Identity, RefusalCounters};
use crate::propose::Proposer;
use crate::reads::Reads;
use crate::recovery::Recovery;
use crate::state::machine::StateMachine;
use crate::state::publish::Publisher;
use crate::state::scrub;
use crate::status::Status;
use crate::task::{AbortOnDrop, spawn};
use crate::types::{LogId, Runtime, TypeConfig};
use crate::{calls, format, log, settle, watchdog};

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// What a node is started with.
pub struct Boot {
    /// Who it is.
    pub identity: Identity,
    /// Settings.
    pub config: Config,
    /// The engine of [`Store::Log`].
    pub log: Arc<dyn Engine>,
    /// The engine of [`Store::State`].
    pub state: Arc<dyn Engine>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// How it reaches other nodes.
    pub dial: Arc<dyn Dial>,
    /// Where other nodes reach it.
    pub listen: Box<dyn Listen>,
    /// All randomness of consensus follows from this. Random in production.
    pub seed: u64,
    /// The life of the data directory that it runs on.
    pub incarnation: Incarnation,
    /// The only nodes that it speaks with as long as it has no membership; `None`: every node of its cluster.
    pub pinned: Option<Vec<NodeId>>,
}

/// What the handles of a node share.
pub(crate) struct Node {
    pub own: Identity,
    pub config: Config,
    pub raft: Raft,
    pub machine: StateMachine,
    pub publisher: Publisher,
    pub proposer: Arc<Proposer>,
    pub reads: Reads,
    pub pool: Pool,
    pub fatal: FatalLatch,
    pub log_counters: Arc<LogCounters>,
    pub recovery: Arc<Recovery>,
    pub pins: Pins,
    pub refusals: Arc<RefusalCounters>,
    pub watched: Arc<watchdog::Watched>,
    pub soundness: Soundness,
    pub examiner: Arc<Examiner>,
    pub status: watch::Receiver<Status>,
    tasks: Mutex<Vec<AbortOnDrop>>,
    writer_done: Mutex<Option<oneshot::Receiver<()>>>,
    stopped: AtomicBool,
}

/// Starts a node. It takes part in its cluster as soon as it is a member of one: call
/// [`Handle::initialize`] on one node of a new cluster.
///
/// The future is boxed so that all of Raft is compiled here: the body of a plain one is compiled by whoever awaits it.
///
/// # Errors
/// Its stores cannot be opened, are damaged, or belong to another node.
pub fn start(boot: Boot) -> BoxFuture<'static, Result<Handle, Fatal>> {
    Box::pin(Runtime::scope(boot.seed, start_seeded(boot)))
}

async fn start_seeded(boot: Boot) -> Result<Handle, Fatal> {
    let Boot {
        identity,
        config,
        log,
        state,
        clock,
        dial,
        listen,
        seed: _,
        incarnation,
        pinned,
    } = boot;
    let fatal = FatalLatch::new();
    let opening = Opening {
        identity: identity.clone(),
        config: config.clone(),
        log,
        state,
        clock: clock.clone(),
        incarnation,
    };
    let latch = fatal.clone();
    let opened = config
        .threads
        .run(move || opening.open(latch))
        .await
        .map_err(internal)?;
    let (log_store, writer, machine, recovery) = opened.map_err(|e| e.to_fatal())?;
    let writer_done = run_writer(writer, config.threads);

    let refused_by = RefusedBy::new();
    let lives = Lives {
        own: recovery.life().clone(),
        known: Some(machine.publisher().clone()),
    };
    let dialer = Dialer {
        own: identity.clone(),
        dial,
        clock: clock.clone(),
        limits: config.net.clone(),
        refused_by: refused_by.clone(),
        lives,
    };
    let pool = Pool::new(dialer);
    let soundness = Soundness {
        own: identity.node,
        health: Arc::new(Health::default()),
        publisher: machine.publisher().clone(),
    };
    let log_counters = log_store.counters.clone();
    let raft = {
        let config = Arc::new(config.to_openraft(identity.cluster.as_str()).map_err(internal)?);
        let factory = Factory {
            pool: pool.clone(),
            soundness: soundness.clone(),
        };
        let raft = Raft::new(identity.node.0, config, factory, log_store, machine.clone()).await;
        raft.map_err(|e| fatal.get().unwrap_or_else(|| internal(e)))?
    };
    let examiner = Arc::new(Examiner {
        clock: clock.clone(),
        raft: raft.clone(),
        soundness: soundness.clone(),
    });
    let heard = Arc::new(Heard::new());
    let campaign = Campaign {
        raft: raft.clone(),
        soundness: soundness.clone(),
        recovery: recovery.clone(),
        patience: config.election_timeout_max.saturating_mul(6),
        heard: heard.clone(),
    };
    let proposer = Arc::new(Proposer {
        raft: raft.clone(),
        own: identity.node,
        publisher: machine.publisher().clone(),
        clock,
        fatal: fatal.clone(),
        room: Semaphore::new(config.proposals.in_flight),
        bytes: Semaphore::new(config.proposals.in_flight_bytes),
        limits: config.proposals.clone(),
        lease_patience: config.election_timeout_max.saturating_mul(2),
        mesh_clock: Mutex::new(None),
    });
    let watched = Arc::new(watchdog::Watched {
        own: identity.node,
        raft: raft.clone(),
        proposer: proposer.clone(),
        machine: machine.clone(),
        pool: pool.clone(),
        fatal: fatal.clone(),
        refused_by,
        recovery: recovery.clone(),
        campaign,
        lease: config.election_timeout_max,
    });
    let parts = Parts {
        identity,
        config,
        raft,
        machine,
        proposer,
        pool,
        fatal,
        watched,
        log_counters,
        recovery,
        soundness,
        examiner,
        heard,
        pins: Pins::new(pinned.as_deref()),
    };
    Ok(Handle::new(parts.run(listen, writer_done)))
}

fn internal(error: impl std::fmt::Display) -> Fatal {
    Fatal::new(FatalKind::Internal, error.to_string())
}

/// A node whose tasks are not running yet.
struct Parts {
    identity: Identity,
    config: Config,
    raft: Raft,
    machine: StateMachine,
    proposer: Arc<Proposer>,
    pool: Pool,
    fatal: FatalLatch,
    watched: Arc<watchdog::Watched>,
    log_counters: Arc<LogCounters>,
    recovery: Arc<Recovery>,
    soundness: Soundness,
    examiner: Arc<Examiner>,
    heard: Arc<Heard>,
    pins: Pins,
}

impl Parts {
    /// Starts its tasks.
    fn run(self, listen: Box<dyn Listen>, writer_done: oneshot::Receiver<()>) -> Node {
        let Self {
            identity,
            config,
            raft,
            machine,
            proposer,
            pool,
            fatal,
            watched,
            log_counters,
            recovery,
            soundness,
            examiner,
            heard,
            pins,
        } = self;
        if recovery.is_recovering() {
            raft.runtime_config().elect(false);
        }
        let publisher = machine.publisher().clone();
        let patience = config.net.request_timeout;
        let (reads, rounds_here, rounds_anywhere) =
            Reads::new(raft.clone(), pool.clone(), config.reads, config.reads_waiting, patience);
        let refusals = Arc::new(RefusalCounters::default());
        let server = Arc::new(Server {
            own: identity.clone(),
            clock: pool.dialer.clock.clone(),
            raft: raft.clone(),
            shared: machine.shared.clone(),
            publisher: publisher.clone(),
            reads: reads.clone(),
            proposer: proposer.clone(),
            recovery: recovery.clone(),
            soundness: soundness.clone(),
            examiner: examiner.clone(),
            heard,
            limits: config.net.clone(),
            refusals: refusals.clone(),
            lives: pool.dialer.lives.clone(),
            pins: pins.clone(),
        });
        let recover = recovery.clone().run(raft.clone(), reads.clone(), publisher.clone());
        let scrub = scrub::run(machine.shared.clone(), soundness.health.clone(), config.scrub);
        let calls = calls::run(identity.node, raft.clone(), pool.clone());
        let (status_sender, status) = watch::channel(watched.status());
        let [rounds_here, rounds_confirmed] = rounds_here;
        let tasks = vec![
            AbortOnDrop(spawn(server.run(listen))),
            AbortOnDrop(spawn(rounds_here)),
            AbortOnDrop(spawn(rounds_confirmed)),
            AbortOnDrop(spawn(rounds_anywhere)),
            AbortOnDrop(spawn(watched.clone().run(status_sender))),
            AbortOnDrop(spawn(recover)),
            AbortOnDrop(spawn(calls)),
            AbortOnDrop(spawn(scrub)),
            AbortOnDrop(spawn(settle::run(raft.clone()))),
        ];
        Node {
            own: identity,
            config,
            raft,
            machine,
            publisher,
            proposer,
            reads,
            pool,
            fatal,
            log_counters,
            recovery,
            pins,
            refusals,
            watched,
            soundness,
            examiner,
            status,
            tasks: Mutex::new(tasks),
            writer_done: Mutex::new(Some(writer_done)),
            stopped: AtomicBool::new(false),
        }
    }
}

/// What opening the stores needs. It blocks.
struct Opening {
    identity: Identity,
    config: Config,
    log: Arc<dyn Engine>,
    state: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    incarnation: Incarnation,
}

impl Opening {
    fn open(self, fatal: FatalLatch) -> Result<(LogStore, LogWriter, StateMachine, Arc<Recovery>), EngineError> {
        let Self {
            identity,
            config,
            log,
            state,
            clock,
            incarnation,
        } = self;
        format::claim(&*log, &*state, &identity)?;
        let lease = config.election_timeout_max;
        let own = (identity.node, incarnation);
        let recovery = Arc::new(Recovery::new(log.clone(), config.threads, fatal.clone(), lease, own)?);
        let machine = StateMachine::open(state, clock, config.threads, config.state.clone(), fatal.clone())?;
        let (log_store, writer) = log::open::open(log, config.log.clone(), config.threads, fatal)?;
        check_together(&log_store, &machine)?;
        machine.follow(log_store.synced());
        Ok((log_store, writer, machine, recovery))
    }
}

/// What each store says of itself has to fit the other: a log that ends before what was applied
/// has lost entries.
fn check_together(log_store: &LogStore, machine: &StateMachine) -> Result<(), EngineError> {
    let (applied, installed) = {
        let applier = machine.shared.applier.lock();
        (applier.applied, applier.installed)
    };
    let (last, committed, purged) = {
        let tail = log_store.reader.tail.lock();
        (tail.last, tail.committed, tail.purged)
    };
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    let end = index(last).max(index(installed));
    for (what, needed) in [("applied", applied), ("committed", committed)] {
        if index(needed) > end {
            let detail = format!(
                "it ends before entry {}, which was {what}: entries are missing",
                index(needed).saturating_sub(1)
            );
            return Err(EngineError::corrupt("table log", detail));
        }
    }
    if index(purged) > index(applied) {
        let detail = format!(
            "it ends at entry {}, the log begins only after entry {}",
            index(applied).saturating_sub(1),
            index(purged).saturating_sub(1)
        );
        return Err(EngineError::corrupt("table state_meta, row current", detail));
    }
    Ok(())
}

/// Runs the log writer where it may block. The receiver resolves when it has ended.
pub(crate) fn run_writer(writer: LogWriter, threads: Threads) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    let run = async move {
        writer.run().await;
        done.send(()).ok();
    };
    match threads {
        // A thread of the runtime's, so that a runtime that shuts down waits for it however the node ended: a node whose
        // start fails has nobody else who would, and nobody may be in a store when the process ends.
        Threads::Own => drop(tokio::task::spawn_blocking(move || futures::executor::block_on(run))),
        Threads::Inline => {
            spawn(run);
        }
    }
    is_done
}

impl Node {
    /// Stops everything, in an order in which nothing acknowledged is lost.
    pub(crate) async fn shutdown(&self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        if self.stopped.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let late = |_| Error::DeadlineExceeded { maybe_applied: false };
        let stopped = timeout_at(deadline, self.raft.shutdown()).await.map_err(late);
        self.tasks.lock().clear();
        self.pool.close();
        if let Err(error) = stopped.and_then(|s| s.map_err(|e| Error::unavailable(e.to_string()))) {
            tracing::warn!(%error, "consensus did not stop in time");
        }
        let flushed = timeout_at(deadline, self.machine.shared.flush()).await.map_err(late);
        let writer = self.writer_done.lock().take();
        let ended = match writer {
            // Ends when openraft has dropped the log store. Waited for whatever became of the flush: nobody may be at
            // work on a store when the process ends.
            Some(writer) => timeout_at(deadline, writer).await.map(drop).map_err(late),
            None => Ok(()),
        };
        flushed?.map_err(|e| match self.fatal.get() {
            Some(fatal) => Error::Fatal(fatal),
            None => Error::unavailable(e.to_string()),
        })?;
        ended
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Who leads, as far as this node knows, and where that is.
pub(crate) fn leader_of(raft: &Raft) -> Option<(u64, Option<Endpoint>)> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let leader = metrics.current_leader?;
    Some((leader, metrics.membership_config.get_node(&leader).cloned()))
}

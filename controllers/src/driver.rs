//! Starts the loops, stops them with leadership, and shows how they are.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use raft::{Handle, env::Clock};
use statemachine::{InitMesh, cluster::NodeFacts};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    approvals::Approvals,
    bootstrap::Bootstrap,
    checkpoint::{Checkpoint, Schedule},
    checkup::{Checkup, Seen, Sight},
    controller::{Controller, Node, PROPOSAL_TIMEOUT, Pass},
    describe::Describe,
    drain::Drain,
    namespaces::Namespaces,
    ports::Signer,
    presence::{Hearing, Presence},
    refusals::RefusalLog,
    retention::Retention,
    shards::Shards,
    standing::Standing,
};

/// The shortest time between two passes of a loop.
const PASS_GAP: Duration = Duration::from_millis(2);
/// How long a loop waits after a pass that failed.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What the loops have to know.
pub struct Config {
    /// The first command, on the node that begins the mesh.
    pub init: Option<InitMesh>,
    /// The cluster, for the node's own facts.
    pub cluster: statemachine::ClusterId,
    /// What this node says of itself.
    pub facts: NodeFacts,
    /// When the audit chain is signed.
    pub checkpoints: Schedule,
    /// From one checkup of the members by their leader to the next.
    pub checkup_interval: Duration,
    /// How long a drain's step is seen to be finished before the next begins: gives data planes time to notice.
    pub drain_settle: Duration,
    /// Signs checkpoints.
    pub signer: Arc<dyn Signer>,
    /// Where plans are worked out.
    pub threads: raft::Threads,
    /// The node's clocks.
    pub clock: Arc<dyn Clock>,
    /// Refusals that wait to be committed.
    pub refusals: Arc<RefusalLog>,
}

/// How a loop is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it runs on this node now.
    pub running: bool,
    /// Passes since the start.
    pub passes: u64,
    /// What the last pass that failed said; absent after a pass that did not.
    pub error: Option<String>,
}

/// The loops of a node.
pub struct Running {
    stop: CancellationToken,
    driver: tokio::task::JoinHandle<()>,
    board: Board,
    senses: Senses,
}

/// What loops know that others may look at.
#[derive(Clone, Default)]
struct Senses {
    sight: Sight,
    hearing: Hearing,
}

impl Running {
    /// How the loops are.
    #[must_use]
    pub fn status(&self) -> Vec<LoopStatus> {
        self.board.0.lock().clone()
    }

    /// What this node saw of the members at its last checkup, while it leads. Sharing it costs nothing.
    #[must_use]
    pub fn seen(&self) -> Arc<Mutex<Vec<Seen>>> {
        self.senses.sight.0.clone()
    }

    /// What this node hears of peers, while it leads. Sharing it costs nothing.
    #[must_use]
    pub fn hearing(&self) -> Hearing {
        self.senses.hearing.clone()
    }

    /// Stops the loops and waits for them, at most as long as one proposal may take.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(PROPOSAL_TIMEOUT, self.driver).await.is_err() {
            tracing::warn!("the loops did not stop in time");
        }
    }
}

#[derive(Clone, Default)]
struct Board(Arc<Mutex<Vec<LoopStatus>>>);

impl Board {
    fn update(&self, name: &'static str, change: impl FnOnce(&mut LoopStatus)) {
        let mut all = self.0.lock();
        if !all.iter().any(|status| status.name == name) {
            all.push(LoopStatus {
                name,
                running: false,
                passes: 0,
                error: None,
            });
        }
        if let Some(status) = all.iter_mut().find(|status| status.name == name) {
            change(status);
        }
    }
}

/// Starts the loops of a node.
#[must_use]
pub fn start(handle: Handle, config: Config) -> Running {
    let stop = CancellationToken::new();
    let board = Board::default();
    let node = Node {
        handle,
        clock: config.clock.clone(),
    };
    let senses = Senses::default();
    let driver = tokio::spawn(drive(node, config, board.clone(), senses.clone(), stop.clone()));
    Running {
        stop,
        driver,
        board,
        senses,
    }
}

/// Runs this node's own loops always, and the leader's while it leads.
async fn drive(node: Node, config: Config, board: Board, senses: Senses, stop: CancellationToken) {
    let mut own = JoinSet::new();
    let describe = Describe {
        cluster: config.cluster.clone(),
        facts: config.facts.clone(),
    };
    own.spawn(run(describe, node.clone(), board.clone(), stop.clone()));
    own.spawn(run(
        config.refusals.clone().controller(),
        node.clone(),
        board.clone(),
        stop.clone(),
    ));
    own.spawn(run(Standing::default(), node.clone(), board.clone(), stop.clone()));
    let mut status = node.handle.watch_status();
    while !stop.is_cancelled() {
        let leads = status.borrow_and_update().is_leader();
        if leads {
            lead(&node, &config, (&board, &senses), &stop, &mut status).await;
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = status.changed() => if changed.is_err() { break },
        }
    }
    stop.cancel();
    own.join_all().await;
}

/// Runs the leader's loops until leadership or the node ends.
async fn lead(
    node: &Node,
    config: &Config,
    (board, senses): (&Board, &Senses),
    stop: &CancellationToken,
    status: &mut tokio::sync::watch::Receiver<raft::Status>,
) {
    let term = stop.child_token();
    let mut loops = JoinSet::new();
    if let Some(init) = config.init.clone() {
        loops.spawn(run(Bootstrap { init }, node.clone(), board.clone(), term.clone()));
    }
    loops.spawn(run(
        Drain::new(config.drain_settle),
        node.clone(),
        board.clone(),
        term.clone(),
    ));
    let checkup = Checkup::new(config.checkup_interval, senses.sight.clone());
    loops.spawn(run(checkup, node.clone(), board.clone(), term.clone()));
    let presence = Presence::new(senses.hearing.clone());
    loops.spawn(run(presence, node.clone(), board.clone(), term.clone()));
    let namespaces = Namespaces::new(config.threads);
    loops.spawn(run(namespaces, node.clone(), board.clone(), term.clone()));
    loops.spawn(run(
        Shards::new(config.threads),
        node.clone(),
        board.clone(),
        term.clone(),
    ));
    loops.spawn(run(Retention::new(), node.clone(), board.clone(), term.clone()));
    loops.spawn(run(Approvals::new(), node.clone(), board.clone(), term.clone()));
    let checkpoint = Checkpoint::new(config.checkpoints, config.signer.clone());
    loops.spawn(run(checkpoint, node.clone(), board.clone(), term.clone()));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = status.changed() => {
                if changed.is_err() || !status.borrow_and_update().is_leader() {
                    break;
                }
            }
        }
    }
    term.cancel();
    loops.join_all().await;
}

/// Runs one loop: a pass, then sleep until the state changes or the period is over.
async fn run<C: Controller>(mut controller: C, node: Node, board: Board, stop: CancellationToken) {
    let name = controller.name();
    board.update(name, |status| status.running = true);
    let mut views = node.handle.watch_applied();
    loop {
        views.borrow_and_update();
        let passed = tokio::select! {
            () = stop.cancelled() => break,
            passed = controller.pass(&node) => passed,
        };
        let sleep = match &passed {
            Ok(Pass::Idle) => controller.period(),
            Ok(Pass::Again(after)) => (*after).min(controller.period()),
            Err(_) => RETRY_AFTER,
        };
        if let Err(error) = &passed {
            tracing::debug!(controller = name, %error, "a pass failed; it will be repeated");
        }
        let failed = passed.is_err();
        board.update(name, |status| {
            status.passes += 1;
            status.error = passed.err().map(|error| error.to_string());
        });
        let woken = async {
            tokio::time::sleep(PASS_GAP).await;
            // A failure is not repeated at the pace of other writes.
            if failed || views.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = woken => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
    board.update(name, |status| status.running = false);
}

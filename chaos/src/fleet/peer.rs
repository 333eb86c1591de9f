//! One peer of the fleet: the SDK's own, with a program that takes its time, fails or lies as it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use api_client::{
    Client, Error, Peer, Result,
    peer::{ClientWire, Duty, Report, Serving, ShardKey, Why, Wire},
    shards::{Heard, Known, Token},
};
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use proto::v1::{AcknowledgeMoveRequest, HeartbeatRequest, HeartbeatResponse, WatchShardsRequest};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::watchman::{Serves, Watchman};

/// How long the planted peer goes on after it said that it stopped.
const LIES_FOR: Duration = Duration::from_secs(3);
/// Steps of a watch that wait while a peer is cut off; more wait in the connection.
const WAITING_MAX: usize = 64;

/// How a peer behaves. It may be told otherwise at any time.
#[derive(Debug)]
pub struct Manners {
    /// How long it takes to prepare and to stop a shard, in ms.
    pub delay_ms: AtomicU64,
    /// Never says that it has done anything.
    pub mute: AtomicBool,
    /// Cannot prepare anything.
    pub refuses: AtomicBool,
    /// Goes on serving after it said that it stopped.
    pub lies: AtomicBool,
    /// Neither hears nor says anything.
    cut_off: watch::Sender<bool>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            delay_ms: AtomicU64::new(0),
            mute: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            lies: AtomicBool::new(false),
            cut_off: watch::Sender::new(false),
        }
    }
}

impl Manners {
    /// Cuts it off, or ends that.
    pub fn cut_off(&self, cut_off: bool) {
        self.cut_off.send_replace(cut_off);
    }

    async fn take_time(delay_ms: u64) {
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
    }
}

/// One peer, running or not.
pub struct Simulated {
    id: Arc<str>,
    client: Client,
    watchman: Arc<Watchman>,
    /// How it behaves.
    pub manners: Arc<Manners>,
    running: Option<Running>,
}

struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Simulated {
    /// One that does not run yet. The client has its credential.
    pub fn new(id: &str, client: Client, watchman: Arc<Watchman>) -> Self {
        Self {
            id: Arc::from(id),
            client,
            watchman,
            manners: Arc::default(),
            running: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts its process, as it were; it knows nothing of what was before.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let duty = Arc::new(Noted {
            id: Arc::clone(&self.id),
            manners: Arc::clone(&self.manners),
            watchman: Arc::clone(&self.watchman),
            serving: Mutex::default(),
        });
        let wire = Arc::new(Cable {
            wire: Arc::new(ClientWire::new(self.client.clone())),
            manners: Arc::clone(&self.manners),
        });
        let (stop, stopped) = oneshot::channel();
        let peer = Peer::over(wire, &self.id, Arc::clone(&duty) as _);
        let serving = peer.serving();
        *duty.serving.lock() = serving.clone();
        let peer = peer.reports(move || Report {
            capacity: 1_000,
            load: serving.tokens().len() as u64,
            ..Report::default()
        });
        let task = tokio::spawn(peer.run(async move {
            // Dropped: it is killed, and that ends it in any case.
            let _ = stopped.await;
        }));
        self.running = Some(Running { task, stop });
    }

    /// Its process ends from one instant to the next.
    pub async fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
            // Nothing of it runs any more once this is over.
            let _ = running.task.await;
            self.watchman.gone(&self.id);
        }
    }

    /// Its process is told to stop, and ends what it does first.
    pub async fn stop(&mut self) {
        if let Some(Running { task, stop }) = self.running.take() {
            let _ = stop.send(());
            let _ = task.await;
            self.watchman.gone(&self.id);
        }
    }
}

/// Tells the watchman, and behaves.
struct Noted {
    id: Arc<str>,
    manners: Arc<Manners>,
    watchman: Arc<Watchman>,
    serving: Mutex<Serving>,
}

/// A peer that lies, and would serve whatever its lease says.
struct Lies(Token);

impl Serves for Lies {
    fn token(&self, _: &ShardKey) -> Option<Token> {
        Some(self.0)
    }
}

impl Duty for Noted {
    fn prepare(&self, _: &ShardKey) -> BoxFuture<'static, std::result::Result<(), String>> {
        let (delay_ms, refuses) = (&self.manners.delay_ms, &self.manners.refuses);
        let (delay_ms, refuses) = (delay_ms.load(Ordering::Relaxed), refuses.load(Ordering::Relaxed));
        async move {
            Manners::take_time(delay_ms).await;
            if refuses {
                Err("as it was told".to_owned())
            } else {
                Ok(())
            }
        }
        .boxed()
    }

    fn abandon(&self, _: &ShardKey) {}

    fn start(&self, shard: &ShardKey, token: Token) {
        let serves: Arc<dyn Serves> = match self.manners.lies.load(Ordering::Relaxed) {
            true => Arc::new(Lies(token)),
            false => Arc::new(self.serving.lock().clone()),
        };
        self.watchman.started(&self.id, shard, token, serves);
    }

    fn stop(&self, shard: &ShardKey, _: Token, _: Why) -> BoxFuture<'static, ()> {
        let delay_ms = self.manners.delay_ms.load(Ordering::Relaxed);
        if self.manners.lies.load(Ordering::Relaxed) {
            let (watchman, id, shard) = (Arc::clone(&self.watchman), Arc::clone(&self.id), shard.clone());
            tokio::spawn(async move {
                tokio::time::sleep(LIES_FOR).await;
                watchman.stopped(&id, &shard);
            });
        } else {
            self.watchman.stopped(&self.id, shard);
        }
        Manners::take_time(delay_ms).boxed()
    }
}

/// What a peer hears and says, until it is pulled out.
struct Cable {
    wire: Arc<dyn Wire>,
    manners: Arc<Manners>,
}

impl Cable {
    fn is_out(&self) -> bool {
        *self.manners.cut_off.borrow()
    }
}

fn cut_off() -> Error {
    Error::deadline("the cable is out", "")
}

impl Wire for Cable {
    fn heartbeat(&self, request: HeartbeatRequest) -> BoxFuture<'static, Result<HeartbeatResponse>> {
        if self.is_out() {
            return async { Err(cut_off()) }.boxed();
        }
        self.wire.heartbeat(request)
    }

    fn acknowledge(&self, request: AcknowledgeMoveRequest) -> BoxFuture<'static, Result<()>> {
        if self.is_out() || self.manners.mute.load(Ordering::Relaxed) {
            return async { Err(cut_off()) }.boxed();
        }
        self.wire.acknowledge(request)
    }

    fn follow(&self, request: WatchShardsRequest, known: Known) -> mpsc::Receiver<Heard> {
        let mut heard = self.wire.follow(request, known);
        let mut out = self.manners.cut_off.subscribe();
        let (tell, told) = mpsc::channel(WAITING_MAX);
        // Ends with the watch, or when nobody listens.
        tokio::spawn(async move {
            while let Some(next) = heard.recv().await {
                let mended = out.wait_for(|out| !*out).await.is_ok();
                if !mended || tell.send(next).await.is_err() {
                    return;
                }
            }
        });
        told
    }
}

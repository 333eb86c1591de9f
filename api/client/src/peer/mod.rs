//! The data-plane side of shard ownership: what a peer does so that no two serve one shard.
//!
//! [`Peer`] sends heartbeats, follows which shards are its own, and calls the program's [`Duty`] when a shard is to be
//! prepared, served or given up. The rules are those of the pure [`core`]: a shard is served while the peer owns it in its own
//! view, its lease has not run out (counted on this machine's clock from when the heartbeat was *sent*), and, after the lease
//! had lapsed, once the view is as late as the mesh says it has to be. View and lease have to be of the latest epoch that was
//! heard of, from whomever: after a failover or a restore the peer asks for both anew, and serves under the new token.
//!
//! Time is the machine's monotonic clock: setting the wall clock changes nothing. A machine that sleeps, or a virtual one that
//! is paused, may not count the while; then tokens alone keep what it does late from counting.
//!
//! A program serves a request for a shard only while [`Serving::token`] answers one, and sends that token with every write
//! to whatever keeps the data, which refuses lesser ones: work that a stalled process finishes late is caught there.
//!
//! It deliberately does not own: what it means to serve.

pub mod core;
pub mod event;
mod run;
mod wire;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::{Client, shards::Token};

pub use event::{Condition, ShardKey, Why};
pub use wire::{ClientWire, Wire};

/// What the program does with its shards. Calls for one shard come one after the other, so a `prepare` that takes long, of use or
/// not, holds up whatever comes next for its shard; those for different shards may run beside each other.
///
/// A `prepare` that panics counts as one that failed. If `abandon` or `start` panics, the peer ends: it serves until its lease
/// runs out, and then nothing.
pub trait Duty: Send + Sync + 'static {
    /// Gets ready to serve a shard that is about to come, such as by reading its data. `Err` gives the move up: the shard
    /// stays where it is.
    fn prepare(&self, shard: &ShardKey) -> BoxFuture<'static, Result<(), String>>;

    /// The shard does not come after all: what was prepared is of no use. Where `prepare` has not ended yet, whatever it comes to
    /// is of no use either.
    fn abandon(&self, shard: &ShardKey);

    /// The shard is served from now on, under this token.
    fn start(&self, shard: &ShardKey, token: Token);

    /// The shard is not served any more: requests are refused from now on, as [`Serving::token`] has none. Resolves when
    /// work that was begun has ended. In a planned move the next owner begins only then.
    ///
    /// Where it panics, nobody knows whether that work has ended, and the mesh is not told that it has: a planned move waits for
    /// its deadline, is given up, and the shard is started here again.
    fn stop(&self, shard: &ShardKey, token: Token, why: Why) -> BoxFuture<'static, ()>;
}

/// What the peer says of itself with every heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How it is.
    pub condition: Condition,
    /// What it can carry, in its own unit.
    pub capacity: u64,
    /// What it carries.
    pub load: u64,
    /// Other figures; at most 32, of names of at most 64 bytes.
    pub telemetry: BTreeMap<String, u64>,
}

/// What a peer may serve at this moment. Cheap to clone, and to ask with every request.
#[derive(Clone, Default)]
pub struct Serving {
    held: Arc<RwLock<Held>>,
}

#[derive(Default)]
struct Held {
    until: Option<Instant>,
    tokens: BTreeMap<ShardKey, Token>,
}

impl Serving {
    /// The token under which a shard is served now; none where it is not to be served: not even by a process whose timers are
    /// late.
    pub fn token(&self, shard: &ShardKey) -> Option<Token> {
        let held = self.held.read();
        let token = held.tokens.get(shard).copied()?;
        held.until.filter(|until| Instant::now() < *until).map(|_| token)
    }

    /// All of it.
    pub fn tokens(&self) -> BTreeMap<ShardKey, Token> {
        let held = self.held.read();
        match held.until {
            Some(until) if Instant::now() < until => held.tokens.clone(),
            Some(_) | None => BTreeMap::new(),
        }
    }

    /// Until when, where nothing more is heard; none without a lease.
    pub fn until(&self) -> Option<Instant> {
        self.held.read().until
    }
}

/// A data-plane peer that takes part in the mesh.
///
/// ```no_run
/// # extern crate meshkit_api_client as api_client;
/// # fn example(client: api_client::Client, duty: impl api_client::peer::Duty) {
/// use std::sync::Arc;
/// use api_client::Peer;
///
/// let peer = Peer::new(client, "edge-7", Arc::new(duty));
/// let serving = peer.serving();
/// // With every request: is `serving.token(&shard)` there? Then serve, and send it with every write.
/// tokio::spawn(peer.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }));
/// # }
/// ```
pub struct Peer {
    id: String,
    wire: Arc<dyn Wire>,
    duty: Arc<dyn Duty>,
    serving: Serving,
    report: Arc<dyn Fn() -> Report + Send + Sync>,
    stop_within: Duration,
}

impl Peer {
    /// Of this id, whose credential the client holds: with `mesh.peer`, and `mesh.observe` to follow its shards.
    pub fn new(client: Client, id: &str, duty: Arc<dyn Duty>) -> Self {
        Self::over(Arc::new(ClientWire::new(client)), id, duty)
    }

    /// The same over something else than a client: for simulations.
    pub fn over(wire: Arc<dyn Wire>, id: &str, duty: Arc<dyn Duty>) -> Self {
        Self {
            id: id.to_owned(),
            wire,
            duty,
            serving: Serving::default(),
            report: Arc::new(Report::default),
            stop_within: Duration::from_secs(10),
        }
    }

    /// Asks `report` with every heartbeat; it must not block.
    #[must_use]
    pub fn reports(mut self, report: impl Fn() -> Report + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// How long work may go on when the peer is told to stop; 10 s otherwise.
    #[must_use]
    pub fn stop_within(mut self, within: Duration) -> Self {
        self.stop_within = within;
        self
    }

    /// What it may serve, to be asked with every request.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }

    /// Takes part until `stop` resolves; then serves nothing any more, and waits for work that was begun.
    ///
    /// What fails on the way is tried again. Its shards stay its own in the mesh until they are moved, or it counts as dead:
    /// whoever stops a peer for long drains it first.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        run::run(self, stop).await;
    }
}

#[cfg(test)]
mod tests;

//! Plays a fleet from its first heartbeat to its report.

use std::{
    io::{self, BufRead as _, Write as _},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use super::{
    options::Options,
    orders::{Order, ToPeer},
    peer::Simulated,
    report::Report,
    setup::{self, Failure, Fleet},
    watchman::Watchman,
};

/// How often the watchman looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The peers begin within this time, so that their heartbeats are spread.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// How long a rolling restart waits until all is served again after each round.
const ROUND_WITHIN: Duration = Duration::from_secs(60);
/// Orders that wait.
const ORDERS_MAX: usize = 64;

/// Plays it. `told` resolves when somebody asks for the end.
///
/// # Errors
/// Where it cannot be made ready.
pub async fn play(options: &Options, told: impl Future<Output = ()>) -> Result<Report, Failure> {
    let deadline = Instant::now() + options.ready_within;
    let fleet = setup::fleet(options).await?;
    let mut playing = Playing {
        began: Instant::now(),
        options: options.clone(),
        watchman: Arc::clone(&fleet.watchman),
        fleet,
    };
    let looking = tokio::spawn(look(Arc::clone(&playing.watchman)));
    let outcome = playing.run(deadline, told).await;
    looking.abort();
    outcome?;
    playing.watchman.look();
    let report = playing.report();
    for peer in &mut playing.fleet.peers {
        peer.crash().await;
    }
    Ok(report)
}

async fn look(watchman: Arc<Watchman>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        watchman.look();
    }
}

struct Playing {
    began: Instant,
    options: Options,
    watchman: Arc<Watchman>,
    fleet: Fleet,
}

/// What an order is answered with.
#[derive(Serialize)]
struct Answer<T> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    more: Option<T>,
}

impl Playing {
    async fn run(&mut self, deadline: Instant, told: impl Future<Output = ()>) -> Result<(), Failure> {
        let pause = BEGIN_WITHIN / self.options.peers.max(1);
        for peer in &mut self.fleet.peers {
            peer.start();
            tokio::time::sleep(pause).await;
        }
        setup::all_alive(&self.fleet.admin, &self.options, deadline).await?;
        setup::namespace(&self.fleet.admin, &self.options, deadline).await?;
        self.served(deadline).await?;
        self.watchman.all_are_to_be_served();
        if let Some(file) = &self.options.ready_file {
            write(file, &self.report())?;
        }
        if self.options.orders {
            answer::<()>(Ok(None));
        }
        let end = self.options.lasts.map(|lasts| Instant::now() + lasts);
        let mut told = std::pin::pin!(told);
        let mut orders = self.options.orders.then(orders);
        loop {
            tokio::select! {
                () = &mut told => return Ok(()),
                () = sleep_until(end) => return Ok(()),
                line = next(&mut orders) => match line {
                    Some(line) => if !self.obey(&line).await { return Ok(()) },
                    None => return Ok(()),
                },
            }
        }
    }

    /// False where it was the last.
    async fn obey(&mut self, line: &str) -> bool {
        match line.parse() {
            Ok(Order::Peer(id, told)) => {
                let peer = self.fleet.peers.iter_mut().find(|peer| **peer.id() == *id);
                let done = match peer {
                    Some(peer) => {
                        tell(peer, told).await;
                        Ok(None)
                    }
                    None => Err(format!("there is no peer {id}")),
                };
                answer::<()>(done);
            }
            Ok(Order::Roll { at_once, down }) => {
                let rolled = self.roll(at_once, down).await.map_err(|error| error.to_string());
                answer(rolled.map(|()| Some(self.report())));
            }
            Ok(Order::Served(within)) => {
                let served = self
                    .served(Instant::now() + within)
                    .await
                    .map_err(|error| error.to_string());
                answer(served.map(|()| Some(self.report())));
            }
            Ok(Order::Who) => {
                let serving = self.watchman.serving();
                let who = serving
                    .into_iter()
                    .map(|(shard, peer)| (shard.to_string(), peer.to_string()));
                answer(Ok(Some(std::collections::BTreeMap::from([(
                    "who",
                    who.collect::<std::collections::BTreeMap<_, _>>(),
                )]))));
            }
            Ok(Order::Report) => answer(Ok(Some(self.report()))),
            Ok(Order::End) => return false,
            Err(why) => answer::<()>(Err(why)),
        }
        true
    }

    /// Crashes and starts all peers, some at once, as a rolling restart does.
    async fn roll(&mut self, at_once: usize, down: Duration) -> Result<(), Failure> {
        for first in (0..self.fleet.peers.len()).step_by(at_once) {
            let end = (first + at_once).min(self.fleet.peers.len());
            for peer in &mut self.fleet.peers[first..end] {
                peer.crash().await;
            }
            tokio::time::sleep(down).await;
            for peer in &mut self.fleet.peers[first..end] {
                peer.start();
            }
            self.served(Instant::now() + ROUND_WITHIN).await?;
        }
        Ok(())
    }

    /// Waits until every shard is served by somebody.
    async fn served(&self, deadline: Instant) -> Result<(), Failure> {
        loop {
            self.watchman.look();
            let served = self.watchman.seen().served;
            if served >= self.options.shards {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("{served} of {} shards are served", self.options.shards).into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn report(&self) -> Report {
        let running = self.fleet.peers.iter().filter(|peer| peer.is_running()).count();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        let Options { peers, shards, .. } = self.options;
        Report::of(peers, running, shards, self.began.elapsed(), self.watchman.seen())
    }
}

async fn tell(peer: &mut Simulated, told: ToPeer) {
    match told {
        ToPeer::Crash => peer.crash().await,
        ToPeer::Stop => peer.stop().await,
        ToPeer::Start => peer.start(),
        ToPeer::CutOff(out) => peer.manners.cut_off(out),
        ToPeer::Delay(ms) => peer.manners.delay_ms.store(ms, Ordering::Relaxed),
        ToPeer::Mute(mute) => peer.manners.mute.store(mute, Ordering::Relaxed),
        ToPeer::Refuse(refuses) => peer.manners.refuses.store(refuses, Ordering::Relaxed),
    }
}

fn answer<T: Serialize>(outcome: Result<Option<T>, String>) {
    let answer = match outcome {
        Ok(more) => Answer {
            ok: true,
            error: None,
            more,
        },
        Err(why) => Answer {
            ok: false,
            error: Some(why),
            more: None,
        },
    };
    say(&answer);
}

/// Writes a line of JSON. Whoever does not read it any more has gone.
pub fn say(what: &impl Serialize) {
    let mut out = io::stdout().lock();
    if let Ok(line) = serde_json::to_string(what) {
        writeln!(out, "{line}").and_then(|()| out.flush()).ok();
    }
}

/// Lines of stdin; none after the last.
fn orders() -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel(ORDERS_MAX);
    // Ends with stdin, or with the process.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    told
}

async fn next(orders: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match orders {
        Some(orders) => orders.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn write(file: &Path, report: &Report) -> Result<(), Failure> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(report)?)?;
    std::fs::rename(&beside, file)?;
    Ok(())
}

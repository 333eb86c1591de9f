//! The load: so many clients, each of which begins its next operation when the last is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_client::{Endpoint, TlsConnect};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tonic::Status;

use crate::{Error, Result, link::Link, usage::Usage};

/// Clients that share one connection.
const CLIENTS_PER_CONNECTION: usize = 16;

/// The size of a value, in bytes; the most that a label takes.
const VALUE_BYTES: usize = 256;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes of 256 bytes.
    Put,
    /// Linearizable reads of one key.
    Get,
}

/// A side, as the load sees it.
pub trait Target: Clone + Send + Sync + 'static {
    /// Writes.
    fn put(
        &self,
        link: &Link,
        key: usize,
        value: String,
    ) -> impl Future<Output = std::result::Result<(), Status>> + Send;

    /// Reads, linearizably, what was written; nothing there is an error.
    fn get(&self, link: &Link, key: usize) -> impl Future<Output = std::result::Result<(), Status>> + Send;
}

/// One measurement to make.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What is done.
    pub kind: Kind,
    /// By how many clients.
    pub clients: usize,
    /// On how many keys.
    pub keys: usize,
    /// How long before it counts.
    pub warmup: Duration,
    /// How long it counts.
    pub window: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Operations answered within the window, per second.
    pub per_second: f64,
    /// Half of them were answered within, microseconds.
    pub p50_us: u64,
    /// 99 of 100 were answered within, microseconds.
    pub p99_us: u64,
    /// CPU time of all three servers per operation, microseconds.
    pub cpu_us: f64,
    /// Memory of all three servers at the end, bytes.
    pub rss_bytes: u64,
    /// Calls that failed, warm-up included, and what the last said.
    pub errors: u64,
    /// What the last failed call said.
    pub last_error: Option<String>,
}

struct Shared {
    from: Instant,
    until: Instant,
    stop: AtomicBool,
    errors: AtomicU64,
    last_error: parking::Last,
}

/// Loads the server at `leader` once, and measures. `pids` are all servers of that side.
///
/// # Errors
/// Where no connection can be opened, or nothing was answered in the window.
pub async fn measure<T: Target>(
    target: &T,
    leader: &(Arc<TlsConnect>, Endpoint),
    pids: &[u32],
    plan: Plan,
) -> Result<Sample> {
    let mut links = Vec::new();
    for _ in 0..plan.clients.div_ceil(CLIENTS_PER_CONNECTION) {
        links.push(Link::open(&leader.0, &leader.1).await?);
    }
    let from = Instant::now() + plan.warmup;
    let shared = Arc::new(Shared {
        from,
        until: from + plan.window,
        stop: AtomicBool::new(false),
        errors: AtomicU64::new(0),
        last_error: parking::Last::default(),
    });
    let mut clients = tokio::task::JoinSet::new();
    for (number, link) in (0..plan.clients).zip(links.iter().cycle()) {
        clients.spawn(client(
            target.clone(),
            link.clone(),
            Arc::clone(&shared),
            plan,
            number as u64,
        ));
    }
    tokio::time::sleep_until(shared.from.into()).await;
    let before = Usage::of(pids)?;
    tokio::time::sleep_until(shared.until.into()).await;
    let after = Usage::of(pids)?;
    shared.stop.store(true, Ordering::Relaxed);
    let mut latencies_us: Vec<u32> = clients.join_all().await.into_iter().flatten().collect();
    latencies_us.sort_unstable();
    let errors = shared.errors.load(Ordering::Relaxed);
    let last_error = shared.last_error.take();
    let Some(done) = u32::try_from(latencies_us.len()).ok().filter(|done| *done > 0) else {
        let said = last_error.unwrap_or_else(|| "none failed either".to_owned());
        return Err(Error::Worthless(format!(
            "no call was answered in the window; {errors} errors, last: {said}"
        )));
    };
    let at = |permille: usize| {
        latencies_us
            .get(latencies_us.len() * permille / 1_000)
            .copied()
            .map_or(0, u64::from)
    };
    Ok(Sample {
        per_second: f64::from(done) / plan.window.as_secs_f64(),
        p50_us: at(500),
        p99_us: at(990),
        cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / f64::from(done),
        rss_bytes: after.rss_bytes,
        errors,
        last_error,
    })
}

/// One client. Answers the latencies of what was answered within the window.
async fn client<T: Target>(target: T, link: Link, shared: Arc<Shared>, plan: Plan, number: u64) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(number);
    let mut latencies_us = Vec::new();
    let filler = "x".repeat(VALUE_BYTES - 16);
    while !shared.stop.load(Ordering::Relaxed) {
        let key = rng.random_range(0..plan.keys);
        let began = Instant::now();
        let answered = match plan.kind {
            // Every value is another one: a write that changes nothing would be cheaper.
            Kind::Put => {
                target
                    .put(&link, key, format!("{:016x}{filler}", rng.random::<u64>()))
                    .await
            }
            Kind::Get => target.get(&link, key).await,
        };
        let ended = Instant::now();
        match answered {
            Ok(()) if ended >= shared.from && ended < shared.until => {
                let took = ended.saturating_duration_since(began).as_micros();
                latencies_us.push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            Ok(()) => {}
            Err(status) => {
                shared.errors.fetch_add(1, Ordering::Relaxed);
                shared
                    .last_error
                    .set(format!("{:?}: {}", status.code(), status.message()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    latencies_us
}

/// Clients that write until they are told to stop.
pub struct Background {
    answered: Arc<AtomicU64>,
    errors: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: tokio::task::JoinSet<()>,
}

impl Background {
    /// Starts so many at the server `leader`, on keys picked at random.
    ///
    /// # Errors
    /// Where no connection can be opened.
    pub async fn start<T: Target>(
        target: &T,
        leader: &(Arc<TlsConnect>, Endpoint),
        clients: usize,
        keys: usize,
    ) -> Result<Self> {
        let mut links = Vec::new();
        for _ in 0..clients.div_ceil(CLIENTS_PER_CONNECTION) {
            links.push(Link::open(&leader.0, &leader.1).await?);
        }
        let mut background = Self {
            answered: Arc::default(),
            errors: Arc::default(),
            stop: Arc::default(),
            clients: tokio::task::JoinSet::new(),
        };
        for (number, link) in (0..clients).zip(links.iter().cycle()) {
            let (target, link) = (target.clone(), link.clone());
            let (answered, errors) = (Arc::clone(&background.answered), Arc::clone(&background.errors));
            let stop = Arc::clone(&background.stop);
            background.clients.spawn(async move {
                let mut rng = StdRng::seed_from_u64(number as u64);
                let filler = "x".repeat(VALUE_BYTES - 16);
                while !stop.load(Ordering::Relaxed) {
                    let value = format!("{:016x}{filler}", rng.random::<u64>());
                    if target.put(&link, rng.random_range(0..keys), value).await.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        errors.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        Ok(background)
    }

    /// Writes that were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends them; answers how many writes failed.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.errors.load(Ordering::Relaxed)
    }
}

/// The last of something, written rarely.
mod parking {
    use std::sync::{Mutex, PoisonError};

    #[derive(Default)]
    pub struct Last(Mutex<Option<String>>);

    impl Last {
        pub fn set(&self, text: String) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }

        pub fn take(&self) -> Option<String> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        }
    }
}

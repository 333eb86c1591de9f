//! Clients that read, write and compare-and-set registers through every node, and record what they see.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_client::{
    Answer, CallOptions, Client, Endpoint,
    methods::{GetPeer, PatchPeer},
};
use proto::v1::{GetPeerRequest, PatchPeerRequest, Peer};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    Result,
    cluster::Cluster,
    history::{Call, End, Recorder},
    keys::{Key, Keys, LABEL},
};

/// A client forgets who leads after so many operations, so that it is redirected again and again.
const OPERATIONS_PER_SDK: u32 = 25;

/// Registers that a client remembers a value of.
const SEEN_MAX: usize = 32;

/// What clients share.
#[derive(Debug)]
pub struct Shared {
    /// Where to connect.
    pub cluster: Cluster,
    /// The registers.
    pub keys: Keys,
    /// What happens is written here.
    pub recorder: Recorder,
    /// The mean pause between two operations of a client.
    pub pause: Duration,
    /// Set when the run is over.
    pub stop: AtomicBool,
}

/// One client. It turns to its own node first: reads go there and nowhere else, writes follow the leader.
struct Worker {
    shared: Arc<Shared>,
    process: u32,
    node: u64,
    home: Endpoint,
    sdk: Client,
    rng: StdRng,
    /// How patient it is: some give up so early that they never learn the outcome.
    options: CallOptions,
    /// What it saw last of a register: value and ETag.
    seen: BTreeMap<String, (u64, String)>,
}

/// Starts `clients` clients, spread over all nodes. They end within a call's time once `stop` is set.
///
/// # Errors
/// Where a client cannot be made.
pub fn start(shared: &Arc<Shared>, clients: u32, seed: u64) -> Result<Vec<tokio::task::JoinHandle<Result<()>>>> {
    let nodes = shared.cluster.nodes().to_vec();
    let mut tasks = Vec::new();
    for (process, (node, home)) in (0..clients).zip(nodes.iter().cycle()) {
        let mut options = CallOptions::default();
        match process % 4 {
            0 | 1 => options.timeout = Some(Duration::from_secs(8)),
            2 => options.timeout = Some(Duration::from_millis(1_500)),
            _ => (options.timeout, options.once) = (Some(Duration::from_secs(3)), true),
        }
        let worker = Worker {
            shared: Arc::clone(shared),
            process,
            node: *node,
            home: home.clone(),
            sdk: shared.cluster.client_at(*node)?,
            rng: StdRng::seed_from_u64(seed.wrapping_add(u64::from(process))),
            options,
            seen: BTreeMap::new(),
        };
        tasks.push(tokio::spawn(worker.run()));
    }
    Ok(tasks)
}

impl Worker {
    async fn run(mut self) -> Result<()> {
        let mut operations = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            if operations % OPERATIONS_PER_SDK == 0 {
                self.sdk = self.shared.cluster.client_at(self.node)?;
            }
            operations += 1;
            let Some(key) = self.shared.keys.take(self.rng.random_range(0..1024)).await else {
                continue;
            };
            let done = match self.rng.random_range(0..10) {
                0..4 => self.read(&key).await,
                4..7 => self.write(&key).await,
                _ => self.swap(&key).await,
            };
            let mean = self.shared.pause;
            let pause = if done {
                mean.mul_f64(self.rng.random_range(0.0..2.0))
            } else {
                mean.max(Duration::from_millis(50))
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    async fn read(&mut self, key: &Key) -> bool {
        let options = CallOptions {
            timeout: Some(Duration::from_secs(2)),
            only: Some(self.home.clone()),
            ..CallOptions::default()
        };
        let op = self
            .shared
            .recorder
            .invoke(self.process, self.node, &key.id, Call::Read);
        let answer = self
            .sdk
            .call::<GetPeer>(GetPeerRequest { id: key.id.clone() }, options)
            .await;
        self.record(op, answer)
    }

    async fn write(&mut self, key: &Key) -> bool {
        let to = self.shared.keys.value();
        self.patch(key, Call::Write { to }, to, String::new()).await
    }

    /// From the value seen last; where none was seen, a read instead.
    async fn swap(&mut self, key: &Key) -> bool {
        let Some((from, etag)) = self.seen.remove(&key.id) else {
            return self.read(key).await;
        };
        let to = self.shared.keys.value();
        self.patch(key, Call::Cas { from, to }, to, etag).await
    }

    async fn patch(&mut self, key: &Key, call: Call, to: u64, if_match: String) -> bool {
        let request = PatchPeerRequest {
            id: key.id.clone(),
            labels: [(LABEL.to_owned(), to.to_string())].into(),
            if_match,
            ..Default::default()
        };
        let op = self.shared.recorder.invoke(self.process, self.node, &key.id, call);
        let answer = self.sdk.call::<PatchPeer>(request, self.options.clone()).await;
        self.record(op, answer)
    }

    /// Records how an operation ended; true where it was done.
    fn record(&mut self, op: u64, answer: api_client::Result<Answer<Peer>>) -> bool {
        let end = match answer {
            Ok(Answer { message: peer, meta }) => {
                let value = peer.labels.get(LABEL).and_then(|value| value.parse().ok());
                if let Some(value) = value {
                    if self.seen.len() >= SEEN_MAX {
                        self.seen.pop_first();
                    }
                    self.seen.insert(peer.id, (value, peer.etag));
                }
                End::Ok {
                    value,
                    changed: peer.changed_revision,
                    shown: meta.revision,
                    attempts: meta.attempts,
                }
            }
            Err(error) => {
                let (code, detail) = (error.code().to_owned(), error.detail().to_owned());
                if error.outcome_unknown() {
                    End::Info { code, detail }
                } else {
                    End::Fail { code, detail }
                }
            }
        };
        let done = matches!(end, End::Ok { .. });
        self.shared.recorder.end(op, end);
        done
    }
}

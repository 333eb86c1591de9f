//! How long the mesh takes no writes after its leader was killed.
//!
//! Each trial waits until all nodes agree, kills the leader with `kill -9` under a steady load of writes, and measures
//! from just before the signal was sent: when a survivor first knew of no leader or of a newer term (*detected*), when
//! a survivor led with a quorum (*elected*), and when a write that was begun after the kill was first acknowledged
//! (*first write*). The first write is found by writes that are begun anew every few milliseconds, so that no
//! client's waiting time hides the mesh's; what a patient client of the SDK saw is beside it (*client's gap*).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_client::{CallOptions, Client, Endpoint, methods::PatchPeer};
use node_harness::Mesh;
use proto::v1::{PatchPeerRequest, RegisterPeerRequest};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

use crate::{
    Error, Result,
    cluster::{self, Cluster, Leader},
    error::Doing as _,
};

/// A trial in which no write is acknowledged by then has failed.
const GIVE_UP: Duration = Duration::from_secs(30);

/// How often a survivor is asked who leads.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// How often a write is begun after the kill, and how many may be under way.
const PROBE_EVERY: Duration = Duration::from_millis(20);
const PROBES_MAX: usize = 64;

/// Writers that write one after the other, all the time.
const WRITERS: usize = 6;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Leaders to kill.
    pub kills: u32,
    /// Nodes.
    pub nodes: u16,
    /// Settings of the nodes: `("MESHKIT_RAFT__HEARTBEAT_INTERVAL_MS", "50")`.
    pub environment: Vec<(String, String)>,
}

/// What one kill led to; times since just before the signal.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Who was killed.
    pub before: Leader,
    /// Who led then.
    pub after: Leader,
    /// A survivor knew of no leader, or of a newer term.
    pub detected: Duration,
    /// A survivor led, with a quorum.
    pub elected: Duration,
    /// A write begun after the kill was acknowledged.
    pub first_write: Duration,
    /// The longest time in which a steady writer, retrying, got nothing acknowledged.
    pub gap: Duration,
}

/// All trials.
#[derive(Debug, Clone)]
pub struct Report {
    /// One per kill.
    pub trials: Vec<Trial>,
}

impl Report {
    /// The longest time until a first write.
    pub fn worst(&self) -> Duration {
        self.trials
            .iter()
            .map(|trial| trial.first_write)
            .max()
            .unwrap_or_default()
    }

    /// A table, in milliseconds, with median and maximum at the end.
    pub fn told(&self) -> String {
        let mut lines = vec![
            "| kill | node, term | detected | elected | first write | client's gap |".to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        let row = |name: String, nodes: String, times: [Duration; 4]| {
            let times = times.map(|time| time.as_millis().to_string()).join(" | ");
            format!("| {name} | {nodes} | {times} |")
        };
        let times = |trial: &Trial| [trial.detected, trial.elected, trial.first_write, trial.gap];
        for (trial, number) in self.trials.iter().zip(1..) {
            let (before, after) = (trial.before, trial.after);
            let nodes = format!("{}, {} → {}, {}", before.node, before.term, after.node, after.term);
            lines.push(row(format!("{number}"), nodes, times(trial)));
        }
        let mut columns = [const { Vec::new() }; 4];
        for trial in &self.trials {
            for (column, time) in columns.iter_mut().zip(times(trial)) {
                column.push(time);
            }
        }
        for column in &mut columns {
            column.sort_unstable();
        }
        let at = |share: fn(usize) -> usize| {
            [0, 1, 2, 3].map(|column: usize| {
                let sorted: &Vec<Duration> = &columns[column];
                sorted.get(share(sorted.len())).copied().unwrap_or_default()
            })
        };
        lines.push(row("median".into(), String::new(), at(|count| count / 2)));
        lines.push(row("max".into(), String::new(), at(|count| count.saturating_sub(1))));
        lines.join("\n")
    }
}

/// Kills leaders, one after the other, and measures. Says after each what it found through `progress`.
///
/// # Errors
/// Where a trial could not be done, or no write was acknowledged within 30 s of a kill.
pub fn run(plan: &Plan, mut progress: impl FnMut(u32, &Trial)) -> Result<Report> {
    let mut mesh = Mesh::start(node_harness::Options {
        nodes: plan.nodes,
        environment: plan.environment.clone(),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let cluster = Cluster::of(&mesh)?;
    let first = cluster.nodes().first().map_or(1, |(id, _)| *id);
    let client = runtime.block_on(async { cluster.client_at(first) })?;
    runtime.block_on(register(&client))?;
    let load = runtime.block_on(async { Load::start(&cluster) })?;
    let mut trials = Vec::new();
    for number in 1..=plan.kills {
        let trial = trial(&mut mesh, &runtime, &cluster, &client, &load)?;
        progress(number, &trial);
        trials.push(trial);
    }
    load.stop.store(true, Ordering::Relaxed);
    Ok(Report { trials })
}

fn trial(mesh: &mut Mesh, runtime: &Runtime, cluster: &Cluster, client: &Client, load: &Load) -> Result<Trial> {
    // Followers have caught up, and the load has found its way.
    let before = runtime.block_on(cluster.wait_leader(client, 0, GIVE_UP))?;
    runtime.block_on(all_follow(cluster, client, before))?;
    std::thread::sleep(Duration::from_millis(500));
    let survivors: Vec<_> = cluster
        .nodes()
        .iter()
        .filter(|(id, _)| *id != before.node)
        .cloned()
        .collect();
    load.longest_us.store(0, Ordering::Relaxed);
    let watching = runtime.spawn(watch(client.clone(), survivors.clone(), before));
    // The watchers are asking by now.
    std::thread::sleep(Duration::from_millis(50));
    let killed_at = Instant::now();
    mesh.kill(before.node)?;
    let first_write = runtime.block_on(probe(cluster, &survivors))?;
    let (detected, elected, after) = match runtime.block_on(watching) {
        Ok(watched) => watched?,
        Err(_) => {
            return Err(Error::Late {
                what: "the watch over the survivors".into(),
                seconds: 0,
            });
        }
    };
    // A writer that waits longer than everybody else still counts.
    std::thread::sleep(Duration::from_millis(1_500));
    let gap = Duration::from_micros(load.longest_us.load(Ordering::Relaxed));
    mesh.restart(before.node)?;
    mesh.wait_ready(before.node, GIVE_UP)?;
    Ok(Trial {
        before,
        after,
        detected: detected.saturating_duration_since(killed_at),
        elected: elected.saturating_duration_since(killed_at),
        first_write: first_write.saturating_duration_since(killed_at),
        gap,
    })
}

/// The peers that are written to.
async fn register(client: &Client) -> Result<()> {
    for id in (0..WRITERS)
        .map(|writer| format!("writer-{writer}"))
        .chain(["probe".to_owned()])
    {
        let request = RegisterPeerRequest {
            id,
            endpoints: vec!["127.0.0.1:1".into()],
            ..Default::default()
        };
        client.register_peer(request).await.doing("registering a peer")?;
    }
    Ok(())
}

fn patch(id: &str, value: u64) -> PatchPeerRequest {
    let labels = [("v".to_owned(), value.to_string())].into();
    PatchPeerRequest {
        id: id.to_owned(),
        labels,
        ..Default::default()
    }
}

/// Every node follows `leader`, and lags by less than a moment's writes.
async fn all_follow(cluster: &Cluster, client: &Client, leader: Leader) -> Result<()> {
    let start = Instant::now();
    loop {
        let statuses = cluster.statuses(client).await;
        let follow = statuses.iter().all(|(_, status)| {
            status.as_ref().is_ok_and(|status| {
                status.leader.as_ref().is_some_and(|known| known.id == leader.node) && status.term == leader.term
            })
        });
        let revisions: Vec<u64> = statuses
            .iter()
            .filter_map(|(_, status)| Some(status.as_ref().ok()?.revision))
            .collect();
        let spread = revisions
            .iter()
            .max()
            .zip(revisions.iter().min())
            .map_or(u64::MAX, |(max, min)| max - min);
        if follow && spread < 1_000 {
            return Ok(());
        }
        if start.elapsed() > GIVE_UP {
            return Err(Error::Late {
                what: "all nodes to follow the leader".into(),
                seconds: GIVE_UP.as_secs(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks the survivors until one leads. Answers when the loss was detected, when that one led, and who it is.
async fn watch(client: Client, survivors: Vec<(u64, Endpoint)>, before: Leader) -> Result<(Instant, Instant, Leader)> {
    let mut watches = JoinSet::new();
    let detected = Arc::new(parking_lot::Mutex::new(None::<Instant>));
    for (id, endpoint) in survivors {
        let (client, detected) = (client.clone(), Arc::clone(&detected));
        watches.spawn(async move {
            loop {
                if let Ok(status) = cluster::status(&client, endpoint.clone()).await {
                    let leader = status.leader.as_ref().map(|leader| leader.id);
                    if status.term > before.term || leader != Some(before.node) {
                        detected.lock().get_or_insert_with(Instant::now);
                    }
                    if leader == Some(id) && status.term > before.term && status.quorum {
                        return (
                            Instant::now(),
                            Leader {
                                node: id,
                                term: status.term,
                            },
                        );
                    }
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
    }
    let first = tokio::time::timeout(GIVE_UP, watches.join_next()).await;
    let late = || Error::Late {
        what: "a survivor to lead".into(),
        seconds: GIVE_UP.as_secs(),
    };
    let (elected, leader) = first.ok().flatten().and_then(|joined| joined.ok()).ok_or_else(late)?;
    let detected = detected.lock().unwrap_or(elected);
    Ok((detected, elected, leader))
}

/// Begins a write every few milliseconds at each survivor in turn, until one is acknowledged. Answers when.
async fn probe(cluster: &Cluster, survivors: &[(u64, Endpoint)]) -> Result<Instant> {
    let start = Instant::now();
    let clients: Vec<_> = survivors
        .iter()
        .map(|(id, endpoint)| Ok((cluster.client_at(*id)?, endpoint.clone())))
        .collect::<Result<_>>()?;
    let places = Arc::new(Semaphore::new(PROBES_MAX));
    let mut probes = JoinSet::new();
    let mut turn = 0_u64;
    let mut tick = tokio::time::interval(PROBE_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if start.elapsed() > GIVE_UP {
                    return Err(Error::Late { what: "a write to be acknowledged".into(), seconds: GIVE_UP.as_secs() });
                }
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                turn += 1;
                let which = usize::try_from(turn).unwrap_or(0) % clients.len().max(1);
                let Some((client, endpoint)) = clients.get(which).cloned() else { continue };
                probes.spawn(async move {
                    let _place = place;
                    let options = CallOptions {
                        timeout: Some(Duration::from_secs(2)),
                        only: Some(endpoint),
                        once: true,
                        ..CallOptions::default()
                    };
                    client.call::<PatchPeer>(patch("probe", turn), options).await.is_ok().then(Instant::now)
                });
            }
            Some(probed) = probes.join_next() => {
                if let Ok(Some(at)) = probed {
                    return Ok(at);
                }
            }
        }
    }
}

/// Writers that never stop.
struct Load {
    stop: Arc<AtomicBool>,
    /// The longest that any writer waited for an acknowledgement, microseconds.
    longest_us: Arc<AtomicU64>,
}

impl Load {
    fn start(cluster: &Cluster) -> Result<Self> {
        let load = Self {
            stop: Arc::default(),
            longest_us: Arc::default(),
        };
        for writer in 0..WRITERS {
            let nodes = cluster.nodes();
            let client = cluster.client_at(nodes.get(writer % nodes.len().max(1)).map_or(1, |(id, _)| *id))?;
            let (stop, longest_us) = (Arc::clone(&load.stop), Arc::clone(&load.longest_us));
            tokio::spawn(async move {
                let id = format!("writer-{writer}");
                let mut value = 0;
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    value += 1;
                    if client.patch_peer(patch(&id, value)).await.is_ok() {
                        let waited = u64::try_from(last.elapsed().as_micros()).unwrap_or(u64::MAX);
                        longest_us.fetch_max(waited, Ordering::Relaxed);
                        last = Instant::now();
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_every_trial_and_the_worst() {
        let leader = |node, term| Leader { node, term };
        let trial = |ms| Trial {
            before: leader(1, 2),
            after: leader(3, 4),
            detected: Duration::from_millis(ms),
            elected: Duration::from_millis(ms + 1),
            first_write: Duration::from_millis(ms + 2),
            gap: Duration::from_millis(ms + 3),
        };
        let report = Report {
            trials: vec![trial(100), trial(900), trial(500)],
        };
        assert_eq!(report.worst(), Duration::from_millis(902));
        let told = report.told();
        assert!(told.contains("| 2 | 1, 2 → 3, 4 | 900 | 901 | 902 | 903 |"), "{told}");
        assert!(told.contains("| median |  | 500 | 501 | 502 | 503 |"), "{told}");
        assert!(told.ends_with("| max |  | 900 | 901 | 902 | 903 |"), "{told}");
    }
}

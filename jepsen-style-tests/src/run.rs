//! A run from start to verdict.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use api_client::Client;
use node_harness::Mesh;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;

use crate::{
    Error, Result,
    cluster::Cluster,
    gates::{self, Done, Least},
    history::{History, Recorder},
    keys::Keys,
    nemesis::{Fault, Fired, Nemesis},
    recency, register, trail,
    workload::{self, Shared},
};

/// After this many kills of a leader all nodes are killed at once; and once at the end.
const KILL_ALL_AFTER: u32 = 4;

/// The length of a history's gap between faults in which the least is expected.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long clients work, faults included; longer where the faults take longer.
    pub length: Duration,
    /// Leaders to kill, spread over the length. All nodes are killed at once besides, leadership is handed over, and
    /// nodes join and leave.
    pub kills: u32,
    /// Clients, spread over the nodes.
    pub clients: u32,
    /// Nodes.
    pub nodes: u16,
    /// The mean pause between two operations of a client.
    pub pause: Duration,
    /// Decides what clients choose. Runs are not repeatable: the machine's timing is part of them.
    pub seed: u64,
    /// Where history, verdict and (after violations) the nodes' logs are kept. Made if it is not there.
    pub out: PathBuf,
    /// Settings of the nodes: `("MESHKIT_LOG__LEVEL", "debug")`.
    pub environment: Vec<(String, String)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Verdict {
    /// What was done.
    pub done: Done,
    /// The faults.
    pub fired: Vec<Fired>,
    /// What is wrong, one entry each. Empty where all is well.
    pub violations: Vec<String>,
    /// What the run should have done and did not. Empty where it counts.
    pub missing: Vec<String>,
    /// The recorded history.
    pub history: PathBuf,
    /// What was checked, for people.
    pub checked: Vec<String>,
}

impl Verdict {
    /// Whether the run counts and found nothing wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missing.is_empty()
    }

    /// The verdict in words.
    pub fn told(&self) -> String {
        let mut text = String::new();
        let ok: Vec<_> = self
            .done
            .ok
            .iter()
            .map(|(kind, times)| format!("{times} {kind}"))
            .collect();
        let errors: Vec<_> = self
            .done
            .errors
            .iter()
            .map(|(code, times)| format!("{times} {code}"))
            .collect();
        let mut line = |what: &str, said: String| {
            let _ = writeln!(text, "{what:<12}{said}");
        };
        line("history", self.history.display().to_string());
        line("succeeded", ok.join(", "));
        line(
            "did not",
            if errors.is_empty() {
                "none".to_owned()
            } else {
                format!("{} (? = unknown outcome)", errors.join(", "))
            },
        );
        line(
            "redirected",
            format!(
                "or repeated: {} writes; under way at a fault: {} operations",
                self.done.repeated, self.done.under_way
            ),
        );
        for fired in &self.fired {
            let (before, after) = (fired.before, fired.after);
            line(
                "fault",
                format!(
                    "{:?}: node {} of term {}, then node {} of term {}",
                    fired.fault, before.node, before.term, after.node, after.term
                ),
            );
        }
        for checked in &self.checked {
            line("checked", checked.clone());
        }
        for missing in &self.missing {
            line("MISSING", missing.clone());
        }
        for violation in &self.violations {
            line("VIOLATION", violation.clone());
        }
        line(
            "verdict",
            if self.is_good() {
                "good".to_owned()
            } else {
                "BAD".to_owned()
            },
        );
        text
    }
}

/// Judges a history by itself: no order explains it, or an answer was too old.
pub fn judge(history: &History) -> Vec<String> {
    let operations = history.operations();
    let mut violations = recency::check(&operations);
    for violation in register::check(&operations) {
        violations.push(format!(
            "{}: {}\n  {}",
            violation.key,
            violation.what,
            violation.history.join("\n  ")
        ));
    }
    violations
}

/// Starts a mesh, runs the workload under faults, and judges.
///
/// # Errors
/// Where the run could not be done. What it found wrong is in the verdict.
pub fn run(plan: &Plan) -> Result<Verdict> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::File { path, error }
    };
    std::fs::create_dir_all(&plan.out).map_err(failed(&plan.out))?;
    let mut mesh = Mesh::start(node_harness::Options {
        nodes: plan.nodes,
        environment: plan.environment.clone(),
    })?;
    let ran = with_mesh(plan, &mut mesh);
    let good = matches!(&ran, Ok(verdict) if verdict.is_good());
    if !good {
        let logs = plan.out.join("nodes.log");
        std::fs::write(&logs, mesh.logs()).map_err(failed(&logs))?;
    }
    if let Ok(verdict) = &ran {
        let path = plan.out.join("verdict.txt");
        std::fs::write(&path, verdict.told()).map_err(failed(&path))?;
    }
    ran
}

fn with_mesh(plan: &Plan, mesh: &mut Mesh) -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let cluster = Cluster::of(mesh)?;
    let first = cluster.nodes().first().map_or(1, |(id, _)| *id);
    let client = runtime.block_on(async { cluster.client_at(first) })?;
    let path = plan.out.join("history.jsonl");
    let (recorder, fired) = work(plan, mesh, &runtime, &cluster, &client, &path)?;

    let history = recorder;
    let operations = history.operations();
    let struck: Vec<u64> = history
        .faults()
        .iter()
        .filter(|(_, fault)| fault.starts_with("kill"))
        .map(|(at_us, _)| *at_us)
        .collect();
    let done = gates::count(&operations, &struck);
    let nodes: Vec<u64> = cluster.nodes().iter().map(|(id, _)| *id).collect();
    let missing = gates::check(&done, &nodes, &fired, &least(plan));

    let mut violations = judge(&history);
    let keys: std::collections::BTreeSet<_> = operations.iter().map(|operation| &operation.key).collect();
    let mut checked = vec![format!(
        "{} operations on {} registers for linearizability",
        operations.len(),
        keys.len()
    )];
    let applied = runtime.block_on(trail::read(&client))?;
    violations.extend(trail::check(&operations, &applied));
    checked.push(format!(
        "{} applied writes of the audit trail against the history",
        applied.len()
    ));
    violations.extend(runtime.block_on(digests(&cluster, &client, &mut checked))?);
    for node in nodes {
        let verified = mesh.mesh_at(node, ["audit", "verify"])?;
        if verified.success() {
            checked.push(format!("audit chain and signatures at node {node}"));
        } else {
            violations.push(format!(
                "`mesh audit verify` at node {node}: {}{}",
                verified.stdout, verified.stderr
            ));
        }
    }
    Ok(Verdict {
        done,
        fired,
        violations,
        missing,
        history: path,
        checked,
    })
}

/// The workload under faults. Answers the history and the faults.
fn work(
    plan: &Plan,
    mesh: &mut Mesh,
    runtime: &Runtime,
    cluster: &Cluster,
    client: &Client,
    path: &Path,
) -> Result<(History, Vec<Fired>)> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let width = usize::try_from(plan.clients / 3).unwrap_or(1).max(1);
    let keys = runtime.block_on(Keys::start(client.clone(), width));
    let keys = keys.ok_or_else(|| Error::Late {
        what: "the first registers".into(),
        seconds: 30,
    })?;
    let shared = Arc::new(Shared {
        cluster: cluster.clone(),
        keys,
        recorder: Recorder::create(path)?,
        pause: plan.pause,
        stop: AtomicBool::new(false),
    });
    let start = Instant::now();
    let tasks = {
        let _within = runtime.enter();
        workload::start(&shared, plan.clients, plan.seed)?
    };
    let mut nemesis = Nemesis {
        mesh,
        cluster,
        client,
        recorder: &shared.recorder,
        runtime: runtime.handle(),
        joined: 0,
    };
    let faults = faults(plan.kills);
    let mut fired = Vec::new();
    let mut struck = Ok(());
    let strikes = u32::try_from(faults.len()).unwrap_or(u32::MAX);
    for (fault, number) in faults.iter().zip(1..) {
        // Evenly spread, with a stretch of peace before the first and behind the last.
        let due = start + plan.length.mul_f64(f64::from(number) / f64::from(strikes + 1));
        std::thread::sleep(
            due.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1_000)),
        );
        match nemesis.strike(*fault, &mut rng) {
            Ok(one) => fired.push(one),
            Err(error) => {
                struck = Err(error);
                break;
            }
        }
    }
    let peace = if struck.is_ok() {
        Duration::from_secs(2)
    } else {
        Duration::ZERO
    };
    std::thread::sleep(
        (start + plan.length)
            .saturating_duration_since(Instant::now())
            .max(peace),
    );
    shared.stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for task in tasks {
            // A client that panicked is a defect of this program; its operation stays open in the history.
            if let Ok(worked) = task.await {
                worked?;
            }
        }
        Ok::<_, Error>(())
    })?;
    struck?;
    Ok((shared.recorder.history()?, fired))
}

/// Leaders one by one; everybody after every few of them, and at the end. Between them what operators do.
fn faults(kills: u32) -> Vec<Fault> {
    let mut faults = Vec::new();
    for number in 1..=kills {
        faults.push(if number % 2 == 1 {
            Fault::HandOver
        } else {
            Fault::JoinAndLeave
        });
        faults.push(Fault::KillLeader);
        if number % KILL_ALL_AFTER == 0 || number == kills {
            faults.push(Fault::KillAll);
        }
    }
    faults
}

fn least(plan: &Plan) -> Least {
    let faults = faults(plan.kills);
    let of = |wanted: Fault| faults.iter().filter(|fault| **fault == wanted).count();
    // One operation of each kind per second: far below what a healthy mesh does, far above none.
    let seconds = usize::try_from(plan.length.as_secs()).unwrap_or(usize::MAX);
    Least {
        of_each_kind: seconds,
        reads_per_node: (seconds / 2).max(1),
        between_faults: 10,
        leaders_killed: of(Fault::KillLeader),
        all_killed: of(Fault::KillAll),
        handed_over: of(Fault::HandOver),
        joined: of(Fault::JoinAndLeave),
    }
}

/// All nodes have the same state at the same revision.
async fn digests(cluster: &Cluster, client: &Client, checked: &mut Vec<String>) -> Result<Vec<String>> {
    let statuses = cluster.wait_settled(client, SETTLE_WITHIN).await?;
    let mut digests: Vec<&str> = statuses.iter().map(|(_, status)| status.digest.as_str()).collect();
    digests.dedup();
    let revision = statuses.first().map_or(0, |(_, status)| status.revision);
    let mut violations = Vec::new();
    if digests.len() != 1 || digests.first().is_none_or(|digest| digest.is_empty()) {
        violations.push(format!("at revision {revision} the nodes' digests are {digests:?}"));
    } else {
        checked.push(format!(
            "equal digests of {} nodes at revision {revision}",
            statuses.len()
        ));
    }
    for (node, status) in &statuses {
        for alarm in &status.alarms {
            violations.push(format!(
                "node {node} shows alarm {} of node {}: {}",
                alarm.name, alarm.node, alarm.detail
            ));
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_killed_now_and_then_and_at_the_end() {
        use Fault::{HandOver, JoinAndLeave, KillAll, KillLeader};
        assert_eq!(faults(0), []);
        assert_eq!(faults(1), [HandOver, KillLeader, KillAll]);
        let four = [
            HandOver,
            KillLeader,
            JoinAndLeave,
            KillLeader,
            HandOver,
            KillLeader,
            JoinAndLeave,
            KillLeader,
            KillAll,
        ];
        assert_eq!(faults(4), four);
        assert_eq!(faults(5)[..9], four);
        assert_eq!(faults(5)[9..], [HandOver, KillLeader, KillAll]);
    }
}

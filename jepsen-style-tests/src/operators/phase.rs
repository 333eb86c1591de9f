//! A stretch of time in which everybody works, and what was done in it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use api_client::Client;
use node_harness::{Mesh, Usage};
use proto::v1::GetStatusRequest;
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{
    journal::Entry,
    people::{People, Person},
    stage::Stage,
    tracker,
    watchers::{Watched, Watchers},
    work::Operator,
};
use crate::{Error, Result, cluster::Cluster, error::Doing as _};

/// The name of a phase of plain changes.
pub const PLAIN: &str = "plain";
/// The name of a phase with everything.
pub const FULL: &str = "full";
/// The name of the phase in which the leader is killed.
pub const KILLED: &str = "full, leader killed";

/// Of a phase, what does not count yet: caches fill, and leaders are found.
const WARM_UP_SHARE: u32 = 8;

/// How long drains may go on after a phase, and a killed node may take to be back.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// What was done in a phase.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Which.
    pub name: &'static str,
    /// How long it was counted.
    pub counted: Duration,
    /// Changes that were acknowledged to operators, requests and decisions included.
    pub acknowledged: u64,
    /// Revisions of the mesh: what it did by itself, what it rejected, and retries included.
    pub revisions: u64,
    /// Processor time of all nodes together.
    pub cpu: Duration,
    /// Processor time of operators and watchers: of this program.
    pub own_cpu: Duration,
}

impl Phase {
    /// Changes that were acknowledged, per second.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.counted.as_secs_f64().max(f64::EPSILON)
    }

    /// Processor time for each of them, in microseconds: of the nodes, and of operators and watchers.
    pub fn cpu_us(&self) -> (f64, f64) {
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (self.acknowledged.max(1) as f64);
        (each(self.cpu), each(self.own_cpu))
    }
}

/// The operators, between phases.
pub struct Work {
    stage: Arc<Stage>,
    operators: Vec<Operator>,
    reader: Option<Operator>,
    /// Who clears up between phases.
    helper: Operator,
    root: Person,
}

/// The operators, within one.
struct Running {
    operators: Vec<JoinHandle<Operator>>,
    tracker: JoinHandle<()>,
    reader: Option<JoinHandle<Operator>>,
}

/// How far things were at a moment.
struct Mark {
    at: Instant,
    acknowledged: u64,
    revision: u64,
    cpu: Duration,
    own_cpu: Duration,
}

impl Work {
    /// Nobody has begun yet.
    pub fn new(stage: Arc<Stage>, people: People, seed: u64) -> Self {
        let operator = |(person, index)| Operator::new(person, Arc::clone(&stage), seed.wrapping_add(index));
        Self {
            operators: people.operators.into_iter().zip(1..).map(operator).collect(),
            reader: Some(operator((people.reader, 0))),
            helper: operator((people.root.clone(), u64::MAX)),
            root: people.root,
            stage,
        }
    }

    /// What everybody asked and was told.
    pub fn into_journal(self) -> Vec<Entry> {
        let all = self.operators.into_iter().chain(self.reader).chain([self.helper]);
        all.flat_map(Operator::into_entries).collect()
    }

    /// A phase of plain changes.
    ///
    /// # Errors
    /// Where the mesh does not answer.
    pub async fn plain(&mut self, mesh: &Mesh, length: Duration) -> Result<Phase> {
        let running = self.begin(false);
        let phase = self.count(mesh, PLAIN, length).await;
        self.end(running).await?;
        phase
    }

    /// A phase with everything, and what the watchers were told; those of all forms `at_each` node, or one of each.
    ///
    /// # Errors
    /// Where the mesh does not answer, or a watcher is not told.
    pub async fn full(
        &mut self,
        mesh: &Mesh,
        cluster: &Cluster,
        at_each: bool,
        length: Duration,
    ) -> Result<(Phase, Vec<Watched>)> {
        let watchers = Watchers::start(mesh, cluster, at_each).await?;
        let running = self.begin(true);
        let phase = self.count(mesh, FULL, length).await;
        let revision = self.end(running).await?;
        Ok((phase?, watchers.end(revision).await?))
    }

    /// The same with watchers of all forms at each node, and the leader is killed in the middle and started again.
    ///
    /// # Errors
    /// As [`Work::full`], and where a node cannot be killed or started.
    pub fn killed(
        &mut self,
        mesh: &mut Mesh,
        cluster: &Cluster,
        runtime: &Runtime,
        length: Duration,
    ) -> Result<(Phase, Vec<Watched>)> {
        let client = self.root.client.clone();
        let watchers = runtime.block_on(Watchers::start(mesh, cluster, true))?;
        let running = {
            let _within = runtime.enter();
            self.begin(true)
        };
        let struck = (|| {
            std::thread::sleep(length / 3);
            let leader = runtime.block_on(cluster.wait_leader(&client, 0, ENDED_WITHIN))?;
            mesh.kill(leader.node)?;
            runtime.block_on(cluster.wait_leader(&client, leader.term, ENDED_WITHIN))?;
            std::thread::sleep(length / 6);
            mesh.restart(leader.node)?;
            mesh.wait_ready(leader.node, ENDED_WITHIN)?;
            runtime.block_on(self.count(mesh, KILLED, length / 3))
        })();
        let revision = runtime.block_on(self.end(running))?;
        Ok((struck?, runtime.block_on(watchers.end(revision))?))
    }

    fn begin(&mut self, full: bool) -> Running {
        self.stage.full.store(full, Ordering::Relaxed);
        self.stage.stop.store(false, Ordering::Relaxed);
        let operators = std::mem::take(&mut self.operators).into_iter().map(|mut operator| {
            tokio::spawn(async move {
                operator.work().await;
                operator
            })
        });
        let operators = operators.collect();
        let tracker = tokio::spawn(tracker::track(self.root.client.clone(), Arc::clone(&self.stage)));
        let reader = self.reader.take_if(|_| full).map(|mut reader| {
            tokio::spawn(async move {
                reader.try_in_vain().await;
                reader
            })
        });
        Running {
            operators,
            tracker,
            reader,
        }
    }

    /// Lets time pass, and counts what is done in it.
    async fn count(&self, mesh: &Mesh, name: &'static str, length: Duration) -> Result<Phase> {
        tokio::time::sleep(length / WARM_UP_SHARE).await;
        let from = self.mark(mesh).await?;
        tokio::time::sleep(length - length / WARM_UP_SHARE).await;
        let to = self.mark(mesh).await?;
        Ok(Phase {
            name,
            counted: to.at - from.at,
            acknowledged: to.acknowledged - from.acknowledged,
            revisions: to.revision.saturating_sub(from.revision),
            cpu: to.cpu.saturating_sub(from.cpu),
            own_cpu: to.own_cpu.saturating_sub(from.own_cpu),
        })
    }

    async fn mark(&self, mesh: &Mesh) -> Result<Mark> {
        let nodes = mesh.info().clusters.iter().flat_map(|cluster| &cluster.nodes);
        let pids: Vec<_> = nodes.map(|node| node.pid).collect();
        let revision = revision(&self.root.client).await?;
        Ok(Mark {
            at: Instant::now(),
            acknowledged: self.stage.acknowledged.load(Ordering::Relaxed),
            revision,
            cpu: Usage::of(&pids)?.cpu,
            own_cpu: Usage::of(&[std::process::id()])?.cpu,
        })
    }

    /// Stops everybody, and waits until drains have ended. Answers the revision then.
    async fn end(&mut self, running: Running) -> Result<u64> {
        self.stage.stop.store(true, Ordering::Relaxed);
        let gone = |_| Error::Late {
            what: "an operator, who is gone".to_owned(),
            seconds: 0,
        };
        for operator in running.operators {
            self.operators.push(operator.await.map_err(gone)?);
        }
        if let Some(reader) = running.reader {
            self.reader = Some(reader.await.map_err(gone)?);
        }
        running.tracker.await.map_err(gone)?;
        tracker::until_nothing_runs(&self.root.client, &mut self.helper, ENDED_WITHIN).await?;
        revision(&self.root.client).await
    }
}

async fn revision(client: &Client) -> Result<u64> {
    let status = client.get_status(GetStatusRequest {}).await;
    Ok(status.doing("asking for the revision")?.message.revision)
}

//! Both sides in turns.

use std::{sync::Arc, time::Duration};

use api_client::{Endpoint, TlsConnect};
use tokio::runtime::Runtime;

use crate::{
    Error, Result,
    etcd::{self, Etcd},
    load::{self, Kind, Sample},
    mesh::{Mesh, Patches},
    table::{Machine, Report, Row},
    usage,
};

/// A measurement is made again so often where calls failed, as they do when a leader changes.
const REPEATS_MAX: u32 = 2;

/// Which sides run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Sides {
    /// Both, in turns.
    #[default]
    Both,
    /// etcd alone.
    Etcd,
    /// The mesh alone: for profiling it.
    Mesh,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Loads, in order.
    pub kinds: Vec<Kind>,
    /// Numbers of clients, in order.
    pub clients: Vec<usize>,
    /// Keys, and peers.
    pub keys: usize,
    /// Times that each side is measured at each load.
    pub rounds: u32,
    /// How long each measurement runs before it counts.
    pub warmup: Duration,
    /// How long it counts.
    pub window: Duration,
    /// Who runs.
    pub sides: Sides,
}

struct Running {
    mesh: Mesh,
    patches: Patches,
    etcd: Option<etcd::Cluster>,
}

/// Runs it all; `progress` hears a line after each measurement.
///
/// # Errors
/// Where a side cannot be started, or calls fail time and again.
pub fn run(plan: &Plan, mut progress: impl FnMut(String)) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    // The mesh's directory is etcd's too, so that both are on one disk.
    let mesh = Mesh::start()?;
    let scratch = mesh.processes().scratch().to_owned();
    let syncs_per_second = usage::syncs_per_second(&scratch)?;
    let etcd = match plan.sides {
        Sides::Both | Sides::Etcd => {
            Some(runtime.block_on(etcd::Cluster::start(mesh.processes().programs(), &scratch.join("etcd")))?)
        }
        Sides::Mesh => None,
    };
    runtime.block_on(mesh.register(plan.keys))?;
    let running = Running {
        patches: mesh.target()?,
        mesh,
        etcd,
    };
    let mut rows = Vec::new();
    if plan.kinds.contains(&Kind::Get) {
        fill(&runtime, &running, plan)?;
    }
    for kind in &plan.kinds {
        for clients in &plan.clients {
            let load = load::Plan {
                kind: *kind,
                clients: *clients,
                keys: plan.keys,
                warmup: plan.warmup,
                window: plan.window,
            };
            rows.push(row(&runtime, &running, plan, load, &mut progress)?);
        }
    }
    Ok(Report {
        machine: Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            syncs_per_second,
            etcd: running.etcd.as_ref().map(|etcd| etcd.version().to_owned()),
        },
        keys: plan.keys,
        rounds: plan.rounds,
        warmup: plan.warmup,
        window: plan.window,
        rows,
    })
}

fn row(
    runtime: &Runtime,
    running: &Running,
    plan: &Plan,
    load: load::Plan,
    progress: &mut impl FnMut(String),
) -> Result<Row> {
    let mut row = Row {
        kind: load.kind,
        clients: load.clients,
        etcd: Vec::new(),
        mesh: Vec::new(),
    };
    for round in 0..plan.rounds {
        // Who goes first changes: what the one leaves behind (dirty pages, compaction) is the other's burden.
        let mut sides = [Sides::Etcd, Sides::Mesh];
        if round % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            if plan.sides != Sides::Both && plan.sides != side {
                continue;
            }
            let sample = runtime.block_on(sample(running, side, load))?;
            progress(format!(
                "{:?} {} clients, round {}, {side:?}: {:.0}/s, p50 {} us, p99 {} us, CPU {:.0} us/op, {} errors{}",
                load.kind,
                load.clients,
                round + 1,
                sample.per_second,
                sample.p50_us,
                sample.p99_us,
                sample.cpu_us,
                sample.errors,
                sample
                    .last_error
                    .as_ref()
                    .map_or_else(String::new, |error| format!(" ({error})")),
            ));
            match side {
                Sides::Etcd => row.etcd.push(sample),
                Sides::Mesh | Sides::Both => row.mesh.push(sample),
            }
        }
    }
    Ok(row)
}

/// One measurement, made again where calls failed.
async fn sample(running: &Running, side: Sides, load: load::Plan) -> Result<Sample> {
    let mut last = None;
    for _ in 0..=REPEATS_MAX {
        let sample = match (side, &running.etcd) {
            (Sides::Etcd, Some(etcd)) => load::measure(&Etcd, &etcd.leader().await?, &etcd.pids(), load).await?,
            (Sides::Etcd, None) => return Err(Error::Worthless("etcd was not started".to_owned())),
            (Sides::Mesh | Sides::Both, _) => {
                let leader: (Arc<TlsConnect>, Endpoint) = running.mesh.leader().await?;
                load::measure(&running.patches, &leader, &running.mesh.pids(), load).await?
            }
        };
        if sample.errors == 0 {
            return Ok(sample);
        }
        last = Some(sample);
    }
    last.ok_or_else(|| Error::Worthless("nothing was measured".to_owned()))
}

/// Writes until every key has a value, so that reads find one.
fn fill(runtime: &Runtime, running: &Running, plan: &Plan) -> Result<()> {
    use crate::{link::Link, load::Target as _};
    let failed = |error| Error::Grpc {
        doing: "writing the first values".to_owned(),
        error: Box::new(error),
    };
    runtime.block_on(async {
        if plan.sides != Sides::Etcd {
            let (tls, leader) = running.mesh.leader().await?;
            let link = Link::open(&tls, &leader).await?;
            for key in 0..plan.keys {
                running.patches.put(&link, key, "x".repeat(256)).await.map_err(failed)?;
            }
        }
        if let Some(etcd) = &running.etcd {
            let (tls, leader) = etcd.leader().await?;
            let link = Link::open(&tls, &leader).await?;
            for key in 0..plan.keys {
                Etcd.put(&link, key, "x".repeat(256)).await.map_err(failed)?;
            }
        }
        Ok(())
    })
}

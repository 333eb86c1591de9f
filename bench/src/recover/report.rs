//! What was measured, as a table for people.

use std::time::Duration;

use super::Plan;

/// Memory of three servers together, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Right after the last write was answered.
    pub loaded: u64,
    /// After a rest.
    pub rested: u64,
}

/// How a node that was wiped came back while writes went on.
#[derive(Debug, Clone, Copy)]
pub struct Rebuilt {
    /// From the start of the process until it has a vote and what the others had then.
    pub took: Duration,
    /// Writes per second before.
    pub before: f64,
    /// Writes per second from the start of the process until it was back.
    pub meanwhile: f64,
    /// Writes that failed.
    pub errors: u64,
}

/// What came of a plan; what was not part of it is absent.
#[derive(Debug, Clone)]
pub struct Report {
    pub(super) plan: Plan,
    pub(super) filled: Option<Duration>,
    pub(super) mesh: Option<Memory>,
    pub(super) etcd: Option<Memory>,
    pub(super) restart: Option<Duration>,
    pub(super) replay: Option<Duration>,
    pub(super) rebuilt: Option<Rebuilt>,
}

impl Report {
    pub(super) fn of(plan: Plan) -> Self {
        Self {
            plan,
            filled: None,
            mesh: None,
            etcd: None,
            restart: None,
            replay: None,
            rebuilt: None,
        }
    }

    /// As a table.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn markdown(&self) -> String {
        let Plan { peers, entries, .. } = self.plan;
        let mut table = format!("| {peers} peers, {entries} entries | |\n|---|---|\n");
        let mut line = |what: &str, found: String| table.push_str(&format!("| {what} | {found} |\n"));
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let seconds = |took: Duration| format!("{:.2} s", took.as_secs_f64());
        if let Some(took) = self.filled {
            line("filling took", seconds(took));
        }
        if let Some(mesh) = self.mesh {
            for (when, of) in [
                ("right after the load", (|memory| memory.loaded) as fn(Memory) -> u64),
                ("at rest", |memory| memory.rested),
            ] {
                let own = of(mesh);
                let beside = self.etcd.map(of).map_or_else(String::new, |etcd| {
                    format!("; etcd {:.0} MiB, ratio **{:.2}**", mib(etcd), own as f64 / etcd as f64)
                });
                line(
                    &format!("memory of three nodes, {when}"),
                    format!("{:.0} MiB{beside}", mib(own)),
                );
            }
        }
        if let Some(took) = self.restart {
            line("restart, what it knows being flushed: ready after", seconds(took));
        }
        if let Some(took) = self.replay {
            line("restart, every entry replayed from the log: ready after", seconds(took));
        }
        if let Some(Rebuilt {
            took,
            before,
            meanwhile,
            errors,
        }) = self.rebuilt
        {
            line(
                "wiped node, rebuilt by snapshot under load: has caught up after",
                seconds(took),
            );
            line(
                "writes per second meanwhile, and before",
                format!(
                    "{meanwhile:.0} of {before:.0} ({:.0} %), {errors} failed",
                    100.0 * meanwhile / before.max(1.0)
                ),
            );
        }
        table
    }
}

//! What was measured, as a table for `docs/performance.md`.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    Error, Result,
    load::{Kind, Sample},
};

/// Between these lines a document holds the last measurement; whatever else it says is its author's.
const BEGIN: &str = "<!-- measured side by side: begin -->";
const END: &str = "<!-- measured side by side: end -->";

/// Where it was measured.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Processor cores, for servers and clients together.
    pub cores: usize,
    /// Appends of 4 KiB with fdatasync.
    pub syncs_per_second: f64,
    /// etcd's version.
    pub etcd: Option<String>,
}

/// One load on both sides.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done.
    pub kind: Kind,
    /// By how many clients.
    pub clients: usize,
    /// Every measurement of etcd, in order of time.
    pub etcd: Vec<Sample>,
    /// Every measurement of the mesh, in order of time.
    pub mesh: Vec<Sample>,
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Keys, and peers.
    pub keys: usize,
    /// Measurements per side and load.
    pub rounds: u32,
    /// How long before a measurement counts.
    pub warmup: Duration,
    /// How long it counts.
    pub window: Duration,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether any call failed.
    pub fn errors(&self) -> u64 {
        self.rows
            .iter()
            .flat_map(|row| row.etcd.iter().chain(&row.mesh))
            .map(|sample| sample.errors)
            .sum()
    }

    /// The tables, one per kind of load, with what they mean.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let etcd = self.machine.etcd.as_deref().unwrap_or("absent");
        let _ = writeln!(
            text,
            "etcd {etcd}; {} cores for six servers and the clients; {:.0} appends of 4 KiB with fdatasync per second; \
             {} keys; medians of {} rounds of {} s each, after {} s that do not count; {} calls failed.",
            self.machine.cores,
            self.machine.syncs_per_second,
            self.keys,
            self.rounds,
            self.window.as_secs(),
            self.warmup.as_secs(),
            self.errors(),
        );
        for (kind, title) in [
            (
                Kind::Put,
                "Writes: a 256-byte label patch beside a 256-byte put, at the leader",
            ),
            (Kind::Get, "Linearizable reads: one peer beside one key, at the leader"),
        ] {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.kind == kind).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{title}\n");
            text.push_str("| clients | etcd/s | mesh/s | ratio | ratio of each round | etcd p50 / p99 ms | mesh p50 / p99 ms | etcd CPU µs/op | mesh CPU µs/op | etcd RSS MiB | mesh RSS MiB |\n");
            text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
            for row in rows {
                text.push_str(&row.markdown());
            }
        }
        text
    }

    /// Puts the tables into the document at `path`, in place of the last ones.
    ///
    /// # Errors
    /// Where the document cannot be read or written, or has no place for them.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |error| Error::File {
            path: path.to_owned(),
            error,
        };
        let document = std::fs::read_to_string(path).map_err(failed)?;
        let written = placed(&document, &self.markdown())
            .ok_or_else(|| Error::Worthless(format!("{} has no lines\n{BEGIN}\n{END}", path.display())))?;
        std::fs::write(path, written).map_err(failed)
    }
}

fn placed(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, behind) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}{END}{behind}"))
}

impl Row {
    fn markdown(&self) -> String {
        let each: Vec<String> = self
            .etcd
            .iter()
            .zip(&self.mesh)
            .map(|(etcd, mesh)| format!("{:.2}", mesh.per_second / etcd.per_second))
            .collect();
        let rate = |samples: &[Sample]| median(samples.iter().map(|sample| sample.per_second));
        let ratio = match (rate(&self.mesh), rate(&self.etcd)) {
            (Some(mesh), Some(etcd)) => format!("**{:.2}**", mesh / etcd),
            (None, _) | (_, None) => "–".to_owned(),
        };
        let latency = |samples: &[Sample]| {
            let p50 = median(samples.iter().map(|sample| sample.p50_us as f64 / 1e3));
            let p99 = median(samples.iter().map(|sample| sample.p99_us as f64 / 1e3));
            format!("{} / {}", shown(p50, 2), shown(p99, 2))
        };
        let cpu = |samples: &[Sample]| shown(median(samples.iter().map(|sample| sample.cpu_us)), 0);
        let rss = |samples: &[Sample]| {
            shown(
                median(
                    samples
                        .iter()
                        .map(|sample| sample.rss_bytes as f64 / f64::from(1 << 20)),
                ),
                0,
            )
        };
        format!(
            "| {} | {} | {} | {ratio} | {} | {} | {} | {} | {} | {} | {} |\n",
            self.clients,
            shown(rate(&self.etcd), 0),
            shown(rate(&self.mesh), 0),
            each.join(", "),
            latency(&self.etcd),
            latency(&self.mesh),
            cpu(&self.etcd),
            cpu(&self.mesh),
            rss(&self.etcd),
            rss(&self.mesh),
        )
    }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// The middle; the mean of both where there are two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some((upper + lower) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(per_second: f64) -> Sample {
        Sample {
            per_second,
            p50_us: 1_500,
            p99_us: 9_000,
            cpu_us: 80.0,
            rss_bytes: 3 << 20,
            errors: 0,
            last_error: None,
        }
    }

    fn report() -> Report {
        let row = Row {
            kind: Kind::Put,
            clients: 64,
            etcd: vec![sample(100.0), sample(300.0), sample(200.0)],
            mesh: vec![sample(150.0), sample(300.0), sample(500.0)],
        };
        Report {
            machine: Machine {
                cores: 2,
                syncs_per_second: 6_000.0,
                etcd: Some("3.4".into()),
            },
            keys: 10,
            rounds: 3,
            warmup: Duration::from_secs(1),
            window: Duration::from_secs(2),
            rows: vec![row],
        }
    }

    #[test]
    fn a_row_shows_medians_and_every_rounds_ratio() {
        let expected = "| 64 | 200 | 300 | **1.50** | 1.50, 1.00, 2.50 | 1.50 / 9.00 | 1.50 / 9.00 | 80 | 80 | 3 | 3 |";
        assert!(report().markdown().contains(expected), "{}", report().markdown());
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn only_the_marked_part_of_a_document_changes() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nbehind\n");
        assert_eq!(
            placed(&document, "new\n"),
            Some(format!("before\n{BEGIN}\nnew\n{END}\nbehind\n"))
        );
        assert_eq!(placed("nothing", "new"), None);
    }
}

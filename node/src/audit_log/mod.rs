//! The audit trail as files on this node, beside the one that is replicated: for who collects logs, and for what is left
//! when a mesh is not.
//!
//! What this node applies is written as it applies it, refusals as they happen. Nothing waits for these files: where the
//! disk does not take them, the node goes on, and they are caught up with from history. What history no longer has, is a
//! line that says so.

mod files;
mod line;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use raft::{Error, Handle, View};
use statemachine::{Hash, MeshState, Position, Recorded, Refusal, Revision};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub use files::{Files, Last};

/// Refusals on their way to the files; further ones are counted.
const REFUSALS_MAX: usize = 1_024;
/// The most records that are written at once.
const BATCH: usize = 512;
/// How long nothing is tried after the disk has refused.
const PAUSE: Duration = Duration::from_secs(5);

/// The way of refusals to the files.
#[derive(Clone, Debug)]
pub struct Sink {
    refusals: mpsc::Sender<Refusal>,
    suppressed: Arc<AtomicU64>,
}

impl Sink {
    /// Takes one refusal. Never waits: what finds no room is counted.
    pub fn note(&self, refusal: Refusal) {
        if self.refusals.try_send(refusal).is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes the files until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where refusals go.
    pub sink: Sink,
    _task: AbortOnDropHandle<()>,
}

/// Files that have been opened, with the record that they end with.
#[derive(Debug)]
pub struct Log {
    files: Files,
    last: Option<Last>,
}

impl Log {
    /// Opens them: see [`Files::open`].
    ///
    /// # Errors
    /// The directory or a file in it cannot be read or written.
    pub fn open(directory: &std::path::Path, file_bytes_max: u64, files_max: usize) -> std::io::Result<Self> {
        let (files, last) = Files::open(directory, file_bytes_max, files_max)?;
        Ok(Self { files, last })
    }

    /// Writes from here on what the node applies and refuses.
    pub fn start(self, handle: Handle, registry: &mut Registry) -> Running {
        let (errors, revision) = (Counter::default(), Gauge::default());
        let help = "How often the files of the audit trail on this node could not be written";
        registry.register("meshkit_audit_file_errors", help, errors.clone());
        let help = "The revision up to which the files of the audit trail on this node are written";
        registry.register("meshkit_audit_file_revision", help, revision.clone());
        let (refusals, noted) = mpsc::channel(REFUSALS_MAX);
        let suppressed = Arc::new(AtomicU64::new(0));
        let sink = Sink {
            refusals,
            suppressed: Arc::clone(&suppressed),
        };
        let writer = Writer {
            log: self,
            handle,
            suppressed,
            errors,
            revision,
        };
        Running {
            sink,
            _task: AbortOnDropHandle::new(tokio::spawn(writer.run(noted))),
        }
    }
}

struct Writer {
    log: Log,
    handle: Handle,
    suppressed: Arc<AtomicU64>,
    errors: Counter,
    revision: Gauge,
}

/// What there is to be written.
struct Work {
    /// Records that follow what is written, if `behind` is false.
    units: Vec<Arc<Recorded>>,
    refusals: Vec<Refusal>,
    /// Whether history has to be read.
    behind: bool,
}

impl Writer {
    async fn run(self, mut noted: mpsc::Receiver<Refusal>) {
        let mut units = self.handle.units();
        let mut writer = self;
        // What happened while the node, or this, was away.
        let mut behind = true;
        let mut said = false;
        loop {
            let mut work = Work {
                units: Vec::new(),
                refusals: Vec::new(),
                behind,
            };
            if !behind {
                tokio::select! {
                    unit = units.recv() => match unit {
                        Ok(unit) => work.units.push(unit),
                        Err(RecvError::Lagged(_)) => work.behind = true,
                        Err(RecvError::Closed) => return,
                    },
                    refusal = noted.recv() => match refusal {
                        Some(refusal) => work.refusals.push(refusal),
                        None => return,
                    },
                }
            }
            while work.units.len() < BATCH && !work.behind {
                match units.try_recv() {
                    Ok(unit) => work.units.push(unit),
                    Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) => work.behind = true,
                    Err(_) => break,
                }
            }
            while work.refusals.len() < REFUSALS_MAX
                && let Ok(refusal) = noted.try_recv()
            {
                work.refusals.push(refusal);
            }
            let written = tokio::task::spawn_blocking(move || {
                let outcome = writer.write(work);
                (writer, outcome)
            });
            let Ok((same, outcome)) = written.await else {
                tracing::error!(
                    "the files of the audit trail are not written any more until the node is started again"
                );
                return;
            };
            writer = same;
            match outcome {
                Ok(more) => {
                    if std::mem::take(&mut said) {
                        tracing::info!("the files of the audit trail are written again");
                    }
                    behind = more;
                }
                Err(why) => {
                    writer.errors.inc();
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(%why, "the files of the audit trail are not written; the trail itself is not affected");
                    }
                    behind = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Writes what there is; answers whether there is more in history.
    fn write(&mut self, work: Work) -> Result<bool, String> {
        let mut lines = Vec::new();
        for refusal in &work.refusals {
            line::refusal(refusal, &mut lines);
        }
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        if suppressed > 0 {
            line::suppressed(suppressed, &mut lines);
        }
        let mut last = self.log.last;
        let mut behind = work.behind;
        if !behind {
            behind = !follow(&work.units, &mut last, &mut lines);
        }
        let mut more = false;
        if behind {
            let view = self.handle.view();
            more = catch_up(&view, &mut last, &mut lines).map_err(|error| error.to_string())?;
        }
        if !lines.is_empty()
            && let Err(error) = self.log.files.append(&lines)
        {
            // Records are read again from history; refusals are nowhere else, but for the batch that is committed.
            let lost = suppressed + work.refusals.len() as u64;
            self.suppressed.fetch_add(lost, Ordering::Relaxed);
            return Err(error.to_string());
        }
        self.log.last = last;
        let revision = last.map_or(0, |last| last.position.revision.0);
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        Ok(more)
    }
}

/// Adds records that come one after the other. Answers whether they all do; what does not is read from history.
fn follow(units: &[Arc<Recorded>], last: &mut Option<Last>, lines: &mut Vec<u8>) -> bool {
    for recorded in units {
        let position = recorded.unit.position;
        let Some(before) = *last else { return false };
        if position.timeline == before.position.timeline && position.revision <= before.position.revision {
            continue;
        }
        if position.timeline != before.position.timeline || recorded.unit.parent != before.position {
            return false;
        }
        add(recorded, last, lines);
    }
    true
}

fn add(recorded: &Recorded, last: &mut Option<Last>, lines: &mut Vec<u8>) {
    line::record(recorded, lines);
    *last = Some(Last {
        position: recorded.unit.position,
        chain: recorded.chain,
    });
}

/// Adds the next records of a view's history, or a line about those that it has no more. Answers whether there are more.
fn catch_up(view: &View, last: &mut Option<Last>, lines: &mut Vec<u8>) -> Result<bool, Error> {
    let mesh = &view.state().mesh;
    let head = mesh.position();
    if mesh.mesh().is_none() {
        return Ok(false);
    }
    if let Some(written) = *last {
        if head.timeline == written.position.timeline && head.revision <= written.position.revision {
            // A node that has just started may be behind its own files for a moment.
            return Ok(false);
        }
        if let Some(shared) = left(mesh, written.position) {
            line::fork(shared, head.timeline.to_string(), lines);
            *last = Some(Last {
                position: Position {
                    timeline: head.timeline,
                    revision: shared,
                },
                chain: Hash::default(),
            });
        }
    }
    let after = last.map_or(Revision(0), |last| last.position.revision);
    let oldest = view.oldest();
    if oldest > after.next() {
        line::gap(after, oldest, lines);
    }
    let first = after.next().max(oldest);
    let end = Revision(first.0.saturating_add(BATCH as u64 - 1));
    let units = view.units(first..=end, BATCH)?;
    for recorded in &units {
        add(recorded, last, lines);
    }
    Ok(last.is_some_and(|last| last.position.revision < head.revision))
}

/// The last revision that a history shares with a position that it has left; none where it has not.
fn left(mesh: &MeshState, position: Position) -> Option<Revision> {
    let timelines = mesh.mesh().map(|mesh| mesh.timelines.as_slice()).unwrap_or_default();
    let Some(at) = timelines.iter().position(|timeline| timeline.id == position.timeline) else {
        // Nothing is known of it, so nothing is known to be shared.
        return Some(Revision(0));
    };
    let child = timelines.get(at + 1)?;
    (child.fork < position.revision).then_some(child.fork)
}

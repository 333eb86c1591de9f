//! The scrub: every block on disk is read again, and all rows and all records in memory are counted again, slowly, for
//! as long as the node runs. A disk that flips a bit in a row nobody reads, or memory that does, is found before another
//! node is asked to rely on it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use statemachine::rows::Table as StateTable;
use statemachine::{Mismatch, Revision, Tally};
use tokio::time::sleep;

use crate::blocking::Threads;
use crate::engine::{EngineError, KeyRange, Table, Visit};
use crate::health::Health;
use crate::state::machine::Shared;
use crate::state::rows::{CURRENT, Current, TABLES, bare_key, generation_range, value};

/// How the scrub goes about its work.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// From the end of one pass to the begin of the next.
    pub interval: Duration,
    /// Bytes that are looked at in a second, on disk or in memory.
    pub bytes_per_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3600),
            bytes_per_s: 16 << 20,
        }
    }
}

/// Work is done in pieces of this many milliseconds, with pauses between them.
const PIECE_MS: u64 = 20;

/// Ends the work of a scrub whose task is gone.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Holds the work down to a rate, and breaks it off when nobody waits for it.
struct Pace {
    bytes_per_piece: u64,
    done: u64,
    /// Whether pauses are real. Simulated time does not pass while a thread sleeps.
    pauses: bool,
    stop: Arc<AtomicBool>,
}

impl Pace {
    fn goes_on(&mut self, bytes: usize) -> bool {
        self.done += u64::try_from(bytes).unwrap_or(u64::MAX);
        // One row may be many pieces long.
        let pieces = self.done / self.bytes_per_piece;
        self.done %= self.bytes_per_piece;
        for _ in 0..pieces {
            if self.pauses && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(PIECE_MS));
            }
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Runs until the task is ended, or something was found: then this node is of no more use, and says so.
pub(crate) async fn run(shared: Arc<Shared>, health: Arc<Health>, settings: Settings) {
    let stop = Stop(Arc::default());
    while health.corrupt().is_none() {
        sleep(settings.interval).await;
        let mut pace = Pace {
            bytes_per_piece: (settings.bytes_per_s.saturating_mul(PIECE_MS) / 1_000).max(1),
            done: 0,
            pauses: shared.threads == Threads::Own,
            stop: stop.0.clone(),
        };
        let this = shared.clone();
        match shared.threads.run(move || this.scrub(&mut pace)).await {
            Ok(Ok(Some(revision))) => tracing::info!(%revision, "scrubbed: disk and memory are as they should be"),
            Ok(Ok(None)) => {}
            Ok(Err(mismatch)) => health.set_corrupt(format!("found by the scrub: {mismatch}")),
            Err(error) => tracing::warn!(%error, "the scrub did not finish"),
        }
    }
}

impl Shared {
    /// Counts disk and memory once. `None`: it was broken off, or a snapshot took the place of what was being read.
    fn scrub(&self, pace: &mut Pace) -> Result<Option<Revision>, Mismatch> {
        let on_disk = match self.verify_blocks(pace).and_then(|()| self.scrub_rows(pace)) {
            Ok(Counted::All(revision)) => revision,
            Ok(Counted::Stopped) => return Ok(None),
            Err(Wrong::Counted(mismatch)) => return Err(mismatch),
            // Damage is what is looked for; a disk that cannot be read at all shows in what applies.
            Err(Wrong::Read(error @ EngineError::Corrupt { .. })) => return Err(Mismatch(error.to_string())),
            Err(Wrong::Read(error)) => {
                tracing::warn!(%error, "the scrub could not read the disk");
                return Ok(None);
            }
        };
        let view = self.publisher.view();
        view.state().mesh.recount(&mut |bytes| pace.goes_on(bytes))?;
        Ok(Some(on_disk))
    }

    /// What is on the disk, past everything that holds some of it in memory.
    fn verify_blocks(&self, pace: &mut Pace) -> Result<(), Wrong> {
        let verified = self.engine.verify(&mut |bytes| {
            if pace.goes_on(bytes) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        verified.map_err(Wrong::Read)
    }

    /// What the rows come to, as whoever reads them gets them.
    fn scrub_rows(&self, pace: &mut Pace) -> Result<Counted, Wrong> {
        // Held, so that its rows stay where they are although a snapshot be installed meanwhile.
        let generation = self.applier.lock().generation.clone();
        let mut ranges = vec![KeyRange {
            table: Table::StateMeta,
            from: CURRENT.to_vec(),
            to: [CURRENT, b"\0"].concat(),
        }];
        ranges.extend(TABLES.map(|table| generation_range(table, generation.0)));
        let mut tally = Tally::default();
        let mut current = None;
        let mut outcome = Ok(());
        let mut stopped = false;
        let visited = self.engine.export(&ranges, &mut |visit| {
            let Visit::Row(table, (key, sealed)) = visit else {
                return ControlFlow::Continue(());
            };
            if !pace.goes_on(key.len() + sealed.len()) {
                stopped = true;
                return ControlFlow::Break(());
            }
            let counted = match state_table(table) {
                None => Current::decode(&sealed)
                    .map_err(Wrong::Read)
                    .map(|row| current = Some(row)),
                Some(name) => value(table, &key, &sealed)
                    .map_err(Wrong::Read)
                    .and_then(|bytes| tally.row(name, &bare_key(&key), &bytes).map_err(Wrong::Counted)),
            };
            match counted {
                Ok(()) => ControlFlow::Continue(()),
                Err(wrong) => {
                    outcome = Err(wrong);
                    ControlFlow::Break(())
                }
            }
        });
        visited.map_err(Wrong::Read)?;
        // A snapshot that was installed between the look at the generation and the pin leaves nothing to compare.
        let replaced = current
            .as_ref()
            .is_none_or(|current| current.generation != generation.0);
        if stopped || (replaced && outcome.is_ok()) {
            return Ok(Counted::Stopped);
        }
        outcome?;
        let head = current.map(|current| current.head).unwrap_or_default();
        let finished = tally.finish(&head, &self.publisher.view().state().cluster);
        finished.map(Counted::All).map_err(Wrong::Counted)
    }
}

enum Counted {
    All(Revision),
    Stopped,
}

enum Wrong {
    Read(EngineError),
    Counted(Mismatch),
}

fn state_table(table: Table) -> Option<StateTable> {
    match table {
        Table::Records => Some(StateTable::Records),
        Table::History => Some(StateTable::History),
        Table::Index => Some(StateTable::Index),
        Table::Cluster => Some(StateTable::Cluster),
        Table::StateMeta | Table::Log | Table::LogMeta => None,
    }
}

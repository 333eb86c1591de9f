//! Looking at the mesh as it was.

use std::sync::Arc;

use raft::{Threads, View};
use statemachine::{Hash, MeshState, Record, Recorded, Revision, record::Kind};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Error, metrics::Panics};
use proto::codes::Code;

/// How many revisions are taken from the store at once.
const CHUNK: u64 = 512;
/// Reads of history that run at once. The threads that they run on apply the log as well, which must not wait for them.
const READS_MAX: usize = 4;

/// The most revisions that are taken from the store at once with their hashes.
const CHAINED_MAX: usize = 4096;

/// Revisions in order, each with the audit chain's hash before it.
pub(crate) type Chained = Vec<(Arc<Recorded>, Hash)>;

/// Runs reads of history away from the threads that serve requests, where the node has others.
pub(crate) struct History {
    threads: Threads,
    places: Arc<Semaphore>,
    panics: Panics,
}

/// Whether somebody still waits for a read.
pub(crate) struct Wanted {
    deadline: Instant,
    gone: CancellationToken,
}

impl Wanted {
    /// Whether the caller has left or the deadline has passed. Asked between any two chunks of a long read.
    pub(crate) fn is_over(&self) -> bool {
        self.gone.is_cancelled() || Instant::now() >= self.deadline
    }
}

impl History {
    pub(crate) fn new(threads: Threads, panics: Panics) -> Self {
        Self {
            threads,
            places: Arc::new(Semaphore::new(READS_MAX)),
            panics,
        }
    }

    /// Runs a read. Where the returned future is dropped, the read is told to stop.
    ///
    /// # Errors
    /// What the read says, or `deadline_exceeded`.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        request_id: &str,
        deadline: Instant,
        read: impl FnOnce(&Wanted) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let gone = CancellationToken::new();
        let wanted = Wanted {
            deadline,
            gone: gone.clone(),
        };
        if self.threads == Threads::Inline {
            return read(&wanted);
        }
        let _leaves = gone.drop_guard();
        let place = tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| late())?;
        let reading = tokio::task::spawn_blocking(move || {
            // Given back when the read ends, whether or not anybody still waits for it.
            let _place = place;
            read(&wanted)
        });
        match tokio::time::timeout_at(deadline, reading).await {
            Ok(Ok(result)) => result,
            Ok(Err(broken)) => Err(match broken.try_into_panic() {
                Ok(panic) => self.panics.caught(request_id, &*panic),
                Err(_) => Error::internal("a read of history broke off"),
            }),
            Err(_) => Err(late()),
        }
    }
}

pub(crate) fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "history was not read in time").hint("ask for less, or wait longer")
}

/// The mesh at an older revision of a view's own line: what came after is taken back, newest first. Only records and
/// position are those of the time. Takes time in proportion to the distance, so callers keep the result.
///
/// # Errors
/// History cannot be read, or nobody waits for it any more.
pub(crate) fn as_of(view: &View, revision: Revision, wanted: &Wanted) -> Result<MeshState, Error> {
    rewound(view, view.state().mesh.clone(), revision, wanted)
}

/// The same from a state that is on the view's line and not older than the revision.
///
/// # Errors
/// As [`as_of`].
pub(crate) fn rewound(
    view: &View,
    mut mesh: MeshState,
    revision: Revision,
    wanted: &Wanted,
) -> Result<MeshState, Error> {
    while mesh.position().revision > revision {
        if wanted.is_over() {
            return Err(late());
        }
        let last = mesh.position().revision;
        let first = Revision(last.0.saturating_sub(CHUNK - 1).max(revision.0.saturating_add(1)));
        let units = view.units(first..=last, usize::try_from(CHUNK).unwrap_or(usize::MAX))?;
        let before = mesh.position();
        for recorded in units.iter().rev() {
            mesh.revert(&recorded.unit);
        }
        if mesh.position() == before {
            return Err(Error::internal(format!("history has no revision {last}")));
        }
    }
    Ok(mesh)
}

/// The revisions of a range, oldest first, each with the audit chain's hash before it; at most [`CHAINED_MAX`].
///
/// # Errors
/// `compacted`, or history cannot be read.
pub(crate) fn chained(view: &View, first: Revision, last: Revision) -> Result<Chained, Error> {
    // One more in front, for its hash; below the oldest record that is kept there is a checkpoint that has it.
    let anchor = anchor(view, first);
    let front = match anchor {
        Some(_) => first,
        None => Revision(first.0.saturating_sub(1)).max(Revision(1)),
    };
    let units = view.units(front..=last, CHAINED_MAX + 1)?;
    let mut previous = anchor.unwrap_or_default();
    let mut pairs = Vec::with_capacity(units.len());
    for recorded in units {
        let chain = recorded.chain;
        if recorded.unit.position.revision >= first {
            pairs.push((recorded, previous));
        }
        previous = chain;
    }
    Ok(pairs)
}

/// The hash before the oldest record that is kept, as a signed checkpoint has it.
fn anchor(view: &View, from: Revision) -> Option<Hash> {
    let mesh = &view.state().mesh;
    if from > mesh.floor() {
        return None;
    }
    let before = mesh.checkpoints_below(from).next_back()?;
    (before.revision.next() == from).then_some(before.hash)
}

/// What a unit made of a record: the record after it, or before it where it is gone.
pub(crate) fn changed(recorded: &Recorded, kind: Kind, id: &str) -> Option<Record> {
    let fits = |record: &Record| record.kind() == kind && record.id() == id;
    recorded.unit.changes().iter().find_map(|change| {
        let record = change.after.as_ref().or(change.before.as_ref())?;
        fits(record).then(|| record.clone())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::metrics::counter::Counter;

    use super::*;

    /// A read that goes on for as long as it is wanted.
    fn endless(wanted: &Wanted) -> Result<(), Error> {
        while !wanted.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(late())
    }

    #[tokio::test]
    async fn a_read_whose_caller_has_left_stops() {
        let history = Arc::new(History::new(Threads::Own, Panics::new(Counter::default())));
        let deadline = Instant::now() + Duration::from_secs(120);
        let reading = |_| {
            let history = Arc::clone(&history);
            tokio::spawn(async move { history.read("r1", deadline, endless).await })
        };
        let callers: Vec<_> = (0..READS_MAX).map(reading).collect();
        let soon = Duration::from_secs(20);
        let taken = async {
            while history.places.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(soon, taken).await.unwrap();
        for caller in callers {
            caller.abort();
        }
        // All places come back long before the deadline.
        let next = tokio::time::timeout(soon, history.read("r2", deadline, |_| Ok(7))).await;
        assert_eq!(next.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_in_a_read_is_counted_and_costs_no_place() {
        let panics = Counter::default();
        let history = History::new(Threads::Own, Panics::new(panics.clone()));
        let deadline = Instant::now() + Duration::from_secs(20);
        for _ in 0..=READS_MAX {
            let broken = history
                .read("r3", deadline, |_| -> Result<(), Error> { panic!("broken") })
                .await;
            assert_eq!(broken.unwrap_err().code(), Code::Internal);
        }
        assert_eq!(panics.get(), READS_MAX as u64 + 1);
    }
}

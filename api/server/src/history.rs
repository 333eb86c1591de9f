//! Looking at the mesh as it was.

use raft::{Threads, View};
use statemachine::{MeshState, Record, Recorded, Revision, record::Kind};
use tokio::{sync::Semaphore, time::Instant};

use crate::Error;
use proto::codes::Code;

/// How many revisions are taken from the store at once.
const CHUNK: u64 = 512;

/// Reads of history that run at once. The threads that they run on apply the log as well, which must not wait for them;
/// and a read whose caller has gone away still runs to its end or deadline.
static PLACES: Semaphore = Semaphore::const_new(4);

/// Runs a read of history away from the threads that serve requests, where the node has others.
///
/// # Errors
/// What the read says, or `deadline_exceeded`.
pub(crate) async fn blocking<T: Send + 'static>(
    threads: Threads,
    deadline: Instant,
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match threads {
        Threads::Inline => read(),
        Threads::Own => {
            let place = tokio::time::timeout_at(deadline, PLACES.acquire())
                .await
                .map_err(|_| late())?;
            let reading = tokio::task::spawn_blocking(move || {
                // Given back when the read ends, whether or not anybody still waits for it.
                let _place = place;
                read()
            });
            match tokio::time::timeout_at(deadline, reading).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(Error::internal("a read of history broke off")),
                Err(_) => Err(late()),
            }
        }
    }
}

fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "history was not read in time").hint("ask for less, or wait longer")
}

/// The mesh at an older revision of a view's own line: what came after is taken back, newest first. Only records and
/// position are those of the time. Takes time in proportion to the distance, so callers keep the result.
///
/// # Errors
/// History cannot be read, or the deadline passed.
pub(crate) fn as_of(view: &View, revision: Revision, deadline: Instant) -> Result<MeshState, Error> {
    let mut mesh = view.state().mesh.clone();
    while mesh.position().revision > revision {
        if Instant::now() >= deadline {
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

/// What a unit made of a record: the record after it, or before it where it is gone.
pub(crate) fn changed(recorded: &Recorded, kind: Kind, id: &str) -> Option<Record> {
    let fits = |record: &Record| record.kind() == kind && record.id() == id;
    recorded.unit.changes().iter().find_map(|change| {
        let record = change.after.as_ref().or(change.before.as_ref())?;
        fits(record).then(|| record.clone())
    })
}

//! What is under way on one connection, for whoever decides whether it may stay open.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use raft::env::BoxStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// What is under way on one connection.
pub(crate) struct Activity {
    under_way: AtomicUsize,
    /// When the last request ended.
    last: Mutex<Instant>,
    /// Since when the stream has taken nothing of what it was given to write.
    blocked: Mutex<Option<Instant>>,
    unwritten: Mutex<Unwritten>,
}

/// Pieces of answers that were handed to HTTP and have not left: the client's window is closed, or its stream blocked.
#[derive(Default)]
struct Unwritten {
    next: u64,
    /// When each last lost a byte.
    moved: BTreeMap<u64, Instant>,
}

/// Something under way on a connection; over when dropped.
pub(crate) struct Busy(Arc<Activity>);

/// One piece of an answer on its way; gone when dropped.
pub(crate) struct Leaving {
    activity: Arc<Activity>,
    piece: u64,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            blocked: Mutex::new(None),
            unwritten: Mutex::default(),
        })
    }

    /// Something begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Since when nothing has been under way.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.under_way.load(Ordering::Relaxed) == 0).then(|| *self.last.lock())
    }

    /// Since when something that should be written has not moved.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        let blocked = *self.blocked.lock();
        let piece = self.unwritten.lock().moved.values().min().copied();
        blocked.into_iter().chain(piece).min()
    }

    fn wrote<T>(&self, outcome: Poll<T>) -> Poll<T> {
        let mut blocked = self.blocked.lock();
        match &outcome {
            Poll::Ready(_) => *blocked = None,
            Poll::Pending => {
                blocked.get_or_insert_with(Instant::now);
            }
        }
        outcome
    }
}

impl Busy {
    /// Begins to watch a piece of the answer.
    pub(crate) fn leaving(&self) -> Leaving {
        let mut unwritten = self.0.unwritten.lock();
        let piece = unwritten.next;
        unwritten.next += 1;
        unwritten.moved.insert(piece, Instant::now());
        Leaving {
            activity: Arc::clone(&self.0),
            piece,
        }
    }
}

impl Leaving {
    /// Some of the piece has been written.
    pub(crate) fn moved(&self) {
        if let Some(moved) = self.activity.unwritten.lock().moved.get_mut(&self.piece) {
            *moved = Instant::now();
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.activity.unwritten.lock().moved.remove(&self.piece);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.last.lock() = Instant::now();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that notes when it takes no more.
pub(crate) struct Watched {
    stream: BoxStream,
    activity: Arc<Activity>,
}

impl Watched {
    pub(crate) fn new(stream: BoxStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.activity.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.wrote(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.activity.wrote(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_move_is_seen() {
        let activity = Activity::new();
        let began = Instant::now();
        let busy = activity.begin();
        assert!(activity.idle_since().is_none() && activity.stalled_since().is_none());
        let (one, two) = (busy.leaving(), busy.leaving());
        tokio::time::advance(Duration::from_secs(5)).await;
        one.moved();
        assert_eq!(activity.stalled_since(), Some(began));
        drop(two);
        assert_eq!(activity.stalled_since(), Some(began + Duration::from_secs(5)));
        drop(one);
        assert!(activity.stalled_since().is_none());
        drop(busy);
        assert_eq!(activity.idle_since(), Some(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_takes_nothing_is_seen() {
        let activity = Activity::new();
        let (near, _far) = tokio::io::duplex(8);
        let mut watched = Watched::new(Box::new(near), Arc::clone(&activity));
        watched.write_all(b"12345678").await.unwrap();
        assert!(activity.stalled_since().is_none());
        let write = tokio::time::timeout(Duration::from_secs(1), watched.write_all(b"9")).await;
        assert!(write.is_err());
        assert_eq!(activity.stalled_since(), Some(Instant::now() - Duration::from_secs(1)));
    }
}

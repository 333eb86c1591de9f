//! Follows the history of the mesh for all watches of a node: one task, which takes every revision once and in order.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use raft::View;
use statemachine::{Hash, MeshId, Position, Recorded, Revision};
use tokio::{
    sync::{
        Notify,
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
    },
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    feed::{Budget, Feed},
    replay,
    subject::Subject,
};
use crate::{core::Core, cursor, history::Chained};
use proto::codes::Code;

/// How often it is looked after those whose time has come.
const TICK: Duration = Duration::from_millis(50);
/// The most revisions that are kept for those who just fell behind, or begin a moment ago. Feeds keep their own messages,
/// and further back there is history; each of these takes some kilobytes, also where nobody watches.
const RECENT_MAX: usize = 512;
/// Their share of what watches may take.
const RECENT_SHARE: usize = 32;
/// The most revisions that are taken in at once.
const BURST_MAX: usize = 64;
/// From one time that those who wait are woken to the next. The first revision after a pause leaves at once; where many
/// follow, each watcher sends what came in this time together, rather than take a turn, a record of TLS and a system call
/// for every one.
const WAKE_EVERY: Duration = Duration::from_millis(5);
/// How long a read of history may take.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Where the watches of a node meet.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    budget: Arc<Budget>,
    recent_bytes_max: usize,
    /// How many watches were begun.
    count: AtomicU32,
    /// Told when there is a feed more: where there was none, the hub waits for revisions alone.
    begun: Notify,
    lag: Gauge,
}

struct Inner {
    /// Everything up to here was handed to the feeds.
    head: Position,
    /// The audit chain's hash there.
    chain: Hash,
    /// The last revisions without a gap, each with the chain's hash before it.
    recent: VecDeque<(Arc<Recorded>, Hash)>,
    recent_bytes: usize,
    feeds: HashMap<Vec<String>, Weak<Feed>>,
}

impl Hub {
    pub(crate) fn new(view: &View, backlog_bytes_max: usize, lag: Gauge) -> Self {
        let mesh = &view.state().mesh;
        Self {
            inner: Mutex::new(Inner {
                head: mesh.position(),
                chain: mesh.chain(),
                recent: VecDeque::new(),
                recent_bytes: 0,
                feeds: HashMap::new(),
            }),
            budget: Budget::new(backlog_bytes_max),
            recent_bytes_max: backlog_bytes_max / RECENT_SHARE,
            count: AtomicU32::new(0),
            begun: Notify::new(),
            lag,
        }
    }

    /// Another number with every call.
    pub(crate) fn number(&self) -> u32 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// The feed of a subject, shared with all who watch the same.
    pub(crate) fn feed(&self, subject: Subject, mesh: &MeshId, sent: Counter) -> Arc<Feed> {
        let mut inner = self.inner.lock();
        if let Some(feed) = inner.feeds.get(&subject.key).and_then(Weak::upgrade) {
            return feed;
        }
        let key = subject.key.clone();
        let feed = Arc::new(Feed::new(
            subject,
            mesh.clone(),
            inner.head,
            sent,
            Arc::clone(&self.budget),
        ));
        inner.feeds.insert(key, Arc::downgrade(&feed));
        self.begun.notify_one();
        feed
    }

    /// The revisions after a position that are at hand, at most `limit`; none where the next one is not.
    pub(crate) fn recent(&self, after: Position, limit: usize) -> Option<Chained> {
        let inner = self.inner.lock();
        let first = inner.recent.front()?.0.unit.position.revision;
        let at = usize::try_from(after.revision.next().0.checked_sub(first.0)?).ok()?;
        (inner.recent.get(at)?.0.unit.parent == after).then(|| inner.recent.range(at..).take(limit).cloned().collect())
    }

    /// Runs until the server stops.
    pub(crate) async fn run(self: Arc<Self>, core: Arc<Core>, mut units: broadcast::Receiver<Arc<Recorded>>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether history has to be looked at for what was missed.
        let mut missed = false;
        // When those who wait were woken last, and when they have to be woken for what came since.
        let (mut woken, mut owed) = (None::<Instant>, None::<Instant>);
        loop {
            let due = owed.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = core.stop.cancelled() => break,
                () = sleep_until(due), if owed.is_some() => {
                    self.wake();
                    (woken, owed) = (Some(Instant::now()), None);
                }
                received = units.recv() => match received {
                    Ok(recorded) => {
                        missed |= !self.take_all(recorded, &mut units);
                        owed = owed.or(Some(woken.map_or(due, |woken| woken + WAKE_EVERY)));
                    }
                    Err(RecvError::Lagged(_)) => missed = true,
                    Err(RecvError::Closed) => break,
                },
                // Snapshots that are installed bring no units: they are noticed here.
                _ = tick.tick(), if missed || self.has_feeds() => {
                    missed |= units.is_empty() && core.handle.view().position() != self.inner.lock().head;
                    let broken = core.stop.is_cancelled() || core.check_serves().is_err();
                    self.tick(broken);
                }
                () = self.begun.notified() => {}
            }
            if missed {
                missed = !self.catch_up(&core).await;
                if missed {
                    // History could not be read: not again before the next tick.
                    tick.tick().await;
                }
            }
        }
        self.tick(true);
    }

    fn has_feeds(&self) -> bool {
        !self.inner.lock().feeds.is_empty()
    }

    fn tick(&self, all: bool) {
        let now = Instant::now();
        let feeds = {
            let mut inner = self.inner.lock();
            inner.feeds.retain(|_, feed| feed.strong_count() > 0);
            inner.feeds.values().filter_map(Weak::upgrade).collect::<Vec<_>>()
        };
        let lag = feeds.iter().filter_map(|feed| feed.tick(now, all)).max();
        self.lag.set(i64::try_from(lag.unwrap_or(0)).unwrap_or(i64::MAX));
    }

    /// Takes in a revision and what came together with it, as far as it is there. False where one does not follow.
    fn take_all(&self, first: Arc<Recorded>, units: &mut broadcast::Receiver<Arc<Recorded>>) -> bool {
        let mut follows = self.take(first);
        for _ in 1..BURST_MAX {
            if !follows {
                break;
            }
            follows = match units.try_recv() {
                Ok(recorded) => self.take(recorded),
                Err(TryRecvError::Lagged(_)) => false,
                // The end is seen by whoever waits for the next.
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
        }
        follows
    }

    /// Wakes all who wait for what was taken in.
    fn wake(&self) {
        let feeds: Vec<_> = self.inner.lock().feeds.values().filter_map(Weak::upgrade).collect();
        feeds.iter().for_each(|feed| feed.wake());
    }

    /// Takes a revision in; false where it does not follow the last one.
    fn take(&self, recorded: Arc<Recorded>) -> bool {
        let (feeds, previous) = {
            let mut inner = self.inner.lock();
            if recorded.unit.parent != inner.head {
                // What was read from history meanwhile comes again.
                let known = recorded.unit.position.revision <= inner.head.revision;
                return known && recorded.unit.position.timeline == inner.head.timeline;
            }
            let previous = std::mem::replace(&mut inner.chain, recorded.chain);
            inner.head = recorded.unit.position;
            inner.keep(Arc::clone(&recorded), previous, self.recent_bytes_max);
            let feeds: Vec<_> = inner.feeds.values().filter_map(Weak::upgrade).collect();
            (feeds, previous)
        };
        for feed in feeds {
            feed.push(&recorded, previous);
        }
        true
    }

    /// Reads from history what the broadcast left out, as far as this node has applied. False where it cannot be read.
    async fn catch_up(&self, core: &Arc<Core>) -> bool {
        loop {
            let (view, head) = (core.handle.view(), self.inner.lock().head);
            if view.position() == head {
                return true;
            }
            if cursor::on_line(head, &view.state().mesh).is_err() && head.revision != Revision(0) {
                tracing::warn!(from = %head.revision, to = %view.position().revision, "this node's history was replaced");
                self.leap(&view);
                return true;
            }
            let from = view.clone();
            let read = move |_: &_| replay::read(&from, head.revision);
            match core.history.read("watch-hub", Instant::now() + READ_WITHIN, read).await {
                Ok(units) if units.is_empty() => return false,
                Ok(units) => {
                    let follows = units.into_iter().all(|(recorded, _)| self.take(recorded));
                    self.wake();
                    if !follows {
                        return false;
                    }
                }
                Err(error) if error.code() == Code::Compacted => self.leap(&view),
                Err(error) => {
                    tracing::warn!(%error, "watches wait: what they are to see next could not be read");
                    return false;
                }
            }
            if core.stop.is_cancelled() {
                return true;
            }
        }
    }

    /// Goes on at a view, leaving out what is before it: each watch looks for itself what that means for it.
    fn leap(&self, view: &View) {
        let feeds: Vec<_> = {
            let mut inner = self.inner.lock();
            inner.head = view.position();
            inner.chain = view.state().mesh.chain();
            inner.recent.clear();
            inner.recent_bytes = 0;
            inner.feeds.values().filter_map(Weak::upgrade).collect()
        };
        for feed in feeds {
            feed.leap(view.position());
        }
    }
}

impl Inner {
    fn keep(&mut self, recorded: Arc<Recorded>, previous: Hash, bytes_max: usize) {
        self.recent_bytes += cost(&recorded);
        self.recent.push_back((recorded, previous));
        while self.recent.len() > RECENT_MAX || self.recent_bytes > bytes_max {
            let Some((first, _)) = self.recent.pop_front() else {
                return;
            };
            self.recent_bytes -= cost(&first);
        }
    }
}

/// About how much memory a revision takes: its bytes, and the same in its records.
fn cost(recorded: &Recorded) -> usize {
    4 * recorded.bytes.len() + 512
}

//! What all watches of one subject share: the last messages, encoded once, and who waits for the next.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use statemachine::{Hash, MeshId, Position, Recorded, Revision};
use tokio::time::Instant;

use super::{frames::Event, subject::Subject};

/// Memory that the messages of all feeds take, against what they may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            most,
        })
    }
}

/// The messages of one subject, and those who follow them.
pub(crate) struct Feed {
    pub(crate) subject: Subject,
    pub(crate) mesh: MeshId,
    /// Messages about revisions that were handed to watchers.
    pub(crate) sent: Counter,
    budget: Arc<Budget>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Every message after this position is kept.
    base: Position,
    /// Everything up to here was looked at.
    head: Position,
    events: VecDeque<Arc<Event>>,
    /// That everything up to `head` was sent, once somebody wants to know.
    progress: Option<Arc<Event>>,
    /// Whether there is a message that nobody was woken for.
    news: bool,
    /// How often the line of history was left. Who has seen fewer looks into history for what it means.
    breaks: u64,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
}

/// One watcher.
struct Slot {
    waker: Option<Waker>,
    /// When it wants to be woken in any case.
    due: Instant,
    at: Revision,
}

/// What there is for a watcher.
pub(crate) enum Next {
    /// A message, and how many revisions the watcher is behind.
    Event(Arc<Event>, u64),
    /// What comes next for it is not kept here any more.
    Behind,
    /// Nothing; everything up to this position was looked at. It is woken when there is more.
    Idle(Position),
}

impl Feed {
    pub(crate) fn new(subject: Subject, mesh: MeshId, head: Position, sent: Counter, budget: Arc<Budget>) -> Self {
        Self {
            subject,
            mesh,
            sent,
            budget,
            inner: Mutex::new(Inner {
                base: head,
                head,
                events: VecDeque::new(),
                progress: None,
                news: false,
                breaks: 0,
                slots: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    /// A place for a watcher that has everything up to `at`, and how often the line was left so far.
    pub(crate) fn enter(&self, at: Revision) -> (usize, u64) {
        let mut inner = self.inner.lock();
        let slot = Slot {
            waker: None,
            due: Instant::now(),
            at,
        };
        let key = match inner.free.pop() {
            Some(key) => {
                inner.slots[key] = Some(slot);
                key
            }
            None => {
                inner.slots.push(Some(slot));
                inner.slots.len() - 1
            }
        };
        (key, inner.breaks)
    }

    /// Gives a place up.
    pub(crate) fn leave(&self, key: usize) {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.slots.get_mut(key) {
            *slot = None;
            inner.free.push(key);
        }
    }

    /// What comes after `at` for the watcher with this place, which is woken at `due` in any case.
    pub(crate) fn next(&self, key: usize, breaks: u64, at: Position, due: Instant, cx: &Context<'_>) -> Next {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.breaks != breaks || at.revision < inner.base.revision {
            return Next::Behind;
        }
        let next = inner
            .events
            .partition_point(|event| event.position.revision <= at.revision);
        let slot = inner.slots.get_mut(key).and_then(Option::as_mut);
        if let Some(slot) = slot {
            slot.at = at.revision;
            slot.due = due;
            if inner.events.get(next).is_none() && !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                slot.waker = Some(cx.waker().clone());
            }
        }
        match inner.events.get(next) {
            Some(event) => Next::Event(Arc::clone(event), inner.head.revision.0.saturating_sub(at.revision.0)),
            None => Next::Idle(inner.head),
        }
    }

    /// Has a watcher woken at `due` while it waits for something else.
    pub(crate) fn wait(&self, key: usize, due: Instant, cx: &Context<'_>) {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.slots.get_mut(key).and_then(Option::as_mut) {
            slot.due = due;
            slot.waker = Some(cx.waker().clone());
        }
    }

    /// How often the line of history was left.
    pub(crate) fn breaks(&self) -> u64 {
        self.inner.lock().breaks
    }

    /// How far behind the head a position is.
    pub(crate) fn lag(&self, at: Revision) -> u64 {
        self.inner.lock().head.revision.0.saturating_sub(at.0)
    }

    /// That everything up to a position was sent.
    pub(crate) fn progress(&self, at: Position) -> Arc<Event> {
        let mut inner = self.inner.lock();
        if let Some(made) = &inner.progress
            && made.position == at
        {
            return Arc::clone(made);
        }
        let made = Arc::new(self.subject.progress(at, &self.mesh));
        if at == inner.head {
            inner.progress = Some(Arc::clone(&made));
        }
        made
    }

    /// Takes the next revision in. Those who wait are not woken yet.
    pub(crate) fn push(&self, recorded: &Recorded, previous: Hash) {
        let event = self.subject.event(recorded, previous, &self.mesh);
        let mut inner = self.inner.lock();
        inner.head = recorded.unit.position;
        if let Some(event) = event {
            self.keep(&mut inner, event);
            inner.news = true;
        }
    }

    /// Wakes who waits, where there is something since the last time.
    pub(crate) fn wake(&self) {
        let mut woken = Vec::new();
        {
            let mut inner = self.inner.lock();
            if std::mem::take(&mut inner.news) {
                woken.extend(inner.slots.iter_mut().flatten().filter_map(|slot| slot.waker.take()));
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }

    fn keep(&self, inner: &mut Inner, event: Event) {
        self.budget.used.fetch_add(event.cost(), Ordering::Relaxed);
        inner.events.push_back(Arc::new(event));
        // The newest one stays: who keeps up finds it.
        while inner.events.len() > 1 && self.budget.used.load(Ordering::Relaxed) > self.budget.most {
            self.drop_first(inner);
        }
    }

    fn drop_first(&self, inner: &mut Inner) {
        if let Some(first) = inner.events.pop_front() {
            inner.base = first.position;
            self.budget.used.fetch_sub(first.cost(), Ordering::Relaxed);
        }
    }

    /// Begins anew at a position that does not follow what came before, or not without a gap.
    pub(crate) fn leap(&self, head: Position) {
        let mut woken = Vec::new();
        {
            let mut inner = self.inner.lock();
            while !inner.events.is_empty() {
                self.drop_first(&mut inner);
            }
            (inner.base, inner.head) = (head, head);
            inner.breaks += 1;
            woken.extend(inner.slots.iter_mut().flatten().filter_map(|slot| slot.waker.take()));
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Wakes those whose time has come (all of them, where `all` says so), and drops the messages that everybody has.
    /// Answers how far the slowest is behind; none where nobody is there.
    pub(crate) fn tick(&self, now: Instant, all: bool) -> Option<u64> {
        let mut woken = Vec::new();
        let lag = {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            // Who is further behind than what is kept reads history until it has caught up, and keeps nothing here.
            let (mut slowest, mut needed): (Option<Revision>, _) = (None, inner.head.revision);
            for slot in inner.slots.iter_mut().flatten() {
                slowest = Some(slowest.map_or(slot.at, |slowest| slowest.min(slot.at)));
                if slot.at >= inner.base.revision {
                    needed = needed.min(slot.at);
                }
                if all || slot.due <= now {
                    woken.extend(slot.waker.take());
                }
            }
            while inner
                .events
                .front()
                .is_some_and(|first| first.position.revision <= needed)
            {
                self.drop_first(inner);
            }
            slowest.map(|slowest| inner.head.revision.0.saturating_sub(slowest.0))
        };
        woken.into_iter().for_each(Waker::wake);
        lag
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let left: usize = self.inner.lock().events.iter().map(|event| event.cost()).sum();
        self.budget.used.fetch_sub(left, Ordering::Relaxed);
    }
}

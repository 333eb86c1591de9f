//! openraft's view of the state.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use parking_lot::Mutex;

use crate::blocking::Threads;
use crate::engine::{Engine, EngineError};
use crate::env::Clock;
use crate::fatal::FatalLatch;
use crate::log::store::Synced;
use crate::state::apply::{Applier, Item, remove_generation};
use crate::state::history::{Generation, History};
use crate::state::install::{stage_outgoing, switch};
use crate::state::publish::Publisher;
use crate::state::snapshot::{Builder, Content, SnapshotData, StateSnapshot, export};
use crate::state::{Limits, load};
use crate::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// What the state store's parts share.
pub(crate) struct Shared {
    pub engine: Arc<dyn Engine>,
    pub threads: Threads,
    pub fatal: FatalLatch,
    pub limits: Limits,
    pub publisher: Publisher,
    /// The log of the same node, once it is open.
    log: OnceLock<Synced>,
    /// Held while entries are applied and written: never lock it where waiting matters.
    pub applier: Mutex<Applier>,
    /// Generations that are not current, but may still be read or written.
    pub retired: Mutex<Vec<(u32, Weak<Generation>)>>,
    /// The last entry whose effects are flushed.
    durable: Mutex<Option<LogId>>,
    flushing: AtomicBool,
    /// Whether openraft was told of a snapshot, so that it may be asked for one.
    has_snapshot: AtomicBool,
    generations: AtomicU32,
}

/// The state. Cloning shares it.
#[derive(Clone)]
pub struct StateMachine {
    pub(crate) shared: Arc<Shared>,
}

impl StateMachine {
    /// Opens the state store on `engine`. Blocks while it reads all of it.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] naming the table whose rows are damaged.
    pub(crate) fn open(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        threads: Threads,
        limits: Limits,
        fatal: FatalLatch,
    ) -> Result<Self, EngineError> {
        let (current, state) = load::open(&*engine)?;
        let membership = StoredMembership::try_from(current.membership.clone())
            .map_err(|e| EngineError::corrupt("table state_meta, row current", e))?;
        let applied = current.applied.map(LogId::from);
        let generation = Arc::new(Generation::new(current.generation));
        let history = History {
            engine: engine.clone(),
            generation: generation.clone(),
        };
        let publisher = Publisher::new(state.clone(), applied, history, limits.broadcast);
        let applier = Applier {
            engine: engine.clone(),
            publisher: publisher.clone(),
            state,
            applied,
            installed: current.installed.map(LogId::from),
            membership,
            generation,
            unflushed_bytes: 0,
            flushed_at: clock.monotonic(),
            #[cfg(feature = "simulation")]
            tamper: None,
            clock,
        };
        let shared = Shared {
            engine,
            threads,
            fatal,
            limits,
            publisher,
            log: OnceLock::new(),
            applier: Mutex::new(applier),
            retired: Mutex::default(),
            durable: Mutex::new(applied),
            flushing: AtomicBool::new(false),
            has_snapshot: AtomicBool::new(applied.is_some()),
            generations: AtomicU32::new(current.generation),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// From now on nothing is applied before it is durable in this log: others may have committed
    /// it, but a state that is ahead of its own log after a power cut cannot be told from a log
    /// that has lost its end.
    pub(crate) fn follow(&self, log: Synced) {
        self.shared.log.set(log).ok();
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.shared.publisher
    }
}

impl Shared {
    /// A generation that nothing uses yet.
    pub(crate) fn new_generation(&self) -> Arc<Generation> {
        let number = self.generations.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let generation = Arc::new(Generation::new(number));
        // Should the snapshot never be finished, its rows go with the other unused ones.
        self.retire(&generation);
        generation
    }

    /// Notes that a generation's rows are to be removed once nobody holds it.
    pub(crate) fn retire(&self, generation: &Arc<Generation>) {
        self.retired.lock().push((generation.0, Arc::downgrade(generation)));
    }

    /// Removes the rows of generations that nobody holds any more.
    pub(crate) fn forget_retired(&self) -> Result<(), EngineError> {
        let gone: Vec<u32> = {
            let mut retired = self.retired.lock();
            let (gone, held): (Vec<_>, Vec<_>) =
                retired.drain(..).partition(|(_, holders)| holders.strong_count() == 0);
            *retired = held;
            gone.into_iter().map(|(generation, _)| generation).collect()
        };
        for generation in gone {
            remove_generation(&*self.engine, generation)?;
        }
        Ok(())
    }

    /// The last entry whose effects are flushed.
    pub(crate) fn durable(&self) -> Option<LogId> {
        *self.durable.lock()
    }

    pub(crate) fn durable_upto(&self, upto: Option<LogId>) {
        let mut durable = self.durable.lock();
        *durable = upto.max(*durable);
    }

    pub(crate) fn snapshot_made(&self) {
        self.has_snapshot.store(true, Ordering::Relaxed);
    }

    /// Notes an engine's error as the reason to stop, and hands it to openraft.
    pub(crate) fn failed(&self, error: EngineError) -> io::Error {
        self.fatal.engine(&error);
        error.into()
    }

    /// Makes everything applied so far durable.
    pub(crate) async fn flush(self: &Arc<Self>) -> io::Result<()> {
        let shared = self.clone();
        self.threads
            .run(move || shared.flush_now())
            .await?
            .map_err(|e| self.failed(e))
    }

    fn flush_now(&self) -> Result<(), EngineError> {
        self.forget_retired()?;
        let applied = {
            let mut applier = self.applier.lock();
            applier.unflushed_bytes = 0;
            applier.flushed_at = applier.clock.monotonic();
            applier.applied
        };
        self.engine.flush()?;
        self.durable_upto(applied);
        Ok(())
    }

    /// Flushes beside further applying, if it is time to.
    async fn flush_if_due(self: &Arc<Self>) -> io::Result<()> {
        let due = {
            let applier = self.applier.lock();
            let age = applier.clock.monotonic().saturating_sub(applier.flushed_at);
            applier.unflushed_bytes >= self.limits.flush_bytes
                || (applier.unflushed_bytes > 0 && age >= self.limits.flush_interval)
        };
        if !due || self.flushing.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let shared = self.clone();
        match self.threads {
            Threads::Own => {
                tokio::task::spawn_blocking(move || shared.flush_in_background());
                Ok(())
            }
            Threads::Inline => {
                self.flushing.store(false, Ordering::Relaxed);
                self.flush().await
            }
        }
    }

    fn flush_in_background(&self) {
        if let Err(error) = self.flush_now() {
            self.fatal.engine(&error);
        }
        self.flushing.store(false, Ordering::Relaxed);
    }

    async fn apply(self: &Arc<Self>, items: Vec<Item>) -> io::Result<()> {
        if let Some(fatal) = self.fatal.get() {
            return Err(io::Error::other(fatal));
        }
        if let (Some(log), Some(last)) = (self.log.get(), items.last()) {
            tokio::select! {
                biased;
                () = log.wait(last.0.index()) => {}
                fatal = self.fatal.wait() => return Err(io::Error::other(fatal)),
            }
        }
        let shared = self.clone();
        let work = move || shared.applier.lock().apply(items);
        self.threads.run(work).await?.map_err(|e| self.failed(e))?;
        self.prune_if_due().await?;
        self.flush_if_due().await
    }

    fn meta(&self) -> SnapshotMeta {
        let applier = self.applier.lock();
        SnapshotMeta {
            last_log_id: applier.applied,
            last_membership: applier.membership.clone(),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applier = self.shared.applier.lock();
        Ok((applier.applied, applier.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            bytes += item.0.size();
            items.push(item);
            if items.len() >= self.shared.limits.batch_entries || bytes >= self.shared.limits.batch_bytes {
                bytes = 0;
                self.shared.apply(std::mem::take(&mut items)).await?;
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        self.shared.apply(items).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            shared: self.shared.clone(),
            meta: self.shared.meta(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let staged = match snapshot.0 {
            Content::Staged(staged) => *staged,
            Content::Outgoing(outgoing) => stage_outgoing(&self.shared, outgoing).await?,
            Content::Described => return Err(io::Error::other("a description cannot be installed")),
        };
        if staged.meta() != *meta {
            return Err(io::Error::other("the snapshot is not the one that was announced"));
        }
        let shared = self.shared.clone();
        let work = move || switch(&shared, staged);
        self.shared.threads.run(work).await?.map_err(|e| self.shared.failed(e))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<StateSnapshot>, io::Error> {
        if !self.shared.has_snapshot.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // Nothing is applied while this runs: openraft asks from the task that applies.
        let meta = self.shared.meta();
        let (current, floor) = {
            let applier = self.shared.applier.lock();
            (applier.current(), applier.state.mesh.floor())
        };
        let limits = &self.shared.limits;
        let outgoing = export(
            self.shared.engine.clone(),
            current,
            floor,
            limits.chunk_bytes,
            self.shared.threads,
        )
        .await?;
        Ok(Some(Snapshot {
            meta,
            snapshot: SnapshotData(Content::Outgoing(outgoing)),
        }))
    }
}

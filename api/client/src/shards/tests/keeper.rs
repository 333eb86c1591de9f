//! The task that keeps a map, with a disk and a mesh that take their time.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    super::{
        Heard, Options,
        follow::Start,
        keep::{About, Shared},
        keeper::{Keeper, Outside, WRITE_EVERY, WRITE_IDLE_EVERY},
    },
    *,
};
use crate::{Error, Result};

/// Namespaces that can be counted, and a disk that tells of every write and waits where it is told to.
struct World {
    counts: BTreeMap<&'static str, Count>,
    wrote: mpsc::UnboundedSender<Saved>,
    /// Every write waits for a word, or for nobody to be there to give it.
    hangs: Option<Mutex<std::sync::mpsc::Receiver<()>>>,
}

impl Outside for World {
    fn count(&self, namespace: &str) -> BoxFuture<'static, Result<Count>> {
        let count = self.counts.get(namespace).copied();
        async move { count.ok_or_else(|| Error::deadline("it is being deleted", "")) }.boxed()
    }

    fn write(&self, _: &Path, saved: &Saved) -> io::Result<()> {
        self.wrote.send(saved.clone()).unwrap();
        if let Some(hangs) = &self.hangs {
            // An error says that nobody is there.
            let _ = hangs.lock().recv();
        }
        Ok(())
    }
}

/// A keeper that runs.
struct Kept {
    shared: Arc<Shared>,
    tell: mpsc::Sender<Heard>,
    written: mpsc::UnboundedReceiver<Saved>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Kept {
    fn start(hangs: Option<std::sync::mpsc::Receiver<()>>, start: Start, view: View) -> Self {
        let (wrote, written) = mpsc::unbounded_channel();
        let world = World {
            counts: BTreeMap::from([("orders", Count { shards: 4, created: 9 })]),
            wrote,
            hangs: hangs.map(Mutex::new),
        };
        let (tell, heard) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(false);
        let shared = Shared::new(view, About::default());
        let options = Options {
            cache: Some("shards".into()),
            ..Options::default()
        };
        let keeper = Keeper::new(Arc::new(world), options, start, heard, Arc::clone(&shared));
        Self {
            shared,
            tell,
            written,
            stop,
            task: tokio::spawn(keeper.run(stopped)),
        }
    }

    async fn begins(&self, mesh: &str, epoch: u64) {
        let mesh = mesh.to_owned();
        self.tell.send(Heard::Begun { mesh, epoch }).await.unwrap();
    }

    async fn hears(&self, update: Update) {
        let token = "token".to_owned();
        self.tell.send(Heard::Update { update, token }).await.unwrap();
    }

    async fn reaches(&self, revision: u64) {
        let mut reached = self.shared.reached.subscribe();
        let there = reached.wait_for(|reached| reached.is_some_and(|reached| reached >= revision));
        there.await.unwrap();
    }
}

fn orders(revision: u64) -> Update {
    let shards = (0..4).map(|index| shard("orders", index, "a", 1, 10)).collect();
    Update::Whole { revision, shards }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_keeps_nothing_from_the_map() {
    let (release, hangs) = std::sync::mpsc::channel();
    let mut kept = Kept::start(Some(hangs), Start::default(), View::default());
    kept.begins("mesh", 1).await;
    kept.hears(orders(20)).await;
    assert_eq!(kept.written.recv().await.unwrap().revision, 20);
    // That write does not end. The map goes on, and the file is written no second time beside it.
    kept.hears(is(shard("orders", 1, "b", 2, 21), 21)).await;
    kept.reaches(21).await;
    assert_eq!(owner(&kept.shared.view.load(), 1).as_deref(), Some("b"));
    // The next one is due meanwhile, and the keeper has had its turn to see that.
    tokio::time::advance(2 * WRITE_EVERY).await;
    tokio::task::yield_now().await;
    kept.hears(is(shard("orders", 1, "c", 3, 22), 22)).await;
    kept.reaches(22).await;
    release.send(()).unwrap();
    // One that was begun beside the first would have the map as it was then.
    assert_eq!(kept.written.recv().await.unwrap().revision, 22);
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn while_nothing_changes_the_file_is_written_once_a_minute() {
    let mut kept = Kept::start(None, Start::default(), View::default());
    kept.begins("mesh", 1).await;
    kept.hears(orders(20)).await;
    assert_eq!(kept.written.recv().await.unwrap().revision, 20);
    let seconds = 2 * WRITE_IDLE_EVERY.as_secs() + 10;
    for revision in 21..21 + seconds {
        kept.hears(Update::Reached { revision }).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let written: Vec<_> = std::iter::from_fn(|| kept.written.try_recv().ok()).collect();
    assert_eq!(written.len(), 2);
    // What it came to since is written when it ends.
    kept.stop.send_replace(true);
    kept.task.await.unwrap();
    assert_eq!(kept.written.recv().await.unwrap().revision, 20 + seconds);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_counted_holds_up_no_other() {
    let kept = Kept::start(None, Start::default(), View::default());
    kept.begins("mesh", 1).await;
    let deleted = |namespace: &str| shard(namespace, 0, "a", 1, 10);
    let Update::Whole { revision, mut shards } = orders(20) else {
        unreachable!()
    };
    shards.extend([deleted("a-deleted"), deleted("b-deleted"), deleted("z-deleted")]);
    kept.hears(Update::Whole { revision, shards }).await;
    let located = async {
        while kept.shared.view.load().locate("orders", b"x").is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), located).await.unwrap();
    assert!(kept.shared.about.lock().trouble.is_some());
    // Once they are gone, everything can be located that is there.
    let gone = |namespace: &str| Change::Gone {
        namespace: namespace.to_owned(),
        shard: 0,
    };
    let changes = vec![gone("a-deleted"), gone("b-deleted"), gone("z-deleted")];
    kept.hears(Update::Revision { revision: 21, changes }).await;
    kept.reaches(21).await;
}

/// Says how many shards there were when it was asked, a while after that.
struct Slow(Mutex<VecDeque<Count>>);

impl Outside for Slow {
    fn count(&self, _: &str) -> BoxFuture<'static, Result<Count>> {
        let count = self.0.lock().pop_front();
        async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            count.ok_or_else(|| Error::deadline("nobody is left to say", ""))
        }
        .boxed()
    }

    fn write(&self, _: &Path, _: &Saved) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_that_comes_late_is_not_taken_for_another_namespace_of_that_name() {
    let old = Count { shards: 4, created: 9 };
    let new = Count { shards: 8, created: 39 };
    let slow = Slow(Mutex::new(VecDeque::from([old, new])));
    let (tell, heard) = mpsc::channel(8);
    let (_stop, stopped) = watch::channel(false);
    let shared = Shared::new(View::default(), About::default());
    let options = Options::default();
    let keeper = Keeper::new(Arc::new(slow), options, Start::default(), heard, Arc::clone(&shared));
    tokio::spawn(keeper.run(stopped));
    let mesh = "mesh".to_owned();
    tell.send(Heard::Begun { mesh, epoch: 1 }).await.unwrap();
    let hears = async |update| {
        let token = "token".to_owned();
        tell.send(Heard::Update { update, token }).await.unwrap();
    };
    hears(orders(20)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // While the answer is on its way the namespace goes, and another comes.
    let gone = |shard| Change::Gone {
        namespace: "orders".to_owned(),
        shard,
    };
    let changes = (0..4).map(gone).collect();
    hears(Update::Revision { revision: 30, changes }).await;
    for index in 0..2 {
        let made = v1::Shard {
            created_revision: 40,
            ..shard("orders", index, "b", 40, 40)
        };
        hears(is(made, 40)).await;
    }
    let counted = || -> Vec<u32> {
        let counts = shared.view.load().counts();
        counts.into_iter().map(|(_, count)| count.shards).collect()
    };
    let found = async {
        while counted().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        counted()
    };
    let found = tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();
    assert_eq!(found, [8], "of the namespace that is there");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_mesh_gives_way_to_the_mesh() {
    let mut view = View::restored(3, 100);
    view.take(Update::Whole {
        revision: 100,
        shards: vec![v1::Shard {
            token: Some(v1::FencingToken {
                mesh_epoch: 3,
                shard_epoch: 9,
            }),
            ..shard("orders", 0, "z", 9, 90)
        }],
    });
    let start = Start {
        token: "of another".to_owned(),
        known: known("another", 3),
        revision: 100,
    };
    let mut kept = Kept::start(None, start, view);
    kept.begins("mesh", 1).await;
    kept.hears(orders(20)).await;
    kept.reaches(20).await;
    let view = kept.shared.view.load_full();
    assert_eq!((view.epoch(), view.revision()), (1, 20));
    assert_eq!(owner(&view, 0).as_deref(), Some("a"));
    assert!(kept.shared.about.lock().cache_refused.is_some());
    let saved = kept.written.recv().await.unwrap();
    assert_eq!((saved.mesh.as_str(), saved.epoch), ("mesh", 1));
}

//! A map that is kept: what everybody reads, and the task that keeps it up to date.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use proto::v1::WatchShardsRequest;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    Known, Options, Standing,
    cache::{self, Saved},
    follow::{Start, follow},
    keeper::Keeper,
    table::View,
};
use crate::{Client, Error, Result};

/// A node says every second that nothing was left out. After three the map counts as out of date.
const FRESH_FOR: Duration = Duration::from_secs(3);
/// How long the last write may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A map, and the task that keeps it.
pub(super) struct Kept {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Dropped or told: the task ends.
    stop: watch::Sender<bool>,
}

/// What the task writes and everybody reads.
pub(super) struct Shared {
    pub(super) view: ArcSwap<View>,
    pub(super) about: Mutex<About>,
    /// The revision that was reached by word of the mesh; none before.
    pub(super) reached: watch::Sender<Option<u64>>,
}

/// What is known of the map itself.
#[derive(Default)]
pub(super) struct About {
    /// When a node last said that nothing was left out, by both clocks.
    pub(super) heard: Option<Instant>,
    pub(super) heard_wall_ms: Option<u64>,
    pub(super) confirmed: bool,
    pub(super) older: u64,
    pub(super) trouble: Option<String>,
    pub(super) cache_refused: Option<String>,
    pub(super) cache_unwritten: Option<String>,
}

impl Shared {
    pub(super) fn new(view: View, about: About) -> Arc<Self> {
        Arc::new(Self {
            view: ArcSwap::from_pointee(view),
            about: Mutex::new(about),
            reached: watch::Sender::new(None),
        })
    }
}

impl Kept {
    pub(super) async fn start(client: Client, options: Options) -> Arc<Self> {
        let mut about = About::default();
        let saved = match &options.cache {
            None => None,
            Some(path) => {
                read(
                    path.clone(),
                    options.namespace.as_deref().unwrap_or_default(),
                    &mut about,
                )
                .await
            }
        };
        let view = saved.as_ref().map(Saved::view).unwrap_or_default();
        about.heard_wall_ms = saved.as_ref().map(|saved| saved.heard_ms);
        let shared = Shared::new(view, about);
        let (stop, stopped) = watch::channel(false);
        let saved = saved.unwrap_or_default();
        let start = Start {
            token: saved.token,
            known: Known {
                mesh: saved.mesh,
                epoch: saved.epoch,
            },
            revision: saved.revision,
        };
        let request = WatchShardsRequest {
            namespace: options.namespace.clone().unwrap_or_default(),
            ..WatchShardsRequest::default()
        };
        let heard = follow(client.clone(), request, start.clone());
        let keeper = Keeper::new(Arc::new(client), options, start, heard, Arc::clone(&shared));
        let task = tokio::spawn(keeper.run(stopped));
        Arc::new(Self {
            shared,
            task: Mutex::new(Some(task)),
            stop,
        })
    }

    /// A map that nobody keeps.
    pub(super) fn fixed(view: View) -> Arc<Self> {
        let revision = view.revision();
        let shared = Shared::new(view, About::default());
        shared.reached.send_replace(Some(revision));
        Arc::new(Self {
            shared,
            task: Mutex::default(),
            stop: watch::Sender::new(true),
        })
    }

    pub(super) fn view(&self) -> Guard<Arc<View>> {
        self.shared.view.load()
    }

    pub(super) fn standing(&self) -> Standing {
        let view = self.shared.view.load();
        let about = self.shared.about.lock();
        let since_file = || {
            about
                .heard_wall_ms
                .map_or(Duration::MAX, |ms| Duration::from_millis(wall_ms().saturating_sub(ms)))
        };
        let age = about.heard.map_or_else(since_file, |heard| heard.elapsed());
        let fresh = about.confirmed && age < FRESH_FOR;
        Standing {
            revision: view.revision(),
            epoch: view.epoch(),
            confirmed: about.confirmed,
            stale_since_ms: (!fresh).then(|| about.heard_wall_ms.unwrap_or_default()),
            age,
            trouble: about.trouble.clone(),
            cache_refused: about.cache_refused.clone(),
            cache_unwritten: about.cache_unwritten.clone(),
            refused_older: view.refused_older() + about.older,
        }
    }

    pub(super) async fn wait(&self, revision: u64, deadline: Instant) -> Result<()> {
        let mut reached = self.shared.reached.subscribe();
        let there = reached.wait_for(|reached| reached.is_some_and(|reached| reached >= revision));
        if let Ok(Ok(_)) = tokio::time::timeout_at(deadline, there).await {
            return Ok(());
        }
        let trouble = self.shared.about.lock().trouble.clone();
        let why = trouble.unwrap_or_else(|| "no node said so".to_owned());
        let detail = format!("the map of shards did not reach revision {revision} in time: {why}");
        Err(Error::deadline(detail, "it goes on trying"))
    }

    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It has nothing to answer but that it ended.
            let _ = tokio::time::timeout(CLOSE_WITHIN, task).await;
        }
    }
}

/// Reads the file of an earlier process, where it is whole and of the same namespace.
async fn read(path: PathBuf, namespace: &str, about: &mut About) -> Option<Saved> {
    let read = tokio::task::spawn_blocking(move || cache::load(&path)).await;
    match read {
        Ok(Ok(Some(saved))) if saved.namespace == namespace => return Some(saved),
        Ok(Ok(Some(saved))) => {
            about.cache_refused = Some(format!(
                "it is of namespace {:?}, not of {namespace:?}",
                saved.namespace
            ));
        }
        Ok(Ok(None)) => {}
        Ok(Err(why)) => about.cache_refused = Some(why),
        Err(error) => about.cache_refused = Some(error.to_string()),
    }
    None
}

/// The wall clock, in ms since 1970.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

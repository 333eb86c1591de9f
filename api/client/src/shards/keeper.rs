//! The task that keeps a map: takes what the watch brings, asks how many shards a namespace has, writes the file.
//!
//! It waits for none of that: a disk that hangs and a node that is slow to answer keep no update from the map.

use std::{io, path::Path, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use proto::v1::GetNamespaceRequest;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle},
    time::Instant,
};

use super::{
    Heard, Known, Options, Update,
    cache::{self, Saved},
    follow::Start,
    keep::{Shared, wall_ms},
    table::{Count, View},
};
use crate::{Client, Result};

/// The shortest time between two writes of the file.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The same while nothing changes but how far the map is known to be whole.
pub(super) const WRITE_IDLE_EVERY: Duration = Duration::from_secs(60);
/// How soon namespaces are asked for again that could not be counted.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What the keeper needs beside the watch. All of it may take long.
pub(super) trait Outside: Send + Sync + 'static {
    /// Asks how many shards a namespace has.
    fn count(&self, namespace: &str) -> BoxFuture<'static, Result<Count>>;
    /// Writes the file; blocks.
    fn write(&self, path: &Path, saved: &Saved) -> io::Result<()>;
}

impl Outside for Client {
    fn count(&self, namespace: &str) -> BoxFuture<'static, Result<Count>> {
        let (client, id) = (self.clone(), namespace.to_owned());
        async move {
            let namespace = client.get_namespace(GetNamespaceRequest { id }).await?.message;
            Ok(Count {
                shards: namespace.shards,
                created: namespace.created_revision,
            })
        }
        .boxed()
    }

    fn write(&self, path: &Path, saved: &Saved) -> io::Result<()> {
        cache::store(path, saved)
    }
}

pub(super) struct Keeper {
    outside: Arc<dyn Outside>,
    options: Options,
    shared: Arc<Shared>,
    heard: mpsc::Receiver<Heard>,
    /// The mesh, as the node said that is watched; before, as the file has it.
    known: Known,
    token: String,
    /// When to write the file, where it is out of date.
    write_at: Option<Instant>,
    writing: Option<JoinHandle<io::Result<()>>>,
    /// When to ask for the next namespace, where there is one that is not counted.
    ask_at: Option<Instant>,
    counting: Option<JoinHandle<Result<Count>>>,
    /// The namespace that was asked for last in this round; the next is the one behind it.
    asked: Option<Arc<str>>,
    /// Where that namespace was made, as far as the map knew then.
    asked_of: Option<u64>,
}

impl Keeper {
    pub(super) fn new(
        outside: Arc<dyn Outside>,
        options: Options,
        start: Start,
        heard: mpsc::Receiver<Heard>,
        shared: Arc<Shared>,
    ) -> Self {
        let ask_at = shared.view.load().uncounted().first().map(|_| Instant::now());
        Self {
            outside,
            options,
            shared,
            heard,
            known: start.known,
            token: start.token,
            write_at: None,
            writing: None,
            ask_at,
            counting: None,
            asked: None,
            asked_of: None,
        }
    }

    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            // One of each at a time.
            let write_at = self.write_at.filter(|_| self.writing.is_none());
            let ask_at = self.ask_at.filter(|_| self.counting.is_none());
            tokio::select! {
                // Told, or nobody holds the map any more.
                () = told(&mut stopped) => break,
                heard = self.heard.recv() => match heard {
                    Some(heard) => self.hear(heard),
                    None => break,
                },
                ended = end_of(&mut self.writing) => self.written(ended),
                ended = end_of(&mut self.counting) => self.counted(ended),
                () = sleep_until(write_at) => self.write(),
                () = sleep_until(ask_at) => self.count(),
            }
        }
        self.end_counting();
        if self.writing.is_some() {
            let ended = end_of(&mut self.writing).await;
            self.written(ended);
        }
        if self.write_at.is_some() {
            self.write();
        }
        if self.writing.is_some() {
            let ended = end_of(&mut self.writing).await;
            self.written(ended);
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Begun { mesh, epoch } => self.begun(Known { mesh, epoch }),
            Heard::Update { update, token } => self.take(update, token),
            Heard::Older(why) => {
                let mut about = self.shared.about.lock();
                about.older += 1;
                about.trouble = Some(why);
            }
            Heard::Broken(why) => self.trouble(why.to_string()),
        }
    }

    fn take(&mut self, update: Update, token: String) {
        let unchanged = match &update {
            Update::Whole { .. } => false,
            Update::Revision { changes, .. } => changes.is_empty(),
            Update::Reached { .. } => true,
        };
        let mut view = View::clone(&self.shared.view.load());
        view.take(update);
        // Not before: what is known may be of a history that the mesh has left behind.
        view.reach_epoch(self.known.epoch);
        let revision = view.revision();
        if self.ask_at.is_none() && self.counting.is_none() && !view.uncounted().is_empty() {
            self.ask_at = Some(Instant::now());
        }
        self.shared.view.store(Arc::new(view));
        self.token = token;
        self.write_within(if unchanged { WRITE_IDLE_EVERY } else { WRITE_EVERY });
        let mut about = self.shared.about.lock();
        about.heard = Some(Instant::now());
        about.heard_wall_ms = Some(wall_ms());
        about.confirmed = true;
        about.trouble = None;
        drop(about);
        self.reach(revision);
    }

    /// A watch begins. Where it is on another mesh than before, what comes next is all of that one.
    fn begun(&mut self, known: Known) {
        if !self.known.mesh.is_empty() && self.known.mesh != known.mesh {
            // Tokens of the one say nothing about the other.
            let mut about = self.shared.about.lock();
            about.cache_refused = Some(format!("it is of mesh {:?}, not of {:?}", self.known.mesh, known.mesh));
            about.confirmed = false;
            (about.heard, about.heard_wall_ms) = (None, None);
            drop(about);
            self.shared.view.store(Arc::default());
            self.shared.reached.send_replace(None);
            self.token.clear();
            self.write_at = None;
            self.end_counting();
        }
        self.known = known;
    }

    fn trouble(&self, why: String) {
        self.shared.about.lock().trouble = Some(why);
    }

    /// Tells those who wait, once everything can be located that is there.
    fn reach(&self, revision: u64) {
        if self.shared.view.load().uncounted().is_empty() {
            self.shared.reached.send_replace(Some(revision));
        }
    }

    fn end_counting(&mut self) {
        if let Some(counting) = self.counting.take() {
            counting.abort();
        }
        (self.ask_at, self.asked) = (None, None);
    }

    /// Asks how many shards the next of the uncounted namespaces has: one that cannot be counted holds up no other.
    fn count(&mut self) {
        self.ask_at = None;
        let uncounted = self.shared.view.load().uncounted();
        let is_next = |namespace: &&Arc<str>| self.asked.as_ref().is_none_or(|asked| *namespace > asked);
        let Some(namespace) = uncounted.iter().find(is_next).or(uncounted.first()) else {
            return;
        };
        self.counting = Some(tokio::spawn(self.outside.count(namespace)));
        self.asked_of = self.shared.view.load().made_at(namespace);
        self.asked = Some(Arc::clone(namespace));
    }

    fn counted(&mut self, ended: std::result::Result<Result<Count>, JoinError>) {
        let Some(namespace) = self.asked.clone() else {
            return;
        };
        match ended {
            Ok(Ok(count)) => {
                let mut view = View::clone(&self.shared.view.load());
                // Meanwhile it may be another of that name, of which the answer says nothing.
                if view.made_at(&namespace) == self.asked_of {
                    view.learn(&namespace, count);
                    self.shared.view.store(Arc::new(view));
                }
            }
            Ok(Err(why)) => self.trouble(why.to_string()),
            Err(error) => self.trouble(error.to_string()),
        }
        let view = self.shared.view.load_full();
        match view.uncounted().last() {
            None => {
                self.asked = None;
                if self.shared.about.lock().confirmed {
                    self.reach(view.revision());
                }
            }
            Some(last) if *last > namespace => self.ask_at = Some(Instant::now()),
            Some(_) => {
                self.asked = None;
                self.ask_at = Some(Instant::now() + ASK_EVERY);
            }
        }
    }

    /// The file is out of date: it is written within this time.
    fn write_within(&mut self, within: Duration) {
        let at = Instant::now() + within;
        self.write_at = Some(self.write_at.map_or(at, |before| before.min(at)));
    }

    fn write(&mut self) {
        self.write_at = None;
        let (Some(path), false) = (self.options.cache.clone(), self.token.is_empty()) else {
            return;
        };
        let (outside, view) = (Arc::clone(&self.outside), self.shared.view.load_full());
        let (mesh, token) = (self.known.mesh.clone(), self.token.clone());
        let namespace = self.options.namespace.clone().unwrap_or_default();
        let heard_ms = self.shared.about.lock().heard_wall_ms.unwrap_or_default();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let saved = Saved::of(&view, &mesh, &namespace, &token, heard_ms);
            outside.write(&path, &saved)
        }));
    }

    fn written(&mut self, ended: std::result::Result<io::Result<()>, JoinError>) {
        let failed = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if failed.is_some() {
            self.write_within(WRITE_EVERY);
        }
        self.shared.about.lock().cache_unwritten = failed;
    }
}

/// What a task came to; never where there is none.
async fn end_of<T>(task: &mut Option<JoinHandle<T>>) -> std::result::Result<T, JoinError> {
    match task {
        Some(running) => {
            let ended = running.await;
            *task = None;
            ended
        }
        None => std::future::pending().await,
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // That nobody is there to tell any more is as good.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

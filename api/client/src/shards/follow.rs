//! A watch on shards in a task of its own, which ends when nobody takes what it brings.

use std::time::Duration;

use proto::v1::{WatchShardsRequest, watch_message::Message};
use tokio::sync::mpsc;

use super::feed::{Feed, Known, Update};
use crate::{
    Client, Error,
    watch::{Event, Watch, WatchShards},
};

/// Steps that may wait to be taken; more of them wait in the connection.
const WAITING_MAX: usize = 64;
/// Pause before the next attempt, where a node cannot be gone on with.
const PAUSE: Duration = Duration::from_millis(500);

/// What a watch on shards brings.
#[derive(Debug)]
pub enum Heard {
    /// A node serves it.
    Begun {
        /// Of which mesh.
        mesh: String,
        /// At which epoch.
        epoch: u64,
    },
    /// A step, and where to go on behind it.
    Update {
        /// What is known now.
        update: Update,
        /// Where to go on.
        token: String,
    },
    /// A node shows what is older than what is known; another is asked.
    Older(String),
    /// Nothing is heard at present. It is tried again.
    Broken(Error),
}

/// Where a watch begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// Empty where it begins with all there is.
    pub(crate) token: String,
    pub(crate) known: Known,
    pub(crate) revision: u64,
}

/// Follows the shards that `request` selects, for as long as somebody takes what comes.
pub(crate) fn follow(client: Client, request: WatchShardsRequest, start: Start) -> mpsc::Receiver<Heard> {
    let (tell, heard) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let ended = tell.clone();
        let watching = Following {
            client,
            request,
            feed: Feed::from(start.known, start.revision),
            token: start.token,
            tell,
        };
        tokio::select! {
            () = watching.run() => {}
            () = ended.closed() => {}
        }
    });
    heard
}

struct Following {
    client: Client,
    request: WatchShardsRequest,
    feed: Feed,
    /// Where to go on behind everything that was passed on.
    token: String,
    tell: mpsc::Sender<Heard>,
}

impl Following {
    async fn run(mut self) {
        let mut watch = self.watch();
        loop {
            match watch.next().await {
                Ok(Event::Message { message, .. }) => {
                    if self.took(&mut watch, message).await.is_none() {
                        return;
                    }
                }
                Ok(Event::Interrupted { why, .. }) => {
                    self.feed.broke();
                    if self.tell.send(Heard::Broken(why)).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    self.feed.broke();
                    // Its history is not kept any more, or was cut off: what there is now is asked for anew.
                    if matches!(why.code(), "compacted" | "diverged" | "token_mismatch") {
                        self.token.clear();
                    }
                    if self.tell.send(Heard::Broken(why)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                    watch = self.watch();
                }
            }
        }
    }

    fn watch(&self) -> Watch<WatchShards> {
        self.client.watch::<WatchShards>(WatchShardsRequest {
            token: self.token.clone(),
            snapshot: true,
            ..self.request.clone()
        })
    }

    /// None where nobody takes it any more.
    async fn took(&mut self, watch: &mut Watch<WatchShards>, message: proto::v1::WatchMessage) -> Option<()> {
        let begun = matches!(&message.message, Some(Message::Begun(_)));
        let before = begun.then(|| self.feed.known().mesh.clone());
        match self.feed.take(message) {
            Ok(update) => {
                if let Some(before) = before {
                    let Known { mesh, epoch } = self.feed.known().clone();
                    if !before.is_empty() && before != mesh && !self.token.is_empty() {
                        // It would go on from what is known of another mesh.
                        self.token.clear();
                        *watch = self.watch();
                        return Some(());
                    }
                    self.tell.send(Heard::Begun { mesh, epoch }).await.ok()?;
                }
                if let Some(update) = update {
                    watch.token().clone_into(&mut self.token);
                    let token = self.token.clone();
                    self.tell.send(Heard::Update { update, token }).await.ok()?;
                }
            }
            Err(older) => {
                self.feed.broke();
                watch.elsewhere();
                // Not behind what was refused.
                *watch = self.watch();
                self.tell.send(Heard::Older(older.0)).await.ok()?;
                tokio::time::sleep(PAUSE).await;
            }
        }
        Some(())
    }
}

//! Which peer serves which key: a map that is kept up to date by a watch, and is asked without a call.
//!
//! [`ShardMap`] is what routers hold. It answers from memory ([`ShardMap::locate`]: well under a microsecond), takes every
//! revision whole, goes on routing while no node can be reached (and says since when it has heard nothing:
//! [`Standing`]), and begins with what an earlier process left on disk. What it never does is go back: not to an older
//! [`Token`] of a shard, not to a mesh with an older epoch, whether an old file says so or a node that lags behind.
//!
//! It deliberately does not own: what is done with a shard by the peer that serves it (that is [`crate::peer`]).

mod cache;
mod feed;
mod follow;
mod keep;
mod keeper;
mod table;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use proto::v1;
use tokio::time::Instant;

use crate::{Client, Result};

pub use feed::{Change, Known, Update};
pub use follow::Heard;
pub(crate) use follow::{Start, follow};
pub use table::{Cell, Located, Miss};

use keep::Kept;
use table::View;

/// The right to serve a shard. Tokens of one shard only grow; the mesh's epoch goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token {
    /// The mesh's epoch: counts failovers.
    pub mesh_epoch: u64,
    /// The shard's epoch: counts its owners.
    pub shard_epoch: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.mesh_epoch, self.shard_epoch)
    }
}

impl From<Option<v1::FencingToken>> for Token {
    fn from(token: Option<v1::FencingToken>) -> Self {
        let token = token.unwrap_or_default();
        Self {
            mesh_epoch: token.mesh_epoch,
            shard_epoch: token.shard_epoch,
        }
    }
}

impl From<Token> for v1::FencingToken {
    fn from(token: Token) -> Self {
        Self {
            mesh_epoch: token.mesh_epoch,
            shard_epoch: token.shard_epoch,
        }
    }
}

/// How a map stands to the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Up to which revision everything is in it; 0 before there is anything.
    pub revision: u64,
    /// The mesh's epoch, as far as the map knows.
    pub epoch: u64,
    /// True once it was heard from the mesh itself, and not only from the file of an earlier process.
    pub confirmed: bool,
    /// Since when the map may be out of date, in milliseconds since 1970; none while a node keeps telling it that nothing
    /// was left out.
    pub stale_since_ms: Option<u64>,
    /// How long ago that was last told; as told by the file, where nothing else was heard yet.
    pub age: Duration,
    /// Why the mesh is not heard, where it is not.
    pub trouble: Option<String>,
    /// Why the file of an earlier process was not used, where it was there.
    pub cache_refused: Option<String>,
    /// Why the file cannot be written, where it cannot.
    pub cache_unwritten: Option<String>,
    /// How often something older than what is known was refused: a token, or a node behind it.
    pub refused_older: u64,
}

/// How a map is kept.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The one namespace that it is of; all where absent.
    pub namespace: Option<String>,
    /// The file that it is kept in for the next process; nowhere where absent. Written by rename, at most once a second; once a
    /// minute while no shard changes.
    pub cache: Option<PathBuf>,
}

/// Which peer serves which key. Cheap to clone; the last clone that is dropped ends the watch.
///
/// ```no_run
/// # extern crate meshkit_api_client as api_client;
/// # async fn example(client: api_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use api_client::shards::{Options, ShardMap};
///
/// let map = ShardMap::start(&client, Options { namespace: Some("orders".into()), ..Options::default() }).await;
/// map.wait(Duration::from_secs(10)).await?;
/// let located = map.locate("orders", b"customer-17")?;
/// println!("shard {} is served by {:?} under {}", located.shard(), located.owner(), located.token());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ShardMap {
    kept: Arc<Kept>,
}

impl ShardMap {
    /// Begins to keep a map: from the file, where there is one that is whole, and from the mesh as soon as a node is
    /// reached. The credential needs `mesh.observe`.
    pub async fn start(client: &Client, options: Options) -> Self {
        Self {
            kept: Kept::start(client.clone(), options).await,
        }
    }

    /// A map that nobody keeps: for simulations, and tests of what routes by one. A namespace has as many shards as are here.
    pub fn fixed(revision: u64, shards: Vec<v1::Shard>) -> Self {
        let mut view = View::default();
        view.take(Update::Whole { revision, shards });
        view.count_as_they_are();
        Self {
            kept: Kept::fixed(view),
        }
    }

    /// Where a key is served, as far as is known now. Takes no call and never waits.
    ///
    /// # Errors
    /// What the map does not have: the namespace, or this shard of it.
    pub fn locate(&self, namespace: &str, key: &[u8]) -> std::result::Result<Located, Miss> {
        self.kept.view().locate(namespace, key)
    }

    /// One shard by its number.
    ///
    /// # Errors
    /// As [`ShardMap::locate`].
    pub fn shard(&self, namespace: &str, shard: u32) -> std::result::Result<Located, Miss> {
        self.kept.view().shard(namespace, shard)
    }

    /// Everything in it, at one revision, in order of namespace and number.
    pub fn shards(&self) -> (u64, Vec<Arc<Cell>>) {
        let view = self.kept.view();
        (view.revision(), view.cells())
    }

    /// How it stands to the mesh.
    pub fn standing(&self) -> Standing {
        self.kept.standing()
    }

    /// Waits until the mesh itself has told everything there is.
    ///
    /// # Errors
    /// `deadline_exceeded` after `within`, with what kept it from that.
    pub async fn wait(&self, within: Duration) -> Result<()> {
        self.kept.wait(0, Instant::now() + within).await
    }

    /// Waits until everything up to a revision is in it.
    ///
    /// # Errors
    /// As [`ShardMap::wait`].
    pub async fn reach(&self, revision: u64, within: Duration) -> Result<()> {
        self.kept.wait(revision, Instant::now() + within).await
    }

    /// Stops keeping it, and writes the file a last time.
    pub async fn close(self) {
        self.kept.close().await;
    }
}

#[cfg(test)]
mod tests;

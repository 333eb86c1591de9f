//! Watches: streams that are taken up again where they broke off, on whatever node answers.

use std::time::Duration;

use proto::v1::{self, watch_audit_message, watch_message};
use tokio::time::Instant;

use crate::{CallOptions, Client, Error, Method, Result, Stream};

/// How long to pause after a stream that ended before it brought anything, so that a node that ends all of them is not
/// asked in a loop.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a node may say nothing at the least; it says something within every progress interval.
const SILENCE_MIN: Duration = Duration::from_secs(5);
/// The progress interval where a request names none.
const PROGRESS: Duration = Duration::from_secs(1);

/// What a message of a watch is, whatever it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first of a stream: who serves it, and how.
    Begun,
    /// A piece of what there is; the last one says so.
    Snapshot {
        /// Whether it is whole with this piece.
        last: bool,
    },
    /// One revision, whole.
    Revision,
    /// Nothing up to here was left out.
    Progress,
}

/// An RPC whose answer is a watch.
pub trait WatchMethod: Method {
    /// Goes on behind a token.
    fn resume(request: &mut Self::Request, token: String);
    /// The request's own progress interval.
    fn progress_interval(request: &Self::Request) -> Option<&prost_types::Duration>;
    /// What a message is, its token and its revision; none where this program does not know its kind.
    fn read(message: &Self::Response) -> Option<(Part, &str, u64)>;
}

/// What a watch brings.
#[derive(Debug)]
pub enum Event<T> {
    /// What the mesh sent.
    Message {
        /// What it is.
        part: Part,
        /// Itself.
        message: T,
    },
    /// The stream broke off, and is taken up again: nothing is missed and nothing comes twice.
    Interrupted {
        /// Why it broke off.
        why: Error,
        /// True where it begins anew, with a whole snapshot: what came of the one before is to be forgotten.
        anew: bool,
    },
}

/// A watch. Dropping it ends it.
///
/// It moves to another node where one fails, and goes on behind the last token, so that every revision comes once and in
/// order; that is checked here, too.
pub struct Watch<M: WatchMethod> {
    client: Client,
    request: M::Request,
    options: CallOptions,
    patience: Option<Duration>,
    stream: Option<Stream<M::Response>>,
    token: String,
    revision: u64,
    /// Since when no stream brought anything.
    failing: Option<Instant>,
}

impl Client {
    /// Begins a watch. Connects with the first [`Watch::next`].
    pub fn watch<M: WatchMethod>(&self, request: M::Request) -> Watch<M> {
        Watch {
            client: self.clone(),
            request,
            options: CallOptions::default(),
            patience: None,
            stream: None,
            token: String::new(),
            revision: 0,
            failing: None,
        }
    }
}

impl<M: WatchMethod> Watch<M> {
    /// Gives up after no node could be watched for this long; never otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Where to go on after everything that was taken; empty before the first token. Good on any node.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Leaves the node that serves it for another, and goes on there behind the same token.
    pub fn elsewhere(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.client.avoid(&stream.meta.endpoint);
        }
    }

    /// The next of it. Safe to be dropped while it waits.
    ///
    /// # Errors
    /// What cannot be gone on from: `compacted`, `diverged`, `token_mismatch`, a credential that is refused, a bad
    /// filter; and after [`Watch::patience`] whatever failed last.
    pub async fn next(&mut self) -> Result<Event<M::Response>> {
        let Some(stream) = &mut self.stream else {
            return self.begin().await;
        };
        match stream.next().await {
            Ok(Some(message)) => self.took(message),
            Ok(None) => {
                let detail = format!("{} ended the watch without a word", stream.meta.endpoint);
                let why = Error::local("unavailable", tonic::Code::Unavailable, detail, "").into_retryable();
                self.interrupted(why)
            }
            Err(why) => self.interrupted(why),
        }
    }

    /// Opens a stream and takes its first message.
    async fn begin(&mut self) -> Result<Event<M::Response>> {
        if self.failing.is_some() {
            tokio::time::sleep(PAUSE).await;
        }
        let mut request = self.request.clone();
        if !self.token.is_empty() {
            M::resume(&mut request, self.token.clone());
        }
        let silence = silence_max(M::progress_interval(&request));
        match self.client.open::<M>(request, self.options.clone()).await {
            Ok(stream) => {
                let mut stream = stream.silent_for(silence);
                match stream.next().await {
                    Ok(Some(message)) => {
                        self.stream = Some(stream);
                        self.took(message)
                    }
                    Ok(None) => self.interrupted(Error::deadline("the watch ended at once", "")),
                    Err(why) => self.interrupted(why),
                }
            }
            Err(why) => self.interrupted(why),
        }
    }

    fn took(&mut self, message: M::Response) -> Result<Event<M::Response>> {
        let Some((part, token, revision)) = M::read(&message) else {
            return Err(Error::local(
                "internal",
                tonic::Code::Internal,
                "the watch brought a message of a kind that this program does not know",
                "use the SDK of the mesh's release",
            ));
        };
        match part {
            Part::Revision if revision <= self.revision => {
                let detail = format!("the watch brought revision {revision} after {}", self.revision);
                let hint = "report this: no watch goes back or repeats anything";
                return Err(Error::local("internal", tonic::Code::Internal, detail, hint));
            }
            Part::Revision | Part::Progress | Part::Snapshot { last: true } => {
                self.revision = self.revision.max(revision);
                self.failing = None;
            }
            Part::Begun | Part::Snapshot { last: false } => {}
        }
        if !token.is_empty() {
            token.clone_into(&mut self.token);
        }
        Ok(Event::Message { part, message })
    }

    /// The stream is over. An error where going on is of no use.
    fn interrupted(&mut self, why: Error) -> Result<Event<M::Response>> {
        self.elsewhere();
        let since = *self.failing.get_or_insert_with(Instant::now);
        let over = self.patience.is_some_and(|patience| since.elapsed() >= patience);
        if over || !goes_on(&why) {
            return Err(why);
        }
        let anew = self.token.is_empty();
        Ok(Event::Interrupted { why, anew })
    }
}

/// Whether the same watch can be had again, here or elsewhere.
fn goes_on(why: &Error) -> bool {
    // `future`: the node that was asked is behind the one before.
    why.retryable() || matches!(why.code(), "future" | "not_leader" | "resource_exhausted")
}

fn silence_max(interval: Option<&prost_types::Duration>) -> Duration {
    let interval = interval
        .and_then(|interval| Duration::try_from(*interval).ok())
        .unwrap_or(PROGRESS);
    interval.saturating_mul(3).max(SILENCE_MIN)
}

macro_rules! watches {
    ($($(#[$doc:meta])* $marker:ident($name:literal): $request:ident -> $response:ident, $read:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $marker;

            impl Method for $marker {
                type Request = v1::$request;
                type Response = v1::$response;
                const PATH: &'static str = concat!("/meshkit.v1.WatchService/", $name);
                const MUTATION: bool = false;
                fn key(_: &mut Self::Request) -> Option<&mut String> {
                    None
                }
                fn is_dry_run(_: &Self::Request) -> bool {
                    false
                }
            }

            impl WatchMethod for $marker {
                fn resume(request: &mut Self::Request, token: String) {
                    request.token = token;
                }
                fn progress_interval(request: &Self::Request) -> Option<&prost_types::Duration> {
                    request.progress_interval.as_ref()
                }
                fn read(message: &Self::Response) -> Option<(Part, &str, u64)> {
                    Some(($read(message)?, &message.token, message.revision))
                }
            }
        )*

        #[cfg(test)]
        pub(crate) const ALL: &[(&str, bool)] = &[$(($marker::PATH, $marker::MUTATION)),*];
    };
}

watches! {
    /// Records of all kinds.
    WatchMesh("Watch"): WatchRequest -> WatchMessage, part_of;
    /// Peers.
    WatchPeers("WatchPeers"): WatchPeersRequest -> WatchMessage, part_of;
    /// Operations.
    WatchOperations("WatchOperations"): WatchOperationsRequest -> WatchMessage, part_of;
    /// Descriptors of clusters.
    WatchClusters("WatchClusters"): WatchClustersRequest -> WatchMessage, part_of;
    /// Settings.
    WatchConfig("WatchConfig"): WatchConfigRequest -> WatchMessage, part_of;
    /// Requests for approval.
    WatchApprovals("WatchApprovals"): WatchApprovalsRequest -> WatchMessage, part_of;
    /// Namespaces.
    WatchNamespaces("WatchNamespaces"): WatchNamespacesRequest -> WatchMessage, part_of;
    /// Shards.
    WatchShards("WatchShards"): WatchShardsRequest -> WatchMessage, part_of;
    /// The audit trail.
    WatchAudit("WatchAudit"): WatchAuditRequest -> WatchAuditMessage, part_of_audit;
}

fn part_of(message: &v1::WatchMessage) -> Option<Part> {
    Some(match message.message.as_ref()? {
        watch_message::Message::Begun(_) => Part::Begun,
        watch_message::Message::Snapshot(snapshot) => Part::Snapshot { last: snapshot.last },
        watch_message::Message::Unit(_) => Part::Revision,
        watch_message::Message::Progress(_) => Part::Progress,
    })
}

fn part_of_audit(message: &v1::WatchAuditMessage) -> Option<Part> {
    Some(match message.message.as_ref()? {
        watch_audit_message::Message::Begun(_) => Part::Begun,
        watch_audit_message::Message::Record(_) => Part::Revision,
        watch_audit_message::Message::Progress(_) => Part::Progress,
    })
}

//! Calls whose answer is a stream: the way to a node that answers is that of any other call, then messages come until
//! the stream is over.

use std::{sync::atomic::Ordering, time::Duration};

use proto::v1::{BackupChunk, SaveBackupRequest};
use tokio::time::Instant;

use super::{
    Client, Shared,
    attempt::{self, Failed},
    route::{Next, ROUNDS_MAX, Route},
};
use crate::{CallOptions, Consistency, Error, Meta, Method, Result, methods::SaveBackup};

/// How long a stream may bring nothing: longer than a node waits for its disk.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A stream of messages.
pub struct Stream<T> {
    /// What came with the stream's beginning.
    pub meta: Meta,
    messages: tonic::Streaming<T>,
    silence_max: Duration,
}

impl<T> Stream<T> {
    /// Takes a silence of this length for a node that is gone.
    #[must_use]
    pub fn silent_for(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    /// The next message; none after the last. A stream that fails does not go on: ask for it again.
    ///
    /// # Errors
    /// What the mesh answers in the midst of it; `unavailable` where the connection broke; `deadline_exceeded` where
    /// nothing came for 45 s, or for as long as [`Stream::silent_for`] says.
    pub async fn next(&mut self) -> Result<Option<T>> {
        match tokio::time::timeout(self.silence_max, self.messages.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => {
                let error = Error::from_status(&status);
                if error.is_remote() {
                    return Err(error);
                }
                let detail = format!("{} broke off: {}", self.meta.endpoint, error.detail());
                Err(Error::local("unavailable", tonic::Code::Unavailable, detail, "").into_retryable())
            }
            Err(_) => {
                let waited = crate::duration::format(self.silence_max);
                let detail = format!("{} sent nothing for {waited}", self.meta.endpoint);
                Err(Error::deadline(detail, "ask another node"))
            }
        }
    }
}

impl Client {
    /// Begins a backup of the whole mesh. [`crate::backup::Receiver`] tells whether what comes is whole.
    ///
    /// [`Consistency::Local`](crate::Consistency::Local): what the answering node has applied, also where there is no
    /// quorum. The audit trail is not told then.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn save_backup(
        &self,
        request: SaveBackupRequest,
        consistency: Option<Consistency>,
    ) -> Result<Stream<BackupChunk>> {
        let options = CallOptions {
            consistency,
            ..CallOptions::default()
        };
        self.open::<SaveBackup>(request, options).await
    }

    /// Begins the next call elsewhere, where there is an elsewhere.
    pub(crate) fn avoid(&self, endpoint: &str) {
        let shared = &self.shared;
        let at = shared.endpoints.iter().position(|known| known.to_string() == endpoint);
        if let Some(at) = at {
            let next = (at + 1) % shared.endpoints.len();
            shared.current.store(next, Ordering::Relaxed);
        }
    }

    /// Begins a stream. The options' timeout is for its beginning alone.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn open<M: Method>(&self, request: M::Request, options: CallOptions) -> Result<Stream<M::Response>> {
        open::<M>(&self.shared, &request, &options).await
    }
}

async fn open<M: Method>(shared: &Shared, request: &M::Request, options: &CallOptions) -> Result<Stream<M::Response>> {
    let deadline = Instant::now() + options.timeout.unwrap_or(shared.timeout);
    let only = options.only.as_ref().map(std::slice::from_ref);
    let rounds = if options.once { 1 } else { ROUNDS_MAX };
    let mut route = Route::new(only.unwrap_or(&shared.endpoints), rounds);
    let mut endpoint = options.only.clone().unwrap_or_else(|| shared.start(false));
    loop {
        let (error, next) = match attempt::open::<M>(shared, &endpoint, request, options, deadline).await {
            Ok((meta, messages)) => {
                shared.answered(&endpoint, false);
                return Ok(Stream {
                    meta,
                    messages,
                    silence_max: SILENCE_MAX,
                });
            }
            Err(failed) => {
                shared.failed(&endpoint);
                match failed {
                    Failed::NotConnected(error) => {
                        let next = route.not_connected(&endpoint, error, shared.entropy.as_ref());
                        (shared.cannot_connect(route.attempts()), next)
                    }
                    Failed::Refused { error, broke } => {
                        let next = route.refused(&endpoint, &error, broke, shared.entropy.as_ref());
                        (error, next)
                    }
                }
            }
        };
        match next {
            Next::Ask { endpoint: to, delay } if !options.once && Instant::now() + delay < deadline => {
                tokio::time::sleep(delay).await;
                endpoint = options.only.clone().unwrap_or(to);
            }
            Next::Ask { .. } | Next::Unreachable | Next::Stop => return Err(error),
        }
    }
}

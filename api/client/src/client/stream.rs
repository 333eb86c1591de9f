//! Calls whose answer is a stream: the way to a node that answers is that of any other call, then messages come until
//! the stream is over.

use std::{marker::PhantomData, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::{
    codec::Wire,
    v1::{BackupChunk, SaveBackupRequest},
};
use tokio::time::Instant;

use super::{
    Client, Shared,
    attempt::{self, Failed},
    route::{Next, ROUNDS_MAX, Route},
};
use crate::{
    CallOptions, Consistency, Error, Meta, Method, Result,
    methods::{Rpc, SaveBackup},
};

/// How long a stream may bring nothing: longer than a node waits for its disk.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A stream of messages.
pub struct Stream<T> {
    /// What came with the stream's beginning.
    pub meta: Meta,
    messages: tonic::Streaming<Bytes>,
    silence_max: Duration,
    of: PhantomData<fn() -> T>,
}

impl<T: Wire> Stream<T> {
    /// Takes a silence of this length for a node that is gone.
    #[must_use]
    pub fn silent_for(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    /// The next message; none after the last. A stream that fails does not go on: ask for it again.
    ///
    /// # Errors
    /// What the mesh answers in the midst of it; `unavailable` where the connection broke, or a message is none of the contract; `deadline_exceeded` where
    /// nothing came for 45 s, or for as long as [`Stream::silent_for`] says.
    pub async fn next(&mut self) -> Result<Option<T>> {
        let Some(bytes) = self.next_bytes().await? else {
            return Ok(None);
        };
        T::from_wire(bytes)
            .map(Some)
            .map_err(|why| self.broke_off(&why.to_string()))
    }

    fn broke_off(&self, why: &str) -> Error {
        let detail = format!("{} broke off: {why}", self.meta.endpoint);
        Error::local("unavailable", tonic::Code::Unavailable, detail, "").into_retryable()
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>> {
        match tokio::time::timeout(self.silence_max, self.messages.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => {
                let error = Error::from_status(&status);
                if error.is_remote() {
                    return Err(error);
                }
                Err(self.broke_off(error.detail()))
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
        let (rpc, request) = (Rpc::of::<M>(), request.to_wire());
        let begun: BoxFuture<'_, _> = Box::pin(open(&self.shared, rpc, request, options));
        let (meta, messages) = begun.await?;
        Ok(Stream {
            meta,
            messages,
            silence_max: SILENCE_MAX,
            of: PhantomData,
        })
    }
}

async fn open(
    shared: &Shared,
    rpc: Rpc,
    request: Bytes,
    options: CallOptions,
) -> Result<(Meta, tonic::Streaming<Bytes>)> {
    let deadline = Instant::now() + options.timeout.unwrap_or(shared.timeout);
    let only = options.only.as_ref().map(std::slice::from_ref);
    let rounds = if options.once { 1 } else { ROUNDS_MAX };
    let mut route = Route::new(only.unwrap_or(&shared.endpoints), rounds);
    let mut endpoint = options.only.clone().unwrap_or_else(|| shared.start(false));
    loop {
        let (error, next) = match attempt::open(shared, &endpoint, rpc, &request, &options, deadline).await {
            Ok(begun) => {
                shared.answered(&endpoint, false);
                return Ok(begun);
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

//! How a peer speaks with the mesh.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use proto::v1::{AcknowledgeMoveRequest, HeartbeatRequest, HeartbeatResponse, WatchShardsRequest};
use tokio::sync::mpsc;

use crate::{
    CallOptions, Client, Result, methods,
    shards::{Heard, Known, Start, follow},
};

/// How long one heartbeat is tried: what is answered later has lost much of its lease.
const BEAT_WITHIN: Duration = Duration::from_secs(2);
/// How long one node may take with it, before another is asked.
const BEAT_ATTEMPT: Duration = Duration::from_secs(1);

/// What a peer hears and says. [`ClientWire`] is the real one.
pub trait Wire: Send + Sync + 'static {
    /// Sends a heartbeat.
    fn heartbeat(&self, request: HeartbeatRequest) -> BoxFuture<'static, Result<HeartbeatResponse>>;
    /// Says that a step of a move is done.
    fn acknowledge(&self, request: AcknowledgeMoveRequest) -> BoxFuture<'static, Result<()>>;
    /// Follows the shards that the request selects, beginning with all of them; ends when the receiver is dropped. A node that
    /// shows the mesh that is known at an earlier epoch is not listened to.
    fn follow(&self, request: WatchShardsRequest, known: Known) -> mpsc::Receiver<Heard>;
}

/// Over a client of the mesh.
pub struct ClientWire {
    client: Client,
}

impl ClientWire {
    /// With the peer's own credential.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Wire for ClientWire {
    fn heartbeat(&self, request: HeartbeatRequest) -> BoxFuture<'static, Result<HeartbeatResponse>> {
        let client = self.client.clone();
        let options = CallOptions {
            timeout: Some(BEAT_WITHIN),
            attempt_timeout: Some(BEAT_ATTEMPT),
            ..CallOptions::default()
        };
        async move { Ok(client.call::<methods::Heartbeat>(request, options).await?.message) }.boxed()
    }

    fn acknowledge(&self, request: AcknowledgeMoveRequest) -> BoxFuture<'static, Result<()>> {
        let client = self.client.clone();
        async move { client.acknowledge_move(request).await.map(drop) }.boxed()
    }

    fn follow(&self, request: WatchShardsRequest, known: Known) -> mpsc::Receiver<Heard> {
        let start = Start {
            known,
            ..Start::default()
        };
        follow(self.client.clone(), request, start)
    }
}

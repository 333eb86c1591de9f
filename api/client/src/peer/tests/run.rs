//! The peer's task, over a wire that the test holds the other end of.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use proto::v1::{AcknowledgeMoveRequest, HeartbeatRequest, HeartbeatResponse, WatchShardsRequest};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{
    Peer, Result,
    peer::{Duty, Wire},
    shards::{Heard, Known},
};

/// Answers every heartbeat with a lease, and hands over what else is said.
struct Line {
    acks: mpsc::UnboundedSender<AcknowledgeMoveRequest>,
    heard: Mutex<Option<mpsc::Receiver<Heard>>>,
}

impl Wire for Line {
    fn heartbeat(&self, _: HeartbeatRequest) -> BoxFuture<'static, Result<HeartbeatResponse>> {
        let answer = HeartbeatResponse {
            lease: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            next: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            epoch: 1,
            ..HeartbeatResponse::default()
        };
        async move { Ok(answer) }.boxed()
    }

    fn acknowledge(&self, request: AcknowledgeMoveRequest) -> BoxFuture<'static, Result<()>> {
        self.acks.send(request).unwrap();
        async { Ok(()) }.boxed()
    }

    fn follow(&self, _: WatchShardsRequest, _: Known) -> mpsc::Receiver<Heard> {
        self.heard.lock().take().unwrap()
    }
}

/// Panics as often as it is told to, and says when it begins.
struct Clumsy {
    started: mpsc::UnboundedSender<Token>,
    /// Panics in the call itself, and not while it is waited for.
    at_once: bool,
    stops_well: AtomicBool,
}

impl Duty for Clumsy {
    fn prepare(&self, _: &ShardKey) -> BoxFuture<'static, std::result::Result<(), String>> {
        async { panic!("a prepare of the test") }.boxed()
    }

    fn abandon(&self, _: &ShardKey) {}

    fn start(&self, _: &ShardKey, token: Token) {
        self.started.send(token).unwrap();
    }

    fn stop(&self, _: &ShardKey, _: Token, _: Why) -> BoxFuture<'static, ()> {
        match (self.stops_well.load(Ordering::Relaxed), self.at_once) {
            (true, _) => async {}.boxed(),
            (false, true) => panic!("a stop of the test"),
            (false, false) => async { panic!("a stop of the test") }.boxed(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_leaves_no_shard_behind() {
    for at_once in [false, true] {
        let (acks, mut acked) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::channel(8);
        let (started, mut starts) = mpsc::unbounded_channel();
        let heard = Mutex::new(Some(heard));
        let duty = Arc::new(Clumsy {
            started,
            at_once,
            stops_well: AtomicBool::new(false),
        });
        let peer = Peer::over(Arc::new(Line { acks, heard }), "a", Arc::clone(&duty) as _);
        let serving = peer.serving();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(peer.run(async move { drop(stopped.await) }));
        let view = async |event| {
            let Event::View(update) = event else { unreachable!() };
            let token = String::new();
            tell.send(Heard::Update { update, token }).await.unwrap();
        };
        let mesh = "mesh".to_owned();
        tell.send(Heard::Begun { mesh, epoch: 1 }).await.unwrap();
        view(whole(5, vec![shard("a", 1)])).await;
        assert_eq!(starts.recv().await, Some(token(1)));

        // Its stop panics: nobody says that it has ended. The move is given up, and the shard is served again.
        view(is(6, moving("a", 1, "b", Step::Stopping, 6))).await;
        view(is(7, shard("a", 1))).await;
        assert_eq!(starts.recv().await, Some(token(1)));
        assert_eq!(serving.token(&key()), Some(token(1)));

        // Another that comes cannot be prepared, which is told.
        let coming = v1::Shard {
            shard: 1,
            ..moving("b", 1, "a", Step::Preparing, 8)
        };
        view(is(8, coming)).await;
        let ack = acked.recv().await.unwrap();
        assert_eq!(
            (ack.shard, ack.begun, ack.failed),
            (1, 8, true),
            "and nothing before it"
        );

        duty.stops_well.store(true, Ordering::Relaxed);
        view(is(9, moving("a", 1, "b", Step::Stopping, 9))).await;
        let ack = acked.recv().await.unwrap();
        assert_eq!((ack.shard, ack.begun, ack.failed), (0, 9, false));
        drop(stop);
        running.await.unwrap();
    }
}

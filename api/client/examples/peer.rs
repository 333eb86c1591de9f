//! A data-plane peer that takes part: run it with the environment of `mesh` and the peer's own token (`meshkit-node certs
//! token --peer rs-peer`), and its id as argument. The peer has to be registered. Ends after a minute, or with Ctrl-C.

#![allow(clippy::print_stdout, reason = "it is what an example does")]

use std::{sync::Arc, time::Duration};

use api_client::{
    Client, Context, Peer,
    context::Environment,
    peer::{Duty, Report, ShardKey, Why},
    shards::Token,
};
use futures::{FutureExt as _, future::BoxFuture};
use meshkit_api_client as api_client;

/// What the program does with its shards: here, it says so.
struct Says;

impl Duty for Says {
    fn prepare(&self, shard: &ShardKey) -> BoxFuture<'static, Result<(), String>> {
        println!("prepare {shard}");
        // Read its data; an error gives the move up.
        async { Ok(()) }.boxed()
    }

    fn abandon(&self, shard: &ShardKey) {
        println!("abandon {shard}");
    }

    fn start(&self, shard: &ShardKey, token: Token) {
        println!("start {shard} {token}");
    }

    fn stop(&self, shard: &ShardKey, token: Token, why: Why) -> BoxFuture<'static, ()> {
        println!("stop {shard} {token} {why:?}");
        // Wait for work that was begun; the next owner begins after it.
        async {}.boxed()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = std::env::args().nth(1).unwrap_or_else(|| "rs-peer".to_owned());
    let client = Client::new(&Context::load(&Default::default(), &Environment::from_process())?)?;
    let peer = Peer::new(client, &id, Arc::new(Says));
    // With every request: is there a token? Then serve, and send it with every write to whatever keeps the data.
    let serving = peer.serving();
    let peer = peer.reports(move || Report {
        capacity: 1_000,
        load: serving.tokens().len() as u64,
        ..Report::default()
    });
    peer.run(async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
    })
    .await;
    Ok(())
}

//! What the guide shows (`docs/api/shards.md`): run it with the environment of `mesh`.

#![allow(clippy::print_stdout, reason = "it is what an example does")]

use std::time::Duration;

use api_client::{
    Client, Context,
    context::Environment,
    shards::{Options, ShardMap},
};
use meshkit_api_client as api_client;
use proto::v1::{LocateShardRequest, SimulateShardsRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new(&Context::load(&Default::default(), &Environment::from_process())?)?;

    // A file beside it, `Options::cache`, lets the next process begin with what this one knew.
    let options = Options {
        namespace: Some("orders".to_owned()),
        ..Options::default()
    };
    let map = ShardMap::start(&client, options).await;
    map.wait(Duration::from_secs(10)).await?;

    // From memory: no call. The token goes with every write; whoever stores the data refuses a lesser one.
    let located = map.locate("orders", b"customer-17")?;
    println!("shard {} of 12, owned: {}", located.shard(), located.owner().is_some());
    println!("stale: {}", map.standing().stale_since_ms.is_some());

    // The mesh says the same.
    let request = LocateShardRequest {
        namespace: "orders".to_owned(),
        key: "customer-17".to_owned(),
    };
    let asked = client.locate_shard(request).await?.message;
    println!("as the mesh says: {}", located.owner() == Some(asked.owner.as_str()));

    // What it would take to do without a peer.
    let request = SimulateShardsRequest {
        namespace: "orders".to_owned(),
        without: vec![asked.owner],
        ..Default::default()
    };
    let simulated = client.simulate_shards(request).await?.message;
    println!("no more than has to: {}", simulated.moved == simulated.unavoidable);
    map.close().await;
    Ok(())
}

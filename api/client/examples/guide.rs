//! What the guide shows (`docs/api/rust.md`): run it with the environment of `mesh`.

#![allow(clippy::print_stdout, reason = "it is what an example does")]

use api_client::{
    Client, Context,
    context::Environment,
    watch::{Event, Part, WatchPeers},
};
use meshkit_api_client as api_client;
use proto::v1::{
    CordonPeerRequest, RegisterPeerRequest, UncordonPeerRequest, WatchPeersRequest, audit_record::record,
    watch_message::Message,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `MESH_CONTEXT`, or what `mesh` would use: any of the mesh's nodes will do.
    let client = Client::new(&Context::load(&Default::default(), &Environment::from_process())?)?;

    // Sent to whoever leads, again with the same key where an answer is lost: it is applied once.
    let register = RegisterPeerRequest {
        id: "rs-1".to_owned(),
        endpoints: vec!["10.0.0.7:8443".to_owned()],
        ..Default::default()
    };
    let peer = client.register_peer(register).await?.message;
    println!("{} {}", peer.id, peer.status().as_str_name());

    // Refusals are typed.
    let stale = UncordonPeerRequest {
        id: "rs-1".to_owned(),
        if_match: "stale".to_owned(),
        ..Default::default()
    };
    if let Err(error) = client.uncordon_peer(stale).await {
        println!("{} retryable: {}", error.code(), error.retryable());
    }

    // A watch goes on on another node where one fails; every revision comes once, in order.
    let mut watch = client.watch::<WatchPeers>(WatchPeersRequest {
        id: "rs-1".to_owned(),
        snapshot: true,
        ..Default::default()
    });
    loop {
        let (part, message) = match watch.next().await? {
            Event::Message { part, message } => (part, message),
            Event::Interrupted { .. } => continue,
        };
        match (part, message.message) {
            (Part::Begun, _) => println!("begun"),
            (Part::Snapshot { last: true }, _) => {
                println!("snapshot");
                let cordon = CordonPeerRequest {
                    id: "rs-1".to_owned(),
                    reason: "looks slow".to_owned(),
                    ..Default::default()
                };
                client.cordon_peer(cordon).await?;
            }
            (Part::Revision, Some(Message::Unit(unit))) => {
                let after = unit.changes.first().and_then(|change| change.after.as_ref());
                if let Some(record::Record::Peer(peer)) = after.and_then(|after| after.record.as_ref()) {
                    println!("{} {} {}", unit.action, peer.id, peer.status().as_str_name());
                }
                return Ok(());
            }
            _ => {}
        }
    }
}

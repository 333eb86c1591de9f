//! Who may say what: every refusal has its code, its count, and no effect.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SOON, World, register, soon, until};
use crate::RefusalCode;
use crate::env::{Purpose, Target};
use crate::net::NetError;
use crate::net::frame::{self, Frame, HELLO_BYTES_MAX};
use crate::net::message::{Lane, Message, PROTOCOL};
use crate::testing::{Network, config, endpoint};
use crate::types::{LogIdRow, VoteRow};

const NODE_2: &str = "spiffe://m1/cluster/c1/node/2";

/// What a node says first.
fn hello(mesh: &str, cluster: &str, from: u64, to: u64) -> Message {
    Message::Hello {
        protocol: PROTOCOL,
        mesh: mesh.into(),
        cluster: cluster.into(),
        from,
        to,
        lane: Lane::Append,
    }
}

/// Says one thing to node 1 with this certificate, and reads the answer and then the end.
async fn say(network: &Network, uri: Option<&str>, message: Message) -> Option<Message> {
    let target = Target {
        node: None,
        address: endpoint(1).raft,
        purpose: Purpose::Raft,
    };
    let (mut stream, _) = network.dialer(uri).dial(&target).await.unwrap();
    // Who is refused by certificate is not read from: it may be too late to write.
    if frame::write(&mut stream, &Frame::new(1, message)).await.is_ok() {
        stream.flush().await.ok();
    }
    let answer = tokio::time::timeout(SOON, frame::read(&mut stream, HELLO_BYTES_MAX))
        .await
        .expect("an answer in time")
        .expect("an answer")?;
    if matches!(answer.message, Message::Refused { .. }) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        end.expect("closed in time").expect("closed");
        assert!(rest.is_empty(), "nothing is said after a refusal");
    }
    Some(answer.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_is_refused_by_what_is_wrong_with_it() {
    let world = World::start(1, config()).await;
    let node = &world.nodes[&1];
    let mut other_protocol = hello("m1", "c1", 2, 1);
    if let Message::Hello { protocol, .. } = &mut other_protocol {
        *protocol += 1;
    }
    let cases = [
        (None, hello("m1", "c1", 2, 1), RefusalCode::NoCertificate),
        (
            Some("spiffe://m1/client/ops"),
            hello("m1", "c1", 2, 1),
            RefusalCode::NotANode,
        ),
        (
            Some("spiffe://m1/peer/p1"),
            hello("m1", "c1", 2, 1),
            RefusalCode::NotANode,
        ),
        (
            Some("spiffe://m2/cluster/c1/node/2"),
            hello("m1", "c1", 2, 1),
            RefusalCode::ForeignMesh,
        ),
        (
            Some("spiffe://m1/cluster/c2/node/2"),
            hello("m1", "c1", 2, 1),
            RefusalCode::ForeignCluster,
        ),
        (Some(NODE_2), hello("m2", "c1", 2, 1), RefusalCode::ForeignMesh),
        (Some(NODE_2), hello("m1", "c2", 2, 1), RefusalCode::ForeignCluster),
        (Some(NODE_2), hello("m1", "c1", 3, 1), RefusalCode::WrongNode),
        (Some(NODE_2), hello("m1", "c1", 2, 3), RefusalCode::WrongTarget),
        (Some(NODE_2), other_protocol, RefusalCode::Protocol),
        (Some(NODE_2), Message::ReadIndex, RefusalCode::Protocol),
    ];
    for (uri, message, expected) in cases {
        let before = node.refusals().get(expected);
        let what = format!("{uri:?} {message:?}");
        match say(&world.network, uri, message).await {
            Some(Message::Refused { code, detail }) if code == expected => assert!(!detail.is_empty(), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(node.refusals().get(expected), before + 1, "{what}");
    }
    // The very same, with nothing wrong: the cases above are refused for what they differ in.
    let welcome = say(&world.network, Some(NODE_2), hello("m1", "c1", 2, 1)).await;
    assert_eq!(welcome, Some(Message::Welcome { protocol: PROTOCOL }));
    world.propose(register(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_have_a_bound() {
    let mut config = config();
    config.net.connections = 1;
    let world = World::start(1, config).await;
    let held = world.speak(2, 1, Lane::Control);
    held.0.conn(soon()).await.unwrap();
    match say(&world.network, Some(NODE_2), hello("m1", "c1", 2, 1)).await {
        Some(Message::Refused { code, .. }) => assert_eq!(code, RefusalCode::TooMany),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.nodes[&1].refusals().get(RefusalCode::TooMany), 1);
}

/// What only a leader or candidate says, said by node `node`.
fn spoken_for(node: u64, term: u64) -> Vec<(Lane, Message)> {
    let vote = VoteRow {
        term,
        node,
        committed: true,
    };
    let asked = VoteRow {
        committed: false,
        ..vote
    };
    let last = Some(LogIdRow { term, index: 1 << 40 });
    let append = || Message::Append {
        session: 1,
        vote,
        prev: None,
        commit: None,
    };
    let ask = |pre| Message::Vote {
        pre,
        vote: asked,
        last,
        transfer: true,
    };
    vec![
        (Lane::Append, append()),
        (Lane::Control, append()),
        (Lane::Control, ask(false)),
        (Lane::Control, ask(true)),
        (
            Lane::Control,
            Message::Transfer {
                from: vote,
                to: 1,
                last,
            },
        ),
        (Lane::Snapshot, Message::SnapshotEnd { chunks: 0, vote }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_for_another_node_is_refused() {
    let world = World::start(1, config()).await;
    let node = &world.nodes[&1];
    let before = node.status();
    for (lane, message) in spoken_for(3, before.term + 50) {
        let what = format!("{message:?}");
        let counted = node.refusals().get(RefusalCode::WrongNode);
        match world.speak(2, 1, lane).ask(message, Vec::new()).await {
            Err(NetError::Refused { code, detail }) => {
                assert_eq!(code, RefusalCode::WrongNode, "{what}");
                assert!(detail.contains('2') && detail.contains('3'), "{detail}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(node.refusals().get(RefusalCode::WrongNode), counted + 1, "{what}");
    }
    // A term that cannot be counted on from there ends the connection, and nothing else.
    for (lane, message) in spoken_for(2, u64::MAX) {
        let answer = world.speak(2, 1, lane).ask(message, Vec::new()).await;
        assert!(matches!(answer, Err(NetError::Lost(_))), "{answer:?}");
    }
    let after = node.status();
    assert_eq!((after.term, after.role), (before.term, before.role), "nothing changed");
    world.propose(register(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_proposes_and_asks_nothing() {
    let world = World::start(1, config()).await;
    let revision = world.nodes[&1].view().state().mesh.position();
    let line = world.speak(9, 1, Lane::Control);
    for message in [Message::ReadIndex, Message::Propose { patience_ms: 1000 }] {
        match line.ask(message, Vec::new()).await {
            Err(NetError::Remote(why)) => assert!(why.contains("node 9 is not a member"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.nodes[&1].view().state().mesh.position(), revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_heard_by_nobody_any_more() {
    let world = World::start(3, config()).await;
    let leader = world.leader().await;
    let others = world.besides(&leader);
    let (gone, at) = (others[0], leader.node().0);
    // One connection from before, one from after.
    let open = world.speak(gone, at, Lane::Control);
    open.ask(Message::ReadIndex, Vec::new()).await.unwrap();
    let removed = leader.remove_node(statemachine::NodeId(gone), "alice".into(), "old".into(), false, soon());
    removed.await.unwrap();
    until("the removal is applied", || {
        let view = leader.view();
        view.state().cluster.is_removed(statemachine::NodeId(gone))
    })
    .await;
    for line in [open, world.speak(gone, at, Lane::Control)] {
        let before = leader.refusals().get(RefusalCode::Removed);
        match line.ask(Message::ReadIndex, Vec::new()).await {
            Err(NetError::Refused { code, .. }) => assert_eq!(code, RefusalCode::Removed),
            other => panic!("{other:?}"),
        }
        assert!(leader.refusals().get(RefusalCode::Removed) > before);
    }
}

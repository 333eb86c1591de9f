//! Who may take part (X1, X6): the Raft port, handing leadership over, and taking a node out for good.

use std::time::Duration;

use node_harness::{Mesh, Options, wait_until};
use serde::{Deserialize, Serialize};
use serde_json::json;
use statemachine::codec::{self, Format};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    bad_input::{foreign_ca, issued},
    wire::{Tls, Wire, runtime},
    world::{SOON, admin, agreed, audit, caller, client, dev_file, follower, leader, register, status_of, unique},
};

/// The first frames of the node-to-node protocol, as `raft/` has them: the order is the encoding.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Hello {
        protocol: u32,
        mesh: String,
        cluster: String,
        from: u64,
        to: u64,
        lane: Lane,
    },
    Welcome {
        protocol: u32,
    },
    Refused {
        code: Code,
        detail: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
enum Lane {
    Append,
    #[allow(dead_code, reason = "keeps the number of the others")]
    Control,
    #[allow(dead_code, reason = "keeps the number of the others")]
    Snapshot,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Code {
    NoCertificate,
    NotANode,
    ForeignMesh,
    ForeignCluster,
    WrongNode,
    WrongTarget,
    Removed,
    Protocol,
    TooMany,
}

/// What came of a connection to the Raft port.
#[derive(Debug)]
enum Came {
    /// It was let in.
    In,
    /// It was told why not.
    Told(Code, String),
    /// It was shut out before anything was said.
    Out(String),
}

/// Says hello on a node's Raft port.
fn knock(mesh: &Mesh, at: u64, identity: Option<&(Vec<u8>, Vec<u8>)>, from: u64, to: u64) -> Came {
    let hello = Message::Hello {
        protocol: 1,
        mesh: mesh.info().mesh.clone(),
        cluster: mesh.info().clusters[0].id.clone(),
        from,
        to,
        lane: Lane::Append,
    };
    let message = codec::encode(Format::Wire, &hello);
    let mut frame = Vec::new();
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    frame.extend_from_slice(&length(8 + 4 + message.len()));
    frame.extend_from_slice(&1_u64.to_be_bytes());
    frame.extend_from_slice(&length(message.len()));
    frame.extend_from_slice(&message);
    let tls = Tls::new(
        &std::fs::read(&mesh.info().ca).unwrap(),
        identity.map(|(cert, key)| (cert.as_slice(), key.as_slice())),
    );
    let address = mesh.node(at).unwrap().raft.clone();
    let answer = runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(15), async {
            let mut stream = tls.connect(&address, b"").await?;
            let said = |error: std::io::Error| error.to_string();
            stream.write_all(&frame).await.map_err(said)?;
            let length = stream.read_u32().await.map_err(said)?;
            let mut body = vec![0; usize::try_from(length).unwrap().min(4096)];
            stream.read_exact(&mut body).await.map_err(said)?;
            Ok::<_, String>(body)
        })
        .await
        .unwrap_or_else(|_| panic!("node {at} neither answered nor closed the connection"))
    });
    match answer.map(|body| codec::decode::<Message>(Format::Wire, message_of(&body)).unwrap()) {
        Ok(Message::Welcome { .. }) => Came::In,
        Ok(Message::Refused { code, detail }) => Came::Told(code, detail),
        Ok(other) => panic!("an answer to a hello: {other:?}"),
        Err(why) => Came::Out(why),
    }
}

/// The message of a frame; parts may follow it.
fn message_of(body: &[u8]) -> &[u8] {
    let length = u32::from_be_bytes(body[8..12].try_into().unwrap());
    &body[12..12 + usize::try_from(length).unwrap()]
}

/// The certificate and key that `dev` made for a node.
fn own(mesh: &Mesh, node: u64) -> (Vec<u8>, Vec<u8>) {
    let directory = mesh.node(node).unwrap().config.parent().unwrap().to_owned();
    (
        std::fs::read(directory.join("node.crt")).unwrap(),
        std::fs::read(directory.join("node.key")).unwrap(),
    )
}

#[test]
fn only_nodes_of_the_cluster_take_part() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    strangers_are_shut_out(&mesh);
    leadership_is_handed_over(&mesh);
    a_removed_node_stays_out(&mut mesh);
    agreed_without(&mesh, 3);
    mesh.stop().unwrap();
}

fn strangers_are_shut_out(mesh: &Mesh) {
    let target = leader(mesh);
    let before = agreed(mesh);
    let cluster = mesh.info().clusters[0].id.clone();
    let ca = (
        mesh.info().ca.to_str().unwrap().to_owned(),
        dev_file(mesh, "ca.key").to_str().unwrap().to_owned(),
    );
    let foreign = foreign_ca(mesh);
    let foreign = (
        foreign.0.to_str().unwrap().to_owned(),
        foreign.1.to_str().unwrap().to_owned(),
    );
    let node = |ca: &(String, String), mesh_id: &str, cluster: &str, number: &str| {
        issued(
            mesh,
            &[
                "node",
                "--ca",
                &ca.0,
                "--ca-key",
                &ca.1,
                "--mesh",
                mesh_id,
                "--cluster",
                cluster,
                "--node",
                number,
                "--host",
                "127.0.0.1",
            ],
        )
    };
    let id = mesh.info().mesh.as_str();

    let told = |came: Came, expected: Code| match came {
        Came::Told(code, detail) if code == expected => assert!(!detail.is_empty()),
        other => panic!("{expected:?}: {other:?}"),
    };
    // TLS itself shuts out who shows nothing, or what another authority has signed.
    for identity in [None, Some(node(&foreign, id, &cluster, "2"))] {
        match knock(mesh, target, identity.as_ref(), 2, target) {
            Came::Out(why) => assert!(
                why.contains("alert") || why.contains("closed") || why.contains("eof"),
                "{why}"
            ),
            other => panic!(
                "{} certificate: {other:?}",
                if identity.is_some() { "a foreign" } else { "no" }
            ),
        }
    }
    let client = issued(
        mesh,
        &[
            "client", "--ca", &ca.0, "--ca-key", &ca.1, "--mesh", id, "--name", "ops",
        ],
    );
    told(knock(mesh, target, Some(&client), 2, target), Code::NotANode);
    told(
        knock(mesh, target, Some(&node(&ca, id, "elsewhere", "2")), 2, target),
        Code::ForeignCluster,
    );
    told(
        knock(mesh, target, Some(&node(&ca, "elsewhere", &cluster, "2")), 2, target),
        Code::ForeignMesh,
    );

    // Ours, but not the one that it says it is, and not for the one that it speaks to.
    let ninth = node(&ca, id, &cluster, "9");
    match knock(mesh, target, Some(&ninth), 2, target) {
        Came::Told(Code::WrongNode, detail) => assert!(detail.contains('9') && detail.contains('2'), "{detail}"),
        other => panic!("another node's id: {other:?}"),
    }
    told(knock(mesh, target, Some(&own(mesh, 2)), 2, 77), Code::WrongTarget);
    // The real one is let in, so the ways above are tested for the right reason.
    assert!(matches!(knock(mesh, target, Some(&own(mesh, 2)), 2, target), Came::In));
    assert_eq!(agreed(mesh), before, "nothing changed");
}

/// M1: by REST at a follower, which carries it, and by gRPC; refused where nobody could take over.
fn leadership_is_handed_over(mesh: &Mesh) {
    for wire in [Wire::H1, Wire::Grpc] {
        let to = follower(mesh);
        let at = caller(mesh, to, wire, "admin").with("mesh-route", "forward");
        let status = at
            .call("TransferLeadership", json!({ "to": to, "reason": "a test" }))
            .ok();
        assert_eq!(status.json["leader"]["id"], to, "{status:?}");
        wait_until(SOON, "the new leader", || leader(mesh) == to).unwrap();
        let id = unique("after-transfer");
        register(mesh, &id);
    }
    let at = admin(mesh);
    at.call("TransferLeadership", json!({ "to": 77 })).refused("not_found");
    at.call("TransferLeadership", json!({ "to": leader(mesh) })).ok();
}

/// A removed node ends, does not come back under its id, and is heard by nobody.
fn a_removed_node_stays_out(mesh: &mut Mesh) {
    if leader(mesh) == 3 {
        admin(mesh).call("TransferLeadership", json!({ "to": 1 })).ok();
        wait_until(SOON, "node 1 to lead", || leader(mesh) == 1).unwrap();
    }
    admin(mesh)
        .call("RemoveMember", json!({ "id": 77 }))
        .refused("not_found");
    let removed = admin(mesh)
        .call(
            "RemoveMember",
            json!({ "id": 3, "reason": "worn out", "ticket": "CHG-3" }),
        )
        .ok();
    assert_eq!(removed.json["removed"], json!([3]), "{removed:?}");
    assert_eq!(removed.json["items"].as_array().unwrap().len(), 2, "{removed:?}");

    // It ends by itself, says so, and does so again.
    mesh.wait_ended(3, SOON).unwrap();
    let told = wait_until(SOON, "dev to report it", || {
        mesh.logs().contains("ended with exit code 6")
    });
    told.unwrap_or_else(|error| panic!("{error}: {}", mesh.logs()));
    mesh.restart(3).unwrap();
    let status = mesh.wait_ended(3, SOON).unwrap().unwrap();
    assert_eq!(status.code(), Some(6), "{}", mesh.logs());
    for node in [1, 2] {
        match knock(mesh, node, Some(&own(mesh, 3)), 3, node) {
            Came::Told(Code::Removed, detail) => assert!(detail.contains('3'), "{detail}"),
            other => panic!("a removed node at node {node}: {other:?}"),
        }
    }

    // The others go on, know it, and hold together with what they are.
    let id = unique("after-removal");
    register(mesh, &id);
    for node in [1, 2] {
        for wire in Wire::ALL {
            let members = caller(mesh, node, wire, "read").call("ListMembers", json!({})).ok();
            assert_eq!(members.json["removed"], json!([3]), "{members:?}");
        }
        let status = status_of(mesh, &client(mesh, "read"), node).unwrap();
        assert!(
            status.quorum && status.nodes.len() == 2 && status.voters_needed == 2,
            "{status:?}"
        );
        mesh.mesh_at(node, ["status"]).unwrap().ok().unwrap();
        mesh.mesh_at(node, ["audit", "verify"]).unwrap().ok().unwrap();
    }
    let refused = admin(mesh).call("RemoveMember", json!({ "id": 3 }));
    assert!(refused.is_ok(), "{refused:?}");
    let changed = audit(mesh)
        .into_iter()
        .filter(|record| record.target == format!("peer/{id}"))
        .count();
    assert_eq!(changed, 1);
}

fn agreed_without(mesh: &Mesh, removed: u64) {
    let client = client(mesh, "read");
    let mut last = Vec::new();
    let equal = wait_until(SOON, "the others at one revision", || {
        let others = mesh.ids().into_iter().filter(|&node| node != removed);
        last = others
            .map(|node| status_of(mesh, &client, node).map(|s| (s.revision, s.digest)))
            .collect();
        last.iter().all(|seen| seen.is_some() && *seen == last[0])
    });
    equal.unwrap_or_else(|error| panic!("{error}: {last:?}"));
}

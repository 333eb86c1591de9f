//! Three nodes: a follower reads, redirects, and carries requests to the leader when asked to.

use std::time::Duration;

use meshkit_api_server::Error;
use proto::v1::{self, peer_service_client::PeerServiceClient};
use serde_json::json;

use crate::world::{ADMIN, OBSERVE, OPERATE, READ, World};

#[tokio::test]
async fn a_follower_redirects_mutations() {
    let world = World::three().await;
    let (leader, follower) = (world.leader_number(), world.follower_number());
    let body = json!({ "id": "p1", "endpoints": ["h:1"] });
    let answer = world
        .at(follower, OPERATE, "POST", "/meshkit/peers", Some(body.clone()))
        .await;
    let problem = answer.refused(307, "not_leader");
    assert_eq!(
        answer.header("location"),
        format!("https://api-{leader}:1/meshkit/peers")
    );
    assert_eq!(
        problem["leader"],
        json!({ "id": leader, "api": format!("https://api-{leader}:1") })
    );
    let hint = problem["hint"].as_str().unwrap();
    assert!(
        hint.contains("Authorization") && hint.contains("Mesh-Route: forward"),
        "{hint}"
    );
    let mut peers = PeerServiceClient::new(world.channel(follower, None).await);
    let message = v1::RegisterPeerRequest {
        id: "p1".into(),
        endpoints: vec!["h:1".into()],
        ..Default::default()
    };
    let status = peers.register_peer(world.grpc(OPERATE, message)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let problem = Error::from_status(&status).problem().clone();
    assert_eq!(
        (problem.code.as_str(), problem.leader.unwrap().id),
        ("not_leader", leader)
    );
    // A dry run needs no leader.
    let preview = world.at(
        follower,
        OPERATE,
        "POST",
        "/meshkit/peers",
        Some(json!({ "id": "p1", "endpoints": ["h:1"], "dryRun": true })),
    );
    assert_eq!(preview.await.expect(200)["version"], 1);
    // A refusal by scope is the follower's own.
    world
        .at(follower, READ, "POST", "/meshkit/peers", Some(body))
        .await
        .refused(403, "scope_missing");
}

#[tokio::test]
async fn a_follower_carries_a_request_when_asked() {
    let world = World::three().await;
    let follower = world.follower_number();
    let body = json!({ "id": "p1", "endpoints": ["h:1"] });
    let forward = [
        ("mesh-route", "forward"),
        ("mesh-request-id", "my-request"),
        ("mesh-reason", "why"),
    ];
    let request = world.request(OPERATE, "POST", "/meshkit/peers", Some(body.clone()), &forward);
    let answer = world.h1(follower, None, request).await;
    let peer = answer.expect(200);
    assert_eq!(answer.header("etag"), format!("\"{}\"", peer["etag"].as_str().unwrap()));
    assert_eq!(answer.header("mesh-request-id"), "my-request");
    let request = world.request(OPERATE, "POST", "/meshkit/peers", Some(body), &forward);
    world.h1(follower, None, request).await.refused(409, "already_exists");

    let mut peers = PeerServiceClient::new(world.channel(follower, None).await);
    let mut cordon = world.grpc(
        OPERATE,
        v1::CordonPeerRequest {
            id: "p1".into(),
            ..Default::default()
        },
    );
    cordon.metadata_mut().insert("mesh-route", "forward".parse().unwrap());
    let cordoned = peers.cordon_peer(cordon).await.unwrap().into_inner();
    assert_eq!(cordoned.status(), v1::peer::Status::Cordoned);
    let mut missing = world.grpc(
        OPERATE,
        v1::CordonPeerRequest {
            id: "p2".into(),
            ..Default::default()
        },
    );
    missing.metadata_mut().insert("mesh-route", "forward".parse().unwrap());
    let status = peers.cordon_peer(missing).await.unwrap_err();
    assert_eq!(Error::from_status(&status).name(), "not_found");

    // The trail names the caller, its own transport and its own request.
    let trail = world
        .at(follower, OBSERVE, "GET", "/meshkit/audit?target=peer/p1", None)
        .await
        .expect(200);
    let first = &trail["items"][0];
    assert_eq!((&first["actor"], &first["transport"]), (&json!("alice"), &json!("h1")));
    assert_eq!(
        (&first["requestId"], &first["reason"]),
        (&json!("my-request"), &json!("why"))
    );
    assert_eq!(trail["items"][2]["transport"], "h2");
}

#[tokio::test]
async fn forwarding_ends_with_the_leader() {
    let world = World::three().await;
    let (leader, follower) = (world.leader_number(), world.follower_number());
    let send = |id: &str| {
        let body = Some(json!({ "id": id, "endpoints": ["h:1"] }));
        let headers = [("mesh-route", "forward"), ("mesh-timeout", "2s")];
        world.h1(
            follower,
            None,
            world.request(OPERATE, "POST", "/meshkit/peers", body, &headers),
        )
    };
    send("p1").await.expect(200);
    // Its API cannot be reached any more, though it leads: a typed refusal in time.
    world.node(leader).stop.cancel();
    world.network.cut(&raft::testing::endpoint(leader).api);
    let answer = send("p2").await;
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{answer:?}");
    assert_eq!(answer.json()["retryable"], true);
    // Another leads: requests find it.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    world
        .node(leader)
        .handle
        .shutdown(Duration::from_secs(5))
        .await
        .unwrap();
    loop {
        let answer = send("p3").await;
        if answer.status == 200 || (answer.status == 409 && answer.json()["code"] == "already_exists") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn every_node_reads_what_was_written() {
    let world = World::three().await;
    for round in 0..5 {
        let id = format!("p{round}");
        let etag = world.register(&id).await["etag"].clone();
        for node in 1..=3 {
            let found = world
                .at(node, READ, "GET", &format!("/meshkit/peers/{id}"), None)
                .await
                .expect(200);
            assert_eq!(found["etag"], etag, "node {node}");
        }
    }
    let local = world.request(READ, "GET", "/meshkit/peers", None, &[("mesh-consistency", "local")]);
    world.h1(world.follower_number(), None, local).await.expect(200);
}

#[tokio::test]
async fn status_and_leadership() {
    let world = World::three().await;
    let (leader, follower) = (world.leader_number(), world.follower_number());
    // A follower asks the leader, who alone knows the others' lag.
    let status = world
        .at(follower, READ, "GET", "/meshkit/status", None)
        .await
        .expect(200);
    assert_eq!(
        (&status["answeredBy"], &status["leader"]["id"]),
        (&json!(leader), &json!(leader))
    );
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert!(
        status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|node| node.get("lagEntries").is_some())
    );
    let request = world.request(READ, "GET", "/meshkit/status", None, &[("mesh-consistency", "local")]);
    assert_eq!(
        world.h1(follower, None, request).await.expect(200)["answeredBy"],
        follower
    );
    let transfer = json!({ "to": follower, "reason": "maintenance" });
    let answer = world
        .at(leader, ADMIN, "POST", "/meshkit/leader:transfer", Some(transfer))
        .await;
    assert_eq!(answer.expect(200)["leader"]["id"], follower);
    let mut watch = world.node(follower).handle.watch_status();
    let leads = watch.wait_for(raft::Status::is_leader);
    tokio::time::timeout(Duration::from_secs(5), leads)
        .await
        .unwrap()
        .unwrap();
    let body = json!({ "id": "p1", "endpoints": ["h:1"] });
    world
        .at(follower, OPERATE, "POST", "/meshkit/peers", Some(body))
        .await
        .expect(200);
    // A dry run is judged by the same rules, and changes nothing.
    for (member, status) in [(9, 404_u16), (leader, 200)] {
        let path = format!("/meshkit/members/{member}");
        let dry = world.request(ADMIN, "DELETE", &path, None, &[("mesh-dry-run", "true")]);
        let answer = world.h1(follower, None, dry).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let members = world
        .at(follower, READ, "GET", "/meshkit/members", None)
        .await
        .expect(200);
    assert_eq!(members["items"].as_array().unwrap().len(), 3);
    let unknown = world.at(follower, ADMIN, "DELETE", "/meshkit/members/9", None).await;
    unknown.refused(404, "not_found");
    let members = world
        .at(
            follower,
            ADMIN,
            "DELETE",
            &format!("/meshkit/members/{leader}?reason=old"),
            None,
        )
        .await;
    let members = members.expect(200);
    assert_eq!(members["removed"], json!([leader]));
    assert_eq!(members["items"].as_array().unwrap().len(), 2);
    // A removed node is nobody any more.
    let uri = format!("spiffe://m1/cluster/c1/node/{leader}");
    let forwarded = http::Request::get("/meshkit/peers")
        .header("host", "api")
        .header("mesh-forwarded", "x");
    let answer = world
        .h1(follower, Some(&uri), forwarded.body(Default::default()).unwrap())
        .await;
    answer.refused(401, "unauthenticated");
}

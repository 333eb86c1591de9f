//! Requests that wait for a second person, over REST and gRPC: how they are answered, decided, shown and recorded.

use proto::v1::{self, approval_service_client::ApprovalServiceClient, peer_service_client::PeerServiceClient};
use raft::env::Clock as _;
use raft::testing::SystemClock;
use serde_json::{Value, json};

use crate::world::{ADMIN, Answer, OBSERVE, OPERATE, READ, World};

/// A world whose drains take the agreement of somebody.
async fn ruled(rule: &str) -> World {
    let world = World::one().await;
    for peer in ["p1", "p2"] {
        world.register(peer).await;
    }
    let body = json!({ "settings": { "approvals.peers.drain": rule } });
    world
        .call(ADMIN, "PATCH", "/meshkit/config", Some(body))
        .await
        .expect(200);
    world
}

fn token(world: &World, subject: &str, scope: &str) -> String {
    let now_s = SystemClock::default().wall_ms() / 1000;
    world.sign(&json!({ "iss": "tests", "aud": "m1", "sub": subject, "exp": now_s + 3600, "scope": scope }))
}

/// A REST call of somebody.
async fn of(world: &World, who: (&str, &str), verb: &str, path: &str, body: Value, key: Option<&str>) -> Answer {
    let mut headers = vec![];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let body = (verb != "GET").then_some(body);
    let mut request = world.request(who.1, verb, path, body, &headers);
    let bearer = format!("Bearer {}", token(world, who.0, who.1)).parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    world.h1(1, None, request).await
}

async fn drain(world: &World, peer: &str) -> Value {
    let body = json!({ "reason": "kernel", "ticket": "OPS-1" });
    let answer = of(
        world,
        ("alice", OPERATE),
        "POST",
        &format!("/meshkit/peers/{peer}:drain"),
        body,
        None,
    )
    .await;
    let taken = answer.expect(202);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("mesh-code"), "pending_approval");
    taken
}

async fn decide(world: &World, who: (&str, &str), approval: &Value, verb: &str, reason: &str) -> Answer {
    let path = format!("/meshkit/approvals/{}:{verb}", approval["id"].as_str().unwrap());
    of(world, who, "POST", &path, json!({ "reason": reason }), None).await
}

#[tokio::test]
async fn a_request_waits_is_looked_at_and_is_approved() {
    let world = ruled("admin").await;
    let taken = drain(&world, "p1").await;
    assert_eq!(
        (&taken["status"], &taken["approvers"]),
        (&json!("PENDING_APPROVAL"), &json!("ADMIN"))
    );
    assert_eq!(
        (&taken["requester"], &taken["target"]),
        (&json!("alice"), &json!("peer/p1"))
    );
    assert!(
        taken["hint"].as_str().unwrap().contains("mesh approvals approve"),
        "{taken}"
    );
    let peer = world.call(READ, "GET", "/meshkit/peers/p1", None).await.expect(200);
    assert_eq!(peer["status"], "ACTIVE", "nothing has taken effect");

    let path = format!("/meshkit/approvals/{}", taken["id"].as_str().unwrap());
    let shown = world.call(READ, "GET", &path, None).await;
    assert_eq!(shown.header("etag").trim_matches('"'), taken["etag"].as_str().unwrap());
    let shown = shown.expect(200);
    let effects = shown["effects"].as_array().unwrap();
    let peer = effects.iter().find(|effect| effect["record"] == "peer/p1").unwrap();
    let status = json!({ "field": "status", "before": "ACTIVE", "after": "DRAINING" });
    assert!(peer["differences"].as_array().unwrap().contains(&status), "{peer}");
    assert!(
        effects.iter().any(|effect| effect["record"] == "operation/(new)"),
        "{shown}"
    );
    let list = world
        .call(
            READ,
            "GET",
            "/meshkit/approvals?status=PENDING_APPROVAL&requester=alice",
            None,
        )
        .await;
    assert_eq!(list.expect(200)["items"][0]["id"], taken["id"]);
    let none = world
        .call(READ, "GET", "/meshkit/approvals?action=config.set", None)
        .await;
    assert_eq!(none.expect(200)["items"], json!([]));

    decide(&world, ("alice", ADMIN), &taken, "approve", "")
        .await
        .refused(409, "approval_own");
    let missing = decide(&world, ("bob", OPERATE), &taken, "approve", "")
        .await
        .refused(403, "scope_missing");
    assert_eq!(missing["missingScope"], "mesh.admin");
    decide(&world, ("bob", READ), &taken, "approve", "")
        .await
        .refused(403, "scope_missing");
    let approved = decide(&world, ("bob", ADMIN), &taken, "approve", "seen")
        .await
        .expect(200);
    assert_eq!(
        (&approved["status"], &approved["agreed"]),
        (&json!("APPROVED"), &json!(1))
    );
    let peer = world.call(READ, "GET", "/meshkit/peers/p1", None).await.expect(200);
    assert_eq!(
        (&peer["status"], &peer["changedRevision"]),
        (&json!("DRAINING"), &approved["changedRevision"])
    );
    decide(&world, ("bob", ADMIN), &taken, "approve", "")
        .await
        .refused(409, "approval_finished");
    decide(&world, ("carol", ADMIN), &taken, "reject", "no")
        .await
        .refused(409, "approval_finished");

    // The trail: asked, decided and carried out, under the target that it is about.
    let trail = world
        .call(OBSERVE, "GET", "/meshkit/audit?target=peer/p1&action=peers.drain", None)
        .await;
    let trail = trail.expect(200)["items"].clone();
    let said: Vec<_> = trail
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (
                item["actor"].clone(),
                item["outcome"].clone(),
                item["requester"].clone(),
                item["approval"].clone(),
            )
        })
        .collect();
    let refused = said.iter().filter(|one| one.1 == "REJECTED").count();
    assert_eq!(refused, 0, "refusals are about the request: {trail}");
    assert_eq!(
        said,
        [
            (json!("alice"), json!("STAGED"), json!("alice"), taken["id"].clone()),
            (json!("bob"), json!("APPLIED"), json!("alice"), taken["id"].clone()),
        ]
    );
    assert_eq!(trail[1]["detail"], "carried out peers.drain peer/p1 for alice");
}

#[tokio::test]
async fn a_retry_is_answered_as_the_first_attempt_also_after_it_was_carried_out() {
    let world = ruled("operator").await;
    let path = "/meshkit/peers/p1:drain";
    let first = of(&world, ("alice", OPERATE), "POST", path, json!({}), Some("k1")).await;
    let taken = first.expect(202);
    let again = of(&world, ("alice", OPERATE), "POST", path, json!({}), Some("k1")).await;
    assert_eq!(
        (again.expect(202), again.header("mesh-replayed")),
        (taken.clone(), "true")
    );
    let approve = format!("/meshkit/approvals/{}:approve", taken["id"].as_str().unwrap());
    let first = of(&world, ("bob", OPERATE), "POST", &approve, json!({}), Some("k2"))
        .await
        .expect(200);
    let again = of(&world, ("bob", OPERATE), "POST", &approve, json!({}), Some("k2")).await;
    assert_eq!((again.expect(200), again.header("mesh-replayed")), (first, "true"));
    let late = of(&world, ("alice", OPERATE), "POST", path, json!({}), Some("k1")).await;
    assert_eq!(late.expect(202), taken);
    let other = of(
        &world,
        ("alice", OPERATE),
        "POST",
        "/meshkit/peers/p2:drain",
        json!({}),
        Some("k1"),
    )
    .await;
    other.refused(422, "idempotency_key_reused");
}

#[tokio::test]
async fn what_moved_is_refused_and_shown_as_stale() {
    let world = ruled("operator").await;
    let taken = drain(&world, "p1").await;
    world
        .call(OPERATE, "POST", "/meshkit/peers/p1:cordon", None)
        .await
        .expect(200);
    let refused = decide(&world, ("bob", OPERATE), &taken, "approve", "")
        .await
        .refused(412, "approval_stale");
    assert!(
        refused["detail"].as_str().unwrap().contains("peer/p1 has changed"),
        "{refused}"
    );
    assert!(refused["hint"].as_str().unwrap().contains("ask again"), "{refused}");
    let path = format!("/meshkit/approvals/{}", taken["id"].as_str().unwrap());
    let shown = world.call(READ, "GET", &path, None).await.expect(200);
    assert!(shown["staleBecause"].as_str().unwrap().contains("peer/p1"), "{shown}");
    assert_eq!(shown["effects"], json!([]));
}

#[tokio::test]
async fn a_rejection_says_why() {
    let world = ruled("operator").await;
    let taken = drain(&world, "p1").await;
    let refused = decide(&world, ("bob", OPERATE), &taken, "reject", "")
        .await
        .refused(400, "invalid_argument");
    assert_eq!(refused["field"], "reason");
    let rejected = decide(&world, ("bob", OPERATE), &taken, "reject", "not today")
        .await
        .expect(200);
    assert_eq!(
        (&rejected["status"], &rejected["detail"]),
        (&json!("REJECTED"), &json!("rejected by bob: not today"))
    );
    let own = drain(&world, "p2").await;
    let taken_back = decide(&world, ("alice", OPERATE), &own, "reject", "").await.expect(200);
    assert_eq!(taken_back["detail"], "taken back by alice");
}

#[tokio::test]
async fn a_dry_run_says_who_would_have_to_agree_and_stages_nothing() {
    let world = ruled("two_admins").await;
    let answer = world
        .with(
            OPERATE,
            "POST",
            "/meshkit/peers/p1:drain",
            None,
            &[("mesh-dry-run", "true")],
        )
        .await;
    assert_eq!(answer.expect(200)["status"], "DRAINING");
    assert_eq!(answer.header("mesh-approval-needed"), "two_admins");
    let free = world
        .with(
            OPERATE,
            "POST",
            "/meshkit/peers/p1:cordon",
            None,
            &[("mesh-dry-run", "true")],
        )
        .await;
    free.expect(200);
    assert_eq!(free.header("mesh-approval-needed"), "");
    let list = world.call(READ, "GET", "/meshkit/approvals", None).await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn rules_are_words_and_their_weakening_falls_under_them() {
    let world = ruled("admin").await;
    let config = world.call(READ, "GET", "/meshkit/config", None).await.expect(200);
    let items = config["items"].as_array().unwrap();
    let rule = items
        .iter()
        .find(|item| item["name"] == "approvals.peers.drain")
        .unwrap();
    assert_eq!(
        (&rule["choice"], &rule["defaultChoice"], &rule["unit"]),
        (&json!("admin"), &json!("none"), &json!("choice"))
    );
    assert_eq!(rule["choices"], json!(["none", "operator", "admin", "two_admins"]));
    for wrong in [json!("somebody"), json!(2), json!("2"), json!(true)] {
        let body = json!({ "settings": { "approvals.peers.drain": wrong } });
        let refused = world
            .call(ADMIN, "PATCH", "/meshkit/config", Some(body))
            .await
            .refused(400, "invalid_argument");
        assert!(refused["detail"].as_str().unwrap().contains("two_admins"), "{refused}");
    }
    let stricter = json!({ "settings": { "approvals.peers.drain": "TWO_ADMINS" } });
    world
        .call(ADMIN, "PATCH", "/meshkit/config", Some(stricter))
        .await
        .expect(200);
    let weaker = json!({ "settings": { "approvals.peers.drain": null } });
    let taken = world
        .call(ADMIN, "PATCH", "/meshkit/config", Some(weaker))
        .await
        .expect(202);
    assert_eq!(
        (&taken["approvers"], &taken["action"]),
        (&json!("TWO_ADMINS"), &json!("config.set"))
    );
    let first = decide(&world, ("bob", ADMIN), &taken, "approve", "").await.expect(200);
    assert_eq!(
        (&first["status"], &first["agreed"]),
        (&json!("PENDING_APPROVAL"), &json!(1))
    );
    decide(&world, ("bob", ADMIN), &taken, "approve", "")
        .await
        .refused(409, "approval_given");
    let second = decide(&world, ("carol", ADMIN), &taken, "approve", "")
        .await
        .expect(200);
    assert_eq!(second["status"], "APPROVED");
    let versions = world
        .call(READ, "GET", "/meshkit/config/history?limit=1", None)
        .await
        .expect(200);
    let change = &versions["items"][0]["changes"][0];
    assert_eq!(
        (&change["beforeChoice"], &change["afterChoice"]),
        (&json!("two_admins"), &json!("none"))
    );
}

#[tokio::test]
async fn grpc_answers_with_a_status_that_names_the_request() {
    let world = ruled("operator").await;
    let channel = world.channel(1, None).await;
    let mut peers = PeerServiceClient::new(channel.clone());
    let request = v1::DrainPeerRequest {
        id: "p1".into(),
        ..Default::default()
    };
    let status = peers.drain_peer(world.grpc(OPERATE, request)).await.unwrap_err();
    assert_eq!(
        status.code(),
        tonic::Code::FailedPrecondition,
        "not an OK that looks done"
    );
    let error = meshkit_api_server::Error::from_status(&status);
    assert_eq!((error.name(), error.is_retryable()), ("pending_approval", false));
    let approval = error.problem().approval.clone().unwrap();
    assert_eq!(approval.status(), v1::approval::Status::PendingApproval);
    let mut approvals = ApprovalServiceClient::new(channel);
    let mut decision = world.grpc(
        OPERATE,
        v1::ApproveApprovalRequest {
            id: approval.id.clone(),
            ..Default::default()
        },
    );
    let bearer = format!("Bearer {}", token(&world, "bob", OPERATE)).parse().unwrap();
    decision.metadata_mut().insert("authorization", bearer);
    let approved = approvals.approve_approval(decision).await.unwrap().into_inner();
    assert_eq!(approved.status(), v1::approval::Status::Approved);
    assert_eq!(approved.decisions[0].actor, "bob");
}

/// One human's certificate and token are one person where the binding says so.
#[tokio::test]
async fn a_person_is_who_they_are_bound_to_however_they_prove_it() {
    let world = ruled("operator").await;
    let by_token = of(
        &world,
        ("ci", OPERATE),
        "POST",
        "/meshkit/peers/p1:drain",
        json!({}),
        None,
    )
    .await
    .expect(202);
    let path = format!("/meshkit/approvals/{}:approve", by_token["id"].as_str().unwrap());
    let mut request = world.request(OPERATE, "POST", &path, Some(json!({})), &[]);
    request.headers_mut().remove("authorization");
    let by_certificate = world.h1(1, Some("spiffe://m1/client/ci"), request).await;
    by_certificate.refused(409, "approval_own");
}

#[tokio::test]
async fn what_is_not_there_or_no_id_is_refused() {
    let world = World::one().await;
    world
        .call(READ, "GET", "/meshkit/approvals/ap-1", None)
        .await
        .refused(404, "not_found");
    world
        .call(OPERATE, "POST", "/meshkit/approvals/ap-1:approve", None)
        .await
        .refused(404, "not_found");
    world
        .call(READ, "GET", "/meshkit/approvals/NO", None)
        .await
        .refused(400, "invalid_argument");
    world
        .call(READ, "GET", "/meshkit/approvals?status=OPEN", None)
        .await
        .refused(400, "invalid_argument");
}

//! REST: the documented forms, headers and refusals.

use serde_json::json;

use crate::world::{ADMIN, OBSERVE, OPERATE, READ, World};

#[tokio::test]
async fn a_peer_from_registration_to_removal() {
    let world = World::one().await;
    let body = json!({
        "id": "p1", "endpoints": ["10.0.0.1:443"], "role": "gateway", "region": "eu", "zone": "a",
        "weight": 50, "labels": { "tier": "x" }, "metadata": { "owner": "me" },
    });
    let answer = world.call(OPERATE, "POST", "/meshkit/peers", Some(body)).await;
    let peer = answer.expect(200);
    assert_eq!(
        (&peer["id"], &peer["cluster"], &peer["status"]),
        (&json!("p1"), &json!("c1"), &json!("ACTIVE"))
    );
    assert_eq!(
        (&peer["weight"], &peer["version"], &peer["health"]),
        (&json!(50), &json!(1), &json!("UNKNOWN"))
    );
    assert_eq!(answer.header("etag"), format!("\"{}\"", peer["etag"].as_str().unwrap()));
    assert_eq!(answer.header("mesh-revision"), peer["changedRevision"].to_string());
    assert_eq!(
        (answer.header("mesh-epoch"), answer.header("mesh-leader")),
        ("1", "https://api-1:1")
    );
    assert!(!answer.header("mesh-request-id").is_empty());

    let again = world
        .call(
            OPERATE,
            "POST",
            "/meshkit/peers",
            Some(json!({ "id": "p1", "endpoints": ["h:1"] })),
        )
        .await;
    let problem = again.refused(409, "already_exists");
    assert_eq!(problem["currentEtag"], peer["etag"]);

    let patch = json!({ "labels": { "tier": "y", "gpu": "" }, "removeMetadata": ["owner"] });
    let patched = world
        .call(OPERATE, "PATCH", "/meshkit/peers/p1", Some(patch))
        .await
        .expect(200);
    assert_eq!(patched["labels"], json!({ "gpu": "", "tier": "y" }));
    assert_eq!((&patched["metadata"], &patched["version"]), (&json!({}), &json!(2)));

    let cordoned = world
        .call(OPERATE, "POST", "/meshkit/peers/p1:cordon", Some(json!({})))
        .await
        .expect(200);
    assert_eq!(cordoned["status"], "CORDONED");
    // Again succeeds and changes nothing.
    let same = world
        .call(OPERATE, "POST", "/meshkit/peers/p1:cordon", None)
        .await
        .expect(200);
    assert_eq!(same, cordoned);

    let draining = world
        .call(
            OPERATE,
            "POST",
            "/meshkit/peers/p1:drain",
            Some(json!({ "reason": "why", "ticket": "T-1" })),
        )
        .await
        .expect(200);
    assert_eq!(draining["status"], "DRAINING");
    let operation = draining["operation"].as_str().unwrap();
    let operation = world
        .call(READ, "GET", &format!("/meshkit/operations/{operation}"), None)
        .await
        .expect(200);
    assert_eq!(
        (&operation["state"], &operation["target"]),
        (&json!("RUNNING"), &json!("peer/p1"))
    );
    assert_eq!(
        (&operation["actor"], &operation["reason"]),
        (&json!("alice"), &json!("why"))
    );

    let refused = world.call(OPERATE, "POST", "/meshkit/peers/p1:uncordon", None).await;
    assert!(
        refused.refused(409, "peer_draining")["hint"]
            .as_str()
            .unwrap()
            .contains("undrain")
    );
    let undrained = world
        .call(OPERATE, "POST", "/control/peers/p1:undrain", None)
        .await
        .expect(200);
    assert_eq!(undrained["status"], "CORDONED");
    let active = world
        .call(OPERATE, "POST", "/meshkit/peers/p1:uncordon", None)
        .await
        .expect(200);
    assert_eq!(active["status"], "ACTIVE");

    let gone = world
        .call(ADMIN, "DELETE", "/meshkit/peers/p1?reason=old", None)
        .await
        .expect(200);
    assert_eq!(gone["etag"], active["etag"]);
    world
        .call(READ, "GET", "/meshkit/peers/p1", None)
        .await
        .refused(404, "not_found");

    let audit = world
        .call(
            OBSERVE,
            "GET",
            "/meshkit/audit?target=peer/p1&descending=true&limit=2",
            None,
        )
        .await;
    let audit = audit.expect(200);
    let last = &audit["items"][0];
    assert_eq!(
        (&last["action"], &last["outcome"]),
        (&json!("peers.deregister"), &json!("APPLIED"))
    );
    assert_eq!(
        (&last["actor"], &last["reason"], &last["transport"]),
        (&json!("alice"), &json!("old"), &json!("h1"))
    );
    assert_eq!(last["changes"][0]["before"]["peer"]["etag"], active["etag"]);
    assert!(last["changes"][0].get("after").is_none());
    assert_eq!(audit["items"][1]["action"], "peers.uncordon");
    assert!(!audit["nextCursor"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn conditions_and_conditional_reads() {
    let world = World::one().await;
    let etag = world.register("p1").await["etag"].as_str().unwrap().to_owned();
    let quoted = format!("\"{etag}\"");
    let get = |headers: Vec<(&'static str, String)>| {
        let world = &world;
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            world.with(READ, "GET", "/meshkit/peers/p1", None, &headers).await
        }
    };
    let unchanged = get(vec![("if-none-match", quoted.clone())]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("etag"), quoted);
    get(vec![("if-none-match", "\"other\"".into())]).await.expect(200);

    let cordon = "/meshkit/peers/p1:cordon";
    let stale = world
        .with(OPERATE, "POST", cordon, None, &[("if-match", "\"0-0\"")])
        .await;
    assert_eq!(stale.refused(412, "etag_mismatch")["currentEtag"], etag.as_str());
    let body = Some(json!({ "ifMatch": "else" }));
    let torn = world
        .with(OPERATE, "POST", cordon, body, &[("if-match", &quoted)])
        .await;
    assert_eq!(torn.refused(400, "invalid_argument")["field"], "ifMatch");
    world
        .with(OPERATE, "POST", cordon, Some(json!({ "ifRevision": 1 })), &[])
        .await
        .refused(412, "revision_mismatch");
    world
        .with(OPERATE, "POST", cordon, None, &[("if-match", &quoted)])
        .await
        .expect(200);
    let peers = "/meshkit/peers";
    let create = Some(json!({ "id": "p1", "endpoints": ["h:1"] }));
    world
        .with(OPERATE, "POST", peers, create, &[("if-none-match", "*")])
        .await
        .refused(409, "already_exists");
    let wrong = Some(json!({ "confirm": "p2" }));
    world
        .with(OPERATE, "POST", "/meshkit/peers/p1:drain", wrong, &[])
        .await
        .refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_dry_run_is_the_commit_that_follows() {
    let world = World::one().await;
    world.register("p1").await;
    let drain = "/meshkit/peers/p1:drain";
    let preview = world
        .with(OPERATE, "POST", drain, None, &[("mesh-dry-run", "true")])
        .await;
    let mut would = preview.expect(200);
    assert_eq!(preview.header("mesh-dry-run"), "true");
    assert_eq!(preview.header("mesh-preview-bin"), "", "it is in the document");
    let seen = would.as_object_mut().unwrap().remove("preview").unwrap();
    assert_eq!(
        (&seen["accepted"], seen["truncated"].as_bool()),
        (&true.into(), Some(false))
    );
    let checks = seen["checks"].as_array().unwrap();
    let rules: Vec<_> = checks.iter().map(|check| check["rule"].as_str().unwrap()).collect();
    assert_eq!(
        rules,
        [
            "the mesh is at the feature level that it takes",
            "the peer exists",
            "there is room for one more running operation",
            "enough peers of the cluster stay active",
            "another peer can take its shards"
        ]
    );
    assert!(checks.iter().all(|check| check["verdict"] == "PASSED"), "{checks:?}");
    let peer = &seen["changes"][0];
    assert_eq!(
        (&peer["before"]["peer"]["status"], &peer["after"]["peer"]["status"]),
        (&"ACTIVE".into(), &"DRAINING".into())
    );
    assert_eq!(seen["steps"].as_array().unwrap().len(), 3);
    let position: u64 = preview.header("mesh-revision").parse().unwrap();
    assert_eq!(
        world.call(READ, "GET", "/meshkit/peers/p1", None).await.expect(200)["status"],
        "ACTIVE"
    );
    let commit = world
        .call(OPERATE, "POST", drain, Some(json!({ "ifRevision": position })))
        .await;
    let mut did = commit.expect(200);
    assert_eq!(commit.header("mesh-dry-run"), "");
    did["changedAt"] = would["changedAt"].clone();
    assert_eq!(did, would);
    let late = Some(json!({ "ifRevision": position, "dryRun": true }));
    world
        .call(OPERATE, "POST", drain, late)
        .await
        .refused(412, "revision_mismatch");
    // What a dry run refuses, the commit refuses; nothing is recorded.
    let before = world.leader().handle.view().position();
    let refused = Some(json!({ "dryRun": true }));
    let refused = world
        .call(OPERATE, "POST", "/meshkit/peers/p1:uncordon", refused)
        .await
        .refused(409, "peer_draining");
    assert_eq!(
        (&refused["measured"], &refused["limit"]),
        (&"draining or drained".into(), &"not draining".into())
    );
    let failed = refused["preview"]["checks"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&failed["code"], &failed["verdict"], &failed["measured"]),
        (&"peer_draining".into(), &"FAILED".into(), &"draining".into())
    );
    assert_eq!(world.leader().handle.view().position(), before);
}

#[tokio::test]
async fn a_retry_is_answered_from_its_first_attempt() {
    let world = World::one().await;
    let register = |id: &str| Some(json!({ "id": id, "endpoints": ["h:1"] }));
    let peers = "/meshkit/peers";
    let first = world
        .with(OPERATE, "POST", peers, register("p1"), &[("idempotency-key", "k1")])
        .await;
    first.expect(200);
    world
        .call(OPERATE, "POST", "/meshkit/peers/p1:cordon", None)
        .await
        .expect(200);
    let retry = world
        .with(OPERATE, "POST", peers, register("p1"), &[("idempotency-key", "k1")])
        .await;
    assert_eq!(retry.expect(200), first.json());
    assert_eq!(
        (retry.header("mesh-replayed"), first.header("mesh-replayed")),
        ("true", "")
    );
    assert_eq!(retry.header("mesh-revision"), first.header("mesh-revision"));
    let other = world
        .with(OPERATE, "POST", peers, register("p2"), &[("idempotency-key", "k1")])
        .await;
    other.refused(422, "idempotency_key_reused");
    // A refusal is repeated as well.
    let refused = world
        .with(OPERATE, "POST", peers, register("p1"), &[("idempotency-key", "k2")])
        .await;
    refused.refused(409, "already_exists");
    world.call(ADMIN, "DELETE", "/meshkit/peers/p1", None).await.expect(200);
    let again = world
        .with(OPERATE, "POST", peers, register("p1"), &[("idempotency-key", "k2")])
        .await;
    again.refused(409, "already_exists");
    assert_eq!(again.header("mesh-replayed"), "true");
    let long = "k".repeat(65);
    let long = world
        .with(OPERATE, "POST", peers, register("p9"), &[("idempotency-key", &long)])
        .await;
    assert_eq!(long.refused(400, "invalid_argument")["field"], "idempotencyKey");
}

#[tokio::test]
async fn each_call_needs_its_scope() {
    let world = World::one().await;
    world.register("p1").await;
    let peer = || Some(json!({ "id": "p2", "endpoints": ["h:1"] }));
    let calls = [
        ("mesh.operate", "POST", "/meshkit/peers", peer(), OBSERVE),
        ("mesh.operate", "POST", "/meshkit/peers/p1:drain", Some(json!({})), READ),
        (
            "mesh.operate",
            "PATCH",
            "/meshkit/peers/p1",
            Some(json!({ "labels": {} })),
            READ,
        ),
        ("mesh.admin", "DELETE", "/meshkit/peers/p1", None, OPERATE),
        ("mesh.admin", "DELETE", "/meshkit/members/1", None, OPERATE),
        (
            "mesh.admin",
            "POST",
            "/meshkit/leader:transfer",
            Some(json!({})),
            OPERATE,
        ),
        ("mesh.observe", "GET", "/meshkit/audit", None, READ),
        ("mesh.observe", "GET", "/metrics", None, READ),
        ("mesh.read", "GET", "/meshkit/peers", None, "openid"),
        ("mesh.read", "GET", "/meshkit/status", None, ""),
    ];
    for (needed, verb, path, body, held) in calls {
        let problem = world.call(held, verb, path, body).await.refused(403, "scope_missing");
        assert_eq!(problem["missingScope"], needed, "{verb} {path}");
    }
    let noted = world.leader().refusals.0.lock().clone();
    assert!(
        noted
            .iter()
            .all(|refusal| refusal.actor == "alice" && refusal.code == "scope_missing")
    );
    let drain = noted.iter().find(|refusal| refusal.action == "peers.drain").unwrap();
    assert_eq!((drain.target.as_str(), drain.transport.as_str()), ("peer/p1", "h1"));
    let can = world
        .call(OBSERVE, "GET", "/meshkit/auth/can-i?what=peers.drain", None)
        .await
        .expect(200);
    assert_eq!(
        (&can["allowed"], &can["needed"], &can["method"]),
        (&json!(false), &json!("mesh.operate"), &json!("jwt"))
    );
    assert_eq!(can["scopes"], json!(["mesh.read", "mesh.observe"]));
    let what = world.call(READ, "GET", "/meshkit/auth/can-i?what=fly", None).await;
    assert_eq!(what.refused(400, "invalid_argument")["field"], "what");
}

#[tokio::test]
async fn pages_that_are_no_calls() {
    let world = World::one().await;
    for path in ["/livez", "/readyz"] {
        let request = http::Request::get(path)
            .header("host", "api")
            .body(Default::default())
            .unwrap();
        let answer = world.h1(1, None, request).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok\n"[..]));
    }
    let request = http::Request::get("/openapi.json")
        .header("host", "api")
        .body(Default::default())
        .unwrap();
    assert_eq!(world.h1(1, None, request).await.expect(200)["openapi"], "3.1.0");
    world
        .call(READ, "POST", "/livez", None)
        .await
        .refused(405, "method_not_allowed");
    let metrics = world.call(OBSERVE, "GET", "/metrics", None).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(
        text.contains(r#"meshkit_api_requests_total{action="livez",api="rest",transport="h1",code="ok"} 1"#),
        "{text}"
    );
    // Consensus stops: the process still answers.
    world
        .leader()
        .handle
        .shutdown(std::time::Duration::from_secs(5))
        .await
        .unwrap();
    let mut status = world.node(1).handle.watch_status();
    let _ = tokio::time::timeout(
        std::time::Duration::from_secs(5),
        status.wait_for(|status| status.leader.is_none() || status.fatal.is_some()),
    )
    .await;
    let request = http::Request::get("/livez")
        .header("host", "api")
        .body(Default::default())
        .unwrap();
    assert_eq!(world.h1(1, None, request).await.status, 200);
}

#[tokio::test]
async fn no_space_refuses_mutations_alone() {
    let world = World::one().await;
    world.register("p1").await;
    *world.node(1).facts.full.lock() = true;
    let refused = world.call(OPERATE, "POST", "/meshkit/peers/p1:cordon", None).await;
    assert_eq!(refused.refused(507, "no_space")["retryable"], true);
    world.call(READ, "GET", "/meshkit/peers/p1", None).await.expect(200);
}

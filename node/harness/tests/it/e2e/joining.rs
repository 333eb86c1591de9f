//! Tokens that are not good, members that may not vote, and those that have to stay (X2).

use std::{fs, path::Path, thread, time::Duration};

use node_harness::{Mesh, Node, Options, wait_until};
use rustix::process::Signal;
use serde_json::json;

use super::{
    bad_input::foreign_ca,
    growing::{caught_up, invite, promote},
    world::{SOON, admin, agreed, follower, leader, register, unique},
};

/// Has a prepared node join, and answers how that ended and what it said.
fn joins(mesh: &Mesh, node: &Node, token: &Path) -> (Option<i32>, String) {
    let mut running = mesh.start_join(node, token).unwrap();
    let status = running.wait(SOON).unwrap();
    let said =
        fs::read_to_string(&node.log).unwrap() + &fs::read_to_string(node.config.with_file_name("join.out")).unwrap();
    (status.code(), said)
}

#[test]
fn a_token_is_good_for_one_node_once_and_in_time() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let mut place = 0;
    let mut elsewhere = |mesh: &Mesh, id: u64| {
        place += 1;
        mesh.prepare(id, &mesh.scratch().join(format!("elsewhere-{place}")))
            .unwrap()
    };

    // What is no token, or another node's, is refused before anything is made or anybody is asked.
    let other = invite(&mesh, 5);
    let garbage = mesh.scratch().join("garbage");
    fs::write(&garbage, "not a token\n").unwrap();
    for token in [&other, &garbage, &mesh.scratch().join("missing")] {
        let node = elsewhere(&mesh, 4);
        let (code, said) = joins(&mesh, &node, token);
        assert_eq!(code, Some(2), "{said}");
        assert!(!node.data.exists(), "{said}");
    }
    // A bundle with an authority that the cluster does not know would believe its nodes.
    let node = elsewhere(&mesh, 5);
    let bundle = fs::read_to_string(&mesh.info().ca).unwrap() + &fs::read_to_string(foreign_ca(&mesh).0).unwrap();
    let own = node.config.with_file_name("bundle.crt");
    fs::write(&own, bundle).unwrap();
    let text = fs::read_to_string(&node.config).unwrap();
    let text = text.replace(mesh.info().ca.to_str().unwrap(), own.to_str().unwrap());
    fs::write(&node.config, text).unwrap();
    let (code, said) = joins(&mesh, &node, &other);
    assert!(code == Some(2) && said.contains("fingerprint"), "{code:?} {said}");
    assert!(!node.data.exists(), "{said}");

    // Late: what counts is the mesh's own time.
    let late = mesh.scratch().join("late");
    let (out, ttl) = (late.to_str().unwrap(), ["--ttl", "1s"]);
    mesh.mesh(["members", "invite", "7", "--out", out, ttl[0], ttl[1]])
        .ok()
        .unwrap();
    thread::sleep(Duration::from_millis(1_500));
    let node = elsewhere(&mesh, 7);
    let (code, said) = joins(&mesh, &node, &late);
    assert!(
        code == Some(2) && said.contains("join_token_expired"),
        "{code:?} {said}"
    );

    // A later invitation takes an earlier one's place.
    let (first, second) = (invite(&mesh, 4), invite(&mesh, 4));
    let node = elsewhere(&mesh, 4);
    let (code, said) = joins(&mesh, &node, &first);
    assert!(
        code == Some(2) && said.contains("join_token_invalid"),
        "{code:?} {said}"
    );

    // Used once, it is of no use to anybody else; to the node itself it still is, as after a crash.
    mesh.new_node(4).unwrap();
    mesh.join(4, &second).unwrap();
    caught_up(&mut mesh, 4);
    let (code, said) = joins(&mesh, &elsewhere(&mesh, 4), &second);
    assert!(code == Some(2) && said.contains("join_token_used"), "{code:?} {said}");
    mesh.kill(4).unwrap();
    fs::remove_dir_all(&mesh.node(4).unwrap().data).unwrap();
    mesh.join(4, &second).unwrap();
    caught_up(&mut mesh, 4);
    mesh.kill(4).unwrap();
    mesh.join(4, &second).unwrap();
    wait_until(SOON, "a member to say so", || {
        mesh.joining(4).contains("is a member already")
    })
    .unwrap();
    caught_up(&mut mesh, 4);
    promote(&mesh, 4);
    agreed(&mesh);
    for log in mesh.ids().into_iter().map(|id| mesh.node(id).unwrap().log.clone()) {
        let token = fs::read_to_string(&second).unwrap();
        assert!(
            !fs::read_to_string(log).unwrap().contains(token.trim()),
            "a token was logged"
        );
    }
    mesh.stop().unwrap();
}

#[test]
fn who_may_not_vote_and_who_may_not_go() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    mesh.new_node(4).unwrap();
    let token = invite(&mesh, 4);
    mesh.join(4, &token).unwrap();
    caught_up(&mut mesh, 4);

    // A learner that lags, by the setting that says how much; and one that does not vote does not lead.
    let patch = json!({ "settings": { "policy.learner_lag": 0 } });
    admin(&mesh).call("PatchConfig", patch).ok();
    mesh.signal(4, Signal::STOP).unwrap();
    for _ in 0..3 {
        register(&mesh, &unique("unseen"));
    }
    let refused = admin(&mesh).call("PromoteMember", json!({ "id": 4 }));
    let problem = refused.refused("learner_lagging");
    assert_eq!(problem.json["limit"], "0 entries", "{problem:?}");
    admin(&mesh)
        .call("TransferLeadership", json!({ "to": 4 }))
        .refused("not_a_voter");
    mesh.signal(4, Signal::CONT).unwrap();
    promote(&mesh, 4);
    agreed(&mesh);

    // A number that is taken, and one that nobody has.
    let other = json!({ "id": 4, "api": "127.0.0.1:1", "raft": "127.0.0.1:2" });
    admin(&mesh).call("AddMember", other).refused("member_exists");
    admin(&mesh)
        .call("InviteMember", json!({ "id": 4 }))
        .refused("member_exists");
    admin(&mesh)
        .call("PromoteMember", json!({ "id": 77 }))
        .refused("not_found");
    admin(&mesh)
        .call("RemoveMember", json!({ "id": 77 }))
        .refused("not_found");
    for bad in [json!({ "ttlMs": 10 }), json!({ "ttlMs": 604_800_001 })] {
        admin(&mesh).call("InviteMember", bad).refused("invalid_argument");
    }
    let bad = json!({ "id": 9, "api": "https://h:1", "raft": "127.0.0.1:2" });
    admin(&mesh).call("AddMember", bad).refused("invalid_argument");
    let next = admin(&mesh).call("InviteMember", json!({})).ok();
    assert_eq!(next.json["node"], 5, "{next:?}");

    // Four that are three: of the two that would stay beside the leader, one is gone.
    admin(&mesh).call("RemoveMember", json!({ "id": follower(&mesh) })).ok();
    let removed = admin(&mesh).call("ListMembers", json!({})).ok().json["removed"][0]
        .as_u64()
        .unwrap();
    mesh.wait_ended(removed, SOON).unwrap();
    mesh.forget(removed).unwrap();
    let led = leader(&mesh);
    let others: Vec<u64> = mesh.ids().into_iter().filter(|node| *node != led).collect();
    mesh.kill(others[0]).unwrap();
    wait_until(SOON, "the leader to miss it", || {
        let members = admin(&mesh).call("ListMembers", json!({})).ok().json;
        let missed = |node: &serde_json::Value| node["id"] == others[0] && node["role"] == "UNREACHABLE";
        members["items"].as_array().unwrap().iter().any(missed)
    })
    .unwrap();
    admin(&mesh)
        .call("RemoveMember", json!({ "id": others[1] }))
        .refused("quorum_at_risk");
    mesh.restart(others[0]).unwrap();
    mesh.wait_ready(others[0], SOON).unwrap();
    agreed(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn the_last_voter_stays() {
    let mesh = Mesh::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    for force in [false, true] {
        admin(&mesh)
            .call("RemoveMember", json!({ "id": 1, "force": force }))
            .refused("last_voter");
    }
    admin(&mesh)
        .call("TransferLeadership", json!({}))
        .refused("no_other_voter");
    register(&mesh, "still-served");
    mesh.stop().unwrap();
}

//! The audit trail outside of the mesh (M6, M13): files on each node, exports that verify on their own, and what is
//! followed on a terminal. And sessions of browsers on built programs (S9).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use node_harness::{Mesh, Options, wait_for};
use serde_json::{Value, json};

use super::{
    wire::Wire,
    world::{SOON, agreed, audit, caller, client, follower, leader, register, wait},
};

/// The lines of a node's files, oldest first.
pub fn lines(directory: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn files_of(mesh: &Mesh, node: u64) -> PathBuf {
    mesh.node(node).unwrap().data.join("audit")
}

/// Revision and hash of every record that a node has written.
fn written(mesh: &Mesh, node: u64) -> Vec<(u64, String)> {
    let lines = lines(&files_of(mesh, node));
    let records = lines.iter().filter(|line| line["kind"] == "record");
    records
        .map(|line| {
            (
                line["revision"].as_u64().unwrap(),
                line["hash"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

/// Waits until a node's files hold the whole trail, each record once and in order.
fn is_whole(mesh: &Mesh, node: u64) {
    let mut seen = (Vec::new(), Vec::new());
    let whole = wait_for(SOON, "the files to hold the trail", || {
        let trail = audit(mesh);
        seen = (
            trail
                .iter()
                .map(|record| (record.revision, record.hash.clone()))
                .collect(),
            written(mesh, node),
        );
        // The mesh signs and notes things meanwhile.
        let (trail, written) = (&seen.0, &seen.1);
        (written.len() >= trail.len() && written[..trail.len()] == trail[..]).then_some(())
    });
    whole.unwrap_or_else(|error| panic!("{error}: node {node}: {seen:?}"));
}

#[test]
fn each_node_keeps_the_trail_in_files_without_gap_or_repeat() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    for n in 0..5 {
        register(&mesh, &format!("f{n}"));
    }
    agreed(&mesh);
    for node in mesh.ids() {
        is_whole(&mesh, node);
    }
    // A refusal is there at once, on the node that refused, and nowhere else.
    let (leader, other) = (leader(&mesh), follower(&mesh));
    let refused = caller(&mesh, other, Wire::H2, "read").send("POST", "/meshkit/peers/f1:cordon", &json!({}));
    let id = refused.refused("scope_missing").str("requestId").to_owned();
    let noted = |node: u64| {
        let lines = lines(&files_of(&mesh, node));
        lines
            .into_iter()
            .find(|line| line["kind"] == "refusal" && line["requestId"] == id.as_str())
    };
    let line = wait_for(SOON, "the refusal in the file", || noted(other)).unwrap();
    assert_eq!(
        (&line["action"], &line["target"], &line["code"]),
        (&json!("peers.cordon"), &json!("peer/f1"), &json!("scope_missing"))
    );
    assert_eq!(noted(leader), None);
    // What a killed node misses, and what it had not written yet, is caught up with.
    for round in 0..2 {
        mesh.kill(other).unwrap();
        for n in 0..20 {
            register(&mesh, &format!("g{round}-{n}"));
        }
        mesh.restart(other).unwrap();
        mesh.wait_ready(other, SOON).unwrap();
        register(&mesh, &format!("h{round}"));
        is_whole(&mesh, other);
    }
    let found = written(&mesh, other);
    let different: BTreeSet<u64> = found.iter().map(|(revision, _)| *revision).collect();
    assert_eq!(different.len(), found.len(), "a record twice: {found:?}");
    assert!(
        lines(&files_of(&mesh, other))
            .iter()
            .all(|line| line["kind"] != "gap" && line["kind"] != "fork")
    );
    // Few small files are kept, and the newest records are in them.
    mesh.kill(other).unwrap();
    let small = [
        ("MESHKIT_AUDIT__FILE_BYTES_MAX", "4096".as_ref()),
        ("MESHKIT_AUDIT__FILES_MAX", "3".as_ref()),
    ];
    mesh.restart_with(other, &small).unwrap();
    mesh.wait_ready(other, SOON).unwrap();
    for n in 0..60 {
        register(&mesh, &format!("k{n}"));
    }
    let last = audit(&mesh).last().unwrap().revision;
    let kept = wait_for(SOON, "the newest records in the files", || {
        let found = written(&mesh, other);
        found
            .last()
            .is_some_and(|(revision, _)| *revision >= last)
            .then_some(found)
    });
    let kept = kept.unwrap();
    assert!(kept.windows(2).all(|two| two[0].0 + 1 == two[1].0), "{kept:?}");
    assert!(fs::read_dir(files_of(&mesh, other)).unwrap().count() <= 3);
    mesh.stop().unwrap();
}

#[test]
fn an_export_verifies_without_the_mesh_and_tail_shows_the_same() {
    let often = "MESHKIT_RETENTION__AUDIT_CHECKPOINT_INTERVAL_MS".to_owned();
    let mesh = Mesh::start(Options {
        environment: vec![(often, "300".to_owned())],
        ..Options::default()
    })
    .unwrap();
    for n in 0..10 {
        register(&mesh, &format!("p{n}"));
    }
    let signed = || {
        let request = proto::v1::ListAuditCheckpointsRequest::default();
        let page = wait(client(&mesh, "observe").list_audit_checkpoints(request))
            .ok()?
            .message;
        page.items
            .iter()
            .any(|checkpoint| checkpoint.revision > 10)
            .then_some(())
    };
    wait_for(SOON, "a checkpoint", signed).unwrap();
    let file = mesh.scratch().join("trail.jsonl");
    let path = file.to_str().unwrap();
    let exported = mesh.mesh(["audit", "export", path, "-o", "json"]).ok().unwrap();
    let exported: Value = serde_json::from_str(&exported.stdout).unwrap();
    let trail = audit(&mesh);
    let records = exported["records"].as_u64().unwrap();
    assert!(records >= 11 && exported["lastRevision"].as_u64().unwrap() <= trail.last().unwrap().revision);
    // Checked with a checkpoint that was kept elsewhere, by nodes that are not there any more.
    let kept = mesh.scratch().join("kept.json");
    mesh.mesh(["audit", "verify", "--export", kept.to_str().unwrap()])
        .ok()
        .unwrap();
    let part = mesh.scratch().join("part.jsonl");
    let from = trail[4].proposed_at.unwrap().to_string();
    mesh.mesh(["audit", "export", part.to_str().unwrap(), "--from", &from])
        .ok()
        .unwrap();
    // Followed on a terminal, it is the same.
    let tail = mesh
        .mesh(["audit", "tail", "--all", "--for", "3s", "-o", "jsonl"])
        .ok()
        .unwrap();
    let messages = tail
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seen: Vec<(u64, String)> = messages
        .filter_map(|message| {
            let record = message.get("record")?;
            Some((record["revision"].as_u64()?, record["hash"].as_str()?.to_owned()))
        })
        .collect();
    let expected: Vec<_> = trail
        .iter()
        .map(|record| (record.revision, record.hash.clone()))
        .collect();
    assert_eq!(seen[..expected.len()], expected[..]);
    let one = mesh
        .mesh(["audit", "tail", "--all", "--for", "2s", "--target", "peer/p3"])
        .ok()
        .unwrap();
    assert_eq!(one.stdout.lines().count(), 2, "a header and a line: {}", one.stdout);
    let verify = |file: &Path, more: &[&str]| {
        let mut arguments = vec!["audit", "verify", "--file", file.to_str().unwrap(), "-o", "json"];
        arguments.extend_from_slice(more);
        mesh.mesh(arguments)
    };
    let checked = verify(&file, &[]).ok().unwrap();
    let report: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(
        (&report["records"], &report["anchored"]),
        (&json!(records), &json!(true))
    );
    assert_eq!(report["signaturesChecked"], true);
    assert!(report["checkpoints"].as_u64().unwrap() >= 1);
    verify(&file, &["--checkpoint", kept.to_str().unwrap()]).ok().unwrap();
    let in_part: Value = serde_json::from_str(&verify(&part, &[]).ok().unwrap().stdout).unwrap();
    assert!(in_part["firstRevision"].as_u64().unwrap() >= 4);
    // One letter, anywhere.
    let text = fs::read_to_string(&file).unwrap();
    let forged = mesh.scratch().join("forged.jsonl");
    fs::write(&forged, text.replacen("\"peer/p7\"", "\"peer/p8\"", 1)).unwrap();
    let found = verify(&forged, &[]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.stderr.contains("audit_broken"), "{found:?}");
    fs::write(&forged, &text[..text.len() - 40]).unwrap();
    assert_eq!(verify(&forged, &[]).code, Some(1));
    mesh.stop().unwrap();
}

#[test]
fn a_browser_signs_in_at_one_node_and_is_known_at_all() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let (leader, other) = (leader(&mesh), follower(&mesh));
    for wire in [Wire::H1, Wire::H2, Wire::H3] {
        let begun = caller(&mesh, other, wire, "operate")
            .send("POST", "/meshkit/session", &json!({ "lifetime": "120s" }))
            .ok();
        let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
        let csrf = begun.str("csrfToken").to_owned();
        let browser = |node| {
            let caller = caller(&mesh, node, wire, "operate").without("authorization");
            caller.with("cookie", &cookie).with("sec-fetch-site", "same-origin")
        };
        for node in mesh.ids() {
            assert_eq!(browser(node).get("/meshkit/session").ok().str("csrfToken"), csrf);
        }
        let id = format!("web-{}", wire.label());
        let peer = json!({ "id": id, "endpoints": ["127.0.0.1:9000"] });
        browser(leader)
            .send("POST", "/meshkit/peers", &peer)
            .refused("invalid_argument");
        let knows = |node| browser(node).with("mesh-csrf-token", &csrf);
        // The leader or not: a page follows no redirect to another host.
        assert_eq!(knows(other).send("POST", "/meshkit/peers", &peer).ok().str("id"), id);
        let record = audit(&mesh)
            .into_iter()
            .rfind(|record| record.target == format!("peer/{id}"))
            .unwrap();
        assert_eq!(record.transport, wire.label());
        let ended = knows(leader).raw("DELETE", "/meshkit/session", "", "").ok();
        assert!(ended.header("set-cookie").contains("Max-Age=0"));
        for node in mesh.ids() {
            let gone = wait_for(Duration::from_secs(10), "the session to be gone", || {
                (browser(node).get("/meshkit/session").code() == "unauthenticated").then_some(())
            });
            gone.unwrap();
        }
    }
    mesh.stop().unwrap();
}

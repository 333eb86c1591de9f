//! `meshkit-node dev`, and the harness that stands on it.

use std::process::Stdio;
use std::time::Duration;

use node_harness::{DevFile, Mesh, Options, Programs, Running, wait_for, wait_until};

fn leader(mesh: &Mesh) -> Option<u64> {
    let output = mesh.mesh(["status", "-o", "json"]);
    if !output.success() {
        return None;
    }
    output.json().unwrap()["leader"]["id"].as_u64()
}

#[test]
fn nodes_die_are_reported_and_come_back_by_hand() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    mesh.mesh(["peers", "register", "p1", "--endpoint", "127.0.0.1:9001"])
        .ok()
        .unwrap();
    let first = leader(&mesh).unwrap();
    mesh.kill(first).unwrap();
    mesh.mesh(["peers", "register", "p2", "--endpoint", "127.0.0.1:9002"])
        .ok()
        .unwrap();
    assert_ne!(leader(&mesh), Some(first));
    wait_until(Duration::from_secs(5), "the death's report", || {
        mesh.logs().contains(&format!("node {first} (pid ")) && mesh.logs().contains("was killed by signal 9")
    })
    .unwrap();
    mesh.restart(first).unwrap();
    mesh.wait_ready(first, Duration::from_secs(20)).unwrap();
    let listed = mesh
        .mesh_at(first, ["peers", "list", "-o", "json"])
        .unwrap()
        .ok()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");

    mesh.kill_all().unwrap();
    for id in mesh.ids() {
        mesh.restart(id).unwrap();
    }
    for id in mesh.ids() {
        mesh.wait_ready(id, Duration::from_secs(30)).unwrap();
    }
    mesh.mesh([
        "peers",
        "drain",
        "p1",
        "--reason",
        "test",
        "--yes",
        "--wait",
        "--timeout",
        "20s",
    ])
    .ok()
    .unwrap();
    mesh.mesh(["audit", "verify"]).ok().unwrap();
    mesh.stop().unwrap();
}

#[test]
fn scopes_come_with_the_tokens() {
    let mesh = Mesh::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let register = ["peers", "register", "p1", "--endpoint", "127.0.0.1:9001"];
    mesh.mesh_as("read", register).expect_code(4).unwrap();
    mesh.mesh_as("operate", register).ok().unwrap();
    mesh.mesh_as("read", ["peers", "list"]).ok().unwrap();
    mesh.mesh_as("admin2", ["audit", "list"]).ok().unwrap();
}

#[test]
fn the_children_die_with_dev_even_when_it_is_killed() {
    let programs = Programs::find().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("mesh");
    let mut command = programs.command("meshkit-node");
    command
        .args(["dev", "--base-port", "0", "--nodes", "2", "--data-dir"])
        .arg(&data);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let dev = Running::start(command).unwrap();
    let file = wait_for(Duration::from_secs(60), "dev.json", || {
        DevFile::read(&data.join("dev.json")).ok()
    })
    .unwrap();
    let commands: Vec<_> = file.clusters[0]
        .nodes
        .iter()
        .map(|node| format!("/proc/{}/cmdline", node.pid))
        .collect();
    let alive = || {
        commands
            .iter()
            .any(|command| std::fs::read(command).is_ok_and(|line| !line.is_empty()))
    };
    assert!(alive());
    // Dropping kills with SIGKILL: `dev` has no time to tell anybody.
    drop(dev);
    wait_until(Duration::from_secs(5), "the children's death", || !alive()).unwrap();

    // What it left is deleted only when that is asked for.
    let again = ["dev", "--base-port", "0", "--data-dir", data.to_str().unwrap()];
    let refused = programs.node(again).expect_code(3).unwrap();
    assert!(refused.stderr.contains("--fresh"), "{}", refused.stderr);
}

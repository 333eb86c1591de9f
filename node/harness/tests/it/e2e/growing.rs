//! A cluster that grows, shrinks, and has every node replaced, while writes go on (X2), as the runbooks have it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use node_harness::{Mesh, Options, wait_until};
use proto::v1::RegisterPeerRequest;

use super::{
    docs::commands_of,
    world::{SOON, admin, agreed, client, leader, register, status_of, unique, verify_audit, wait},
};

/// For whatever starts a node and lets it catch up on a busy machine.
pub const JOINED: Duration = Duration::from_secs(60);

/// Somebody who writes all the time, and whose every write has to be acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writer: JoinHandle<Result<(), String>>,
}

impl Load {
    /// Begins to write by the SDK, which knows every node of the mesh as it is listed now.
    pub fn start(mesh: &Mesh) -> Self {
        Self::by(client(mesh, "operate"))
    }

    /// The same by an SDK of the test's own.
    pub fn by(sdk: api_client::Client) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts) = (stop.clone(), written.clone());
        let writer = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let registration = RegisterPeerRequest {
                    id: unique("load"),
                    endpoints: vec!["127.0.0.1:9000".to_owned()],
                    ..Default::default()
                };
                let id = registration.id.clone();
                wait(sdk.register_peer(registration)).map_err(|error| format!("{id}: {error:?}"))?;
                counts.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        Self { stop, written, writer }
    }

    /// Waits until some more writes were acknowledged.
    pub fn goes_on(&self, what: &str) {
        let before = self.written.load(Ordering::Relaxed);
        let more = wait_until(SOON, what, || {
            self.written.load(Ordering::Relaxed) > before + 5 || self.writer.is_finished()
        });
        more.unwrap();
        assert!(!self.writer.is_finished(), "{what}: a write failed");
    }

    /// Ends. Answers how many writes were acknowledged, all that were tried.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// Invites a node with the command line; answers the file with the token.
pub fn invite(mesh: &Mesh, node: u64) -> PathBuf {
    let file = mesh.scratch().join(unique("token"));
    let (number, out) = (node.to_string(), file.to_str().unwrap().to_owned());
    let ran = mesh.mesh(["members", "invite", &number, "--out", &out, "--reason", "a test"]);
    ran.ok().unwrap();
    file
}

/// Waits until a node that joins says that it has caught up.
pub fn caught_up(mesh: &mut Mesh, node: u64) {
    let mut ended = false;
    let waited = wait_until(JOINED, "the new node to catch up", || {
        ended = !mesh.is_running(node).unwrap();
        ended || mesh.joining(node).contains("has caught up")
    });
    assert!(
        waited.is_ok() && !ended,
        "node {node}: {}\n{}",
        mesh.joining(node),
        mesh.logs()
    );
}

/// Lets a member vote; a moment's lag is waited for.
pub fn promote(mesh: &Mesh, node: u64) {
    let mut said = String::new();
    let promoted = wait_until(SOON, "the promotion", || {
        let ran = mesh.mesh(["members", "promote", &node.to_string()]);
        said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.success() || said.contains("learner_lagging"), "{said}");
        ran.success()
    });
    promoted.unwrap_or_else(|error| panic!("{error}: {said}"));
}

/// Invites, joins, promotes.
fn grow(mesh: &mut Mesh, node: u64) {
    let token = invite(mesh, node);
    mesh.join(node, &token).unwrap();
    caught_up(mesh, node);
    promote(mesh, node);
}

/// Removes a node, which has to end with exit code 6 by itself, and then is no node of the mesh any more.
fn shrink(mesh: &mut Mesh, node: u64) {
    mesh.mesh(["members", "remove", &node.to_string(), "--yes", "--reason", "a test"])
        .ok()
        .unwrap();
    let ended = mesh.wait_ended(node, SOON).unwrap();
    assert!(ended.is_none_or(|status| status.code() == Some(6)), "{ended:?}");
}

/// Waits until a node that is asked says that so many vote.
fn voters(mesh: &Mesh, count: usize) {
    let client = client(mesh, "read");
    let node = mesh.ids()[0];
    let voting = wait_until(SOON, "the voters", || {
        let status = status_of(mesh, &client, node);
        status.is_some_and(|status| status.nodes.iter().filter(|node| node.voter).count() == count)
    });
    voting.unwrap();
}

#[test]
fn three_grow_to_five_and_shrink_again_under_load() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    for node in [4, 5] {
        mesh.new_node(node).unwrap();
    }
    let load = Load::start(&mesh);
    load.goes_on("writes before");
    for node in [4, 5] {
        grow(&mut mesh, node);
    }
    voters(&mesh, 5);
    agreed(&mesh);

    // Five bear the loss of two.
    let led = leader(&mesh);
    let lost: Vec<u64> = mesh.ids().into_iter().filter(|node| *node != led).take(2).collect();
    for node in &lost {
        mesh.kill(*node).unwrap();
    }
    load.goes_on("writes without two");
    for node in &lost {
        mesh.restart(*node).unwrap();
        mesh.wait_ready(*node, SOON).unwrap();
    }
    for node in [5, 4] {
        shrink(&mut mesh, node);
        mesh.forget(node).unwrap();
    }
    voters(&mesh, 3);
    load.goes_on("writes after");
    let written = load.end();
    assert!(agreed(&mesh).0 > written);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn every_node_is_replaced_without_a_failed_write() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    for node in [4, 5, 6] {
        mesh.new_node(node).unwrap();
    }
    let load = Load::start(&mesh);
    for (old, new) in [(1, 4), (2, 5), (3, 6)] {
        grow(&mut mesh, new);
        shrink(&mut mesh, old);
        load.goes_on("writes after a replacement");
    }
    let written = load.end();

    // Its old members are gone for good: their numbers, and their processes.
    for old in [1, 2, 3] {
        let ran = mesh.mesh(["members", "invite", &old.to_string()]);
        assert!(!ran.success() && ran.stderr.contains("node_removed"), "{ran:?}");
    }
    mesh.restart(2).unwrap();
    let ended = mesh.wait_ended(2, SOON).unwrap().unwrap();
    assert_eq!(ended.code(), Some(6), "{}", mesh.logs());
    for old in [1, 2, 3] {
        mesh.forget(old).unwrap();
    }
    voters(&mesh, 3);
    assert!(agreed(&mesh).0 > written);
    verify_audit(&mesh);
    let list = mesh.mesh(["members", "list"]).ok().unwrap().stdout;
    assert!(list.contains("removed for good: 1, 2, 3"), "{list}");
    mesh.stop().unwrap();
}

#[test]
fn a_node_far_behind_is_built_by_snapshot() {
    let set = |name: &str, value: &str| (format!("MESHKIT_RAFT__{name}"), value.to_owned());
    let mut mesh = Mesh::start(Options {
        nodes: 3,
        environment: vec![
            set("SNAPSHOT_ENTRIES", "100"),
            set("LOG_ENTRIES_KEPT", "0"),
            set("LOG_PURGE_ENTRIES_MIN", "1"),
            set("SNAPSHOT_CHUNK_BYTES", "4096"),
        ],
    })
    .unwrap();
    mesh.new_node(4).unwrap();
    let load = Load::start(&mesh);
    // Each log is cut several times over.
    wait_until(JOINED, "writes", || load.written.load(Ordering::Relaxed) > 400).unwrap();
    grow(&mut mesh, 4);
    let said = fs::read_to_string(&mesh.node(4).unwrap().log).unwrap();
    assert!(said.contains("a snapshot begins"), "it came from the log: {said}");
    load.goes_on("writes with it");
    load.end();
    agreed(&mesh);
    mesh.stop().unwrap();
}

/// A runbook's commands, in order. What stays with a machine of its own is done by the harness: starting a node.
fn play(mesh: &mut Mesh, runbook: &str) {
    let place = mesh.info().ca.parent().unwrap().to_owned();
    for command in commands_of(runbook) {
        if let Some(arguments) = command.strip_prefix("meshkit-node join ") {
            join(mesh, &place, arguments);
            continue;
        }
        if command.starts_with("mesh members promote") {
            let number = command.split_whitespace().nth(3).unwrap().parse().unwrap();
            promote(mesh, number);
            continue;
        }
        // Where it asks, nobody could answer; then it is answered.
        let first = shell(mesh, &place, &command);
        let done = if first.1.contains("--yes") && !command.contains("--yes") {
            shell(mesh, &place, &format!("{command} --yes"))
        } else {
            first
        };
        assert!(done.0, "{runbook}: `{command}`: {}", done.1);
    }
}

fn shell(mesh: &Mesh, place: &Path, command: &str) -> (bool, String) {
    let programs = mesh.programs().path("mesh").parent().unwrap().to_owned();
    let path = std::env::join_paths([programs.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let done = std::process::Command::new("sh")
        .args(["-e", "-c", command])
        .env_clear()
        .env("PATH", &path)
        .env("MESH", &mesh.info().mesh)
        .env("CLUSTER", &mesh.info().clusters[0].id)
        .env("HOST", "127.0.0.1")
        .env("NO_COLOR", "1")
        .env("MESH_CONTEXT", mesh.context("admin"))
        .stdin(Stdio::null())
        .current_dir(place)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), said)
}

/// `--config node-4.toml --token-file token-4`: the node that the harness has prepared, with the certificate that the
/// runbook made.
fn join(mesh: &mut Mesh, place: &Path, arguments: &str) {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let ["--config", config, "--token-file", token] = words[..] else {
        panic!("`meshkit-node join {arguments}`");
    };
    let name = config.strip_suffix(".toml").unwrap();
    let node: u64 = name.strip_prefix("node-").unwrap().parse().unwrap();
    let directory = mesh.node(node).unwrap().config.parent().unwrap().to_owned();
    for end in ["crt", "key"] {
        fs::copy(
            place.join(format!("{name}.{end}")),
            directory.join(format!("node.{end}")),
        )
        .unwrap();
    }
    mesh.join(node, &place.join(token)).unwrap();
    caught_up(mesh, node);
}

#[test]
fn the_runbooks_of_members_work() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    for node in [4, 5] {
        mesh.new_node(node).unwrap();
    }
    let load = Load::start(&mesh);
    play(&mut mesh, "grow-a-cluster.md");
    voters(&mesh, 4);
    play(&mut mesh, "replace-a-node.md");
    mesh.wait_ended(2, SOON).unwrap();
    mesh.forget(2).unwrap();
    voters(&mesh, 4);
    play(&mut mesh, "decommission-a-node.md");
    mesh.wait_ended(5, SOON).unwrap();
    mesh.forget(5).unwrap();
    voters(&mesh, 3);
    load.goes_on("writes after all");
    load.end();
    agreed(&mesh);
    register(&mesh, &unique("after"));
    admin(&mesh).call("GetStatus", serde_json::json!({})).ok();
    mesh.stop().unwrap();
}

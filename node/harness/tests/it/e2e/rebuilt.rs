//! A node whose data is gone (X4): the others fill it again while they serve, from their log, or by snapshot where the
//! log does not reach back; and it is a full member after that. And who may read what is on a disk (M6).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use node_harness::{Mesh, Options, wait_for, wait_until};
use proto::v1::{ListPeersRequest, PatchPeerRequest};
use rustix::process::Signal;

use super::world::{SOON, agreed, client, follower, leader, register, unique, verify_audit, wait};

/// What a node says when others send it their state as a whole.
const BY_SNAPSHOT: &str = "a snapshot begins";

#[test]
fn a_wiped_node_is_filled_again_from_the_log() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let wiped = follower(&mesh);
    let told = rebuilt_under_writes(&mut mesh, wiped);
    assert!(!told.contains(BY_SNAPSHOT), "the log reached back: {told}");
    votes_again(&mut mesh, wiped);
    mesh.stop().unwrap();
}

#[test]
fn a_wiped_node_is_filled_again_by_snapshot() {
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
    // Enough that each log is cut several times over.
    let id = unique("many");
    register(&mesh, &id);
    patch(&mesh, &id, 400);
    agreed(&mesh);
    let wiped = leader(&mesh);
    let told = rebuilt_under_writes(&mut mesh, wiped);
    assert!(told.contains(BY_SNAPSHOT), "it came from the log: {told}");
    votes_again(&mut mesh, wiped);
    mesh.stop().unwrap();
}

/// So many changes of one peer, each acknowledged.
fn patch(mesh: &Mesh, id: &str, times: u64) {
    let sdk = client(mesh, "operate");
    for n in 0..times {
        wait(sdk.patch_peer(PatchPeerRequest {
            id: id.to_owned(),
            labels: [("n".to_owned(), n.to_string())].into(),
            ..Default::default()
        }))
        .unwrap();
    }
}

/// Kills a node, removes its data and starts it, with a writer going on all the time; until it holds what the others
/// hold. Answers what it said meanwhile.
fn rebuilt_under_writes(mesh: &mut Mesh, wiped: u64) -> String {
    for _ in 0..10 {
        register(mesh, &unique("before"));
    }
    agreed(mesh);
    let node = mesh.node(wiped).unwrap().clone();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let sdk = client(mesh, "operate");
    let said_before = fs::read_to_string(&node.log).unwrap().len();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let registration = proto::v1::RegisterPeerRequest {
                    id: unique("meanwhile"),
                    endpoints: vec!["127.0.0.1:9000".to_owned()],
                    ..Default::default()
                };
                // The SDK tries again until its deadline; one key, so one peer.
                wait(sdk.register_peer(registration)).unwrap();
                written.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let goes_on = |what: &str| {
                let before = written.load(Ordering::Relaxed);
                wait_until(SOON, what, || written.load(Ordering::Relaxed) > before + 5).unwrap();
            };
            goes_on("writes before");
            mesh.kill(wiped).unwrap();
            fs::remove_dir_all(&node.data).unwrap();
            goes_on("writes without it");
            mesh.restart(wiped).unwrap();
            mesh.wait_ready(wiped, SOON).unwrap();
            goes_on("writes with it");
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    let (revision, digest) = agreed(mesh);
    assert!(revision > written.load(Ordering::Relaxed), "{revision} {digest}");
    // Its own word, of its own state: everything that was acknowledged, and the whole trail.
    let own = mesh.node(wiped).unwrap().api.clone();
    let local = api_client::CallOptions {
        only: Some(own.parse().unwrap()),
        once: true,
        stay: true,
        consistency: Some(api_client::Consistency::Local),
        ..Default::default()
    };
    let call = client(mesh, "read");
    let mut found = 0;
    let mut request = ListPeersRequest {
        limit: 1000,
        ..Default::default()
    };
    loop {
        let page = wait(call.call::<api_client::methods::ListPeers>(request.clone(), local.clone()))
            .unwrap()
            .message;
        found += page
            .items
            .iter()
            .filter(|peer| peer.id.starts_with("meanwhile-"))
            .count() as u64;
        if page.next_cursor.is_empty() {
            break;
        }
        request.cursor = page.next_cursor;
    }
    assert_eq!(found, written.load(Ordering::Relaxed));
    verify_audit(mesh);
    // What it holds is one thing, that it knows so another: only then it has a vote to give.
    let votes = wait_for(SOON, "its vote", || {
        let said = fs::read_to_string(&node.log).unwrap()[said_before..].to_owned();
        said.contains("this node has recovered, and votes").then_some(said)
    });
    votes.unwrap()
}

/// With another node gone, nothing is acknowledged but by the one that was rebuilt.
fn votes_again(mesh: &mut Mesh, rebuilt: u64) {
    let other = mesh.ids().into_iter().find(|node| *node != rebuilt).unwrap();
    mesh.kill(other).unwrap();
    register(mesh, &unique("by-two"));
    mesh.restart(other).unwrap();
    mesh.wait_ready(other, SOON).unwrap();
    agreed(mesh);
}

#[test]
fn nobody_else_on_the_machine_can_read_what_a_node_keeps() {
    let mut mesh = Mesh::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    register(&mesh, "kept");
    let data = mesh.node(1).unwrap().data.clone();
    private(&data);
    // Also where the directory was made by somebody who was less careful, and files are new.
    mesh.signal(1, Signal::TERM).unwrap();
    mesh.wait_ended(1, SOON).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    mesh.restart(1).unwrap();
    mesh.wait_ready(1, SOON).unwrap();
    register(&mesh, "kept-too");
    assert!(files_below(&data) > 5);
    mesh.stop().unwrap();
}

fn private(data: &Path) {
    let mode = fs::metadata(data).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700, "{} has mode {mode:o}", data.display());
    assert!(files_below(data) > 5, "nothing was looked at");
}

/// Looks at everything below a directory; answers how many files there are.
fn files_below(directory: &Path) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // The store may have done with a file in between.
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = meta.mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        found += if meta.is_dir() { files_below(&path) } else { 1 };
    }
    found
}

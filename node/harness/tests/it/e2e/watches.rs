//! Watches (S3, S9, X3, X4) over built nodes, over REST and gRPC: whatever becomes of the nodes, each watcher's view is the
//! history, without a gap, a repeat, a turn or a torn revision.

use std::time::Duration;

use node_harness::{Mesh, Options, wait_until};
use proto::v1;
use rustix::process::Signal;

use super::{
    growing::Load,
    views::History,
    watchers::{Form, Watcher},
    world::{SOON, client, drains_take, follower, leader, register, unique, wait},
};

/// Drains, cancels and configures, so that revisions change several records of several kinds.
fn operate(mesh: &Mesh, rounds: usize) {
    for round in 0..rounds {
        let peer = unique("worked");
        register(mesh, &peer);
        mesh.mesh(["peers", "drain", &peer, "--yes"]).ok().unwrap();
        if round % 2 == 0 {
            mesh.mesh(["peers", "undrain", &peer]).ok().unwrap();
        }
    }
}

#[test]
fn every_view_is_the_history_while_leaders_are_killed() {
    let mut mesh = Mesh::start(drains_take(Duration::from_millis(200))).unwrap();
    let watchers: Vec<Watcher> = [(1, Form::Sse1), (2, Form::Sse2), (3, Form::Grpc), (1, Form::Sse3)]
        .into_iter()
        .flat_map(|(node, form)| {
            [
                Watcher::moves(&mesh, node, form),
                Watcher::stays(&mesh, node % 3 + 1, form),
            ]
        })
        .collect();
    let load = Load::start(&mesh);
    for _ in 0..3 {
        operate(&mesh, 2);
        let leads = leader(&mesh);
        mesh.kill(leads).unwrap();
        load.goes_on("writes without it");
        operate(&mesh, 2);
        mesh.restart(leads).unwrap();
        mesh.wait_ready(leads, SOON).unwrap();
    }
    load.end();
    finish(&mesh, watchers);
}

/// A last change is told to all, and what all were told up to there is the history.
fn finish(mesh: &Mesh, watchers: Vec<Watcher>) {
    let last = register(mesh, &unique("last")).changed_revision;
    for watcher in &watchers {
        watcher.reaches(last);
    }
    let history = History::read(mesh);
    for watcher in watchers {
        watcher.check(&history, last);
    }
}

#[test]
fn a_node_that_was_away_past_its_log_leaves_no_gap() {
    let set = |name: &str, value: &str| (format!("MESHKIT_RAFT__{name}"), value.to_owned());
    let mut mesh = Mesh::start(Options {
        environment: vec![
            set("SNAPSHOT_ENTRIES", "100"),
            set("LOG_ENTRIES_KEPT", "0"),
            set("LOG_PURGE_ENTRIES_MIN", "1"),
            // The sleeper must not be hung up on for being silent.
            ("MESHKIT_API__PING_TIMEOUT_MS".to_owned(), "600000".to_owned()),
        ],
        ..Options::default()
    })
    .unwrap();
    let sleeper = follower(&mesh);
    let watchers: Vec<Watcher> = [Form::Sse1, Form::Sse2, Form::Grpc]
        .into_iter()
        .map(|form| Watcher::stays(&mesh, sleeper, form))
        .collect();
    let first = register(&mesh, &unique("seen")).changed_revision;
    for watcher in &watchers {
        watcher.reaches(first);
    }
    mesh.signal(sleeper, Signal::STOP).unwrap();
    let load = Load::start(&mesh);
    let sdk = client(&mesh, "read");
    let request = || v1::GetStatusRequest {};
    let written = || {
        let status = wait(sdk.call::<api_client::methods::GetStatus>(request(), Default::default()));
        status.is_ok_and(|status| status.message.revision > first + 600)
    };
    wait_until(Duration::from_secs(60), "logs that are cut several times over", written).unwrap();
    mesh.signal(sleeper, Signal::CONT).unwrap();
    load.goes_on("writes with it");
    load.end();
    let log = mesh.node(sleeper).unwrap().log.clone();
    wait_until(SOON, "a snapshot", || {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("a snapshot begins"))
    })
    .unwrap();
    for watcher in &watchers {
        assert_eq!(watcher.streams(), 1, "{} had to connect again", watcher.name);
    }
    finish(&mesh, watchers);
    mesh.stop().unwrap();
}

/// X4: from the commit at one node to watchers at another, when the mesh is idle.
#[test]
fn changes_reach_watchers_of_other_nodes_at_once() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let node = follower(&mesh);
    let watcher = Watcher::stays(&mesh, node, Form::Grpc);
    let (mut took, mut revision) = (Vec::new(), 0);
    for _ in 0..40 {
        revision = register(&mesh, &unique("timed")).changed_revision;
        let committed = std::time::Instant::now();
        wait_until(SOON, "the watcher", || watcher.reached() >= revision).unwrap();
        took.push(committed.elapsed());
    }
    took.sort_unstable();
    eprintln!(
        "from the answer to the watcher: median {:?}, worst {:?}",
        took[20], took[39]
    );
    assert!(took[20] < Duration::from_secs(2), "{took:?}");
    watcher.check(&History::read(&mesh), revision);
    mesh.stop().unwrap();
}

//! Old copies of a data directory that are brought back (X4): they neither vote nor serve, and a wiped one is filled.

use std::{fs, path::Path};

use node_harness::{Mesh, Options, wait_until};
use rustix::process::Signal;

use super::world::{SOON, agreed, follower, leader, register, unique};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn end(mesh: &mut Mesh, node: u64) {
    mesh.signal(node, Signal::TERM).unwrap();
    mesh.wait_ended(node, SOON).unwrap();
}

fn start(mesh: &mut Mesh, node: u64) {
    mesh.restart(node).unwrap();
    mesh.wait_ready(node, SOON).unwrap();
}

/// Starts a node on what somebody put there; it has to say what to do, with exit code 3, and change nothing.
fn is_refused(mesh: &mut Mesh, node: u64) {
    let before = agreed_by_the_others(mesh, node);
    mesh.restart(node).unwrap();
    let ended = mesh.wait_ended(node, SOON).unwrap().unwrap();
    assert_eq!(ended.code(), Some(3), "{}", mesh.logs());
    let said = fs::read_to_string(&mesh.node(node).unwrap().log).unwrap();
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("old copy") && last.contains("Empty the directory"),
        "{last}"
    );
    register(mesh, &unique("without-it"));
    assert!(agreed_by_the_others(mesh, node) > before);
}

/// The revision that the others are at.
fn agreed_by_the_others(mesh: &Mesh, without: u64) -> u64 {
    let client = super::world::client(mesh, "read");
    let others: Vec<u64> = mesh.ids().into_iter().filter(|node| *node != without).collect();
    let mut seen = Vec::new();
    wait_until(SOON, "the others at one revision", || {
        let status =
            |node: &u64| super::world::status_of(mesh, &client, *node).map(|status| (status.revision, status.digest));
        seen = others.iter().map(status).collect();
        seen.iter().all(|one| one.is_some() && *one == seen[0])
    })
    .unwrap();
    seen[0].clone().unwrap().0
}

#[test]
fn an_old_copy_of_a_data_directory_is_refused() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let node = follower(&mesh);
    let data = mesh.node(node).unwrap().data.clone();
    register(&mesh, &unique("before"));
    agreed(&mesh);

    // A copy of a node that was stopped in good order, as a backup tool would make it.
    end(&mut mesh, node);
    let kept = mesh.scratch().join("kept");
    copy(&data, &kept);
    start(&mut mesh, node);
    for _ in 0..10 {
        register(&mesh, &unique("acknowledged"));
    }
    agreed(&mesh);
    end(&mut mesh, node);
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    is_refused(&mut mesh, node);

    // A directory that somebody made for a mesh that is there already, with its own first entry.
    fs::remove_dir_all(&data).unwrap();
    let config = mesh.node(node).unwrap().config.clone();
    mesh.programs()
        .node([std::ffi::OsStr::new("init"), "--config".as_ref(), config.as_os_str()])
        .ok()
        .unwrap();
    is_refused(&mut mesh, node);

    // Wiped, it is taken back: filled by the others, it votes again.
    fs::remove_dir_all(&data).unwrap();
    start(&mut mesh, node);
    agreed(&mesh);
    let voted = leader(&mesh);
    let other = mesh.ids().into_iter().find(|one| *one != node && *one != voted);
    mesh.kill(other.unwrap()).unwrap();
    register(&mesh, &unique("by-two"));
    start(&mut mesh, other.unwrap());
    agreed(&mesh);

    // And what was the node before it was wiped is nothing that it could go back to.
    end(&mut mesh, node);
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    is_refused(&mut mesh, node);
    mesh.stop().unwrap();
}

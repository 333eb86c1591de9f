//! Nodes that are not well: disks that are full, one of them or all, by the runbook; and what every node shows of clock
//! and disk. Flipped bits are in [`super::flips`].

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use node_harness::{Mesh, Options, wait_until};
use proto::v1::TransferLeadershipRequest;
use rustix::process::Signal;
use serde_json::Value;

use super::{
    host::play,
    wire::Wire,
    world::{
        SOON, admin, agreed, caller, client, follower, leader, register, registration, unique, verify_audit, wait,
    },
};

const RUNBOOK: &str = "disk-full.md";

const MIB: u64 = 1 << 20;
/// A mark that a disk of a few hundred MiB has.
const SOFT: u64 = 64 * MIB;
const HARD: u64 = 16 * MIB;

/// Node and name of each alarm that there is.
pub fn alarms(mesh: &Mesh) -> Vec<(String, u64)> {
    let output = mesh.mesh(["alarms", "list", "-o", "json"]);
    let shown: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let items = shown["items"].as_array().cloned().unwrap_or_default();
    let alarm = |item: Value| {
        let node = item["node"].as_u64().or_else(|| item["node"].as_str()?.parse().ok());
        (item["name"].as_str().unwrap().to_owned(), node.unwrap())
    };
    items.into_iter().map(alarm).collect()
}

/// Waits until these and no others are there.
pub fn until_alarms(mesh: &Mesh, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, node)| ((*name).to_owned(), *node))
        .collect();
    let mut last = Vec::new();
    let so = wait_until(SOON, "alarms", || {
        last = alarms(mesh);
        last == expected
    });
    assert!(so.is_ok(), "{last:?}, not {expected:?}");
}

fn metric(mesh: &Mesh, node: u64, line: &str) -> bool {
    let text = caller(mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
    text.lines().any(|found| found == line)
}

/// Small marks, and everything looked at often.
pub fn options(more: &[(&str, u64)]) -> Options {
    let marks = [
        ("STORAGE__DISK_SOFT_BYTES", SOFT),
        ("STORAGE__DISK_SOFT_PERCENT", 0),
        ("STORAGE__DISK_HARD_BYTES", HARD),
        ("STORAGE__DISK_CHECK_INTERVAL_MS", 100),
        ("RAFT__CHECKUP_INTERVAL_MS", 300),
    ];
    let all = marks.iter().chain(more);
    Options {
        environment: all
            .map(|(name, value)| (format!("MESHKIT_{name}"), value.to_string()))
            .collect(),
        ..Options::default()
    }
}

/// A test that needs a small disk of its own runs once more, alone, where it may mount one: in a mount namespace, with
/// a file system in memory for its temporary files. Answers whether this is that run.
pub fn on_a_small_disk(test: &str, bytes: u64) -> bool {
    const INSIDE: &str = "MESHKIT_TEST_SMALL_DISK";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mount = tempfile::tempdir().unwrap();
    let at = mount.path();
    let script = "mount -t tmpfs -o \"size=$1\" tmpfs \"$2\" || exit 99; shift 2; exec \"$@\"";
    let run = |command: &[&OsStr]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
        unshare.arg(bytes.to_string()).arg(at).args(command);
        unshare.env(INSIDE, at).env("TMPDIR", at).output()
    };
    let possible = run(&[OsStr::new("true")]);
    if !possible.as_ref().is_ok_and(|done| done.status.success()) {
        eprintln!("SKIPPED {test}: no file system can be mounted here, which takes root: {possible:?}");
        return false;
    }
    let this = std::env::current_exe().unwrap();
    let done = run(&[
        this.as_os_str(),
        OsStr::new("--exact"),
        OsStr::new(test),
        OsStr::new("--nocapture"),
    ])
    .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Takes space until only this much is left for whoever writes next.
fn fill(directory: &Path, name: &str, leave: u64) -> PathBuf {
    let found = rustix::fs::statvfs(directory).unwrap();
    let free = found.f_bavail * found.f_frsize;
    let file = directory.join(name);
    let length = (free - leave).to_string();
    let done = Command::new("fallocate")
        .args(["-l", &length])
        .arg(&file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    file
}

/// Puts a node's data on a small disk of its own.
fn move_to_small_disk(mesh: &mut Mesh, node: u64, bytes: u64) {
    let data = mesh.node(node).unwrap().data.clone();
    mesh.signal(node, Signal::TERM).unwrap();
    mesh.wait_ended(node, SOON).unwrap();
    let kept = mesh.scratch().join("kept");
    fs::rename(&data, &kept).unwrap();
    fs::create_dir(&data).unwrap();
    let size = format!("size={bytes}");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        .arg(&data)
        .status()
        .unwrap();
    assert!(mounted.success());
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let copied = Command::new("cp")
        .args(["-a", "--"])
        .arg(kept.join("."))
        .arg(&data)
        .status()
        .unwrap();
    assert!(copied.success());
    mesh.restart(node).unwrap();
    mesh.wait_ready(node, SOON).unwrap();
}

#[test]
fn one_full_disk_stops_nobody() {
    if !on_a_small_disk("e2e::fitness::one_full_disk_stops_nobody", 4096 * MIB) {
        return;
    }
    let mut mesh = Mesh::start(options(&[("STORAGE__STATE_FLUSH_INTERVAL_MS", 300)])).unwrap();
    register(&mesh, "p1");
    let full = follower(&mesh);
    move_to_small_disk(&mut mesh, full, 384 * MIB);
    let data = mesh.node(full).unwrap().data.clone();
    let lead = TransferLeadershipRequest {
        to: full,
        reason: "a test".to_owned(),
        ..Default::default()
    };
    wait(client(&mesh, "admin").transfer_leadership(lead)).unwrap();
    wait_until(SOON, "it to lead", || leader(&mesh) == full).unwrap();
    let ballast = data.join("BALLAST");
    wait_until(SOON, "the ballast", || ballast.exists()).unwrap();
    assert!(alarms(&mesh).is_empty());

    let filler = fill(&data, "FILLER", SOFT / 2);
    until_alarms(&mesh, &[("NOSPACE", full)]);
    wait_until(SOON, "another to lead", || leader(&mesh) != full).unwrap();
    assert!(metric(
        &mesh,
        full,
        &format!("meshkit_alarm{{name=\"NOSPACE\",node=\"{full}\"}} 1")
    ));
    let seen = play(&mut mesh, full, RUNBOOK, "See", &[0]);
    assert!(seen[0].stdout.contains("bytes are free"), "{seen:?}");
    assert!(seen.iter().all(|shown| shown.stdout.contains("NOSPACE")), "{seen:?}");
    assert!(ballast.exists(), "the hard mark is not reached");
    // Who says that it is well while it is not is told again.
    let node = full.to_string();
    mesh.mesh(["alarms", "disarm", &node, "nospace", "--reason", "a test"])
        .ok()
        .unwrap();
    until_alarms(&mesh, &[("NOSPACE", full)]);

    // It takes no part in leading, and in everything else. The reserve is for that.
    let more = fill(&data, "MORE", HARD / 2);
    wait_until(SOON, "the ballast to be given up", || !ballast.exists()).unwrap();
    for _ in 0..20 {
        register(&mesh, &unique("meanwhile"));
    }
    agreed(&mesh);

    // With nothing left at all it stops rather than promise what it cannot keep, and the others go on.
    let rest = fill(&data, "REST", 0);
    wait_until(SOON, "it to stop", || {
        register(&mesh, &unique("meanwhile"));
        !mesh.is_running(full).unwrap()
    })
    .unwrap();
    let ended = mesh.wait_ended(full, SOON).unwrap().unwrap();
    assert_eq!(ended.code(), Some(5));
    for file in [rest, more, filler] {
        fs::remove_file(file).unwrap();
    }
    // What takes the space is seen, less is kept, and the node is started.
    let done = play(&mut mesh, full, RUNBOOK, "Do", &[0]);
    assert!(done.len() >= 4 && done[0].stdout.contains("tmpfs"), "{done:?}");
    let kept = mesh.mesh(["config", "get", "retention.history"]).ok().unwrap().stdout;
    assert!(kept.contains("7d"), "{kept}");
    until_alarms(&mesh, &[]);
    wait_until(SOON, "the ballast to be made again", || ballast.exists()).unwrap();
    register(&mesh, "p2");
    agreed(&mesh);
    play(&mut mesh, full, RUNBOOK, "Check", &[0]);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn three_full_disks_stop_mutations_and_not_reads_until_there_is_space() {
    if !on_a_small_disk(
        "e2e::fitness::three_full_disks_stop_mutations_and_not_reads_until_there_is_space",
        768 * MIB,
    ) {
        return;
    }
    let mesh = Mesh::start(options(&[])).unwrap();
    register(&mesh, "p1");
    let filler = fill(mesh.scratch(), "FILLER", SOFT / 2);
    until_alarms(&mesh, &[("NOSPACE", 1), ("NOSPACE", 2), ("NOSPACE", 3)]);
    let refused = mesh
        .mesh(["peers", "register", "p2", "--endpoint", "127.0.0.1:9"])
        .expect_code(6)
        .unwrap();
    assert!(refused.stderr.contains("no_space"), "{refused:?}");
    let answer = admin(&mesh).send("POST", "/meshkit/peers", &registration("p3"));
    assert_eq!(answer.status, 507, "{}", answer.text);
    for node in mesh.ids() {
        mesh.mesh_at(node, ["peers", "get", "p1"]).unwrap().ok().unwrap();
        mesh.mesh_at(node, ["peers", "get", "p2"])
            .unwrap()
            .expect_code(1)
            .unwrap();
    }

    fs::remove_file(filler).unwrap();
    until_alarms(&mesh, &[]);
    register(&mesh, "p2");
    agreed(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn the_leader_shows_clocks_and_every_node_its_disk() {
    let mesh = Mesh::start(options(&[])).unwrap();
    let lead = leader(&mesh);
    let offsets = |node| {
        let text = caller(&mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
        let value = |line: &str| line.split_once("} ").map(|(_, value)| value.parse::<f64>().unwrap());
        let lines = text
            .lines()
            .filter(|line| line.starts_with("meshkit_clock_offset_seconds{"));
        lines.filter_map(value).collect::<Vec<_>>()
    };
    wait_until(SOON, "three clocks", || offsets(lead).len() == 3).unwrap();
    // One machine has one clock.
    assert!(
        offsets(lead).iter().all(|offset| offset.abs() < 1.0),
        "{:?}",
        offsets(lead)
    );
    for node in mesh.ids() {
        let text = caller(&mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
        let free = text
            .lines()
            .find_map(|line| line.strip_prefix("meshkit_disk_free_bytes "));
        assert!(free.is_some_and(|free| free.parse::<u64>().unwrap() > SOFT), "{text}");
        assert!(metric(&mesh, node, &format!("meshkit_disk_mark_bytes {SOFT}")));
    }
    let none = mesh.mesh(["alarms", "disarm", "1", "CLOCK"]).expect_code(1).unwrap();
    assert!(none.stderr.contains("not_found"), "{none:?}");
    let unknown = mesh.mesh(["alarms", "disarm", "1", "SMOKE"]).expect_code(2).unwrap();
    assert!(unknown.stderr.contains("NOSPACE, CORRUPT, CLOCK"), "{unknown:?}");
    mesh.stop().unwrap();
}

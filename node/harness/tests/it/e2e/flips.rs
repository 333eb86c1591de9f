//! Bits that change on their own under a running node, on its disk and in its memory: they are found, the node shows
//! nothing to anybody from then on, and it is built anew by the commands of the runbook.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use api_client::{Client, methods::GetPeer};
use node_harness::{Mesh, wait_until};
use proto::v1::{GetPeerRequest, PatchPeerRequest};
use rustix::process::Signal;
use serde_json::json;

use super::{
    fitness::{alarms, options, until_alarms},
    host::play,
    wire::Wire,
    world::{SOON, agreed, caller, client, follower, only, register, unique, verify_audit, wait},
};

const RUNBOOK: &str = "corrupt-node.md";

/// No flush but when a node stops: so no new files, and no compaction that could come upon a flip before the scrub.
const NO_FLUSHES: (&str, u64) = ("STORAGE__STATE_FLUSH_INTERVAL_MS", 3_600_000);

#[test]
fn a_flip_on_the_disk_beneath_what_is_cached_is_found_by_the_scrub() {
    let mut mesh = Mesh::start(options(&[("STORAGE__SCRUB_INTERVAL_MS", 500), NO_FLUSHES])).unwrap();
    write(&mesh, "p1");
    let victim = follower(&mesh);
    // What it has goes to its disk, and what is on its disk is read, and cached.
    mesh.signal(victim, Signal::TERM).unwrap();
    mesh.wait_ended(victim, SOON).unwrap();
    mesh.restart(victim).unwrap();
    mesh.wait_ready(victim, SOON).unwrap();
    agreed(&mesh);
    let data = mesh.node(victim).unwrap().data.clone();
    assert!(
        flip_tables(&data, Some(1), &mut BTreeSet::new()) > 0,
        "there are no rows on disk"
    );
    until_alarms(&mesh, &[("CORRUPT", victim)]);
    let found = detail(&mesh);
    assert!(
        found.contains("found by the scrub") && found.contains("checksum"),
        "{found}"
    );
    set_aside_and_built_anew(&mut mesh, victim);
    mesh.stop().unwrap();
}

#[test]
fn a_flip_that_a_compaction_comes_upon_first_stops_the_node() {
    let mut mesh = Mesh::start(options(&[("STORAGE__STATE_FLUSH_INTERVAL_MS", 500)])).unwrap();
    let victim = follower(&mesh);
    let data = mesh.node(victim).unwrap().data.clone();
    // Every file as it comes, until there are so many that they are put together. A flip in what was put together already may
    // lie there for long: rows that only grow are not read again for newer ones.
    let (mut flipped, mut done) = (0, BTreeSet::new());
    let sdk = client(&mesh, "operate");
    let (mut changes, mut id) = (0.., String::new());
    wait_until(SOON, "it to stop", || {
        let n = changes.next().unwrap();
        if n % CHANGES == 0 {
            id = unique("peer");
            register(&mesh, &id);
        }
        change(&sdk, &id, n % CHANGES);
        flipped += flip_tables(&data, None, &mut done);
        !mesh.is_running(victim).unwrap()
    })
    .unwrap();
    assert!(flipped > 0, "there were no rows on disk");
    wait_until(SOON, "dev to report it", || {
        mesh.logs().contains("ended with exit code 4")
    })
    .unwrap();
    let log = fs::read_to_string(&mesh.node(victim).unwrap().log).unwrap();
    assert!(log.contains("checksum mismatch"), "{log}");
    register(&mesh, "p2");
    play(&mut mesh, victim, RUNBOOK, "Do", &[0]);
    well_again(&mut mesh, victim);
    mesh.stop().unwrap();
}

#[test]
fn a_flip_in_memory_is_found_by_the_scrub() {
    let mut mesh = Mesh::start(options(&[("STORAGE__SCRUB_INTERVAL_MS", 500)])).unwrap();
    let victim = follower(&mesh);
    let marked = "label-found-nowhere-else-01";
    label(&mesh, "p1", marked);
    agreed(&mesh);
    if !flip_memory(&mut mesh, victim, marked) {
        return;
    }
    until_alarms(&mesh, &[("CORRUPT", victim)]);
    let found = detail(&mesh);
    assert!(
        found.contains("found by the scrub") && found.contains("in memory"),
        "{found}"
    );
    set_aside_and_built_anew(&mut mesh, victim);
    mesh.stop().unwrap();
}

#[test]
fn a_flip_in_memory_is_found_by_the_leaders_checkup() {
    // The scrub comes once an hour.
    let mut mesh = Mesh::start(options(&[])).unwrap();
    let victim = follower(&mesh);
    let marked = "label-found-nowhere-else-02";
    label(&mesh, "p1", marked);
    agreed(&mesh);
    if !flip_memory(&mut mesh, victim, marked) {
        return;
    }
    // Nothing is made of it until the record is; then the victim's history is another than the others'.
    assert_eq!(alarms(&mesh), []);
    label(&mesh, "p1", "something-else");
    until_alarms(&mesh, &[("CORRUPT", victim)]);
    let found = detail(&mesh);
    assert!(found.contains("that of the majority"), "{found}");
    set_aside_and_built_anew(&mut mesh, victim);
    mesh.stop().unwrap();
}

/// How often a peer is changed: its rows fill blocks then.
const CHANGES: usize = 40;

/// A peer, changed so often.
fn write(mesh: &Mesh, id: &str) {
    register(mesh, id);
    let sdk = client(mesh, "operate");
    for n in 0..CHANGES {
        change(&sdk, id, n);
    }
}

/// Gives a peer one long label more.
fn change(sdk: &Client, id: &str, number: usize) {
    let patch = PatchPeerRequest {
        id: id.to_owned(),
        labels: [(format!("n-{number}"), "x".repeat(200))].into(),
        ..Default::default()
    };
    wait(sdk.patch_peer(patch)).unwrap();
}

/// A peer with this as a label.
fn label(mesh: &Mesh, id: &str, value: &str) {
    if !mesh.mesh(["peers", "get", id]).success() {
        register(mesh, id);
    }
    let patch = PatchPeerRequest {
        id: id.to_owned(),
        labels: [("mark".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    wait(client(mesh, "operate").patch_peer(patch)).unwrap();
}

/// The detail of the only alarm.
fn detail(mesh: &Mesh) -> String {
    let shown = mesh.mesh(["alarms", "list", "-o", "json"]).ok().unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    shown["items"][0]["detail"].as_str().unwrap().to_owned()
}

/// Flips a bit in blocks of the tables of a node's state that are not done yet: in so many of each, or in all. Answers how many
/// were flipped.
fn flip_tables(data: &Path, blocks: Option<usize>, done: &mut BTreeSet<PathBuf>) -> usize {
    const BLOCK: usize = 4_096;
    let entries = fs::read_dir(data.join("state")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let tables = paths.filter(|path| path.extension() == Some(OsStr::new("sst")));
    // In small ones rows are not most of what there is.
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() > 3 * BLOCK as u64);
    let mut flipped = 0;
    for table in tables.filter(large) {
        // It may be gone by now.
        let opened = File::options().read(true).write(true).open(&table);
        let Ok(file) = opened else {
            continue;
        };
        if !done.insert(table) {
            continue;
        }
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        for at in (BLOCK / 2..length - 2 * BLOCK)
            .step_by(BLOCK)
            .take(blocks.unwrap_or(usize::MAX))
        {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
            flipped += 1;
        }
    }
    flipped
}

/// Flips a bit in every copy of a text in a node's memory that records, rather than rows and messages, can be made of.
/// `false`: this machine does not allow it.
fn flip_memory(mesh: &mut Mesh, node: u64, text: &str) -> bool {
    let pid = mesh.node(node).unwrap().pid;
    // So that nothing moves meanwhile.
    mesh.signal(node, Signal::STOP).unwrap();
    let flipped = flip_copies(pid, text.as_bytes());
    mesh.signal(node, Signal::CONT).unwrap();
    match flipped {
        Ok(copies) => {
            assert!(copies > 0, "`{text}` is nowhere in the memory of node {node}");
            true
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("SKIPPED: the memory of a child may not be changed here: {error}");
            false
        }
        Err(error) => panic!("the memory of node {node}: {error}"),
    }
}

/// How much memory is looked at at once.
const PIECE: usize = 1 << 20;

fn flip_copies(pid: u32, text: &[u8]) -> io::Result<usize> {
    let memory = File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))?;
    let (mut copies, mut piece) = (0, vec![0; PIECE]);
    let empty = vec![0; PIECE];
    for (from, to) in writable_memory(pid)? {
        // Pieces overlap by as much as a text that lies across the seam.
        for begin in (from..to).step_by(PIECE - text.len()) {
            let end = to.min(begin + PIECE as u64);
            let bytes = &mut piece[..usize::try_from(end - begin).unwrap()];
            // Reserved and not there yet, or never touched.
            if memory.read_exact_at(bytes, begin).is_err() || *bytes == empty[..bytes.len()] {
                continue;
            }
            for at in copies_in(bytes, text) {
                let middle = at + text.len() / 2;
                let (place, flipped) = (begin + middle as u64, bytes[middle] ^ 1);
                memory.write_all_at(&[flipped], place)?;
                let mut seen = [0];
                memory.read_exact_at(&mut seen, place)?;
                assert_eq!(seen[0], flipped, "the bit did not flip");
                copies += 1;
            }
        }
    }
    Ok(copies)
}

/// Where a text is that is not part of a row or a message: there its length stands before it.
fn copies_in(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    // In records what stands before it is the end of something else: of all bytes, hardly ever this one.
    let length = u8::try_from(text.len()).unwrap();
    assert!((1..32).contains(&length) && length != b'\n', "{length}");
    let places = bytes.windows(text.len()).enumerate().skip(1);
    places
        .filter(|(at, window)| *window == text && bytes[at - 1] != length)
        .map(|(at, _)| at)
        .collect()
}

/// Where a process keeps what it has allocated: begin and end of each area.
fn writable_memory(pid: u32) -> io::Result<Vec<(u64, u64)>> {
    let mut areas = Vec::new();
    for line in BufReader::new(File::open(format!("/proc/{pid}/maps"))?).lines() {
        let line = line?;
        // from-to rights offset device inode path
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, _, _, inode, path @ ..] = &words[..] else {
            continue;
        };
        let of_a_file = *inode != "0" || path.first().is_some_and(|path| path.starts_with("[stack"));
        if !rights.starts_with("rw-p") || of_a_file {
            continue;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let ends = range.split_once('-').map(|(from, to)| (number(from), number(to)));
        if let Some((Some(from), Some(to))) = ends {
            areas.push((from, to));
        }
    }
    Ok(areas)
}

/// The node answers nobody and says where to go instead, the others go on, and the runbook helps.
fn set_aside_and_built_anew(mesh: &mut Mesh, victim: u64) {
    assert!(mesh.is_running(victim).unwrap(), "it stopped instead");
    let reader = client(mesh, "read");
    let request = GetPeerRequest { id: "p1".to_owned() };
    let refused = wait(reader.call::<GetPeer>(request, only(mesh, victim))).unwrap_err();
    assert_eq!(refused.code(), "unavailable");
    assert!(
        refused.detail().contains("its state is damaged") && refused.hint().contains("corrupt-node"),
        "{refused:?}"
    );
    for wire in Wire::ALL {
        let mut at = caller(mesh, victim, wire, "read");
        at = at.with("mesh-consistency", "local");
        at.call("GetPeer", json!({ "id": "p1" })).refused("unavailable");
    }
    let ready = caller(mesh, victim, Wire::H1, "read").get("/readyz");
    assert_eq!(ready.status, 503, "{ready:?}");
    register(mesh, "p2");

    let seen = play(mesh, victim, RUNBOOK, "See", &[0, 1]);
    for shown in &seen {
        assert!(shown.stdout.contains("CORRUPT"), "{shown:?}");
    }
    play(mesh, victim, RUNBOOK, "Do", &[0]);
    well_again(mesh, victim);
}

fn well_again(mesh: &mut Mesh, victim: u64) {
    until_alarms(mesh, &[]);
    let data = mesh.node(victim).unwrap().data.clone();
    assert!(data.with_extension("corrupt").is_dir(), "what was there is kept");
    mesh.mesh_at(victim, ["peers", "get", "p2"]).unwrap().ok().unwrap();
    agreed(mesh);
    play(mesh, victim, RUNBOOK, "Check", &[0]);
    verify_audit(mesh);
}

//! Edges of membership, recovery and backups: voters that die at the wrong moment, lost nodes that come back, backups
//! without a quorum, that break off, or that find no room (X2, M5).

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use node_harness::{Mesh, Options, Running, wait_until};
use rustix::process::Signal;

use super::{
    backup::{Restored, typed},
    fitness::on_a_small_disk,
    growing::{caught_up, invite, promote},
    world::{SOON, agreed, follower, leader, register, unique},
};

/// Enough for a backup to arrive in more than one piece.
fn records(mesh: &Mesh, count: usize) {
    for _ in 0..count {
        register(mesh, &unique("record"));
    }
}

#[test]
fn a_removal_right_after_a_death_stops_nothing() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let led = leader(&mesh);
    let others: Vec<u64> = mesh.ids().into_iter().filter(|node| *node != led).collect();
    let remove = |mesh: &Mesh, node: u64, more: &[&str]| {
        let number = node.to_string();
        let mut arguments = vec!["members", "remove", &number, "--yes", "--reason", "a test"];
        arguments.extend(more);
        mesh.mesh(arguments)
    };
    mesh.kill(others[0]).unwrap();
    for more in [&[][..], &["--force"]] {
        let refused = remove(&mesh, others[1], more).expect_code(6).unwrap();
        assert!(
            refused.stderr.contains("quorum_at_risk") && refused.stderr.contains("start the nodes"),
            "{refused:?}"
        );
    }
    let listed = mesh.mesh(["members", "list"]).ok().unwrap().stdout;
    assert!(!listed.contains("not through"), "{listed}");
    register(&mesh, &unique("after-refusal"));

    // The dead one may go, and the two that are left serve.
    let done = remove(&mesh, others[0], &[]).ok().unwrap();
    assert!(done.stdout.contains("2 vote"), "{done:?}");
    mesh.forget(others[0]).unwrap();
    register(&mesh, &unique("by-two"));

    // Of two that vote one is dead: nothing can be committed, so nothing is begun.
    mesh.kill(others[1]).unwrap();
    let refused = remove(&mesh, others[1], &["--force"]);
    assert!(!refused.success(), "{refused:?}");
    let listed = mesh
        .mesh(["members", "list", "--consistency", "local"])
        .ok()
        .unwrap()
        .stdout;
    assert!(!listed.contains("not through"), "{listed}");
    // What one node knows is shown, whatever is read.
    let peers = mesh.mesh(["peers", "list", "--consistency", "local", "-o", "name"]);
    assert!(peers.ok().unwrap().stdout.contains("peer/by-two"));
    let majority = mesh.mesh(["peers", "list", "--request-timeout", "3s"]);
    assert!(!majority.success(), "{majority:?}");
    mesh.restart(others[1]).unwrap();
    mesh.wait_ready(others[1], SOON).unwrap();
    agreed(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn a_leader_that_dies_while_a_node_joins_is_no_hindrance() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    for (node, delay, joiner_too) in [(4, 0, false), (5, 15, true)] {
        mesh.new_node(node).unwrap();
        let token = invite(&mesh, node);
        let led = leader(&mesh);
        mesh.join(node, &token).unwrap();
        wait_until(SOON, "it to ask", || mesh.joining(node).contains("asks to join")).unwrap();
        thread::sleep(Duration::from_millis(delay));
        mesh.kill(led).unwrap();
        if joiner_too {
            // Whatever it got to, the same command goes on from there.
            mesh.kill(node).unwrap();
            mesh.join(node, &token).unwrap();
        }
        caught_up(&mut mesh, node);
        mesh.restart(led).unwrap();
        mesh.wait_ready(led, SOON).unwrap();
        promote(&mesh, node);
    }
    register(&mesh, &unique("grown"));
    agreed(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn the_lost_that_come_back_together_after_a_recovery_stop_by_themselves() {
    let mut mesh = Mesh::start(Options {
        nodes: 5,
        ..Options::default()
    })
    .unwrap();
    register(&mesh, &unique("kept"));
    agreed(&mesh);
    for node in mesh.ids() {
        mesh.kill(node).unwrap();
    }
    let config = mesh.node(1).unwrap().config.to_str().unwrap().to_owned();
    let cluster = mesh.info().clusters[0].id.clone();
    let recover = ["recover", "--force-single", "--config", &config, "--confirm", &cluster];
    mesh.programs().node(recover).ok().unwrap();
    for node in [1, 2, 3] {
        mesh.restart(node).unwrap();
    }
    // They welcome each other, and are no majority of the five that they know; one alone tells them.
    for node in [2, 3] {
        let ended = mesh.wait_ended(node, SOON).unwrap().unwrap();
        assert_eq!(ended.code(), Some(6), "{}", mesh.logs());
        let said = fs::read_to_string(&mesh.node(node).unwrap().log).unwrap();
        let last = said.lines().last().unwrap();
        assert!(
            last.contains("node 1 says") && last.contains("mesh members invite"),
            "{last}"
        );
    }
    for node in [2, 3, 4, 5] {
        mesh.forget(node).unwrap();
    }
    mesh.wait_ready(1, SOON).unwrap();
    register(&mesh, &unique("undisturbed"));
    mesh.stop().unwrap();
}

#[test]
fn a_backup_without_a_quorum_is_what_one_node_has() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    records(&mesh, 5);
    let (revision, _) = agreed(&mesh);
    let left = follower(&mesh);
    let others: Vec<u64> = mesh.ids().into_iter().filter(|node| *node != left).collect();
    let file = |name: &str| mesh_file(&mesh, name);
    let files = [file("refused"), file("dead"), file("frozen")];
    for node in &others {
        mesh.kill(*node).unwrap();
    }
    let refused = save(&mesh, left, &files[0], &["--request-timeout", "4s"]);
    assert!(!refused.success(), "{refused:?}");
    assert_eq!(beside(&files[0]), 0, "something is left: {refused:?}");
    let local = ["--consistency", "local", "-o", "json"];
    let saved = save(&mesh, left, &files[1], &local).ok().unwrap().json().unwrap();
    assert!(saved["revision"].as_u64() >= Some(revision), "{saved}");
    verify(&mesh, &files[1]);
    let said = fs::read_to_string(&mesh.node(left).unwrap().log).unwrap();
    assert!(said.contains("that the audit trail cannot be told of"), "{said}");

    // The same where the others take connections and never answer.
    for node in &others {
        mesh.restart(*node).unwrap();
        mesh.wait_ready(*node, SOON).unwrap();
    }
    agreed(&mesh);
    for node in &others {
        mesh.signal(*node, Signal::STOP).unwrap();
    }
    let saved = save(&mesh, left, &files[2], &local);
    for node in &others {
        mesh.signal(*node, Signal::CONT).unwrap();
    }
    saved.ok().unwrap();
    verify(&mesh, &files[2]);
    agreed(&mesh);
    mesh.stop().unwrap();
}

fn mesh_file(mesh: &Mesh, name: &str) -> PathBuf {
    mesh.scratch().join(format!("{name}.backup"))
}

fn save(mesh: &Mesh, node: u64, file: &Path, more: &[&str]) -> node_harness::Output {
    let mut arguments = vec!["backup", "save", file.to_str().unwrap()];
    arguments.extend(more);
    mesh.mesh_at(node, arguments).unwrap()
}

fn verify(mesh: &Mesh, file: &Path) {
    mesh.mesh(["backup", "verify", file.to_str().unwrap()]).ok().unwrap();
}

/// How many files there are whose name begins with this one's.
fn beside(file: &Path) -> usize {
    let name = file.file_name().unwrap().to_str().unwrap();
    let found = fs::read_dir(file.parent().unwrap()).unwrap();
    found
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(name))
        .count()
}

/// Passes bytes on to a node, and from it no more than it is told to; what is held back then is lost.
struct Choke {
    address: SocketAddr,
    passed: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Choke {
    fn before(node: &str, limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (passed, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counts, opens, node) = (passed.clone(), open.clone(), node.to_owned());
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&node) else {
                    continue;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, |_| true));
                let (counts, opens) = (counts.clone(), opens.clone());
                thread::spawn(move || {
                    pass(server, client, |bytes| {
                        let held = counts.fetch_add(bytes, Ordering::Relaxed) + bytes > limit;
                        while held && !opens.load(Ordering::Relaxed) {
                            thread::sleep(Duration::from_millis(10));
                        }
                        !held
                    });
                });
            }
        });
        Self { address, passed, open }
    }
}

/// Passes bytes until either side ends; `after` each piece may hold it up, and says whether to go on.
fn pass(mut from: TcpStream, mut to: TcpStream, after: impl Fn(usize) -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(read) = from.read(&mut bytes) {
        if read == 0 || to.write_all(&bytes[..read]).is_err() || !after(read) {
            break;
        }
    }
    for stream in [from, to] {
        stream.shutdown(Shutdown::Both).ok();
    }
}

#[test]
fn a_backup_that_breaks_off_is_no_file_and_is_begun_again() {
    /// More than a handshake, less than the backup.
    const LIMIT: usize = 40_000;
    let mut mesh = Mesh::start(Options::default()).unwrap();
    records(&mesh, 150);
    agreed(&mesh);
    let node = follower(&mesh);
    let file = mesh_file(&mesh, "broken");
    let part = mesh.scratch().join("broken.backup.part");
    let begin = |mesh: &Mesh| {
        let api = mesh.node(node).unwrap().api.clone();
        let choke = Choke::before(api.strip_prefix("https://").unwrap(), LIMIT);
        let mut command = mesh.programs().command("mesh");
        command
            .args(["backup", "save"])
            .arg(&file)
            .env("MESH_CONTEXT", mesh.context("admin"))
            .env("MESH_ENDPOINTS", format!("https://{}", choke.address))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(mesh.scratch().join("broken.log")).unwrap());
        let running = Running::start(command).unwrap();
        let midway = || {
            let begun = fs::metadata(&part).is_ok_and(|part| part.len() > 0);
            begun && choke.passed.load(Ordering::Relaxed) > LIMIT
        };
        wait_until(SOON, "the middle of a backup", midway).unwrap();
        assert!(!file.exists());
        (running, choke)
    };

    let (mut running, choke) = begin(&mesh);
    running.signal(Signal::INT).unwrap();
    assert_eq!(running.wait(SOON).unwrap().code(), Some(130));
    assert_eq!(beside(&file), 0, "after Ctrl-C");
    choke.open.store(true, Ordering::Relaxed);

    // Killed, it cannot clean up; what it leaves is not taken for a backup, and is no hindrance.
    let (mut running, choke) = begin(&mesh);
    running.signal(Signal::KILL).unwrap();
    running.wait(SOON).unwrap();
    assert!(part.exists() && !file.exists());
    choke.open.store(true, Ordering::Relaxed);

    let (mut running, choke) = begin(&mesh);
    mesh.kill(node).unwrap();
    choke.open.store(true, Ordering::Relaxed);
    let ended = running.wait(SOON).unwrap();
    let said = fs::read_to_string(mesh.scratch().join("broken.log")).unwrap();
    assert_eq!(ended.code(), Some(3), "{said}");
    assert!(said.contains("nothing is kept"), "{said}");
    assert_eq!(beside(&file), 0, "after the node was killed");

    mesh.restart(node).unwrap();
    mesh.wait_ready(node, SOON).unwrap();
    save(&mesh, node, &file, &[]).ok().unwrap();
    verify(&mesh, &file);
    mesh.stop().unwrap();
}

fn mount(at: &Path, size: &str, more: &str) {
    let options = format!("{more}size={size}");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(at)
        .status()
        .unwrap();
    assert!(mounted.success(), "{at:?} {options}");
}

#[test]
fn a_full_disk_stops_a_backup_and_a_restore_and_both_can_be_repeated() {
    const NAME: &str = "e2e::edges::a_full_disk_stops_a_backup_and_a_restore_and_both_can_be_repeated";
    if !on_a_small_disk(NAME, 2 << 30) {
        return;
    }
    let small = [
        ("BALLAST_BYTES", 1 << 20),
        ("DISK_SOFT_BYTES", 1 << 20),
        ("DISK_HARD_BYTES", 1 << 19),
        ("DISK_SOFT_PERCENT", 0),
    ];
    let small = small.map(|(name, value)| (format!("MESHKIT_STORAGE__{name}"), value.to_string()));
    let mesh = Mesh::start(Options {
        environment: small.to_vec(),
        ..Options::default()
    })
    .unwrap();
    records(&mesh, 150);
    agreed(&mesh);
    let place = mesh.scratch().join("place");
    fs::create_dir(&place).unwrap();
    mount(&place, "64k", "");
    let file = place.join("full.backup");
    let full = save(&mesh, 1, &file, &[]);
    assert!(
        full.code == Some(2) && full.stderr.contains("No space left") && full.stderr.contains("a disk with room"),
        "{full:?}"
    );
    assert_eq!(beside(&file), 0, "{full:?}");
    fs::write(&file, "the last good one").unwrap();
    assert_eq!(save(&mesh, 1, &file, &["--force"]).code, Some(2));
    assert_eq!(fs::read(&file).unwrap(), b"the last good one");
    mount(&place, "64m", "remount,");
    save(&mesh, 1, &file, &["--force"]).ok().unwrap();
    verify(&mesh, &file);

    let mut restored = Restored::prepare(&mesh, "restored", 1);
    let directory = Restored::directory(&mesh, "restored", 1);
    let own = "for n in 1; do meshkit-node certs node --ca ca.crt --ca-key ca.key --mesh $MESH --cluster restored --node $n \
         --host 127.0.0.1 --out restored/node-$n/node; done";
    typed(&mesh, own, &[]).ok().unwrap();
    let data = directory.join("data");
    fs::create_dir(&data).unwrap();
    for size in ["4k", "256k"] {
        mount(&data, size, if size == "4k" { "" } else { "remount," });
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        let restore = format!(
            "meshkit-node restore --config {} --backup {} --confirm restored",
            directory.join("node.toml").display(),
            file.display()
        );
        let full = typed(&mesh, &restore, &[]);
        assert!(
            full.code == Some(5) && full.stderr.contains("No space left"),
            "{size}: {full:?}"
        );
        let start = format!("meshkit-node --config {}", directory.join("node.toml").display());
        let half = typed(&mesh, &start, &[]);
        assert_eq!(half.code, Some(if size == "4k" { 5 } else { 3 }), "{size}: {half:?}");
    }
    mount(&data, "512m", "remount,");
    let restore = format!(
        "meshkit-node restore --config {} --backup {} --confirm restored",
        directory.join("node.toml").display(),
        file.display()
    );
    typed(&mesh, &restore, &[]).ok().unwrap();
    restored.start(&mesh, 1);
    restored.wait_ready(&mesh);
    mesh.stop().unwrap();
}

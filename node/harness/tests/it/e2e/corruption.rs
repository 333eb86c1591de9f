//! Damaged, locked and foreign data directories: found by checksum, named, and not started from.
//!
//! What each kind of file is held to:
//!
//! | file | damage | then |
//! |---|---|---|
//! | `IDENTITY` | truncated, a bit flipped, gone | exit 4, names the file |
//! | `state/*.sst`, `log/*.sst` | truncated, a byte flipped | exit 4, names the store or file |
//! | `state/MANIFEST-*`, `log/MANIFEST-*`, `CURRENT` | a byte flipped, garbage | exit 4, names the store or file |
//! | `log/*.log` (write-ahead) | a byte flipped in the middle | exit 4, names the store or file |
//! | `log/*.log` (write-ahead) | cut within its last record | starts: a torn write was never acknowledged; the others bring what is missing |

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use node_harness::{Mesh, Node, Options, Output};
use proto::v1::PatchPeerRequest;
use rustix::process::Signal;

use super::world::{SOON, agreed, client, dev_file, register, verify_audit, wait};

/// How a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// One bit, in the middle.
    Flip,
    /// A bit at this share of the length, in percent.
    FlipAt(u64),
    /// The second half is gone.
    Halve,
    /// The last bytes are gone.
    CutTail,
    /// Nothing is left.
    Empty,
    /// The file itself is gone.
    Remove,
}

impl Damage {
    fn apply(self, file: &Path) {
        let open = || fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
        let length = fs::metadata(file).unwrap().len();
        match self {
            Self::Flip => flip(&open(), length / 2),
            Self::FlipAt(percent) => flip(&open(), length * percent / 100),
            Self::Halve => open().set_len(length / 2).unwrap(),
            Self::CutTail => open().set_len(length.saturating_sub(3)).unwrap(),
            Self::Empty => open().set_len(0).unwrap(),
            Self::Remove => fs::remove_file(file).unwrap(),
        }
    }
}

fn flip(file: &fs::File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).unwrap();
}

/// The node whose files are damaged.
const VICTIM: u64 = 3;

#[test]
fn damaged_files_are_found_and_named() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let data = mesh.node(VICTIM).unwrap().data.clone();
    let kept = mesh.scratch().join("kept");
    write(&mesh, "before");
    // Twice stopped in good order and started, so that everything there is also is in tables.
    for round in 0..2 {
        stop(&mut mesh);
        mesh.restart(VICTIM).unwrap();
        mesh.wait_ready(VICTIM, SOON).unwrap();
        write(&mesh, &format!("round-{round}"));
    }
    // And killed, so that the write-ahead log has something to replay.
    mesh.kill(VICTIM).unwrap();
    copy(&data, &kept);

    let mut wrong = Vec::new();
    for (file, damage) in damages(&data) {
        restore(&kept, &data);
        damage.apply(&data.join(&file));
        if let Err(why) = refuses(&mut mesh, &file) {
            wrong.push(format!("{} {damage:?}: {why}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    torn_tail(&mut mesh, &kept, &data);
    agreed(&mesh);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// Every kind of file there is, each damaged in its ways.
fn damages(data: &Path) -> Vec<(PathBuf, Damage)> {
    let mut damages = Vec::new();
    for damage in [Damage::Flip, Damage::Halve, Damage::Empty, Damage::Remove] {
        damages.push((PathBuf::from("IDENTITY"), damage));
    }
    for store in ["state", "log"] {
        let tables = named(data, store, |name| name.ends_with(".sst"));
        assert!(
            !tables.is_empty(),
            "{store} has no tables; it holds {:?}",
            named(data, store, |_| true)
        );
        for table in tables {
            damages.extend([
                (table.clone(), Damage::Flip),
                (table.clone(), Damage::FlipAt(1)),
                (table, Damage::Halve),
            ]);
        }
        for manifest in named(data, store, |name| name.starts_with("MANIFEST")) {
            damages.extend([(manifest.clone(), Damage::Flip), (manifest, Damage::Empty)]);
        }
        damages.push((Path::new(store).join("CURRENT"), Damage::Empty));
    }
    let logs = written(data);
    assert!(
        !logs.is_empty(),
        "no write-ahead log; {:?}",
        named(data, "log", |_| true)
    );
    for log in logs {
        damages.extend([(log.clone(), Damage::FlipAt(10)), (log, Damage::Flip)]);
    }
    damages
}

fn named(data: &Path, store: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join(store)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
        .into_iter()
        .filter(|name| wanted(name))
        .map(|name| Path::new(store).join(name))
        .collect()
}

/// Write-ahead logs that hold something.
fn written(data: &Path) -> Vec<PathBuf> {
    let logs = named(data, "log", |name| name.ends_with(".log"));
    logs.into_iter()
        .filter(|log| fs::metadata(data.join(log)).unwrap().len() > 0)
        .collect()
}

/// The node ends with code 4 and says what is damaged.
fn refuses(mesh: &mut Mesh, file: &Path) -> Result<(), String> {
    let log = mesh.node(VICTIM).unwrap().log.clone();
    let before = fs::metadata(&log).map_or(0, |meta| meta.len());
    mesh.restart(VICTIM).unwrap();
    let ended = mesh.wait_ended(VICTIM, Duration::from_secs(8));
    if ended.is_err() {
        mesh.kill(VICTIM).unwrap();
    }
    let text = fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&text[usize::try_from(before).unwrap().min(text.len())..]).into_owned();
    match ended {
        Err(_) => Err("it started".to_owned()),
        Ok(status) => {
            let code = status.and_then(|status| status.code());
            let name = file.file_name().unwrap().to_str().unwrap();
            let store = file.parent().unwrap().to_str().unwrap();
            let names = said.contains(name) || (!store.is_empty() && said.contains(&format!("{store} store")));
            match code {
                Some(4) if names => Ok(()),
                Some(4) => Err(format!("does not name it: {said}")),
                code => Err(format!("ended with {code:?}: {said}")),
            }
        }
    }
}

/// A write that was cut short was never acknowledged by this node: it starts without it and catches up.
fn torn_tail(mesh: &mut Mesh, kept: &Path, data: &Path) {
    restore(kept, data);
    let last = written(data).pop().unwrap();
    Damage::CutTail.apply(&data.join(last));
    mesh.restart(VICTIM).unwrap();
    mesh.wait_ready(VICTIM, SOON).unwrap();
}

#[test]
fn a_directory_in_use_and_a_foreign_one_are_refused() {
    let mut mesh = Mesh::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    register(&mesh, "p1");
    let node = mesh.node(1).unwrap().clone();
    let again = mesh.programs().node(["--config", node.config.to_str().unwrap()]);
    let busy = again.expect_code(3).unwrap();
    assert!(busy.stderr.contains(node.data.to_str().unwrap()), "{}", busy.stderr);
    assert!(
        busy.stderr.contains(&format!("process {}", node.pid)),
        "{}",
        busy.stderr
    );
    // It is as it was for the one that has it.
    mesh.mesh(["peers", "get", "p1"]).ok().unwrap();

    mesh.signal(1, Signal::TERM).unwrap();
    mesh.wait_ended(1, SOON).unwrap();
    let before = fs::read(node.data.join("IDENTITY")).unwrap();
    for (variable, what) in [
        ("MESHKIT_MESH__ID", "mesh"),
        ("MESHKIT_MESH__CLUSTER", "cluster"),
        ("MESHKIT_NODE__ID", "node"),
    ] {
        let refused = as_another(&mesh, &node, variable).expect_code(3).unwrap();
        assert!(
            refused.stderr.contains(node.data.to_str().unwrap()),
            "which directory: {refused:?}"
        );
        assert!(
            refused.stderr.contains(what) && refused.stderr.contains("belongs to"),
            "whose it is: {refused:?}"
        );
    }
    assert_eq!(
        fs::read(node.data.join("IDENTITY")).unwrap(),
        before,
        "nothing was changed"
    );
    let twice = mesh
        .programs()
        .node(["init", "--config", node.config.to_str().unwrap()])
        .expect_code(3)
        .unwrap();
    assert!(twice.stderr.contains("already"), "{}", twice.stderr);

    mesh.restart(1).unwrap();
    mesh.wait_ready(1, SOON).unwrap();
    mesh.mesh(["peers", "get", "p1"]).ok().unwrap();
    mesh.stop().unwrap();
}

/// Starts a node on another's directory: with a configuration and a certificate that are good, but of another mesh,
/// cluster or number.
fn as_another(mesh: &Mesh, node: &Node, variable: &str) -> Output {
    let choose = |name: &str, own: &str, other: &str| (if variable == name { other } else { own }).to_owned();
    let id = choose("MESHKIT_MESH__ID", &mesh.info().mesh, "other");
    let cluster = choose("MESHKIT_MESH__CLUSTER", &mesh.info().clusters[0].id, "other");
    let number = choose("MESHKIT_NODE__ID", "1", "2");
    let out = mesh.scratch().join(variable);
    let (ca, ca_key) = (mesh.info().ca.clone(), dev_file(mesh, "ca.key"));
    let mut issue = vec![
        "certs",
        "node",
        "--ca",
        ca.to_str().unwrap(),
        "--ca-key",
        ca_key.to_str().unwrap(),
    ];
    issue.extend(["--mesh", &id, "--cluster", &cluster, "--node", &number]);
    issue.extend(["--host", "127.0.0.1", "--out", out.to_str().unwrap()]);
    mesh.programs().node(issue).ok().unwrap();
    let value = choose("MESHKIT_NODE__ID", "other", "2");
    let (cert, key) = (out.with_extension("crt"), out.with_extension("key"));
    let variables = [
        (variable, OsStr::new(&value)),
        ("MESHKIT_TLS__CERT_FILE", cert.as_os_str()),
        ("MESHKIT_TLS__KEY_FILE", key.as_os_str()),
    ];
    let arguments = ["--config", node.config.to_str().unwrap()];
    mesh.programs()
        .run("meshkit-node", arguments, &variables, mesh.scratch())
}

/// Some writes, all acknowledged.
fn write(mesh: &Mesh, id: &str) {
    register(mesh, id);
    let sdk = client(mesh, "operate");
    for n in 0..60 {
        let labels = [(format!("n-{n}"), "x".repeat(200))].into();
        wait(sdk.patch_peer(PatchPeerRequest {
            id: id.to_owned(),
            labels,
            ..Default::default()
        }))
        .unwrap();
    }
    agreed(mesh);
}

fn stop(mesh: &mut Mesh) {
    mesh.signal(VICTIM, Signal::TERM).unwrap();
    mesh.wait_ended(VICTIM, SOON).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn restore(kept: &Path, data: &Path) {
    fs::remove_dir_all(data).unwrap();
    copy(kept, data);
}

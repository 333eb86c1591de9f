//! Backups, restoring them, and going on after a majority is lost (M5): by the commands of the runbooks, on built programs.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use node_harness::{Mesh, Options, Output, Running, wait_for, wait_until};
use proto::v1::RegisterPeerRequest;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    wire::{Caller, Wire},
    world::{
        SOON, agreed, audit, caller, client, follower, leader, register, registration, status_of, tls, unique, wait,
    },
};

/// Signed often, so that there are checkpoints in a backup.
fn options() -> Options {
    let often = |name: &str, value: &str| (format!("MESHKIT_{name}"), value.to_owned());
    Options {
        environment: vec![often("RETENTION__AUDIT_CHECKPOINT_INTERVAL_MS", "500")],
        ..Options::default()
    }
}

/// The console commands of a runbook under one heading.
fn commands(runbook: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/runbooks")
        .join(runbook);
    let text = fs::read_to_string(path).unwrap();
    let (mut here, mut console, mut found) = (false, false, Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            here = title == heading;
        } else if line.starts_with("```") {
            console = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| here && console) {
            found.push(command.split("  #").next().unwrap().trim().to_owned());
        }
    }
    assert!(!found.is_empty(), "{runbook} has no commands under {heading}");
    found
}

/// Types a command in the directory that `dev` made.
pub fn typed(mesh: &Mesh, command: &str, variables: &[(&str, &str)]) -> Output {
    let programs = mesh.programs().path("mesh").parent().unwrap().to_owned();
    let path = std::env::join_paths([programs.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-e", "-c", command])
        .env_clear()
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .env("MESH", &mesh.info().mesh)
        .env("CLUSTER", &mesh.info().clusters[0].id)
        .env("MESH_CONTEXT", mesh.context("admin"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .current_dir(dev(mesh));
    let done = shell.output().unwrap();
    Output {
        command: command.to_owned(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        code: done.status.code(),
    }
}

fn play(mesh: &Mesh, runbook: &str, heading: &str, variables: &[(&str, &str)]) {
    for command in commands(runbook, heading) {
        typed(mesh, &command, variables).ok().unwrap();
    }
}

fn dev(mesh: &Mesh) -> PathBuf {
    mesh.info().ca.parent().unwrap().to_owned()
}

/// Registers peers without pause, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(mesh: &Mesh, writers: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let threads = (0..writers).map(|_| {
            let (client, stop, acknowledged) = (client(mesh, "admin"), stop.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let request = RegisterPeerRequest {
                        id: unique("load"),
                        endpoints: vec!["127.0.0.1:9000".to_owned()],
                        ..RegisterPeerRequest::default()
                    };
                    let id = request.id.clone();
                    wait(client.register_peer(request)).unwrap();
                    acknowledged.lock().unwrap().push(id);
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            acknowledged,
        }
    }

    fn count(&self) -> u64 {
        self.acknowledged.lock().unwrap().len() as u64
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn verified(mesh: &Mesh, file: &Path) -> Value {
    let arguments = ["backup", "verify", file.to_str().unwrap(), "-o", "json"];
    mesh.mesh(arguments).ok().unwrap().json().unwrap()
}

#[test]
fn a_backup_is_taken_under_load_and_damage_is_named() {
    let mesh = Mesh::start(options()).unwrap();
    let load = Load::start(&mesh, 4);
    wait_until(SOON, "some writes", || load.count() > 100).unwrap();
    let first = mesh.scratch().join("first.backup");
    let signed = || {
        mesh.mesh(["backup", "save", "--force", first.to_str().unwrap()])
            .ok()
            .unwrap();
        verified(&mesh, &first)["checkpoints"] != 0
    };
    wait_until(SOON, "a checkpoint", signed).unwrap();
    // From leader and followers alike: everything that was acknowledged before is in it.
    for node in mesh.ids() {
        let file = mesh.scratch().join(format!("from-{node}.backup"));
        let before = load.count();
        let arguments = [
            "backup",
            "save",
            file.to_str().unwrap(),
            "--reason",
            "test",
            "-o",
            "json",
        ];
        let saved = mesh.mesh_at(node, arguments).unwrap().ok().unwrap().json().unwrap();
        assert!(!file.with_extension("backup.part").exists());
        let document = verified(&mesh, &file);
        assert_eq!(document["sha256"], saved["sha256"], "{document}");
        assert_eq!(
            (&document["verified"], &document["anchored"]),
            (&json!(true), &json!(true))
        );
        let peers = document["peers"].as_u64().unwrap();
        assert!(peers >= before, "{before} were acknowledged, {peers} are in the backup");
        assert_eq!(document["auditRecords"], document["revision"], "{document}");
        assert!(document["checkpoints"].as_u64().unwrap() > 0, "{document}");
    }
    over_rest(&mesh);
    assert!(load.count() > 0);
    load.end();
    named(&mesh);
    refused(&mesh);
    interrupted(&mesh);
    let trail = audit(&mesh);
    let taken: Vec<_> = trail.iter().filter(|record| record.action == "backup.save").collect();
    assert!(taken.len() >= 3, "{taken:?}");
    assert!(taken.iter().all(|record| record.actor == "dev-admin"), "{taken:?}");
    let text = caller(&mesh, 1, Wire::H2, "observe").get("/metrics").ok().text;
    assert!(text.contains(r#"meshkit_api_backups_total{end="whole"}"#), "{text}");
    mesh.stop().unwrap();
}

/// The same file over HTTP/1.1 and HTTP/2, without a length, and with no secret in it.
fn over_rest(mesh: &Mesh) {
    for wire in [Wire::H1, Wire::H2] {
        let file = mesh.scratch().join(unique("rest"));
        let body = download(mesh, follower(mesh), wire);
        fs::write(&file, &body).unwrap();
        verified(mesh, &file);
        let holds = |secret: &[u8]| body.windows(secret.len()).any(|window| window == secret);
        for token in mesh.info().tokens.by_name().into_values() {
            assert!(!holds(token.as_bytes()), "a token is in the backup");
        }
        assert!(!holds(b"PRIVATE KEY"), "a key is in the backup");
    }
    caller(mesh, 1, Wire::H2, "operate")
        .get("/meshkit/backup")
        .refused("scope_missing");
}

fn download(mesh: &Mesh, node: u64, wire: Wire) -> Vec<u8> {
    let answer = caller(mesh, node, wire, "admin").bytes("/meshkit/backup").unwrap();
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("content-length"), "", "it is made while it is sent");
    answer.body.to_vec()
}

/// Damage anywhere ends in exit code 1 and the place of it.
fn named(mesh: &Mesh) {
    let file = mesh.scratch().join("from-1.backup");
    let good = fs::read(&file).unwrap();
    let bad = mesh.scratch().join("bad.backup");
    let verify = || {
        mesh.mesh(["backup", "verify", bad.to_str().unwrap()])
            .expect_code(1)
            .unwrap()
            .stderr
    };
    for at in [0, 20, good.len() / 3, good.len() / 2, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        fs::write(&bad, &flipped).unwrap();
        let said = verify();
        assert!(
            said.contains("backup_damaged") && said.contains("at byte "),
            "byte {at}: {said}"
        );
    }
    for keep in [0, 10, good.len() / 2, good.len() - 1] {
        fs::write(&bad, &good[..keep]).unwrap();
        let said = verify();
        assert!(
            said.contains("breaks off") && said.contains("at byte "),
            "cut to {keep}: {said}"
        );
    }
    fs::write(&bad, b"-----BEGIN SOMETHING ELSE-----").unwrap();
    assert!(verify().contains("this is no backup"));
    mesh.mesh(["backup", "verify", "/nowhere/at-all"])
        .expect_code(2)
        .unwrap();
}

/// A file that is there stays, unless it is meant; nothing half is left behind.
fn refused(mesh: &Mesh) {
    let file = mesh.scratch().join("kept.backup");
    fs::write(&file, "mine").unwrap();
    let arguments = ["backup", "save", file.to_str().unwrap()];
    mesh.mesh(arguments).expect_code(5).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    mesh.mesh_as("operate", ["backup", "save", file.to_str().unwrap(), "--force"])
        .expect_code(4)
        .unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(!mesh.scratch().join("kept.backup.part").exists());
    mesh.mesh(["backup", "save", file.to_str().unwrap(), "--force"])
        .ok()
        .unwrap();
    verified(mesh, &file);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let nowhere = mesh.scratch().join("not-there/x.backup");
    mesh.mesh(["backup", "save", nowhere.to_str().unwrap()])
        .expect_code(2)
        .unwrap();
}

/// Ctrl-C while a backup arrives leaves nothing: a node that hears of nobody and never answers makes it last.
fn interrupted(mesh: &Mesh) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = mesh.scratch().join("interrupted.backup");
    let mut command = mesh.programs().command("mesh");
    command
        .args(["backup", "save"])
        .arg(&file)
        .env("MESH_CONTEXT", mesh.context("admin"))
        .env("MESH_ENDPOINTS", format!("https://{}", silent.local_addr().unwrap()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut running = Running::start(command).unwrap();
    let part = mesh.scratch().join("interrupted.backup.part");
    wait_until(SOON, "the beginning of the file", || part.exists()).unwrap();
    running.signal(Signal::INT).unwrap();
    assert_eq!(running.wait(SOON).unwrap().code(), Some(130));
    assert!(!part.exists() && !file.exists());
}

/// A cluster that a mesh is restored into: configurations beside those of `dev`, its own ports.
pub struct Restored {
    name: &'static str,
    api: Vec<String>,
    nodes: Vec<Running>,
}

impl Restored {
    pub fn prepare(mesh: &Mesh, name: &'static str, nodes: usize) -> Self {
        let held: Vec<_> = (0..2 * nodes)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let address: Vec<_> = held.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        let (api, raft) = address.split_at(nodes);
        let members: String = (0..nodes)
            .map(|at| {
                format!(
                    "[[mesh.members]]\nid = {}\nraft = {:?}\napi = {:?}\n\n",
                    at + 1,
                    raft[at],
                    api[at]
                )
            })
            .collect();
        for at in 0..nodes {
            let directory = Self::directory(mesh, name, at + 1);
            fs::create_dir_all(&directory).unwrap();
            let text = format!(
                "[node]\nid = {id}\ndata_dir = {data:?}\n\n[mesh]\nid = {mesh:?}\ncluster = {name:?}\n\n{members}\
                 [api]\nlisten = {api:?}\n\n[raft]\nlisten = {raft:?}\n\n[storage]\nballast_bytes = 4194304\n\n\
                 [retention]\naudit_checkpoint_interval_ms = 500\n\n\
                 [tls]\nca_file = {ca:?}\ncert_file = \"node.crt\"\nkey_file = \"node.key\"\n\n\
                 [auth]\nkey_files = [{keys:?}]\n",
                id = at + 1,
                data = directory.join("data"),
                mesh = mesh.info().mesh,
                api = api[at],
                raft = raft[at],
                ca = mesh.info().ca,
                keys = mesh.info().ca.with_file_name("jwt.pub"),
            );
            fs::write(directory.join("node.toml"), text).unwrap();
        }
        let endpoints: Vec<_> = api.iter().map(|api| format!("\"https://{api}\"")).collect();
        let context = format!(
            "endpoints = [{}]\nca = {:?}\ntoken_file = {:?}\n",
            endpoints.join(", "),
            mesh.info().ca,
            mesh.scratch().join("admin.jwt")
        );
        fs::write(dev(mesh).join(name).join("context.toml"), context).unwrap();
        Self {
            name,
            api: api.to_vec(),
            nodes: Vec::new(),
        }
    }

    pub fn directory(mesh: &Mesh, name: &str, node: usize) -> PathBuf {
        dev(mesh).join(name).join(format!("node-{node}"))
    }

    fn context(&self, mesh: &Mesh) -> String {
        dev(mesh).join(self.name).join("context.toml").display().to_string()
    }

    /// Starts a node; it is killed when this is dropped.
    pub fn start(&mut self, mesh: &Mesh, node: usize) {
        let directory = Self::directory(mesh, self.name, node);
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(directory.join("node.log"))
            .unwrap();
        let mut command = mesh.programs().command("meshkit-node");
        command
            .arg("--config")
            .arg(directory.join("node.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.nodes.push(Running::start(command).unwrap());
    }

    fn mesh(&self, mesh: &Mesh, arguments: &str) -> Output {
        let context = self.context(mesh);
        typed(mesh, &format!("mesh {arguments}"), &[("MESH_CONTEXT", &context)])
    }

    fn caller(&self, mesh: &Mesh, node: usize) -> Caller {
        let api = format!("https://{}", self.api[node - 1]);
        Caller::new(&api, Wire::H2, tls(mesh)).bearer(&mesh.info().tokens.admin)
    }

    /// Waits until each node says that all of them answer.
    pub fn wait_ready(&self, mesh: &Mesh) {
        let all = self.api.len();
        wait_until(SOON, "the restored cluster", || {
            (1..=all).all(|node| {
                let reply = self.caller(mesh, node).try_raw("GET", "/meshkit/status", "", "");
                let answering = |reply: &super::wire::Reply| {
                    let members = reply.json["nodes"].as_array().map_or(0, Vec::len);
                    reply.is_ok() && reply.json["quorum"] == json!(true) && members == all
                };
                reply.is_ok_and(|reply| answering(&reply))
            })
        })
        .unwrap();
    }
}

/// All peers as a mesh shows them: versions, ETags and times too.
fn peers(output: Output) -> Value {
    output.ok().unwrap().json().unwrap()["items"].clone()
}

/// What is known of the source when its backup was taken.
struct Source {
    revision: u64,
    digest: String,
    chain: String,
    peers: Value,
    hashes: Vec<String>,
    cursor_before: String,
    cursor_after: String,
}

const RUNBOOK: &str = "back-up-and-restore.md";

#[test]
fn a_whole_cluster_is_restored_and_equals_its_source() {
    let mut mesh = Mesh::start(options()).unwrap();
    for _ in 0..25 {
        register(&mesh, &unique("kept"));
    }
    register(&mesh, "drained");
    mesh.mesh(["peers", "drain", "drained", "--yes", "--wait", "--reason", "test"])
        .ok()
        .unwrap();
    let keyed = registration("keyed");
    let admin = caller(&mesh, leader(&mesh), Wire::H2, "admin").with("idempotency-key", "one-request");
    admin.send("POST", "/meshkit/peers", &keyed).ok();
    let source = take(&mesh);
    // What comes later is not in it.
    for _ in 0..3 {
        register(&mesh, &unique("later"));
    }
    let source = Source {
        cursor_after: cursor(&caller(&mesh, 1, Wire::H2, "read")),
        ..source
    };
    mesh.kill_all().unwrap();

    let mut restored = Restored::prepare(&mesh, "restored", 3);
    let variables = [("NEW", restored.name)];
    let steps = commands(RUNBOOK, "Restore");
    let (restore, before) = steps.split_last().unwrap();
    assert!(restore.contains("meshkit-node restore"), "{restore}");
    for command in before {
        typed(&mesh, command, &variables).ok().unwrap();
    }
    unfit(&mesh, &restored);
    typed(&mesh, restore, &variables).ok().unwrap();
    let again = typed(&mesh, restore, &variables).expect_code(3).unwrap();
    assert!(
        again.stderr.contains("holds the data of node 1 of cluster restored"),
        "{again:?}"
    );

    for node in 1..=3 {
        restored.start(&mesh, node);
    }
    restored.wait_ready(&mesh);
    let context = restored.context(&mesh);
    equals(&mesh, &restored, &source);
    play(
        &mesh,
        RUNBOOK,
        "Check",
        &[("NEW", restored.name), ("MESH_CONTEXT", &context)],
    );
    goes_on(&mesh, &mut restored, &source);
    drop(restored);
}

/// Plays the runbook up to the file, and notes what the source is at that revision.
fn take(mesh: &Mesh) -> Source {
    let cursor_before = cursor(&caller(mesh, 1, Wire::H2, "read"));
    play(mesh, RUNBOOK, "Take one", &[]);
    play(mesh, RUNBOOK, "Check it", &[]);
    let file = dev(mesh).join("mesh.backup");
    // The signed checkpoint that follows a backup takes a revision too: asked until nothing came in between.
    let found = wait_for(SOON, "a backup of what the nodes say they are", || {
        mesh.mesh(["backup", "save", file.to_str().unwrap(), "--force"])
            .ok()
            .unwrap();
        let document = verified(mesh, &file);
        let (revision, digest) = (
            document["revision"].as_u64().unwrap(),
            document["digest"].as_str().unwrap(),
        );
        let status =
            status_of(mesh, &client(mesh, "read"), leader(mesh)).filter(|status| status.revision == revision)?;
        assert_eq!(status.digest, digest, "the backup is another state than the source");
        Some((
            revision,
            digest.to_owned(),
            document["chain"].as_str().unwrap().to_owned(),
        ))
    });
    let (revision, digest, chain) = found.unwrap();
    let trail = audit(mesh);
    let upto = trail.into_iter().filter(|record| record.revision <= revision);
    Source {
        revision,
        digest,
        chain,
        peers: peers(mesh.mesh(["peers", "list", "-o", "json"])),
        hashes: upto.map(|record| record.hash).collect(),
        cursor_before,
        cursor_after: String::new(),
    }
}

fn cursor(caller: &Caller) -> String {
    let page = caller.get("/meshkit/peers?limit=2").ok();
    page.str("nextCursor").to_owned()
}

/// What is no backup for this configuration is refused, and leaves the directory as it was.
fn unfit(mesh: &Mesh, restored: &Restored) {
    let first = Restored::directory(mesh, restored.name, 1);
    let restore = |config: &str, backup: &str, more: &str| {
        let command = format!("meshkit-node restore --config {config} --backup {backup} {more}");
        typed(mesh, &command, &[])
    };
    let config = first.join("node.toml").display().to_string();
    let refused = |output: Output, code: i32, why: &str| {
        let output = output.expect_code(code).unwrap();
        assert!(output.stderr.contains(why), "{why} is not said: {output:?}");
        assert!(!first.join("data").exists(), "something was written: {output:?}");
    };
    let confirm = "--confirm restored";
    refused(restore(&config, "mesh.backup", ""), 2, "nothing was changed");
    refused(
        restore(&config, "mesh.backup", "--confirm dev-1"),
        2,
        "--confirm says dev-1",
    );
    refused(restore(&config, "nowhere.backup", confirm), 2, "nowhere.backup");
    let good = fs::read(dev(mesh).join("mesh.backup")).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(dev(mesh).join("flipped.backup"), &flipped).unwrap();
    refused(restore(&config, "flipped.backup", confirm), 4, "at byte ");
    fs::write(dev(mesh).join("cut.backup"), &good[..good.len() / 2]).unwrap();
    refused(restore(&config, "cut.backup", confirm), 4, "breaks off");

    let text = fs::read_to_string(&config).unwrap();
    let other = |from: &str, to: &str| {
        let path = first.join("other.toml");
        fs::write(&path, text.replace(from, to)).unwrap();
        path.display().to_string()
    };
    let mesh_line = format!("[mesh]\nid = {:?}", mesh.info().mesh);
    let foreign = other(&mesh_line, "[mesh]\nid = \"another\"");
    refused(
        restore(&foreign, "mesh.backup", confirm),
        2,
        "the configuration says mesh another",
    );
    let old = &mesh.info().clusters[0].id;
    let taken = other("cluster = \"restored\"", &format!("cluster = {old:?}"));
    refused(
        restore(&taken, "mesh.backup", &format!("--confirm {old}")),
        2,
        "has, or had, a cluster",
    );

    // Whatever is in the directory stays there.
    fs::create_dir(first.join("data")).unwrap();
    fs::write(first.join("data/thesis"), "mine").unwrap();
    let full = restore(&config, "mesh.backup", confirm).expect_code(3).unwrap();
    assert!(full.stderr.contains("thesis is in it"), "{full:?}");
    assert_eq!(fs::read(first.join("data/thesis")).unwrap(), b"mine");
    fs::remove_dir_all(first.join("data")).unwrap();
}

/// The same records, the same history, and the restore after it.
fn equals(mesh: &Mesh, restored: &Restored, source: &Source) {
    assert_eq!(peers(restored.mesh(mesh, "peers list -o json")), source.peers);
    let trail = restored.caller(mesh, 2).get("/meshkit/audit?limit=1000").ok();
    let trail = trail.json["items"].as_array().unwrap();
    let hashes: Vec<_> = trail
        .iter()
        .map(|record| record["hash"].as_str().unwrap().to_owned())
        .collect();
    let known = source.hashes.len();
    assert_eq!(hashes[..known], source.hashes[..]);
    assert_eq!(hashes[known - 1], source.chain);
    let first = &trail[known];
    assert_eq!(first["action"], "mesh.restore", "{first}");
    assert_eq!(first["revision"].as_u64(), Some(source.revision + 1));
    assert_eq!(first["reason"], "site lost", "{first}");
    assert_eq!(first["previousHash"].as_str(), Some(source.chain.as_str()), "{first}");

    // A backup of the restored mesh holds together over the fork, and nothing was lost by the way.
    let file = mesh.scratch().join("again.backup");
    restored
        .mesh(mesh, &format!("backup save {}", file.display()))
        .ok()
        .unwrap();
    let document = verified(mesh, &file);
    assert_eq!(
        (&document["epoch"], &document["cluster"]),
        (&json!(2), &json!("restored")),
        "{document}"
    );
    assert_ne!(document["digest"].as_str(), Some(source.digest.as_str()));
    assert_eq!(document["firstRevision"], 1, "{document}");
}

/// Tokens from before are good, those from after are told; it takes writes, signs, and survives the loss of its founder.
fn goes_on(mesh: &Mesh, restored: &mut Restored, source: &Source) {
    let page = |cursor: &str| {
        restored
            .caller(mesh, 3)
            .get(&format!("/meshkit/peers?limit=2&cursor={cursor}"))
    };
    page(&source.cursor_before).ok();
    let diverged = page(&source.cursor_after).refused("diverged");
    assert_eq!(
        diverged.json["revision"].as_u64(),
        Some(source.revision),
        "{diverged:?}"
    );

    let keyed = restored.caller(mesh, 1).with("idempotency-key", "one-request");
    let again = keyed
        .with("mesh-route", "forward")
        .send("POST", "/meshkit/peers", &registration("keyed"))
        .ok();
    assert_eq!(again.header("mesh-replayed"), "true", "{again:?}");

    let status = restored.caller(mesh, 1).get("/meshkit/status").ok();
    assert_eq!(status.json["epoch"], 2, "{status:?}");
    restored
        .mesh(mesh, "peers register afterwards --endpoint 127.0.0.1:9000")
        .ok()
        .unwrap();
    wait_until(SOON, "a signature on the new timeline", || {
        let verified = restored
            .mesh(mesh, "audit verify -o json")
            .ok()
            .unwrap()
            .json()
            .unwrap();
        verified["coveredThrough"]
            .as_u64()
            .is_some_and(|revision| revision > source.revision)
    })
    .unwrap();

    // The founder starts again as any node, and the others do without it meanwhile.
    let mut founder = restored.nodes.remove(0);
    founder.signal(Signal::KILL).unwrap();
    founder.wait(SOON).unwrap();
    wait_until(SOON, "a write without the founder", || {
        restored.mesh(mesh, "peers cordon afterwards --reason test").success()
    })
    .unwrap();
    restored.start(mesh, 1);
    restored.wait_ready(mesh);
    let seen = || {
        let statuses = (1..=3).map(|node| {
            let mut at = restored.caller(mesh, node);
            at.headers.insert("mesh-consistency", "local".parse().unwrap());
            let status = at.get("/meshkit/status").ok().json;
            (status["revision"].clone(), status["digest"].clone())
        });
        statuses.collect::<Vec<_>>()
    };
    wait_until(SOON, "one digest on all nodes", || {
        let seen = seen();
        seen.iter().all(|status| *status == seen[0])
    })
    .unwrap();
}

const LOST: &str = "recover-lost-quorum.md";

#[test]
fn one_node_goes_on_after_a_majority_is_lost_and_the_cluster_grows_again() {
    let mut mesh = Mesh::start(options()).unwrap();
    let kept: Vec<_> = (0..10).map(|_| register(&mesh, &unique("kept")).id).collect();
    agreed(&mesh);
    let left = follower(&mesh);
    let others: Vec<u64> = mesh.ids().into_iter().filter(|node| *node != left).collect();
    // It falls behind before the others are lost: what they acknowledge now is gone with them.
    mesh.kill(left).unwrap();
    let lost: Vec<_> = (0..5).map(|_| register(&mesh, &unique("lost")).id).collect();
    let cursor_of_lost = cursor(&caller(&mesh, others[0], Wire::H2, "read"));

    let number = left.to_string();
    let variables = [("LEFT", number.as_str())];
    let recover = |mesh: &Mesh, more: &str| {
        let command = format!("meshkit-node recover --force-single --config $CLUSTER/node-$LEFT/node.toml {more}");
        typed(mesh, &command, &variables)
    };
    let there = recover(&mesh, "--confirm $CLUSTER").expect_code(2).unwrap();
    assert!(there.stderr.contains("are a majority"), "{there:?}");
    let runs = typed(
        &mesh,
        &format!(
            "meshkit-node recover --force-single --config $CLUSTER/node-{}/node.toml",
            others[0]
        ),
        &[],
    );
    assert!(
        runs.expect_code(3)
            .unwrap()
            .stderr
            .contains("in use by another process")
    );
    for node in &others {
        mesh.kill(*node).unwrap();
    }
    // One of them comes back later with what it had; the other's disk is gone.
    fs::remove_dir_all(&mesh.node(others[1]).unwrap().data).unwrap();

    let said = recover(&mesh, "").expect_code(2).unwrap();
    assert!(
        said.stdout.contains("LOST is what") && said.stderr.contains("nothing was changed"),
        "{said:?}"
    );
    assert!(
        recover(&mesh, "--confirm elsewhere")
            .expect_code(2)
            .unwrap()
            .stderr
            .contains("--confirm says")
    );
    let empty = typed(
        &mesh,
        &format!(
            "meshkit-node recover --force-single --config $CLUSTER/node-{}/node.toml",
            others[1]
        ),
        &[],
    );
    assert!(empty.expect_code(3).unwrap().stderr.contains("holds no node's data"));
    play(&mesh, LOST, "Do", &variables);
    assert!(
        recover(&mesh, "--confirm $CLUSTER")
            .expect_code(2)
            .unwrap()
            .stderr
            .contains("only member")
    );

    mesh.restart(left).unwrap();
    let gone = others.clone();
    for node in &gone {
        mesh.wait_ended(*node, SOON).unwrap();
    }
    let returning = mesh.node(gone[0]).unwrap().clone();
    for node in &gone {
        mesh.forget(*node).unwrap();
    }
    mesh.wait_ready(left, SOON).unwrap();
    play(&mesh, LOST, "Check", &variables);
    what_was_kept(&mesh, &kept, &lost, &cursor_of_lost);
    is_refused(&mesh, &returning.config, left);

    for number in ["4", "5"] {
        grow(&mut mesh, number);
    }
    register(&mesh, &unique("grown"));
    agreed(&mesh);
    assert_eq!(mesh.ids().len(), 3);
    mesh.stop().unwrap();
}

/// All that the node had ever received, none of what it had not, and whoever saw that is told.
fn what_was_kept(mesh: &Mesh, kept: &[String], lost: &[String], cursor_of_lost: &str) {
    let now = peers(mesh.mesh(["peers", "list", "-o", "json"]));
    let ids: Vec<_> = now
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| peer["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(kept.iter().all(|id| ids.contains(id)), "{kept:?} {ids:?}");
    assert!(lost.iter().all(|id| !ids.contains(id)), "{lost:?} {ids:?}");
    let trail = audit(mesh);
    let recovered = trail
        .iter()
        .find(|record| record.action == "mesh.recover")
        .expect("the recovery");
    assert_eq!(
        (recovered.reason.as_str(), recovered.ticket.as_str()),
        ("machines lost", "OPS-30")
    );
    let at = caller(mesh, mesh.ids()[0], Wire::H2, "read");
    let diverged = at
        .get(&format!("/meshkit/peers?limit=2&cursor={cursor_of_lost}"))
        .refused("diverged");
    assert_eq!(
        diverged.json["revision"].as_u64(),
        Some(recovered.revision - 1),
        "{diverged:?}"
    );
    assert_eq!(at.get("/meshkit/status").ok().json["epoch"], 2);
}

/// A lost node that comes back with its old directory is kept out, and does no harm.
fn is_refused(mesh: &Mesh, config: &Path, left: u64) {
    let log = mesh.scratch().join("returning.log");
    let mut command = mesh.programs().command("meshkit-node");
    command
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let mut returning = Running::start(command).unwrap();
    wait_until(SOON, "the refusal of a lost node", || {
        let said = fs::read_to_string(&mesh.node(left).unwrap().log).unwrap();
        said.contains("was removed from the cluster")
    })
    .unwrap();
    register(mesh, &unique("undisturbed"));
    // It is told by one of the three that it knows, and finds nobody else.
    assert_eq!(returning.wait(SOON).unwrap().code(), Some(6));
    let said = fs::read_to_string(&log).unwrap();
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("was removed from the cluster") && last.contains("mesh members invite"),
        "{said}"
    );
}

/// Adds one node by the runbook.
fn grow(mesh: &mut Mesh, number: &str) {
    let id: u64 = number.parse().unwrap();
    mesh.new_node(id).unwrap();
    let variables = [("NODE", number)];
    let steps = commands(LOST, "Grow again");
    let (invite, rest) = steps.split_first().unwrap();
    typed(mesh, invite, &variables).ok().unwrap();
    let token = dev(mesh).join(format!("join-{number}.token"));
    mesh.join(id, &token).unwrap();
    let (promote, list) = rest.split_first().unwrap();
    let mut said = String::new();
    wait_until(SOON, "a node that has caught up", || {
        let output = typed(mesh, promote, &variables);
        said = format!("{output:?}");
        output.success()
    })
    .unwrap_or_else(|error| panic!("{error}: {said}"));
    for command in list {
        typed(mesh, command, &variables).ok().unwrap();
    }
}

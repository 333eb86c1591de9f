//! Upgrades (M5, X5): the program of the feature level before runs beside today's, under load and with equal digests; what
//! is new waits for `mesh upgrade finalize`; a downgrade works until then and is refused after. The commands are those of
//! the runbook.

use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use api_client::Client;
use node_harness::{Mesh, Options, Output, Programs, wait_until};
use proto::v1::{GetPeerRequest, PatchPeerRequest, RegisterPeerRequest};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::world::{SOON, admin, agreed, builder, client, follower, leader, register, unique, verify_audit, wait};

const RUNBOOK: &str = "../../docs/runbooks/upgrade-a-cluster.md";

/// What the program of the level before calls itself.
const OLD: &str = "0.0.9-previous";

/// What today's does.
const NEW: &str = env!("CARGO_PKG_VERSION");

/// Today's program.
const TODAY: &str = "meshkit-node";

/// How often an older program is started whose start is refused by the log it reads.
const REFUSED_STARTS: usize = 8;

/// The commands under each heading of the runbook, in order.
fn runbook() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(RUNBOOK)).unwrap();
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            steps.push((heading.to_owned(), Vec::new()));
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.last_mut().unwrap().1.push(command.to_owned());
        }
    }
    steps.retain(|(_, commands)| !commands.is_empty());
    steps
}

/// The commands of one step.
fn step(heading: &str) -> Vec<String> {
    let steps = runbook();
    let headings = ["Before you begin", "One node after the other", "Finalize"];
    let found: Vec<_> = steps.iter().map(|(heading, _)| heading.as_str()).collect();
    assert_eq!(found, headings, "{RUNBOOK} has steps that nothing plays, or lacks some");
    let (_, commands) = steps.into_iter().find(|(found, _)| found == heading).unwrap();
    commands
}

/// Types a command of the runbook as admin; `$n` is `node`.
fn typed(mesh: &Mesh, node: u64, command: &str) -> Output {
    let programs = mesh.programs().path("mesh").parent().unwrap().to_owned();
    let path = std::env::join_paths([programs.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let line = command.replace("https://HOST$n:7401", &mesh.node(node).unwrap().api);
    let done = std::process::Command::new("timeout")
        .args(["60", "sh", "-e", "-c", &line])
        .env_clear()
        .env("PATH", &path)
        .env("NO_COLOR", "1")
        .env("MESH_CONTEXT", mesh.context("admin"))
        .stdin(Stdio::null())
        .current_dir(mesh.scratch())
        .output()
        .unwrap();
    Output {
        command: line,
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        code: done.status.code(),
    }
}

/// Stops a node in good order and starts it with another program, as `systemctl restart` does after the file was replaced.
fn replaced(mesh: &mut Mesh, node: u64, program: &str) {
    stopped(mesh, node);
    mesh.restart_as(node, program).unwrap();
    mesh.wait_ready(node, SOON).unwrap();
}

fn stopped(mesh: &mut Mesh, node: u64) {
    mesh.signal(node, Signal::TERM).unwrap();
    mesh.wait_ended(node, SOON).unwrap();
}

/// Starts a node with the program of the level before, which has to end by itself with exit code 3, saying `why`: all that
/// it said.
fn refuses_to_run(mesh: &mut Mesh, node: u64, why: &str) -> String {
    let log = mesh.node(node).unwrap().log.clone();
    let before = fs::read_to_string(&log).unwrap().len();
    mesh.restart_as(node, Programs::PREVIOUS).unwrap();
    let status = mesh.wait_ended(node, SOON).unwrap().unwrap();
    let said = fs::read_to_string(&log).unwrap()[before..].to_owned();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(
        said.contains(why) && said.contains("this program goes up to 1"),
        "it says not why: {said}"
    );
    said
}

/// `mesh upgrade status`.
fn upgrade(mesh: &Mesh) -> Value {
    mesh.mesh(["upgrade", "status", "-o", "json"])
        .ok()
        .unwrap()
        .json()
        .unwrap()
}

/// Waits until the mesh says that its nodes run these versions, by number.
fn run(mesh: &Mesh, versions: [&str; 3]) {
    let mut last = Value::Null;
    let told = wait_until(SOON, "the versions", || {
        last = upgrade(mesh);
        let nodes = last["nodes"].as_array().unwrap();
        let mut found: Vec<_> = nodes
            .iter()
            .map(|node| (node["node"].as_u64(), node["version"].as_str()))
            .collect();
        found.sort_unstable();
        let expected = (1..).zip(versions).map(|(node, version)| (Some(node), Some(version)));
        found.into_iter().eq(expected)
    });
    told.unwrap_or_else(|error| panic!("{error}: {last}"));
}

/// What came of `mesh upgrade finalize --yes`, which has to be refused with this code: its `detail`.
fn finalize_refused(mesh: &Mesh, code: &str, more: &[&str]) -> String {
    let line = ["upgrade", "finalize", "--yes", "-o", "json"];
    let output = mesh.mesh(line.iter().chain(more)).expect_code(6).unwrap();
    let problem: Value = serde_json::from_str(&output.stderr).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(problem["code"], code, "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

/// The reason that a peer keeps when it is cordoned with one.
fn kept_reason(mesh: &Mesh, peer: &str) -> String {
    let cordon = ["peers", "cordon", peer, "--reason", "worn belt", "-o", "json"];
    let cordoned = mesh.mesh(cordon).ok().unwrap().json().unwrap();
    assert_eq!(cordoned["status"], "CORDONED", "{cordoned}");
    let again = mesh
        .mesh(["peers", "get", peer, "-o", "json"])
        .ok()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(again["statusReason"], cordoned["statusReason"]);
    mesh.mesh(["peers", "uncordon", peer]).ok().unwrap();
    cordoned["statusReason"].as_str().unwrap().to_owned()
}

/// Nothing that level 2 brings is to be had, on any node, nor previewed.
fn level_1_holds(mesh: &Mesh, peer: &str) {
    assert_eq!(upgrade(mesh)["featureLevel"], 1);
    assert_eq!(kept_reason(mesh, peer), "");
    for dry_run in [false, true] {
        let refused = admin(mesh)
            .call("CompactHistory", json!({ "revision": 1, "dryRun": dry_run }))
            .refused("feature_level_too_low");
        assert!(refused.json["detail"].as_str().unwrap().contains('2'), "{refused:?}");
    }
    let compact = ["history", "compact", "--to", "1", "--yes", "-o", "json"];
    let refused = mesh.mesh(compact).expect_code(6).unwrap();
    assert!(refused.stderr.contains("feature_level_too_low"), "{refused:?}");
}

/// All nodes hold the same at one revision, seen while the load holds its breath.
fn same(mesh: &Mesh, load: &Load) {
    load.paused(|| agreed(mesh));
}

/// Callers of the SDK that write and read what they wrote without end. None of their requests may fail.
struct Load {
    stop: Arc<AtomicBool>,
    gate: Arc<RwLock<()>>,
    callers: Vec<Arc<Working>>,
    threads: Vec<JoinHandle<()>>,
}

struct Working {
    client: Client,
    /// A peer that only this caller changes.
    own: String,
    done: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn start(mesh: &Mesh, callers: usize) -> Self {
        let (stop, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(RwLock::new(())));
        let callers: Vec<_> = (0..callers)
            .map(|_| {
                let own = unique("loaded");
                register(mesh, &own);
                Arc::new(Working {
                    client: builder(mesh, "operate").timeout(SOON).build().unwrap(),
                    own,
                    done: AtomicU64::new(0),
                    failed: Mutex::default(),
                })
            })
            .collect();
        let threads = callers.iter().map(|caller| {
            let (caller, stop, gate) = (caller.clone(), stop.clone(), gate.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let open = gate.read().unwrap();
                    caller.work();
                    drop(open);
                    // Steady, not as fast as the machine can: others use it too.
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            gate,
            callers,
            threads,
        }
    }

    /// Does something while no request is under way.
    fn paused<T>(&self, look: impl FnOnce() -> T) -> T {
        let _closed = self.gate.write().unwrap();
        look()
    }

    /// Waits until every caller has done so many rounds more, all of them well.
    fn goes_on(&self, rounds: u64) {
        let before: Vec<_> = self.callers.iter().map(|c| c.done.load(Ordering::Relaxed)).collect();
        let moved = wait_until(4 * SOON, "the load goes on", || {
            let mut each = self.callers.iter().zip(&before);
            each.all(|(caller, before)| caller.done.load(Ordering::Relaxed) >= before + rounds)
        });
        self.no_failures();
        moved.unwrap();
    }

    fn no_failures(&self) {
        for (number, caller) in self.callers.iter().enumerate() {
            let failed = caller.failed.lock().unwrap();
            assert!(failed.is_empty(), "caller {number}: {failed:#?}");
        }
    }

    /// Ends it; answers how many rounds there were.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.no_failures();
        self.callers
            .iter()
            .map(|caller| caller.done.load(Ordering::Relaxed))
            .sum()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Where the test fails, the callers must not outlive it.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Working {
    /// Writes, and reads what it wrote: nobody else writes there, so it has to be the last that was acknowledged.
    fn work(&self) {
        let round = self.done.load(Ordering::Relaxed) + 1;
        if let Err(failure) = wait(self.round(round)) {
            self.failed.lock().unwrap().push(format!("round {round}: {failure}"));
        }
        self.done.store(round, Ordering::Relaxed);
    }

    async fn round(&self, round: u64) -> Result<(), String> {
        let said = |error: api_client::Error| error.to_string();
        if round.is_multiple_of(10) {
            let request = RegisterPeerRequest {
                id: unique("meanwhile"),
                endpoints: vec!["127.0.0.1:9000".to_owned()],
                ..RegisterPeerRequest::default()
            };
            self.client.register_peer(request).await.map_err(said)?;
        }
        let request = PatchPeerRequest {
            id: self.own.clone(),
            labels: [("round".to_owned(), round.to_string())].into(),
            ..PatchPeerRequest::default()
        };
        self.client.patch_peer(request).await.map_err(said)?;
        let id = self.own.clone();
        let read = self.client.get_peer(GetPeerRequest { id }).await.map_err(said)?.message;
        match read.labels.get("round") {
            Some(found) if *found == round.to_string() => Ok(()),
            found => Err(format!("read {found:?} after {round} was acknowledged")),
        }
    }
}

/// Logs are cut often, so that a node that was away for a while is sent a snapshot.
fn short_logs() -> Options {
    let set = |name: &str, value: &str| (format!("MESHKIT_RAFT__{name}"), value.to_owned());
    Options {
        environment: vec![
            set("SNAPSHOT_ENTRIES", "100"),
            set("LOG_ENTRIES_KEPT", "0"),
            set("LOG_PURGE_ENTRIES_MIN", "1"),
        ],
        ..Options::default()
    }
}

/// A node that was away when the level was raised, and for so long that it is sent everything at once.
#[test]
fn an_older_program_does_not_take_a_newer_snapshot() {
    let mut mesh = Mesh::start_as(short_logs(), Programs::PREVIOUS).unwrap();
    for node in mesh.ids() {
        replaced(&mut mesh, node, TODAY);
    }
    run(&mesh, [NEW; 3]);
    agreed(&mesh);
    let away = follower(&mesh);
    stopped(&mut mesh, away);
    mesh.mesh(["upgrade", "finalize", "--yes"]).ok().unwrap();
    let (id, sdk) = (unique("many"), client(&mesh, "operate"));
    register(&mesh, &id);
    for n in 0..400 {
        let request = PatchPeerRequest {
            id: id.clone(),
            labels: [("n".to_owned(), n.to_string())].into(),
            ..PatchPeerRequest::default()
        };
        wait(sdk.patch_peer(request)).unwrap();
    }
    let said = refuses_to_run(&mut mesh, away, "the mesh is at feature level 2");
    assert!(said.contains("a snapshot begins"), "it came from the log: {said}");
    // What it had is unharmed: the newer program goes on from there.
    mesh.restart(away).unwrap();
    mesh.wait_ready(away, SOON).unwrap();
    agreed(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn a_rolling_upgrade_under_load_and_what_finalizing_means() {
    let mut mesh = Mesh::start_as(Options::default(), Programs::PREVIOUS).unwrap();
    let peer = unique("cordoned");
    register(&mesh, &peer);
    for command in step("Before you begin") {
        typed(&mesh, 1, &command).ok().unwrap();
    }
    run(&mesh, [OLD; 3]);
    level_1_holds(&mesh, &peer);
    let load = Load::start(&mesh, 3);
    load.goes_on(10);

    rolled(&mut mesh, &load, &peer);
    taken_back_and_forth(&mut mesh, &load, &peer);
    let away = finalized_without_one(&mut mesh, &load, &peer);
    older_programs_stay_out(&mut mesh, &load, away);

    same(&mesh, &load);
    let rounds = load.stop();
    assert!(rounds >= 150, "only {rounds} rounds were under way");
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// One node after the other, the leader last, as the runbook says.
fn rolled(mesh: &mut Mesh, load: &Load, peer: &str) {
    let first = leader(mesh);
    let mut order: Vec<_> = mesh.ids().into_iter().filter(|node| *node != first).collect();
    order.push(first);
    let mut versions = [OLD; 3];
    for node in order {
        for command in step("One node after the other") {
            if command.starts_with("systemctl restart ") {
                stopped(mesh, node);
                mesh.restart(node).unwrap();
            } else {
                typed(mesh, node, &command).ok().unwrap();
            }
        }
        versions[usize::try_from(node).unwrap() - 1] = NEW;
        run(mesh, versions);
        load.goes_on(5);
        same(mesh, load);
        level_1_holds(mesh, peer);
        if versions.contains(&OLD) {
            let detail = finalize_refused(mesh, "upgrade_incomplete", &[]);
            for (node, version) in (1..).zip(versions) {
                let listed = detail.contains(&format!("node {node} runs {OLD}"));
                assert_eq!(listed, version == OLD, "node {node} runs {version}: {detail}");
            }
        }
        assert_eq!(upgrade(mesh)["blockers"] == json!([]), !versions.contains(&OLD));
    }
    // Where nobody can be asked, nothing is raised.
    let asks = mesh.mesh(["upgrade", "finalize"]).expect_code(6).unwrap();
    assert!(
        asks.stderr.contains("no way back") && asks.stderr.contains("--yes"),
        "{asks:?}"
    );
    finalize_refused(mesh, "feature_level_unknown", &["--to", "9"]);
}

/// Before it is finalized, a node goes back, even leads with the older program, and forth again.
fn taken_back_and_forth(mesh: &mut Mesh, load: &Load, peer: &str) {
    let back = follower(mesh);
    replaced(mesh, back, Programs::PREVIOUS);
    let mut versions = [NEW; 3];
    versions[usize::try_from(back).unwrap() - 1] = OLD;
    run(mesh, versions);
    let detail = finalize_refused(mesh, "upgrade_incomplete", &[]);
    assert!(detail.contains(&format!("node {back} runs {OLD}")), "{detail}");
    load.goes_on(5);
    same(mesh, load);
    let transfer = || admin(mesh).call("TransferLeadership", json!({ "to": back }));
    wait_until(SOON, "the older program to lead", || {
        transfer().is_ok() && leader(mesh) == back
    })
    .unwrap();
    load.goes_on(5);
    same(mesh, load);
    level_1_holds(mesh, peer);
    finalize_refused(mesh, "upgrade_incomplete", &[]);
    replaced(mesh, back, TODAY);
    run(mesh, [NEW; 3]);
    load.goes_on(5);
    same(mesh, load);
}

/// Finalizes as the runbook says, while one node is down that has told that it could follow. Answers that node.
fn finalized_without_one(mesh: &mut Mesh, load: &Load, peer: &str) -> u64 {
    let away = follower(mesh);
    stopped(mesh, away);
    for command in step("Finalize") {
        let output = typed(mesh, 1, &command);
        if output.code == Some(6) && output.stderr.contains("--yes") {
            assert!(output.stderr.contains("no way back"), "{output:?}");
            assert_eq!(upgrade(mesh)["featureLevel"], 1, "nobody has confirmed");
            typed(mesh, 1, &format!("{command} --yes")).ok().unwrap();
        } else {
            let output = output.ok().unwrap();
            assert!(!output.stdout.trim().is_empty(), "{output:?}");
        }
    }
    let now = upgrade(mesh);
    assert_eq!(now["featureLevel"], 2, "{now}");
    assert_eq!(kept_reason(mesh, peer), "worn belt");
    mesh.mesh(["history", "compact", "--to", "1", "--yes"]).ok().unwrap();
    // Asking again changes nothing.
    let again = mesh.mesh(["upgrade", "finalize", "--yes", "-o", "json"]).ok().unwrap();
    assert_eq!(again.json().unwrap()["featureLevel"], 2);
    load.goes_on(5);
    away
}

/// An older program learns of the level from the others' log or from its own data, and ends.
fn older_programs_stay_out(mesh: &mut Mesh, load: &Load, away: u64) {
    // Its own data are of level 1; the others' log has the raise.
    refuses_to_run(mesh, away, "raised to feature level 2");
    load.goes_on(5);
    // By now it has the entry itself, and finds it in the middle of its start. Again and again: the exit code is lost where
    // a thread is still in a store when the process ends, which takes luck to see.
    for _ in 0..REFUSED_STARTS {
        refuses_to_run(mesh, away, "raised to feature level 2");
    }
    mesh.restart(away).unwrap();
    mesh.wait_ready(away, SOON).unwrap();
    same(mesh, load);

    // Its own data are of level 2.
    let other = mesh.ids().into_iter().find(|node| *node != away).unwrap();
    stopped(mesh, other);
    refuses_to_run(mesh, other, "the mesh is at feature level 2");
    load.goes_on(5);
    mesh.restart(other).unwrap();
    mesh.wait_ready(other, SOON).unwrap();
    load.goes_on(5);
    same(mesh, load);
    assert_eq!(upgrade(mesh)["featureLevel"], 2);
}

/// A test that needs the program of the level before never passes without it.
#[test]
fn the_previous_program_is_what_it_says() {
    let programs = Programs::find().unwrap();
    programs.previous().unwrap();
    for (program, version) in [(TODAY, NEW), (Programs::PREVIOUS, OLD)] {
        let told = programs.run(program, ["--version"], &[], Path::new(".")).ok().unwrap();
        assert_eq!(told.stdout.trim(), format!("meshkit-node {version}"));
    }
    let empty = tempfile::tempdir().unwrap();
    let missing = Programs::within(empty.path()).previous().unwrap_err().to_string();
    assert!(missing.contains("scripts/previous.sh"), "{missing}");
}

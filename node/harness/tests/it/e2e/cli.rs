//! `mesh` as people and scripts use it (M9): the commands that others rely on, every exit code, output that is a
//! promise, and consent that is never assumed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use node_harness::{Mesh, Options, Output, Running, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    shared::on_one_mesh,
    wire::Wire,
    world::{SOON, admin, caller, client, drains_take, finished, leader, register, unique, wait},
};

on_one_mesh! {
    || {
        let mut options = drains_take(Duration::from_millis(1_500));
        options.environment.push(("MESHKIT_RETENTION__AUDIT_CHECKPOINT_RECORDS".to_owned(), "5".to_owned()));
        options
    };
    the_commands_that_others_rely_on,
    json_is_the_answer_unchanged,
    every_output_format_shows_a_peer,
    labels_are_set_and_removed,
    operations_are_listed_watched_and_cancelled,
    who_may_do_what,
    the_context_says_where_each_value_comes_from,
    a_token_is_never_shown,
    the_audit_trail_is_verified_against_a_kept_checkpoint,
    consent_is_never_assumed,
    exit_1_denied_and_not_found,
    exit_2_usage,
    durations_that_make_no_sense_are_usage_errors,
    a_reason_has_no_control_characters,
    exit_3_cannot_connect,
    exit_4_authentication_and_scope,
    exit_5_conflict,
    exit_6_precondition,
    exit_7_timeout,
    completions_for_every_shell,
}

/// Runs `mesh` with some of its environment changed.
fn run(mesh: &Mesh, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let context = mesh.context("admin");
    let mut all: Vec<(&str, &OsStr)> = vec![("MESH_CONTEXT", context.as_os_str())];
    all.extend(environment.iter().map(|(name, value)| (*name, OsStr::new(*value))));
    mesh.programs().run("mesh", arguments, &all, mesh.scratch())
}

/// A refusal says nothing on standard output, and its code on standard error.
#[track_caller]
fn fails(output: Output, exit: i32, code: &str) -> Output {
    let output = output.expect_code(exit).unwrap();
    assert_eq!(output.stdout, "", "data and errors do not mix");
    assert!(output.stderr.contains(code), "no {code}: {output:?}");
    output
}

fn the_commands_that_others_rely_on(mesh: &Mesh) {
    let id = unique("cli");
    let made = mesh.mesh([
        "peers",
        "register",
        &id,
        "--cluster",
        "dev-1",
        "--role",
        "worker",
        "--region",
        "eu-west",
        "--zone",
        "a",
        "--endpoint",
        "10.0.0.1:8443",
        "--weight",
        "200",
        "--label",
        "tier=gold",
        "--label",
        "k=v",
        "-o",
        "json",
    ]);
    let made = made.ok().unwrap().json().unwrap();
    assert_eq!(
        (&made["id"], &made["status"], &made["weight"]),
        (&json!(id), &json!("ACTIVE"), &json!(200))
    );
    assert_eq!(made["labels"], json!({ "tier": "gold", "k": "v" }));

    let drain = [
        "peers",
        "drain",
        &id,
        "--reason",
        "kernel",
        "--ticket",
        "CHG-1",
        "--yes",
        "--wait",
        "--timeout",
        "20s",
    ];
    mesh.mesh(drain).ok().unwrap();
    let drained = mesh
        .mesh(["peers", "get", &id, "-o", "json"])
        .ok()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(drained["status"], "DRAINED");
    mesh.mesh(["peers", "undrain", &id, "--reason", "done"]).ok().unwrap();
    mesh.mesh(["peers", "cordon", &id]).ok().unwrap();
    mesh.mesh(["peers", "uncordon", &id]).ok().unwrap();

    let status = mesh.mesh(["status", "-o", "json"]).ok().unwrap().json().unwrap();
    let leader = status["leader"]["id"].as_u64().unwrap();
    let nodes: Vec<u64> = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_u64().unwrap())
        .collect();
    assert!(nodes.contains(&leader) && nodes.len() == 3, "{status}");
    assert!(
        status["revision"].as_u64().unwrap() > 0 && status["epoch"] == 1,
        "{status}"
    );
    let told = mesh.mesh(["status"]).ok().unwrap().stdout;
    assert!(told.contains(&mesh.info().mesh) && told.contains("leader"), "{told}");

    let list = mesh
        .mesh(["audit", "list", "--target", &format!("peer/{id}"), "-o", "json"])
        .ok()
        .unwrap()
        .json()
        .unwrap();
    let actions: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "peers.uncordon",
            "peers.cordon",
            "peers.undrain",
            "peers.drain",
            "peers.register"
        ],
        "newest first"
    );
    mesh.mesh(["peers", "deregister", &id, "--yes"]).ok().unwrap();
    mesh.mesh(["peers", "get", &id]).expect_code(1).unwrap();
}

/// `-o json` is the RPC's response, a promise.
fn json_is_the_answer_unchanged(mesh: &Mesh) {
    let id = unique("json");
    register(mesh, &id);
    let at = admin(mesh);
    let same = |arguments: &[&str], expected: Value| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        assert_eq!(
            mesh.mesh(&arguments).ok().unwrap().json().unwrap(),
            expected,
            "{arguments:?}"
        );
        arguments.truncate(arguments.len() - 2);
        arguments.push("--json");
        assert_eq!(
            mesh.mesh(&arguments).ok().unwrap().json().unwrap(),
            expected,
            "{arguments:?}"
        );
    };
    same(
        &["peers", "get", &id],
        at.call("GetPeer", json!({ "id": id })).ok().json,
    );
    let operation = at
        .call("DrainPeer", json!({ "id": id }))
        .ok()
        .str("operation")
        .to_owned();
    finished(mesh, &operation);
    same(
        &["operations", "get", &operation],
        at.call("GetOperation", json!({ "id": operation })).ok().json,
    );
    let list = mesh
        .mesh(["operations", "list", "--target", &format!("peer/{id}"), "-o", "json"])
        .ok()
        .unwrap()
        .json()
        .unwrap();
    let rest = at
        .call("ListOperations", json!({ "target": format!("peer/{id}") }))
        .ok()
        .json;
    assert_eq!(list["items"], rest["items"]);
    let names = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&list), names(&rest));
    let members = |json: Value| names(&json);
    assert_eq!(
        members(mesh.mesh(["status", "-o", "json"]).ok().unwrap().json().unwrap()),
        members(at.call("GetStatus", json!({})).ok().json)
    );
}

fn every_output_format_shows_a_peer(mesh: &Mesh) {
    let id = unique("shown");
    register(mesh, &id);
    for format in ["table", "wide", "json", "yaml", "jsonl", "name", "JSON"] {
        for command in [vec!["peers", "get", id.as_str()], vec!["peers", "list"]] {
            let mut arguments = command.clone();
            arguments.extend(["-o", format]);
            let shown = mesh.mesh(&arguments).ok().unwrap();
            assert!(shown.stdout.contains(&id), "{arguments:?}: {shown:?}");
            assert!(!shown.stdout.contains('\u{1b}'), "no colours into a pipe: {shown:?}");
            let by_variable = run(mesh, &command, &[("MESH_OUTPUT", format)]).ok().unwrap();
            assert_eq!(by_variable.stdout.contains(&id), shown.stdout.contains(&id));
        }
    }
    let lines = mesh.mesh(["peers", "list", "-o", "jsonl"]).ok().unwrap().stdout;
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok_and(|peer| peer["id"].is_string())),
        "{lines}"
    );
    assert_eq!(
        mesh.mesh(["peers", "get", &id, "-o", "name"]).ok().unwrap().stdout,
        format!("peer/{id}\n")
    );
    assert!(
        mesh.mesh(["peers", "list", "-o", "table"])
            .ok()
            .unwrap()
            .stdout
            .contains("active"),
        "tables print lower case"
    );
}

fn labels_are_set_and_removed(mesh: &Mesh) {
    let id = unique("labelled");
    register(mesh, &id);
    mesh.mesh(["peers", "label", &id, "a=1", "b=2", "--reason", "r"])
        .ok()
        .unwrap();
    let labels = |mesh: &Mesh| admin(mesh).call("GetPeer", json!({ "id": id })).ok().json["labels"].clone();
    assert_eq!(labels(mesh), json!({ "a": "1", "b": "2" }));
    mesh.mesh(["peers", "label", &id, "a-", "b=3"]).ok().unwrap();
    assert_eq!(labels(mesh), json!({ "b": "3" }));
    mesh.mesh(["peers", "label", &id, "b=4", "--dry-run"]).ok().unwrap();
    assert_eq!(labels(mesh), json!({ "b": "3" }));
}

fn operations_are_listed_watched_and_cancelled(mesh: &Mesh) {
    let id = unique("operated");
    register(mesh, &id);
    let operation = |id: &str| {
        let drained = mesh
            .mesh(["peers", "drain", id, "--yes", "-o", "json"])
            .ok()
            .unwrap()
            .json()
            .unwrap();
        drained["operation"].as_str().unwrap().to_owned()
    };
    let first = operation(&id);
    let running = mesh
        .mesh(["operations", "list", "--state", "running", "-o", "name"])
        .ok()
        .unwrap()
        .stdout;
    assert!(running.contains(&first), "{running}");
    let watched = mesh
        .mesh(["operations", "watch", &first, "-o", "jsonl"])
        .ok()
        .unwrap()
        .stdout;
    let versions: Vec<Value> = watched
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(versions.last().unwrap()["state"], "SUCCEEDED", "{watched}");
    assert!(
        versions.len() >= 2
            && versions
                .windows(2)
                .all(|two| two[0]["version"].as_u64() < two[1]["version"].as_u64()),
        "{watched}"
    );
    mesh.mesh(["operations", "get", &first]).ok().unwrap();
    mesh.mesh(["peers", "undrain", &id]).ok().unwrap();

    let second = operation(&id);
    mesh.mesh(["operations", "cancel", &second, "--reason", "enough", "--yes"])
        .ok()
        .unwrap();
    let refused = mesh.mesh(["operations", "watch", &second]).expect_code(1).unwrap();
    assert!(refused.stderr.contains("operation_cancelled"), "{refused:?}");
    fails(
        mesh.mesh(["operations", "cancel", &second, "--yes"]),
        6,
        "operation_finished",
    );
}

/// Ctrl-C detaches, says so, and the operation goes on. On a mesh of its own, where a drain takes for ever.
#[test]
fn an_interrupted_watch_only_detaches() {
    let mesh = &Mesh::start(drains_take(Duration::from_secs(300))).unwrap();
    let id = unique("detached");
    register(mesh, &id);
    let at = admin(mesh);
    let drained = at.call("DrainPeer", json!({ "id": id })).ok();
    let (seen, said) = (mesh.scratch().join(unique("seen")), mesh.scratch().join(unique("said")));
    let mut command = mesh.programs().command("mesh");
    command.args(["operations", "watch", drained.str("operation"), "-o", "jsonl"]);
    command.env("MESH_CONTEXT", mesh.context("admin")).stdin(Stdio::null());
    command
        .stdout(File::create(&seen).unwrap())
        .stderr(File::create(&said).unwrap());
    let mut watching = Running::start(command).unwrap();
    // The first version is shown at once; then it waits for the next.
    wait_until(SOON, "the first version", || !fs::read(&seen).unwrap().is_empty()).unwrap();
    watching.signal(Signal::INT).unwrap();
    assert_eq!(watching.wait(SOON).unwrap().code(), Some(130));
    let said = fs::read_to_string(&said).unwrap();
    assert!(
        said.contains("detached") && said.contains("mesh operations watch"),
        "{said}"
    );
    let goes_on = mesh
        .mesh(["operations", "get", drained.str("operation"), "-o", "json"])
        .ok()
        .unwrap();
    assert!(goes_on.stdout.contains("\"RUNNING\""), "{goes_on:?}");
}

/// A command at a terminal: `script` gives it one and types what we write.
struct Terminal {
    running: Running,
    typing: std::io::PipeWriter,
    shown: PathBuf,
}

impl Terminal {
    fn start(mesh: &Mesh, arguments: &str) -> Self {
        let shown = mesh.scratch().join(unique("shown"));
        let (keys, typing) = std::io::pipe().unwrap();
        // The shell keeps the terminal open until we have seen all of it: what is written last may be lost with it.
        let program = mesh.programs().path("mesh");
        let line = format!(
            "trap : INT; '{}' {arguments}; left=$?; echo '{OVER}'; read -r _; exit $left",
            program.display()
        );
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SHELL", "/bin/sh")
            .env("NO_COLOR", "1")
            .env("MESH_CONTEXT", mesh.context("admin"))
            .stdin(keys)
            .stdout(File::create(&shown).unwrap())
            .stderr(Stdio::null());
        Self {
            running: Running::start(command).unwrap(),
            typing,
            shown,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.shown).unwrap()).into_owned()
    }

    /// Waits until `text` is on the screen.
    fn shows(&self, text: &str) {
        let seen = wait_until(SOON, text, || self.text().contains(text));
        seen.unwrap_or_else(|error| panic!("{error}: {:?}", self.text()));
    }

    fn types(&mut self, keys: &str) {
        self.typing.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `said` is on the screen and for the end after it, and answers all that was on the screen.
    fn ends(mut self, exit: i32, said: &str) -> String {
        self.shows(said);
        // What was interrupted at its question reads on until it is gone, and would take the line that is the shell's.
        self.shows(OVER);
        self.types("\n");
        let status = self.running.wait(SOON);
        let text = self.text();
        assert_eq!(status.unwrap().code(), Some(exit), "{text:?}");
        text
    }
}

const INTERRUPT: &str = "\u{3}";

/// What the shell says when the command at its terminal has ended.
const OVER: &str = "[over]";

/// Consent at a terminal: asked for, declined, interrupted, given; and Ctrl-C while it waits only detaches.
#[test]
fn a_terminal_is_asked_and_may_leave() {
    let mesh = &Mesh::start(drains_take(Duration::from_secs(300))).unwrap();
    let id = unique("asked");
    let before = register(mesh, &id);
    let at = admin(mesh);
    let peer = || at.call("GetPeer", json!({ "id": id })).ok();
    for command in ["drain", "deregister"] {
        for (keys, exit, said) in [
            ("n\n", 1, "declined"),
            ("\n", 1, "declined"),
            (INTERRUPT, 130, "interrupted"),
        ] {
            let mut terminal = Terminal::start(mesh, &format!("peers {command} {id}"));
            terminal.shows("[y/N]");
            terminal.types(keys);
            let text = terminal.ends(exit, said);
            assert!(
                text.contains(said) && text.contains(&id),
                "{command} {keys:?}: {text:?}"
            );
            assert_eq!(peer().etag(), before.etag, "{command} {keys:?}: nothing was changed");
        }
    }

    let mut terminal = Terminal::start(mesh, &format!("peers drain {id} --wait --reason kernel"));
    terminal.shows("[y/N]");
    assert_eq!(peer().etag(), before.etag, "nothing happens before the answer");
    terminal.types("y\n");
    terminal.shows("is draining, operation");
    terminal.types(INTERRUPT);
    let text = terminal.ends(130, "mesh operations watch");
    let operation = peer().str("operation").to_owned();
    let resume = format!("mesh operations watch {operation}");
    assert!(
        text.contains("detached; the operation goes on") && text.contains(&resume),
        "{text:?}"
    );
    assert_eq!(peer().str("status"), "DRAINING");
    let running = at.call("GetOperation", json!({ "id": operation })).ok();
    assert_eq!(
        (running.str("state"), running.str("reason")),
        ("RUNNING", "kernel"),
        "it goes on without us"
    );

    let other = unique("asked");
    register(mesh, &other);
    let mut terminal = Terminal::start(mesh, &format!("peers drain {other}"));
    terminal.shows("[y/N]");
    terminal.types("y\n");
    terminal.ends(0, "mesh operations watch");
    assert_eq!(
        at.call("GetPeer", json!({ "id": other })).ok().str("status"),
        "DRAINING"
    );
}

/// A page looks at a bounded number of revisions, so over a long history a filter that matches nothing gives empty
/// pages with a cursor. They end, and the listing with them.
#[test]
fn a_long_history_without_a_match_ends() {
    /// More than two pages look at.
    const REVISIONS: u64 = 41_000;
    const CALLERS: u64 = 256;
    let mesh = &Mesh::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let sdk = client(mesh, "admin");
    wait(async {
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let sdk = sdk.clone();
            callers.spawn(async move {
                for _ in 0..REVISIONS.div_ceil(CALLERS) {
                    // Rejected, and in the trail like everything else.
                    let refused = sdk.cordon_peer(proto::v1::CordonPeerRequest {
                        id: "nobody".to_owned(),
                        ..Default::default()
                    });
                    assert_eq!(refused.await.unwrap_err().code(), "not_found");
                }
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    });
    for order in [&[] as &[&str], &["--oldest-first"]] {
        let mut arguments = vec!["audit", "list", "--actor", "no-such-person"];
        arguments.extend(order);
        let table = mesh.mesh(&arguments).ok().unwrap();
        assert_eq!(table.stdout, "", "{table:?}");
        // JSON is one response unchanged: the first page is empty and leads on, and the way ends.
        let (mut cursor, mut pages) = (String::new(), 0);
        loop {
            let mut arguments = arguments.clone();
            arguments.extend(["-o", "json", "--cursor", &cursor]);
            let page = mesh.mesh(&arguments).ok().unwrap().json().unwrap();
            assert_eq!(page["items"], json!([]));
            pages += 1;
            let next = page["nextCursor"].as_str().unwrap().to_owned();
            assert_ne!(next, cursor);
            if next.is_empty() {
                break;
            }
            assert!(pages < 20, "no end");
            cursor = next;
        }
        assert!(
            pages >= 3,
            "{pages} pages: the history is not long enough for this test"
        );
    }
    let found = ["audit", "list", "--target", "peer/nobody", "--limit", "1", "-o", "name"];
    assert_eq!(mesh.mesh(found).ok().unwrap().stdout.lines().count(), 1);
}

/// M3: `can-i` answers for scopes and actions, by exit code too.
fn who_may_do_what(mesh: &Mesh) {
    for (who, what, may) in [
        ("read", "peers.list", true),
        ("read", "audit.list", false),
        ("observe", "audit.list", true),
        ("observe", "mesh.operate", false),
        ("operate", "peers.drain", true),
        ("operate", "peers.deregister", false),
        ("admin", "members.remove", true),
    ] {
        let answer = mesh
            .mesh_as(who, ["auth", "can-i", what, "-o", "json"])
            .expect_code(i32::from(!may))
            .unwrap();
        let json = answer.json().unwrap();
        assert_eq!(json["allowed"], may, "{who} {what}");
        assert!(
            may || answer.stderr.contains(json["needed"].as_str().unwrap()),
            "{answer:?}"
        );
    }
    fails(mesh.mesh(["auth", "can-i", "peers.explode"]), 2, "invalid_argument");
}

fn the_context_says_where_each_value_comes_from(mesh: &Mesh) {
    let show = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut all = vec!["context", "show", "--show-origin", "-o", "json"];
        all.extend(arguments);
        run(mesh, &all, environment).ok().unwrap().json().unwrap()
    };
    let api = mesh.node(2).unwrap().api.clone();
    let plain = show(&[], &[]);
    let file = mesh.context("admin");
    assert!(
        plain["endpoints"]["origin"]
            .as_str()
            .unwrap()
            .starts_with(file.to_str().unwrap()),
        "{plain}"
    );
    assert_eq!(plain["transport"], json!({ "value": "auto", "origin": "default" }));
    let by_env = show(&[], &[("MESH_ENDPOINTS", &api), ("MESH_TIMEOUT", "7s")]);
    assert_eq!(
        by_env["endpoints"],
        json!({ "value": [api], "origin": "env MESH_ENDPOINTS" })
    );
    assert_eq!(
        by_env["timeout"],
        json!({ "value": "7s", "origin": "env MESH_TIMEOUT" })
    );
    let by_flag = show(
        &["--endpoints", &api, "--request-timeout", "3s"],
        &[("MESH_ENDPOINTS", "https://127.0.0.1:1"), ("MESH_TIMEOUT", "7s")],
    );
    assert_eq!(
        by_flag["endpoints"],
        json!({ "value": [api], "origin": "flag --endpoints" })
    );
    assert_eq!(by_flag["timeout"]["origin"], "flag --request-timeout");
    let table = mesh.mesh(["context", "show", "--show-origin"]).ok().unwrap().stdout;
    assert!(table.contains("origin") || table.contains("ORIGIN"), "{table}");
}

fn a_token_is_never_shown(mesh: &Mesh) {
    let token = mesh.info().tokens.admin.clone();
    let secret = token.rsplit('.').next().unwrap();
    for arguments in [
        vec!["context", "show", "--show-origin"],
        vec!["context", "show", "-o", "json"],
        vec!["status"],
        vec!["status", "--endpoints", "https://127.0.0.1:1"],
        vec!["peers", "get", "nobody"],
    ] {
        for environment in [vec![], vec![("MESH_TOKEN", token.as_str())]] as [Vec<(&str, &str)>; 2] {
            let said = run(mesh, &arguments, &environment);
            assert!(
                !said.stdout.contains(secret) && !said.stderr.contains(secret),
                "{arguments:?}"
            );
        }
    }
    // No flag takes a token's value: it would be in every process list.
    fails(run(mesh, &["status", "--token", "x"], &[]), 2, "--token");
    assert!(!mesh.logs().contains(secret), "a token in a log");
}

fn the_audit_trail_is_verified_against_a_kept_checkpoint(mesh: &Mesh) {
    let kept = mesh.scratch().join(unique("checkpoint")).with_extension("json");
    let kept = kept.to_str().unwrap();
    // The leader signs every few records here.
    let exported = wait_until(SOON, "a checkpoint", || {
        register(mesh, &unique("checkpointed"));
        mesh.mesh(["audit", "verify", "--export", kept]).success()
    });
    exported.unwrap();
    for node in mesh.ids() {
        let verified = mesh
            .mesh_at(node, ["audit", "verify", "--checkpoint", kept, "-o", "json"])
            .unwrap();
        let report = verified.ok().unwrap().json().unwrap();
        assert_eq!(
            (
                &report["verified"],
                &report["signaturesChecked"],
                &report["exportedMatched"]
            ),
            (&json!(true), &json!(true), &json!(1))
        );
        assert_eq!(report["firstRevision"], 1, "{report}");
    }
    let good: Value = serde_json::from_str(&fs::read_to_string(kept).unwrap()).unwrap();
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        let file = mesh.scratch().join(unique("altered")).with_extension("json");
        fs::write(&file, bad.to_string()).unwrap();
        mesh.mesh(["audit", "verify", "--checkpoint", file.to_str().unwrap()])
    };
    let hash = good["hash"].as_str().unwrap().to_owned();
    let other = format!("{}{}", if hash.starts_with('0') { '1' } else { '0' }, &hash[1..]);
    fails(altered(&|bad| bad["hash"] = other.clone().into()), 1, "audit_broken");
    fails(
        altered(&|bad| bad["revision"] = (good["revision"].as_u64().unwrap() + 1).into()),
        1,
        "audit_broken",
    );
    fails(altered(&|bad| bad["signature"] = "AAAA".into()), 1, "audit_broken");
    // Who may not see the trail cannot verify it.
    fails(mesh.mesh_as("read", ["audit", "verify"]), 4, "scope_missing");
}

/// Where it would ask and nobody can answer, it refuses, whatever the environment looks like.
fn consent_is_never_assumed(mesh: &Mesh) {
    let id = unique("consent");
    let before = register(mesh, &id);
    let environments: [Vec<(&str, &str)>; 3] = [
        vec![],
        vec![("CI", "true")],
        vec![("CI", "1"), ("TERM", "dumb"), ("DEBIAN_FRONTEND", "noninteractive")],
    ];
    for environment in environments {
        for command in ["drain", "deregister"] {
            let refused = fails(
                run(mesh, &["peers", command, &id], &environment),
                6,
                "confirmation_required",
            );
            assert!(refused.stderr.contains("--yes"), "{refused:?}");
        }
    }
    assert_eq!(
        admin(mesh).call("GetPeer", json!({ "id": id })).ok().etag(),
        before.etag
    );
    // These never ask, and take the flag all the same.
    for command in ["cordon", "uncordon", "undrain"] {
        mesh.mesh(["peers", command, &id]).ok().unwrap();
        mesh.mesh(["peers", command, &id, "--yes"]).ok().unwrap();
    }
    mesh.mesh(["peers", "drain", &id, "--dry-run"]).ok().unwrap();
}

fn exit_1_denied_and_not_found(mesh: &Mesh) {
    fails(mesh.mesh(["peers", "get", "nobody"]), 1, "not_found");
    fails(mesh.mesh(["peers", "cordon", "nobody"]), 1, "not_found");
    fails(mesh.mesh(["operations", "get", "op-1"]), 1, "not_found");
    mesh.mesh_as("read", ["auth", "can-i", "peers.drain"])
        .expect_code(1)
        .unwrap();
    let problem = mesh
        .mesh(["peers", "get", "nobody", "-o", "json"])
        .expect_code(1)
        .unwrap();
    let problem: Value = serde_json::from_str(&problem.stderr).unwrap_or_else(|error| panic!("{error}: {problem:?}"));
    assert_eq!(problem["code"], "not_found");
}

fn exit_2_usage(mesh: &Mesh) {
    for arguments in [
        vec!["peers", "explode"],
        vec!["peers", "register", "p"],
        vec!["peers", "list", "--no-such-flag"],
        vec!["peers", "list", "-o", "xml"],
        vec!["peers", "drain", "p", "--yes", "--wait", "--timeout", "soon"],
        vec!["peers", "drain", "p", "--yes", "--timeout", "5s"],
        vec!["peers", "register", "p", "--endpoint", "h:1", "--weight", "0"],
        vec!["peers", "register", "p", "--endpoint", "h:1", "--label", "novalue"],
    ] {
        let refused = mesh.mesh(&arguments).expect_code(2).unwrap();
        assert_eq!(refused.stdout, "", "{refused:?}");
        assert!(!refused.stderr.is_empty());
    }
    fails(
        mesh.mesh(["peers", "register", "UPPER", "--endpoint", "h:1"]),
        2,
        "invalid_argument",
    );
    fails(mesh.mesh(["peers", "label", &unique("x"), "-bad=1"]), 2, "-b");
    fails(
        run(mesh, &["status"], &[("MESH_CONTEXT", "/nowhere/context.toml")]),
        2,
        "/nowhere/context.toml",
    );
    fails(run(mesh, &["status"], &[("MESH_OUTPUT", "xml")]), 2, "MESH_OUTPUT");
    let broken = mesh.scratch().join("broken.toml");
    fs::write(&broken, "endpoints = [\"https://h:1\"]\ncolour = \"red\"\n").unwrap();
    let refused = fails(
        run(mesh, &["status", "--context", broken.to_str().unwrap()], &[]),
        2,
        "colour",
    );
    assert!(refused.stderr.contains("2"), "the line: {refused:?}");
}

fn durations_that_make_no_sense_are_usage_errors(mesh: &Mesh) {
    let before = admin(mesh).call("GetStatus", json!({})).ok().json["revision"].clone();
    for (given, why) in [
        ("-5s", "cannot be below 0"),
        ("-1", "is not a duration"),
        ("0", "at least 1ms"),
        ("0s", "at least 1ms"),
        ("366d", "too long; at most 365d"),
        ("99999999999999999999h", "too long; at most 365d"),
        ("5", "has no unit"),
        ("", "a duration is empty"),
    ] {
        for (flag, rest) in [
            ("--timeout", &["peers", "drain", "p1", "--yes", "--wait"] as &[&str]),
            ("--timeout", &["operations", "cancel", "op-1", "--wait"]),
            ("--timeout", &["operations", "watch", "op-1"]),
            ("--request-timeout", &["status"]),
        ] {
            let mut arguments = rest.to_vec();
            arguments.extend([flag, given]);
            let refused = fails(mesh.mesh(&arguments), 2, flag);
            assert!(refused.stderr.contains(why), "{given:?}: {refused:?}");
        }
        if !given.is_empty() {
            let refused = fails(run(mesh, &["status"], &[("MESH_TIMEOUT", given)]), 2, "MESH_TIMEOUT");
            assert!(refused.stderr.contains("invalid_argument"), "{refused:?}");
        }
    }
    let after = admin(mesh).call("GetStatus", json!({})).ok().json["revision"].clone();
    assert!(before.is_u64() && after.is_u64());
    assert!(
        mesh.mesh(["peers", "get", "p1"]).code == Some(1),
        "none of it reached the mesh"
    );
}

/// Neither from here, nor from a caller who does not ask first.
fn a_reason_has_no_control_characters(mesh: &Mesh) {
    let id = unique("words");
    register(mesh, &id);
    for bad in ["a\nb", "a\tb", "a\u{1b}[2Jb", "a\u{7f}b", "a\u{9b}31mb"] {
        for flag in ["--reason", "--ticket"] {
            let refused = fails(
                mesh.mesh(["peers", "cordon", &id, flag, bad]),
                2,
                "control character U+",
            );
            assert!(
                refused
                    .stderr
                    .chars()
                    .all(|character| character == '\n' || !character.is_control()),
                "{refused:?}"
            );
        }
    }
    let at = admin(mesh);
    assert_eq!(at.call("GetPeer", json!({ "id": id })).ok().str("status"), "ACTIVE");
}

fn exit_3_cannot_connect(mesh: &Mesh) {
    let nowhere = "https://127.0.0.1:1,https://127.0.0.1:2";
    let refused = fails(
        run(
            mesh,
            &["status", "--request-timeout", "5s"],
            &[("MESH_ENDPOINTS", nowhere)],
        ),
        3,
        "unavailable",
    );
    for endpoint in nowhere.split(',') {
        assert!(refused.stderr.contains(endpoint), "each that was tried: {refused:?}");
    }
    let id = unique("unreachable");
    fails(
        run(
            mesh,
            &["peers", "register", &id, "--endpoint", "h:1", "--request-timeout", "5s"],
            &[("MESH_ENDPOINTS", nowhere)],
        ),
        3,
        "unavailable",
    );
    // One of several will do.
    let some = format!("{nowhere},{}", mesh.node(1).unwrap().api);
    run(mesh, &["peers", "list"], &[("MESH_ENDPOINTS", &some)])
        .ok()
        .unwrap();
    // Somebody answers, but not one that our authority vouches for.
    let (foreign, _) = super::bad_input::foreign_ca(mesh);
    fails(
        run(mesh, &["status", "--ca", foreign.to_str().unwrap()], &[]),
        3,
        "certificate",
    );
}

fn exit_4_authentication_and_scope(mesh: &Mesh) {
    let id = unique("denied");
    register(mesh, &id);
    let refused = fails(mesh.mesh_as("read", ["peers", "cordon", &id]), 4, "scope_missing");
    assert!(refused.stderr.contains("mesh.operate"), "{refused:?}");
    fails(
        mesh.mesh_as("operate", ["peers", "deregister", &id, "--yes"]),
        4,
        "mesh.admin",
    );
    fails(
        run(mesh, &["status"], &[("MESH_TOKEN", "forged")]),
        4,
        "unauthenticated",
    );
    let anonymous = mesh.scratch().join("anonymous.toml");
    fs::write(
        &anonymous,
        format!(
            "endpoints = [{:?}]\nca = {:?}\n",
            mesh.node(1).unwrap().api,
            mesh.info().ca
        ),
    )
    .unwrap();
    fails(
        run(mesh, &["status", "--context", anonymous.to_str().unwrap()], &[]),
        4,
        "unauthenticated",
    );
}

fn exit_5_conflict(mesh: &Mesh) {
    let id = unique("conflict");
    let peer = register(mesh, &id);
    fails(
        mesh.mesh(["peers", "register", &id, "--endpoint", "h:1"]),
        5,
        "already_exists",
    );
    mesh.mesh(["peers", "label", &id, "a=1", "--if-match", &peer.etag])
        .ok()
        .unwrap();
    let refused = fails(
        mesh.mesh(["peers", "label", &id, "a=2", "--if-match", &peer.etag]),
        5,
        "etag_mismatch",
    );
    let current = admin(mesh).call("GetPeer", json!({ "id": id })).ok();
    assert!(refused.stderr.contains(current.etag()), "the current one: {refused:?}");
    fails(
        mesh.mesh(["peers", "label", &id, "a=2", "--if-revision", "1"]),
        5,
        "revision_mismatch",
    );
    let key = unique("key");
    mesh.mesh(["peers", "label", &id, "a=3", "--idempotency-key", &key])
        .ok()
        .unwrap();
    mesh.mesh(["peers", "label", &id, "a=3", "--idempotency-key", &key])
        .ok()
        .unwrap();
    fails(
        mesh.mesh(["peers", "label", &id, "a=4", "--idempotency-key", &key]),
        5,
        "idempotency_key_reused",
    );
}

fn exit_6_precondition(mesh: &Mesh) {
    let id = unique("guarded");
    register(mesh, &id);
    mesh.mesh(["peers", "drain", &id, "--yes"]).ok().unwrap();
    let refused = fails(mesh.mesh(["peers", "uncordon", &id]), 6, "peer_draining");
    assert!(
        refused.stderr.contains(&format!("mesh peers undrain {id}")),
        "{refused:?}"
    );
    fails(mesh.mesh(["peers", "drain", &id]), 6, "confirmation_required");
}

fn exit_7_timeout(mesh: &Mesh) {
    let id = unique("slow");
    register(mesh, &id);
    let arguments = ["peers", "drain", &id, "--yes", "--wait", "--timeout", "500ms"];
    let refused = fails(mesh.mesh(arguments), 7, "deadline_exceeded");
    assert!(
        refused.stderr.contains("mesh operations watch"),
        "how to go on: {refused:?}"
    );
    let at = caller(mesh, leader(mesh), Wire::H2, "read");
    let status = || at.call("GetPeer", json!({ "id": id })).ok().str("status").to_owned();
    wait_until(SOON, "the drain that nobody waits for", || status() == "DRAINED").unwrap();
}

fn completions_for_every_shell(mesh: &Mesh) {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = mesh.mesh(["completions", shell]).ok().unwrap().stdout;
        assert!(script.contains("deregister"), "{shell}");
    }
    let help = mesh.mesh(["--help"]).ok().unwrap().stdout;
    assert!(help.contains("Exit codes") && help.contains("MESH_CONTEXT"), "{help}");
    for noun in ["peers", "operations", "audit", "auth", "context"] {
        mesh.mesh([noun, "--help"]).ok().unwrap();
    }
}

/// Without a majority: status says so (exit 1), a write finds no leader (exit 3), a local read is served; and nothing
/// that was refused happens later.
#[test]
fn without_a_quorum() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    register(&mesh, "p1");
    let survivor = leader(&mesh);
    for node in mesh.ids().into_iter().filter(|&node| node != survivor) {
        mesh.kill(node).unwrap();
    }
    wait_until(SOON, "status without quorum", || mesh.mesh(["status"]).code == Some(1)).unwrap();
    let status = mesh.mesh(["status", "-o", "json"]).expect_code(1).unwrap();
    assert_eq!(status.json().unwrap()["quorum"], false);
    assert!(status.stderr.contains("unhealthy"), "{status:?}");
    for command in [vec!["peers", "cordon", "p1"], vec!["peers", "get", "p1"]] {
        let mut arguments = command.clone();
        arguments.extend(["--request-timeout", "4s"]);
        let refused = mesh.mesh(&arguments);
        assert!(matches!(refused.code, Some(3 | 7)), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
    let local = caller(&mesh, survivor, Wire::H2, "read").with("mesh-consistency", "local");
    assert_eq!(
        local.call("GetPeer", json!({ "id": "p1" })).ok().str("status"),
        "ACTIVE"
    );
    assert_eq!(local.clone().without("authorization").get("/livez").status, 200);
    wait_until(SOON, "readyz to say no", || local.get("/readyz").status == 503).unwrap();

    for node in mesh.ids().into_iter().filter(|&node| node != survivor) {
        mesh.restart(node).unwrap();
    }
    for node in mesh.ids() {
        mesh.wait_ready(node, SOON).unwrap();
    }
    mesh.mesh(["peers", "list"]).ok().unwrap();
    super::world::agreed(&mesh);
    mesh.stop().unwrap();
}

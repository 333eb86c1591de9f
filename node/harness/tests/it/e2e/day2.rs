//! What an operator does on an ordinary day (M5): look closer, collect a bundle, see in time that certificates end, and
//! leave the rest to the service manager.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use node_harness::{Mesh, Options, Output, wait_until};
use serde_json::{Value, json};

use super::{
    wire::Wire,
    world::{SOON, admin, agreed, caller, follower, leader, register, status_of, unique},
};

// --- The log ---

fn lines(mesh: &Mesh, node: u64) -> Vec<Value> {
    let text = fs::read_to_string(&mesh.node(node).unwrap().log).unwrap();
    text.lines()
        // The last one may not be whole yet.
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn debug_lines(mesh: &Mesh, node: u64) -> usize {
    lines(mesh, node).iter().filter(|line| line["level"] == "DEBUG").count()
}

fn in_json() -> Options {
    Options {
        environment: vec![("MESHKIT_LOG__FORMAT".to_owned(), "json".to_owned())],
        ..Options::default()
    }
}

/// A read that a follower carries to its leader, which it tells of at `debug`.
fn carried(mesh: &Mesh, by: u64, id: &str) {
    let peer = unique("carried");
    let request = json!({ "id": peer, "endpoints": ["127.0.0.1:9000"] });
    caller(mesh, by, Wire::H2, "operate")
        .with("mesh-route", "forward")
        .with("mesh-request-id", id)
        .call("RegisterPeer", request)
        .ok();
}

#[test]
fn the_log_level_changes_for_a_while_and_every_line_names_its_request() {
    let mesh = Mesh::start(in_json()).unwrap();
    let (leads, at) = (leader(&mesh), follower(&mesh));
    let other = mesh.ids().into_iter().find(|id| *id != leads && *id != at).unwrap();
    let level = |arguments: &[&str]| mesh.mesh([["debug", "log-level"].as_slice(), arguments].concat());
    let node = at.to_string();

    // Before, a request leaves one line: who asked for what, and what came of it.
    let first = unique("request");
    carried(&mesh, at, &first);
    let of = |node: u64, id: &str| -> Vec<Value> {
        let mentions = |line: &Value| line["request_id"] == *id || line["span"]["request_id"] == *id;
        lines(&mesh, node).into_iter().filter(mentions).collect()
    };
    wait_until(SOON, "the line of a request", || of(at, &first).len() == 1).unwrap();
    let line = of(at, &first).remove(0);
    assert_eq!(
        (&line["target"], &line["action"]),
        (&json!("meshkit::access"), &json!("peers.register"))
    );
    assert_eq!(
        (&line["code"], &line["forwarded"], &line["api"]),
        (&json!("ok"), &json!(false), &json!("rest"))
    );
    assert!(line["latency_us"].is_u64() && line["principal"].is_string(), "{line}");
    wait_until(SOON, "the leader's line", || of(leads, &first).len() == 1).unwrap();
    assert_eq!(debug_lines(&mesh, at), 0);

    // One node looks closer, for a while.
    let shown = level(&["info,api_server=debug,raft=debug", "--node", &node, "--for", "10s"])
        .ok()
        .unwrap();
    let told = shown.stdout;
    assert!(
        told.contains("info,api_server=debug,raft=debug") && told.contains("then:"),
        "{told}"
    );
    let second = unique("request");
    carried(&mesh, at, &second);
    wait_until(SOON, "more lines of a request", || of(at, &second).len() >= 2).unwrap();
    let more = of(at, &second);
    let inner = more.iter().find(|line| line["level"] == "DEBUG").unwrap();
    assert_eq!(inner["span"]["name"], "request", "{inner}");
    assert_eq!(inner["span"]["request_id"], *second, "{inner}");
    assert_eq!(debug_lines(&mesh, other), 0, "nobody asked that one");
    let audited = |what: &str| {
        let is_it = |line: &&Value| line["target"] == "meshkit::audit" && line["message"] == what;
        lines(&mesh, at).iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let changed = audited("the log level was changed by request").remove(0);
    assert_eq!(changed["filter"], "info,api_server=debug,raft=debug");
    assert!(
        changed["actor"].as_str().is_some_and(|actor| !actor.is_empty()),
        "{changed}"
    );

    // It goes back by itself.
    let back = "the log level is the configured one again";
    wait_until(SOON, back, || audited(back).len() == 1).unwrap();
    quiet(&mesh, at);

    // Or when it is told to. A second change takes the place of the first, whose end then means nothing.
    level(&["debug", "--all", "--for", "2s"]).ok().unwrap();
    level(&["debug", "--all"]).ok().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let seen = debug_lines(&mesh, other);
    carried(&mesh, other, &unique("request"));
    wait_until(SOON, "lines at debug still", || debug_lines(&mesh, other) > seen).unwrap();
    let all = level(&["--reset", "--all", "-o", "json"]).ok().unwrap();
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert!(all[0]["filter"] == "info" && all[0]["until"].is_null(), "{all}");
    quiet(&mesh, other);
    refused(&mesh);
    mesh.stop().unwrap();
}

/// From now on nothing is told at `debug`.
fn quiet(mesh: &Mesh, node: u64) {
    let seen = debug_lines(mesh, node);
    let id = unique("request");
    carried(mesh, node, &id);
    let told = || lines(mesh, node).iter().any(|line| line["request_id"] == *id);
    wait_until(SOON, "the line of a request", told).unwrap();
    assert_eq!(
        debug_lines(mesh, node),
        seen,
        "node {node} still tells more than it should"
    );
}

fn refused(mesh: &Mesh) {
    let level = |arguments: &[&str]| mesh.mesh([["debug", "log-level"].as_slice(), arguments].concat());
    let says = |output: Output, exit: i32, what: &str| {
        assert_eq!(output.code, Some(exit), "{output:?}");
        assert!(output.stderr.contains(what), "{output:?}");
    };
    says(level(&["rafft=debug"]), 2, "there is no part `rafft`");
    says(level(&["loud"]), 2, "`loud` is neither a level");
    says(level(&["debug", "--for", "500ms"]), 2, "1 s to 24 h");
    says(level(&["debug", "--for", "25h"]), 2, "1 s to 24 h");
    says(level(&["debug", "--node", "9"]), 1, "node 9 is not a member");
    says(level(&["debug", "--reset"]), 2, "cannot be used with");
    says(level(&[]), 2, "FILTER");
    says(
        mesh.mesh_as("operate", ["debug", "log-level", "debug"]),
        4,
        "mesh.admin",
    );
    says(mesh.mesh_as("operate", ["support", "bundle"]), 4, "mesh.admin");
}

// --- The bundle ---

/// The texts in a bundle, by their names without the folder.
fn texts(bundle: &Path) -> BTreeMap<String, String> {
    let bytes = fs::read(bundle).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let mut texts = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let name = path.split_once('/').unwrap().1.to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        texts.insert(name, text);
    }
    texts
}

/// Which of the secrets stand in which of the texts, also where a line end is written as an escape.
fn leaks(texts: &BTreeMap<String, String>, secrets: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in texts {
        for (name, secret) in secrets {
            if text.contains(secret.as_str()) {
                found.push(format!("{name} in {file}"));
            }
        }
    }
    found
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files
}

/// What each node of a mesh can be seen to say and to have been started with.
fn in_the_open(mesh: &mut Mesh) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for node in mesh.ids() {
        let log = fs::read_to_string(&mesh.node(node).unwrap().log).unwrap();
        texts.insert(format!("node {node}: log"), log);
        if !mesh.is_running(node).unwrap() {
            continue;
        }
        let pid = mesh.node(node).unwrap().pid;
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            texts.insert(
                format!("node {node}: {file}"),
                String::from_utf8_lossy(&text).into_owned(),
            );
        }
    }
    texts
}

/// Every secret of the mesh: tokens, each line of each private key, the secret of an invitation, and a browser's.
fn secrets(mesh: &Mesh) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for (who, token) in mesh.info().tokens.by_name() {
        secrets.insert(format!("the token of {who}"), token.to_owned());
        let signature = token.rsplit('.').next().unwrap();
        secrets.insert(format!("the signature of {who}"), signature.to_owned());
    }
    let keys = files_below(mesh.info().ca.parent().unwrap());
    for path in keys
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
    {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("PRIVATE KEY"), "{}", path.display());
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("-----")) {
            secrets.insert(format!("{}:{}", path.display(), at + 1), line.to_owned());
        }
    }
    let invited = admin(mesh)
        .call("InviteMember", json!({ "id": 17, "reason": "for a test" }))
        .ok();
    let token = invited.json["token"].as_str().unwrap().to_owned();
    let last = token.rsplit(['.', ':', '-', '_', '/']).next().unwrap().to_owned();
    secrets.insert("a join token".to_owned(), token);
    if last.len() >= 16 {
        secrets.insert("the end of a join token".to_owned(), last);
    }
    let session = admin(mesh).send("POST", "/meshkit/session", &json!({})).ok();
    let cookie = session
        .header("set-cookie")
        .split(['=', ';'])
        .nth(1)
        .unwrap()
        .to_owned();
    let csrf = session.json["csrfToken"].as_str().unwrap().to_owned();
    assert!(cookie.len() > 40 && csrf.len() > 40, "{cookie} {csrf}");
    // Both are used, so that whatever is said of a request can hold them.
    let browser = admin(mesh)
        .without("authorization")
        .with("cookie", &format!("__Host-meshkit-session={cookie}"))
        .with("mesh-csrf-token", &csrf);
    browser.send("POST", "/meshkit/peers/edge-1:uncordon", &json!({})).ok();
    secrets.insert("a browser's cookie".to_owned(), cookie);
    secrets.insert("what a browser's page knows".to_owned(), csrf);
    assert!(secrets.len() > 17, "{:?}", secrets.keys());
    secrets
}

#[test]
fn a_bundle_holds_what_helps_and_no_secret() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    register(&mesh, "edge-1");
    // Somebody puts a token where it does not belong.
    let planted = mesh.info().tokens.operate.clone();
    let reason = format!("as agreed, with {planted}");
    mesh.mesh(["peers", "cordon", "edge-1", "--yes", "--reason", &reason])
        .ok()
        .unwrap();
    let secrets = secrets(&mesh);
    agreed(&mesh);
    let dead = follower(&mesh);
    mesh.kill(dead).unwrap();

    let out = mesh.scratch().join("bundle.tar.gz");
    let arguments = ["support", "bundle", "--out", out.to_str().unwrap(), "-o", "json"];
    let said = mesh.mesh(arguments).ok().unwrap();
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&said["nodesAsked"], &said["nodesAnswered"]), (&json!(3), &json!(2)));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let again = mesh.mesh(arguments);
    assert!(
        again.code == Some(5) && again.stderr.contains("is there already"),
        "{again:?}"
    );

    let mut texts = texts(&out);
    let of_the_mesh = [
        "status",
        "members",
        "alarms",
        "upgrade",
        "settings",
        "history",
        "clusters",
        "operations",
        "audit",
    ];
    for name in of_the_mesh {
        let text = &texts[&format!("{name}.json")];
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{name}: {text}");
    }
    for node in mesh.ids().into_iter().filter(|node| *node != dead) {
        whole(&mesh, node, &texts);
    }
    let contents: Value = serde_json::from_str(&texts["contents.json"]).unwrap();
    let visited = contents["nodes"].as_array().unwrap();
    let unanswered: Vec<_> = visited.iter().filter(|node| node["error"].is_string()).collect();
    assert!(unanswered.len() == 1 && unanswered[0]["node"] == dead, "{contents}");
    assert!(!texts.keys().any(|name| name.starts_with(&format!("nodes/{dead}/"))));

    assert_eq!(leaks(&in_the_open(&mut mesh), &secrets), [""; 0]);
    // What was planted was taken out, and nothing else was there.
    assert!(texts["audit.json"].contains("as agreed, with [removed: looks like a credential]"));
    assert_eq!(leaks(&texts, &secrets), [""; 0]);
    // The scanner does find each of them where it is there.
    for (name, secret) in &secrets {
        texts.insert("planted".to_owned(), format!("{{\"note\": \"{secret}\"}}"));
        let found = leaks(&texts, &secrets);
        assert!(found.contains(&format!("{name} in planted")), "{name} is not found");
    }
    without_a_quorum(&mut mesh, &secrets);
}

/// The last node that is left still tells of itself, over REST too.
fn without_a_quorum(mesh: &mut Mesh, secrets: &BTreeMap<String, String>) {
    let mut left = mesh.ids();
    left.retain(|node| mesh.is_running(*node).unwrap());
    mesh.kill(left.remove(0)).unwrap();
    let out = mesh.scratch().join("last.tar.gz");
    let arguments = ["support", "bundle", "--out", out.to_str().unwrap(), "-o", "json"];
    let said = mesh.mesh(arguments).ok().unwrap();
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&said["nodesAsked"], &said["nodesAnswered"]), (&json!(3), &json!(1)));
    let texts = texts(&out);
    whole(mesh, left[0], &texts);
    assert!(texts["audit.json"].contains("peers.cordon"));
    assert_eq!(leaks(&texts, secrets), [""; 0]);
    let report = caller(mesh, left[0], Wire::H1, "admin")
        .get("/meshkit/node/report")
        .ok();
    assert_eq!(report.json["node"], left[0]);
    let sections = report.json["sections"].as_array().unwrap();
    assert!(
        sections
            .iter()
            .any(|section| section["name"] == "log.txt" && section["truncated"] == false)
    );
}

/// Everything of a node is there, and says what it should.
fn whole(mesh: &Mesh, node: u64, texts: &BTreeMap<String, String>) {
    let text = |name: &str| texts[&format!("nodes/{node}/{name}")].as_str();
    let value = |name: &str| serde_json::from_str::<Value>(text(name)).unwrap();
    let config: toml::Table = text("config.toml").parse().unwrap();
    assert_eq!(config["node"]["id"].as_integer(), i64::try_from(node).ok());
    assert!(text("metrics.txt").contains("meshkit_certificate_expiry_seconds"));
    let log = text("log.txt");
    assert!(
        log.contains("the node runs") && log.contains("meshkit::access"),
        "{log}"
    );
    let raft = value("raft.json");
    assert_eq!(
        (raft["members"].as_array().unwrap().len(), &raft["node"]),
        (3, &json!(node))
    );
    assert!(
        raft["log"]["applied"].as_u64().unwrap() > 0 && raft["mesh"]["digest"].is_string(),
        "{raft}"
    );
    let disk = value("disk.json");
    assert!(disk["parts"]["log"]["bytes"].as_u64().unwrap() > 0 && disk["fileSystem"]["freeBytes"].is_u64());
    let process = value("process.json");
    assert_eq!(process["pid"], mesh.node(node).unwrap().pid);
    let certificates = value("certificates.json");
    let own = &certificates["certFile"]["certificates"][0];
    let id = format!(
        "spiffe://{}/cluster/{}/node/{node}",
        mesh.info().mesh,
        mesh.info().clusters[0].id
    );
    assert!(own["names"].as_array().unwrap().contains(&json!(id)), "{own}");
    assert_eq!(certificates["keyFile"]["mode"], "600");
    assert_eq!(own["sha256"].as_str().unwrap().len(), 64);
    assert!(certificates["caFile"]["certificates"][0]["authority"] == true);
}

// --- Certificates ---

/// Issues a node's certificate anew, for so many days, and has it read.
fn renew(mesh: &mut Mesh, node: u64, days: u32) {
    let root = mesh.info().ca.parent().unwrap().to_owned();
    let config: toml::Table = fs::read_to_string(&mesh.node(node).unwrap().config)
        .unwrap()
        .parse()
        .unwrap();
    let file = |name: &str| config["tls"][name].as_str().unwrap().to_owned();
    let (ca, ca_key) = (root.join("ca.crt"), root.join("ca.key"));
    let days = days.to_string();
    let (cert, key) = (file("cert_file"), file("key_file"));
    let (ca, ca_key) = (ca.to_str().unwrap(), ca_key.to_str().unwrap());
    let from = ["certs", "renew", "--ca", ca, "--ca-key", ca_key, "--days", &days];
    let of = ["--cert", &cert, "--key", &key];
    mesh.programs().node(from.into_iter().chain(of)).ok().unwrap();
    mesh.signal(node, rustix::process::Signal::HUP).unwrap();
}

#[test]
fn certificates_that_end_soon_are_seen_in_time_on_every_node() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let healthy = mesh.mesh(["status"]).ok().unwrap();
    assert!(
        healthy.stdout.contains(": healthy\n") && !healthy.stdout.contains("WARNING"),
        "{healthy:?}"
    );
    let (leads, other) = (leader(&mesh), follower(&mesh));
    renew(&mut mesh, leads, 20);
    renew(&mut mesh, other, 3);
    let client = super::world::client(&mesh, "read");
    for (node, what) in [(leads, "days: plan to renew it"), (other, "days: renew it now")] {
        wait_until(SOON, what, || {
            status_of(&mesh, &client, node)
                .is_some_and(|status| status.warnings.iter().any(|line| line.ends_with(what)))
        })
        .unwrap();
        let status = status_of(&mesh, &client, node).unwrap();
        let ends = status.certificate_expires_at.unwrap().seconds;
        let left = ends - i64::try_from(now_s()).unwrap();
        let days = if node == leads { 20 } else { 3 };
        assert!((left - days * 86_400).abs() < 86_400, "{left} s left of {days} days");
        assert!(
            status
                .alarms
                .iter()
                .any(|alarm| alarm.name == "CERTIFICATE" && alarm.node == node)
        );
    }
    // Whichever node is asked, the screen shows what any of them warns of, and which it is.
    for node in mesh.ids() {
        let shown = mesh.mesh_at(node, ["status"]).unwrap().ok().unwrap().stdout;
        let warning = |of: u64, what: &str| {
            let begin = format!("{of} ");
            shown
                .lines()
                .any(|line| line.starts_with(&begin) && line.ends_with(what))
        };
        assert!(
            warning(leads, "plan to renew it") && warning(other, "renew it now"),
            "{shown}"
        );
        assert!(shown.contains("healthy, with"), "{shown}");
    }
    mesh.stop().unwrap();
}

fn now_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

// --- The service manager ---

#[test]
fn the_service_manager_hears_of_a_start_a_life_and_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let told = std::thread::spawn(move || {
        let mut told = Vec::new();
        let mut message = [0; 4096];
        let until = Instant::now() + Duration::from_secs(120);
        while Instant::now() < until {
            let length = socket.recv(&mut message).expect("the node falls silent");
            told.push(String::from_utf8(message[..length].to_vec()).unwrap());
            if told.last().is_some_and(|last| last.starts_with("STOPPING=1")) {
                return told;
            }
        }
        panic!("{told:?}");
    });
    let mesh = Mesh::start(Options {
        nodes: 1,
        environment: vec![
            ("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned()),
            ("WATCHDOG_USEC".to_owned(), "900000".to_owned()),
        ],
    })
    .unwrap();
    for _ in 0..5 {
        register(&mesh, &unique("alive"));
        std::thread::sleep(Duration::from_millis(400));
    }
    mesh.stop().unwrap();
    let told = told.join().unwrap();
    let ready = told
        .iter()
        .position(|message| message.starts_with("READY=1\n"))
        .expect("READY=1");
    assert!(told[ready].contains("STATUS=node 1: leads, term "), "{told:?}");
    let beats = told
        .iter()
        .skip(ready)
        .filter(|message| *message == "WATCHDOG=1")
        .count();
    assert!(beats >= 3, "{told:?}");
    assert!(!told[..ready].iter().any(|message| message == "WATCHDOG=1"), "{told:?}");
    assert_eq!(told.last().unwrap(), "STOPPING=1\nSTATUS=asked to");
}

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd/meshkit-node.service");
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_unit_file_does_not_restart_what_a_person_has_to_look_at() {
    let unit = unit();
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("{key} is not set"))
    };
    assert_eq!(value("RestartPreventExitStatus"), "2 3 4 5 6");
    assert_eq!((value("Restart"), value("Type")), ("on-failure", "notify"));
    for key in [
        "WatchdogSec",
        "LimitNOFILE",
        "NoNewPrivileges",
        "ProtectSystem",
        "UMask",
        "StartLimitBurst",
    ] {
        assert!(!value(key).is_empty());
    }
}

#[test]
fn systemd_understands_the_unit_file() {
    let directory = tempfile::tempdir().unwrap();
    let program = node_harness::Programs::find().unwrap().path("meshkit-node");
    let verify = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(file)
            .output()
    };
    let unit = unit().replace("/usr/bin/meshkit-node", program.to_str().unwrap());
    let told = match verify("meshkit-node.service", &unit) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: systemd-analyze is not installed here, so nothing can be said of the unit file");
            return;
        }
        told => told.unwrap(),
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.status.success() && said(&told).is_empty(), "{}", said(&told));
    // It does say so where it does not understand.
    let told = verify("wrong.service", &unit.replace("WatchdogSec", "WatchdgSec")).unwrap();
    assert!(said(&told).contains("WatchdgSec"), "{}", said(&told));
}

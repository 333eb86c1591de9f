//! `mesh watch` and `--watch` of lists (S3, S7, M9): what a person or a script sees is what the history has, whatever
//! becomes of the node that is watched at, and an interrupted watch is gone on with behind its token.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
};

use node_harness::{Mesh, Options, Running, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use super::world::{SOON, audit, leader, register, unique};

/// A `mesh` that goes on until it is interrupted.
pub struct Watching {
    running: Running,
    seen: PathBuf,
    said: PathBuf,
}

impl Watching {
    pub fn start(mesh: &Mesh, arguments: &[&str]) -> Self {
        let (seen, said) = (mesh.scratch().join(unique("seen")), mesh.scratch().join(unique("said")));
        let mut command = mesh.programs().command("mesh");
        command.args(arguments);
        command.env("MESH_CONTEXT", mesh.context("admin")).stdin(Stdio::null());
        command
            .stdout(File::create(&seen).unwrap())
            .stderr(File::create(&said).unwrap());
        Self {
            running: Running::start(command).unwrap(),
            seen,
            said,
        }
    }

    fn shown(&self) -> String {
        fs::read_to_string(&self.seen).unwrap()
    }

    /// The whole documents that came so far.
    pub fn documents(&self) -> Vec<Value> {
        let shown = self.shown();
        let whole = shown.rfind('\n').map_or("", |end| &shown[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until it was told of a revision.
    pub fn reaches(&self, revision: u64) {
        wait_until(SOON, "the watch to come so far", || {
            self.documents()
                .iter()
                .any(|document| document["revision"].as_u64() >= Some(revision))
        })
        .unwrap();
    }

    /// Interrupts it: it ends with 130 and says how to go on. Answers the token.
    pub fn interrupt(&mut self) -> String {
        self.running.signal(Signal::INT).unwrap();
        assert_eq!(self.running.wait(SOON).unwrap().code(), Some(130));
        let said = fs::read_to_string(&self.said).unwrap();
        let (_, token) = said.split_once("--resume ").expect(&said);
        // As JSON it stands in a string of the document.
        token.split(['"', ' ', '\n']).next().unwrap().to_owned()
    }
}

/// The revisions that documents are units of, in their order.
fn units(documents: &[Value]) -> Vec<u64> {
    let units = documents.iter().filter(|document| document.get("unit").is_some());
    units.map(|document| document["revision"].as_u64().unwrap()).collect()
}

#[test]
fn a_watch_goes_on_where_it_was_interrupted_and_where_its_node_died() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let first = register(&mesh, &unique("first")).changed_revision;
    let mut watching = Watching::start(&mesh, &["watch", "--kind", "peer", "--snapshot", "-o", "jsonl"]);
    watching.reaches(first);
    let second = register(&mesh, &unique("second")).changed_revision;
    watching.reaches(second);
    let token = watching.interrupt();
    let missed = register(&mesh, &unique("missed")).changed_revision;

    let mut later = Watching::start(&mesh, &["watch", "--kind", "peer", "--resume", &token, "-o", "jsonl"]);
    later.reaches(missed);
    let begun = &later.documents()[0]["begun"];
    let watched: u64 = begun["node"].as_str().unwrap().parse().unwrap();
    mesh.kill(watched).unwrap();
    leader(&mesh);
    let last = register(&mesh, &unique("last")).changed_revision;
    later.reaches(last);
    later.interrupt();

    let told: Vec<u64> = [units(&watching.documents()), units(&later.documents())].concat();
    let trail = audit(&mesh);
    let happened = trail
        .iter()
        .filter(|record| record.revision > first && record.changes.iter().any(|change| change.kind == "peer"));
    let happened: Vec<u64> = happened.map(|record| record.revision).collect();
    assert_eq!(told, happened);
    assert_eq!(
        later
            .documents()
            .iter()
            .filter(|document| document.get("begun").is_some())
            .count(),
        2,
        "the node that was watched at died, and another took over"
    );

    // Of another filter, the token is good for nothing.
    let refused = mesh.mesh(["watch", "--kind", "cluster", "--resume", &token, "--for", "30s"]);
    let refused = refused.expect_code(2).unwrap();
    assert!(refused.stderr.contains("token_mismatch"), "{refused:?}");
}

#[test]
fn lists_are_watched_by_people() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let (there, comes) = (unique("there"), unique("comes"));
    register(&mesh, &there);
    let mut peers = Watching::start(&mesh, &["peers", "list", "-w", "--status", "active"]);
    wait_until(SOON, "what there is", || peers.shown().contains(&there)).unwrap();
    register(&mesh, &comes);
    mesh.mesh(["peers", "cordon", &there]).ok().unwrap();
    let gone = format!("removed   peer/{there}");
    wait_until(SOON, "what happens", || peers.shown().contains(&gone)).unwrap();
    peers.interrupt();
    let shown = peers.shown();
    let columns = shown.lines().next().unwrap().split_whitespace();
    let columns: Vec<&str> = columns.collect();
    assert_eq!(
        columns,
        ["REVISION", "TIME", "CHANGE", "RECORD", "ACTOR", "ACTION", "WHAT"]
    );
    let line = |word: &str, id: &str| {
        let found = shown.lines().find(|line| line.contains(word) && line.contains(id));
        found.unwrap_or_else(|| panic!("no {word} {id} in\n{shown}"))
    };
    line("there", &there);
    line("added", &comes);
    assert!(
        line("removed", &there).ends_with("status active -> cordoned"),
        "{shown}"
    );

    // A watch with an end ends well; names and documents have one line each.
    let names = mesh.mesh(["watch", "--snapshot", "--for", "2s", "-o", "name"]);
    let names = names.ok().unwrap().stdout;
    assert!(names.lines().any(|line| line == format!("peer/{there}")), "{names}");
    for list in ["operations", "clusters", "approvals", "config"] {
        let shown = mesh.mesh([list, "list", "--watch", "--for", "1s", "-o", "jsonl"]);
        let shown = shown.ok().unwrap().stdout;
        let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
        assert_eq!(first["begun"]["cluster"], "dev-1", "{list}: {shown}");
    }
    let both = mesh
        .mesh(["peers", "list", "-w", "--limit", "3"])
        .expect_code(2)
        .unwrap();
    assert!(both.stderr.contains("--limit"), "{both:?}");
}

//! `meshkit-node` by itself: configuration, data directory, exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use node_harness::{Output, Programs, Running, wait_until};

/// A directory with a CA, a node's certificate, a signing key and a configuration.
struct Lone {
    programs: Programs,
    directory: tempfile::TempDir,
}

impl Lone {
    fn new() -> Self {
        let lone = Self {
            programs: Programs::find().unwrap(),
            directory: tempfile::tempdir().unwrap(),
        };
        let (ca, ca_key) = (lone.path("ca.crt"), lone.path("ca.key"));
        lone.run(&["certs", "ca", "--mesh", "m", "--out", &lone.path("ca")], 0);
        let out = lone.path("node");
        let identity = ["--mesh", "m", "--cluster", "c", "--node", "1", "--host", "127.0.0.1"];
        let mut arguments = vec!["certs", "node", "--ca", &ca, "--ca-key", &ca_key, "--out", &out];
        arguments.extend(identity);
        lone.run(&arguments, 0);
        lone.run(&["certs", "jwt-key", "--out", &lone.path("jwt")], 0);
        lone.configure("");
        lone
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn configure(&self, extra: &str) {
        let text = format!(
            "[node]\nid = 1\ndata_dir = \"data\"\n[mesh]\nid = \"m\"\ncluster = \"c\"\n\
             [[mesh.members]]\nid = 1\nraft = \"127.0.0.1:1\"\napi = \"127.0.0.1:2\"\n\
             [api]\nlisten = \"127.0.0.1:0\"\n[raft]\nlisten = \"127.0.0.1:0\"\n\
             [tls]\nca_file = \"ca.crt\"\ncert_file = \"node.crt\"\nkey_file = \"node.key\"\n\
             [auth]\nkey_files = [\"jwt.pub\"]\n{extra}"
        );
        fs::write(self.path("node.toml"), text).unwrap();
    }

    fn run(&self, arguments: &[&str], code: i32) -> Output {
        self.programs.node(arguments).expect_code(code).unwrap()
    }

    /// Runs the node until `said` stands in its log, then kills it.
    fn boot_until(&self, said: &str) {
        let log = self.path("log");
        let mut command = self.programs.command("meshkit-node");
        command.args(["--config", &self.path("node.toml")]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        let running = Running::start(command).unwrap();
        let text = || fs::read_to_string(&log).unwrap();
        wait_until(Duration::from_secs(20), said, || text().contains(said))
            .unwrap_or_else(|e| panic!("{e}\n{}", text()));
        drop(running);
    }

    /// Runs a node that is expected to refuse to start.
    fn refuses(&self, code: i32, told: &[&str]) {
        let output = self.run(&["--config", &self.path("node.toml")], code);
        for told in told {
            assert!(output.stderr.contains(told), "{told}: {}", output.stderr);
        }
    }
}

#[test]
fn the_printed_defaults_can_be_used() {
    let lone = Lone::new();
    let defaults = lone.run(&["config", "print-default"], 0).stdout;
    fs::write(lone.path("defaults.toml"), &defaults).unwrap();
    // The file itself is good; what it names is not on this machine.
    let refused = lone.run(&["--check-config", "--config", &lone.path("defaults.toml")], 2);
    assert!(!refused.stderr.contains("unknown"), "{}", refused.stderr);
    lone.run(&["--check-config", "--config", &lone.path("node.toml")], 0);
}

#[test]
fn a_wrong_configuration_is_shown_where_it_is_wrong() {
    let lone = Lone::new();
    lone.configure("[raft2]\n");
    lone.refuses(2, &["unknown section `[raft2]`", "did you mean `[raft]`", "node.toml:"]);
    lone.configure("[limits]\nbody_bytes_maximum = 1\n");
    lone.refuses(2, &["body_bytes_max", "^"]);
    fs::copy(lone.path("ca.crt"), lone.path("node.crt")).unwrap();
    lone.configure("");
    lone.refuses(2, &["node.crt"]);
    lone.run(&[], 2);
    lone.run(&["--no-such-flag"], 2);
}

#[test]
fn an_empty_node_waits_and_says_for_what() {
    let lone = Lone::new();
    lone.boot_until("meshkit-node init --config FILE");
    // Having waited, it is a member to be, and no founder any more.
    let refused = lone.run(&["init", "--config", &lone.path("node.toml")], 3);
    assert!(refused.stderr.contains("already"), "{}", refused.stderr);
}

#[test]
fn a_founder_begins_its_mesh_and_finds_it_again() {
    let lone = Lone::new();
    lone.run(&["init", "--config", &lone.path("node.toml")], 0);
    lone.boot_until("the mesh is initialized");
    lone.boot_until("the node runs");
    lone.run(&["init", "--config", &lone.path("node.toml")], 3);
}

#[test]
fn damage_is_found_and_named() {
    let lone = Lone::new();
    lone.run(&["init", "--config", &lone.path("node.toml")], 0);
    lone.boot_until("the mesh is initialized");

    let marker = lone.data().join("IDENTITY");
    let good = fs::read(&marker).unwrap();
    fs::write(&marker, &good[..good.len() - 9]).unwrap();
    lone.refuses(4, &["IDENTITY"]);
    let mut flipped = good.clone();
    flipped[30] ^= 4;
    fs::write(&marker, &flipped).unwrap();
    lone.refuses(4, &["IDENTITY", "checksum"]);
    fs::remove_file(&marker).unwrap();
    lone.refuses(4, &["IDENTITY", "missing"]);
    fs::write(&marker, &good).unwrap();

    let file = newest(&lone.data().join("log"), "MANIFEST");
    let manifest = fs::read(&file).unwrap();
    let mut flipped = manifest.clone();
    flipped[manifest.len() / 2] ^= 4;
    fs::write(&file, &flipped).unwrap();
    lone.refuses(4, &["log"]);
    fs::write(&file, &manifest).unwrap();
    lone.boot_until("the node runs");
}

#[test]
fn anothers_directory_is_refused() {
    let lone = Lone::new();
    lone.run(&["init", "--config", &lone.path("node.toml")], 0);
    let text = fs::read_to_string(lone.path("node.toml"))
        .unwrap()
        .replace("cluster = \"c\"", "cluster = \"d\"");
    fs::write(lone.path("node.toml"), text).unwrap();
    let (ca, ca_key, out) = (lone.path("ca.crt"), lone.path("ca.key"), lone.path("node"));
    let identity = [
        "--mesh",
        "m",
        "--cluster",
        "d",
        "--node",
        "1",
        "--host",
        "127.0.0.1",
        "--force",
    ];
    let mut arguments = vec!["certs", "node", "--ca", &ca, "--ca-key", &ca_key, "--out", &out];
    arguments.extend(identity);
    lone.run(&arguments, 0);
    lone.refuses(3, &["belongs to cluster c"]);
}

fn newest(directory: &Path, prefix: &str) -> PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .collect();
    found.sort();
    found
        .pop()
        .unwrap_or_else(|| panic!("no {prefix} in {}", directory.display()))
}

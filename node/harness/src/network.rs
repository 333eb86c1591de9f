//! A network of a test's own: every node in a network namespace, joined by a switch whose cables can be pulled.
//!
//! ```text
//!   test's namespace        ┌──────── switch (bridge, no address) ────────┐
//!   10.98.N.1  ─────────────┼─ port 1        port 2         port 3 ───────┘
//!      │ one cable per node │    │              │               │
//!      └─ 10.98.N.2         └─ 10.99.0.1    10.99.0.2       10.99.0.3
//!         clients' side of node N: its API     nodes' side of node N: its Raft port, and other nodes' way to its API
//! ```
//!
//! Pulling a node's cable from the switch parts it from all other nodes, and leaves its clients where they are. Nobody
//! is told: what is sent is lost. All of it lives in namespaces that the test is started again in ([`Network::enter`]), and
//! is gone with the test's process; nothing of the machine's own network is touched.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::Doing;
use crate::{Error, process};

/// Says why namespaces cannot be had here, so that tests that need them are left out.
const MISSING: &str = "MESHKIT_NAMESPACES_MISSING";
/// Set in the test that runs within.
const WITHIN: &str = "MESHKIT_TEST_WITHIN_NETWORK";
/// The longest that a test may take in there.
const TEST_WITHIN: Duration = Duration::from_secs(300);
/// The longest for one command of `ip`.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// The bridge that joins the nodes.
const SWITCH: &str = "switch";
/// What runs first in the new namespaces: they have a `/run` of their own, since `ip netns` keeps names there.
const PREPARE: &str = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec \"$0\" \"$@\"";

/// The ports in all namespaces; nothing else is there that could have them.
const API_PORT: u16 = 7400;
const RAFT_PORT: u16 = 7500;

/// Nodes' namespaces, and the switch between them.
#[derive(Debug)]
pub struct Network {
    nodes: u64,
}

impl Network {
    /// Runs the test of this name (`e2e::partition::name`) once more, in namespaces of its own. Answers the network in there,
    /// and none to the test outside, which then is over: it has ended as the one inside has, or was left out.
    ///
    /// # Errors
    /// The test inside failed or did not run, with what it said; or the namespaces cannot be made.
    pub fn enter(test: &str, nodes: u64) -> Result<Option<Self>, Error> {
        if std::env::var_os(WITHIN).is_some() {
            return Self::make(nodes).map(Some);
        }
        if let Ok(why) = std::env::var(MISSING) {
            eprintln!("left out: {why}");
            return Ok(None);
        }
        let program = std::env::current_exe().doing("the test's own file")?;
        let mut command = Command::new("unshare");
        // Root makes namespaces; somebody else makes a user namespace to be root in.
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--net", "--mount", "--", "sh", "-c", PREPARE])
            .arg(program)
            .args([test, "--exact", "--nocapture", "--include-ignored"])
            .env(WITHIN, "1")
            .stdin(Stdio::null());
        let inside = process::run(command, TEST_WITHIN);
        eprintln!("{}{}", inside.stdout, inside.stderr);
        if !inside.success() || !inside.stdout.contains("test result: ok. 1 passed") {
            return Err(Error::new(format!(
                "{test} failed in its namespaces (exit code {:?}), or they cannot be made: they take `unshare`, `ip` and \
                 root or user namespaces. {MISSING}=<why> leaves it out",
                inside.code
            )));
        }
        Ok(None)
    }

    fn make(nodes: u64) -> Result<Self, Error> {
        let network = Self { nodes };
        // Nodes must not find a way to each other through the test.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").doing("ip_forward")?;
        ip(&format!("link add {SWITCH} type bridge stp_state 0 forward_delay 0"))?;
        ip(&format!("link set {SWITCH} up"))?;
        for node in 1..=nodes {
            network.connect(node)?;
        }
        Ok(network)
    }

    /// A node's namespace with its two cables.
    fn connect(&self, node: u64) -> Result<(), Error> {
        let (name, clients) = (namespace(node), format!("clients{node}"));
        ip(&format!("netns add {name}"))?;
        let within = |words: &str| ip(&format!("-netns {name} {words}"));
        within("link set lo up")?;
        ip(&format!(
            "link add {} type veth peer name nodes netns {name}",
            port(node)
        ))?;
        ip(&format!("link set {} master {SWITCH} up", port(node)))?;
        within(&format!("address add 10.99.0.{node}/24 dev nodes"))?;
        within("link set nodes up")?;
        ip(&format!("link add {clients} type veth peer name clients netns {name}"))?;
        ip(&format!("address add 10.98.{node}.1/30 dev {clients}"))?;
        ip(&format!("link set {clients} up"))?;
        within(&format!("address add 10.98.{node}.2/30 dev clients"))?;
        within("link set clients up")?;
        for other in (1..=self.nodes).filter(|other| *other != node) {
            within(&format!("route add 10.98.{other}.2/32 via 10.99.0.{other}"))?;
        }
        Ok(())
    }

    /// How many nodes have a place in it.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Where clients find a node's API: `host:port`.
    pub fn api(&self, node: u64) -> String {
        format!("10.98.{node}.2:{API_PORT}")
    }

    /// Where other nodes find a node: `host:port`.
    pub fn raft(&self, node: u64) -> String {
        format!("10.99.0.{node}:{RAFT_PORT}")
    }

    /// The command that runs a program in a node's namespace, as the same process.
    pub(crate) fn command(node: u64, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace(node)]).arg(program);
        command
    }

    /// Pulls a node's cable from the switch: no other node hears of it any more, nor it of them. Its clients do.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn part(&self, node: u64) -> Result<(), Error> {
        ip(&format!("link set {} nomaster", port(node)))
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn join(&self, node: u64) -> Result<(), Error> {
        ip(&format!("link set {} master {SWITCH}", port(node)))
    }

    /// Whether a node reaches another one's Raft port.
    pub fn reaches(&self, from: u64, to: u64) -> bool {
        let mut command = Self::command(from, Path::new("bash"));
        let address = self.raft(to).replace(':', "/");
        command
            .args(["-c", &format!("exec 3<>/dev/tcp/{address}")])
            .stdin(Stdio::null());
        process::run(command, Duration::from_secs(2)).success()
    }
}

fn namespace(node: u64) -> String {
    format!("node{node}")
}

/// A node's place at the switch.
fn port(node: u64) -> String {
    format!("port{node}")
}

fn ip(words: &str) -> Result<(), Error> {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdin(Stdio::null());
    process::run(command, COMMAND_WITHIN).ok().map(drop)
}

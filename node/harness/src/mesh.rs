//! A running mesh: `meshkit-node dev` in a directory of its own.

mod apart;
mod grow;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::error::Doing;
use crate::process::{self, Running};
use crate::{DevFile, Error, Network, Node, Output, Programs, wait_for, wait_until};

/// The nodes have 45 s; a machine that builds beside it gets a little more.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How much of each log a failed test shows.
const LOG_LINES: usize = 60;

/// The program that is a node.
const NODE: &str = "meshkit-node";

/// How a mesh is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: u16,
    /// Variables for the nodes' environment, such as `("MESHKIT_LOG__LEVEL", "debug")`.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            environment: Vec::new(),
        }
    }
}

/// A mesh in real processes. Dropping it kills them and removes its directory; where a test
/// panics, the ends of the logs are shown first. `MESHKIT_TEST_KEEP=1` keeps the directory.
#[derive(Debug)]
pub struct Mesh {
    programs: Programs,
    /// What started the nodes, where they are on the machine's own network.
    dev: Option<Running>,
    info: DevFile,
    /// Nodes that were started by us, and not by `dev`.
    own: BTreeMap<u64, Running>,
    environment: Vec<(String, String)>,
    directory: TempDir,
    /// The nodes' own, where they have one.
    network: Option<Network>,
}

impl Mesh {
    /// Starts one, on free ports, and waits until all its nodes are ready.
    ///
    /// # Errors
    /// With everything `dev` and the nodes said, when they do not become ready.
    pub fn start(options: Options) -> Result<Self, Error> {
        Self::start_as(options, NODE)
    }

    /// The same with another program for the nodes, such as [`Programs::PREVIOUS`].
    ///
    /// # Errors
    /// As [`Mesh::start`]; and when the program of the feature level before is not there, or out of date.
    pub fn start_as(options: Options, program: &str) -> Result<Self, Error> {
        let programs = Programs::find()?;
        if program == Programs::PREVIOUS {
            programs.previous()?;
        }
        let directory = tempfile::Builder::new()
            .prefix("meshkit-test-")
            .tempdir()
            .doing("making a directory")?;
        let told = directory.path().join("dev.log");
        let mut command = programs.command(program);
        command
            .args(["dev", "--die-with-parent"])
            .arg(std::process::id().to_string())
            .args(["--base-port", "0", "--nodes"])
            .arg(options.nodes.to_string())
            .arg("--data-dir")
            .arg(directory.path().join("mesh"))
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&told).doing(told.display())?);
        let mut dev = Running::start(command)?;
        let dev_json = directory.path().join("mesh/dev.json");
        let ready = wait_for(READY_WITHIN, "dev.json", || {
            if dev_json.exists() {
                return Some(Ok(()));
            }
            match dev.ended() {
                Ok(None) => None,
                Ok(Some(status)) => Some(Err(Error::new(format!("`meshkit-node dev` ended: {status}")))),
                Err(error) => Some(Err(error)),
            }
        });
        if let Err(error) = ready.and_then(|ready| ready) {
            let said = std::fs::read_to_string(&told).unwrap_or_default();
            return Err(Error::new(format!("{error}\n--- meshkit-node dev\n{said}")));
        }
        let info = DevFile::read(&dev_json)?;
        let mesh = Self {
            programs,
            dev: Some(dev),
            info,
            own: BTreeMap::new(),
            environment: options.environment,
            directory,
            network: None,
        };
        mesh.write_contexts()?;
        Ok(mesh)
    }

    /// What `dev.json` says; process ids are those of now.
    pub fn info(&self) -> &DevFile {
        &self.info
    }

    /// The programs it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where a test may leave files; removed with the mesh.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The numbers of all nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.info
            .clusters
            .iter()
            .flat_map(|cluster| &cluster.nodes)
            .map(|node| node.id)
            .collect()
    }

    /// A node by its number.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, id: u64) -> Result<&Node, Error> {
        let mut nodes = self.info.clusters.iter().flat_map(|cluster| &cluster.nodes);
        nodes
            .find(|node| node.id == id)
            .ok_or_else(|| Error::new(format!("there is no node {id}")))
    }

    /// Every node's `https://host:port`.
    pub fn endpoints(&self) -> Vec<String> {
        self.info
            .clusters
            .iter()
            .flat_map(|cluster| &cluster.nodes)
            .map(|node| node.api.clone())
            .collect()
    }

    /// Whether a node's process runs.
    pub fn is_running(&mut self, id: u64) -> Result<bool, Error> {
        if let Some(own) = self.own.get_mut(&id) {
            return Ok(own.ended()?.is_none());
        }
        let node = self.node(id)?;
        Ok(process::is_running_with(node.pid, &node.config.to_string_lossy()))
    }

    /// Sends a node a signal.
    pub fn signal(&mut self, id: u64, signal: Signal) -> Result<(), Error> {
        if let Some(own) = self.own.get_mut(&id) {
            return own.signal(signal);
        }
        let node = self.node(id)?;
        if !process::is_running_with(node.pid, &node.config.to_string_lossy()) {
            return Err(Error::new(format!("node {id} (pid {}) does not run", node.pid)));
        }
        process::send(node.pid, signal)
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self, id: u64) -> Result<(), Error> {
        self.signal(id, Signal::KILL)?;
        self.wait_ended(id, GONE_WITHIN).map(drop)
    }

    /// Kills every node that runs, all at once.
    pub fn kill_all(&mut self) -> Result<(), Error> {
        let mut killed = Vec::new();
        for id in self.ids() {
            if self.is_running(id)? {
                self.signal(id, Signal::KILL)?;
                killed.push(id);
            }
        }
        for id in killed {
            self.wait_ended(id, GONE_WITHIN)?;
        }
        Ok(())
    }

    /// Waits for a node's end. Answers how it ended where it was started by [`Mesh::restart`];
    /// what `dev` started is `dev`'s to ask.
    pub fn wait_ended(&mut self, id: u64, within: Duration) -> Result<Option<ExitStatus>, Error> {
        if let Some(own) = self.own.get_mut(&id) {
            return own.wait(within).map(Some);
        }
        let node = self.node(id)?;
        process::wait_gone(node.pid, &node.config.to_string_lossy(), within).map(|()| None)
    }

    /// Starts a node again that has ended, with its configuration. Does not wait until it is ready.
    pub fn restart(&mut self, id: u64) -> Result<(), Error> {
        self.restart_as(id, NODE)
    }

    /// The same with another program, such as [`Programs::PREVIOUS`].
    pub fn restart_as(&mut self, id: u64, program: &str) -> Result<(), Error> {
        self.start_again(id, program, &[])
    }

    /// The same with more variables in its environment than the other nodes have.
    pub fn restart_with(&mut self, id: u64, more: &[(&str, &OsStr)]) -> Result<(), Error> {
        self.start_again(id, NODE, more)
    }

    fn start_again(&mut self, id: u64, program: &str, more: &[(&str, &OsStr)]) -> Result<(), Error> {
        if self.is_running(id)? {
            return Err(Error::new(format!("node {id} runs")));
        }
        let node = self.node(id)?.clone();
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&node.log)
            .doing(node.log.display())?;
        let mut command = match &self.network {
            Some(_) => self
                .programs
                .command_of(Network::command(id, &self.programs.path(program))),
            None => self.programs.command(program),
        };
        command
            .arg("--die-with-parent")
            .arg(std::process::id().to_string())
            .arg("--config")
            .arg(&node.config)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let running = Running::start(command)?;
        let mut nodes = self.info.clusters.iter_mut().flat_map(|cluster| &mut cluster.nodes);
        if let Some(node) = nodes.find(|node| node.id == id) {
            node.pid = running.pid();
        }
        self.own.insert(id, running);
        Ok(())
    }

    /// Waits until a node says of itself that it is ready: there is a quorum, it has a vote, and its cluster knows of it.
    pub fn wait_ready(&mut self, id: u64, within: Duration) -> Result<(), Error> {
        let endpoint = self.node(id)?.api.clone();
        let environment = [("MESH_ENDPOINTS", OsStr::new(&endpoint))];
        let context = self.context("read");
        let mut last = String::new();
        let ready = wait_until(within, "", || {
            let arguments = ["status", "--consistency", "local", "-o", "json", "--context"]
                .map(OsStr::new)
                .into_iter();
            let arguments = arguments.chain([context.as_os_str()]);
            let output = self
                .programs
                .run("mesh", arguments, &environment, self.directory.path());
            last = format!("{}{}", output.stderr, output.stdout);
            let unready = ["has no vote yet", "does not know of this start yet"];
            output.success() && !unready.iter().any(|why| output.stdout.contains(why))
        });
        ready.map_err(|_| Error::new(format!("node {id} is not ready after {within:?}; last: {last}")))
    }

    /// A context file for the CLI with every endpoint and the token of `who`: `read`, `observe`,
    /// `operate`, `admin` or `admin2`.
    pub fn context(&self, who: &str) -> PathBuf {
        self.directory.path().join(format!("{who}.toml"))
    }

    /// Runs `mesh` as `admin` against all nodes.
    pub fn mesh<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Output {
        self.mesh_as("admin", arguments)
    }

    /// Runs `mesh` as somebody else.
    pub fn mesh_as<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, who: &str, arguments: I) -> Output {
        let context = self.context(who);
        self.programs.run(
            "mesh",
            arguments,
            &[("MESH_CONTEXT", context.as_os_str())],
            self.directory.path(),
        )
    }

    /// Runs `mesh` as `admin` against one node.
    pub fn mesh_at<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, id: u64, arguments: I) -> Result<Output, Error> {
        let context = self.context("admin");
        let endpoint = &self.node(id)?.api;
        let environment = [
            ("MESH_CONTEXT", context.as_os_str()),
            ("MESH_ENDPOINTS", OsStr::new(endpoint)),
        ];
        Ok(self
            .programs
            .run("mesh", arguments, &environment, self.directory.path()))
    }

    /// The end of every log.
    pub fn logs(&self) -> String {
        let mut told = String::new();
        let nodes = self
            .info
            .clusters
            .iter()
            .flat_map(|cluster| &cluster.nodes)
            .map(|node| node.log.clone());
        let dev = self.dev.as_ref().map(|_| self.directory.path().join("dev.log"));
        for log in dev.into_iter().chain(nodes) {
            let text = std::fs::read_to_string(&log).unwrap_or_else(|error| error.to_string());
            let lines: Vec<_> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            told.push_str(&format!("--- {}\n{}\n", log.display(), tail.join("\n")));
        }
        told
    }

    /// Stops everything in good order, as Ctrl-C does.
    pub fn stop(mut self) -> Result<(), Error> {
        for own in self.own.values_mut() {
            if own.ended()?.is_none() {
                own.signal(Signal::TERM)?;
                own.wait(Duration::from_secs(20))?;
            }
        }
        let Some(dev) = &mut self.dev else {
            return Ok(());
        };
        dev.signal(Signal::TERM)?;
        let status = dev.wait(Duration::from_secs(30))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new(format!("`meshkit-node dev` ended: {status}")))
        }
    }

    fn write_contexts(&self) -> Result<(), Error> {
        let endpoints: Vec<_> = self
            .endpoints()
            .iter()
            .map(|endpoint| format!("{endpoint:?}"))
            .collect();
        for (who, token) in self.info.tokens.by_name() {
            let token_file = self.directory.path().join(format!("{who}.jwt"));
            std::fs::write(&token_file, token).doing(token_file.display())?;
            let text = format!(
                "endpoints = [{}]\nca = {:?}\ntoken_file = {token_file:?}\n",
                endpoints.join(", "),
                self.info.ca
            );
            let path = self.context(who);
            std::fs::write(&path, text).doing(path.display())?;
        }
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // `dev` may have been stopped by the test; its children die with it in any case.
        if let Some(dev) = &mut self.dev
            && matches!(dev.ended(), Ok(None))
        {
            let _ = dev.signal(Signal::KILL);
            let _ = dev.wait(GONE_WITHIN);
        }
        self.own.clear();
        for node in self.info.clusters.iter().flat_map(|cluster| &cluster.nodes) {
            if let Err(error) = process::wait_gone(node.pid, &node.config.to_string_lossy(), GONE_WITHIN) {
                eprintln!("{error}");
            }
        }
        if std::env::var_os("MESHKIT_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.directory.path().display());
            self.directory.disable_cleanup(true);
        }
    }
}

//! Nodes that the mesh did not begin with.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use super::Mesh;
use crate::error::Doing;
use crate::process::Running;
use crate::{Error, Node};

impl Mesh {
    /// Makes a directory, a certificate and a configuration for a node that is no member yet, on free ports. It counts
    /// among [`Mesh::ids`] from now on, and does not run.
    ///
    /// # Errors
    /// When `meshkit-node certs` or the disk refuses.
    pub fn new_node(&mut self, id: u64) -> Result<Node, Error> {
        let directory = self.directory.path().join(format!("node-{id}"));
        let node = self.prepare(id, &directory)?;
        self.info.clusters[0].nodes.push(node.clone());
        self.write_contexts()?;
        Ok(node)
    }

    /// The same somewhere else, and not as one of this mesh's nodes: two may have one number.
    ///
    /// # Errors
    /// As [`Mesh::new_node`].
    pub fn prepare(&self, id: u64, directory: &Path) -> Result<Node, Error> {
        std::fs::create_dir_all(directory).doing(directory.display())?;
        let ca_key = self.info.ca.with_extension("key");
        let cluster = &self.info.clusters[0].id;
        let certificate = directory.join("node");
        let issued = self.programs.node([
            "certs".as_ref(),
            "node".as_ref(),
            "--ca".as_ref(),
            self.info.ca.as_os_str(),
            "--ca-key".as_ref(),
            ca_key.as_os_str(),
            "--mesh".as_ref(),
            self.info.mesh.as_ref(),
            "--cluster".as_ref(),
            cluster.as_ref(),
            "--node".as_ref(),
            id.to_string().as_ref(),
            "--host".as_ref(),
            "127.0.0.1".as_ref(),
            "--out".as_ref(),
            certificate.as_os_str(),
        ]);
        issued.ok()?;
        // Both are held until both are known, so that they differ.
        let (api, raft) = (free_port()?, free_port()?);
        let ports = [&api, &raft].map(|held| held.local_addr().map(|address| address.to_string()));
        let [api_address, raft_address] = ports;
        let (api_address, raft_address) = (api_address.doing("a free port")?, raft_address.doing("a free port")?);
        let node = Node {
            id,
            pid: 0,
            api: format!("https://{api_address}"),
            raft: raft_address.clone(),
            config: directory.join("node.toml"),
            data: directory.join("data"),
            log: directory.join("node.log"),
        };
        let text = format!(
            "[node]\nid = {id}\ndata_dir = {data:?}\n\n[mesh]\nid = {mesh:?}\ncluster = {cluster:?}\n\n\
             [api]\nlisten = {api_address:?}\nadvertise = {api_address:?}\n\n\
             [raft]\nlisten = {raft_address:?}\nadvertise = {raft_address:?}\n\n\
             [storage]\nballast_bytes = 4194304\n\n\
             [tls]\nca_file = {ca:?}\ncert_file = \"node.crt\"\nkey_file = \"node.key\"\n\n\
             [auth]\nkey_files = [{keys:?}]\n",
            data = node.data,
            mesh = self.info.mesh,
            ca = self.info.ca,
            keys = self.info.ca.with_file_name("jwt.pub"),
        );
        std::fs::write(&node.config, text).doing(node.config.display())?;
        Ok(node)
    }

    /// Starts a node of [`Mesh::new_node`] with `meshkit-node join`. What it prints goes to [`Mesh::joining`].
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn join(&mut self, id: u64, token: &Path) -> Result<(), Error> {
        if self.is_running(id)? {
            return Err(Error::new(format!("node {id} runs")));
        }
        let node = self.node(id)?.clone();
        let running = self.start_join(&node, token)?;
        let mut nodes = self.info.clusters.iter_mut().flat_map(|cluster| &mut cluster.nodes);
        if let Some(node) = nodes.find(|node| node.id == id) {
            node.pid = running.pid();
        }
        self.own.insert(id, running);
        Ok(())
    }

    /// Starts any prepared node with `meshkit-node join`; killed when dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_join(&self, node: &Node, token: &Path) -> Result<Running, Error> {
        let log = OpenOptions::new().append(true).create(true).open(&node.log);
        let told = node.config.with_file_name("join.out");
        let mut command = self.programs.command(super::NODE);
        command
            .arg("join")
            .arg("--die-with-parent")
            .arg(std::process::id().to_string())
            .arg("--config")
            .arg(&node.config)
            .arg("--token-file")
            .arg(token)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&told).doing(told.display())?)
            .stderr(log.doing(node.log.display())?);
        Running::start(command)
    }

    /// What a node that joins has printed so far.
    pub fn joining(&self, id: u64) -> String {
        let told = self.node(id).map(|node| node.config.with_file_name("join.out"));
        told.ok()
            .and_then(|told| std::fs::read_to_string(told).ok())
            .unwrap_or_default()
    }

    /// Leaves a node out of [`Mesh::ids`] from now on: it was removed from the cluster. It is killed if it runs.
    ///
    /// # Errors
    /// When it cannot be killed, or the contexts cannot be written.
    pub fn forget(&mut self, id: u64) -> Result<(), Error> {
        if self.is_running(id)? {
            self.kill(id)?;
        }
        for cluster in &mut self.info.clusters {
            cluster.nodes.retain(|node| node.id != id);
        }
        self.own.remove(&id);
        self.write_contexts()
    }
}

fn free_port() -> Result<TcpListener, Error> {
    TcpListener::bind("127.0.0.1:0").doing("a free port")
}

//! What is written down about a development mesh: the nodes' configurations, a context for the
//! CLI, `dev.json` for programs, and a few lines for whoever started it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::certs::files::{self, Secrecy};
use crate::config::sections::Member;
use crate::config::value::{Paths, Tables, quote};
use crate::config::{Config, print};
use crate::directory::DataDirectory;
use crate::exit::{Exit, Failure};

use super::children::Children;
use super::credentials::{self, Credentials};
use super::fleet;
use super::layout::Layout;
use super::ports::Ports;

/// One node, before and while it runs.
#[derive(Clone, Debug)]
pub struct DevNode {
    /// Its ports and number.
    pub ports: Ports,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Where its log lines go.
    pub log: PathBuf,
}

impl DevNode {
    /// `host:port` of its API.
    pub fn api(&self) -> String {
        format!("127.0.0.1:{}", self.ports.api)
    }

    /// `host:port` of its Raft listener.
    pub fn raft(&self) -> String {
        format!("127.0.0.1:{}", self.ports.raft)
    }
}

fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<(), Failure> {
    files::replace(path, text.as_bytes(), secrecy).map_err(|error| {
        Failure::new(
            Exit::Directory,
            format!("{}: cannot be written: {error}", path.display()),
        )
    })
}

/// Writes each node's configuration, and makes the first node the founder of the cluster.
pub fn write_configs(layout: &Layout, mesh: &str, cluster: &str, ports: &[Ports]) -> Result<Vec<DevNode>, Failure> {
    let nodes: Vec<_> = ports
        .iter()
        .map(|&ports| {
            let directory = layout.node(cluster, ports.node);
            DevNode {
                ports,
                config: directory.join("node.toml"),
                data: directory.join("data"),
                log: directory.join("node.log"),
            }
        })
        .collect();
    let members: Vec<_> = nodes
        .iter()
        .map(|node| Member {
            id: u64::from(node.ports.node),
            raft: node.raft(),
            api: node.api(),
        })
        .collect();
    for node in &nodes {
        let directory = layout.node(cluster, node.ports.node);
        let mut config = Config::default();
        config.node.id = u64::from(node.ports.node);
        config.node.data_dir = node.data.clone();
        config.mesh.id = mesh.to_owned();
        config.mesh.cluster = cluster.to_owned();
        config.mesh.members = Tables(members.clone());
        config.api.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, node.ports.api));
        config.raft.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, node.ports.raft));
        // Several nodes share this machine's disk, and what they keep is not worth reserving much for.
        config.storage.ballast_bytes = 4 << 20;
        config.tls.ca_file = layout.file("ca.crt");
        config.tls.cert_file = directory.join("node.crt");
        config.tls.key_file = directory.join("node.key");
        config.auth.key_files = Paths(vec![layout.file("jwt.pub")]);
        let text = format!(
            "# Node {} of a development mesh. `meshkit-node --config` with this file starts it by hand.\n\n{}",
            node.ports.node,
            print::brief(&config)
        );
        write(&node.config, &text, Secrecy::Public)?;
        if node.ports.node == 1 {
            DataDirectory::init(&config)?;
        }
    }
    Ok(nodes)
}

/// Writes the CLI's context file: any node, full rights.
pub fn write_context(layout: &Layout, nodes: &[DevNode]) -> Result<PathBuf, Failure> {
    let endpoints: Vec<_> = nodes
        .iter()
        .map(|node| quote(&format!("https://{}", node.api())))
        .collect();
    let text = format!(
        "endpoints = [{}]\nca = {}\ntoken_file = {}\n",
        endpoints.join(", "),
        quote(&layout.file("ca.crt").to_string_lossy()),
        quote(&credentials::token_file(layout, "admin").to_string_lossy()),
    );
    let path = layout.file("context.toml");
    write(&path, &text, Secrecy::Public)?;
    Ok(path)
}

/// `dev.json`.
#[derive(Serialize)]
struct File<'s> {
    mesh: &'s str,
    ca: &'s Path,
    context: &'s Path,
    tokens: &'s std::collections::BTreeMap<&'static str, String>,
    clusters: [FileCluster<'s>; 1],
}

#[derive(Serialize)]
struct FileCluster<'s> {
    id: &'s str,
    nodes: Vec<FileNode<'s>>,
}

#[derive(Serialize)]
struct FileNode<'s> {
    id: u16,
    pid: u32,
    api: String,
    raft: String,
    config: &'s Path,
    data: &'s Path,
    log: &'s Path,
}

/// What there is to tell about a mesh that is ready.
#[derive(Debug)]
pub struct Summary<'s> {
    /// The mesh.
    pub mesh: &'s str,
    /// Its cluster.
    pub cluster: &'s str,
    /// The CLI's context file.
    pub context: &'s Path,
    /// Certificates and tokens.
    pub credentials: &'s Credentials,
    /// The simulated peers, where there are any.
    pub fleet: Option<fleet::Size>,
}

impl Summary<'_> {
    /// Writes `dev.json`, whole or not at all. It holds tokens: only its owner can read it.
    pub fn write(&self, layout: &Layout, nodes: &[DevNode], children: &Children) -> Result<(), Failure> {
        let nodes = nodes.iter().map(|node| FileNode {
            id: node.ports.node,
            pid: children.pid(node.ports.node),
            api: format!("https://{}", node.api()),
            raft: node.raft(),
            config: &node.config,
            data: &node.data,
            log: &node.log,
        });
        let file = File {
            mesh: self.mesh,
            ca: &self.credentials.ca_file,
            context: self.context,
            tokens: &self.credentials.tokens,
            clusters: [FileCluster {
                id: self.cluster,
                nodes: nodes.collect(),
            }],
        };
        let text = serde_json::to_string_pretty(&file)
            .map_err(|error| Failure::new(Exit::Failed, format!("dev.json: {error}")))?;
        write(&layout.file("dev.json"), &format!("{text}\n"), Secrecy::Secret)
    }

    /// Says what runs and what to do next.
    #[allow(clippy::print_stdout, reason = "this is what the command answers")]
    pub fn print(&self, nodes: &[DevNode], children: &Children) {
        println!(
            "\nMesh {} is ready: {} nodes in cluster {}.\n",
            self.mesh,
            nodes.len(),
            self.cluster
        );
        for node in nodes {
            let pid = children.pid(node.ports.node);
            println!(
                "  node {}  pid {pid:<8}  https://{}  raft {}",
                node.ports.node,
                node.api(),
                node.raft()
            );
        }
        if let Some(fleet::Size { peers, shards }) = self.fleet {
            let namespace = fleet::NAMESPACE;
            println!("  {peers} simulated peers serve the {shards} shards of namespace {namespace}");
        }
        let last = nodes.last().map_or(0, |node| children.pid(node.ports.node));
        println!("\nIn another terminal:\n");
        println!("  export MESH_CONTEXT={}", self.context.display());
        println!("  mesh status");
        match self.fleet {
            Some(_) => {
                println!("  mesh shards list --namespace {}", fleet::NAMESPACE);
                println!("  mesh shards locate {} customer-17", fleet::NAMESPACE);
                println!("  mesh peers drain peer-0001 --reason 'a first drain' --yes --wait");
            }
            None => {
                println!("  mesh peers register peer-1 --endpoint 127.0.0.1:9001");
                println!("  mesh peers drain peer-1 --reason 'a first drain' --yes --wait");
            }
        }
        println!("  mesh audit list");
        println!("  kill -9 {last}     # any one node may die; nothing that was acknowledged is lost");
        println!("\nCtrl-C here stops everything.");
    }
}

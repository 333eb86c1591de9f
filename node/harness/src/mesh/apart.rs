//! A mesh whose nodes are on a [`Network`] of their own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Mesh, Options, READY_WITHIN};
use crate::error::Doing;
use crate::{Cluster, DevFile, Error, Network, Node, Programs, Tokens};

const MESH: &str = "apart";
const CLUSTER: &str = "main";

/// Token name, subject, scope: the same as those of `meshkit-node dev`.
const TOKENS: [(&str, &str, &str); 5] = [
    ("read", "dev-reader", "mesh.read"),
    ("observe", "dev-observer", "mesh.observe"),
    ("operate", "dev-operator", "mesh.operate"),
    ("admin", "dev-admin", "mesh.admin"),
    ("admin2", "dev-admin-2", "mesh.admin"),
];

impl Mesh {
    /// Starts one with a node in every place of a network, and waits until all are ready. The nodes' number is the
    /// network's; of the options only the environment counts.
    ///
    /// # Errors
    /// With what the programs said, when something cannot be made or a node does not become ready.
    pub fn start_apart(network: Network, options: Options) -> Result<Self, Error> {
        let programs = Programs::find()?;
        let directory = tempfile::Builder::new()
            .prefix("meshkit-test-")
            .tempdir()
            .doing("making a directory")?;
        let made = Making {
            programs: &programs,
            network: &network,
            directory: directory.path(),
        };
        let info = made.all()?;
        let mut mesh = Self {
            programs,
            dev: None,
            info,
            own: std::collections::BTreeMap::new(),
            environment: options.environment,
            directory,
            network: Some(network),
        };
        mesh.write_contexts()?;
        for node in mesh.ids() {
            mesh.restart(node)?;
        }
        for node in mesh.ids() {
            mesh.wait_ready(node, READY_WITHIN)
                .map_err(|error| Error::new(format!("{error}\n{}", mesh.logs())))?;
        }
        Ok(mesh)
    }

    /// The network that the nodes are on.
    ///
    /// # Errors
    /// When they are on this machine's own.
    pub fn network(&self) -> Result<&Network, Error> {
        self.network
            .as_ref()
            .ok_or_else(|| Error::new("the nodes are on no network of their own"))
    }
}

/// What a mesh needs before its nodes start.
struct Making<'m> {
    programs: &'m Programs,
    network: &'m Network,
    directory: &'m Path,
}

impl Making<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<(), Error> {
        self.programs.node(arguments).ok().map(drop)
    }

    fn all(&self) -> Result<DevFile, Error> {
        let path = |name: &str| self.file(name).to_string_lossy().into_owned();
        self.run(&["certs", "ca", "--mesh", MESH, "--out", &path("ca")])?;
        self.run(&["certs", "jwt-key", "--out", &path("jwt")])?;
        let nodes = (1..=self.network.nodes()).map(|id| self.node(id));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = nodes.first() {
            self.run(&["init".as_ref(), "--config".as_ref(), first.config.as_os_str()])?;
        }
        let [read, observe, operate, admin, admin2] = TOKENS.map(|(name, subject, scope)| {
            let (key, out) = (path("jwt.key"), path(&format!("{name}.signed")));
            let words = [
                "certs",
                "token",
                "--key",
                &key,
                "--mesh",
                MESH,
                "--subject",
                subject,
                "--scope",
                scope,
            ];
            self.run(&[&words[..], &["--out", &out]].concat())?;
            let text = std::fs::read_to_string(&out).doing(&out)?;
            Ok(text.trim().to_owned())
        });
        Ok(DevFile {
            mesh: MESH.to_owned(),
            ca: self.file("ca.crt"),
            context: self.file("admin.toml"),
            tokens: Tokens {
                read: read?,
                observe: observe?,
                operate: operate?,
                admin: admin?,
                admin2: admin2?,
            },
            clusters: vec![Cluster {
                id: CLUSTER.to_owned(),
                nodes,
            }],
        })
    }

    /// A node's certificate and configuration.
    fn node(&self, id: u64) -> Result<Node, Error> {
        let directory = self.file(&format!("node-{id}"));
        std::fs::create_dir_all(&directory).doing(directory.display())?;
        let node = Node {
            id,
            pid: 0,
            api: format!("https://{}", self.network.api(id)),
            raft: self.network.raft(id),
            config: directory.join("node.toml"),
            data: directory.join("data"),
            log: directory.join("node.log"),
        };
        let host = |address: String| address.split(':').next().unwrap_or_default().to_owned();
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (api, raft) = (self.network.api(id), self.network.raft(id));
        self.run(&[
            "certs",
            "node",
            "--ca",
            &text(self.file("ca.crt")),
            "--ca-key",
            &text(self.file("ca.key")),
            "--mesh",
            MESH,
            "--cluster",
            CLUSTER,
            "--node",
            &id.to_string(),
            "--host",
            &host(api.clone()),
            "--host",
            &host(raft.clone()),
            "--out",
            &text(directory.join("node")),
        ])?;
        let members = (1..=self.network.nodes()).map(|member| {
            format!(
                "[[mesh.members]]\nid = {member}\nraft = {:?}\napi = {:?}\n\n",
                self.network.raft(member),
                self.network.api(member)
            )
        });
        let written = format!(
            "[node]\nid = {id}\ndata_dir = {data:?}\n\n[mesh]\nid = {MESH:?}\ncluster = {CLUSTER:?}\n\n{members}\
             [api]\nlisten = {api:?}\nadvertise = {api:?}\n\n\
             [raft]\nlisten = {raft:?}\nadvertise = {raft:?}\n\n\
             [storage]\nballast_bytes = 4194304\n\n\
             [tls]\nca_file = {ca:?}\ncert_file = \"node.crt\"\nkey_file = \"node.key\"\n\n\
             [auth]\nkey_files = [{keys:?}]\n",
            data = node.data,
            members = members.collect::<String>(),
            ca = self.file("ca.crt"),
            keys = self.file("jwt.pub"),
        );
        std::fs::write(&node.config, written).doing(node.config.display())?;
        Ok(node)
    }
}

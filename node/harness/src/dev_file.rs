//! `dev.json`: what a development mesh says of itself once it is ready.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;
use crate::error::Doing;

/// The file.
#[derive(Clone, Debug, Deserialize)]
pub struct DevFile {
    /// The mesh's id.
    pub mesh: String,
    /// The CA's certificate.
    pub ca: PathBuf,
    /// A context file for the CLI.
    pub context: PathBuf,
    /// Tokens.
    pub tokens: Tokens,
    /// The clusters, by region.
    pub clusters: Vec<Cluster>,
}

/// Tokens by the highest scope they hold; `admin2` is a second person.
#[derive(Clone, Deserialize)]
pub struct Tokens {
    /// `mesh.read`
    pub read: String,
    /// `mesh.observe`
    pub observe: String,
    /// `mesh.operate`
    pub operate: String,
    /// `mesh.admin`
    pub admin: String,
    /// `mesh.admin`, of another person.
    pub admin2: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// The tokens by name.
    pub fn by_name(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([
            ("read", self.read.as_str()),
            ("observe", self.observe.as_str()),
            ("operate", self.operate.as_str()),
            ("admin", self.admin.as_str()),
            ("admin2", self.admin2.as_str()),
        ])
    }
}

/// One cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
}

/// One node.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Its number, from 1.
    pub id: u64,
    /// Its process; replaced when the harness restarts it.
    pub pid: u32,
    /// `https://host:port`
    pub api: String,
    /// `host:port`
    pub raft: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Its log lines.
    pub log: PathBuf,
}

impl DevFile {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).doing(path.display())?;
        serde_json::from_str(&text).doing(path.display())
    }
}

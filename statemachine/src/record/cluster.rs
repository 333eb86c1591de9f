//! A cluster's descriptor: what the operators say about one region's Raft group.

use serde::{Deserialize, Serialize};

use super::{
    Attributes, Meta, check_attributes,
    peer::{check_endpoint, check_word},
};
use crate::{ClusterId, Rejection};

/// The most owners of a cluster, and the longest name of one, in bytes.
pub const OWNERS_MAX: usize = 16;
/// The longest name of an owner, in bytes.
pub const OWNER_BYTES_MAX: usize = 128;
/// The most replication endpoints of a cluster.
pub const REPLICATION_ENDPOINTS_MAX: usize = 16;
/// The usual priority.
pub const PRIORITY_DEFAULT: u32 = 100;
/// The largest priority.
pub const PRIORITY_MAX: u32 = 1_000;

/// What a cluster is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClusterPhase {
    /// Takes the mesh's mutations.
    Active,
    /// Follows the active one.
    Passive,
    /// Hands the active part over.
    Draining,
    /// Left alone: not to be promoted.
    Maintenance,
}

impl ClusterPhase {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
        }
    }
}

/// How an emergency promotion makes sure that the old active cluster takes no more mutations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fencing {
    /// An operator says so.
    Manual,
    /// The active cluster acknowledges only while it holds a lease, and a promotion waits the lease out.
    Lease,
}

/// What an operator says about a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// May be empty.
    pub region: String,
    /// Which passive cluster to promote first: the lowest number, 0 to [`PRIORITY_MAX`].
    pub priority: u32,
    /// How an emergency promotion is fenced.
    pub fencing: Fencing,
    /// `host:port` where other clusters reach it for replication.
    pub replication_endpoints: Vec<String>,
    /// Who answers for it; at least one.
    pub owners: Vec<String>,
    /// Free attributes.
    pub annotations: Attributes,
}

impl ClusterSpec {
    /// Checks every field against its form and limit.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] naming the first field that is wrong, and why.
    pub fn check(&self) -> Result<(), Rejection> {
        check_word("region", &self.region)?;
        if self.priority > PRIORITY_MAX {
            let why = format!("{} is not within 0 to {PRIORITY_MAX}", self.priority);
            return Err(Rejection::invalid("priority", why));
        }
        if self.owners.is_empty() {
            let why = "a cluster needs somebody who answers for it: name at least one owner";
            return Err(Rejection::invalid("owners", why));
        }
        if self.owners.len() > OWNERS_MAX {
            return Err(Rejection::invalid("owners", format!("at most {OWNERS_MAX} are kept")));
        }
        for owner in &self.owners {
            if owner.trim().is_empty() || owner.len() > OWNER_BYTES_MAX || owner.chars().any(char::is_control) {
                let why = format!("1 to {OWNER_BYTES_MAX} bytes without control characters");
                return Err(Rejection::invalid("owners", why));
            }
        }
        if self.replication_endpoints.len() > REPLICATION_ENDPOINTS_MAX {
            let why = format!("at most {REPLICATION_ENDPOINTS_MAX} are kept");
            return Err(Rejection::invalid("replicationEndpoints", why));
        }
        for endpoint in &self.replication_endpoints {
            check_endpoint("replicationEndpoints", endpoint)?;
        }
        check_attributes("annotations", &self.annotations)
    }
}

/// A cluster of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Unique in the mesh.
    pub id: ClusterId,
    /// What was said about it.
    pub spec: ClusterSpec,
    /// What it is meant to be.
    pub state: ClusterPhase,
    /// The ticket of its last change; may be empty.
    pub ticket: String,
    /// Changes of the record.
    pub meta: Meta,
}

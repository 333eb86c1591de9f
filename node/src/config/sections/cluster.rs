//! `[node]` and `[mesh]`: who this node is, and whom it belongs to.

use std::path::PathBuf;

use super::INTEGER_MAX;
use crate::config::settings::{required, section, within};
use crate::config::value::Tables;

section! {
    /// This process.
    pub struct Node {
        /// The node's number in its cluster. Never given to another machine again.
        id: u64 = 1_u64 => required().within(1, INTEGER_MAX);
        /// Where everything is kept that the node has to remember. One node, one directory.
        data_dir: PathBuf = "/var/lib/meshkit" => required();
        /// How long a stop may take: handing leadership away, ending requests, flushing.
        shutdown_timeout_ms: u64 = 10_000_u64 => within(100, 600_000);
    }
}

section! {
    /// The mesh and the cluster that this node belongs to.
    pub struct Mesh {
        /// The mesh's name: `a-z 0-9 . _ -`, at most 64 characters. Part of every certificate.
        id: String = "mesh-1" => required().within(1, 64);
        /// The name of this node's cluster: as `id`.
        cluster: String = "main" => required().within(1, 64);
        /// The region the cluster is in, as peers name theirs. Empty: not stated.
        region: String = "" => within(0, 64);
        /// How long a step of a drain is left to be noticed by data planes before the next.
        drain_settle_ms: u64 = 200_u64 => within(0, 600_000);
        /// The nodes that make up the cluster when it is first started. Read by `init`, and by a
        /// node that has no data yet; afterwards the replicated membership counts.
        members: Tables<Member> = Tables::default() => within(0, 9);
    }
}

section! {
    /// One node of the cluster at its first start.
    pub struct Member {
        /// Its `node.id`.
        id: u64 = 1_u64 => required().within(1, INTEGER_MAX);
        /// Where other nodes reach its Raft listener: `host:port`.
        raft: String = "127.0.0.1:7501" => required().within(3, 261);
        /// Where clients and other nodes reach its API: `host:port`.
        api: String = "127.0.0.1:7401" => required().within(3, 261);
    }
}

//! `[raft]`: the node-to-node listener and the clockwork of consensus.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::settings::{section, within};

section! {
    /// Consensus between the nodes of the cluster.
    pub struct Raft {
        /// Address and port of the node-to-node listener. Only nodes of this cluster get in.
        listen: SocketAddr = (Ipv4Addr::LOCALHOST, 7501);
        /// Where other nodes reach it, `host:port`. If absent: as `mesh.members` says.
        advertise: Option<String> = None => within(3, 261);
        /// How often a leader says that it leads.
        heartbeat_interval_ms: u64 = 50_u64 => within(10, 10_000);
        /// A follower asks for votes after `election_timeout_max_ms` of silence, for which the leader's lease lasts, and
        /// then a random time between this …
        election_timeout_min_ms: u64 = 200_u64 => within(50, 60_000);
        /// … and this.
        election_timeout_max_ms: u64 = 400_u64 => within(50, 120_000);
        /// Whether the leader answers linearizable reads by its lease, without asking a majority.
        /// Assumes that, within one lease, no two nodes' clocks run apart by more than the time
        /// between `election_timeout_min_ms` and the lease.
        lease_reads: bool = false;
        /// Linearizable reads that may wait for the next round at once.
        reads_waiting_max: u64 = 16_384_u64 => within(16, 1_000_000);
        /// Proposals under way at once on the leader; further ones get `resource_exhausted`.
        proposals_in_flight_max: u64 = 8_192_u64 => within(16, 1_000_000);
        /// Size of the proposals under way at once together, likewise.
        proposals_in_flight_bytes_max: u64 = 67_108_864_u64 => within(16_777_216, 4_294_967_296);
        /// Size of one entry of the log.
        entry_bytes_max: u64 = 2_097_152_u64 => within(1_114_112, 16_777_216);
        /// The log is cut after this many entries since the last time …
        snapshot_entries: u64 = 100_000_u64 => within(100, 100_000_000);
        /// … but for this many, for followers that lag a little …
        log_entries_kept: u64 = 20_000_u64 => within(0, 100_000_000);
        /// … and at least this many at a time.
        log_purge_entries_min: u64 = 10_000_u64 => within(1, 100_000_000);
        /// Entries sent to a follower in one request.
        append_entries_max: u64 = 1_024_u64 => within(1, 65_536);
        /// Size of one message between nodes.
        frame_bytes_max: u64 = 16_777_216_u64 => within(2_097_152, 134_217_728);
        /// Size of one piece of a snapshot.
        snapshot_chunk_bytes: u64 = 524_288_u64 => within(4_096, 1_048_576);
        /// What is sent of a snapshot to one node in a second. More brings a node back sooner, and takes more of
        /// processors and disks from clients meanwhile.
        snapshot_bytes_per_s: u64 = 33_554_432_u64 => within(1_048_576, 4_294_967_296);
        /// Open connections on the listener.
        connections_max: u64 = 256_u64 => within(8, 65_536);
        /// Time for connecting to another node, until both know who the other is.
        connect_timeout_ms: u64 = 3_000_u64 => within(50, 60_000);
        /// Time for an answer to a vote, a read index or an append.
        request_timeout_ms: u64 = 1_000_u64 => within(50, 60_000);
        /// Time for sending a message.
        write_timeout_ms: u64 = 5_000_u64 => within(50, 600_000);
        /// Time for an answer to one piece of a snapshot.
        snapshot_chunk_timeout_ms: u64 = 10_000_u64 => within(100, 600_000);
        /// Time for checking and installing a snapshot that has arrived.
        snapshot_install_timeout_ms: u64 = 120_000_u64 => within(1_000, 3_600_000);
        /// Between two checkups, in which the leader compares the members' clocks and digests.
        checkup_interval_ms: u64 = 2_000_u64 => within(50, 600_000);
        /// A connection that is silent for this long is closed.
        idle_timeout_ms: u64 = 300_000_u64 => within(1_000, 86_400_000);
    }
}

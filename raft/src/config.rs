//! Everything about consensus that can be set.

use std::time::Duration;

use crate::blocking::Threads;
use crate::reads::ReadMode;
use crate::state::scrub;
use crate::{log, net, propose, state};

/// Settings of a node's consensus. The defaults suit small machines that are busy with other
/// things as well.
#[derive(Clone, Debug)]
pub struct Config {
    /// Between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// A follower asks for votes when it has not heard from a leader for `election_timeout_max`,
    /// which is how long the leader's lease lasts, and then for a random time between this...
    pub election_timeout_min: Duration,
    /// ...and this.
    pub election_timeout_max: Duration,
    /// How linearizable reads are confirmed.
    pub reads: ReadMode,
    /// Reads that may wait for the next round.
    pub reads_waiting: usize,
    /// Entries after which the log may be cut: the state is flushed, and entries before it...
    pub snapshot_after_entries: u64,
    /// ...except this many are removed, for followers that are a little behind...
    pub keep_entries: u64,
    /// ...at least this many at a time.
    pub purge_batch: u64,
    /// Entries sent to a follower in one request.
    pub append_entries: u64,
    /// Limits of the log store.
    pub log: log::Limits,
    /// Limits of the state store.
    pub state: state::Limits,
    /// Limits and deadlines of the transport.
    pub net: net::Limits,
    /// Limits on proposals.
    pub proposals: propose::Limits,
    /// How disk and memory are checked while the node runs.
    pub scrub: scrub::Settings,
    /// How threads are used.
    pub threads: Threads,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(400),
            election_timeout_max: Duration::from_millis(800),
            reads: ReadMode::default(),
            reads_waiting: 16384,
            snapshot_after_entries: 100_000,
            keep_entries: 20_000,
            purge_batch: 10_000,
            append_entries: 1024,
            log: log::Limits::default(),
            state: state::Limits::default(),
            net: net::Limits::default(),
            proposals: propose::Limits::default(),
            scrub: scrub::Settings::default(),
            threads: Threads::default(),
        }
    }
}

impl Config {
    /// As openraft has it.
    pub(crate) fn to_openraft(&self, cluster: &str) -> Result<openraft::Config, String> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: cluster.to_owned(),
            heartbeat_interval: ms(self.heartbeat_interval),
            election_timeout_min: ms(self.election_timeout_min),
            election_timeout_max: ms(self.election_timeout_max),
            install_snapshot_timeout: ms(self.net.install_timeout),
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_after_entries),
            replication_lag_threshold: self.snapshot_after_entries.saturating_mul(2),
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: self.purge_batch,
            max_payload_entries: self.append_entries,
            enable_pre_vote: Some(true),
            // A follower whose disk was replaced is filled again by the leader it has. Safe
            // because it neither votes nor campaigns until it has recovered.
            allow_log_reversion: Some(true),
            // A leader that restarts must not go on in its old term: it may have lost entries that
            // it had sent, and others had synced, before its own disk had; and its state may be
            // behind what it acknowledged, which its read index would then be as well.
            enable_leader_restore: Some(false),
            backoff: "20ms 50ms 100ms ...500ms".into(),
            ..openraft::Config::default()
        }
        .validate()
        .map_err(|e| e.to_string())
    }
}

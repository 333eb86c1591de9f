//! The configuration as each part of the node wants it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Config;
use super::sections::{Api, Auth, Limits, Member};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every count in the configuration has an upper bound that fits.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Config {
    /// This node's entry in `mesh.members`, overridden by what it advertises.
    ///
    /// # Errors
    /// When nothing says how others reach this node.
    pub fn own_addresses(&self) -> Result<Member, String> {
        let listed = self.mesh.members.0.iter().find(|member| member.id == self.node.id);
        let address = |advertised: &Option<String>, listed: Option<&String>, section: &str| {
            advertised.as_ref().or(listed).cloned().ok_or_else(|| {
                format!(
                    "nothing says how others reach node {0}: it is not among `mesh.members`, and `{section}.advertise` \
                     is not given",
                    self.node.id
                )
            })
        };
        Ok(Member {
            id: self.node.id,
            raft: address(&self.raft.advertise, listed.map(|member| &member.raft), "raft")?,
            api: address(&self.api.advertise, listed.map(|member| &member.api), "api")?,
        })
    }

    /// For consensus.
    pub fn consensus(&self, threads: raft::Threads) -> raft::Config {
        let (raft, storage, defaults) = (&self.raft, &self.storage, raft::Config::default());
        raft::Config {
            heartbeat_interval: ms(raft.heartbeat_interval_ms),
            election_timeout_min: ms(raft.election_timeout_min_ms),
            election_timeout_max: ms(raft.election_timeout_max_ms),
            reads: if raft.lease_reads {
                raft::ReadMode::Lease
            } else {
                raft::ReadMode::ReadIndex
            },
            reads_waiting: size(raft.reads_waiting_max),
            snapshot_after_entries: raft.snapshot_entries,
            keep_entries: raft.log_entries_kept,
            purge_batch: raft.log_purge_entries_min,
            append_entries: raft.append_entries_max,
            log: raft::log::Limits {
                tail_bytes: size(storage.log_tail_bytes),
                ..defaults.log
            },
            state: raft::state::Limits {
                flush_bytes: size(storage.state_flush_bytes),
                flush_interval: ms(storage.state_flush_interval_ms),
                chunk_bytes: size(raft.snapshot_chunk_bytes),
                ..defaults.state
            },
            net: raft::net::Limits {
                frame_bytes: size(raft.frame_bytes_max),
                connections: size(raft.connections_max),
                connect_timeout: ms(raft.connect_timeout_ms),
                request_timeout: ms(raft.request_timeout_ms),
                snapshot_bytes_per_s: raft.snapshot_bytes_per_s,
                chunk_timeout: ms(raft.snapshot_chunk_timeout_ms),
                install_timeout: ms(raft.snapshot_install_timeout_ms),
                write_timeout: ms(raft.write_timeout_ms),
                idle_timeout: ms(raft.idle_timeout_ms),
                ..defaults.net
            },
            proposals: raft::propose::Limits {
                in_flight: size(raft.proposals_in_flight_max),
                in_flight_bytes: size(raft.proposals_in_flight_bytes_max),
                entry_bytes: size(raft.entry_bytes_max),
            },
            scrub: raft::state::scrub::Settings {
                interval: ms(storage.scrub_interval_ms),
                bytes_per_s: storage.scrub_bytes_per_s,
            },
            threads,
        }
    }

    /// When the disk is nearly full, and what is held in reserve on it.
    pub fn disk_marks(&self) -> crate::disk::Marks {
        crate::disk::Marks {
            soft_bytes: self.storage.disk_soft_bytes,
            soft_percent: self.storage.disk_soft_percent,
            hard_bytes: self.storage.disk_hard_bytes,
            ballast_bytes: self.storage.ballast_bytes,
        }
    }

    /// For the API server.
    pub fn api_server(&self) -> api_server::Config {
        let Limits {
            connections_max,
            connections_per_address_anonymous_max,
            streams_per_connection_max,
            quic_handshakes_unproved_max: _,
            requests_in_flight_max,
            requests_in_flight_anonymous_max,
            principal_share_percent,
            requests_per_second_max,
            requests_burst_max,
            long_polls_max,
            body_bytes_max,
            header_bytes_max,
            headers_max,
            token_bytes_max,
            drain_bytes_max,
            page_items_default,
            page_items_max,
            pinned_lists_max,
            kept_pages_bytes_max,
            backups_max,
            watches_max,
            watch_backlog_bytes_max,
            watch_lag_revisions_max,
        } = self.limits;
        let Api {
            listen: _,
            http3: _,
            advertise: _,
            request_timeout_default_ms,
            request_timeout_max_ms,
            long_poll_default_ms,
            long_poll_max_ms,
            idle_timeout_ms,
            idle_timeout_anonymous_ms,
            write_timeout_ms,
            ping_interval_ms,
            ping_timeout_ms,
            drain_timeout_ms,
            forward_connect_timeout_ms,
            pinned_list_ms,
            watch_stall_timeout_ms,
        } = self.api;
        api_server::Config {
            // Known once it is listened on.
            http3_port: None,
            session_max_s: self.auth.session_max_s,
            limits: api_server::Limits {
                body_bytes_max: size(body_bytes_max),
                header_bytes_max: count(header_bytes_max),
                headers_max: size(headers_max),
                token_bytes_max: size(token_bytes_max),
                drain_bytes_max: size(drain_bytes_max),
                connections_max: size(connections_max),
                connections_per_address_anonymous_max: size(connections_per_address_anonymous_max),
                streams_per_connection_max: count(streams_per_connection_max),
                requests_in_flight_max: size(requests_in_flight_max),
                requests_in_flight_anonymous_max: size(requests_in_flight_anonymous_max),
                principal_share_percent: count(principal_share_percent),
                requests_per_second_max,
                requests_burst_max: count(requests_burst_max),
                long_polls_max: size(long_polls_max),
                page_items_default: count(page_items_default),
                page_items_max: count(page_items_max),
                pinned_lists_max: size(pinned_lists_max),
                kept_pages_bytes_max: size(kept_pages_bytes_max),
                backups_max: size(backups_max),
                watches_max: size(watches_max),
                watch_backlog_bytes_max: size(watch_backlog_bytes_max),
                watch_lag_revisions_max,
            },
            deadlines: api_server::Deadlines {
                request_default_ms: request_timeout_default_ms,
                request_max_ms: request_timeout_max_ms,
                long_poll_max_ms,
                long_poll_default_ms,
                idle_ms: idle_timeout_ms,
                idle_anonymous_ms: idle_timeout_anonymous_ms,
                write_ms: write_timeout_ms,
                ping_interval_ms,
                ping_timeout_ms,
                drain_ms: drain_timeout_ms,
                forward_connect_ms: forward_connect_timeout_ms,
                // The rest of the time is for handing over leadership and flushing.
                shutdown_ms: self.node.shutdown_timeout_ms / 2,
                pinned_list_ms,
                watch_stall_ms: watch_stall_timeout_ms,
            },
        }
    }

    /// For authentication, with the key files read.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn authentication(&self) -> Result<api_server::AuthConfig, String> {
        let Auth {
            issuer,
            clock_skew_s,
            session_max_s: _,
            jwks_file,
            key_files,
            binding,
        } = &self.auth;
        let read = |file: &Path| {
            let name = file.display().to_string();
            std::fs::read(file)
                .map(|bytes| (name.clone(), bytes))
                .map_err(|error| format!("{name}: {error}"))
        };
        let pem_keys = key_files
            .0
            .iter()
            .map(|file| read(file))
            .collect::<Result<Vec<_>, _>>()?;
        let jwks = jwks_file.as_deref().map(read).transpose()?;
        let jwt = (!pem_keys.is_empty() || jwks.is_some()).then(|| api_server::JwtConfig {
            issuer: issuer.clone(),
            pem_keys,
            jwks,
            leeway_s: *clock_skew_s,
        });
        let bindings = binding.0.iter().map(|binding| api_server::Binding {
            matches: binding.spiffe.clone(),
            subject: binding.subject.clone(),
            scopes: binding.scopes.0.clone(),
        });
        Ok(api_server::AuthConfig {
            jwt,
            bindings: bindings.collect(),
            loopback_admin: false,
            token_bytes_max: size(self.limits.token_bytes_max),
        })
    }

    /// Where the files of the audit trail are, and how many there may be.
    pub fn audit_files(&self) -> (PathBuf, usize) {
        let directory = self.audit.directory.clone();
        let directory = directory.unwrap_or_else(|| self.node.data_dir.join("audit"));
        (directory, size(self.audit.files_max))
    }

    /// When the audit trail is signed.
    pub fn audit_checkpoints(&self) -> controllers::CheckpointSchedule {
        controllers::CheckpointSchedule {
            every_records: self.retention.audit_checkpoint_records,
            every: ms(self.retention.audit_checkpoint_interval_ms),
        }
    }

    /// For the stores on disk.
    #[cfg(feature = "rocksdb")]
    pub fn stores(&self) -> raft_rocksdb::Options {
        raft_rocksdb::Options {
            memtable_bytes: size(self.storage.memtable_bytes),
            wal_bytes_max: self.storage.wal_bytes_max,
            cache_bytes: size(self.storage.cache_bytes),
            open_files_max: i32::try_from(self.storage.open_files_max).unwrap_or(i32::MAX),
        }
    }
}

//! `[audit]`, `[log]` and `[telemetry]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::settings::{section, within};
use crate::config::value::words;

words! {
    /// How log lines look.
    pub enum LogFormat {
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// How much is logged.
    pub enum LogLevel {
        /// What needs attention now.
        Error = "error",
        /// What may need attention.
        Warn = "warn",
        /// What happened.
        Info = "info",
        /// How it happened.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

section! {
    /// The audit trail in files on this node, `audit-<number>.jsonl`, beside the one that is replicated: a line for
    /// each record, as this node applies it, and for each request that it refuses for its scope or rate.
    pub struct Audit {
        /// Where the files are. If absent: `audit` in `node.data_dir`.
        directory: Option<PathBuf> = None;
        /// A file that has reached this size is followed by the next.
        file_bytes_max: u64 = 33_554_432_u64 => within(4_096, 17_179_869_184);
        /// How many files are kept; the oldest go. 0: none is written.
        files_max: u64 = 8_u64 => within(0, 10_000);
    }
}

section! {
    /// Log lines, on standard error. Read again on SIGHUP (but the format).
    pub struct Log {
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: LogLevel = LogLevel::Info;
        /// Exceptions by part, such as `raft=debug,api_server=trace`. Empty: none. Parts are `access`, `api_server`,
        /// `controllers`, `node`, `raft` and `raft_rocksdb`, their modules (`raft::net`), and the libraries below.
        filter: String = "" => within(0, 1_024);
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text;
    }
}

section! {
    /// Metrics and traces. Metrics are always at `/metrics` on the API listener too.
    pub struct Telemetry {
        /// A further listener for `/metrics` alone, without TLS: a loopback address. None if absent.
        metrics_listen: Option<SocketAddr> = None;
        /// Where traces are sent, as OTLP over gRPC without TLS: a collector on this machine or in a network that is trusted,
        /// such as `http://127.0.0.1:4317`. None are made if absent.
        otlp_endpoint: Option<String> = None;
        /// Of a thousand requests whose callers are in no trace, how many begin one.
        otlp_sampled_per_1000: u64 = 1_000_u64 => within(0, 1_000);
    }
}

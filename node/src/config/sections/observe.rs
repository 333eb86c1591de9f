//! `[log]` and `[telemetry]`.

use std::net::SocketAddr;

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
    }
}

//! What an operator can set about the API.

use serde::{Deserialize, Serialize};

/// Limits on what one caller can make a node do. All are enforced before any work is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest header block of a request, in bytes.
    pub header_bytes_max: u32,
    /// The most headers of an HTTP/1.1 request.
    pub headers_max: usize,
    /// The longest bearer token, in bytes.
    pub token_bytes_max: usize,
    /// How much of a refused body is read and thrown away, so that the client sees the refusal.
    pub drain_bytes_max: usize,
    /// The most connections at once; further ones are closed at once.
    pub connections_max: usize,
    /// The most connections of one address (of IPv6: one /64 network) that have not yet carried an authenticated
    /// request; further ones are closed at once.
    pub connections_per_address_anonymous_max: usize,
    /// The most requests at once on one HTTP/2 or HTTP/3 connection.
    pub streams_per_connection_max: u32,
    /// The most requests of known callers at once on all connections, each until its answer is written; further ones
    /// get `resource_exhausted`.
    pub requests_in_flight_max: usize,
    /// The most requests at once of callers who have not proved who they are; counted apart.
    pub requests_in_flight_anonymous_max: usize,
    /// How much of `requests_in_flight_max`, `long_polls_max` and `watches_max` one principal may have, in percent; over it,
    /// requests get `rate_limited`.
    pub principal_share_percent: u32,
    /// How many requests a second one principal may send to this node; no limit where 0. Over it, requests get
    /// `rate_limited`.
    pub requests_per_second_max: u64,
    /// How many of them may come at once, after a rest.
    pub requests_burst_max: u32,
    /// The most long polls at once, within the limit above.
    pub long_polls_max: usize,
    /// Items on a page where the caller does not say.
    pub page_items_default: u32,
    /// The most items on a page.
    pub page_items_max: u32,
    /// How many lists are kept ready for their next page; others are read from history.
    pub pinned_lists_max: usize,
    /// Memory for pages of shards as they were sent, for who asks the same again.
    pub kept_pages_bytes_max: usize,
    /// The most backups that are read at once.
    pub backups_max: usize,
    /// The most watches at once.
    pub watches_max: usize,
    /// Memory for what watches have not taken yet, all of them together; who needs more reads history.
    pub watch_backlog_bytes_max: usize,
    /// How many revisions a watch that had caught up may fall behind.
    pub watch_lag_revisions_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            header_bytes_max: 64 * 1024,
            headers_max: 100,
            token_bytes_max: 16 * 1024,
            drain_bytes_max: 2 * 1024 * 1024,
            connections_max: 4096,
            connections_per_address_anonymous_max: 256,
            streams_per_connection_max: 256,
            requests_in_flight_max: 4096,
            requests_in_flight_anonymous_max: 256,
            principal_share_percent: 50,
            requests_per_second_max: 50_000,
            requests_burst_max: 100_000,
            long_polls_max: 1024,
            page_items_default: 100,
            page_items_max: 1000,
            pinned_lists_max: 64,
            kept_pages_bytes_max: 64 * 1024 * 1024,
            backups_max: 2,
            watches_max: 20_000,
            watch_backlog_bytes_max: 64 * 1024 * 1024,
            watch_lag_revisions_max: 100_000,
        }
    }
}

/// How long things may take, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// A request that states no deadline of its own.
    pub request_default_ms: u64,
    /// The longest deadline that a request can state.
    pub request_max_ms: u64,
    /// The longest long poll.
    pub long_poll_max_ms: u64,
    /// A long poll that states no timeout.
    pub long_poll_default_ms: u64,
    /// A connection on which nothing is under way.
    pub idle_ms: u64,
    /// The same, for a connection that has not yet carried an authenticated request.
    pub idle_anonymous_ms: u64,
    /// For a client to take some more of an answer; a connection on which one does not move for this long is cut.
    pub write_ms: u64,
    /// Between two pings of an HTTP/2 connection.
    pub ping_interval_ms: u64,
    /// For the answer to a ping.
    pub ping_timeout_ms: u64,
    /// Reading a refused body away.
    pub drain_ms: u64,
    /// Connecting to the leader for a forwarded request.
    pub forward_connect_ms: u64,
    /// Requests that are under way when the server is stopped.
    pub shutdown_ms: u64,
    /// How long a list is kept ready for its next page.
    pub pinned_list_ms: u64,
    /// For a watch to take some more, where there is more.
    pub watch_stall_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            request_default_ms: 10_000,
            request_max_ms: 120_000,
            long_poll_max_ms: 60_000,
            long_poll_default_ms: 30_000,
            idle_ms: 300_000,
            idle_anonymous_ms: 10_000,
            write_ms: 30_000,
            ping_interval_ms: 20_000,
            ping_timeout_ms: 20_000,
            drain_ms: 1_000,
            forward_connect_ms: 3_000,
            shutdown_ms: 5_000,
            pinned_list_ms: 120_000,
            watch_stall_ms: 10_000,
        }
    }
}

/// Settings of the API server. Fixed for the life of the server, except for authentication, which has its own
/// [`crate::Authenticator`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Limits.
    pub limits: Limits,
    /// Deadlines.
    pub deadlines: Deadlines,
    /// The port on which clients find HTTP/3; none where it is not served.
    pub http3_port: Option<u16>,
    /// The longest that a browser's session lasts, in seconds.
    pub session_max_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            deadlines: Deadlines::default(),
            http3_port: None,
            session_max_s: 3_600,
        }
    }
}

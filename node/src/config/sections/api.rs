//! `[api]`, `[tls]` and `[limits]`: what faces the network.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::settings::{section, within};

section! {
    /// The API listener: gRPC and REST over HTTP/3, HTTP/2 and HTTP/1.1, always with TLS.
    pub struct Api {
        /// Address and port to listen on.
        listen: SocketAddr = (Ipv4Addr::LOCALHOST, 7401);
        /// Whether HTTP/3 is served too: over UDP, on the same address and port number, with the same
        /// certificates. Clients whose way UDP does not go use TCP.
        http3: bool = true;
        /// Where clients and other nodes reach it, `host:port`. If absent: as `mesh.members` says.
        advertise: Option<String> = None => within(3, 261);
        /// The deadline of a request that names none.
        request_timeout_default_ms: u64 = 10_000_u64 => within(100, 3_600_000);
        /// The longest deadline a request can name.
        request_timeout_max_ms: u64 = 120_000_u64 => within(100, 3_600_000);
        /// How long a long poll waits that names no timeout.
        long_poll_default_ms: u64 = 30_000_u64 => within(100, 3_600_000);
        /// The longest a long poll can ask to wait.
        long_poll_max_ms: u64 = 60_000_u64 => within(100, 3_600_000);
        /// A connection on which nothing is under way for this long is closed. A request counts once its head is there.
        idle_timeout_ms: u64 = 300_000_u64 => within(1_000, 86_400_000);
        /// The same for a connection that has not yet carried an authenticated request.
        idle_timeout_anonymous_ms: u64 = 10_000_u64 => within(100, 86_400_000);
        /// A client that takes nothing of an answer for this long is cut off, with its connection.
        write_timeout_ms: u64 = 30_000_u64 => within(100, 3_600_000);
        /// How often a silent HTTP/2 or HTTP/3 connection is asked whether it lives …
        ping_interval_ms: u64 = 20_000_u64 => within(1_000, 3_600_000);
        /// … and how long it may take to answer.
        ping_timeout_ms: u64 = 20_000_u64 => within(100, 600_000);
        /// How long the body of a refused request is read and thrown away.
        drain_timeout_ms: u64 = 1_000_u64 => within(10, 60_000);
        /// How long connecting to the leader may take, for requests that are forwarded to it.
        forward_connect_timeout_ms: u64 = 3_000_u64 => within(100, 60_000);
        /// How long a list is kept ready for its next page.
        pinned_list_ms: u64 = 120_000_u64 => within(1_000, 3_600_000);
        /// A watch that takes nothing for this long while there is something for it is ended with
        /// `watch_too_slow`, and its token to go on with.
        watch_stall_timeout_ms: u64 = 10_000_u64 => within(100, 3_600_000);
    }
}

section! {
    /// Certificates of this node, for both listeners and for dialling other nodes. Read again
    /// when a file changes and on SIGHUP. Connections stay, but for those of clients and nodes
    /// whose authority is not in the bundle any more.
    pub struct Tls {
        /// PEM bundle of the certificate authorities whose nodes and clients are trusted.
        ca_file: PathBuf = "/etc/meshkit/ca.crt";
        /// This node's certificate (with intermediates, if any), PEM.
        cert_file: PathBuf = "/etc/meshkit/node.crt";
        /// Its private key, PEM. Only the node's user may be able to read it.
        key_file: PathBuf = "/etc/meshkit/node.key";
        /// A handshake that takes longer is given up.
        handshake_timeout_ms: u64 = 5_000_u64 => within(100, 60_000);
        /// Handshakes under way at once, per listener. Further connections wait; over QUIC they are
        /// refused, and go to TCP.
        handshakes_max: u64 = 256_u64 => within(1, 65_536);
        /// How often the files named here and in `[auth]` are looked at. A change counts once two
        /// looks in a row find the same.
        reload_interval_ms: u64 = 2_000_u64 => within(50, 3_600_000);
    }
}

section! {
    /// Bounds on what one client can make this node do.
    pub struct Limits {
        /// Open connections on the API listener; further ones are closed at once.
        connections_max: u64 = 4_096_u64 => within(1, 1_000_000);
        /// Open connections of one address (of IPv6: of one /64 network) that have not yet carried an
        /// authenticated request. Everybody behind a balancer that hides addresses shares one.
        connections_per_address_anonymous_max: u64 = 256_u64 => within(1, 1_000_000);
        /// Requests under way on one HTTP/2 or HTTP/3 connection.
        streams_per_connection_max: u64 = 256_u64 => within(1, 10_000);
        /// QUIC handshakes under way before clients have to show first that they receive what is sent to
        /// their address, which costs them a round trip more and keeps forged addresses out.
        quic_handshakes_unproved_max: u64 = 64_u64 => within(0, 65_536);
        /// Requests of authenticated callers under way on the whole listener, each until its answer is
        /// written; further ones get `resource_exhausted`.
        requests_in_flight_max: u64 = 4_096_u64 => within(1, 1_000_000);
        /// Requests under way of callers without a credential: health checks, refusals. Counted apart.
        requests_in_flight_anonymous_max: u64 = 256_u64 => within(1, 1_000_000);
        /// How many percent of `requests_in_flight_max`, `long_polls_max` and `watches_max` one principal can
        /// have; over it, its requests get `rate_limited`.
        principal_share_percent: u64 = 50_u64 => within(1, 100);
        /// How many requests a second one principal can send to this node; over it, requests get
        /// `rate_limited`, and the audit trail says so. 0: as many as the shares allow.
        requests_per_second_max: u64 = 50_000_u64 => within(0, 1_000_000_000);
        /// How many of them can come at once, after a rest.
        requests_burst_max: u64 = 100_000_u64 => within(1, 1_000_000_000);
        /// Long polls at once, within the limit above.
        long_polls_max: u64 = 1_024_u64 => within(1, 1_000_000);
        /// Size of one request's body.
        body_bytes_max: u64 = 1_048_576_u64 => within(1_024, 67_108_864);
        /// Size of one request's head.
        header_bytes_max: u64 = 65_536_u64 => within(8_192, 1_048_576);
        /// Headers of one HTTP/1.1 request.
        headers_max: u64 = 100_u64 => within(16, 1_000);
        /// Size of a bearer token.
        token_bytes_max: u64 = 16_384_u64 => within(256, 65_536);
        /// How much of a refused body is read and thrown away, so that the client sees why.
        drain_bytes_max: u64 = 2_097_152_u64 => within(0, 67_108_864);
        /// Items on a page of a list when the caller does not say.
        page_items_default: u64 = 100_u64 => within(1, 1_000);
        /// The most items on a page.
        page_items_max: u64 = 1_000_u64 => within(1, 1_000);
        /// Lists kept ready for their next page; others are read from history.
        pinned_lists_max: u64 = 64_u64 => within(0, 65_536);
        /// Memory for pages of shards as they were sent: who asks the same again, as routers do that start
        /// together, is sent the same. 0: each page is made anew.
        kept_pages_bytes_max: u64 = 67_108_864_u64 => within(0, 17_179_869_184);
        /// Backups that are read at once; further ones get `resource_exhausted`.
        backups_max: u64 = 2_u64 => within(1, 1_000);
        /// Watches at once; they are not counted as requests. Each takes a stream of its connection.
        watches_max: u64 = 20_000_u64 => within(1, 1_000_000);
        /// Memory for what watches have not taken yet, of all together. What does not fit in is read from
        /// history again by those who need it.
        watch_backlog_bytes_max: u64 = 67_108_864_u64 => within(65_536, 17_179_869_184);
        /// How many revisions a watch that had caught up may fall behind before it is ended with
        /// `watch_too_slow`.
        watch_lag_revisions_max: u64 = 100_000_u64 => within(100, 1_000_000_000);
    }
}

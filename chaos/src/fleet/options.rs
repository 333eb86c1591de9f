//! What fleet is played.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

/// Plays data-plane peers against a mesh that runs, and checks that no two ever serve one shard.
///
/// Exit codes: 0 nothing was violated · 1 something was, or the fleet could not be played · 2 usage.
#[derive(Parser, Debug, Clone)]
#[command(name = "meshkit-fleet", version)]
pub struct Options {
    /// The context of an administrator: endpoints, CA, token.
    #[arg(long, value_name = "FILE")]
    pub context: PathBuf,
    /// The private key that the mesh's tokens are signed with: each peer gets one of its own.
    #[arg(long, value_name = "FILE")]
    pub jwt_key: PathBuf,
    /// The mesh's id.
    #[arg(long)]
    pub mesh: String,
    /// How many peers.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub peers: u32,
    /// The zones that they are spread over.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub zones: u32,
    /// What their ids begin with.
    #[arg(long, default_value = "peer-")]
    pub prefix: String,
    /// The namespace whose shards are watched over; made where it is not there.
    #[arg(long, default_value = "demo")]
    pub namespace: String,
    /// How many shards it is made with.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub shards: u32,
    /// The most of them that move at once; the mesh's own figure where absent.
    #[arg(long)]
    pub moves_max: Option<u32>,
    /// How many peers share a connection to each node.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub per_connection: u32,
    /// How long the fleet may take until every peer is alive and every shard is served.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub ready_within: Duration,
    /// For how long a shard may be served by nobody, once all were served.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub unserved_max: Duration,
    /// Written, with what is known by then, when every peer is alive and every shard is served.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Take orders from stdin, one a line, and answer each with one line of JSON; its end is the end of the fleet.
    #[arg(long)]
    pub orders: bool,
    /// End after this time; otherwise when told to.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub lasts: Option<Duration>,
    /// Let this peer go on serving for 3 s after it said that it stopped, to see it found.
    #[arg(long, value_name = "PEER")]
    pub plant: Option<String>,
    /// Show what the SDK logs, on stderr: `info`, `meshkit_api_client=debug` …
    #[arg(long)]
    pub log: Option<String>,
    /// End when the process with this id, our parent, does.
    #[arg(long, value_name = "PID", hide = true)]
    pub die_with_parent: Option<i32>,
}

fn duration(text: &str) -> Result<Duration, String> {
    api_client::duration::parse(text).map_err(|error| error.to_string())
}

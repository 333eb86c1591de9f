//! `meshkit-node dev`: a whole mesh on this machine, in real processes with real TLS.
//!
//! Read [`run`] from the top: it lays out a directory, issues certificates and tokens, writes a
//! configuration per node, starts the nodes as children, waits until they are ready, says so in
//! `dev.json`, and then only watches. A child that dies is reported, never started again: this
//! is for trying what a mesh does when nodes die. With `--peers`, one more child plays data-plane
//! peers that own and serve the shards of a namespace, and ready means that every shard is served.

#![allow(clippy::print_stderr, reason = "it speaks to the person who started it")]

mod children;
mod credentials;
mod fleet;
mod layout;
mod ports;
mod ready;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::check::is_id;
use crate::exit::{Exit, Failure};

use tokio::time::Instant;

use children::Children;
use fleet::Fleet;
use layout::Layout;

/// How long all nodes together may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(45);

/// The cluster's id: region 0 of the development mesh.
const CLUSTER: &str = "dev-1";

/// How a development mesh is made.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How many nodes the cluster has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Where everything is kept. Has to be absent or empty, unless --fresh is given.
    #[arg(long, default_value = "./.meshkit-dev")]
    pub data_dir: PathBuf,
    /// Node n listens at this port + n, and for other nodes at + 100 + n. 0 picks free ports.
    #[arg(long, default_value_t = 7400, value_parser = ports::base)]
    pub base_port: u16,
    /// Play so many data-plane peers, in three zones: registered, with heartbeats, serving shards.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub peers: Option<u32>,
    /// How many shards they serve, of the namespace `demo`.
    #[arg(long, requires = "peers", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub shards: u32,
    /// Delete what an earlier development mesh left in the directory.
    #[arg(long)]
    pub fresh: bool,
    /// The mesh's id.
    #[arg(long, default_value = "dev", value_parser = mesh_id)]
    pub mesh: String,
}

impl Options {
    fn fleet(&self) -> Option<fleet::Size> {
        let shards = self.shards;
        self.peers.map(|peers| fleet::Size { peers, shards })
    }
}

fn mesh_id(text: &str) -> Result<String, String> {
    if is_id(text) {
        Ok(text.to_owned())
    } else {
        Err("not an id: lower-case letters, digits, `.`, `_`, `-`".to_owned())
    }
}

/// Runs a development mesh until it is told to stop.
///
/// # Errors
/// When the directory cannot be used, a port is taken, or the nodes do not become ready in time.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut stop = crate::signals::Stop::listen()?;
    let size = options.fleet();
    let program = size.map(|_| fleet::program()).transpose()?;
    let layout = Layout::prepare(&options.data_dir, options.fresh)?;
    let ports = ports::assign(options.nodes, options.base_port)?;
    let credentials = credentials::issue(&layout, &options.mesh, CLUSTER, options.nodes)?;
    let nodes = summary::write_configs(&layout, &options.mesh, CLUSTER, &ports)?;
    let context = summary::write_context(&layout, &nodes)?;

    let deadline = Instant::now() + READY_WITHIN;
    let mut children = Children::start(&nodes)?;
    eprintln!(
        "Starting {} nodes; their logs are in {}",
        nodes.len(),
        layout.cluster(CLUSTER).display()
    );
    let mut fleet = None;
    let begin = async {
        ready::all(&nodes, &credentials.ca_file, READY_WITHIN).await?;
        if let Some((size, program)) = size.zip(program) {
            eprintln!("Starting {} simulated peers", size.peers);
            let started = Fleet::start(&layout, &program, &options.mesh, &context, size);
            let fleet = fleet.insert(started.map_err(|failure| failure.message)?);
            fleet.ready(deadline).await?;
        }
        Ok(())
    };
    let outcome = tokio::select! {
        ready = begin => ready,
        () = children.all_dead() => Err("every node has died".to_owned()),
        () = stop.asked() => {
            children.stop().await;
            return Ok(());
        }
    };
    if let Err(why) = outcome {
        children.report();
        let logs = children.last_lines();
        children.stop().await;
        return Err(Failure::new(
            Exit::Failed,
            format!("the mesh did not become ready: {why}\n{logs}"),
        ));
    }

    let told = summary::Summary {
        mesh: &options.mesh,
        cluster: CLUSTER,
        context: &context,
        credentials: &credentials,
        fleet: size,
    };
    told.write(&layout, &nodes, &children)?;
    told.print(&nodes, &children);

    let asked = stop.asked();
    match &mut fleet {
        Some(fleet) => {
            children.watch_until(fleet.watch_until(asked)).await;
            fleet.stop().await;
        }
        None => children.watch_until(asked).await,
    }
    eprintln!("Stopping the nodes");
    children.stop().await;
    Ok(())
}

//! `meshkit-node recover`: one node goes on after a majority of its cluster was lost for good.
#![allow(clippy::print_stdout, reason = "a command speaks to whoever runs it")]

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use raft::Identity;
use raft::engine::Store;
use raft::single::{Recovered, Standing};
use statemachine::{ClusterId, MeshId, NodeId};

use crate::config::Config;
use crate::directory::DataDirectory;
use crate::exit::{Exit, Failure};
use crate::restore::{disk, engine, local_origin, new_timeline, wall_ms};

/// How long another node may take to answer when it is asked whether it is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// `meshkit-node recover`
#[derive(Debug, Args)]
pub struct Options {
    /// The configuration file of the node that is to go on. It must not run.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Make this node the only member of its cluster. There is no other way to recover.
    #[arg(long, required = true)]
    force_single: bool,
    /// The cluster's name, again: do it.
    #[arg(long, value_name = "CLUSTER")]
    confirm: Option<String>,
    /// Why, for the audit trail.
    #[arg(long, default_value = "a majority of the nodes was lost")]
    reason: String,
    /// Change ticket, for the audit trail.
    #[arg(long, default_value = "")]
    ticket: String,
}

/// Does it.
///
/// # Errors
/// Exit 2 where it may not be done, 3 where the directory is in use or another's, 4 where it is damaged.
pub fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    if let Some(confirm) = &options.confirm
        && *confirm != config.mesh.cluster
    {
        return Err(unfit(format!(
            "--confirm says {confirm}, the configuration's cluster is {}",
            config.mesh.cluster
        )));
    }
    let origin = local_origin(config, &options.reason, &options.ticket)?;
    let own = identity(config)?;
    let directory = DataDirectory::open_existing(config)?;
    let [log, state] = [Store::Log, Store::State].map(|store| engine(&directory.store(store.as_str()), store, config));
    let (log, state) = (log?, state?);
    let standing = Standing::read(&*log, &*state, &own).map_err(disk)?;
    may_be_done(&standing, &own)?;
    describe(&standing, &own);
    let Some(_) = &options.confirm else {
        return Err(unfit(format!(
            "nothing was changed. When the other nodes are gone for good, repeat this with --confirm {}",
            own.cluster
        )));
    };
    let recovered = Recovered {
        origin,
        timeline: new_timeline(),
        wall_ms: wall_ms(),
    };
    standing.force_single(&*log, &own, recovered).map_err(disk)?;
    println!("Node {} is the only member of cluster {} now.", own.node, own.cluster);
    println!("Start it with: meshkit-node --config {}", options.config.display());
    println!(
        "The other nodes are on the list of removed ones, and refused. Grow the cluster again with new nodes, under new \
         numbers and with empty data directories: `mesh members invite`."
    );
    Ok(())
}

fn unfit(why: impl Into<String>) -> Failure {
    Failure::new(Exit::Config, why)
}

fn identity(config: &Config) -> Result<Identity, Failure> {
    let invalid = |error: statemachine::InvalidId| unfit(error.to_string());
    Ok(Identity {
        mesh: MeshId::new(&config.mesh.id).map_err(invalid)?,
        cluster: ClusterId::new(&config.mesh.cluster).map_err(invalid)?,
        node: NodeId(config.node.id),
    })
}

/// Refuses where there is nothing to recover, or the others are still there.
fn may_be_done(standing: &Standing, own: &Identity) -> Result<(), Failure> {
    if !standing.members.contains_key(&own.node) {
        return Err(unfit(format!(
            "node {} is no member of cluster {}: recover on one that is",
            own.node, own.cluster
        )));
    }
    if standing.members.len() == 1 {
        return Err(unfit(format!(
            "node {} is the only member of cluster {} already: start it",
            own.node, own.cluster
        )));
    }
    let others = standing.voters.iter().filter(|voter| **voter != own.node);
    let there: Vec<NodeId> = others.copied().filter(|voter| answers(standing, *voter)).collect();
    if there.len() > standing.voters.len() / 2 {
        let there: Vec<String> = there.iter().map(ToString::to_string).collect();
        return Err(unfit(format!(
            "nodes {} answer, and are a majority: the cluster has lost nothing. If this node alone is broken, empty its \
             directory and start it. If they are to be given up, stop them first",
            there.join(", ")
        )));
    }
    Ok(())
}

/// Whether anybody listens where a node should.
fn answers(standing: &Standing, node: NodeId) -> bool {
    let Some(endpoint) = standing.members.get(&node) else {
        return false;
    };
    let addresses = endpoint.raft.to_socket_addrs().into_iter().flatten();
    addresses
        .take(4)
        .any(|address| TcpStream::connect_timeout(&address, ANSWERS_WITHIN).is_ok())
}

fn describe(standing: &Standing, own: &Identity) {
    let voters: Vec<String> = standing.voters.iter().map(ToString::to_string).collect();
    let others = standing.members.keys().filter(|node| **node != own.node);
    let others: Vec<String> = others.map(ToString::to_string).collect();
    println!(
        "Node {} of cluster {} of mesh {}; the voters are {}.",
        own.node,
        own.cluster,
        own.mesh,
        voters.join(", ")
    );
    println!(
        "Its log ends at entry {}. Up to entry {} it is known to be committed; the state on disk is at revision {}.",
        standing.last, standing.committed, standing.position.revision
    );
    let open = standing.last.saturating_sub(standing.committed);
    if open > 0 {
        println!(
            "The {open} entries after that may or may not have been acknowledged. They are kept, and will be applied."
        );
    }
    println!(
        "LOST is what the other nodes acknowledged after entry {}, if anything: this node never received it.",
        standing.last
    );
    if !standing.voters.contains(&own.node) {
        println!("WARNING: this node does not vote, and nothing was ever acknowledged on the strength of its log.");
    }
    if standing.recovering {
        println!(
            "WARNING: this node was being rebuilt and had not caught up: it may lack much more. Use another if there is one."
        );
    }
    println!(
        "Recovering begins a new timeline and epoch, so that who saw what was lost is told so, and removes for good: {}.",
        others.join(", ")
    );
    for node in standing.members.keys().filter(|node| **node != own.node) {
        if answers(standing, *node) {
            println!("WARNING: something answers where node {node} should be. Stop it before this node is started.");
        }
    }
}

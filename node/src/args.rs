//! The command line of `meshkit-node`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{certs, dev, recover, restore};

/// A node of a MeshKit cluster.
///
/// Exit codes: 0 stopped, 1 failed otherwise, 2 configuration or command line, 3 data directory locked, foreign or
/// newer, 4 corruption, 5 disk failure, 6 removed from the cluster.
#[derive(Debug, Parser)]
#[command(
    name = "meshkit-node",
    version = crate::VERSION,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    /// The node's configuration file; runs the node.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Only check the configuration, and the files it names; run nothing.
    #[arg(long, requires = "config")]
    pub check_config: bool,

    /// End when the process with this id, our parent, does.
    #[arg(long, value_name = "PID", hide = true, global = true)]
    pub die_with_parent: Option<i32>,

    /// Something else than running a node.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does besides running a node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the data directory of the first node of a new mesh. On one node only; the others
    /// start with empty directories and are found by it.
    Init {
        /// The node's configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make the data directory of the first node of a new cluster from a backup. The directory has to be empty. Without
    /// --confirm, check the backup and say what would be done.
    Restore(restore::Options),
    /// Go on with one node after a majority of its cluster was lost for good. Works on the directory of a node that does
    /// not run. Without --confirm, say what may be lost and change nothing.
    Recover(recover::Options),
    /// Become a member of a cluster that is there, with a token from `mesh members invite`, and run. May be repeated;
    /// once the node is a member, --config alone starts it.
    Join {
        /// The node's configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The file with the token.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Show configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make certificates, signing keys and tokens. Works offline.
    #[command(subcommand)]
    Certs(certs::command::Command),
    /// Run a whole mesh on this machine, to try things.
    Dev(dev::Options),
}

/// `meshkit-node config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its documentation and default, as a file that can be used.
    PrintDefault,
}

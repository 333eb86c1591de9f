//! `meshkit-jepsen-style-tests`: runs, checks and measures from the command line.
//!
//! Exit codes: 0 all is well · 1 something is wrong with the mesh, or the run does not count · 2 usage · 3 the run could not be done.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use meshkit_jepsen_style_tests::{Error, failover, history::History, operators, run};

/// Jepsen-style tests of a mesh in real processes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let clients work on registers while leaders are killed, and judge what they saw.
    Run {
        /// How long clients work.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
        seconds: u64,
        /// Leaders to kill with `kill -9`; after every fourth, and at the end, all nodes are killed at once. Before each,
        /// leadership is handed over, or a node joins, votes and leaves.
        #[arg(long, default_value_t = 4)]
        kills: u32,
        /// Clients, spread over the nodes.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=60))]
        clients: u32,
        /// Nodes.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
        nodes: u16,
        /// The mean pause between two operations of a client, in milliseconds.
        #[arg(long, default_value_t = 20)]
        pause_ms: u64,
        /// Decides what clients choose; random if absent.
        #[arg(long)]
        seed: Option<u64>,
        /// Where history and verdict are kept.
        #[arg(long, default_value = "./jepsen-run")]
        out: PathBuf,
        /// A setting of the nodes, such as MESHKIT_LOG__LEVEL=debug. Repeat for more.
        #[arg(long = "env", value_parser = setting)]
        environment: Vec<(String, String)>,
    },
    /// Judge a recorded history again.
    Check {
        /// `history.jsonl` of a run.
        history: PathBuf,
    },
    /// Measure how long after a `kill -9` of the leader the first write is acknowledged.
    Failover {
        /// Leaders to kill, one after the other.
        #[arg(long, default_value_t = 20)]
        kills: u32,
        /// Nodes.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
        nodes: u16,
        /// A first write that takes longer than this is a failure, in milliseconds.
        #[arg(long, default_value_t = 5_000)]
        limit_ms: u64,
        /// A setting of the nodes, such as MESHKIT_RAFT__ELECTION_TIMEOUT_MIN_MS=500. Repeat for more.
        #[arg(long = "env", value_parser = setting)]
        environment: Vec<(String, String)>,
    },
    /// Let many operators change, ask for, approve and watch at once, and judge what came of it; and measure at what rate.
    Operators(Operators),
}

/// How many do what, and for how long.
#[derive(Debug, clap::Args)]
struct Operators {
    /// Operators, each a principal of their own.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(10..=500))]
    operators: u16,
    /// Peers that they share.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(60..=5_000))]
    peers: u16,
    /// Cluster records.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=900))]
    clusters: u16,
    /// How long each phase is.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=3_600))]
    seconds: u64,
    /// Pairs of a phase of plain changes and one with everything.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=100))]
    rounds: u16,
    /// Watch each node in each form in the counted phases, too: seven watches instead of three.
    #[arg(long)]
    watch_all: bool,
    /// Leave out the last phase, in which the leader is killed.
    #[arg(long)]
    no_kill: bool,
    /// The least share of the plain rate that counts as enough, in percent.
    #[arg(long, default_value_t = 80)]
    share: u8,
    /// Decides what operators choose; random if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// A setting of the nodes, such as MESHKIT_LOG__LEVEL=debug. Repeat for more.
    #[arg(long = "env", value_parser = setting)]
    environment: Vec<(String, String)>,
}

impl Operators {
    /// True where all is well, and fast enough.
    fn run(self) -> Result<bool, Error> {
        let plan = operators::Plan {
            operators: self.operators.into(),
            peers: self.peers.into(),
            clusters: self.clusters.into(),
            length: Duration::from_secs(self.seconds),
            rounds: self.rounds.into(),
            at_each: self.watch_all,
            kill: !self.no_kill,
            seed: self.seed.unwrap_or_else(rand::random),
            environment: self.environment,
        };
        let verdict = operators::run(&plan, false, |line| eprintln!("{line}"))?;
        print!("{}", verdict.told());
        let enough = f64::from(self.share) / 100.0;
        Ok(verdict.is_good() && verdict.ratio().is_none_or(|ratio| ratio >= enough))
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("meshkit-jepsen-style-tests: {error}");
            ExitCode::from(3)
        }
    }
}

/// True where all is well.
fn act(command: Command) -> Result<bool, Error> {
    match command {
        Command::Run {
            seconds,
            kills,
            clients,
            nodes,
            pause_ms,
            seed,
            out,
            environment,
        } => {
            let seed = seed.unwrap_or_else(rand::random);
            println!("seed        {seed}");
            let verdict = run::run(&run::Plan {
                length: Duration::from_secs(seconds),
                kills,
                clients,
                nodes,
                pause: Duration::from_millis(pause_ms),
                seed,
                out,
                environment,
            })?;
            print!("{}", verdict.told());
            Ok(verdict.is_good())
        }
        Command::Check { history } => {
            let history = History::read(&history)?;
            let violations = run::judge(&history);
            for violation in &violations {
                println!("VIOLATION   {violation}");
            }
            println!(
                "{} operations, {} violations",
                history.operations().len(),
                violations.len()
            );
            Ok(violations.is_empty())
        }
        Command::Operators(shape) => shape.run(),
        Command::Failover {
            kills,
            nodes,
            limit_ms,
            environment,
        } => {
            let limit = Duration::from_millis(limit_ms);
            let report = failover::run(
                &failover::Plan {
                    kills,
                    nodes,
                    environment,
                },
                |number, trial| {
                    eprintln!(
                        "kill {number} of {kills}: first write after {} ms",
                        trial.first_write.as_millis()
                    );
                },
            )?;
            println!("{}", report.told());
            Ok(report.worst() < limit)
        }
    }
}

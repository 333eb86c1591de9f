//! `meshkit-jepsen-style-tests`: runs, checks and measures from the command line.
//!
//! Exit codes: 0 all is well · 1 something is wrong with the mesh, or the run does not count · 2 usage · 3 the run could not be done.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use meshkit_jepsen_style_tests::{Error, failover, history::History, run};

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
        /// Leaders to kill with `kill -9`; after every fourth, and at the end, all nodes are killed at once.
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

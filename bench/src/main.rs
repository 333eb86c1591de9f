//! `meshkit-bench`: the mesh beside etcd.
//!
//! Exit codes: 0 measured · 1 measured, but calls failed · 2 usage · 3 could not be measured.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use meshkit_bench::{
    compare::{self, Sides},
    load::Kind,
    recover,
};

/// Measures the mesh beside etcd.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start both, load them in turns, and print a table of ratios. Needs etcd (`apt-get install etcd-server`).
    Compare {
        /// Numbers of clients.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
        clients: Vec<usize>,
        /// Loads.
        #[arg(long, value_delimiter = ',', default_values_t = [Load::Put, Load::Get])]
        loads: Vec<Load>,
        /// Measurements of each side at each load.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// How long a measurement counts.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// How long it runs before.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
        warmup: u64,
        /// Peers, and etcd's keys.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        keys: u64,
        /// Who runs.
        #[arg(long, value_enum, default_value_t)]
        sides: Sides,
        /// A document to put the table into, between its two marks.
        #[arg(long)]
        write: Option<PathBuf>,
    },
    /// Fill a mesh, and measure how its nodes come back and how much memory they take.
    Recover {
        /// Peers.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        peers: u64,
        /// Entries of the log and of the audit trail.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        entries: u64,
        /// Leave etcd out.
        #[arg(long)]
        no_etcd: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Writes of 256 bytes.
    Put,
    /// Linearizable reads.
    Get,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
        })
    }
}

fn main() -> ExitCode {
    let (clients, loads, rounds, seconds, warmup, keys, sides, write) = match Arguments::parse().command {
        Command::Compare {
            clients,
            loads,
            rounds,
            seconds,
            warmup,
            keys,
            sides,
            write,
        } => (clients, loads, rounds, seconds, warmup, keys, sides, write),
        Command::Recover {
            peers,
            entries,
            no_etcd,
        } => return recover(peers, entries, !no_etcd),
    };
    let kind = |load: &Load| match load {
        Load::Put => Kind::Put,
        Load::Get => Kind::Get,
    };
    let plan = compare::Plan {
        kinds: loads.iter().map(kind).collect(),
        clients: clients.into_iter().map(|clients| clients.clamp(1, 4_096)).collect(),
        keys: usize::try_from(keys).unwrap_or(1_000),
        rounds,
        warmup: Duration::from_secs(warmup),
        window: Duration::from_secs(seconds),
        sides,
    };
    let measured = compare::run(&plan, |line| eprintln!("{line}")).and_then(|report| {
        println!("{}", report.markdown());
        if let Some(path) = &write {
            report.write(path)?;
        }
        Ok(report.errors())
    });
    match measured {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("meshkit-bench: {error}");
            ExitCode::from(3)
        }
    }
}

fn recover(peers: u64, entries: u64, etcd: bool) -> ExitCode {
    let plan = recover::Plan {
        peers: usize::try_from(peers).unwrap_or(usize::MAX),
        entries: usize::try_from(entries).unwrap_or(usize::MAX),
        etcd,
    };
    match recover::run(plan, |line| eprintln!("{line}")) {
        Ok(report) => {
            println!("{}", report.markdown());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("meshkit-bench: {error}");
            ExitCode::from(3)
        }
    }
}

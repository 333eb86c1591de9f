//! `meshkit-bench`: the mesh beside etcd.
//!
//! Exit codes: 0 measured · 1 measured, but calls failed · 2 usage · 3 could not be measured.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use meshkit_bench::{
    compare::{self, Sides},
    load::Kind,
    plan,
    recover::{self, Part},
    shards, transports, watchers,
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
    /// Read one peer over HTTP/2 and over HTTP/3 in turns, and print what a request costs the node.
    Transports {
        /// How many read at once.
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=4_096))]
        clients: u64,
        /// Measurements of each.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// How long a measurement counts.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
    },
    /// Open thousands of watches on one node, and on one member of etcd, and time how soon a change is at all of them.
    Watchers(Watchers),
    /// Make a large shard map, and time queries and simulations of it, beside etcd's ranges of as many keys.
    Shards {
        /// Peers that own the shards.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(2..=10_000))]
        peers: u16,
        /// Namespaces, of 1,000 shards each.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=200))]
        namespaces: u16,
        /// Who ask at once.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
        clients: u16,
        /// How long each measurement takes.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
        /// Leave etcd out.
        #[arg(long)]
        no_etcd: bool,
    },
    /// Time what the pure parts take with a large shard map: layouts, rounds of the controllers, applying their batches.
    Plan {
        /// Peers that own the shards.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(2..=10_000))]
        peers: u16,
        /// Namespaces.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=200))]
        namespaces: u16,
        /// Shards of each.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        shards: u32,
    },
    /// Fill a mesh, and measure how its nodes come back and how much memory they take.
    Recover {
        /// Peers.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        peers: u64,
        /// Entries of the log and of the audit trail.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        entries: u64,
        /// What is measured.
        #[arg(long, value_delimiter = ',', default_values_t = Part::ALL)]
        parts: Vec<Part>,
        /// Leave etcd out.
        #[arg(long)]
        no_etcd: bool,
        /// A variable for the nodes' environment, such as MESHKIT_STORAGE__CACHE_BYTES=1048576. May be repeated.
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
        environment: Vec<(String, String)>,
    },
}

/// How many watch, and how.
#[derive(Debug, clap::Args)]
struct Watchers {
    /// Connections with gRPC watches.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    connections: u16,
    /// Connections with server-sent events.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    event_connections: u16,
    /// Watches on each connection.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=200))]
    streams: u16,
    /// Changes that are timed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    events: u16,
    /// Leave etcd out.
    #[arg(long)]
    no_etcd: bool,
}

impl Watchers {
    fn plan(&self) -> watchers::Plan {
        watchers::Plan {
            connections: self.connections.into(),
            event_connections: self.event_connections.into(),
            streams: self.streams.into(),
            events: self.events.into(),
            etcd: !self.no_etcd,
        }
    }
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

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        Command::Transports {
            clients,
            rounds,
            seconds,
        } => {
            return transports(transports::Plan {
                clients: usize::try_from(clients).unwrap_or(1),
                rounds,
                window: Duration::from_secs(seconds),
            });
        }
        Command::Watchers(shape) => return printed(watchers::run(shape.plan(), |line| eprintln!("{line}"))),
        Command::Shards {
            peers,
            namespaces,
            clients,
            seconds,
            no_etcd,
        } => {
            let plan = shards::Plan {
                peers: peers.into(),
                namespaces: namespaces.into(),
                shards: 1_000,
                clients: clients.into(),
                rest: Duration::ZERO,
                window: Duration::from_secs(seconds),
                etcd: !no_etcd,
            };
            return printed(shards::run(plan, |line| eprintln!("{line}")));
        }
        Command::Plan {
            peers,
            namespaces,
            shards,
        } => {
            let plan = plan::Plan {
                peers: peers.into(),
                namespaces: namespaces.into(),
                shards,
            };
            return printed(plan::run(plan, |line| eprintln!("{line}")));
        }
        Command::Recover {
            peers,
            entries,
            parts,
            no_etcd,
            environment,
        } => {
            let plan = recover::Plan {
                peers: usize::try_from(peers).unwrap_or(usize::MAX),
                entries: usize::try_from(entries).unwrap_or(usize::MAX),
                etcd: !no_etcd,
            };
            return recover(plan, &parts, &environment);
        }
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

fn transports(plan: transports::Plan) -> ExitCode {
    printed(transports::run(plan, |line| eprintln!("{line}")))
}

fn printed(measured: meshkit_bench::Result<String>) -> ExitCode {
    match measured {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("meshkit-bench: {error}");
            ExitCode::from(3)
        }
    }
}

fn recover(plan: recover::Plan, parts: &[Part], environment: &[(String, String)]) -> ExitCode {
    match recover::run(plan, parts, environment, |line| eprintln!("{line}")) {
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

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is to be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

//! Runs simulations: one seed with a readable trace, or many seeds.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use clap::{Parser, Subcommand, ValueEnum};
use meshkit_chaos::{clock, plant::Plant, report, run, seeds};
use tracing_subscriber::{EnvFilter, fmt::format::Writer, fmt::time::FormatTime};

/// Deterministic simulation of a cluster under faults.
///
/// Exit codes: 0 every invariant held · 1 one did not, or the simulation failed · 2 usage · 3 too little was covered.
#[derive(Parser)]
#[command(name = "meshkit-chaos", version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Tells the story of one seed.
    Run {
        /// Everything follows from it.
        #[arg(long)]
        seed: u64,
        /// Shows every operation, fault and change of leader.
        #[arg(long)]
        trace: bool,
        /// Puts a bug in, to see it found.
        #[arg(long)]
        plant: Option<Plant>,
        /// Shows the nodes' own logs on stderr: `debug`, `meshkit_raft=debug,openraft=info` …
        #[arg(long)]
        log: Option<String>,
    },
    /// Runs many seeds, each in a process of its own.
    Seeds {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 20)]
        count: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Puts a bug in, to see it found.
        #[arg(long)]
        plant: Option<Plant>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        What::Run {
            seed,
            trace,
            plant,
            log,
        } => one(run::Options { seed, plant }, trace, log.as_deref()),
        What::Seeds {
            from,
            count,
            jobs,
            plant,
        } => many(from, count, jobs, plant),
    };
    outcome.unwrap_or_else(|error| {
        writeln!(io::stderr(), "meshkit-chaos: {error}").ok();
        ExitCode::from(1)
    })
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn one(options: run::Options, trace: bool, log: Option<&str>) -> Outcome {
    if let Some(filter) = log {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(filter)?)
            .with_timer(Simulated)
            .with_ansi(false)
            .with_writer(io::stderr)
            .init();
    }
    let story = run::run(options)?;
    report::write(&mut io::stdout().lock(), &story, trace)?;
    Ok(ExitCode::from(match (story.held(), story.coverage.gaps.is_empty()) {
        (false, _) => 1,
        (true, false) => 3,
        (true, true) => 0,
    }))
}

fn many(from: u64, count: u64, jobs: usize, plant: Option<Plant>) -> Outcome {
    let began = Instant::now();
    let more: Vec<String> = plant
        .and_then(|plant| plant.to_possible_value())
        .map(|value| vec!["--plant".to_owned(), value.get_name().to_owned()])
        .unwrap_or_default();
    let mut failed = Vec::new();
    seeds::run(from, count, jobs, &more, |seed, output| {
        let out = &mut io::stdout().lock();
        let verdict = match output.status.code() {
            Some(0) => "held",
            Some(3) => "too little covered",
            Some(1) => "VIOLATED",
            _ => "DIED",
        };
        writeln!(out, "seed {seed}: {verdict}").ok();
        if !output.status.success() {
            failed.push(seed);
            out.write_all(&output.stdout)
                .and_then(|()| out.write_all(&output.stderr))
                .ok();
        }
    })?;
    failed.sort_unstable();
    let out = &mut io::stdout().lock();
    let passed = count - failed.len() as u64;
    writeln!(
        out,
        "{passed} passed, {} failed {failed:?}, in {:.1} s",
        failed.len(),
        began.elapsed().as_secs_f64()
    )?;
    Ok(ExitCode::from(u8::from(!failed.is_empty())))
}

/// Times of log lines, as the simulation has them.
struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:9.3}s", clock::now().as_secs_f64())
    }
}

//! Plays a fleet of data-plane peers: see [`meshkit_chaos::fleet`].

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use meshkit_chaos::fleet::{options::Options, play, report::Report, setup::Failure};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(report) => {
            play::say(&report);
            ExitCode::from(u8::from(!report.held()))
        }
        Err(error) => {
            writeln!(io::stderr(), "meshkit-fleet: {error}").ok();
            ExitCode::from(1)
        }
    }
}

fn run(options: &Options) -> Result<Report, Failure> {
    if let Some(parent) = options.die_with_parent {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before we asked.
        if getppid() != Pid::from_raw(parent) {
            return Err(format!("--die-with-parent: our parent is not process {parent}").into());
        }
    }
    if let Some(filter) = &options.log {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(filter)?)
            .with_ansi(false)
            .with_writer(io::stderr)
            .init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut asked, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = async {
            tokio::select! {
                _ = asked.recv() => {}
                _ = interrupted.recv() => {}
            }
        };
        play::play(options, told).await
    })
}

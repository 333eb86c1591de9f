//! The operator's command line: `mesh <noun> <verb>`, one file for each under [`commands`].
//!
//! It owns how a person or a script asks and is answered: arguments, confirmation, tables, exit codes. It deliberately
//! owns no rule of the mesh (the server refuses, this says why) and no way of its own to the mesh (that is the SDK).
//!
//! Contract: data on stdout; prompts and progress on a stderr terminal only; `-o json` is the RPC's response unchanged;
//! consent is given on the command line or at a terminal, and never inferred from the environment. Exit codes: 0 ok ·
//! 1 differs, denied, not found, unhealthy · 2 usage · 3 cannot connect, no leader · 4 authentication or scope ·
//! 5 conflict · 6 precondition, guardrail, limit · 7 timeout · 130 interrupted.

mod app;
mod args;
mod bundle;
mod change;
mod commands;
mod failure;
mod labels;
mod listing;
mod mutation;
mod nodes;
pub mod output;
mod prompt;
mod streams;
mod wait;

use std::ffi::OsString;

use api_client::context::Environment;
use clap::{CommandFactory as _, FromArgMatches as _};

pub use args::Cli;
pub use failure::Failure;
pub use streams::Streams;

/// Runs `mesh` with the process's arguments, variables and streams. Answers the exit code.
pub fn main() -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let mut streams = Streams::process();
            return failure::report(&mut streams, &Failure::from(error), false);
        }
    };
    let exit = runtime.block_on(async {
        let mut streams = Streams::process();
        run(std::env::args_os().collect(), Environment::from_process(), &mut streams).await
    });
    // A prompt that was interrupted still waits for its line; nobody waits for it.
    runtime.shutdown_background();
    exit
}

/// Runs `mesh` with these arguments (the program's name first), variables and streams. Answers the exit code.
pub async fn run(arguments: Vec<OsString>, environment: Environment, streams: &mut Streams) -> u8 {
    let json = failure::wants_json(&arguments, &environment);
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return failure::usage(streams, &error, json),
    };
    let format = match args::format(&cli.global, &environment) {
        Ok(format) => format,
        Err(error) => return failure::report(streams, &Failure::Problem(error), false),
    };
    let json = format.value.is_machine();
    let mut app = app::App::new(streams, format, cli.global.flags(), environment);
    let detach = app.detach_note();
    let result = tokio::select! {
        // First, so that Ctrl-C is heard before the command asks or sends anything: unheard it just kills.
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted(&detach)),
        result = commands::run(&mut app, cli.command) => result,
    };
    let result = result.and_then(|()| Ok(streams.flush()?));
    match result {
        Ok(()) => 0,
        Err(failure) => failure::report(streams, &failure, json),
    }
}

/// The command tree, for help, completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

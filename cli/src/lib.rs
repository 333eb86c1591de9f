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
mod part;
mod peers;
mod preview;
mod progress;
mod prompt;
mod silent;
mod staged;
mod streams;
mod traces;
mod values;
mod wait;
mod watching;
mod weights;

use std::ffi::OsString;

use api_client::context::Environment;
use clap::{CommandFactory as _, FromArgMatches as _};

pub use args::Cli;
pub use failure::Failure;
pub use streams::Streams;

/// Turns that the tasks of connections are given at the end: one to close, one to send that, and some to spare.
const LAST_TURNS: usize = 8;

/// The exit code of what was interrupted.
const INTERRUPTED: u8 = 130;

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
        let exit = run(std::env::args_os().collect(), Environment::from_process(), &mut streams).await;
        // Connections over UDP take their leave with a datagram, or the nodes keep them for a while.
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
        exit
    });
    // A prompt that was interrupted still waits for its line; nobody waits for it.
    runtime.shutdown_background();
    exit
}

/// Runs `mesh` with these arguments (the program's name first), variables and streams. Answers the exit code.
pub async fn run(arguments: Vec<OsString>, environment: Environment, streams: &mut Streams) -> u8 {
    let json = failure::wants_json(&arguments, &environment);
    let mut words = String::new();
    let parsed = command().try_get_matches_from(arguments).and_then(|matches| {
        words = words_of(&matches);
        Cli::from_arg_matches(&matches)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return failure::usage(streams, &error, json),
    };
    let trace = match environment
        .get(traces::ENDPOINT)
        .map(|at| traces::Trace::begin(at, words))
    {
        None => None,
        Some(Ok(trace)) => Some(trace),
        Some(Err(why)) => {
            let error = api_client::Error::invalid(why, "name a collector, such as http://127.0.0.1:4317");
            return failure::report(streams, &Failure::Problem(error), json);
        }
    };
    let traceparent = trace.as_ref().map(traces::Trace::traceparent);
    let exit = answer(cli, environment, streams, traceparent).await;
    if let Some(trace) = trace
        && !trace.end(exit).await
        && streams.err_is_terminal
    {
        streams.note("the trace of this command was not taken by the collector");
    }
    exit
}

async fn answer(cli: Cli, environment: Environment, streams: &mut Streams, traceparent: Option<String>) -> u8 {
    let format = match args::format(&cli.global, &environment) {
        Ok(format) => format,
        Err(error) => return failure::report(streams, &Failure::Problem(error), false),
    };
    let json = format.value.is_machine();
    let consistency = cli.global.consistency;
    let mut app = app::App::new(streams, format, cli.global.flags(), environment);
    app.traceparent = traceparent;
    app.consistency = consistency;
    let detach = app.detach_note();
    let result = tokio::select! {
        // First, so that Ctrl-C is heard before the command asks or sends anything: unheard it just kills.
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted(&detach)),
        result = commands::run(&mut app, cli.command) => result,
    };
    let result = match result {
        Err(Failure::Problem(error)) if error.approval().is_some() => staged::show(&mut app, &error),
        other => other,
    };
    let result = match result {
        // A dry run that was refused says why check by check, and then as any refusal.
        Err(Failure::Problem(error)) => preview::refused(&mut app, &error).and(Err(Failure::Problem(error))),
        other => other,
    };
    let note = app.downgrades();
    let result = result.and_then(|()| Ok(streams.flush()?));
    if let Some(note) = note.filter(|_| streams.err_is_terminal) {
        streams.note(&output::clean(&note));
    }
    match result {
        Ok(()) => 0,
        Err(failure) => {
            if failure.exit_code() == INTERRUPTED && streams.err_is_terminal {
                // The terminal shows `^C` where the cursor was; what follows begins a line of its own.
                streams.note("");
            }
            failure::report(streams, &failure, json)
        }
    }
}

/// The command without what it is given: `mesh peers drain`.
fn words_of(matches: &clap::ArgMatches) -> String {
    let (mut words, mut at) = (String::from("mesh"), matches.subcommand());
    while let Some((word, inner)) = at {
        words.push(' ');
        words.push_str(word);
        at = inner.subcommand();
    }
    words
}

/// The command tree, for help, completions and tests.
pub fn command() -> clap::Command {
    numbers(Cli::command())
}

/// Has options take numbers below 0 for values: what they may be each says itself, and better than "unexpected argument".
fn numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let takes_value = argument.get_long().is_some() && argument.get_action().takes_values();
            match takes_value {
                true => argument.allow_negative_numbers(true),
                false => argument,
            }
        })
        .mut_subcommands(numbers)
}

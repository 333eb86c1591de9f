//! Simulations, each in a process of its own.

mod fitness;
mod plants;
mod replay;
mod seeds;

use std::{
    process::{Command, Output, Stdio},
    sync::{Condvar, Mutex, PoisonError},
};

/// How many simulations run at a time: each takes a core.
const AT_A_TIME: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Runs the program, when there is room.
fn chaos(arguments: &[&str]) -> Output {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = ENDED
        .wait_while(running, |running| *running >= AT_A_TIME)
        .unwrap_or_else(PoisonError::into_inner);
    *running += 1;
    drop(running);
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshkit-chaos"));
    let output = command.args(arguments).stdin(Stdio::null()).output();
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    ENDED.notify_one();
    output.unwrap_or_else(|error| panic!("the program could not be started: {error}"))
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

//! `mesh completions`

use clap_complete::Shell;

use crate::{app::App, failure::Failure};

/// Which shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell: for bash, `source <(mesh completions bash)`
    shell: Shell,
}

pub fn run(app: &mut App<'_>, args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "mesh", &mut script);
    Ok(app.text(&String::from_utf8_lossy(&script))?)
}

//! What each use of the program does, and how it ends.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this module is where the program speaks"
)]

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, umask};

use crate::args::{Args, Command, ConfigCommand};
use crate::config::{Config, print};
use crate::directory::DataDirectory;
use crate::exit::{Exit, Failure};
use crate::join::Joining;
use crate::traces::Traces;
use crate::{certs, dev, logs, production, recover, restore, tls};

/// Does what the command line says. Everything that goes wrong is printed here, and nowhere else.
pub fn run(args: Args) -> Exit {
    match dispatch(args) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("meshkit-node: {}", failure.message.trim_end());
            failure.exit
        }
    }
}

fn dispatch(args: Args) -> Result<Exit, Failure> {
    if let Some(parent) = args.die_with_parent {
        die_with(parent)?;
    }
    tls::install_provider();
    match (args.command, args.config) {
        (None, Some(file)) if args.check_config => check(&file)?,
        (None, Some(file)) => return node(&file, None),
        (None, None) => {
            return Err(Failure::new(
                Exit::Config,
                "nothing to do: --config FILE runs a node, `dev` a whole mesh; see --help",
            ));
        }
        (Some(Command::Init { config }), _) => init(&config)?,
        (Some(Command::Join { config, token_file }), _) => return node(&config, Some(&token_file)),
        (Some(Command::Restore(options)), _) => {
            let config = founder(&options.config)?;
            write_for_ourselves();
            restore::run(&options, &config)?;
        }
        (Some(Command::Recover(options)), _) => {
            let config = load(&options.config)?;
            write_for_ourselves();
            recover::run(&options, &config)?;
        }
        (Some(Command::Config(ConfigCommand::PrintDefault)), _) => print!("{}", print::defaults()),
        (Some(Command::Certs(command)), _) => {
            for file in certs::command::run(&command).map_err(certs_failure)? {
                println!("{}", file.display());
            }
        }
        // Children ask to die with the thread that made them: this one.
        (Some(Command::Dev(options)), _) => {
            write_for_ourselves();
            on_this_thread(dev::run(&options))?;
        }
    }
    Ok(Exit::Stopped)
}

fn certs_failure(error: certs::Error) -> Failure {
    let exit = match error {
        certs::Error::Exists(_) | certs::Error::Invalid(_) | certs::Error::Content { .. } => Exit::Config,
        certs::Error::File { .. } | certs::Error::Crypto { .. } => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|invalid| Failure::new(Exit::Config, format!("invalid configuration\n{invalid}")))
}

/// `--check-config`: the configuration, and that the files it names can be used.
fn check(file: &Path) -> Result<(), Failure> {
    let config = load(file)?;
    production::check_files(&config)?;
    println!(
        "{}: good, for node {} of cluster {} of mesh {}",
        file.display(),
        config.node.id,
        config.mesh.cluster,
        config.mesh.id
    );
    Ok(())
}

/// The configuration of a node that founds a cluster, with itself in it.
fn founder(file: &Path) -> Result<Config, Failure> {
    let config = load(file)?;
    if !config.mesh.members.0.iter().any(|member| member.id == config.node.id) {
        return Err(Failure::new(
            Exit::Config,
            format!(
                "{}: node {} is not among `mesh.members`: the founder has to be one of them",
                file.display(),
                config.node.id
            ),
        ));
    }
    Ok(config)
}

/// `init`: the data directory of the node that founds a mesh.
fn init(file: &Path) -> Result<(), Failure> {
    let config = founder(file)?;
    write_for_ourselves();
    let directory = DataDirectory::init(&config)?;
    let others = config.mesh.members.0.len() - 1;
    println!(
        "{} is the data directory of a new mesh, {}.",
        directory.path().display(),
        config.mesh.id
    );
    println!("Start this node with: meshkit-node --config {}", file.display());
    if others > 0 {
        println!(
            "Start the {others} other node(s) with empty data directories; they wait for this one. Do not run init there."
        );
    }
    Ok(())
}

/// What this process writes from now on is for its own user alone, whatever directory it is in: RocksDB makes its files
/// as the process would, and knows of no better.
fn write_for_ourselves() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// `--config` and `join`: the node itself. Once it logs, its end is logged too, and not printed beside.
fn node(file: &Path, token: Option<&Path>) -> Result<Exit, Failure> {
    let config = load(file)?;
    let joining = token.map(|token| Joining::read(&config, token)).transpose()?;
    write_for_ourselves();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("meshkit")
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("the runtime cannot be started: {error}")))?;
    let entered = runtime.enter();
    let traces = Traces::start(&config).map_err(|why| Failure::new(Exit::Config, why))?;
    let levels = logs::start(&config.log, traces.as_ref()).map_err(|why| Failure::new(Exit::Failed, why))?;
    drop(entered);
    let ended = runtime.block_on(production::run(file, config, levels, joining));
    if let Some(traces) = traces {
        traces.stop();
    }
    // Whatever still runs has had its time. Work on a disk is waited for nevertheless: RocksDB aborts the process when its
    // own end comes while a thread is still in it, and the exit code with it.
    runtime.shutdown_timeout(DISKS_REST_WITHIN);
    Ok(match ended {
        Ok(()) => Exit::Stopped,
        Err(Failure { exit, message }) => {
            tracing::error!(exit = exit as u8, reason = %message, "the node stops");
            exit
        }
    })
}

/// How long work on disks may go on when all else has ended.
const DISKS_REST_WITHIN: Duration = Duration::from_secs(5);

fn on_this_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("the runtime cannot be started: {error}")))?
        .block_on(work)
}

/// Has the kernel kill this process when its parent ends, however that happens.
fn die_with(parent: i32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::new(Exit::Failed, format!("--die-with-parent: {error}")))?;
    // It may have ended before we asked.
    if getppid() != Pid::from_raw(parent) {
        return Err(Failure::new(
            Exit::Failed,
            format!("--die-with-parent: our parent is not process {parent}"),
        ));
    }
    Ok(())
}

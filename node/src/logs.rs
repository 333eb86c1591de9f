//! Log lines: text or JSON on standard error, with a level that can be changed while running.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::sections::{Log, LogFormat, LogLevel};

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct Levels(reload::Handle<Targets, Registry>);

impl Levels {
    /// Uses the level and filter of `log` from now on. The format stays.
    pub fn reload(&self, log: &Log) -> Result<(), String> {
        self.0.reload(targets(log)).map_err(|error| error.to_string())
    }
}

/// Starts logging for the whole process. To be called once.
///
/// # Errors
/// When somebody has done so already.
pub fn start(log: &Log) -> Result<Levels, String> {
    let (filter, handle) = reload::Layer::new(targets(log));
    let lines = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(true)
            .with_writer(io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| error.to_string())?;
    Ok(Levels(handle))
}

fn targets(log: &Log) -> Targets {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries below us speak of their own inner life; we say what it means for the node.
    let ours = Targets::new()
        .with_default(level)
        .with_target(
            "openraft",
            if level >= LevelFilter::DEBUG {
                LevelFilter::WARN
            } else {
                LevelFilter::ERROR
            },
        )
        .with_target("h2", level.min(LevelFilter::INFO))
        .with_target("hyper", level.min(LevelFilter::INFO))
        .with_target("hyper_util", level.min(LevelFilter::INFO))
        .with_target("rustls", level.min(LevelFilter::INFO))
        .with_target("tower", level.min(LevelFilter::INFO));
    // Checked with the configuration; a filter that cannot be read changes nothing.
    match log.filter.parse::<Targets>() {
        Ok(exceptions) if !log.filter.is_empty() => {
            ours.with_targets(exceptions.iter().map(|(t, l)| (t.to_owned(), l)))
        }
        Ok(_) | Err(_) => ours,
    }
}

//! The level in force, and for how long.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use api_server::ports;
use tokio::task::AbortHandle;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::filter::Filter;
use super::ring::Ring;
use crate::config::sections::{Log, LogFormat, LogLevel};
use crate::traces::Traces;

/// How much of the log is kept in memory.
const KEPT_BYTES: usize = 1 << 20;

/// Changes what is logged. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Levels {
    handle: reload::Handle<Targets, Registry>,
    state: Arc<Mutex<State>>,
    kept: Ring,
    /// Whether spans are made for traces.
    traced: bool,
}

#[derive(Debug)]
struct State {
    configured: Log,
    /// The filter that is in force for a while instead.
    passing: Option<Passing>,
    /// Of the next one.
    number: u64,
}

#[derive(Debug)]
struct Passing {
    number: u64,
    filter: String,
    until: SystemTime,
    end: AbortHandle,
}

impl Levels {
    /// Uses the level and filter of `log` from now on, or from when a filter that was set for a while ends. The format
    /// stays.
    pub fn reload(&self, log: &Log) -> Result<(), String> {
        let mut state = self.state();
        let targets = configured(log, self.traced)?;
        if state.passing.is_none() {
            self.handle.reload(targets).map_err(|error| error.to_string())?;
        }
        state.configured = log.clone();
        Ok(())
    }

    /// Logs by another filter for a while, and goes back by itself; `None`: goes back now. Has to be called within the
    /// runtime. Answers what is in force.
    ///
    /// # Errors
    /// What is wrong with the filter; everything then stays as it was.
    pub fn set(&self, change: Option<(&str, Duration)>) -> Result<ports::LogLevel, String> {
        let mut state = self.state();
        let Some((filter, within)) = change else {
            self.go_back(&mut state)?;
            return Ok(ports::LogLevel {
                filter: shown(&state.configured),
                until: None,
            });
        };
        let targets = targets(&Filter::parse(filter)?, level(state.configured.level), self.traced);
        self.handle.reload(targets).map_err(|error| error.to_string())?;
        state.number += 1;
        let number = state.number;
        let levels = self.clone();
        let end = tokio::spawn(async move {
            tokio::time::sleep(within).await;
            levels.end(number);
        });
        let passing = Passing {
            number,
            filter: filter.to_owned(),
            until: SystemTime::now() + within,
            end: end.abort_handle(),
        };
        let answer = ports::LogLevel {
            filter: passing.filter.clone(),
            until: Some((shown(&state.configured), passing.until)),
        };
        if let Some(before) = state.passing.replace(passing) {
            before.end.abort();
        }
        Ok(answer)
    }

    /// What is in force: a filter, and until when; no time where it is the configured one.
    pub fn in_force(&self) -> (String, Option<SystemTime>) {
        let state = self.state();
        match &state.passing {
            Some(passing) => (passing.filter.clone(), Some(passing.until)),
            None => (shown(&state.configured), None),
        }
    }

    /// The last lines, and whether older ones have gone.
    pub fn lines(&self) -> (String, bool) {
        self.kept.lines()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of a filter is over, unless another has taken its place.
    fn end(&self, number: u64) {
        let mut state = self.state();
        if state.passing.as_ref().is_none_or(|passing| passing.number != number) {
            return;
        }
        let went = self.go_back(&mut state);
        drop(state);
        match went {
            Ok(()) => tracing::info!(target: "meshkit::audit", "the log level is the configured one again"),
            Err(why) => tracing::error!(%why, "the log level stays as it is"),
        }
    }

    fn go_back(&self, state: &mut State) -> Result<(), String> {
        let targets = configured(&state.configured, self.traced)?;
        self.handle.reload(targets).map_err(|error| error.to_string())?;
        if let Some(before) = state.passing.take() {
            before.end.abort();
        }
        Ok(())
    }
}

/// Starts logging for the whole process, and what collects traces, where there is something. To be called once.
///
/// # Errors
/// When somebody has done so already, or the filter cannot be read.
pub fn start(log: &Log, traces: Option<&Traces>) -> Result<Levels, String> {
    let traced = traces.is_some();
    let (filter, handle) = reload::Layer::new(configured(log, traced)?);
    let kept = Ring::new(KEPT_BYTES);
    let lines = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(kept.clone())
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(kept.clone())
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(filter_fn(|of| of.target() != raft::traces::TARGET)))
        .with(traces.map(Traces::layer))
        .try_init()
        .map_err(|error| error.to_string())?;
    let state = State {
        configured: log.clone(),
        passing: None,
        number: 0,
    };
    Ok(Levels {
        handle,
        state: Arc::new(Mutex::new(state)),
        kept,
        traced,
    })
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn configured(log: &Log, traced: bool) -> Result<Targets, String> {
    Ok(targets(&Filter::parse(&log.filter)?, level(log.level), traced))
}

/// What is let through. Spans for traces are no log lines: whether they are made does not depend on a level, and where
/// nobody collects them they cost nothing.
fn targets(filter: &Filter, level: LevelFilter, traced: bool) -> Targets {
    let traces = if traced { LevelFilter::ERROR } else { LevelFilter::OFF };
    filter.targets(level).with_target(raft::traces::TARGET, traces)
}

/// Level and exceptions of the configuration as one filter.
fn shown(log: &Log) -> String {
    let level = level(log.level).to_string();
    match Filter::parse(&log.filter) {
        Ok(filter) if filter.says_a_level() => log.filter.clone(),
        Ok(_) | Err(_) if log.filter.is_empty() => level,
        Ok(_) | Err(_) => format!("{level},{}", log.filter),
    }
}

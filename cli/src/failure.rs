//! How a command ends other than well: what is said, where, and with which exit code.

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, PoisonError},
};

use api_client::{Error, context::Environment};
use tonic::Code;

use crate::{
    output::{self, style},
    streams::Streams,
};

/// What to say when the user interrupts: what they leave, and how to come back to it.
pub type DetachNote = Arc<Mutex<Option<Detach>>>;

/// What an interrupt ends, and what it does not.
#[derive(Debug, Clone)]
pub struct Detach {
    /// `detached; the operation goes on`
    pub left: &'static str,
    /// How to go on.
    pub resume: String,
}

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// What the mesh or the SDK answered, or the command found.
    Problem(Error),
    /// Output could not be written.
    Output(io::Error),
}

impl Failure {
    /// A failure that the command itself found; see [`Error::local`].
    pub fn found(code: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Problem(Error::local(code, Code::Unknown, detail, hint))
    }

    /// `invalid_argument`
    pub fn usage(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Problem(Error::invalid(detail, hint))
    }

    /// Ctrl-C.
    pub fn interrupted(note: &DetachNote) -> Self {
        let note = note.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match note {
            Some(Detach { left, resume }) => Self::found("interrupted", left, resume),
            None => Self::found("interrupted", "interrupted", ""),
        }
    }

    /// The exit code; see [`api_client::exit_code`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(error) => error.exit_code(),
            // The reader has seen enough, as with `| head`.
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 3,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Problem(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Says why on standard error: three lines for people, or the problem document where `json`. Answers the exit code.
pub fn report(streams: &mut Streams, failure: &Failure, json: bool) -> u8 {
    drop(streams.flush());
    match failure {
        Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Failure::Output(error) => {
            let error = Error::local(
                "internal",
                Code::Internal,
                format!("output cannot be written: {error}"),
                "",
            );
            say(streams, &error, json);
        }
        Failure::Problem(error) => say(streams, error, json),
    }
    failure.exit_code()
}

fn say(streams: &mut Streams, error: &Error, json: bool) {
    if json {
        streams.note(&output::json::problem(error.problem()));
        return;
    }
    let colour = streams.err_colour;
    let clean = output::clean;
    let mut text = format!(
        "{} {}",
        style::paint(colour, style::RED, "error:"),
        clean(error.detail())
    );
    text.push_str(&format!("\n  code: {}", clean(error.code())));
    if !error.problem().request_id.is_empty() {
        text.push_str(&format!("\n  request: {}", clean(&error.problem().request_id)));
    }
    if !error.problem().current_etag.is_empty() {
        text.push_str(&format!("\n  current etag: {}", clean(&error.problem().current_etag)));
    }
    if !error.hint().is_empty() {
        text.push_str(&format!(
            "\n{} {}",
            style::paint(colour, style::CYAN, "hint:"),
            clean(error.hint())
        ));
    }
    streams.note(&text);
}

/// Help and version go to standard output with exit 0, usage errors to standard error with exit 2.
pub fn usage(streams: &mut Streams, error: &clap::Error, json: bool) -> u8 {
    use std::io::Write as _;
    let rendered = error.render();
    let to_stdout = !error.use_stderr();
    let colour = if to_stdout { streams.colour } else { streams.err_colour };
    let plain = rendered.to_string();
    // It repeats what was typed, or what a script was made to type.
    let text = if plain
        .chars()
        .any(|character| character != '\n' && output::is_unsafe(character))
    {
        plain
            .split_inclusive('\n')
            .map(|line| match line.strip_suffix('\n') {
                Some(line) => format!("{}\n", output::clean(line)),
                None => output::clean(line).into_owned(),
            })
            .collect()
    } else if colour {
        rendered.ansi().to_string()
    } else {
        plain
    };
    if to_stdout {
        let written = write!(streams.out, "{text}").and_then(|()| streams.flush());
        return written.map_or_else(|error| Failure::Output(error).exit_code(), |()| 0);
    }
    if json {
        // Everything before the first blank line, on one.
        let said: Vec<&str> = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        let detail = said.join(" ");
        let detail = detail.strip_prefix("error: ").unwrap_or(&detail);
        say(streams, &Error::invalid(detail, "see `mesh --help`"), true);
    } else {
        drop(write!(streams.err, "{text}"));
    }
    2
}

/// Whether the command line asks for JSON, judged before it is known to be well-formed.
pub fn wants_json(arguments: &[OsString], environment: &Environment) -> bool {
    let is_json = |value: &str| value.eq_ignore_ascii_case("json") || value.eq_ignore_ascii_case("jsonl");
    let mut wanted = environment.get("MESH_OUTPUT").is_some_and(is_json);
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    while let Some(argument) = arguments.next() {
        let value = match argument {
            "--" => return wanted,
            "--json" => Some("json"),
            "--table" => Some("table"),
            "-o" | "--output" => arguments.next(),
            _ => argument
                .strip_prefix("--output=")
                .or_else(|| argument.strip_prefix("-o").filter(|_| !argument.starts_with("--"))),
        };
        if let Some(value) = value {
            wanted = is_json(value.trim_start_matches('='));
        }
    }
    wanted
}

//! Where output goes, and what is known of the terminal behind it.

use std::io::{self, IsTerminal as _, Write};

use jiff::Timestamp;

/// Standard output and error, and what is known of them. Taken as a value, so that tests can look.
pub struct Streams {
    /// Data.
    pub out: Box<dyn Write + Send>,
    /// Prompts, progress, notes and errors.
    pub err: Box<dyn Write + Send>,
    /// True where a person can answer: standard input and standard error are terminals.
    pub can_ask: bool,
    /// True where standard error is a terminal, so that progress may be shown.
    pub err_is_terminal: bool,
    /// True where data may be coloured.
    pub colour: bool,
    /// True where errors may be coloured.
    pub err_colour: bool,
    /// What "now" is in relative times.
    pub now: Timestamp,
}

impl Streams {
    /// The process's own. Colour only on a terminal, and never where `NO_COLOR` is set or `TERM` is `dumb`.
    pub fn process() -> Self {
        let (stdin, stdout, stderr) = (
            io::stdin().is_terminal(),
            io::stdout().is_terminal(),
            io::stderr().is_terminal(),
        );
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let colour = !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            out: Box::new(io::BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            can_ask: stdin && stderr,
            err_is_terminal: stderr,
            colour: colour && stdout,
            err_colour: colour && stderr,
            now: Timestamp::now(),
        }
    }

    /// Streams into memory or elsewhere, without a terminal.
    pub fn plain(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, now: Timestamp) -> Self {
        Self {
            out,
            err,
            can_ask: false,
            err_is_terminal: false,
            colour: false,
            err_colour: false,
            now,
        }
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A line for people beside the data; errors of standard error are nobody's to hear.
    pub fn note(&mut self, text: &str) {
        drop(writeln!(self.err, "{text}"));
    }
}

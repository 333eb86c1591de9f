//! What every command has at hand.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use api_client::{
    Client, Context,
    context::{Environment, Flags, Sourced},
};

use crate::{
    failure::{DetachNote, Failure},
    output::{Format, Look, clean},
    streams::Streams,
};

/// Streams, output format, and the way to the mesh.
pub struct App<'a> {
    /// Where output goes.
    pub streams: &'a mut Streams,
    format: Sourced<Format>,
    flags: Flags,
    environment: Environment,
    detach: DetachNote,
}

impl<'a> App<'a> {
    pub fn new(streams: &'a mut Streams, format: Sourced<Format>, flags: Flags, environment: Environment) -> Self {
        Self {
            streams,
            format,
            flags,
            environment,
            detach: Arc::new(Mutex::new(None)),
        }
    }

    /// The output format.
    pub fn format(&self) -> Format {
        self.format.value
    }

    /// The output format and who chose it.
    pub fn format_sourced(&self) -> &Sourced<Format> {
        &self.format
    }

    /// How values are to look in tables.
    pub fn look(&self) -> Look {
        Look {
            wide: self.format() == Format::Wide,
            colour: self.streams.colour,
            now: self.streams.now,
        }
    }

    /// Where to connect and as whom.
    pub fn context(&self) -> Result<Context, Failure> {
        Ok(Context::load(&self.flags, &self.environment)?)
    }

    /// A client for the context.
    pub fn client(&self) -> Result<Client, Failure> {
        let builder = api_client::Builder::from_context(&self.context()?)?;
        Ok(builder
            .user_agent(concat!("mesh/", env!("CARGO_PKG_VERSION")))
            .build()?)
    }

    /// Shared with whoever hears of an interrupt.
    pub fn detach_note(&self) -> DetachNote {
        Arc::clone(&self.detach)
    }

    /// From now on an interrupt says `resume`.
    pub fn on_interrupt(&self, resume: String) {
        *self.detach.lock().unwrap_or_else(PoisonError::into_inner) = Some(resume);
    }

    /// Writes one line of data.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.streams.out, "{text}")
    }

    /// Writes data that has its own line end.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.streams.out.write_all(text.as_bytes())
    }

    /// A note for people on one line: only where standard error is a terminal.
    pub fn tell(&mut self, text: &str) {
        if self.streams.err_is_terminal {
            self.streams.note(&clean(text));
        }
    }
}

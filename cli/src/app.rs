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
    failure::{Detach, DetachNote, Failure},
    output::{Format, Look, clean},
    streams::Streams,
    values::Freshness,
};

/// Streams, output format, and the way to the mesh.
pub struct App<'a> {
    /// Where output goes.
    pub streams: &'a mut Streams,
    format: Sourced<Format>,
    flags: Flags,
    environment: Environment,
    detach: DetachNote,
    /// Made when it is first needed.
    client: Mutex<Option<Client>>,
    /// What was said of the way to the mesh last.
    told: String,
    /// The trace that this command is.
    pub traceparent: Option<String>,
    /// How fresh what is read has to be, where that was said.
    pub consistency: Option<Freshness>,
}

impl<'a> App<'a> {
    pub fn new(streams: &'a mut Streams, format: Sourced<Format>, flags: Flags, environment: Environment) -> Self {
        Self {
            streams,
            format,
            flags,
            environment,
            detach: Arc::new(Mutex::new(None)),
            client: Mutex::new(None),
            told: String::new(),
            traceparent: None,
            consistency: None,
        }
    }

    /// How fresh what is read has to be.
    pub fn freshness(&self) -> Freshness {
        self.consistency.unwrap_or(Freshness::Linearizable)
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

    /// The client for the context: one for the whole command, with its connections.
    pub fn client(&self) -> Result<Client, Failure> {
        let mut made = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*made {
            return Ok(client.clone());
        }
        let builder = api_client::Builder::from_context(&self.context()?)?;
        let builder = builder.user_agent(concat!("mesh/", env!("CARGO_PKG_VERSION")));
        let builder = match &self.traceparent {
            Some(traceparent) => builder.traceparent(traceparent),
            None => builder,
        };
        let builder = match self.consistency {
            Some(freshness) => builder.consistency(freshness.into()),
            None => builder,
        };
        Ok(made.insert(builder.build()?).clone())
    }

    /// What there is to say to people, and was not said yet, of nodes that were asked over HTTP/2 because HTTP/3 was not
    /// to be had.
    pub fn downgrades(&mut self) -> Option<String> {
        let made = self.client.get_mut().unwrap_or_else(PoisonError::into_inner);
        let nodes: Vec<String> = made
            .iter()
            .flat_map(Client::downgrades)
            .map(|(endpoint, why)| format!("{endpoint} ({})", why.describe()))
            .collect();
        let told = nodes.join(", ");
        if told.is_empty() || told == self.told {
            return None;
        }
        self.told.clone_from(&told);
        Some(format!(
            "HTTP/2 instead of HTTP/3 to {told}; --transport h2, or `transport = \"h2\"` in the context, saves trying"
        ))
    }

    /// Tells a terminal of them.
    pub fn tell_downgrades(&mut self) {
        if let Some(note) = self.downgrades() {
            self.tell(&note);
        }
    }

    /// Shared with whoever hears of an interrupt.
    pub fn detach_note(&self) -> DetachNote {
        Arc::clone(&self.detach)
    }

    /// From now on an interrupt says what was `left`, and how to `resume`.
    pub fn on_interrupt(&self, left: &'static str, resume: String) {
        *self.detach.lock().unwrap_or_else(PoisonError::into_inner) = Some(Detach { left, resume });
    }

    /// Writes one line of data.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.streams.out, "{text}")
    }

    /// Writes data that has its own line end.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.streams.out.write_all(text.as_bytes())
    }

    /// A line for people beside the data, also where they read it later: not where a program reads what is answered.
    pub fn remark(&mut self, text: &str) {
        if !self.format().is_machine() {
            self.streams.note(&clean(text));
        }
    }

    /// A note for people on one line: only where standard error is a terminal.
    pub fn tell(&mut self, text: &str) {
        if self.streams.err_is_terminal {
            self.streams.note(&clean(text));
        }
    }
}

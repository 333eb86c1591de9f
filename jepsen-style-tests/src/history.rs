//! What clients asked and what they were told, in the order in which it happened, on disk as it happens.
//!
//! One JSON object a line. The place in the file is the order of time: an operation's `invoke` is written before its
//! request is sent, and its end after the answer has come, both under one lock.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The value of a register before anybody writes it.
pub const INITIAL: u64 = 0;

/// What is asked of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "lowercase")]
pub enum Call {
    /// What is it?
    Read,
    /// Set it, whatever it is.
    Write {
        /// Written once only in a history.
        to: u64,
    },
    /// Set it where it is still `from` (known by its ETag).
    Cas {
        /// The value seen before.
        from: u64,
        /// Written once only in a history.
        to: u64,
    },
}

impl Call {
    /// What it writes, if it does.
    pub fn writes(&self) -> Option<u64> {
        match self {
            Self::Read => None,
            Self::Write { to } | Self::Cas { to, .. } => Some(*to),
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum End {
    /// It was done.
    Ok {
        /// The register's value in the answer.
        value: Option<u64>,
        /// The revision that gave the register this value.
        changed: u64,
        /// The revision of the mesh that the answer shows.
        shown: Option<u64>,
        /// Requests that it took; more than one where it was redirected or repeated.
        attempts: u32,
    },
    /// It was not done, and never will be.
    Fail {
        /// The error code.
        code: String,
        /// For people.
        detail: String,
    },
    /// It may have been done, may still be, or never.
    Info {
        /// The error code.
        code: String,
        /// For people.
        detail: String,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// An operation begins.
    Invoke {
        /// Microseconds since the history began.
        at_us: u64,
        /// The operation.
        invoke: u64,
        /// The client.
        process: u32,
        /// The node that the client turns to first.
        node: u64,
        /// The register.
        key: String,
        /// What is asked.
        #[serde(flatten)]
        call: Call,
    },
    /// An operation ends.
    End {
        /// Microseconds since the history began.
        at_us: u64,
        /// The operation.
        op: u64,
        /// How.
        #[serde(flatten)]
        end: End,
    },
    /// The nemesis did something.
    Fault {
        /// Microseconds since the history began.
        at_us: u64,
        /// What it did, and to whom.
        fault: String,
    },
}

/// One operation, from both its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number.
    pub id: u64,
    /// The client.
    pub process: u32,
    /// The node that the client turned to first.
    pub node: u64,
    /// The register.
    pub key: String,
    /// What was asked.
    pub call: Call,
    /// The line at which it began, from 0.
    pub began: usize,
    /// The line at which it ended, and how; absent where the history ends before it did.
    pub ended: Option<(usize, End)>,
    /// Microseconds since the history began.
    pub began_us: u64,
    /// Microseconds since the history began.
    pub ended_us: Option<u64>,
}

impl Operation {
    /// Whether it is known to have been done.
    pub fn is_ok(&self) -> bool {
        matches!(self.ended, Some((_, End::Ok { .. })))
    }

    /// The code of the error that it ended with.
    pub fn code(&self) -> Option<&str> {
        match &self.ended {
            Some((_, End::Fail { code, .. } | End::Info { code, .. })) => Some(code),
            Some((_, End::Ok { .. })) | None => None,
        }
    }
}

/// A whole history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In order of time.
    pub events: Vec<Event>,
}

impl History {
    /// Reads a recorded history. A last line that was cut off by a crash is left out.
    ///
    /// # Errors
    /// Where the file cannot be read, or a line is no event.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::File {
            path: path.to_owned(),
            error,
        };
        let mut lines = BufReader::new(File::open(path).map_err(failed)?);
        let mut events = Vec::new();
        let mut text = String::new();
        while lines.read_line(&mut text).map_err(failed)? > 0 && text.ends_with('\n') {
            let event = serde_json::from_str(&text);
            events.push(event.map_err(|error| Error::Line {
                path: path.to_owned(),
                line: events.len() + 1,
                error,
            })?);
            text.clear();
        }
        Ok(Self { events })
    }

    /// The operations, in the order in which they began.
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations: Vec<Operation> = Vec::new();
        let mut places = BTreeMap::new();
        for (line, event) in self.events.iter().enumerate() {
            match event {
                Event::Invoke {
                    at_us,
                    invoke,
                    process,
                    node,
                    key,
                    call,
                } => {
                    places.insert(*invoke, operations.len());
                    operations.push(Operation {
                        id: *invoke,
                        process: *process,
                        node: *node,
                        key: key.clone(),
                        call: *call,
                        began: line,
                        ended: None,
                        began_us: *at_us,
                        ended_us: None,
                    });
                }
                Event::End { at_us, op, end } => {
                    if let Some(operation) = places.get(op).and_then(|place| operations.get_mut(*place)) {
                        operation.ended = Some((line, end.clone()));
                        operation.ended_us = Some(*at_us);
                    }
                }
                Event::Fault { .. } => {}
            }
        }
        operations
    }

    /// When the nemesis struck, in microseconds, and what it did.
    pub fn faults(&self) -> Vec<(u64, String)> {
        let fault = |event: &Event| match event {
            Event::Fault { at_us, fault } => Some((*at_us, fault.clone())),
            Event::Invoke { .. } | Event::End { .. } => None,
        };
        self.events.iter().filter_map(fault).collect()
    }
}

/// Records a history while it happens.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    history: History,
    next: u64,
    /// The first line that could not be written.
    failed: Option<std::io::Error>,
}

impl Recorder {
    /// Begins a history in a new file at `path`.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| Error::File {
            path: path.to_owned(),
            error,
        })?;
        let inner = Inner {
            file,
            history: History::default(),
            next: 0,
            failed: None,
        };
        Ok(Self {
            start: Instant::now(),
            path: path.to_owned(),
            inner: Mutex::new(inner),
        })
    }

    /// An operation is about to be sent. Answers its number.
    pub fn invoke(&self, process: u32, node: u64, key: &str, call: Call) -> u64 {
        let mut inner = self.inner.lock();
        let invoke = inner.next;
        inner.next += 1;
        let event = Event::Invoke {
            at_us: self.at_us(),
            invoke,
            process,
            node,
            key: key.to_owned(),
            call,
        };
        inner.push(event);
        invoke
    }

    /// An operation has ended.
    pub fn end(&self, op: u64, end: End) {
        let mut inner = self.inner.lock();
        let event = Event::End {
            at_us: self.at_us(),
            op,
            end,
        };
        inner.push(event);
    }

    /// The nemesis does something.
    pub fn fault(&self, fault: String) {
        let mut inner = self.inner.lock();
        let event = Event::Fault {
            at_us: self.at_us(),
            fault,
        };
        inner.push(event);
    }

    /// The history so far.
    ///
    /// # Errors
    /// Where a line of it could not be written to disk.
    pub fn history(&self) -> Result<History> {
        let mut inner = self.inner.lock();
        match inner.failed.take() {
            Some(error) => Err(Error::File {
                path: self.path.clone(),
                error,
            }),
            None => Ok(inner.history.clone()),
        }
    }

    /// Taken under the lock, so that times grow with lines.
    fn at_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Inner {
    fn push(&mut self, event: Event) {
        let written = serde_json::to_vec(&event)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                self.file.write_all(&line)
            });
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
        self.history.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_what_is_read() {
        let path = std::env::temp_dir().join(format!("meshkit-history-{}.jsonl", std::process::id()));
        let recorder = Recorder::create(&path).unwrap();
        let read = recorder.invoke(1, 2, "r-0", Call::Read);
        let cas = recorder.invoke(2, 3, "r-0", Call::Cas { from: 0, to: 7 });
        recorder.fault("kill leader 2".into());
        recorder.end(
            read,
            End::Ok {
                value: Some(0),
                changed: 4,
                shown: Some(9),
                attempts: 1,
            },
        );
        recorder.end(
            cas,
            End::Info {
                code: "unavailable".into(),
                detail: "broke off".into(),
            },
        );
        let pending = recorder.invoke(1, 2, "r-0", Call::Write { to: 8 });
        let history = recorder.history().unwrap();
        assert_eq!(History::read(&path).unwrap(), history);
        let operations = history.operations();
        assert_eq!(operations.len(), 3);
        assert!(operations[0].is_ok());
        assert_eq!(operations[1].code(), Some("unavailable"));
        assert_eq!((operations[2].id, &operations[2].ended), (pending, &None));
        assert_eq!(history.faults().len(), 1);

        // A line that a crash cut off is left out; one that is no event is named.
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(History::read(&path).unwrap().events.len(), history.events.len() - 1);
        std::fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        assert!(History::read(&path).unwrap_err().to_string().contains(":7:"));
        std::fs::remove_file(&path).unwrap();
    }
}

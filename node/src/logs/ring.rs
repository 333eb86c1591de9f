//! The last log lines, kept in memory for whoever asks the node itself.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// The last lines that were logged. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Ring {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    bytes_max: usize,
}

impl Ring {
    /// Keeps `bytes_max` bytes of lines.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(VecDeque::with_capacity(bytes_max))),
            bytes_max,
        }
    }

    fn keep(&self, line: &[u8]) {
        // Of a line that is longer than all there is room for, its end.
        let line = &line[line.len().saturating_sub(self.bytes_max)..];
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let over = (bytes.len() + line.len()).saturating_sub(self.bytes_max);
        bytes.drain(..over);
        bytes.extend(line);
    }

    /// The lines, oldest first, each whole, without colours. Whether older ones have gone.
    pub fn lines(&self) -> (String, bool) {
        let bytes: Vec<u8> = {
            let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.iter().copied().collect()
        };
        let full = bytes.len() >= self.bytes_max;
        let text = String::from_utf8_lossy(&bytes);
        let text = match text.split_once('\n') {
            // Its beginning has gone.
            Some((_, whole)) if full => whole,
            _ => &text,
        };
        (without_colours(text), full)
    }
}

/// Text without the escapes that colour it.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = behind.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    out.push_str(rest);
    out
}

impl<'a> MakeWriter<'a> for Ring {
    type Writer = Tee<'a>;

    fn make_writer(&'a self) -> Tee<'a> {
        Tee(self)
    }
}

/// Writes to standard error, and keeps what it wrote. It is given one line at a time.
pub struct Tee<'a>(&'a Ring);

impl Write for Tee<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        // Kept also where nobody reads standard error.
        self.0.keep(line);
        io::stderr().write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whole() {
        let ring = Ring::new(16);
        ring.keep(b"one\n");
        ring.keep(b"\x1b[32mtwo\x1b[0m\n");
        assert_eq!(ring.lines(), ("two\n".to_owned(), true), "full to the last byte");
        let ring = Ring::new(12);
        for line in ["one\n", "two\n"] {
            ring.keep(line.as_bytes());
        }
        assert_eq!(ring.lines(), ("one\ntwo\n".to_owned(), false));
        ring.keep(b"three\n");
        assert_eq!(ring.lines(), ("two\nthree\n".to_owned(), true));
        ring.keep(b"a line that is longer than the ring\n");
        assert_eq!(ring.lines().0, "");
        for n in 0..1_000 {
            ring.keep(format!("{n}\n").as_bytes());
        }
        assert_eq!(ring.lines(), ("998\n999\n".to_owned(), true));
    }
}

//! What a program said and how it ended.

use crate::Error;

/// A program's whole output.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Its exit code; `None` when a signal ended it, it could not be started, or it took too long.
    pub code: Option<i32>,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Itself when it ended with 0, else an error that shows everything.
    pub fn ok(self) -> Result<Self, Error> {
        self.expect_code(0)
    }

    /// Itself when it ended with `code`, else an error that shows everything.
    pub fn expect_code(self, code: i32) -> Result<Self, Error> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let ended = self
            .code
            .map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
        Err(Error::new(format!(
            "`{}` ended with {ended} instead of {code}\n--- stdout\n{}--- stderr\n{}",
            self.command, self.stdout, self.stderr
        )))
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<serde_json::Value, Error> {
        serde_json::from_str(&self.stdout).map_err(|error| {
            Error::new(format!(
                "`{}` printed no JSON ({error})\n--- stdout\n{}--- stderr\n{}",
                self.command, self.stdout, self.stderr
            ))
        })
    }
}

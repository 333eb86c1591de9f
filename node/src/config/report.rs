//! How an invalid configuration is shown: file, line and caret.

use std::fmt;
use std::path::PathBuf;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::document::{Place, Problem};

/// Why a configuration was refused: everything that is wrong with it.
#[derive(Debug)]
pub struct Invalid {
    /// The file that was read.
    pub file: PathBuf,
    /// Its text, empty when it could not be read.
    pub text: String,
    /// What is wrong, in the order found. Never empty.
    pub problems: Vec<Problem>,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none())
            .with_width(120)
            .with_context_lines(1)
            .without_syntax_highlighting();
        for problem in &self.problems {
            let shown = Shown {
                problem,
                source: NamedSource::new(self.file.to_string_lossy(), self.text.clone()),
            };
            handler.render_report(f, &shown)?;
        }
        Ok(())
    }
}

/// One problem, as miette wants it.
#[derive(Debug)]
struct Shown<'p> {
    problem: &'p Problem,
    source: NamedSource<String>,
}

impl std::error::Error for Shown<'_> {}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem.place {
            Place::File(_) => f.write_str(&self.problem.message),
            Place::Env(variable) => write!(f, "environment variable {variable}: {}", self.problem.message),
            Place::Nowhere => write!(f, "{}: {}", self.source.name(), self.problem.message),
        }
    }
}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem
            .help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self.problem.place {
            Place::File(_) => Some(&self.source),
            Place::Env(_) | Place::Nowhere => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match &self.problem.place {
            Place::File(range) => {
                // A caret needs something to stand under, also at the very end of the file.
                let start = range.start.min(self.source.inner().len());
                let length = range.len().max(1).min(self.source.inner().len() - start);
                Some(Box::new(std::iter::once(LabeledSpan::new(
                    Some("here".to_owned()),
                    start,
                    length,
                ))))
            }
            Place::Env(_) | Place::Nowhere => None,
        }
    }
}

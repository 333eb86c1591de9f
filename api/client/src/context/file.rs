//! The context file: TOML, read key by key, so that an error can name key and line and never a value that is secret.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use toml::de::{DeTable, DeValue};

use crate::{Error, Result};

/// What a context file says. Each value with its line, from 1.
#[derive(Default)]
pub(super) struct File {
    pub endpoints: Option<(Vec<String>, usize)>,
    pub ca: Option<(PathBuf, usize)>,
    pub token: Option<(SecretString, usize)>,
    pub token_file: Option<(PathBuf, usize)>,
    pub cert: Option<(PathBuf, usize)>,
    pub key: Option<(PathBuf, usize)>,
    pub timeout: Option<(String, usize)>,
    pub transport: Option<(String, usize)>,
}

const KEYS: &str = "endpoints, ca, token, token_file, cert, key, timeout, transport";

/// Reads and checks the file at `path`.
pub(super) fn read(path: &Path) -> Result<File> {
    let text = String::from_utf8(super::read(path, "context")?)
        .map_err(|_| Error::invalid(format!("{} is not text", path.display()), "a context is a TOML file"))?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<File> {
    let table = DeTable::parse(text).map_err(|error| {
        // Not the error's own form: that quotes the line, which may hold a token.
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        Error::invalid(
            format!("{}:{line}: {}", path.display(), first_line(error.message())),
            "a context is a TOML file",
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = File::default();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let at = |what: &str| {
            Error::invalid(
                format!("{}:{line}: {what}", path.display()),
                format!("a context has the keys {KEYS}"),
            )
        };
        let name: &str = key.get_ref();
        let string = || match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(text.to_string()),
            _ => Err(at(&format!("`{name}` must be a text that is not empty"))),
        };
        let file_path = || string().map(|text| (folder.join(text), line));
        match name {
            "endpoints" => {
                file.endpoints = Some((
                    endpoints(value.get_ref()).ok_or_else(|| at("`endpoints` must be a list of texts"))?,
                    line,
                ))
            }
            "ca" => file.ca = Some(file_path()?),
            "token" => file.token = Some((string()?.into(), line)),
            "token_file" => file.token_file = Some(file_path()?),
            "cert" => file.cert = Some(file_path()?),
            "key" => file.key = Some(file_path()?),
            "timeout" => file.timeout = Some((string()?, line)),
            "transport" => file.transport = Some((string()?, line)),
            _ => return Err(at(&format!("unknown key `{name}`"))),
        }
    }
    Ok(file)
}

/// A list of texts, or one text with commas.
fn endpoints(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::String(text) => Some(super::resolve::split(text)),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match parse(text, Path::new("/x/context.toml")) {
            Ok(_) => panic!("{text} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn errors_name_the_line_and_never_the_token() {
        let unknown = error("endpoints = []\ntokenn = \"hunter2\"\n");
        assert!(unknown.contains("/x/context.toml:2: unknown key `tokenn`"), "{unknown}");
        for text in [
            "token = \"hunter2",
            "token = hunter2",
            "token = [\"hunter2\"]",
            "token = 5\ntoken = \"hunter2\"",
        ] {
            let error = error(text);
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(error("\n\ntimeout = 5").contains(":3: `timeout` must be a text"));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let file = parse("ca = \"ca.pem\"\ncert = \"/abs/c.pem\"", Path::new("/x/context.toml"))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(file.ca, Some((PathBuf::from("/x/ca.pem"), 1)));
        assert_eq!(file.cert, Some((PathBuf::from("/abs/c.pem"), 2)));
    }
}

//! JSON and YAML: the contract's own form of a message, in the order of its fields.
//!
//! A document may end up on a terminal, so characters that a terminal acts on are escaped in it: the same strings to
//! whoever parses it.

use prost::{Message, Name};
use proto::{json::Json, v1::Problem};
use serde::Serialize;
use serde_json::Value;

use super::is_unsafe;
use crate::failure::Failure;

/// A message on several lines, with a line end.
pub fn pretty<M: Message + Name>(message: &M) -> Result<String, Failure> {
    let message = proto::json::dynamic(message).map_err(unshowable)?;
    document(&Json(&message))
}

/// A message on one line, with a line end.
pub fn line<M: Message + Name>(message: &M) -> Result<String, Failure> {
    let message = proto::json::dynamic(message).map_err(unshowable)?;
    document_line(&Json(&message))
}

/// A document of this program's own on several lines, with a line end.
pub fn document(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document).map_err(unshowable)?;
    Ok(escape(text) + "\n")
}

/// A document of this program's own on one line, with a line end.
pub fn document_line(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(document).map_err(unshowable)?;
    Ok(escape(text) + "\n")
}

/// JSON with what is unsafe on a terminal in JSON's own escapes. Such characters are only ever part of a string in it; the line
/// ends between members are the document's own, those in strings are escaped already.
fn escape(json: String) -> String {
    let acts = |character: char| character != '\n' && is_unsafe(character);
    if !json.chars().any(acts) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if acts(character) {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

/// A message as YAML, with a line end.
pub fn yaml<M: Message + Name>(message: &M) -> Result<String, Failure> {
    let message = proto::json::dynamic(message).map_err(unshowable)?;
    document_yaml(&Json(&message))
}

/// A document of this program's own as YAML, with a line end. The library escapes control characters itself.
pub fn document_yaml(document: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(document).map_err(unshowable)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// A problem document on one line: empty members are left out, except that `retryable` is always said.
pub fn problem(problem: &Problem) -> String {
    let mut value = proto::json::to_value(problem).unwrap_or_default();
    if let Value::Object(members) = &mut value {
        members.retain(|name, value| match value {
            Value::Null => false,
            Value::Bool(_) => name == "retryable",
            Value::String(text) => !text.is_empty(),
            Value::Number(number) => number.as_u64() != Some(0),
            Value::Array(items) => !items.is_empty(),
            Value::Object(_) => true,
        });
    }
    escape(value.to_string())
}

fn unshowable(error: impl std::fmt::Display) -> Failure {
    Failure::found(
        "internal",
        format!("the answer cannot be written: {error}"),
        "use -o table",
    )
}

#[cfg(test)]
mod tests {
    use proto::v1::Peer;

    use super::*;

    #[test]
    fn documents_are_safe_on_a_terminal_and_say_the_same() {
        let all: String = (0..=0xa0)
            .filter_map(char::from_u32)
            .chain("\u{202e}\u{2066}\u{200e}\u{61c} ä 日 \\u009b".chars())
            .collect();
        let peer = Peer {
            id: "p1".into(),
            role: all.clone(),
            ..Peer::default()
        };
        let texts = [pretty(&peer), line(&peer), yaml(&peer)].map(|text| text.unwrap_or_default());
        for text in &texts {
            let raw: Vec<char> = text
                .chars()
                .filter(|character| *character != '\n' && character.is_control())
                .collect();
            assert!(raw.is_empty() && text.contains('ä'), "{raw:?} in {text}");
        }
        for text in &texts[..2] {
            assert!(
                text.contains("\\u007f") && text.contains("\\u009f") && text.contains("\\u202e"),
                "{text}"
            );
            let read: Value = serde_json::from_str(text).unwrap_or_default();
            assert_eq!(read["role"], all.as_str());
        }
        let problem = problem(&Problem {
            code: "not_found".into(),
            detail: "\u{9b}31m".into(),
            ..Problem::default()
        });
        assert!(problem.contains("\\u009b31m"), "{problem}");
    }
}

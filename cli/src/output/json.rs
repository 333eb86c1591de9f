//! JSON and YAML: the contract's own form of a message, in the order of its fields.

use prost::{Message, Name};
use proto::{json::Json, v1::Problem};
use serde_json::Value;

use crate::failure::Failure;

/// A message on several lines, with a line end.
pub fn pretty<M: Message + Name>(message: &M) -> Result<String, Failure> {
    let message = proto::json::dynamic(message).map_err(unshowable)?;
    let mut text = serde_json::to_string_pretty(&Json(&message)).map_err(unshowable)?;
    text.push('\n');
    Ok(text)
}

/// A message on one line, with a line end.
pub fn line<M: Message + Name>(message: &M) -> Result<String, Failure> {
    let mut text = proto::json::to_string(message).map_err(unshowable)?;
    text.push('\n');
    Ok(text)
}

/// A message as YAML, with a line end.
pub fn yaml<M: Message + Name>(message: &M) -> Result<String, Failure> {
    let message = proto::json::dynamic(message).map_err(unshowable)?;
    let mut text = serde_saphyr::to_string(&Json(&message)).map_err(unshowable)?;
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
    value.to_string()
}

fn unshowable(error: impl std::fmt::Display) -> Failure {
    Failure::found(
        "internal",
        format!("the answer cannot be written: {error}"),
        "use -o table",
    )
}

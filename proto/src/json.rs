//! The JSON form of the contract's messages, for REST and for `mesh -o json`.
//!
//! Canonical proto JSON (camelCase names, RFC 3339 times, `"1.5s"` durations, base64 bytes) with MeshKit's rules:
//! 64-bit integers are numbers, fields at their default are emitted while absent messages and `optional` fields are
//! left out, unknown fields are refused, enum values are plain words that are read in any case and whose zero value
//! is never written.

mod read;
mod write;

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

pub use read::{Object, VALUES_MAX, scalar};
pub use write::Json;

/// Why a text is not the JSON form of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Path of the field at fault in JSON names (`labels.zone`, `endpoints[2]`); empty for the text as a whole.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Error {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            detail: detail.into(),
        }
    }

    /// The same error one level further out.
    fn within(mut self, outer: &str) -> Self {
        if self.field.is_empty() {
            self.field = outer.to_owned();
        } else if self.field.starts_with('[') {
            self.field = format!("{outer}{}", self.field);
        } else {
            self.field = format!("{outer}.{}", self.field);
        }
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.detail)
        } else {
            write!(f, "field `{}`: {}", self.field, self.detail)
        }
    }
}

impl std::error::Error for Error {}

/// Reads a message from JSON.
///
/// # Errors
/// The text is not one JSON object, has a field twice, a field that the message does not have, or a value that the
/// field cannot hold. The error names the field.
pub fn read(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, Error> {
    Object::parse(text)?.into_message(descriptor)
}

/// Writes a message as JSON into `out`.
pub fn write(message: &DynamicMessage, out: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(out, &Json(message)).map_err(|error| Error::new(error.to_string()))
}

/// A generated message as a JSON value.
///
/// # Errors
/// A time or duration is out of the range that JSON can show.
pub fn to_value<M: Message + prost::Name>(message: &M) -> Result<serde_json::Value, Error> {
    serde_json::to_value(Json(&dynamic(message)?)).map_err(|error| Error::new(error.to_string()))
}

/// A generated message as JSON text.
///
/// # Errors
/// A time or duration is out of the range that JSON can show.
pub fn to_string<M: Message + prost::Name>(message: &M) -> Result<String, Error> {
    serde_json::to_string(&Json(&dynamic(message)?)).map_err(|error| Error::new(error.to_string()))
}

/// Reads a generated message from JSON text.
///
/// # Errors
/// As [`read`].
pub fn from_slice<M: Message + prost::Name + Default>(text: &[u8]) -> Result<M, Error> {
    read(&crate::descriptor::<M>(), text)?
        .transcode_to()
        .map_err(|error| Error::new(error.to_string()))
}

/// A generated message in its reflected form.
///
/// # Errors
/// Never for messages of this contract; the conversion goes through the wire form, whose decoding can fail.
pub fn dynamic<M: Message + prost::Name>(message: &M) -> Result<DynamicMessage, Error> {
    let mut dynamic = DynamicMessage::new(crate::descriptor::<M>());
    dynamic
        .transcode_from(message)
        .map_err(|error| Error::new(error.to_string()))?;
    Ok(dynamic)
}

#[cfg(test)]
mod tests;

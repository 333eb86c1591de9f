//! JSON to messages. Strict: what a message has no place for is refused, and the refusal names the field.

use std::{cell::Cell, collections::HashMap, fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Error;

/// The most values of one document, those within others counted: what a text of tiny ones costs is many times its length.
pub const VALUES_MAX: usize = 65_536;

/// How much of a bad value an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A parsed JSON object whose members are unique.
#[derive(Debug, Default)]
pub struct Object(Vec<(String, Tree)>);

/// A JSON value whose objects have no member twice.
#[derive(Debug)]
enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Tree>),
    Object(Object),
}

impl Object {
    /// Parses a text that is one JSON object.
    ///
    /// # Errors
    /// The text is not JSON, not an object, nested too deeply, has a member twice, or more than [`VALUES_MAX`] values.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let left = Cell::new(VALUES_MAX);
        let mut reader = serde_json::Deserializer::from_slice(text);
        let tree = TreeVisitor { left: &left }
            .deserialize(&mut reader)
            .and_then(|tree| reader.end().map(|()| tree));
        match tree.map_err(|error| Error::new(error.to_string()))? {
            Tree::Object(object) => Ok(object),
            other => Err(Error::new(format!("expected a JSON object, found {}", other.what()))),
        }
    }

    /// Whether a field is named in this object.
    #[must_use]
    pub fn has(&self, field: &FieldDescriptor) -> bool {
        self.0
            .iter()
            .any(|(name, _)| name == field.json_name() || name == field.name())
    }

    /// The message that this object is the JSON form of.
    ///
    /// # Errors
    /// As [`super::read`].
    pub fn into_message(self, descriptor: &MessageDescriptor) -> Result<DynamicMessage, Error> {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen: Vec<u32> = Vec::with_capacity(self.0.len());
        for (name, tree) in self.0 {
            let field = descriptor
                .get_field_by_json_name(&name)
                .or_else(|| descriptor.get_field_by_name(&name))
                .ok_or_else(|| Error::new("there is no such field here").within(&shown(&name)))?;
            if seen.contains(&field.number()) {
                return Err(Error::new("given twice, under both its names").within(field.json_name()));
            }
            seen.push(field.number());
            if let Some(oneof) = field.containing_oneof().filter(|_| !matches!(tree, Tree::Null))
                && let Some(other) = oneof.fields().find(|other| message.has_field(other))
            {
                let detail = format!("cannot be given together with `{}`", other.json_name());
                return Err(Error::new(detail).within(field.json_name()));
            }
            let value = field_value(&field, tree).map_err(|error| error.within(field.json_name()))?;
            if let Some(value) = value {
                message.set_field(&field, value);
            }
        }
        Ok(message)
    }
}

impl Tree {
    fn what(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    fn expected(&self, what: &str) -> Error {
        Error::new(format!("expected {what}, found {}", self.what()))
    }
}

fn field_value(field: &FieldDescriptor, tree: Tree) -> Result<Option<Value>, Error> {
    let kind = field.kind();
    match tree {
        // As in every proto JSON reader, null says that the field is not given.
        Tree::Null => Ok(None),
        Tree::List(items) if field.is_list() => {
            let read = |(at, item)| value(&kind, item).map_err(|error: Error| error.within(&format!("[{at}]")));
            let values: Result<_, _> = items.into_iter().enumerate().map(read).collect();
            Ok(Some(Value::List(values?)))
        }
        Tree::Object(object) if field.is_map() => map(&kind, object).map(|map| Some(Value::Map(map))),
        other if field.is_list() => Err(other.expected("an array")),
        other if field.is_map() => Err(other.expected("an object")),
        other => value(&kind, other).map(Some),
    }
}

fn map(kind: &Kind, object: Object) -> Result<HashMap<MapKey, Value>, Error> {
    let Kind::Message(entry) = kind else {
        return Err(Error::new("cannot be read"));
    };
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut values = HashMap::with_capacity(object.0.len());
    for (name, tree) in object.0 {
        let read = scalar(&key_kind, &name)
            .and_then(|key| key.into_map_key().ok_or_else(|| Error::new("cannot be a key")))
            .and_then(|key| Ok((key, value(&value_kind, tree)?)));
        let (key, value) = read.map_err(|error| error.within(&shown(&name)))?;
        values.insert(key, value);
    }
    Ok(values)
}

fn value(kind: &Kind, tree: Tree) -> Result<Value, Error> {
    match (kind, tree) {
        (Kind::Bool, Tree::Bool(value)) => Ok(Value::Bool(value)),
        (Kind::Bool, other) => Err(other.expected("true or false")),
        (Kind::Message(descriptor), tree) if descriptor.full_name() == "google.protobuf.Value" => any(descriptor, tree),
        (Kind::Message(descriptor), Tree::Object(object)) if !known(descriptor) => {
            object.into_message(descriptor).map(Value::Message)
        }
        (Kind::Message(descriptor), other) if !known(descriptor) => Err(other.expected("an object")),
        (Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_), Tree::Text(text)) => scalar(kind, &text),
        (Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_), other) => Err(other.expected("a string")),
        // 64-bit integers may also come as strings, as other proto JSON writers send them.
        (_, Tree::Number(number)) => scalar(kind, &number.to_string()),
        (_, Tree::Text(text)) => scalar(kind, &text),
        (_, other) => Err(other.expected("a number")),
    }
}

/// A value whose kind the request chooses: a number, a text, true, false or null. What holds other values is refused,
/// since nothing in the contract takes it.
fn any(descriptor: &MessageDescriptor, tree: Tree) -> Result<Value, Error> {
    use prost_types::value::Kind as Any;
    let kind = match tree {
        Tree::Null => Any::NullValue(0),
        Tree::Bool(value) => Any::BoolValue(value),
        Tree::Text(text) => Any::StringValue(text),
        Tree::Number(number) => match number.as_f64() {
            Some(number) => Any::NumberValue(number),
            None => return Err(Error::new("the number is too large")),
        },
        other @ (Tree::List(_) | Tree::Object(_)) => return Err(other.expected("a number, a string or null")),
    };
    reflected(descriptor, &prost_types::Value { kind: Some(kind) })
}

/// Whether the message has a JSON form of its own: a string.
fn known(descriptor: &MessageDescriptor) -> bool {
    descriptor.package_name() == "google.protobuf"
}

/// Reads one value of a field from text, as it stands in a JSON string, a path or a query.
///
/// # Errors
/// The text is not a value of that kind.
pub fn scalar(kind: &Kind, text: &str) -> Result<Value, Error> {
    match kind {
        Kind::Bool => number(text, "true or false").map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number(text, "a 32-bit integer").map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number(text, "a 64-bit integer").map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => number(text, "an integer from 0 to 4294967295").map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => number(text, "a non-negative integer").map(Value::U64),
        Kind::Float => number(text, "a number").map(Value::F32),
        Kind::Double => number(text, "a number").map(Value::F64),
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => BASE64_STANDARD
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|_| Error::new("expected base64")),
        Kind::Enum(descriptor) => word(descriptor, text).map(Value::EnumNumber),
        Kind::Message(descriptor) => match descriptor.full_name() {
            "google.protobuf.Timestamp" => prost_types::Timestamp::from_str(text)
                .map_err(|_| Error::new("expected an RFC 3339 time"))
                .and_then(|time| reflected(descriptor, &time)),
            "google.protobuf.Duration" => prost_types::Duration::from_str(text)
                .map_err(|_| Error::new("expected a duration in seconds such as `1.5s`"))
                .and_then(|duration| reflected(descriptor, &duration)),
            _ => Err(Error::new("cannot be given as text")),
        },
    }
}

fn reflected(descriptor: &MessageDescriptor, message: &impl prost::Message) -> Result<Value, Error> {
    let mut dynamic = DynamicMessage::new(descriptor.clone());
    dynamic
        .transcode_from(message)
        .map_err(|error| Error::new(error.to_string()))?;
    Ok(Value::Message(dynamic))
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::new(format!("expected {what}, found `{}`", shown(text))))
}

/// An enum's value by its word, in any case. The zero value cannot be asked for.
fn word(descriptor: &EnumDescriptor, text: &str) -> Result<i32, Error> {
    let found = descriptor
        .values()
        .find(|value| value.number() != 0 && value.name().eq_ignore_ascii_case(text));
    found.map(|value| value.number()).ok_or_else(|| {
        let words: Vec<_> = descriptor
            .values()
            .filter(|v| v.number() != 0)
            .map(|v| v.name().to_owned())
            .collect();
        Error::new(format!("`{}` is none of {}", shown(text), words.join(", ")))
    })
}

/// A caller's text, bounded and printable.
fn shown(text: &str) -> String {
    text.chars()
        .take(SHOWN_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect()
}

/// Reads one value.
#[derive(Clone, Copy)]
struct TreeVisitor<'l> {
    /// How many more there may be.
    left: &'l Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for TreeVisitor<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        let left = self.left.get().checked_sub(1);
        let left = left.ok_or_else(|| D::Error::custom(format_args!("a document has at most {VALUES_MAX} values")))?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TreeVisitor<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut members: Vec<(String, Tree)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = access.next_key::<String>()? {
            let tree = access.next_value_seed(self)?;
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!(
                    "the member `{}` is there twice",
                    shown(&name)
                )));
            }
            members.push((name, tree));
        }
        Ok(Tree::Object(Object(members)))
    }
}

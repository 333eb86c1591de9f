//! Messages to JSON.

use std::collections::BTreeMap;

use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MapKey, ReflectMessage, SerializeOptions, Value};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

/// Serialises a message in the JSON form of the contract.
pub struct Json<'a>(pub &'a DynamicMessage);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.descriptor();
        if descriptor.package_name() == "google.protobuf" {
            // Times and durations have a form of their own, which the library knows.
            let options = SerializeOptions::new().stringify_64_bit_integers(false);
            return self.0.serialize_with_options(serializer, &options);
        }
        let mut map = serializer.serialize_map(None)?;
        for field in descriptor.fields() {
            if field.supports_presence() && !self.0.has_field(&field) {
                continue;
            }
            let value = self.0.get_field(&field);
            if let (Value::EnumNumber(0), Kind::Enum(_)) = (&*value, field.kind()) {
                continue;
            }
            map.serialize_entry(
                field.json_name(),
                &Field {
                    value: &value,
                    kind: &field.kind(),
                },
            )?;
        }
        map.end()
    }
}

struct Field<'a> {
    value: &'a Value,
    kind: &'a Kind,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.collect_str(&Base64Display::new(value, &BASE64_STANDARD)),
            Value::EnumNumber(number) => word(self.kind, *number, serializer),
            Value::Message(message) => Json(message).serialize(serializer),
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Field { value, kind: self.kind })?;
                }
                list.end()
            }
            Value::Map(values) => {
                let Kind::Message(entry) = self.kind else {
                    return Err(S::Error::custom("a map whose kind is not a map entry"));
                };
                let kind = entry.map_entry_value_field().kind();
                // In order of key, so that equal messages are equal texts.
                let sorted: BTreeMap<String, &Value> = values.iter().map(|(k, v)| (key(k), v)).collect();
                let mut map = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    map.serialize_entry(&key, &Field { value, kind: &kind })?;
                }
                map.end()
            }
        }
    }
}

fn word<S: Serializer>(kind: &Kind, number: i32, serializer: S) -> Result<S::Ok, S::Error> {
    match kind.as_enum().and_then(|e: &EnumDescriptor| e.get_value(number)) {
        Some(value) => serializer.serialize_str(value.name()),
        // A value of a newer release: shown as it came.
        None => serializer.serialize_i32(number),
    }
}

fn key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

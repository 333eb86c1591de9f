//! The types a key may have, and how each reads and shows its value.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::document::{Entries, Found, Problems};
use super::settings::{Key, Rule, Section, Setting};

/// A text as a TOML basic string.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn bounded(count: u64, what: &str, rule: &Rule) -> Result<(), String> {
    match rule.bounds {
        Some((min, max)) if count < min || count > max => Err(format!("{what} is outside {min} to {max}")),
        Some(_) | None => Ok(()),
    }
}

fn text<'f>(found: &'f Found<'_>) -> Result<&'f str, String> {
    match found.value {
        DeValue::String(text) => Ok(text),
        other => Err(format!("a text in quotes is expected here, not {}", kind(other))),
    }
}

/// What a value is, for people.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl Setting for u64 {
    fn read(found: &Found<'_>, rule: &Rule, _: &mut Problems) -> Result<Self, String> {
        let DeValue::Integer(integer) = found.value else {
            return Err(format!("a whole number is expected here, not {}", kind(found.value)));
        };
        let digits = integer.as_str().replace('_', "");
        let value = i128::from_str_radix(&digits, integer.radix())
            .map_err(|_| format!("{digits} is not a whole number this program can hold"))?;
        let value = Self::try_from(value).map_err(|_| format!("{value} is outside {rule}: it must not be negative"))?;
        bounded(value, &value.to_string(), rule)?;
        Ok(value)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    fn read(found: &Found<'_>, _: &Rule, _: &mut Problems) -> Result<Self, String> {
        match found.value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(format!("true or false is expected here, not {}", kind(other))),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn read(found: &Found<'_>, rule: &Rule, _: &mut Problems) -> Result<Self, String> {
        let text = text(found)?;
        let length = text.chars().count() as u64;
        bounded(length, &format!("a text of {length} characters"), rule)?;
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        quote(self)
    }
}

impl Setting for PathBuf {
    fn read(found: &Found<'_>, rule: &Rule, _: &mut Problems) -> Result<Self, String> {
        let text = text(found)?;
        if rule.required && text.is_empty() {
            return Err("a path is expected here, not an empty text".to_owned());
        }
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        quote(&self.to_string_lossy())
    }
}

impl Setting for SocketAddr {
    fn read(found: &Found<'_>, _: &Rule, _: &mut Problems) -> Result<Self, String> {
        let text = text(found)?;
        text.parse().map_err(|_| {
            format!(
                "{} is not an address to listen on: give IP and port, like \"127.0.0.1:7401\"",
                quote(text)
            )
        })
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(found: &Found<'_>, rule: &Rule, problems: &mut Problems) -> Result<Self, String> {
        T::read(found, rule, problems).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// A list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl From<&[&str]> for Texts {
    fn from(texts: &[&str]) -> Self {
        Self(texts.iter().map(|&text| text.to_owned()).collect())
    }
}

impl Setting for Texts {
    fn read(found: &Found<'_>, rule: &Rule, problems: &mut Problems) -> Result<Self, String> {
        let DeValue::Array(items) = found.value else {
            return Err(format!("a list of texts is expected here, not {}", kind(found.value)));
        };
        let length = items.len() as u64;
        bounded(length, &format!("a list of {length}"), rule)?;
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            let at = found.place.of(item.span());
            let item = Found {
                value: item.get_ref(),
                place: at,
            };
            texts.push(String::read(&item, &Rule::default(), problems)?);
        }
        Ok(Self(texts))
    }

    fn show(&self) -> String {
        let texts: Vec<_> = self.0.iter().map(|text| quote(text)).collect();
        format!("[{}]", texts.join(", "))
    }
}

/// A list of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl Setting for Paths {
    fn read(found: &Found<'_>, rule: &Rule, problems: &mut Problems) -> Result<Self, String> {
        let texts = Texts::read(found, rule, problems)?;
        Ok(Self(texts.0.into_iter().map(PathBuf::from).collect()))
    }

    fn show(&self) -> String {
        let paths: Vec<_> = self.0.iter().map(|path| quote(&path.to_string_lossy())).collect();
        format!("[{}]", paths.join(", "))
    }
}

/// An array of tables, each with the keys of `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables<T>(pub Vec<T>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Section> Setting for Tables<T> {
    fn read(found: &Found<'_>, rule: &Rule, problems: &mut Problems) -> Result<Self, String> {
        let DeValue::Array(items) = found.value else {
            return Err(format!(
                "an array of tables ([[…]]) is expected here, not {}",
                kind(found.value)
            ));
        };
        let length = items.len() as u64;
        bounded(length, &format!("a list of {length}"), rule)?;
        let mut tables = Vec::with_capacity(items.len());
        for item in items.iter() {
            let at = found.place.of(item.span());
            let DeValue::Table(table) = item.get_ref() else {
                problems.add(
                    &at,
                    format!("a table is expected here, not {}", kind(item.get_ref())),
                    None,
                );
                continue;
            };
            tables.push(T::read(&Entries::of_table(found.path(), table, at), problems));
        }
        Ok(Self(tables))
    }

    fn show(&self) -> String {
        String::new()
    }

    fn is_absent(&self) -> bool {
        true
    }

    fn show_elements(&self) -> Vec<Vec<(&'static str, String)>> {
        self.0.iter().map(Section::show).collect()
    }

    fn element_keys() -> Option<Vec<Key>> {
        Some(T::keys())
    }
}

/// Declares a closed set of words as a setting.
#[macro_export]
#[doc(hidden)]
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$word_meta:meta])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$word_meta])* $variant ),* }

        impl $name {
            /// The word that stands for it in the file.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }
        }

        impl $crate::config::settings::Setting for $name {
            fn read(
                found: &$crate::config::document::Found<'_>,
                _: &$crate::config::settings::Rule,
                _: &mut $crate::config::document::Problems,
            ) -> Result<Self, String> {
                let words = [$($word),*];
                let toml::de::DeValue::String(text) = found.value else {
                    return Err(format!("one of {} is expected here", words.join(", ")));
                };
                match text.as_ref() {
                    $( $word => Ok(Self::$variant), )*
                    other => Err(format!("{other:?} is not one of {}", words.join(", "))),
                }
            }

            fn show(&self) -> String {
                $crate::config::value::quote(self.word())
            }
        }
    };
}

pub use crate::words;

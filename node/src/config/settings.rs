//! What a section of the configuration is made of.
//!
//! [`section!`](crate::config::section) declares a section once: its keys, their documentation, defaults and
//! ranges. From that one place come the Rust struct, its default, the reader that refuses
//! what it does not know, and the text that `config print-default` prints.

use std::fmt;

use super::document::{Entries, Found, Problems};

/// The bounds of one key's value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    /// There is no default: a file that does not give the key is refused.
    pub required: bool,
    /// Smallest and largest accepted value (of a number), or length (of a text or list).
    pub bounds: Option<(u64, u64)>,
}

impl Rule {
    /// Limits a number to `min..=max`, or a text or list to as many characters or items.
    #[must_use]
    pub const fn within(mut self, min: u64, max: u64) -> Self {
        self.bounds = Some((min, max));
        self
    }
}

/// A key that has to be given.
pub const fn required() -> Rule {
    Rule {
        required: true,
        bounds: None,
    }
}

/// A number in `min..=max`, or a text or list of as many characters or items.
pub const fn within(min: u64, max: u64) -> Rule {
    Rule {
        required: false,
        bounds: Some((min, max)),
    }
}

/// One key, as `print-default` and the tests of the documentation see it.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key's name inside its section.
    pub name: &'static str,
    /// Its documentation, one element per line.
    pub docs: &'static [&'static str],
    /// The default (or, of a required key, an example) as TOML.
    pub default: String,
    /// Its bounds.
    pub rule: Rule,
    /// The keys of one element, where the value is an array of tables.
    pub elements: Option<Vec<Key>>,
}

/// A type that a key may have.
pub trait Setting: Sized {
    /// Reads the value. The error says what was expected, without the key's name.
    fn read(found: &Found<'_>, rule: &Rule, problems: &mut Problems) -> Result<Self, String>;

    /// The value as TOML, on one line. Arrays of tables answer an empty text and are shown by
    /// [`Setting::show_elements`].
    fn show(&self) -> String;

    /// For arrays of tables: each element's keys and values.
    fn show_elements(&self) -> Vec<Vec<(&'static str, String)>> {
        Vec::new()
    }

    /// For arrays of tables: the keys of one element.
    fn element_keys() -> Option<Vec<Key>> {
        None
    }

    /// Whether the value is written at all; a missing optional value is not.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Keys and their values as TOML.
pub type Values = Vec<(&'static str, String)>;

/// A section, or one element of an array of tables.
pub trait Section: Default {
    /// The section's documentation, one element per line.
    const DOCS: &'static [&'static str];

    /// Its keys in the order of declaration.
    fn keys() -> Vec<Key>;

    /// Reads every key that `entries` has; unknown and missing ones become problems.
    fn read(entries: &Entries<'_>, problems: &mut Problems) -> Self;

    /// Keys and values as TOML, absent ones left out.
    fn show(&self) -> Values;

    /// Arrays of tables: their key, and each element's keys and values.
    fn show_arrays(&self) -> Vec<(&'static str, Vec<Values>)>;
}

/// Declares a section: `key: Type = default => rule;`, the rule being optional.
#[macro_export]
#[doc(hidden)]
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident : $ty:ty = $default:expr $(=> $rule:expr)? ;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $section {
            $(
                $(#[doc = $doc])*
                pub $key: $ty,
            )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default.into(),)* }
            }
        }

        impl $crate::config::settings::Section for $section {
            const DOCS: &'static [&'static str] = &[$($section_doc),*];

            fn keys() -> Vec<$crate::config::settings::Key> {
                let defaults = Self::default();
                vec![$(
                    $crate::config::settings::Key {
                        name: stringify!($key),
                        docs: &[$($doc),*],
                        default: $crate::config::settings::Setting::show(&defaults.$key),
                        rule: $crate::section!(@rule $($rule)?),
                        elements: <$ty as $crate::config::settings::Setting>::element_keys(),
                    },
                )*]
            }

            fn read(
                entries: &$crate::config::document::Entries<'_>,
                problems: &mut $crate::config::document::Problems,
            ) -> Self {
                entries.refuse_unknown(&[$(stringify!($key)),*], problems);
                let mut section = Self::default();
                $(
                    let rule: $crate::config::settings::Rule = $crate::section!(@rule $($rule)?);
                    if let Some(value) = entries.read(stringify!($key), &rule, problems) {
                        section.$key = value;
                    }
                )*
                section
            }

            fn show(&self) -> Vec<(&'static str, String)> {
                let mut shown = Vec::new();
                $(
                    if !$crate::config::settings::Setting::is_absent(&self.$key) {
                        shown.push((stringify!($key), $crate::config::settings::Setting::show(&self.$key)));
                    }
                )*
                shown
            }

            fn show_arrays(&self) -> Vec<(&'static str, Vec<Vec<(&'static str, String)>>)> {
                let mut shown = Vec::new();
                $(
                    let elements = $crate::config::settings::Setting::show_elements(&self.$key);
                    if !elements.is_empty() {
                        shown.push((stringify!($key), elements));
                    }
                )*
                shown
            }
        }
    };
    (@rule) => { $crate::config::settings::Rule::default() };
    (@rule $rule:expr) => { $rule };
}

pub use crate::section;

/// How a bound reads in documentation and messages.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bounds {
            Some((min, max)) => write!(f, "{min} to {max}"),
            None => f.write_str("any"),
        }
    }
}

//! The file and the environment as one set of sections and keys, each knowing where it was said.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::settings::{Rule, Setting};
use super::value::kind;

/// Environment variables of this form override a key: `MESHKIT_<SECTION>__<KEY>`.
pub const ENV_PREFIX: &str = "MESHKIT_";

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A range of bytes of the file.
    File(Range<usize>),
    /// An environment variable.
    Env(String),
    /// Nowhere: it is missing from a section that the file does not have.
    Nowhere,
}

impl Place {
    /// The place of a part of a value: its own range in a file, else the whole's place.
    pub fn of(&self, span: Range<usize>) -> Self {
        match self {
            Self::File(_) => Self::File(span),
            Self::Env(name) => Self::Env(name.clone()),
            Self::Nowhere => Self::Nowhere,
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// What was found wrong so far. All of it is reported at once.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, place: &Place, message: impl Into<String>, help: Option<String>) {
        self.0.push(Problem {
            place: place.clone(),
            message: message.into(),
            help,
        });
    }
}

/// A value and where it was found.
#[derive(Debug)]
pub struct Found<'d> {
    /// The value as parsed.
    pub value: &'d DeValue<'d>,
    /// Where it stands.
    pub place: Place,
}

impl Found<'_> {
    /// The name under which an element of this value is reported as incomplete.
    pub fn path(&self) -> &'static str {
        "this entry"
    }
}

/// The keys given for one section or one element of an array of tables.
#[derive(Debug)]
pub struct Entries<'d> {
    /// The section's name, for messages.
    name: String,
    /// Where the section begins.
    place: Place,
    keys: BTreeMap<String, (Place, Found<'d>)>,
}

impl<'d> Entries<'d> {
    /// The entries of a table of the file.
    pub fn of_table(name: &str, table: &'d DeTable<'d>, place: Place) -> Self {
        let keys = table.iter().map(|(key, value)| {
            let found = Found {
                value: value.get_ref(),
                place: place.of(value.span()),
            };
            (key.get_ref().to_string(), (place.of(key.span()), found))
        });
        Self {
            name: name.to_owned(),
            keys: keys.collect(),
            place,
        }
    }

    /// A section that nobody wrote.
    pub fn absent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            place: Place::Nowhere,
            keys: BTreeMap::new(),
        }
    }

    fn set(&mut self, key: String, place: Place, value: &'d DeValue<'d>) {
        let found = Found {
            value,
            place: place.clone(),
        };
        self.keys.insert(key, (place, found));
    }

    /// Notes every key that is not in `known`, with the nearest one that is.
    pub fn refuse_unknown(&self, known: &[&str], problems: &mut Problems) {
        for (key, (place, _)) in &self.keys {
            if !known.contains(&key.as_str()) {
                let help = nearest(key, known).map_or_else(
                    || format!("known keys: {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                problems.add(place, format!("unknown key `{key}` in {}", self.name), Some(help));
            }
        }
    }

    /// Reads one key; `None` when it was not given or is wrong, which is then noted.
    pub fn read<T: Setting>(&self, key: &str, rule: &Rule, problems: &mut Problems) -> Option<T> {
        let Some((_, found)) = self.keys.get(key) else {
            if rule.required {
                problems.add(&self.place, format!("`{key}` is missing from {}", self.name), None);
            }
            return None;
        };
        match T::read(found, rule, problems) {
            Ok(value) => Some(value),
            Err(message) => {
                problems.add(&found.place, format!("`{key}`: {message}"), None);
                None
            }
        }
    }

    /// Where a key stands, or its section where the key was not given.
    pub fn place_of(&self, key: &str) -> Place {
        self.keys
            .get(key)
            .map_or_else(|| self.place.clone(), |(_, found)| found.place.clone())
    }
}

/// One environment variable that names a key.
#[derive(Debug)]
struct Variable {
    section: String,
    key: String,
    name: String,
    text: String,
}

/// The environment's overrides.
#[derive(Debug, Default)]
pub struct Overrides(Vec<Variable>);

/// The overrides with their values read: section, key, variable and value.
#[derive(Debug)]
pub struct Values<'o>(Vec<(&'o Variable, DeValue<'o>)>);

impl Overrides {
    /// Takes every variable named `MESHKIT_<SECTION>__<KEY>`.
    pub fn parse(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, text)| {
                let (section, key) = name.strip_prefix(ENV_PREFIX)?.split_once("__")?;
                let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
                Some(Variable {
                    section,
                    key,
                    name,
                    text,
                })
            })
            .collect();
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        Self(variables)
    }

    /// Reads the values. What is not TOML by itself is a text, so that addresses and paths need
    /// no quotes within quotes.
    pub fn values(&self) -> Values<'_> {
        Values(
            self.0
                .iter()
                .map(|variable| (variable, parse_value(&variable.text)))
                .collect(),
        )
    }
}

fn parse_value(text: &str) -> DeValue<'_> {
    match DeValue::parse(text).map(toml::Spanned::into_inner) {
        Ok(value @ (DeValue::Integer(_) | DeValue::Boolean(_) | DeValue::String(_) | DeValue::Array(_))) => value,
        Ok(DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_)) | Err(_) => DeValue::String(text.into()),
    }
}

/// Everything that was said, by section.
#[derive(Debug)]
pub struct Document<'d> {
    sections: BTreeMap<String, Entries<'d>>,
}

impl<'d> Document<'d> {
    /// Joins the file's table with the overrides. Unknown sections become problems.
    pub fn new(table: &'d DeTable<'d>, overrides: &'d Values<'d>, known: &[&str], problems: &mut Problems) -> Self {
        let mut sections: BTreeMap<String, Entries<'d>> = BTreeMap::new();
        for (name, value) in table {
            let place = Place::File(name.span());
            let section = name.get_ref().as_ref();
            if !known.contains(&section) {
                let help = nearest(section, known).map_or_else(
                    || format!("known sections: {}", known.join(", ")),
                    |near| format!("did you mean `[{near}]`?"),
                );
                problems.add(&place, format!("unknown section `[{section}]`"), Some(help));
                continue;
            }
            match value.get_ref() {
                DeValue::Table(table) => {
                    sections.insert(
                        section.to_owned(),
                        Entries::of_table(&format!("[{section}]"), table, place),
                    );
                }
                other => problems.add(&place, format!("`{section}` is a section, not {}", kind(other)), None),
            }
        }
        for (variable, value) in &overrides.0 {
            let Variable {
                section,
                key,
                name,
                text: _,
            } = variable;
            let place = Place::Env(name.clone());
            if !known.contains(&section.as_str()) {
                let help = nearest(section, known).map(|near| format!("did you mean section `{near}`?"));
                problems.add(&place, format!("{section:?} is no section of the configuration"), help);
                continue;
            }
            sections
                .entry(section.clone())
                .or_insert_with(|| Entries::absent(&format!("[{section}]")))
                .set(key.clone(), place, value);
        }
        Self { sections }
    }

    /// Where each element of an array of tables says a key, or the element where it does not.
    pub fn places(&self, section: &str, array: &str, key: &str) -> Vec<Place> {
        let found = self.sections.get(section).and_then(|entries| entries.keys.get(array));
        let Some((_, Found { value, place })) = found else {
            return Vec::new();
        };
        let DeValue::Array(elements) = value else {
            return Vec::new();
        };
        let of_element = |element: &toml::Spanned<DeValue<'d>>| match element.get_ref() {
            DeValue::Table(table) => {
                let said = table.iter().find(|(name, _)| name.get_ref() == key);
                place.of(said.map_or_else(|| element.span(), |(_, value)| value.span()))
            }
            _ => place.of(element.span()),
        };
        elements.iter().map(of_element).collect()
    }

    /// The entries of a section, empty when nobody gave one.
    pub fn take(&mut self, name: &str) -> Entries<'d> {
        self.sections
            .remove(name)
            .unwrap_or_else(|| Entries::absent(&format!("[{name}]")))
    }
}

/// The known word nearest to a mistyped one, if any is near enough to be meant: few letters
/// differ, or only some of its words were left out.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = (word.chars().count() / 3).max(2);
    let shortened = |candidate: &str| {
        let words: Vec<_> = candidate.split('_').collect();
        word.split('_').all(|part| words.contains(&part))
    };
    known
        .iter()
        .map(|&candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= allowed || shortened(candidate))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's edit distance over characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

//! Settings.

use proto::v1;
use statemachine::record::{Config, DEFINITIONS, Definition};

use crate::time;

/// The word that a value stands for; empty where it is a number.
#[must_use]
pub fn choice(definition: &Definition, value: u64) -> String {
    let place = usize::try_from(value).unwrap_or(usize::MAX);
    definition
        .unit
        .choices()
        .get(place)
        .map_or_else(String::new, |&word| word.to_owned())
}

/// Every setting with its value in force. Ranges, defaults and descriptions are this program's.
#[must_use]
pub fn config(config: &Config) -> v1::Config {
    let items = DEFINITIONS.iter().map(|definition| {
        let set = config.overrides.get(definition.name).copied();
        let source = match set {
            Some(_) => v1::setting::Source::Set,
            None => v1::setting::Source::Default,
        };
        let value = set.unwrap_or(definition.default);
        v1::Setting {
            name: definition.name.to_owned(),
            value,
            source: source.into(),
            default: definition.default,
            min: definition.min,
            max: definition.max,
            unit: definition.unit.word().to_owned(),
            doc: definition.doc.to_owned(),
            choice: choice(definition, value),
            default_choice: choice(definition, definition.default),
            choices: definition.unit.choices().iter().map(|&word| word.to_owned()).collect(),
        }
    });
    let meta = &config.meta;
    v1::Config {
        items: items.collect(),
        version: meta.version,
        etag: meta.etag().to_string(),
        changed_revision: meta.changed.revision.0,
        changed_at: Some(time(meta.changed_wall_ms)),
        rollback_of: config.rollback_of.map_or(0, |revision| revision.0),
    }
}

//! The mesh's settings: what operators change while it runs, and what therefore has to be the same on every node.
//!
//! Every setting is one row of [`DEFINITIONS`]: name, range, default and what it is for. Only what differs from the
//! default is stored, so a setting that is added later is there at once, with its default.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::{Rejection, Revision};

/// What a setting is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Milliseconds => "ms",
        }
    }
}

/// One setting that a mesh knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// `limits.peers`
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// In force unless it was set.
    pub default: u64,
    /// The least that may be set.
    pub min: u64,
    /// The most that may be set.
    pub max: u64,
    /// What it does, in one line.
    pub doc: &'static str,
}

macro_rules! settings {
    ($($field:ident: $name:literal, $unit:ident, $default:literal in $min:literal..=$max:literal, $doc:literal;)*) => {
        /// The settings in force.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $doc] pub $field: u64,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// Every setting, by name.
        pub const DEFINITIONS: &[Definition] = &[
            $(Definition { name: $name, unit: Unit::$unit, default: $default, min: $min, max: $max, doc: $doc },)*
        ];

        impl Settings {
            /// What differs from the defaults, as it is stored.
            #[must_use]
            pub fn overrides(&self) -> Overrides {
                let all = [$(($name, self.$field, $default),)*];
                let changed = all.into_iter().filter(|(_, value, default)| value != default);
                changed.map(|(name, value, _)| (name.to_owned(), value)).collect()
            }

            /// The value of a setting, by name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $($name => Some(self.$field),)*
                    _ => None,
                }
            }

            fn set(&mut self, name: &str, value: u64) {
                match name {
                    $($name => self.$field = value,)*
                    // Set by a later program and then left behind by going back to this one.
                    _ => {}
                }
            }
        }
    };
}

settings! {
    peers_max: "limits.peers", Count, 10_000 in 1..=1_000_000,
        "The most peers.";
    clusters_max: "limits.clusters", Count, 64 in 1..=1_000,
        "The most clusters.";
    operations_running_max: "limits.operations_running", Count, 1_000 in 1..=100_000,
        "The most operations that run at once.";
    operations_max: "limits.operations", Count, 10_000 in 1..=1_000_000,
        "The most operations that are kept, ended ones included. Their history stays when they go.";
    idempotency_keys_per_principal_max: "limits.idempotency_keys_per_principal", Count, 1_800_000 in 100..=10_000_000,
        "The most idempotency keys that are remembered of one principal; 60 s at 30,000 writes a second.";
    idempotency_keys_max: "limits.idempotency_keys", Count, 4_000_000 in 100..=20_000_000,
        "The most idempotency keys that are remembered of all principals together.";
    idempotency_ulid_ttl_ms: "retention.idempotency_ulid", Milliseconds, 60_000 in 60_000..=3_600_000,
        "How long an idempotency key that is a ULID is remembered, in mesh time.";
    idempotency_key_ttl_ms: "retention.idempotency_key", Milliseconds, 900_000 in 60_000..=86_400_000,
        "How long any other idempotency key is remembered, in mesh time.";
    history_ms: "retention.history", Milliseconds, 0 in 0..=315_360_000_000,
        "How long history and audit are kept, in mesh time; 0 keeps them until they are compacted by hand.";
    history_revisions: "retention.history_revisions", Count, 0 in 0..=1_000_000_000_000,
        "How many revisions of history and audit are kept; 0 keeps them until they are compacted by hand.";
    clock_offset_max_ms: "policy.clock_offset", Milliseconds, 1_000 in 50..=600_000,
        "How far a node's clock may be from the cluster's before it raises CLOCK and does not lead.";
    learner_lag_max: "policy.learner_lag", Count, 1_000 in 0..=1_000_000,
        "The most log entries that a learner may be behind to be made a voter.";
}

/// Settings that were set: name and value.
pub type Overrides = BTreeMap<String, u64>;

impl Settings {
    /// The settings that overrides come to.
    #[must_use]
    pub fn of(overrides: &Overrides) -> Self {
        let mut settings = Self::default();
        for (name, value) in overrides {
            settings.set(name, *value);
        }
        settings
    }
}

/// The definition of a setting.
#[must_use]
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

impl Definition {
    /// Checks a value against the range.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] naming the setting and its range.
    pub fn check(&self, value: u64) -> Result<(), Rejection> {
        if (self.min..=self.max).contains(&value) {
            return Ok(());
        }
        let (name, min, max, unit) = (self.name, self.min, self.max, self.unit.word());
        let why = format!("`{name}` takes {min} to {max} ({unit}), not {value}");
        Err(Rejection::invalid("settings", why))
    }
}

/// The one record of settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// What was set.
    pub overrides: Overrides,
    /// The revision that this version goes back to, where it is a rollback.
    pub rollback_of: Option<Revision>,
    /// Changes of the record.
    pub meta: Meta,
}

impl Config {
    /// The id of the one record.
    pub const ID: &str = "mesh";

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::new(Settings::of(&self.overrides))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_range() {
        for definition in DEFINITIONS {
            assert_eq!(definition.check(definition.default), Ok(()), "{}", definition.name);
            assert!(definition.doc.ends_with('.'), "{}", definition.name);
        }
    }

    #[test]
    fn overrides_are_what_differs() {
        assert!(Settings::default().overrides().is_empty());
        let settings = Settings {
            peers_max: 5,
            ..Settings::default()
        };
        let overrides = settings.overrides();
        assert_eq!(overrides, Overrides::from([("limits.peers".to_owned(), 5)]));
        assert_eq!(Settings::of(&overrides), settings);
        assert_eq!(settings.get("limits.peers"), Some(5));
    }
}

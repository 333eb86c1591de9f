//! The mesh's settings: what operators change while it runs, and what therefore has to be the same on every node.
//!
//! Every setting is one row of [`DEFINITIONS`]: name, range, default and what it is for. Only what differs from the
//! default is stored, so a setting that is added later is there at once, with its default.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Approvers, Meta};
use crate::{Rejection, Revision};

/// What a setting is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Hundredths of a whole.
    Percent,
    /// One of a few words, by its place among [`Unit::choices`].
    Approvers,
}

impl Unit {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Milliseconds => "ms",
            Self::Percent => "percent",
            Self::Approvers => "choice",
        }
    }

    /// The words that a value is the place of; none where it is a number.
    #[must_use]
    pub const fn choices(self) -> &'static [&'static str] {
        match self {
            Self::Count | Self::Milliseconds | Self::Percent => &[],
            Self::Approvers => &Approvers::WORDS,
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
    /// The feature level that it came with: below it, there is no such setting.
    pub level: u32,
}

macro_rules! settings {
    ($(level $level:literal {
        $($field:ident: $name:literal, $unit:ident, $default:literal in $min:literal..=$max:literal, $doc:literal;)*
    })*) => {
        /// The settings in force.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $doc] pub $field: u64,)*)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($($field: $default,)*)* }
            }
        }

        /// Every setting, by name.
        pub const DEFINITIONS: &[Definition] = &[
            $($(Definition {
                name: $name,
                unit: Unit::$unit,
                default: $default,
                min: $min,
                max: $max,
                doc: $doc,
                level: $level,
            },)*)*
        ];

        impl Settings {
            /// What differs from the defaults, as it is stored.
            #[must_use]
            pub fn overrides(&self) -> Overrides {
                let all = [$($(($name, self.$field, $default),)*)*];
                let changed = all.into_iter().filter(|(_, value, default)| value != default);
                changed.map(|(name, value, _)| (name.to_owned(), value)).collect()
            }

            /// The value of a setting, by name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $($($name => Some(self.$field),)*)*
                    _ => None,
                }
            }

            fn set(&mut self, name: &str, value: u64) {
                match name {
                    $($($name => self.$field = value,)*)*
                    // Set by a later program and then left behind by going back to this one.
                    _ => {}
                }
            }
        }
    };
}

settings! {
    level 1 {
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
    level 2 {
        approvals_pending_max: "limits.approvals_pending", Count, 1_000 in 1..=10_000,
            "The most requests that wait for approval at once.";
        approvals_max: "limits.approvals", Count, 2_000 in 1..=100_000,
            "The most requests for approval that are kept, ended ones included. Their history stays when they go.";
        approvals_ttl_ms: "approvals.ttl", Milliseconds, 86_400_000 in 60_000..=2_592_000_000,
            "How long a request waits for approval, in mesh time.";
        drain_peers_max: "limits.drain_peers", Count, 200 in 1..=500,
            "The most peers that one operation drains.";
        drain_at_once_max: "limits.drain_at_once", Count, 50 in 1..=200,
            "The most peers that one operation drains at the same time.";
        peers_active_min: "policy.peers_active_min", Count, 0 in 0..=1_000_000,
            "The fewest active peers that a drain leaves in a cluster, unless forced; draining several leaves one at least.";
        namespaces_max: "limits.namespaces", Count, 1_000 in 1..=100_000,
            "The most namespaces.";
        shards_max: "limits.shards", Count, 200_000 in 1..=5_000_000,
            "The most shards of all namespaces together.";
        moves_max: "limits.moves", Count, 256 in 1..=100_000,
            "The most shards that move at the same time.";
        moves_per_peer_max: "limits.moves_per_peer", Count, 16 in 1..=10_000,
            "The most shards that move from or to one peer at the same time.";
        presence_lease_ms: "presence.lease", Milliseconds, 10_000 in 1_000..=60_000,
            "How long a peer may serve after a heartbeat that was answered, counted from when it sent it.";
        presence_suspect_after_ms: "presence.suspect_after", Milliseconds, 5_000 in 500..=600_000,
            "How long a peer may be silent before it is suspected; it is dead when its lease has run out as well.";
        presence_drift_ms: "presence.drift", Milliseconds, 1_000 in 100..=60_000,
            "By how much a peer's clock and the leader's may run apart during a lease.";
        presence_steady_beats: "presence.steady_beats", Count, 2 in 1..=100,
            "How many heartbeats in a row, none of them late, make a peer alive.";
        presence_silent_percent_max: "presence.silent_percent", Percent, 30 in 0..=100,
            "While more than this share of the peers is silent at once, in percent, nobody is declared dead.";
        approve_peers_drain_forced: "approvals.peers.drain_forced", Approvers, 0 in 0..=3,
            "Who has to agree to the forced drain of a peer.";
        approve_peers_drain_many: "approvals.peers.drain_many", Approvers, 0 in 0..=3,
            "Who has to agree to the drain of several peers by one request.";
        approve_peers_drain_many_forced: "approvals.peers.drain_many_forced", Approvers, 0 in 0..=3,
            "Who has to agree to the forced drain of several peers.";
        approve_peers_drain: "approvals.peers.drain", Approvers, 0 in 0..=3,
            "Who has to agree to the drain of a peer.";
        approve_peers_deregister: "approvals.peers.deregister", Approvers, 0 in 0..=3,
            "Who has to agree to the removal of a peer.";
        approve_clusters_apply: "approvals.clusters.apply", Approvers, 0 in 0..=3,
            "Who has to agree to a cluster's descriptor.";
        approve_clusters_promote: "approvals.clusters.promote", Approvers, 0 in 0..=3,
            "Who has to agree to making a cluster the active one.";
        approve_clusters_demote: "approvals.clusters.demote", Approvers, 0 in 0..=3,
            "Who has to agree to making the active cluster passive.";
        approve_namespaces_create: "approvals.namespaces.create", Approvers, 0 in 0..=3,
            "Who has to agree to a new namespace.";
        approve_namespaces_delete: "approvals.namespaces.delete", Approvers, 0 in 0..=3,
            "Who has to agree to taking a namespace away.";
        approve_namespaces_delete_forced: "approvals.namespaces.delete_forced", Approvers, 0 in 0..=3,
            "Who has to agree to taking a namespace away although its shards are served.";
        approve_shards_move: "approvals.shards.move", Approvers, 0 in 0..=3,
            "Who has to agree to moving a shard by hand.";
        approve_config_set: "approvals.config.set", Approvers, 0 in 0..=3,
            "Who has to agree to a change of settings.";
        approve_config_rollback: "approvals.config.rollback", Approvers, 0 in 0..=3,
            "Who has to agree to going back to earlier settings.";
        approve_history_compact: "approvals.history.compact", Approvers, 0 in 0..=3,
            "Who has to agree to letting go of history.";
        approve_upgrade_finalize: "approvals.upgrade.finalize", Approvers, 0 in 0..=3,
            "Who has to agree to raising the feature level.";
    }
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

/// The definition of a setting, whatever feature level it came with.
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
        let why = match self.unit.choices() {
            [] => format!("`{name}` takes {min} to {max} ({unit}), not {value}"),
            words => format!("`{name}` takes {}, not {value}", words.join(", ")),
        };
        Err(Rejection::invalid("settings", why))
    }
}

impl Settings {
    /// Who has to agree to an action, by its name in the audit trail; nobody where there is no such setting.
    #[must_use]
    pub fn approvers(&self, action: &str) -> Approvers {
        let value = self.get(&format!("{APPROVALS}{action}"));
        value.map_or(Approvers::None, Approvers::of)
    }
}

/// What the names of settings begin with that say who has to agree to an action.
const APPROVALS: &str = "approvals.";

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
            let choices = definition.unit.choices().len() as u64;
            assert!(choices == 0 || definition.max + 1 == choices, "{}", definition.name);
        }
    }

    #[test]
    fn who_has_to_agree_is_found_by_the_action() {
        let settings = Settings {
            approve_config_set: 3,
            ..Settings::default()
        };
        assert_eq!(settings.approvers("config.set"), Approvers::TwoAdmins);
        for action in ["peers.drain", "peers.cordon", "ttl.", ""] {
            assert_eq!(settings.approvers(action), Approvers::None, "{action}");
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

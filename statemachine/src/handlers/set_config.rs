//! `config.set`

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, MeshState, Record, Rejection, Revision, View,
    record::{Config, Kind, Meta, Overrides, definition},
};

/// Sets settings, and returns others to their defaults. Those that are not named stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetConfig {
    /// Settings to set.
    pub set: Overrides,
    /// Settings to return to their defaults.
    pub reset: Vec<String>,
}

impl Handler for SetConfig {
    fn action(&self) -> &'static str {
        "config.set"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Config, Config::ID.to_owned()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let mut overrides = view
            .mesh
            .config()
            .map(|config| config.overrides.clone())
            .unwrap_or_default();
        for name in &self.reset {
            known(name)?;
            if self.set.contains_key(name) {
                let why = format!("`{name}` is to be set and reset at once");
                return Err(Rejection::invalid("settings", why));
            }
            overrides.remove(name);
        }
        for (name, value) in &self.set {
            overrides.insert(name.clone(), *value);
        }
        put(view.mesh, overrides, None)
    }
}

/// Goes back to the settings of an earlier version, which whoever proposes it read from the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackConfig {
    /// The revision at which that version came about.
    pub to: Revision,
    /// What was set in it.
    pub overrides: Overrides,
}

impl Handler for RollbackConfig {
    fn action(&self) -> &'static str {
        "config.rollback"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Config, Config::ID.to_owned()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        put(view.mesh, self.overrides.clone(), Some(self.to))
    }
}

fn known(name: &str) -> Result<&'static crate::record::Definition, Rejection> {
    definition(name).ok_or_else(|| {
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        Rejection::invalid("settings", format!("there is no setting `{shown}`"))
    })
}

/// Checks every setting, drops what is as by default, and puts the record in place where something differs.
fn put(mesh: &MeshState, mut overrides: Overrides, rollback_of: Option<Revision>) -> Result<Effects, Rejection> {
    for (name, value) in &overrides {
        known(name)?.check(*value)?;
    }
    overrides.retain(|name, value| definition(name).is_some_and(|definition| definition.default != *value));
    let before = mesh.config().map(|config| config.overrides.clone()).unwrap_or_default();
    if overrides == before {
        return Ok(Effects::unchanged());
    }
    let names = crate::record::DEFINITIONS.iter().map(|definition| definition.name);
    let names = names.filter(|name| before.get(*name) != overrides.get(*name));
    let names = names.map(str::to_owned).collect();
    let after = Config {
        overrides,
        rollback_of,
        meta: Meta::default(),
    };
    Ok(Effects::default()
        .put(Record::Config(after.into()))
        .event(Event::ConfigChanged { names }))
}

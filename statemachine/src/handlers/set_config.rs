//! `config.set`

use serde::{Deserialize, Serialize};

use crate::{
    Effects, Event, Handler, MeshState, Record, Rejection, Revision, Rule, View, check,
    record::{Approvers, Config, DEFINITIONS, Definition, Kind, Meta, Overrides, SettingUnit, definition},
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

    fn approvers(&self, mesh: &MeshState) -> Approvers {
        let weakened = weakened(mesh, |name| match self.set.get(name) {
            Some(value) => Some(*value),
            None if self.reset.iter().any(|reset| reset == name) => None,
            None => before(mesh).get(name).copied(),
        });
        weakened.max(mesh.settings().approvers(self.action()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::SETTINGS_KNOWN]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        put(view, self.merged(view.mesh), None)
    }
}

impl SetConfig {
    /// What would be set afterwards.
    fn merged(&self, mesh: &MeshState) -> Result<Overrides, Rejection> {
        let mut overrides = before(mesh).clone();
        for name in &self.reset {
            known(name, mesh)?;
            if self.set.contains_key(name) {
                let why = format!("`{name}` is to be set and reset at once");
                return Err(Rejection::invalid("settings", why));
            }
            overrides.remove(name);
        }
        for (name, value) in &self.set {
            overrides.insert(name.clone(), *value);
        }
        Ok(overrides)
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

    fn approvers(&self, mesh: &MeshState) -> Approvers {
        let weakened = weakened(mesh, |name| self.overrides.get(name).copied());
        weakened.max(mesh.settings().approvers(self.action()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::SETTINGS_KNOWN]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        put(view, Ok(self.overrides.clone()), Some(self.to))
    }
}

/// What is set now.
fn before(mesh: &MeshState) -> &Overrides {
    static NOTHING: Overrides = Overrides::new();
    mesh.config().map_or(&NOTHING, |config| &config.overrides)
}

/// What the strictest rule on approvals asks for that would ask for less afterwards: changing the rules falls under the
/// rules that are replaced. `after` is what would be set.
fn weakened(mesh: &MeshState, after: impl Fn(&str) -> Option<u64>) -> Approvers {
    let rules = DEFINITIONS
        .iter()
        .filter(|definition| definition.unit == SettingUnit::Approvers);
    let weaker = rules.filter_map(|rule| {
        let now = Approvers::of(mesh.settings().get(rule.name)?);
        let then = Approvers::of(after(rule.name).unwrap_or(rule.default));
        (then < now).then_some(now)
    });
    weaker.max().unwrap_or(Approvers::None)
}

/// The setting, or the refusal that says there is none. One of a later feature level is not there yet.
fn known(name: &str, mesh: &MeshState) -> Result<&'static Definition, Rejection> {
    let found = definition(name).filter(|definition| definition.level <= mesh.feature_level());
    found.ok_or_else(|| {
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        Rejection::invalid("settings", format!("there is no setting `{shown}`"))
    })
}

/// Checks every setting, drops what is as by default, and puts the record in place where something differs.
fn put(
    view: &View<'_>,
    overrides: Result<Overrides, Rejection>,
    rollback_of: Option<Revision>,
) -> Result<Effects, Rejection> {
    let mesh = view.mesh;
    let checked = overrides.and_then(|overrides| {
        for (name, value) in &overrides {
            known(name, mesh)?.check(*value)?;
        }
        Ok(overrides)
    });
    view.check_form(
        check::SETTINGS_KNOWN,
        checked.as_ref().map(|_| ()).map_err(Clone::clone),
    )?;
    let mut overrides = checked?;
    overrides.retain(|name, value| definition(name).is_some_and(|definition| definition.default != *value));
    let before = before(mesh);
    if overrides == *before {
        return Ok(Effects::unchanged());
    }
    let names = DEFINITIONS.iter().map(|definition| definition.name);
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

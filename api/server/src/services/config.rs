//! `ConfigService`

use proto::v1::{self, config_service_server::ConfigService};
use raft::Consistency;
use statemachine::{
    Record, Recorded, Rejection, Revision, RollbackConfig, SetConfig,
    record::{Config, Kind, Overrides, SettingUnit, definition},
};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, convert, cursor::Filter, history::Wanted, listing::Page};

#[tonic::async_trait]
impl ConfigService for Api {
    async fn get_config(&self, request: Request<v1::GetConfigRequest>) -> Result<Response<v1::Config>, Status> {
        self.answer(request, async |received: Received<v1::GetConfigRequest>| {
            let view = self.view(&received).await?;
            let mesh = &view.state().mesh;
            let config = mesh.config().ok_or_else(|| Error::not_found("config", Config::ID))?;
            Ok(self.record(mesh.position().revision, config.meta.etag(), convert::config(config)))
        })
        .await
    }

    async fn patch_config(&self, request: Request<v1::PatchConfigRequest>) -> Result<Response<v1::Config>, Status> {
        let current = self.core.handle.view().state().mesh.feature_level();
        let command = move |message: v1::PatchConfigRequest| {
            let mut command = SetConfig {
                set: Overrides::new(),
                reset: Vec::new(),
            };
            for (name, value) in message.settings {
                // Apply says that there is no such setting, which is no help to somebody who sees it in the list.
                if let Some(needed) = definition(&name)
                    .map(|found| found.level)
                    .filter(|needed| *needed > current)
                {
                    return Err(Rejection::FeatureLevelTooLow { needed, current }.into());
                }
                match number(&name, value)? {
                    Some(value) => drop(command.set.insert(name, value)),
                    None => command.reset.push(name),
                }
            }
            if command.set.is_empty() && command.reset.is_empty() {
                return Err(Error::invalid("settings", "name at least one setting"));
            }
            Ok(command.into())
        };
        self.core.mutate(request, command).await
    }

    async fn list_config_versions(
        &self,
        request: Request<v1::ListConfigVersionsRequest>,
    ) -> Result<Response<v1::ListConfigVersionsResponse>, Status> {
        self.answer(request, |received| self.list_config_versions_page(received))
            .await
    }

    async fn rollback_config(
        &self,
        request: Request<v1::RollbackConfigRequest>,
    ) -> Result<Response<v1::Config>, Status> {
        let call = crate::context::Call::of(&request)?;
        let to = Revision(request.get_ref().to_revision);
        let overrides = self.config_at(&call, to).await;
        let overrides = overrides.map_err(|error| error.into_status(&call.request_id))?;
        self.core
            .mutate(request, |_| Ok(RollbackConfig { to, overrides }.into()))
            .await
    }
}

impl Api {
    /// What was set at a revision.
    async fn config_at(&self, call: &crate::context::Call, to: Revision) -> Result<Overrides, Error> {
        let view = self.core.handle.read(Consistency::Linearizable, call.deadline).await?;
        let newest = view.position().revision;
        if to.0 == 0 || to > newest {
            let why = format!("name a revision from 1 to {newest}; `mesh config history` shows which there are");
            return Err(Error::invalid("toRevision", why));
        }
        let read = move |_: &Wanted| Ok(view.record_at(Kind::Config, Config::ID, to)?);
        match self.core.history.read(&call.request_id, call.deadline, read).await? {
            Some(Record::Config(config)) => Ok(config.overrides.clone()),
            _ => Err(Error::not_found("config", Config::ID)),
        }
    }

    async fn list_config_versions_page(
        &self,
        received: Received<v1::ListConfigVersionsRequest>,
    ) -> Result<Response<v1::ListConfigVersionsResponse>, Error> {
        let v1::ListConfigVersionsRequest { limit, cursor } = &received.message;
        let filter = Filter::new("ListConfigVersions", &[]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let below = match page.after.as_deref() {
            None => page.revision().next(),
            Some(text) => Revision(
                text.parse()
                    .map_err(|_| Error::invalid("cursor", "is not one of ours"))?,
            ),
        };
        let (view, most) = (page.view.clone(), page.limit.saturating_add(1));
        let read = move |wanted: &Wanted| {
            let mut versions = Vec::new();
            for revision in view.changes_before(Kind::Config, Config::ID, below, most)? {
                if wanted.is_over() {
                    break;
                }
                versions.extend(view.unit(revision)?.as_deref().and_then(version));
            }
            Ok(versions)
        };
        let call = &received.call;
        let found: Vec<v1::ConfigVersion> = self.core.history.read(&call.request_id, call.deadline, read).await?;
        let (items, next_cursor) = page.fill(&self.core, None, found.into_iter(), |last| last.revision.to_string());
        let mesh = &page.view.state().mesh;
        let answer = v1::ListConfigVersionsResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(mesh),
        };
        Ok(self.page(&page, answer))
    }
}

/// The version that a revision made of the settings.
fn version(recorded: &Recorded) -> Option<v1::ConfigVersion> {
    let unit = &recorded.unit;
    let change = unit
        .changes()
        .iter()
        .find(|change| change.key().is_some_and(|(kind, _)| kind == Kind::Config))?;
    let of = |record: &Option<Record>| match record {
        Some(Record::Config(config)) => Some(config.clone()),
        _ => None,
    };
    let after = of(&change.after)?;
    let before = of(&change.before).map(|before| before.settings()).unwrap_or_default();
    let settings = after.settings();
    let changes = statemachine::record::DEFINITIONS.iter().filter_map(|definition| {
        let (before, after) = (before.get(definition.name)?, settings.get(definition.name)?);
        (before != after).then(|| v1::config_version::Change {
            name: definition.name.to_owned(),
            before,
            after,
            before_choice: convert::choice(definition, before),
            after_choice: convert::choice(definition, after),
            unit: definition.unit.word().to_owned(),
        })
    });
    Some(v1::ConfigVersion {
        revision: unit.position.revision.0,
        version: after.meta.version,
        changed_at: Some(convert::time(after.meta.changed_wall_ms)),
        actor: unit.origin.actor.clone(),
        reason: unit.origin.reason.clone(),
        ticket: unit.origin.ticket.clone(),
        changes: changes.collect(),
        rollback_of: after.rollback_of.map_or(0, |revision| revision.0),
    })
}

/// A setting's value as a whole number; none for null, which stands for the default.
fn number(name: &str, value: prost_types::Value) -> Result<Option<u64>, Error> {
    use prost_types::value::Kind as Value;
    let wrong = |why: &str| Err(Error::invalid("settings", format!("`{name}`: {why}")));
    let Some(found) = definition(name) else {
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        let why = format!("there is no setting `{shown}`; `mesh config list` shows which there are");
        return Err(Error::invalid("settings", why));
    };
    let choices = found.unit.choices();
    match value.kind {
        Some(Value::NullValue(_)) => Ok(None),
        Some(Value::StringValue(text)) if !choices.is_empty() => {
            match choices.iter().position(|word| word.eq_ignore_ascii_case(&text)) {
                Some(place) => Ok(Some(place as u64)),
                None => wrong(&format!("one of {} is needed", choices.join(", "))),
            }
        }
        Some(_) if !choices.is_empty() => wrong(&format!("one of {} is needed", choices.join(", "))),
        Some(Value::NumberValue(number)) => match whole(number) {
            Some(number) => Ok(Some(number)),
            None => wrong("a whole number from 0 to 2^53-1 is needed"),
        },
        Some(Value::StringValue(text)) => {
            let milliseconds = found.unit == SettingUnit::Milliseconds;
            match text
                .parse()
                .ok()
                .or_else(|| milliseconds.then(|| duration_ms(&text)).flatten())
            {
                Some(number) => Ok(Some(number)),
                None if milliseconds => wrong("a number of ms or a duration such as 15m is needed"),
                None => wrong("a whole number is needed"),
            }
        }
        Some(Value::BoolValue(_) | Value::StructValue(_) | Value::ListValue(_)) | None => {
            wrong("a whole number is needed")
        }
    }
}

/// JSON's numbers are floating-point ones: whole, and small enough to be exact.
fn whole(number: f64) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, not negative and below 2^53"
    )]
    ((0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

/// `250ms`, `30s`, `15m`, `2h`, `7d`, and sums of them: `1h30m`.
fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_whole_numbers_durations_or_null() {
        let value = |kind| prost_types::Value { kind: Some(kind) };
        use prost_types::value::Kind as Value;
        let ms = "retention.history";
        for (name, given, expected) in [
            ("limits.peers", Value::NumberValue(7.0), Some(Some(7))),
            ("limits.peers", Value::NumberValue(7.5), None),
            ("limits.peers", Value::NumberValue(-1.0), None),
            ("limits.peers", Value::NumberValue(1e300), None),
            ("limits.peers", Value::NumberValue(f64::NAN), None),
            ("limits.peers", Value::StringValue("12".into()), Some(Some(12))),
            ("limits.peers", Value::StringValue("15m".into()), None),
            ("limits.peers", Value::BoolValue(true), None),
            ("limits.peers", Value::NullValue(0), Some(None)),
            (ms, Value::StringValue("15m".into()), Some(Some(900_000))),
            (ms, Value::StringValue("2d".into()), Some(Some(172_800_000))),
            (ms, Value::StringValue("99999999999999999999d".into()), None),
            (ms, Value::StringValue("1h30m".into()), Some(Some(5_400_000))),
            (ms, Value::StringValue("5 m".into()), None),
            (ms, Value::StringValue("5m3".into()), None),
            (ms, Value::StringValue("m".into()), None),
            (
                "approvals.peers.drain",
                Value::StringValue("none".into()),
                Some(Some(0)),
            ),
            (
                "approvals.peers.drain",
                Value::StringValue("Two_Admins".into()),
                Some(Some(3)),
            ),
            ("approvals.peers.drain", Value::StringValue("2".into()), None),
            ("approvals.peers.drain", Value::NumberValue(2.0), None),
            ("approvals.peers.drain", Value::NullValue(0), Some(None)),
            (ms, Value::StringValue(String::new()), None),
        ] {
            assert_eq!(number(name, value(given.clone())).ok(), expected, "{name} {given:?}");
        }
        for given in [Value::BoolValue(true), Value::NumberValue(1.0), Value::NullValue(0)] {
            let refused = number("policy.nothing", value(given)).unwrap_err();
            assert!(refused.to_string().contains("there is no setting"), "{refused}");
        }
    }
}

//! What the names in client certificates stand for: `[[auth.binding]]` of the node's configuration.

use std::{collections::HashMap, sync::Arc};

use proto::methods::Scope;

use super::{Principal, Proof};

/// One binding of certificates to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The SPIFFE id, or the beginning of some with `*` at the end: `spiffe://mesh-1/client/*`.
    pub matches: String,
    /// The subject that they stand for; the SPIFFE id itself where empty.
    pub subject: String,
    /// Scopes by name: `mesh.read`.
    pub scopes: Vec<String>,
}

/// Why a binding makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("binding of `{matches}`: {why}")]
pub struct InvalidBinding {
    /// The binding.
    pub matches: String,
    /// What is wrong with it.
    pub why: String,
}

/// All bindings, ready to be looked up. An exact match wins over prefixes, a longer prefix over shorter ones.
pub(super) struct Bindings {
    exact: HashMap<String, Arc<Principal>>,
    prefixes: Vec<(String, Arc<Principal>)>,
}

impl Bindings {
    pub(super) fn new(bindings: &[Binding]) -> Result<Self, InvalidBinding> {
        let mut exact = HashMap::new();
        let mut prefixes: Vec<(String, Arc<Principal>)> = Vec::new();
        for binding in bindings {
            let wrong = |why: String| InvalidBinding {
                matches: binding.matches.clone(),
                why,
            };
            if !binding.matches.starts_with("spiffe://") {
                return Err(wrong("must start with `spiffe://`".to_owned()));
            }
            let principal = Arc::new(Principal {
                subject: binding.subject.clone(),
                scope: highest(&binding.scopes).map_err(wrong)?,
                proof: Proof::Certificate,
                expires_s: None,
            });
            let twice = match binding.matches.strip_suffix('*') {
                Some(prefix) if prefix.ends_with('/') => {
                    let twice = prefixes.iter().any(|(other, _)| other == prefix);
                    prefixes.push((prefix.to_owned(), principal));
                    twice
                }
                Some(_) => return Err(wrong("`*` may only follow a `/`".to_owned())),
                None => exact.insert(binding.matches.clone(), principal).is_some(),
            };
            if twice {
                return Err(wrong("is there twice".to_owned()));
            }
        }
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Self { exact, prefixes })
    }

    /// The caller that a certificate's name stands for.
    pub(super) fn principal(&self, uri: &str) -> Option<Arc<Principal>> {
        let by_prefix = || {
            self.prefixes
                .iter()
                .find(|(prefix, _)| uri.starts_with(prefix))
                .map(|(_, found)| found)
        };
        let found = self.exact.get(uri).or_else(by_prefix)?;
        if found.subject.is_empty() {
            return Some(Arc::new(Principal {
                subject: uri.to_owned(),
                ..Principal::clone(found)
            }));
        }
        Some(Arc::clone(found))
    }
}

fn highest(names: &[String]) -> Result<Option<Scope>, String> {
    let mut highest = None;
    for name in names {
        let scope = Scope::parse(name).ok_or_else(|| format!("`{name}` is no scope"))?;
        highest = highest.max(Some(scope));
    }
    Ok(highest)
}

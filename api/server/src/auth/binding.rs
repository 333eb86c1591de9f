//! What the names in client certificates stand for: `[[auth.binding]]` of the node's configuration.

use std::sync::Arc;

use proto::methods::Scope;
use statemachine::MeshId;

use super::{Principal, Proof};

/// One binding of certificates to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The SPIFFE id, beginning with `spiffe://<this mesh>/`. A segment that is `*` stands for exactly one segment,
    /// whichever, that is not empty: `spiffe://mesh-1/client/*`.
    pub matches: String,
    /// The subject that they stand for; the SPIFFE id itself where empty.
    pub subject: String,
    /// Scopes by name: `mesh.read`.
    pub scopes: Vec<String>,
}

impl Binding {
    /// Whether `matches` could be a pattern in the configuration of a node of this mesh.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn check_pattern(mesh: &str, matches: &str) -> Result<(), String> {
        segments(mesh, matches).map(drop)
    }
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

/// One segment of a pattern. What is written out goes before what stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Exactly(String),
    Any,
}

/// All bindings, ready to be looked up. Where several match, that counts which is the first to write out a segment
/// where the other has `*`.
pub(super) struct Bindings {
    /// `spiffe://<mesh>/`
    mesh: String,
    patterns: Vec<(Vec<Segment>, Arc<Principal>)>,
}

impl Bindings {
    pub(super) fn new(mesh: &MeshId, bindings: &[Binding]) -> Result<Self, InvalidBinding> {
        let mut patterns: Vec<(Vec<Segment>, Arc<Principal>)> = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let wrong = |why: String| InvalidBinding {
                matches: binding.matches.clone(),
                why,
            };
            let pattern = segments(mesh.as_str(), &binding.matches).map_err(wrong)?;
            if patterns.iter().any(|(other, _)| *other == pattern) {
                return Err(wrong("is there twice".to_owned()));
            }
            let principal = Arc::new(Principal {
                subject: binding.subject.clone(),
                scope: highest(&binding.scopes).map_err(wrong)?,
                proof: Proof::Certificate,
                expires_s: None,
            });
            patterns.push((pattern, principal));
        }
        // Of two that match the same name, the order of their segments decides, from the left.
        patterns.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self {
            mesh: prefix(mesh.as_str()),
            patterns,
        })
    }

    /// The caller that a certificate's name stands for, until the certificate ends.
    pub(super) fn principal(&self, uri: &str, expires_s: Option<u64>) -> Option<Arc<Principal>> {
        let path: Vec<&str> = uri.strip_prefix(&self.mesh)?.split('/').collect();
        let matches = |pattern: &[Segment]| {
            pattern.len() == path.len()
                && pattern.iter().zip(&path).all(|(wanted, found)| match wanted {
                    Segment::Exactly(wanted) => wanted == found,
                    Segment::Any => !found.is_empty(),
                })
        };
        let (_, found) = self.patterns.iter().find(|(pattern, _)| matches(pattern))?;
        let subject = if found.subject.is_empty() {
            uri.to_owned()
        } else {
            found.subject.clone()
        };
        Some(Arc::new(Principal {
            subject,
            expires_s,
            ..Principal::clone(found)
        }))
    }
}

fn prefix(mesh: &str) -> String {
    format!("spiffe://{mesh}/")
}

/// The segments of a pattern after the mesh.
fn segments(mesh: &str, matches: &str) -> Result<Vec<Segment>, String> {
    let prefix = prefix(mesh);
    let path = matches
        .strip_prefix(&prefix)
        .ok_or_else(|| format!("must begin with `{prefix}`: certificates of other meshes are strangers here"))?;
    path.split('/')
        .map(|segment| match segment {
            "" => Err("has an empty segment, which no certificate's name has".to_owned()),
            "*" => Ok(Segment::Any),
            partly if partly.contains('*') => Err(format!(
                "`*` stands for one whole segment, and `{partly}` has it beside other text"
            )),
            exactly => Ok(Segment::Exactly(exactly.to_owned())),
        })
        .collect()
}

fn highest(names: &[String]) -> Result<Option<Scope>, String> {
    let mut highest = None;
    for name in names {
        let scope = Scope::parse(name).ok_or_else(|| format!("`{name}` is no scope"))?;
        highest = highest.max(Some(scope));
    }
    Ok(highest)
}

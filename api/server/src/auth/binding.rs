//! What the names in client certificates stand for: `[[auth.binding]]` of the node's configuration.

use std::sync::Arc;

use proto::methods::Scope;
use statemachine::MeshId;

use super::{Principal, Proof, grant::Grant};

/// One binding of certificates to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The SPIFFE id, beginning with `spiffe://<this mesh>/`. A segment that is `*` stands for exactly one segment,
    /// whichever, that is not empty: `spiffe://mesh-1/client/*`.
    pub matches: String,
    /// The subject that they stand for; the SPIFFE id itself where empty.
    pub subject: String,
    /// Scopes by name: `mesh.read`. With `mesh.peer` the subject has to be a peer's name, so `matches` is
    /// `spiffe://<this mesh>/peer/<id or *>` where `subject` is empty.
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

/// One binding, taken apart.
struct Pattern {
    segments: Vec<Segment>,
    /// Empty: the name that matched.
    subject: String,
    scopes: Vec<Scope>,
}

/// All bindings, ready to be looked up. Where several match, that counts which is the first to write out a segment
/// where the other has `*`.
pub(super) struct Bindings {
    mesh: MeshId,
    patterns: Vec<Pattern>,
}

impl Bindings {
    pub(super) fn new(mesh: &MeshId, bindings: &[Binding]) -> Result<Self, InvalidBinding> {
        let mut patterns: Vec<Pattern> = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let wrong = |why: String| InvalidBinding {
                matches: binding.matches.clone(),
                why,
            };
            let pattern = Pattern {
                segments: segments(mesh.as_str(), &binding.matches).map_err(wrong)?,
                subject: binding.subject.clone(),
                scopes: scopes(&binding.scopes).map_err(wrong)?,
            };
            if patterns.iter().any(|other| other.segments == pattern.segments) {
                return Err(wrong("is there twice".to_owned()));
            }
            // Of whatever it matches, since a `*` stands for an id that could be one.
            let example = match binding.subject.as_str() {
                "" => binding.matches.replace('*', "id"),
                subject => subject.to_owned(),
            };
            Grant::of(mesh, &example, pattern.scopes.iter().copied()).map_err(wrong)?;
            patterns.push(pattern);
        }
        // Of two that match the same name, the order of their segments decides, from the left.
        patterns.sort_by(|a, b| a.segments.cmp(&b.segments));
        Ok(Self {
            mesh: mesh.clone(),
            patterns,
        })
    }

    /// The caller that a certificate's name stands for, until the certificate ends; none where no binding is of it.
    ///
    /// # Errors
    /// It is bound as a peer's, and is no peer's name.
    pub(super) fn principal(&self, uri: &str, expires_s: Option<u64>) -> Result<Option<Arc<Principal>>, String> {
        let Some(path) = uri.strip_prefix(&prefix(self.mesh.as_str())) else {
            return Ok(None);
        };
        let path: Vec<&str> = path.split('/').collect();
        let matches = |pattern: &&Pattern| {
            pattern.segments.len() == path.len()
                && pattern.segments.iter().zip(&path).all(|(wanted, found)| match wanted {
                    Segment::Exactly(wanted) => wanted == found,
                    Segment::Any => !found.is_empty(),
                })
        };
        let Some(found) = self.patterns.iter().find(matches) else {
            return Ok(None);
        };
        let subject = match found.subject.as_str() {
            "" => uri,
            subject => subject,
        };
        let Grant { scope, peer } = Grant::of(&self.mesh, subject, found.scopes.iter().copied())?;
        Ok(Some(Arc::new(Principal {
            subject: subject.to_owned(),
            scope,
            peer,
            proof: Proof::Certificate,
            expires_s,
            session: None,
        })))
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

fn scopes(names: &[String]) -> Result<Vec<Scope>, String> {
    let named = |name: &String| Scope::parse(name).ok_or_else(|| format!("`{name}` is no scope"));
    names.iter().map(named).collect()
}

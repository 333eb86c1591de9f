//! What a credential's list of scopes comes to, for the subject that it names.

use proto::methods::Scope;
use statemachine::{MeshId, PeerId};

use super::peer_identity;

/// What a caller is granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// The highest scope of those that include lower ones.
    pub(super) scope: Option<Scope>,
    /// The peer that the caller is.
    pub(super) peer: Option<PeerId>,
}

impl Grant {
    /// Of these scopes, for this subject.
    ///
    /// # Errors
    /// `mesh.peer` is among them, and the subject is no peer of this mesh: what it says would be nobody's word.
    pub(super) fn of(mesh: &MeshId, subject: &str, scopes: impl Iterator<Item = Scope>) -> Result<Self, String> {
        let mut grant = Self::default();
        for scope in scopes {
            match scope {
                Scope::Peer => {
                    let found = peer_identity(mesh, subject);
                    grant.peer = Some(found.ok_or_else(|| {
                        format!(
                            "`mesh.peer` is granted to `{}`, which names no peer of this mesh: the subject has to be \
                             `spiffe://{mesh}/peer/ID`",
                            subject.chars().take(120).collect::<String>()
                        )
                    })?);
                }
                Scope::Read | Scope::Observe | Scope::Operate | Scope::Admin => {
                    grant.scope = grant.scope.max(Some(scope));
                }
            }
        }
        Ok(grant)
    }
}

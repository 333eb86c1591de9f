//! `sessions.begin`, `sessions.end` and `sessions.revoke`: browsers that act for somebody.

use serde::{Deserialize, Serialize};

use super::room;
use crate::{
    Effects, Handler, Hash, Record, Rejection, Rule, View, check,
    record::{Approvers, Held, Kind, Meta, Session},
};

/// The most sessions of one subject: one more ends the oldest.
pub const SESSIONS_PER_SUBJECT_MAX: usize = 16;
/// The most sessions of all.
pub const SESSIONS_MAX: u64 = 10_000;
/// The longest that a session can last, in ms.
pub const SESSION_MAX_MS: u64 = 24 * 3_600_000;
/// How long after its end a session is let go. Clocks of nodes and mesh time are nearer to each other than this.
const GRACE_MS: u64 = 3_600_000;
/// The most sessions that are let go at once.
const LET_GO_MAX: usize = 32;

/// Lets a browser act for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginSession {
    /// SHA-256 of the secret that only the browser has.
    pub id: Hash,
    /// What whoever asks holds.
    pub held: Held,
    /// When it ends, ms since 1970, by the clock of the node that was asked.
    pub expires_ms: u64,
}

super::level_2!(BeginSession, EndSessions);

impl Handler for BeginSession {
    fn action(&self) -> &'static str {
        "sessions.begin"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Session, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    // It lets nobody do what they may not do anyway.
    fn approvers(&self, _mesh: &crate::MeshState) -> Approvers {
        Approvers::None
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::FORM, check::SESSIONS_BELOW_LIMIT]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let now_ms = view.stamp.mesh_time_ms;
        let form = if self.expires_ms > now_ms.saturating_add(SESSION_MAX_MS + GRACE_MS) {
            Err(Rejection::invalid("lifetime", "a day at most"))
        } else if view.mesh.session(self.id).is_some() {
            Err(Rejection::invalid("id", "there is such a session already"))
        } else {
            Ok(())
        };
        view.check_form(check::FORM, form)?;
        let over = |session: &&Session| session.expires_ms.saturating_add(GRACE_MS) <= now_ms;
        let subject = &view.origin.actor;
        let mut own: Vec<&Session> = view
            .mesh
            .sessions()
            .filter(|session| session.subject == *subject)
            .collect();
        own.sort_by_key(|session| session.meta.created.revision);
        let too_many = (own.len() + 1).saturating_sub(SESSIONS_PER_SUBJECT_MAX);
        let mut gone: Vec<Hash> = own.iter().take(too_many).map(|session| session.id).collect();
        let old = view.mesh.sessions().filter(over).map(|session| session.id);
        gone.extend(
            old.filter(|id| !own.iter().take(too_many).any(|own| own.id == *id))
                .take(LET_GO_MAX),
        );
        let left = view.mesh.session_count().saturating_sub(gone.len() as u64);
        room(view, check::SESSIONS_BELOW_LIMIT, "sessions", left, SESSIONS_MAX)?;
        let session = Session {
            id: self.id,
            subject: subject.clone(),
            held: self.held,
            expires_ms: self.expires_ms,
            meta: Meta::default(),
        };
        let effects = Effects::default().put(Record::Session(session.into()));
        Ok(gone
            .into_iter()
            .fold(effects, |effects, id| effects.delete(Kind::Session, id.to_string())))
    }
}

/// Ends one session of a subject, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSessions {
    /// Whose.
    pub subject: String,
    /// Which; all where absent.
    pub id: Option<Hash>,
}

impl Handler for EndSessions {
    fn action(&self) -> &'static str {
        match self.id {
            Some(_) => "sessions.end",
            None => "sessions.revoke",
        }
    }

    fn target(&self) -> Option<(Kind, String)> {
        self.id.map(|id| (Kind::Session, id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    // Taking access away must not wait for anybody.
    fn approvers(&self, _mesh: &crate::MeshState) -> Approvers {
        Approvers::None
    }

    fn subject(&self) -> String {
        format!("sessions/{}", self.subject)
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let ended = view
            .mesh
            .sessions()
            .filter(|session| session.subject == self.subject && self.id.is_none_or(|id| session.id == id));
        Ok(ended.fold(Effects::default(), |effects, session| {
            effects.delete(Kind::Session, session.id.to_string())
        }))
    }
}

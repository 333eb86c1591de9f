//! `PresenceService`

use std::collections::BTreeMap;

use proto::v1::{self, presence_service_server::PresenceService};
use statemachine::{
    PeerId, Revision,
    presence::{Condition, Heard, Known, MassSilence, Report, TELEMETRY_MAX, TELEMETRY_NAME_BYTES_MAX},
    record::{Health, Peer},
};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, convert, cursor::Filter, listing::Page, metrics::HeartbeatLabels, ports::Beat};

/// The largest figure of a peer: what JSON carries as a number.
const FIGURE_MAX: u64 = (1 << 53) - 1;

#[tonic::async_trait]
impl PresenceService for Api {
    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        self.answer(request, |received| self.peer_is_there(received)).await
    }

    async fn list_presence(
        &self,
        request: Request<v1::ListPresenceRequest>,
    ) -> Result<Response<v1::ListPresenceResponse>, Status> {
        self.answer(request, |received| self.list_presence_page(received)).await
    }
}

impl Api {
    async fn peer_is_there(
        &self,
        received: Received<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Error> {
        let handle = &self.core.handle;
        // Before everything else: the lease counts from before this, and leadership has to be confirmed after it.
        let received_ms = handle.mesh_time_ms()?;
        let id = self.named_peer(&received)?;
        let report = report(received.message)?;
        let view = handle.confirm_leadership(received.call.deadline).await?;
        let mesh = &view.state().mesh;
        let peer = mesh.peer(&id).ok_or_else(|| {
            Error::not_found("peer", id.as_str())
                .hint("whoever operates the mesh registers it first: `mesh peers register`; then it is heard")
        })?;
        let beat = self.core.presence.beat(&id, Known::of(peer), received_ms, report);
        let Some(Beat { lease_ms, next_ms }) = beat else {
            return Err(raft::Error::unavailable("this node has only begun to lead, and does not listen yet").into());
        };
        let lease = if lease_ms > 0 { "renewed" } else { "none" };
        let labels = HeartbeatLabels { lease };
        self.core.metrics.heartbeats.get_or_create(&labels).inc();
        let revision = view.position().revision;
        let answer = v1::HeartbeatResponse {
            lease: Some(convert::duration(lease_ms)),
            view_revision: revision.0,
            next: Some(convert::duration(next_ms)),
            health: health(peer.health).into(),
            epoch: mesh.epoch().0,
        };
        Ok(self.at(revision, answer))
    }

    /// The peer that a heartbeat names, which has to be the caller.
    fn named_peer(&self, received: &Received<v1::HeartbeatRequest>) -> Result<PeerId, Error> {
        let (call, named) = (&received.call, &received.message.id);
        let named = PeerId::new(named).map_err(|error| Error::invalid("id", error.to_string()))?;
        match &call.principal.peer {
            Some(peer) if *peer == named => Ok(named),
            peer => {
                let held = match peer {
                    Some(peer) => format!("`{}` is peer {peer}, not {named}", call.principal.subject),
                    None => format!("`{}` is no peer", call.principal.subject),
                };
                let error = Error::scope_missing(proto::methods::Scope::Peer, &held)
                    .hint("a peer speaks for itself alone: use the credential of the peer that the call names");
                self.core
                    .note_refusal(call, "peers.heartbeat", format!("peer/{named}"), &error);
                Err(error)
            }
        }
    }

    async fn list_presence_page(
        &self,
        received: Received<v1::ListPresenceRequest>,
    ) -> Result<Response<v1::ListPresenceResponse>, Error> {
        let v1::ListPresenceRequest { limit, cursor, health } = &received.message;
        let wanted = wanted(*health)?;
        let filter = Filter::new("ListPresence", &[&health.to_string()]);
        let now_ms = self.core.handle.mesh_time_ms()?;
        let view = self.core.handle.confirm_leadership(received.call.deadline).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let after = page.after.as_deref().map(PeerId::new).transpose();
        let after = after.map_err(|error| Error::invalid("cursor", error.to_string()))?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh
            .peers_after(after.as_ref())
            .filter(|peer| wanted.is_none_or(|health| peer.health == health));
        let peers: Vec<&Peer> = matching
            .map(|peer| &**peer)
            .take(page.limit.saturating_add(1))
            .collect();
        let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id.clone()).collect();
        let heard = self.core.presence.heard(&ids);
        let wall_ms = self.core.clock.wall_ms();
        let ago = |heard: &Heard| wall_ms.saturating_sub(now_ms.saturating_sub(heard.last_ms));
        let shown = peers
            .iter()
            .zip(&heard)
            .map(|(peer, heard)| presence(peer, heard.as_ref(), heard.as_ref().map(ago)));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), shown, |last| last.peer.clone());
        let answer = v1::ListPresenceResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
            held_back: self.core.presence.mass_silence().map_or_else(String::new, held_back),
        };
        Ok(self.at(page.revision(), answer))
    }
}

/// What a peer says of itself, within its bounds.
fn report(message: v1::HeartbeatRequest) -> Result<Report, Error> {
    let v1::HeartbeatRequest {
        id: _,
        condition,
        capacity,
        load,
        telemetry,
        seen_revision,
    } = message;
    let condition = match v1::presence::Condition::try_from(condition) {
        Ok(v1::presence::Condition::Unspecified | v1::presence::Condition::Ready) => Condition::Ready,
        Ok(v1::presence::Condition::Busy) => Condition::Busy,
        Ok(v1::presence::Condition::Leaving) => Condition::Leaving,
        Err(_) => return Err(Error::invalid("condition", "there is no such condition")),
    };
    if telemetry.len() > TELEMETRY_MAX {
        let why = format!("{} figures are over the limit of {TELEMETRY_MAX}", telemetry.len());
        return Err(Error::invalid("telemetry", why));
    }
    let named =
        |name: &String| (1..=TELEMETRY_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if !telemetry.keys().all(named) {
        let why = format!("a figure's name has 1 to {TELEMETRY_NAME_BYTES_MAX} bytes, and no control characters");
        return Err(Error::invalid("telemetry", why));
    }
    let figures = [("capacity", capacity), ("load", load), ("seenRevision", seen_revision)];
    let figures = figures
        .into_iter()
        .chain(telemetry.values().map(|value| ("telemetry", *value)));
    for (field, value) in figures {
        if value > FIGURE_MAX {
            return Err(Error::invalid(
                field,
                format!("{value} is over the limit of {FIGURE_MAX}"),
            ));
        }
    }
    Ok(Report {
        condition,
        capacity,
        load,
        telemetry: telemetry.into_iter().collect::<BTreeMap<_, _>>(),
        seen_revision: Revision(seen_revision),
    })
}

fn wanted(health: i32) -> Result<Option<Health>, Error> {
    match v1::peer::Health::try_from(health) {
        Ok(v1::peer::Health::Unspecified) => Ok(None),
        Ok(v1::peer::Health::Unknown) => Ok(Some(Health::Unknown)),
        Ok(v1::peer::Health::Alive) => Ok(Some(Health::Alive)),
        Ok(v1::peer::Health::Suspect) => Ok(Some(Health::Suspect)),
        Ok(v1::peer::Health::Dead) => Ok(Some(Health::Dead)),
        Err(_) => Err(Error::invalid("health", "there is no such health")),
    }
}

fn health(health: Health) -> v1::peer::Health {
    match health {
        Health::Unknown => v1::peer::Health::Unknown,
        Health::Alive => v1::peer::Health::Alive,
        Health::Suspect => v1::peer::Health::Suspect,
        Health::Dead => v1::peer::Health::Dead,
    }
}

fn presence(peer: &Peer, heard: Option<&Heard>, heard_wall_ms: Option<u64>) -> v1::Presence {
    let report = heard.map(|heard| &heard.report);
    let condition = report.map(|report| match report.condition {
        Condition::Ready => v1::presence::Condition::Ready,
        Condition::Busy => v1::presence::Condition::Busy,
        Condition::Leaving => v1::presence::Condition::Leaving,
    });
    let figure = |of: fn(&Report) -> u64| report.map_or(0, of);
    v1::Presence {
        peer: peer.id.to_string(),
        health: health(peer.health).into(),
        condition: condition.unwrap_or_default().into(),
        heard_at: heard_wall_ms.map(convert::time),
        capacity: figure(|report| report.capacity),
        load: figure(|report| report.load),
        telemetry: report
            .map(|report| report.telemetry.clone())
            .unwrap_or_default()
            .into_iter()
            .collect(),
        seen_revision: figure(|report| report.seen_revision.0),
    }
}

/// Why nobody is declared dead, in one line.
pub(super) fn held_back(silence: MassSilence) -> String {
    let MassSilence { silent, of } = silence;
    format!(
        "{silent} of {of} peers are silent at once, more than `presence.silent_percent` allows: it may be the network, so \
         nobody is declared dead but those that are drained"
    )
}

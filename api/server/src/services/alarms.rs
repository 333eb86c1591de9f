//! Alarms of the cluster's nodes.

use proto::v1;
use raft::View;
use statemachine::{
    MeshState, NodeAction, NodeId, Stamp,
    cluster::{AlarmKind, Command},
    presence::{Census, MASS_SILENCE},
};
use tonic::Response;

use super::{Api, Received, changes::Change, presence::held_back};
use crate::{Error, convert};

impl Api {
    pub(super) fn list_alarms_of(&self, view: &View) -> Response<v1::ListAlarmsResponse> {
        let items = self.alarms(view, &self.census(&view.state().mesh));
        self.at(view.position().revision, v1::ListAlarmsResponse { items })
    }

    /// How the peers are, as far as this node can tell.
    pub(super) fn census(&self, mesh: &MeshState) -> Census {
        let leads = self.core.handle.status().is_leader();
        Census::of(mesh).heard(leads, self.core.presence.mass_silence())
    }

    /// What the cluster agreed on, what only this node knows yet, and what is wrong with the mesh as a whole.
    pub(super) fn alarms(&self, view: &View, census: &Census) -> Vec<v1::Alarm> {
        let own = self.core.handle.node();
        let agreed = view.state().cluster.alarms().map(|(node, kind, alarm)| v1::Alarm {
            name: kind.word().to_owned(),
            node: node.0,
            detail: alarm.detail.clone(),
            since: Some(convert::time(alarm.since_wall_ms)),
        });
        let mut alarms: Vec<v1::Alarm> = agreed.collect();
        for alarm in self.core.facts.alarms() {
            if !alarms
                .iter()
                .any(|known| known.node == own.0 && known.name == alarm.name)
            {
                alarms.push(v1::Alarm {
                    name: alarm.name,
                    node: own.0,
                    detail: alarm.detail,
                    since: None,
                });
            }
        }
        alarms.extend(census.mass_silence.map(|silence| v1::Alarm {
            name: MASS_SILENCE.to_owned(),
            node: 0,
            detail: format!(
                "{}: see `mesh presence list` and the runbook mass-silence",
                held_back(silence)
            ),
            since: None,
        }));
        alarms
    }

    pub(super) async fn disarm(
        &self,
        received: Received<v1::DisarmAlarmRequest>,
    ) -> Result<Response<v1::ListAlarmsResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let node = NodeId(message.node);
        if message.name.eq_ignore_ascii_case(MASS_SILENCE) {
            let why = "this alarm goes by itself, once few enough peers are silent";
            return Err(Error::invalid("name", why).hint("see `mesh presence list` and the runbook mass-silence"));
        }
        let Some(kind) = AlarmKind::parse(&message.name) else {
            let words = AlarmKind::ALL.map(AlarmKind::word).join(", ");
            return Err(Error::invalid(
                "name",
                format!("there is no such alarm; there are {words}"),
            ));
        };
        let alarm = format!("{node}/{}", kind.word());
        let words = (message.reason.as_str(), message.ticket.as_str());
        let change = Change::of(&received, NodeAction::Disarm, format!("alarm/{alarm}"), words)?;
        // What a follower knows may be old.
        self.leading()?;
        let is_up = self.core.handle.view().state().cluster.has_alarm(node, kind);
        let rules = is_up.then_some(()).ok_or_else(|| Error::not_found("alarm", &alarm));
        let way = self.decide(&received, &change, rules).await?;
        if way.makes() {
            let command = Command::ClearAlarm {
                stamp: Stamp::default(),
                node,
                kind,
                actor: call.principal.subject.clone(),
                reason: change.why(),
            };
            self.core.handle.propose_cluster(command, call.deadline).await?;
        }
        Ok(way.mark(self.list_alarms_of(&self.core.handle.view())))
    }
}

//! Alarms of the cluster's nodes.

use proto::v1;
use raft::View;
use statemachine::{
    NodeId, Stamp,
    cluster::{AlarmKind, Command},
};
use tonic::Response;

use super::{Api, Received};
use crate::{Error, convert};

impl Api {
    pub(super) fn list_alarms_of(&self, view: &View) -> Response<v1::ListAlarmsResponse> {
        let items = self.alarms(view);
        self.at(view.position().revision, v1::ListAlarmsResponse { items })
    }

    /// What the cluster agreed on, and what only this node knows yet.
    pub(super) fn alarms(&self, view: &View) -> Vec<v1::Alarm> {
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
        alarms
    }

    pub(super) async fn disarm(
        &self,
        received: Received<v1::DisarmAlarmRequest>,
    ) -> Result<Response<v1::ListAlarmsResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let reason = self.why(&received.headers, &message.reason, &message.ticket)?;
        let node = NodeId(message.node);
        let Some(kind) = AlarmKind::parse(&message.name) else {
            let words = AlarmKind::ALL.map(AlarmKind::word).join(", ");
            return Err(Error::invalid(
                "name",
                format!("there is no such alarm; there are {words}"),
            ));
        };
        // What a follower knows may be old; it is redirected in any case.
        if self.core.leads() && !self.core.handle.view().state().cluster.has_alarm(node, kind) {
            return Err(Error::not_found("alarm", &format!("{}/{}", node, kind.word())));
        }
        let command = Command::ClearAlarm {
            stamp: Stamp::default(),
            node,
            kind,
            actor: call.principal.subject.clone(),
            reason,
        };
        self.core.handle.propose_cluster(command, call.deadline).await?;
        Ok(self.list_alarms_of(&self.core.handle.view()))
    }
}

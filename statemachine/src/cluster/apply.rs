//! What a change of the partition comes to: one function for each command.

use super::{
    Alarm, AlarmKind, ClusterState, Command, Invitation, InvitationRefused, NodeFacts, Outcome, Row, node_key, put,
};
use crate::{
    ClusterId, Hash, NodeId, Stamp,
    rows::{RowChange, Table},
};

impl ClusterState {
    pub(crate) fn apply(&mut self, command: &Command, rows: &mut Vec<RowChange>) -> Outcome {
        let outcome = match command {
            Command::DescribeNode {
                stamp: _,
                cluster,
                node,
                facts,
            } => self.describe(cluster, *node, facts, rows),
            Command::RemoveNode {
                stamp: _,
                node,
                actor: _,
                reason: _,
            } => self.remove(*node, rows),
            Command::InviteNode {
                stamp,
                node,
                secret,
                ttl_ms,
                actor: _,
                reason: _,
            } => self.invite(*node, *secret, stamp.mesh_time_ms.saturating_add(*ttl_ms), rows),
            Command::AdmitNode {
                stamp,
                node,
                secret,
                api,
                raft,
            } => self.admit(*stamp, *node, *secret, (api, raft), rows),
            Command::RaiseAlarm {
                stamp,
                node,
                kind,
                detail,
            } => self.raise(*stamp, *node, *kind, detail, rows),
            Command::ClearAlarm {
                stamp: _,
                node,
                kind,
                actor: _,
                reason: _,
            } => self.clear(*node, *kind, rows),
        };
        if outcome == Outcome::Applied {
            self.record(command, rows);
        }
        outcome
    }

    fn describe(&mut self, cluster: &ClusterId, node: NodeId, facts: &NodeFacts, rows: &mut Vec<RowChange>) -> Outcome {
        if self.removed.contains(&node) {
            return Outcome::NodeRemoved;
        }
        if self.nodes.get(&node) == Some(facts) && self.cluster.is_some() {
            return Outcome::Unchanged;
        }
        if self.cluster.is_none() {
            self.cluster = Some(cluster.clone());
            rows.push(put(b"c".to_vec(), &Row::Cluster(cluster.clone())));
        }
        let before = self.nodes.insert(node, facts.clone());
        rows.push(put(node_key(b'n', node), &Row::Node(node, facts.clone())));
        // A directory that was made anew holds nothing of what was wrong with the one before.
        if before.is_some_and(|before| before.incarnation.directory != facts.incarnation.directory) {
            self.clear(node, AlarmKind::Corrupt, rows);
        }
        Outcome::Applied
    }

    fn remove(&mut self, node: NodeId, rows: &mut Vec<RowChange>) -> Outcome {
        if self.removed.insert(node).is_some() {
            return Outcome::Unchanged;
        }
        self.nodes.remove(&node);
        rows.push(gone(node_key(b'n', node)));
        if self.invitations.remove(&node).is_some() {
            rows.push(gone(node_key(b'i', node)));
        }
        for kind in AlarmKind::ALL {
            if self.alarms.remove(&(node, kind)).is_some() {
                rows.push(gone(alarm_key(node, kind)));
            }
        }
        rows.push(put(node_key(b'r', node), &Row::Removed(node)));
        Outcome::Applied
    }

    fn invite(&mut self, node: NodeId, secret: Hash, expires_ms: u64, rows: &mut Vec<RowChange>) -> Outcome {
        if self.removed.contains(&node) {
            return Outcome::NodeRemoved;
        }
        let invitation = Invitation {
            secret,
            expires_ms,
            used_by: None,
        };
        self.set_invitation(node, invitation, rows);
        Outcome::Applied
    }

    fn admit(
        &mut self,
        stamp: Stamp,
        node: NodeId,
        secret: Hash,
        (api, raft): (&str, &str),
        rows: &mut Vec<RowChange>,
    ) -> Outcome {
        if self.removed.contains(&node) {
            return Outcome::NodeRemoved;
        }
        let Some(invitation) = self.invitations.get(&node) else {
            return Outcome::NotInvited(InvitationRefused::Unknown);
        };
        let endpoints = (api.to_owned(), raft.to_owned());
        match invitation.judge(secret, stamp.mesh_time_ms, &endpoints) {
            Ok(true) => {
                let used = Invitation {
                    used_by: Some(endpoints),
                    ..invitation.clone()
                };
                self.set_invitation(node, used, rows);
                Outcome::Applied
            }
            Ok(false) => Outcome::Unchanged,
            Err(refused) => Outcome::NotInvited(refused),
        }
    }

    fn set_invitation(&mut self, node: NodeId, invitation: Invitation, rows: &mut Vec<RowChange>) {
        rows.push(put(node_key(b'i', node), &Row::Invitation(node, invitation.clone())));
        self.invitations.insert(node, invitation);
    }

    fn raise(
        &mut self,
        stamp: Stamp,
        node: NodeId,
        kind: AlarmKind,
        detail: &str,
        rows: &mut Vec<RowChange>,
    ) -> Outcome {
        if self.removed.contains(&node) {
            return Outcome::NodeRemoved;
        }
        if self.alarms.contains_key(&(node, kind)) {
            return Outcome::Unchanged;
        }
        let alarm = Alarm {
            detail: detail.to_owned(),
            since_wall_ms: stamp.wall_ms,
        };
        rows.push(put(alarm_key(node, kind), &Row::Alarm(node, kind, alarm.clone())));
        self.alarms.insert((node, kind), alarm);
        Outcome::Applied
    }

    fn clear(&mut self, node: NodeId, kind: AlarmKind, rows: &mut Vec<RowChange>) -> Outcome {
        if self.alarms.remove(&(node, kind)).is_none() {
            return Outcome::Unchanged;
        }
        rows.push(gone(alarm_key(node, kind)));
        Outcome::Applied
    }
}

fn alarm_key(node: NodeId, kind: AlarmKind) -> Vec<u8> {
    let mut key = node_key(b'w', node);
    key.push(kind as u8);
    key
}

fn gone(key: Vec<u8>) -> RowChange {
    RowChange {
        table: Table::Cluster,
        key,
        value: None,
    }
}

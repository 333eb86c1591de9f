//! What follows from what is known: what is served, prepared and acknowledged from now on.

use std::{collections::BTreeSet, time::Duration};

use proto::v1::shard::r#move::Step;

use super::{
    super::event::{Acknowledgement, Action, ShardKey},
    Ack, Core, Gate, Moving, Preparation, Sent, Token, Touched,
};

impl Core {
    /// Whether no work on a shard is under way, for sure.
    fn has_stopped(&self, shard: &ShardKey) -> bool {
        !self.serving.contains_key(shard) && !self.stopping.contains(shard) && !self.unsure.contains(shard)
    }

    /// Whether no call for a shard is under way that another would have to wait for.
    fn is_free(&self, shard: &ShardKey) -> bool {
        !self.stopping.contains(shard) && !self.busy.contains(shard)
    }

    /// Everything that follows from what is known.
    pub(super) fn settle(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.beat_due.is_some_and(|due| due <= now) {
            self.beat_due = None;
            let (seen_revision, leaving) = (self.seen.unwrap_or_default().revision, self.leaving.is_some());
            actions.push(Action::Beat { seen_revision, leaving });
        }
        if self.stream.is_some_and(|stream| stream < self.known.epoch) {
            // It may never say so itself: a node that was left behind goes on with what it has.
            self.stream = None;
            actions.push(Action::Follow(self.known.clone()));
        }
        let gate = self.gate(now);
        let touched = std::mem::replace(&mut self.touched, Touched::Some(BTreeSet::new()));
        let shards = match touched {
            Touched::Some(mut shards) if gate == self.gate => {
                let due = self.acks.iter().filter(|(_, ack)| ack.is_due(now));
                shards.extend(due.map(|(shard, _)| shard.clone()));
                shards
            }
            Touched::Some(_) | Touched::All => self.all(),
        };
        self.gate = gate;
        self.stop_and_start(now, gate, &shards, &mut actions);
        self.prepare(&shards, &mut actions);
        self.acknowledge(now, &shards, &mut actions);
        actions
    }

    /// Every shard of which anything is known or done.
    fn all(&self) -> BTreeSet<ShardKey> {
        let known = self.view.keys().chain(self.serving.keys()).chain(&self.unsure);
        known
            .chain(self.preparing.keys())
            .chain(self.acks.keys())
            .cloned()
            .collect()
    }

    fn stop_and_start(&mut self, now: Duration, gate: Gate, shards: &BTreeSet<ShardKey>, actions: &mut Vec<Action>) {
        for shard in shards {
            let Some(token) = self.serving.get(shard).copied() else {
                continue;
            };
            if self.may_serve(gate, shard) == Some(token) {
                continue;
            }
            let why = self.why_not(now, shard);
            self.serving.remove(shard);
            self.stopping.insert(shard.clone());
            let shard = shard.clone();
            actions.push(Action::Stop { shard, token, why });
        }
        for shard in shards {
            let Some(token) = self.may_serve(gate, shard) else {
                continue;
            };
            if self.serving.contains_key(shard) || !self.is_free(shard) {
                continue;
            }
            // What was prepared is in use from now on.
            self.preparing.remove(shard);
            self.unsure.remove(shard);
            self.serving.insert(shard.clone(), token);
            let shard = shard.clone();
            actions.push(Action::Start { shard, token });
        }
    }

    fn prepare(&mut self, shards: &BTreeSet<ShardKey>, actions: &mut Vec<Action>) {
        for shard in shards {
            let seen = self.view.get(shard);
            if let Some((of, _)) = self.preparing.get(shard) {
                // Owned already: it is begun with as soon as there is a lease.
                let keep = seen.is_some_and(|seen| {
                    seen.mine || seen.moving.is_some_and(|moving| moving.to_me && moving.begun == *of)
                });
                if !keep {
                    self.preparing.remove(shard);
                    actions.push(Action::Abandon { shard: shard.clone() });
                }
            }
            let Some(Moving {
                begun,
                step: Step::Preparing,
                to_me: true,
            }) = seen.and_then(|seen| seen.moving)
            else {
                continue;
            };
            if self.leaving.is_none() && self.is_free(shard) && !self.preparing.contains_key(shard) {
                self.preparing.insert(shard.clone(), (begun, Preparation::Running));
                self.busy.insert(shard.clone());
                let shard = shard.clone();
                actions.push(Action::Prepare { shard, begun });
            }
        }
    }

    /// What has to be said of a shard: of which move and step, under which token, and whether it failed.
    fn owed(&self, shard: &ShardKey) -> Option<(u64, Step, Token, bool)> {
        // Of an earlier epoch it would be refused: tokens hold the mesh's.
        let seen = self.view.get(shard).filter(|_| self.is_of_this_epoch())?;
        let Moving { begun, step, to_me } = seen.moving?;
        let failed = match step {
            Step::Preparing if to_me => match self.preparing.get(shard).filter(|(of, _)| *of == begun)? {
                (_, Preparation::Ready) => false,
                (_, Preparation::Failed) => true,
                (_, Preparation::Running) => return None,
            },
            Step::Stopping if seen.mine && self.has_stopped(shard) => false,
            Step::Unspecified | Step::Preparing | Step::Stopping => return None,
        };
        Some((begun, step, self.token(seen), failed))
    }

    fn acknowledge(&mut self, now: Duration, shards: &BTreeSet<ShardKey>, actions: &mut Vec<Action>) {
        for shard in shards {
            if !self.view.get(shard).is_some_and(|seen| seen.mine) {
                self.unsure.remove(shard);
            }
            let Some((begun, step, token, failed)) = self.owed(shard) else {
                self.acks.remove(shard);
                continue;
            };
            let before = self.acks.get(shard);
            let before = before.filter(|ack| (ack.begun, ack.step) == (begun, step));
            if before.is_some_and(|ack| !ack.is_due(now)) {
                continue;
            }
            let sent = Sent::OnItsWay;
            self.acks.insert(shard.clone(), Ack { begun, step, sent });
            actions.push(Action::Acknowledge(Acknowledgement {
                shard: shard.clone(),
                begun,
                step,
                token,
                failed,
            }));
        }
    }
}

impl Ack {
    /// Whether it has to be sent again now.
    fn is_due(&self, now: Duration) -> bool {
        matches!(self.sent, Sent::Again(at) if at <= now)
    }
}

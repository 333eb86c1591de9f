//! What follows from what is known: what is served, prepared and acknowledged from now on.

use std::{collections::BTreeMap, time::Duration};

use proto::v1::shard::r#move::Step;

use super::{
    super::event::{Acknowledgement, Action, ShardKey},
    Ack, Core, Moving, Preparation, Token,
};

impl Core {
    /// Whether no work on a shard is under way, for sure.
    fn has_stopped(&self, shard: &ShardKey) -> bool {
        !self.serving.contains_key(shard) && !self.stopping.contains(shard) && !self.unsure.contains(shard)
    }

    /// Everything that follows from what is known.
    pub(super) fn settle(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.beat_due.is_some_and(|due| due <= now) {
            self.beat_due = None;
            let (seen_revision, leaving) = (self.seen.unwrap_or_default().revision, self.leaving);
            actions.push(Action::Beat { seen_revision, leaving });
        }
        if self.stream.is_some_and(|stream| stream < self.known.epoch) {
            // It may never say so itself: a node that was left behind goes on with what it has.
            self.stream = None;
            actions.push(Action::Follow(self.known.clone()));
        }
        self.stop_and_start(now, &mut actions);
        self.prepare(&mut actions);
        self.acknowledge(now, &mut actions);
        actions
    }

    fn stop_and_start(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let stale = |(key, token): &(&ShardKey, &Token)| self.may_serve(now, key) != Some(**token);
        let stop: Vec<_> = self
            .serving
            .iter()
            .filter(stale)
            .map(|(key, token)| (key.clone(), *token))
            .collect();
        for (shard, token) in stop {
            let why = self.why_not(now, &shard);
            self.serving.remove(&shard);
            self.stopping.insert(shard.clone());
            actions.push(Action::Stop { shard, token, why });
        }
        let idle = self
            .view
            .keys()
            .filter(|key| !self.serving.contains_key(*key) && !self.stopping.contains(*key));
        let start: Vec<_> = idle
            .filter_map(|key| Some((key.clone(), self.may_serve(now, key)?)))
            .collect();
        for (shard, token) in start {
            // What was prepared is in use from now on.
            self.preparing.remove(&shard);
            self.unsure.remove(&shard);
            self.serving.insert(shard.clone(), token);
            actions.push(Action::Start { shard, token });
        }
    }

    fn prepare(&mut self, actions: &mut Vec<Action>) {
        let view = &self.view;
        let coming = |key: &ShardKey, begun: u64| {
            let seen = view.get(key);
            // Owned already: it is begun with as soon as there is a lease.
            seen.is_some_and(|seen| {
                seen.mine || seen.moving.is_some_and(|moving| moving.to_me && moving.begun == begun)
            })
        };
        self.preparing.retain(|shard, (begun, _)| {
            let keep = coming(shard, *begun);
            if !keep {
                actions.push(Action::Abandon { shard: shard.clone() });
            }
            keep
        });
        for (shard, seen) in &self.view {
            let Some(Moving {
                begun,
                step: Step::Preparing,
                to_me: true,
            }) = seen.moving
            else {
                continue;
            };
            if !self.leaving && !self.preparing.contains_key(shard) {
                self.preparing.insert(shard.clone(), (begun, Preparation::Running));
                let shard = shard.clone();
                actions.push(Action::Prepare { shard, begun });
            }
        }
    }

    fn acknowledge(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let view = &self.view;
        self.unsure
            .retain(|shard| view.get(shard).is_some_and(|seen| seen.mine));
        let mut needed = BTreeMap::new();
        // Of an earlier epoch they would be refused: tokens hold the mesh's.
        let current = self.is_of_this_epoch();
        for (shard, seen) in self.view.iter().filter(|_| current) {
            let Some(Moving { begun, step, to_me }) = seen.moving else {
                continue;
            };
            let failed = match step {
                Step::Preparing if to_me => match self.preparing.get(shard).filter(|(of, _)| *of == begun) {
                    Some((_, Preparation::Ready)) => false,
                    Some((_, Preparation::Failed)) => true,
                    Some((_, Preparation::Running)) | None => continue,
                },
                Step::Stopping if seen.mine && self.has_stopped(shard) => false,
                Step::Unspecified | Step::Preparing | Step::Stopping => continue,
            };
            needed.insert(shard.clone(), (begun, step, self.token(seen), failed));
        }
        self.acks.retain(|shard, ack| {
            needed
                .get(shard)
                .is_some_and(|(begun, step, ..)| (*begun, *step) == (ack.begun, ack.step))
        });
        for (shard, (begun, step, token, failed)) in needed {
            let due = self
                .acks
                .get(&shard)
                .is_none_or(|ack| ack.again.is_some_and(|again| again <= now));
            if due {
                self.acks.insert(
                    shard.clone(),
                    Ack {
                        begun,
                        step,
                        again: None,
                    },
                );
                actions.push(Action::Acknowledge(Acknowledgement {
                    shard,
                    begun,
                    step,
                    token,
                    failed,
                }));
            }
        }
    }
}

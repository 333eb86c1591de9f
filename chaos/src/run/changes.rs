//! What operators do while things go wrong: a node joins, votes, another goes, leadership moves, history is compacted,
//! backups are made.

use std::{error::Error, time::Duration};

use rand::Rng;
use statemachine::NodeId;

use super::{PATIENCE, World};
use crate::{
    orders::{self, Done, Order},
    schedule::{Amid, Change, NEWCOMER, Target},
};

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A fault amid a change begins at most this long after the change.
const AMID_WITHIN_MS: u64 = 80;

type Effect = Result<(bool, String), Box<dyn Error>>;

impl World {
    /// One change, given again until it is through. Fired only if it is, and the fault amid it as well.
    pub(super) fn change(&mut self, change: Change, amid: Option<Amid>, lasts: Duration) -> Effect {
        let steps = match change {
            Change::Join => vec![Order::Invite(NEWCOMER), Order::Join],
            Change::Promote => vec![Order::Promote(NEWCOMER)],
            Change::Remove(node) => vec![Order::Remove(node)],
            Change::Transfer => vec![Order::Transfer],
            Change::Compact => vec![Order::Compact],
            Change::Backup(_) => vec![Order::Backup],
        };
        let subject = match change {
            Change::Join | Change::Promote => Some(NEWCOMER),
            Change::Remove(node) => Some(node),
            Change::Backup(node) => Some(self.present(node)),
            Change::Transfer | Change::Compact => None,
        };
        let (mut amid, mut felt) = (amid.map(|amid| (amid, lasts)), None);
        let (mut last, mut given) = (None, 0);
        for (number, order) in steps.iter().enumerate() {
            // Whatever comes amid a change comes amid its last step.
            let mut amid = if number + 1 == steps.len() { amid.take() } else { None };
            let (done, times) = self.insist(*order, subject, &mut amid, &mut felt)?;
            given += times;
            let Some(done) = done else {
                return Ok((false, format!("{order:?} did not get through in {times} attempts")));
            };
            last = Some(done);
        }
        let mut effect = format!("done in {given} orders");
        match (change, last) {
            (Change::Promote, _) => {
                self.voters.insert(NEWCOMER);
            }
            (Change::Remove(node), _) => {
                self.voters.remove(&node);
                self.removed.push((node, self.sim.elapsed()));
                let gone = self.until(PATIENCE, |world| world.history.is_removed(node))?;
                effect.push_str(if gone {
                    ", and it is gone"
                } else {
                    ", and it does not know"
                });
            }
            (Change::Compact, Some(Done::Floor(floor))) => effect = format!("history begins at {floor}"),
            (Change::Backup(_), Some(Done::Backup(taken))) => {
                effect = format!("{} bytes of n{}", taken.bytes.len(), taken.node);
                self.backups.push(taken);
            }
            _ => {}
        }
        let (hit, what) = felt.unwrap_or((true, String::new()));
        if !what.is_empty() {
            effect = format!("{effect}; amid it: {what}");
        }
        Ok((hit, effect))
    }

    /// Gives an order until it is carried out, and has a fault begin amid the first time.
    fn insist(
        &mut self,
        order: Order,
        subject: Option<NodeId>,
        amid: &mut Option<(Amid, Duration)>,
        felt: &mut Option<(bool, String)>,
    ) -> Result<(Option<Done>, u32), Box<dyn Error>> {
        let (end, mut times) = (self.sim.elapsed() + PATIENCE, 0);
        while self.sim.elapsed() < end {
            let asked = match order {
                Order::Join | Order::Backup => subject,
                Order::Invite(_) | Order::Promote(_) | Order::Remove(_) | Order::Transfer | Order::Compact => {
                    self.until(PATIENCE, |world| world.leader().is_some())?;
                    self.leader()
                }
            };
            let Some(machine) = asked.and_then(|node| self.machine(node)) else {
                break;
            };
            let number = machine.orders.give(order);
            times += 1;
            if let Some((amid, lasts)) = amid.take() {
                let soon = Duration::from_millis(self.rng.random_range(0..AMID_WITHIN_MS));
                self.pass(soon)?;
                *felt = Some(self.amid(amid, subject, lasts)?);
            }
            self.until(orders::WITHIN, |_| machine.orders.is_over(number))?;
            match machine.orders.take(number) {
                Some(Ok(done)) => return Ok((Some(done), times)),
                Some(Err(why)) => self.note(format!("n{}: {order:?}: {why}", machine.id)),
                None => self.note(format!("n{}: {order:?}: no answer", machine.id)),
            }
            self.pass(AGAIN_AFTER)?;
        }
        Ok((None, times))
    }

    fn amid(&mut self, amid: Amid, subject: Option<NodeId>, lasts: Duration) -> Effect {
        let hit = match amid {
            Amid::KillLeader | Amid::CutLeader => self.resolve(Target::Leader)?,
            Amid::KillSubject | Amid::CutSubject => subject,
            Amid::PowerLossOfAll => None,
        };
        self.note(format!("amid it: {amid:?} ({hit:?})"));
        let (fired, effect) = match (amid, hit) {
            (Amid::PowerLossOfAll, _) => self.power_loss(self.members(), lasts)?,
            (Amid::KillLeader | Amid::KillSubject, Some(node)) => self.kill(node, lasts)?,
            (Amid::CutLeader | Amid::CutSubject, Some(node)) => self.partition(node, lasts)?,
            (_, None) => (false, "there was nobody to hit".to_owned()),
        };
        let whom = hit.map_or_else(String::new, |node| format!(" n{node}"));
        Ok((fired, format!("{}{whom}: {effect}", amid.word())))
    }
}

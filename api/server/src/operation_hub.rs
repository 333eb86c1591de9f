//! Wakes those who wait for an operation to change. One task reads the broadcast of applied units for all of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use statemachine::{OperationId, Record, Recorded};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

/// Waiters look again after this long in any case, so that nothing hangs on a wake-up that was lost to a snapshot.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who waits for which operation.
#[derive(Default)]
pub(crate) struct OperationHub {
    waiters: Mutex<HashMap<OperationId, (usize, Arc<Notify>)>>,
}

/// A place in the hub, given up when dropped.
pub(crate) struct Waiter {
    hub: Arc<OperationHub>,
    id: OperationId,
    notify: Arc<Notify>,
}

impl OperationHub {
    /// Begins to wait for an operation. What happens from now on is not missed.
    pub(crate) fn wait(self: &Arc<Self>, id: &OperationId) -> Waiter {
        let mut waiters = self.waiters.lock();
        let (count, notify) = waiters.entry(id.clone()).or_default();
        *count += 1;
        Waiter {
            hub: Arc::clone(self),
            id: id.clone(),
            notify: Arc::clone(notify),
        }
    }

    /// Reads the broadcast until the server stops.
    pub(crate) async fn run(self: Arc<Self>, mut units: broadcast::Receiver<Arc<Recorded>>, stop: CancellationToken) {
        loop {
            let received = tokio::select! {
                received = units.recv() => received,
                () = stop.cancelled() => return,
            };
            match received {
                Ok(recorded) => self.tell(&recorded),
                Err(broadcast::error::RecvError::Lagged(_)) => self.tell_all(),
                Err(broadcast::error::RecvError::Closed) => return self.tell_all(),
            }
        }
    }

    fn tell(&self, recorded: &Recorded) {
        let waiters = self.waiters.lock();
        if waiters.is_empty() {
            return;
        }
        for change in recorded.unit.changes() {
            if let Some(Record::Operation(operation)) = change.after.as_ref().or(change.before.as_ref())
                && let Some((_, notify)) = waiters.get(&operation.id)
            {
                notify.notify_waiters();
            }
        }
    }

    fn tell_all(&self) {
        for (_, notify) in self.waiters.lock().values() {
            notify.notify_waiters();
        }
    }
}

impl Waiter {
    /// The notification itself, to be enabled before the state is looked at.
    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.hub.waiters.lock();
        if let Some((count, _)) = waiters.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                waiters.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn places_are_given_up() {
        let hub = Arc::new(OperationHub::default());
        let id: OperationId = "op-1".parse().unwrap();
        let (a, b) = (hub.wait(&id), hub.wait(&id));
        hub.tell_all();
        drop(a);
        assert_eq!(hub.waiters.lock().len(), 1);
        drop(b);
        assert!(hub.waiters.lock().is_empty());
    }
}

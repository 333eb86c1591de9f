//! One connection per endpoint, opened when it is first needed and again after it broke: HTTP/3 where it can be had,
//! HTTP/2 otherwise.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Downgrade, Endpoint,
    connect::{Connect, ConnectError, Stage},
    context::Transport,
};

mod connection;
mod race;

pub(crate) use connection::{Connection, is_untouched};
use race::{Patience, Won, race};

/// Connections kept at most; leaders that were followed count too.
const CONNECTIONS_MAX: usize = 32;
/// How long a node is spoken to over HTTP/2 at once, after HTTP/3 was not to be had.
const REMEMBERED: Duration = Duration::from_secs(180);
/// How long HTTP/3 may take where nothing waits for it.
const IN_BACKGROUND_MAX: Duration = Duration::from_secs(2);

/// The open connections of a client.
pub(crate) struct Pool {
    connector: Arc<dyn Connect>,
    transport: Transport,
    slots: Mutex<BTreeMap<Endpoint, Arc<Slot>>>,
}

/// The place of one endpoint's connection. Whoever holds the gate opens it; the others wait for that.
#[derive(Default)]
struct Slot {
    gate: tokio::sync::Mutex<()>,
    live: Mutex<Option<Connection>>,
    fallen: Mutex<Option<Fallen>>,
}

/// HTTP/3 was not to be had.
#[derive(Clone, Copy)]
struct Fallen {
    why: Downgrade,
    until: Instant,
}

impl Pool {
    pub(crate) fn new(connector: Arc<dyn Connect>, transport: Transport) -> Self {
        Self {
            connector,
            transport,
            slots: Mutex::default(),
        }
    }

    /// The connection to `endpoint`, opened now if there is none that lives. Fails at `deadline` at the latest.
    pub(crate) async fn get(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, ConnectError> {
        let slot = self.slot(endpoint);
        if let Some(connection) = slot.living() {
            if connection.downgrade.is_some() {
                self.try_again(endpoint, &slot);
            }
            return Ok(connection);
        }
        let open = async {
            let _gate = slot.gate.lock().await;
            if let Some(connection) = slot.living() {
                return Ok(connection);
            }
            let connection = self.open(endpoint, &slot).await?;
            *slot.live.lock() = Some(connection.clone());
            Ok(connection)
        };
        match tokio::time::timeout_at(deadline, open).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError {
                stage: Stage::Timeout,
                detail: match self.transport {
                    Transport::H3 => "no answer over UDP".to_owned(),
                    Transport::Auto | Transport::H2 => "no answer".to_owned(),
                },
            }),
        }
    }

    /// Forgets the connection to `endpoint`, so that the next call opens another. Calls in flight on it go on.
    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        if let Some(slot) = self.slots.lock().get(endpoint) {
            *slot.live.lock() = None;
        }
    }

    /// The same, where it was over UDP and fell silent: the next is over TCP.
    pub(crate) fn lost(&self, endpoint: &Endpoint) {
        if let Some(slot) = self.slots.lock().get(endpoint) {
            *slot.live.lock() = None;
            slot.fall(Downgrade::Lost);
        }
    }

    /// The endpoints that are spoken to over HTTP/2 because HTTP/3 was not to be had, and why.
    pub(crate) fn downgrades(&self) -> Vec<(Endpoint, Downgrade)> {
        let slots = self.slots.lock();
        let fallen = slots.iter().filter_map(|(endpoint, slot)| {
            let live = slot.live.lock();
            Some((endpoint.clone(), live.as_ref()?.downgrade?))
        });
        fallen.collect()
    }

    fn slot(&self, endpoint: &Endpoint) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if slots.len() >= CONNECTIONS_MAX && !slots.contains_key(endpoint) {
            // Only a cluster that changes its addresses for ever comes here; any one may go, it is opened again.
            slots.pop_first();
        }
        Arc::clone(slots.entry(endpoint.clone()).or_default())
    }

    async fn open(&self, endpoint: &Endpoint, slot: &Slot) -> Result<Connection, ConnectError> {
        match self.transport {
            Transport::H2 => return self.open_h2(endpoint, None).await,
            Transport::H3 => return self.open_h3(endpoint).await,
            Transport::Auto => {}
        }
        if let Some(why) = slot.fallen() {
            return self.open_h2(endpoint, Some(why)).await;
        }
        let Some(h3) = self.connector.connect_h3(endpoint) else {
            return self.open_h2(endpoint, None).await;
        };
        // Which it was is known when it is over.
        let h2 = async { self.connector.connect(endpoint).await };
        match race(h3, h2, self.patience(slot)).await? {
            Won::H3(dialled) => Connection::h3(endpoint, dialled),
            Won::H2(stream, why) => {
                tracing::debug!(%endpoint, %why, "HTTP/2, because HTTP/3 cannot be had");
                slot.fall(why);
                Connection::h2(endpoint, stream, Some(why)).await
            }
        }
    }

    async fn open_h2(&self, endpoint: &Endpoint, downgrade: Option<Downgrade>) -> Result<Connection, ConnectError> {
        Connection::h2(endpoint, self.connector.connect(endpoint).await?, downgrade).await
    }

    async fn open_h3(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let Some(h3) = self.connector.connect_h3(endpoint) else {
            return Err(ConnectError {
                stage: Stage::Http3,
                detail: "it always has TLS, which this endpoint has not".to_owned(),
            });
        };
        Connection::h3(endpoint, h3.await.map_err(|error| error.error)?)
    }

    /// How long HTTP/3 is waited for, given what is known of the other nodes.
    fn patience(&self, slot: &Slot) -> Patience {
        let slots = self.slots.lock();
        let others = slots.values().filter(|other| !std::ptr::eq(Arc::as_ptr(other), slot));
        let blocked = others.filter_map(|other| other.fallen()).any(|why| match why {
            Downgrade::Timeout | Downgrade::Unreachable | Downgrade::Lost => true,
            Downgrade::Refused | Downgrade::Handshake => false,
        });
        if blocked { Patience::AGAIN } else { Patience::FIRST }
    }

    /// Tries HTTP/3 again where it is time to. Nobody waits for it: what comes meanwhile goes over HTTP/2.
    fn try_again(&self, endpoint: &Endpoint, slot: &Arc<Slot>) {
        let now = Instant::now();
        {
            let mut fallen = slot.fallen.lock();
            match &mut *fallen {
                Some(fallen) if fallen.until <= now => fallen.until = now + REMEMBERED,
                Some(_) | None => return,
            }
        }
        let Some(h3) = self.connector.connect_h3(endpoint) else {
            return;
        };
        let (endpoint, slot) = (endpoint.clone(), Arc::clone(slot));
        // Ends by itself, soon.
        tokio::spawn(async move {
            match tokio::time::timeout(IN_BACKGROUND_MAX, h3).await {
                Ok(Ok(dialled)) => {
                    if let Ok(connection) = Connection::h3(&endpoint, dialled) {
                        *slot.fallen.lock() = None;
                        *slot.live.lock() = Some(connection);
                    }
                }
                Ok(Err(error)) => slot.fall(error.why),
                Err(_) => slot.fall(Downgrade::Timeout),
            }
        });
    }
}

impl Slot {
    fn living(&self) -> Option<Connection> {
        self.live
            .lock()
            .as_ref()
            .filter(|connection| connection.is_alive())
            .cloned()
    }

    /// Why HTTP/3 is not tried, as long as that is remembered.
    fn fallen(&self) -> Option<Downgrade> {
        let fallen = *self.fallen.lock();
        fallen
            .filter(|fallen| fallen.until > Instant::now())
            .map(|fallen| fallen.why)
    }

    fn fall(&self, why: Downgrade) {
        *self.fallen.lock() = Some(Fallen {
            why,
            until: Instant::now() + REMEMBERED,
        });
    }
}

#[cfg(test)]
mod tests;

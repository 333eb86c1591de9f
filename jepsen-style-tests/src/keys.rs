//! The registers: label `v` of peers that are registered as they are needed.
//!
//! Each register takes a bounded number of operations and is then replaced by a fresh one, so that its history can be
//! judged, however long the run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use api_client::Client;
use parking_lot::Mutex;
use proto::v1::RegisterPeerRequest;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::{history::INITIAL, register};

/// Operations on one register; below what the search takes.
const OPERATIONS: u32 = 150;
const _: () = assert!((OPERATIONS as usize) < register::OPERATIONS_MAX);

/// Registers made ahead of need.
const AHEAD: usize = 8;

/// How long a client waits for a fresh register: as long as a cluster may take to come back.
const FRESH_WITHIN: Duration = Duration::from_secs(30);

/// The label that holds a register's value.
pub const LABEL: &str = "v";

/// One register.
#[derive(Debug)]
pub struct Key {
    /// The peer's id.
    pub id: String,
    left: AtomicU32,
}

impl Key {
    fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

/// The registers in use.
#[derive(Debug)]
pub struct Keys {
    active: Mutex<Vec<Arc<Key>>>,
    fresh: AsyncMutex<mpsc::Receiver<Arc<Key>>>,
    values: AtomicU64,
}

impl Keys {
    /// Makes the first registers, `width` of which are in use at any time, and more while clients use them up.
    /// Ends making when it is dropped.
    ///
    /// Answers nothing where the mesh does not take the first ones.
    pub async fn start(client: Client, width: usize) -> Option<Self> {
        let (send, mut fresh) = mpsc::channel(AHEAD);
        tokio::spawn(make(client, send));
        let mut active = Vec::new();
        for _ in 0..width {
            active.push(tokio::time::timeout(FRESH_WITHIN, fresh.recv()).await.ok()??);
        }
        Some(Self {
            active: Mutex::new(active),
            fresh: AsyncMutex::new(fresh),
            values: AtomicU64::new(INITIAL + 1),
        })
    }

    /// A register for one operation; `any` picks among those in use. Nothing where no fresh one comes in time.
    pub async fn take(&self, any: usize) -> Option<Arc<Key>> {
        loop {
            let (slot, key) = {
                let active = self.active.lock();
                let slot = any % active.len();
                (slot, Arc::clone(&active[slot]))
            };
            if key.take() {
                return Some(key);
            }
            let mut fresh = self.fresh.lock().await;
            // Another client may have replaced it meanwhile.
            if Arc::ptr_eq(&self.active.lock()[slot], &key) {
                let key = tokio::time::timeout(FRESH_WITHIN, fresh.recv()).await.ok()??;
                self.active.lock()[slot] = key;
            }
        }
    }

    /// A value that nobody has written.
    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }
}

/// Registers peers until nobody wants them any more.
async fn make(client: Client, send: mpsc::Sender<Arc<Key>>) {
    for number in 0_u64.. {
        let id = format!("r-{number}");
        let request = RegisterPeerRequest {
            id: id.clone(),
            endpoints: vec!["127.0.0.1:1".to_owned()],
            labels: [(LABEL.to_owned(), INITIAL.to_string())].into(),
            reason: "a register".to_owned(),
            ..Default::default()
        };
        while let Err(error) = client.register_peer(request.clone()).await {
            if error.code() == "already_exists" {
                break;
            }
            if send.is_closed() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if send
            .send(Arc::new(Key {
                id,
                left: AtomicU32::new(OPERATIONS),
            }))
            .await
            .is_err()
        {
            return;
        }
    }
}

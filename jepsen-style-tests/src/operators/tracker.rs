//! Who keeps the board up to date, and who tries what they may not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api_client::{Client, methods::CordonPeer};
use proto::v1::{CordonPeerRequest, ListOperationsRequest, ListPeersRequest, operation, peer};

use super::{
    stage::{self, Batch, Stage},
    work::Operator,
};
use crate::{Error, Result};

/// From one look at the mesh to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// From one attempt in vain to the next: each second's are noted one by one.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Puts on the board which drains have ended, and which peers were drained, until everybody stops.
pub async fn track(client: Client, stage: Arc<Stage>) {
    while !stage.is_over() {
        look(&client, &stage).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What cannot be read now is read the next time.
async fn look(client: &Client, stage: &Stage) {
    let begun = Instant::now();
    let request = ListOperationsRequest {
        state: operation::State::Running.into(),
        limit: 1_000,
        ..ListOperationsRequest::default()
    };
    if let Ok(answer) = client.list_operations(request).await {
        let running: Vec<_> = answer.message.items.into_iter().map(|one| one.selector).collect();
        for (index, batch) in stage.batches.lock().iter_mut().enumerate() {
            // What was approved after the list was asked for may be missing from it.
            let approved = matches!(batch, Batch::Runs(since) if *since < begun);
            if approved && !running.contains(&stage::selector(index)) {
                *batch = Batch::Free;
            }
        }
    }
    let request = ListPeersRequest {
        status: peer::Status::Drained.into(),
        limit: 1_000,
        ..ListPeersRequest::default()
    };
    if let Ok(answer) = client.list_peers(request).await {
        answer.message.items.iter().for_each(|peer| stage.learn(peer));
    }
}

/// Waits until no operation runs. Peers are brought back meanwhile, since mass drains wait for enough of them.
///
/// # Errors
/// Which one runs after all.
pub async fn until_nothing_runs(client: &Client, helper: &mut Operator, within: Duration) -> Result<()> {
    let (start, mut last) = (Instant::now(), String::new());
    while start.elapsed() < within {
        look(client, &helper.stage).await;
        helper.bring_back().await;
        let request = ListOperationsRequest {
            state: operation::State::Running.into(),
            limit: 1,
            ..ListOperationsRequest::default()
        };
        if let Ok(answer) = client.list_operations(request).await {
            let Some(running) = answer.message.items.first() else {
                return Ok(());
            };
            last = format!("{} of {}: {}", running.id, running.target, running.detail);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::Late {
        what: format!("all drains to end; there is {last}"),
        seconds: within.as_secs(),
    })
}

impl Operator {
    /// Tries, as somebody who may only read, to change peers that nobody else names.
    pub async fn try_in_vain(&mut self) {
        while !self.stage.is_over() {
            let mut ask = self.ask("peers.cordon", String::new());
            let id = format!("forbidden-{}", ask.number);
            ask.target = format!("peer/{id}");
            let request = CordonPeerRequest {
                id,
                ..CordonPeerRequest::default()
            };
            // It is written down; what it says is judged in the end.
            let _ = self.send::<CordonPeer>(ask, request).await;
            tokio::time::sleep(TRY_EVERY).await;
        }
    }
}

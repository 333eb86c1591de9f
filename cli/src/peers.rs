//! All peers, as far as something else is shown by them.

use std::collections::BTreeSet;

use api_client::Client;
use proto::v1::ListPeersRequest;

use crate::{silent::Silence, weights::Weights};

/// The largest page that the server gives.
const PAGE: u32 = 1_000;

/// What is known of them.
#[derive(Debug, Default)]
pub struct Peers {
    /// What they weigh; all the same where that is not known.
    pub weights: Weights,
    /// The ids of those that may not be there; none where that is not known.
    pub silent: Option<BTreeSet<String>>,
}

impl Peers {
    /// Those of the mesh. They are looked at beside an answer that is there already, so where the mesh does not list them
    /// nothing is known, and nothing fails.
    pub async fn of(client: &Client) -> Self {
        Self::listed(client).await.unwrap_or_default()
    }

    async fn listed(client: &Client) -> Option<Self> {
        let mut request = ListPeersRequest {
            limit: PAGE,
            ..ListPeersRequest::default()
        };
        let (mut weights, mut silence) = (Weights::default(), Silence::default());
        let mut cursors = BTreeSet::new();
        loop {
            let page = client.list_peers(request.clone()).await.ok()?.message;
            for peer in page.items {
                silence.add(&peer);
                weights.add(peer);
            }
            request.cursor = page.next_cursor;
            if request.cursor.is_empty() {
                let silent = Some(silence.peers());
                return Some(Self { weights, silent });
            }
            if !cursors.insert(request.cursor.clone()) {
                // It would go on for ever.
                return None;
            }
        }
    }
}

//! All peers, as far as something else is shown by them.

use std::collections::BTreeSet;

use api_client::Client;
use proto::v1::{ListPeersRequest, ListPeersResponse};

use crate::{listing, silent::Silence, weights::Weights};

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
        let list = |limit, cursor| {
            client.list_peers(ListPeersRequest {
                limit,
                cursor,
                ..ListPeersRequest::default()
            })
        };
        let (mut weights, mut silence) = (Weights::default(), Silence::default());
        let each = |page: ListPeersResponse| {
            for peer in page.items {
                silence.add(&peer);
                weights.add(peer);
            }
        };
        listing::pages(list, each).await.ok()?;
        let silent = Some(silence.peers());
        Some(Self { weights, silent })
    }
}

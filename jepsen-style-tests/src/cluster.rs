//! The nodes as their API shows them: who leads, and whether all is well.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use api_client::{
    CallOptions, Client, Consistency, Context, Endpoint,
    context::{Environment, Flags},
    methods::GetStatus,
};
use node_harness::Mesh;
use proto::v1::{GetStatusRequest, Status};

use crate::{Error, Result, error::Doing as _};

/// How often a state that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The nodes of a running mesh, and how to reach them.
#[derive(Debug, Clone)]
pub struct Cluster {
    nodes: Vec<(u64, Endpoint)>,
    context: PathBuf,
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The node.
    pub node: u64,
    /// The term it leads in.
    pub term: u64,
}

impl Cluster {
    /// The nodes of `mesh`.
    ///
    /// # Errors
    /// Where an endpoint in `dev.json` is none.
    pub fn of(mesh: &Mesh) -> Result<Self> {
        let mut nodes = Vec::new();
        for id in mesh.ids() {
            let api = &mesh.node(id)?.api;
            let endpoint = Endpoint::parse_any(api).map_err(|error| node_harness::Error::new(error.to_string()))?;
            nodes.push((id, endpoint));
        }
        Ok(Self {
            nodes,
            context: mesh.context("admin"),
        })
    }

    /// Number and endpoint of every node.
    pub fn nodes(&self) -> &[(u64, Endpoint)] {
        &self.nodes
    }

    /// A fresh client that knows all nodes and begins with `node`.
    ///
    /// # Errors
    /// Where the context cannot be used.
    pub fn client_at(&self, node: u64) -> Result<Client> {
        let first = self.nodes.iter().position(|(id, _)| *id == node).unwrap_or(0);
        let (before, from) = self.nodes.split_at(first);
        let endpoints: Vec<_> = from
            .iter()
            .chain(before)
            .map(|(_, endpoint)| endpoint.to_string())
            .collect();
        let flags = Flags {
            context: Some(self.context.clone()),
            endpoints: Some(endpoints.join(",")),
            ..Flags::default()
        };
        // Nothing of the tester's own settings.
        let environment: Environment = std::iter::empty().collect();
        let context = Context::load(&flags, &environment).doing("reading the context")?;
        Client::new(&context).doing("making a client")
    }

    /// What each node says of the cluster, where it answers within a second. All are asked at once.
    pub async fn statuses(&self, client: &Client) -> Vec<(u64, api_client::Result<Status>)> {
        let mut asked = tokio::task::JoinSet::new();
        for (id, endpoint) in self.nodes.clone() {
            let client = client.clone();
            asked.spawn(async move { (id, status(&client, endpoint).await) });
        }
        let mut statuses = asked.join_all().await;
        statuses.sort_by_key(|(id, _)| *id);
        statuses
    }

    /// The node that says itself that it leads, with a quorum behind it and in a term above `above`.
    pub async fn leader(&self, client: &Client, above: u64) -> Option<Leader> {
        let statuses = self.statuses(client).await;
        let leading = statuses.iter().filter_map(|(id, status)| {
            let status = status.as_ref().ok()?;
            let leads = status.leader.as_ref()?.id == *id && status.quorum && status.term > above;
            leads.then_some(Leader {
                node: *id,
                term: status.term,
            })
        });
        leading.max_by_key(|leader| leader.term)
    }

    /// Waits for a leader in a term above `above`.
    ///
    /// # Errors
    /// Where there is none after `within`.
    pub async fn wait_leader(&self, client: &Client, above: u64, within: Duration) -> Result<Leader> {
        let start = Instant::now();
        loop {
            if let Some(leader) = self.leader(client, above).await {
                return Ok(leader);
            }
            self.pause(start, within, &format!("a leader in a term above {above}"))
                .await?;
        }
    }

    /// Waits until every node answers, they agree on who leads, and all have applied the same revision.
    /// Answers what each says then.
    ///
    /// # Errors
    /// Where that is not so after `within`; says what the nodes said last.
    pub async fn wait_settled(&self, client: &Client, within: Duration) -> Result<Vec<(u64, Status)>> {
        let start = Instant::now();
        loop {
            let statuses = self.statuses(client).await;
            let told: Vec<_> = statuses.iter().map(|(id, status)| told(*id, status)).collect();
            let well: Vec<_> = statuses
                .into_iter()
                .filter_map(|(id, status)| Some((id, status.ok()?)))
                .collect();
            if well.len() == self.nodes.len() && agree(&well) {
                return Ok(well);
            }
            self.pause(start, within, &format!("all nodes to agree; last: {}", told.join("; ")))
                .await?;
        }
    }

    async fn pause(&self, start: Instant, within: Duration, what: &str) -> Result<()> {
        if start.elapsed() >= within {
            return Err(Error::Late {
                what: what.to_owned(),
                seconds: within.as_secs(),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}

/// What one node says of itself: not what the leader, which it would otherwise ask, says of it.
pub async fn status(client: &Client, endpoint: Endpoint) -> api_client::Result<Status> {
    let options = CallOptions {
        timeout: Some(Duration::from_secs(1)),
        only: Some(endpoint),
        once: true,
        consistency: Some(Consistency::Local),
        ..CallOptions::default()
    };
    client
        .call::<GetStatus>(GetStatusRequest {}, options)
        .await
        .map(|answer| answer.message)
}

fn agree(statuses: &[(u64, Status)]) -> bool {
    let Some((_, first)) = statuses.first() else {
        return false;
    };
    first.leader.is_some()
        && statuses.iter().all(|(_, status)| {
            status.leader == first.leader && status.term == first.term && status.revision == first.revision
        })
}

fn told(id: u64, status: &api_client::Result<Status>) -> String {
    match status {
        Ok(status) => {
            let leader = status
                .leader
                .as_ref()
                .map_or_else(|| "none".to_owned(), |leader| leader.id.to_string());
            format!(
                "node {id}: leader {leader}, term {}, revision {}",
                status.term, status.revision
            )
        }
        Err(error) => format!("node {id}: {error}"),
    }
}

//! Filling a mesh and etcd, as fast as they take it.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::Plan;
use crate::{Error, Result, etcd, link::Link, load::Target, mesh::Mesh};

/// Writes under way at once, and the connections that they share.
const WIDTH: usize = 256;
const LINKS: usize = 16;

/// Registers the peers of a plan, and patches them in turns until there are as many entries as it says.
pub(super) async fn mesh(mesh: &Mesh, plan: Plan) -> Result<()> {
    mesh.limit_peers(plan.peers).await?;
    mesh.register(plan.peers).await?;
    let (tls, leader) = mesh.leader().await?;
    let links = open(&tls, &leader).await?;
    let patches = plan.entries.saturating_sub(plan.peers);
    fill(&mesh.target()?, &links, plan.peers, patches).await
}

/// Starts etcd beside a mesh, and puts as many keys into it as a plan has peers and entries.
pub(super) async fn etcd(mesh: &Mesh, plan: Plan) -> Result<etcd::Cluster> {
    let directory = mesh.processes().scratch().join("etcd");
    let cluster = etcd::Cluster::start(mesh.processes().programs(), &directory).await?;
    let (tls, leader) = cluster.leader().await?;
    let links = open(&tls, &leader).await?;
    let keys = plan.peers + plan.entries;
    fill(&etcd::Etcd, &links, keys, keys).await?;
    Ok(cluster)
}

async fn open(tls: &Arc<api_client::TlsConnect>, leader: &api_client::Endpoint) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for _ in 0..LINKS {
        links.push(Link::open(tls, leader).await?);
    }
    Ok(links)
}

/// Writes `writes` values of 256 bytes, over `keys` in turns.
async fn fill<T: Target>(target: &T, links: &[Link], keys: usize, writes: usize) -> Result<()> {
    let write = |(number, link): (usize, &Link)| {
        let (target, link) = (target.clone(), link.clone());
        async move {
            let value = format!("{number:016x}{}", "x".repeat(240));
            target
                .put(&link, number % keys, value)
                .await
                .map_err(|error| Error::Grpc {
                    doing: "filling".to_owned(),
                    error: Box::new(error),
                })
        }
    };
    futures::stream::iter((0..writes).zip(links.iter().cycle()).map(write))
        .buffer_unordered(WIDTH)
        .try_for_each(|()| async { Ok(()) })
        .await
}

//! From a mesh that runs to a fleet that can be played: tokens, peers, a namespace.

use std::{path::Path, sync::Arc, time::Duration};

use api_client::{
    Client, Context, Transport,
    context::{Environment, Flags},
    peer::ShardKey,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use node::certs::token::{self, Claims};
use proto::v1::{
    CreateNamespaceRequest, GetNamespaceRequest, ListPeersRequest, Namespace, RegisterPeerRequest, namespace, peer,
};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{options::Options, peer::Simulated, watchman::Watchman};

/// Peers that are registered at once.
const AT_ONCE: usize = 16;
/// How long the peers' tokens are good for.
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);
/// How often the mesh is asked whether it is so far.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A page of a list.
const PAGE: u32 = 1_000;

/// What goes wrong while a fleet is made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The administrator's client, and the peers, registered and not yet running.
pub struct Fleet {
    /// Whoever makes the namespace.
    pub admin: Client,
    /// In order of their ids.
    pub peers: Vec<Simulated>,
    /// Who looks on.
    pub watchman: Arc<Watchman>,
}

/// The id of the peer with this number, from 1.
pub fn peer_id(options: &Options, number: u32) -> String {
    format!("{}{number:04}", options.prefix)
}

/// A client of the context. HTTP/2: what a fleet costs is to be the peers', not the packets'.
fn client(context: &Path) -> Result<Client, Failure> {
    let flags = Flags {
        context: Some(context.to_owned()),
        ..Flags::default()
    };
    let context = Context::load(&flags, &Environment::default())?;
    Ok(api_client::Builder::from_context(&context)?
        .transport(Transport::H2)
        .user_agent("meshkit-fleet")
        .timeout(Duration::from_secs(20))
        .build()?)
}

/// Registers the peers.
///
/// # Errors
/// What the mesh refuses, or a key that cannot be used.
pub async fn fleet(options: &Options) -> Result<Fleet, Failure> {
    let admin = client(&options.context)?;
    let shards = (0..options.shards).map(|shard| ShardKey {
        namespace: options.namespace.as_str().into(),
        shard,
    });
    let watchman = Arc::new(Watchman::new(shards, options.unserved_max));
    let registered = (1..=options.peers).map(|number| register(&admin, options, number));
    stream::iter(registered)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let mut peers = Vec::with_capacity(options.peers as usize);
    let mut shared = admin.clone();
    for number in 1..=options.peers {
        if (number - 1) % options.per_connection == 0 {
            shared = client(&options.context)?;
        }
        let id = peer_id(options, number);
        let claims = Claims::of_peer(&options.mesh, &id, TOKEN_TTL);
        let token = SecretString::from(token::sign(&options.jwt_key, &claims)?);
        let peer = Simulated::new(&id, shared.with_token(&token)?, Arc::clone(&watchman));
        let lies = options.plant.as_deref() == Some(&id);
        peer.manners.lies.store(lies, std::sync::atomic::Ordering::Relaxed);
        peers.push(peer);
    }
    Ok(Fleet { admin, peers, watchman })
}

async fn register(admin: &Client, options: &Options, number: u32) -> Result<(), Failure> {
    let request = RegisterPeerRequest {
        id: peer_id(options, number),
        region: "local".to_owned(),
        zone: format!("zone-{}", (number - 1) % options.zones + 1),
        endpoints: vec![format!("127.0.0.1:{}", 20_000 + number)],
        reason: "a simulated peer".to_owned(),
        ..RegisterPeerRequest::default()
    };
    match admin.register_peer(request).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == "already_exists" => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the mesh sees all peers alive.
///
/// # Errors
/// After `deadline`, with how many are not.
pub async fn all_alive(admin: &Client, options: &Options, deadline: Instant) -> Result<(), Failure> {
    loop {
        let alive = alive(admin, &options.prefix).await?;
        if alive >= options.peers {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!("{alive} of {} peers are alive", options.peers).into());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn alive(admin: &Client, prefix: &str) -> Result<u32, Failure> {
    let mut request = ListPeersRequest {
        limit: PAGE,
        ..ListPeersRequest::default()
    };
    let mut alive = 0;
    loop {
        let page = admin.list_peers(request.clone()).await?.message;
        let ours = page.items.iter().filter(|peer| peer.id.starts_with(prefix));
        let count = ours.filter(|peer| peer.health() == peer::Health::Alive).count();
        alive += u32::try_from(count).unwrap_or(u32::MAX);
        if page.next_cursor.is_empty() {
            return Ok(alive);
        }
        request.cursor = page.next_cursor;
    }
}

/// Makes the namespace, where it is not there, and waits until it has all its shards.
///
/// # Errors
/// What the mesh refuses; after `deadline`; where it is there with another number of shards.
pub async fn namespace(admin: &Client, options: &Options, deadline: Instant) -> Result<Namespace, Failure> {
    let request = CreateNamespaceRequest {
        id: options.namespace.clone(),
        shards: options.shards,
        policy: options.moves_max.map(|moves_max| namespace::Policy {
            moves_max: Some(moves_max),
            ..namespace::Policy::default()
        }),
        reason: "shards for simulated peers".to_owned(),
        ..CreateNamespaceRequest::default()
    };
    match admin.create_namespace(request).await {
        Ok(_) => {}
        Err(error) if error.code() == "already_exists" => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        let request = GetNamespaceRequest {
            id: options.namespace.clone(),
        };
        let namespace = admin.get_namespace(request).await?.message;
        if namespace.shards != options.shards {
            return Err(format!("namespace {} has {} shards", namespace.id, namespace.shards).into());
        }
        if namespace.phase() == namespace::Phase::Active {
            return Ok(namespace);
        }
        if Instant::now() >= deadline {
            return Err(format!("namespace {} is {}", namespace.id, namespace.phase().as_str_name()).into());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

//! A way to another node: dials when somebody needs it, again when the connection is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::env::{BoxStream, Clock, Dial, PeerIdentity, Purpose, Target};
use crate::handle::Endpoint;
use crate::net::conn::Conn;
use crate::net::frame::{self, Frame, HELLO_BYTES_MAX};
use crate::net::identity::{Identity, RefusalCode, node_of, still_good};
use crate::net::life::{Life, Lives};
use crate::net::message::{Lane, Message, PROTOCOL};
use crate::net::pool::RefusedBy;
use crate::net::{Limits, NetError};
use crate::task::{AbortOnDrop, spawn_seeded};

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// How often it is looked whether the other side's certificate has run out: a wall clock may be set, so no single wait
/// would do.
const EXPIRY_LOOK: Duration = Duration::from_secs(10);

/// Everything needed to dial.
pub(crate) struct Dialer {
    pub own: Identity,
    pub dial: Arc<dyn Dial>,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub refused_by: RefusedBy,
    pub lives: Lives,
}

#[derive(Clone)]
enum Way {
    /// Nobody has asked yet, or an attempt is under way.
    None,
    Up(Arc<Conn>),
    /// The last attempt failed.
    Down(NetError),
}

/// The way to one node for one purpose. Dropping it closes the connection.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    wanted: Arc<Notify>,
    way: watch::Receiver<Way>,
    _task: AbortOnDrop,
}

impl Link {
    pub(crate) fn new(dialer: Arc<Dialer>, node: u64, endpoint: Endpoint, lane: Lane) -> Self {
        let wanted = Arc::new(Notify::new());
        let (sender, way) = watch::channel(Way::None);
        // Whoever needs the link first makes it, which may be a task outside this crate. Nothing in
        // it needs a seed that nobody can guess.
        let seed = (dialer.own.node.0 << 32) ^ (node << 8) ^ lane as u64;
        let task = spawn_seeded(seed, keep(dialer, node, endpoint.clone(), lane, wanted.clone(), sender));
        Self {
            endpoint,
            wanted,
            way,
            _task: AbortOnDrop(task),
        }
    }

    /// The connection, as soon as there is one.
    ///
    /// # Errors
    /// The next attempt failed, or the deadline passed. An attempt goes on when its caller gives
    /// up: a heartbeat's deadline is shorter than a handshake may take.
    pub(crate) async fn conn(&self, deadline: Instant) -> Result<Arc<Conn>, NetError> {
        let mut way = self.way.clone();
        match &*way.borrow_and_update() {
            Way::Up(conn) if !conn.is_lost() => return Ok(conn.clone()),
            Way::Up(_) | Way::None | Way::Down(_) => {}
        }
        self.wanted.notify_one();
        loop {
            match timeout_at(deadline, way.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(NetError::Unreachable("shutting down".into())),
                Err(_) => return Err(NetError::Timeout),
            }
            match &*way.borrow_and_update() {
                Way::Up(conn) if !conn.is_lost() => return Ok(conn.clone()),
                Way::Down(error) => return Err(error.clone()),
                Way::Up(_) | Way::None => {}
            }
        }
    }
}

/// Keeps the connection as long as the link lives.
async fn keep(
    dialer: Arc<Dialer>,
    node: u64,
    endpoint: Endpoint,
    lane: Lane,
    wanted: Arc<Notify>,
    way: watch::Sender<Way>,
) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        wanted.notified().await;
        let attempt = dialer.connect(node, &endpoint, lane);
        let outcome = match timeout(dialer.limits.connect_timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NetError::Unreachable(format!("{} does not answer", endpoint.raft))),
        };
        match outcome {
            Ok((conn, identity)) => {
                backoff = BACKOFF_FIRST;
                way.send_replace(Way::Up(conn.clone()));
                let why = tokio::select! {
                    biased;
                    why = conn.lost() => why,
                    why = dialer.disowned(identity.as_ref()) => {
                        conn.close(why);
                        why.to_owned()
                    }
                };
                tracing::debug!(node, ?lane, why, "connection lost");
                way.send_replace(Way::None);
            }
            Err(error) => {
                tracing::debug!(node, ?lane, %error, "no connection");
                way.send_replace(Way::Down(error));
                sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

impl Dialer {
    /// Resolves with the reason when the other side of a connection does not count any more for who it proved to be.
    async fn disowned(&self, identity: Option<&PeerIdentity>) -> &'static str {
        let Some(identity) = identity else {
            return std::future::pending().await;
        };
        loop {
            let look = async {
                match identity.not_after_s {
                    Some(_) => sleep(EXPIRY_LOOK).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = identity.standing.withdrawn() => return "the other side's authority is not trusted any more",
                () = look => {}
            }
            if identity.has_expired(self.clock.wall_ms() / 1000) {
                return "the other side's certificate has expired";
            }
        }
    }

    async fn connect(
        &self,
        node: u64,
        endpoint: &Endpoint,
        lane: Lane,
    ) -> Result<(Arc<Conn>, Option<PeerIdentity>), NetError> {
        let expected = statemachine::NodeId(node);
        let target = Target {
            node: Some(expected),
            address: endpoint.raft.clone(),
            purpose: Purpose::Raft,
        };
        let (mut stream, info) = self
            .dial
            .dial(&target)
            .await
            .map_err(|e| NetError::Unreachable(format!("{}: {e}", target.address)))?;
        let good = still_good(info.identity.as_ref(), self.clock.wall_ms() / 1000);
        match good.and_then(|()| node_of(&self.own, info.identity.as_ref())) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                return Err(NetError::Unreachable(format!("node {found} answers there, not {node}")));
            }
            Err((code, detail)) => {
                return Err(NetError::Unreachable(format!(
                    "who answers there is refused ({code}): {detail}"
                )));
            }
        }
        self.hello(&mut stream, node, lane).await?;
        Ok((Conn::new(stream, &self.limits), info.identity))
    }

    async fn hello(&self, stream: &mut BoxStream, to: u64, lane: Lane) -> Result<(), NetError> {
        let hello = Message::Hello {
            protocol: PROTOCOL,
            mesh: self.own.mesh.to_string(),
            cluster: self.own.cluster.to_string(),
            from: self.own.node.0,
            to,
            lane,
        };
        let lost = |e: std::io::Error| NetError::Lost(e.to_string());
        let hello = Frame {
            id: 0,
            message: hello,
            parts: self.lives.own.told().to_parts(),
        };
        frame::write(stream, &hello).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let answer = frame::read(stream, HELLO_BYTES_MAX).await.map_err(lost)?;
        let parts = answer.as_ref().map(|frame| frame.parts.clone()).unwrap_or_default();
        match answer.map(|frame| frame.message) {
            Some(Message::Welcome { protocol: PROTOCOL }) => {
                self.refused_by.forgive(to);
                let life = Life::of_parts(&parts);
                let verdict = life.and_then(|life| self.lives.judge(statemachine::NodeId(to), &life));
                verdict.map_err(|(code, detail)| {
                    tracing::warn!(node = to, %code, detail, "this node does not speak with another");
                    NetError::Unreachable(format!("it is not spoken to ({code}): {detail}"))
                })
            }
            Some(Message::Welcome { protocol }) => Err(NetError::Protocol(format!(
                "version {protocol} is not known to this release"
            ))),
            Some(Message::Refused { code, detail }) => {
                if matches!(code, RefusalCode::Removed | RefusalCode::StaleDirectory) {
                    self.refused_by.note(to, code);
                }
                tracing::warn!(node = to, %code, detail, "another node refuses this one");
                Err(NetError::Refused { code, detail })
            }
            Some(_) => Err(NetError::Protocol("the hello was answered with something else".into())),
            None => Err(NetError::Lost("closed before the hello was answered".into())),
        }
    }
}

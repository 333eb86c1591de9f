//! The life of a node, from top to bottom.
//!
//! [`run`] is the whole story; [`Node`] is the same for who wants to look inside while it goes on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api_server::ports::{Alarm, CertificateExpiry, Inspect, NodeFacts, Pause, Refusals};
use api_server::{Parts, Server};
use controllers::RefusalLog;
use raft::{Endpoint, Fatal, Handle, Identity};
use rand::RngCore;
use statemachine::cluster::AlarmKind;
use statemachine::record::Overrides;
use statemachine::{ClusterId, FEATURE_LEVEL, InitMesh, MeshId, NodeId, Refusal, TimelineId};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::audit_log;
use crate::config::Config;
use crate::config::check::host_and_port;
use crate::disk;
use crate::env::Env;
use crate::exit::{Exit, Failure};
use crate::presence::Presence;
use crate::vitals::Vitals;

/// How long founding a cluster may take: it is one entry in this node's own log.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// How long handing leadership away may take; then another will be elected as after a crash.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(1_500);

/// How long a node waits for its cluster before it says so …
const WAITING_SAID_AFTER: Duration = Duration::from_secs(2);

/// … and how often it says so then.
const WAITING_SAID_EVERY: Duration = Duration::from_secs(30);

/// Runs a node until `stop` resolves, or until it has to stop itself.
///
/// # Errors
/// Why it could not start, or had to stop.
pub async fn run(config: Config, env: Env, stop: impl Future<Output = ()> + Send) -> Result<(), Failure> {
    let node = Node::start(config, env).await?;
    let failed = tokio::select! {
        () = stop => None,
        fatal = node.handle().fatal() => Some(fatal),
    };
    match failed {
        None => {
            node.stop().await;
            Ok(())
        }
        Some(fatal) => Err(node.fail(fatal).await),
    }
}

/// A node that runs.
pub struct Node {
    config: Config,
    handle: Handle,
    facts: Arc<Facts>,
    registry: api_server::metrics::Shared,
    loops: controllers::Running,
    server: JoinHandle<()>,
    waiting: JoinHandle<()>,
    _watching: AbortOnDropHandle<()>,
    _audit_log: Option<audit_log::Running>,
    api_stop: CancellationToken,
}

impl Node {
    /// Starts one: consensus, the loops that keep its cluster going, and the API, in this order.
    ///
    /// # Errors
    /// Its stores are damaged or another's, or its configuration does not hold together.
    pub async fn start(config: Config, env: Env) -> Result<Self, Failure> {
        let Env {
            log,
            state,
            api,
            quic,
            raft,
            dial,
            clock,
            mut rng,
            threads,
            signer,
            auth,
            alarms,
            certificate_expiry,
            inspect,
            disk,
            authorities,
            audit_log,
            incarnation,
            pinned,
            founder,
        } = env;
        let identity = identity(&config)?;
        let own = config.own_addresses().map_err(|why| Failure::new(Exit::Config, why))?;

        // Consensus. From here on the node takes part in its cluster, if it is a member of one.
        let handle = raft::start(raft::Boot {
            identity: identity.clone(),
            config: config.consensus(threads),
            log,
            state,
            clock: clock.clone(),
            dial: dial.clone(),
            listen: raft,
            seed: rng.next_u64(),
            incarnation,
            // Nobody has anything to say to a founder that has not founded yet.
            pinned: if founder { Some(Vec::new()) } else { pinned },
        })
        .await?;
        if founder {
            found(&config, &handle).await?;
        }
        let every = Duration::from_millis(config.storage.disk_check_interval_ms);
        let watching = disk::watch(disk, config.disk_marks(), every, handle.health().clone(), threads);
        let watching = AbortOnDropHandle::new(tokio::spawn(watching));
        let waiting = tokio::spawn(say_while_waiting(handle.clone()));

        // The loops. The first leader begins the mesh; every node is ready to be that leader.
        let refusals = Arc::new(RefusalLog::default());
        let init = InitMesh {
            mesh: identity.mesh.clone(),
            cluster: identity.cluster.clone(),
            timeline: random_timeline(&mut *rng),
            settings: Overrides::new(),
            feature_level: FEATURE_LEVEL,
        };
        let loops = controllers::start(
            handle.clone(),
            controllers::Config {
                init: Some(init),
                cluster: identity.cluster.clone(),
                facts: statemachine::cluster::NodeFacts {
                    api: format!("https://{}", own.api),
                    raft: own.raft,
                    version: crate::VERSION.to_owned(),
                    feature_level: FEATURE_LEVEL,
                    incarnation,
                },
                checkpoints: config.audit_checkpoints(),
                checkup_interval: Duration::from_millis(config.raft.checkup_interval_ms),
                drain_settle: Duration::from_millis(config.mesh.drain_settle_ms),
                signer,
                threads,
                clock: clock.clone(),
                refusals: refusals.clone(),
            },
        );

        // The API, last: whoever gets in finds everything behind it.
        let facts = Arc::new(Facts {
            handle: handle.clone(),
            stopping: AtomicBool::new(false),
            alarms,
            certificate_expiry,
            authorities,
            inspect,
        });
        let api_stop = CancellationToken::new();
        let registry = api_server::metrics::Shared::default();
        let audit_log = audit_log.map(|log| log.start(handle.clone(), &mut registry.lock()));
        let refusals = RefusalSink {
            trail: refusals,
            files: audit_log.as_ref().map(|running| running.sink.clone()),
        };
        let vitals = Vitals {
            handle: handle.clone(),
            facts: facts.clone(),
            seen: loops.seen(),
            hearing: loops.hearing(),
        };
        vitals.register(&mut registry.lock());
        let parts = Parts {
            cluster: identity.cluster,
            handle: handle.clone(),
            auth,
            clock,
            dial,
            refusals: Arc::new(refusals),
            facts: facts.clone(),
            presence: Arc::new(Presence(loops.hearing())),
            registry: registry.clone(),
            threads,
            config: api_server::Config {
                http3_port: quic.as_ref().and_then(|_| Some(host_and_port(&own.api).ok()?.1)),
                ..config.api_server()
            },
        };
        let server = Server::new(parts, api_stop.clone())
            .map_err(|error| Failure::new(Exit::Failed, format!("the API cannot be served: {error}")))?;
        let server = tokio::spawn(async move {
            let over_quic = async {
                if let Some(quic) = quic {
                    server.serve_quic(quic).await;
                }
            };
            tokio::join!(server.serve(api), over_quic);
        });
        tracing::info!(node = config.node.id, cluster = %config.mesh.cluster, mesh = %config.mesh.id, "the node runs");
        Ok(Self {
            config,
            handle,
            facts,
            registry,
            loops,
            server,
            waiting,
            _watching: watching,
            _audit_log: audit_log,
            api_stop,
        })
    }

    /// Consensus, for who wants to look.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The node's metrics.
    pub fn registry(&self) -> &api_server::metrics::Shared {
        &self.registry
    }

    /// Stops in good order, within the configured time: refuses new mutations, hands leadership
    /// away, lets requests end, flushes.
    pub async fn stop(self) {
        let deadline = Instant::now() + Duration::from_millis(self.config.node.shutdown_timeout_ms);
        tracing::info!("the node stops");
        self.facts.stopping.store(true, Ordering::Relaxed);
        if self.handle.status().is_leader() {
            let hand_over = deadline.min(Instant::now() + HAND_OVER_WITHIN);
            if let Err(error) = self.handle.transfer_leadership(None, hand_over).await {
                tracing::info!(%error, "leadership was not handed over");
            }
        }
        self.end(deadline).await;
        tracing::info!("the node has stopped");
    }

    /// Stops because it has to. Nothing more is acknowledged from the moment consensus said so.
    pub async fn fail(self, fatal: Fatal) -> Failure {
        self.facts.stopping.store(true, Ordering::Relaxed);
        // Requests that wait are told at once; there is nothing to hand over.
        let deadline = Instant::now() + Duration::from_millis(self.config.node.shutdown_timeout_ms.min(2_000));
        self.end(deadline).await;
        fatal.into()
    }

    async fn end(self, deadline: Instant) {
        self.waiting.abort();
        self.api_stop.cancel();
        let abort = self.server.abort_handle();
        if tokio::time::timeout_at(deadline, self.server).await.is_err() {
            abort.abort();
            tracing::warn!("requests were still under way when the node stopped");
        }
        if tokio::time::timeout_at(deadline, self.loops.stop()).await.is_err() {
            tracing::warn!("the loops did not stop in time");
        }
        // Flushing gets its time even when the rest took too long: it saves the next start some.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1));
        if let Err(error) = self.handle.shutdown(left).await {
            tracing::warn!(%error, "the stores were not closed in good order; the next start repairs that");
        }
    }
}

fn identity(config: &Config) -> Result<Identity, Failure> {
    let invalid = |error: statemachine::InvalidId| Failure::new(Exit::Config, error.to_string());
    Ok(Identity {
        mesh: MeshId::new(&config.mesh.id).map_err(invalid)?,
        cluster: ClusterId::new(&config.mesh.cluster).map_err(invalid)?,
        node: NodeId(config.node.id),
    })
}

fn random_timeline(rng: &mut dyn RngCore) -> TimelineId {
    TimelineId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
}

/// Begins the cluster, unless an earlier start has done so.
async fn found(config: &Config, handle: &Handle) -> Result<(), Failure> {
    if handle.status().initialized {
        return Ok(());
    }
    let members = &config.mesh.members.0;
    if !members.iter().any(|member| member.id == config.node.id) {
        let why = format!(
            "node {} founds the cluster but is not among `mesh.members`",
            config.node.id
        );
        return Err(Failure::new(Exit::Config, why));
    }
    let members = members
        .iter()
        .map(|member| {
            (
                NodeId(member.id),
                Endpoint {
                    raft: member.raft.clone(),
                    api: member.api.clone(),
                },
            )
        })
        .collect();
    match handle.initialize(members, Instant::now() + FOUND_WITHIN).await {
        Ok(()) => {
            tracing::info!("the cluster is founded");
            Ok(())
        }
        Err(_) if handle.status().initialized => Ok(()),
        Err(raft::Error::Fatal(fatal)) => Err(fatal.into()),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("the cluster could not be founded: {error}"),
        )),
    }
}

/// Tells the operator of an empty node what it waits for, now and then.
async fn say_while_waiting(handle: Handle) {
    let mut status = handle.watch_status();
    // A cluster that is being founded, or found again on disk, shows within a moment.
    tokio::time::sleep(WAITING_SAID_AFTER).await;
    loop {
        if status.borrow_and_update().initialized {
            return;
        }
        tracing::warn!(
            "this node has no data and waits for its cluster to find it. If it is the first node of a new mesh, stop \
             it and run `meshkit-node init --config FILE` with its configuration, on this one node only"
        );
        let said = Instant::now();
        while !status.borrow_and_update().initialized && said.elapsed() < WAITING_SAID_EVERY {
            match tokio::time::timeout(WAITING_SAID_EVERY, status.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return,
            }
        }
    }
}

/// Carries refusals from the API to the files on this node, at once, and to the loop that commits them.
struct RefusalSink {
    trail: Arc<RefusalLog>,
    files: Option<audit_log::Sink>,
}

impl Refusals for RefusalSink {
    fn note(&self, refusal: Refusal) {
        if let Some(files) = &self.files {
            files.note(refusal.clone());
        }
        self.trail.note(refusal);
    }
}

/// What only the node itself knows of itself.
struct Facts {
    handle: Handle,
    stopping: AtomicBool,
    alarms: Arc<dyn Fn() -> Vec<Alarm> + Send + Sync>,
    certificate_expiry: Arc<dyn Fn() -> Option<CertificateExpiry> + Send + Sync>,
    authorities: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    inspect: Option<Arc<dyn Inspect>>,
}

impl Facts {
    /// What was measured and the mark that it is below, where the disk is nearly full.
    fn no_space(&self) -> Option<(String, String)> {
        let disk = self.handle.health().disk().filter(|disk| disk.short)?;
        Some((
            format!("{} bytes free", disk.free_bytes),
            format!("{} bytes", disk.mark_bytes),
        ))
    }
}

impl NodeFacts for Facts {
    fn version(&self) -> String {
        crate::VERSION.to_owned()
    }

    fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = (self.alarms)();
        let health = self.handle.health();
        let named = |name: AlarmKind, detail| Alarm {
            name: name.word().to_owned(),
            detail,
        };
        alarms.extend(health.corrupt().map(|detail| named(AlarmKind::Corrupt, detail)));
        // Only the leader compares; what it found is of no meaning once it does not lead.
        let divided = health.divided().filter(|_| self.handle.status().is_leader());
        alarms.extend(divided.map(|detail| named(AlarmKind::Corrupt, format!("mutations are refused: {detail}"))));
        alarms.extend(self.no_space().map(|(measured, limit)| {
            let detail = format!("{measured}, the mark is {limit}");
            named(AlarmKind::NoSpace, detail)
        }));
        alarms
    }

    fn serves(&self) -> Result<(), String> {
        self.handle.corrupt().map_or(Ok(()), Err)
    }

    fn nearest_certificate_expiry(&self) -> Option<CertificateExpiry> {
        (self.certificate_expiry)()
    }

    fn authorities(&self) -> Vec<String> {
        (self.authorities)()
    }

    fn inspect(&self) -> Option<Arc<dyn Inspect>> {
        self.inspect.clone()
    }

    fn accepts_mutations(&self) -> Result<(), Pause> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Pause::Stopping);
        }
        if let Some((measured, limit)) = self.no_space() {
            return Err(Pause::NoSpace { measured, limit });
        }
        match self.handle.health().divided() {
            Some(detail) => Err(Pause::Divided { detail }),
            None => Ok(()),
        }
    }
}

//! The machine a node really runs on: files, sockets, TLS, signals and the system's clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api_server::Authenticator;
use api_server::ports::{Alarm, CertificateExpiry};
use raft::engine::{Engine, EngineError, Store};
use raft::env::Clock;
use raft_rocksdb::RocksEngine;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use statemachine::{ClusterId, MeshId};

use crate::certs::identity::Identity;
use crate::config::Config;
use crate::directory::DataDirectory;
use crate::disk::{self, DataDisk};
use crate::env::Env;
use crate::exit::{Exit, Failure};
use crate::join::{self, Joining};
use crate::logs::Levels;
use crate::report::Reporter;
use crate::run::Node;
use crate::tls::{Certificates, Door, TlsDial, TlsListen};
use crate::{metrics_listener, notify, reload, signals};

/// An alarm is raised when the node's certificate ends sooner than this.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);

/// Runs the node of `config`, which was read from `file`, until it is told to stop.
///
/// # Errors
/// Why it could not start, or had to stop.
pub async fn run(file: &Path, config: Config, levels: Levels, joining: Option<Joining>) -> Result<(), Failure> {
    let mut stop = signals::Stop::listen()?;
    let signal = signals::Reload::listen()?;

    // What is wrong with files is said before anything is changed.
    let watched = reload::Watched::of(&config);
    let certificates = load_certificates(&config)?;
    let auth = Arc::new(authenticator(&config)?);
    if let Some(joining) = &joining {
        joining.check_authorities(&certificates.authorities())?;
    }
    let directory = DataDirectory::open(&config)?;
    let disk = Arc::new(DataDisk::new(&config.node.data_dir));
    disk::before_opening(&*disk, &config.disk_marks());
    let (log, state) = open_stores(&config, &directory).await?;
    let api = listen(&config, Door::Api, &certificates).await?;
    let raft = listen(&config, Door::Raft, &certificates).await?;
    let (alarming, ending, trusting) = (certificates.clone(), certificates.clone(), certificates.clone());
    let mut rng = StdRng::from_os_rng();
    let life = rng.next_u64();
    let manager = notify::Manager::of_this_process()
        .map_err(|error| Failure::new(Exit::Failed, format!("NOTIFY_SOCKET cannot be used: {error}")))?;
    let reporter = Reporter {
        config: config.clone(),
        certificates: certificates.clone(),
        levels: levels.clone(),
        started: SystemTime::now(),
    };
    let env = Env {
        log,
        state,
        api: Box::new(api),
        raft: Box::new(raft),
        dial: Arc::new(TlsDial::new(
            certificates.clone(),
            Duration::from_millis(config.raft.connect_timeout_ms),
        )),
        clock: Arc::new(SystemClock::new()),
        rng: Box::new(rng),
        threads: raft::Threads::Own,
        signer: certificates.clone(),
        auth: auth.clone(),
        alarms: Arc::new(move || certificate_alarm(alarming.not_after())),
        certificate_expiry: Arc::new(move || {
            ending.nearest_expiry().map(|expiry| CertificateExpiry {
                of: expiry.of.as_str(),
                not_after_s: expiry.unix_s(),
                fingerprint: expiry.fingerprint,
            })
        }),
        disk,
        inspect: Some(Arc::new(reporter)),
        authorities: Arc::new(move || trusting.authorities()),
        incarnation: directory.marker().incarnation(life),
        pinned: joining.as_ref().map(Joining::pinned),
        founder: directory.marker().founder,
    };
    let node = tokio::select! {
        node = Node::start(config.clone(), env) => node?,
        () = stop.asked() => return Ok(()),
    };
    let metrics = metrics_listener::start(config.telemetry.metrics_listen, node.registry().clone()).await?;
    certificates.register(&mut node.registry().lock());
    let told = manager.as_ref().map(|manager| manager.follow(node.handle().clone()));
    let reloader = reload::Reloader {
        file: file.to_owned(),
        config,
        certificates,
        auth,
        levels,
        watched,
    };
    let reloading = tokio::spawn(reloader.run(signal));
    let mut not_taken_in = None;
    let failed = tokio::select! {
        () = stop.asked() => None,
        fatal = node.handle().fatal() => Some(fatal),
        failure = join::refused(joining, node.handle()) => {
            not_taken_in = Some(failure);
            None
        }
    };
    reloading.abort();
    drop((metrics, told));
    if let Some(manager) = &manager {
        manager.stopping(failed.as_ref().map_or("asked to", |fatal| &fatal.detail));
    }
    match failed {
        None => {
            node.stop().await;
            not_taken_in.map_or(Ok(()), Err)
        }
        Some(fatal) => Err(node.fail(fatal).await),
    }
}

/// Checks what a configuration names, without running anything (`--check-config`).
///
/// # Errors
/// As a start would have them.
pub fn check_files(config: &Config) -> Result<(), Failure> {
    config.own_addresses().map_err(|why| Failure::new(Exit::Config, why))?;
    load_certificates(config)?;
    authenticator(config).map(drop)
}

fn load_certificates(config: &Config) -> Result<Arc<Certificates>, Failure> {
    let own = Identity::Node {
        mesh: config.mesh.id.clone(),
        cluster: config.mesh.cluster.clone(),
        node: config.node.id,
    };
    Certificates::load(&config.tls, own).map_err(|error| Failure::new(Exit::Config, error.to_string()))
}

fn authenticator(config: &Config) -> Result<Authenticator, Failure> {
    let wrong = |why: String| Failure::new(Exit::Config, why);
    let mesh = MeshId::new(&config.mesh.id).map_err(|error| wrong(error.to_string()))?;
    let cluster = ClusterId::new(&config.mesh.cluster).map_err(|error| wrong(error.to_string()))?;
    let rules = config.authentication().map_err(wrong)?;
    Authenticator::new(mesh, cluster, &rules).map_err(|error| wrong(error.to_string()))
}

type Stores = (Arc<dyn Engine>, Arc<dyn Engine>);

async fn open_stores(config: &Config, directory: &DataDirectory) -> Result<Stores, Failure> {
    let options = config.stores();
    let paths = [Store::Log, Store::State].map(|store| (store, directory.store(store.as_str())));
    let opened = tokio::task::spawn_blocking(move || -> Result<Stores, EngineError> {
        let [(log, log_path), (state, state_path)] = paths;
        let log = RocksEngine::open(&log_path, log, &options)?;
        let state = RocksEngine::open(&state_path, state, &options)?;
        Ok((Arc::new(log), Arc::new(state)))
    });
    let opened = opened
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("opening the stores: {error}")))?;
    opened.map_err(|error| error.to_fatal().into())
}

async fn listen(config: &Config, door: Door, certificates: &Arc<Certificates>) -> Result<TlsListen, Failure> {
    let (address, key) = match door {
        Door::Api => (config.api.listen, "api.listen"),
        Door::Raft => (config.raft.listen, "raft.listen"),
    };
    TlsListen::bind(address, door, certificates.clone(), &config.tls)
        .await
        .map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("`{key}`: {address} cannot be listened on: {error}"),
            )
        })
}

fn certificate_alarm(not_after: SystemTime) -> Vec<Alarm> {
    let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
    if left >= EXPIRES_SOON {
        return Vec::new();
    }
    let detail = if left.is_zero() {
        "the node's certificate has expired".to_owned()
    } else {
        format!("the node's certificate expires in {} days", left.as_secs() / 86_400)
    };
    vec![Alarm {
        name: "CERTIFICATE".to_owned(),
        detail,
    }]
}

/// The system's clocks.
#[derive(Debug)]
struct SystemClock {
    start: Instant,
}

impl SystemClock {
    fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

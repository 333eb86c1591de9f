//! The machine a node really runs on: files, sockets, TLS, signals and the system's clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api_server::Authenticator;
use api_server::ports::{Alarm, CertificateExpiry, QuicListen};
use raft::env::{Clock, Listen};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use statemachine::{ClusterId, MeshId};

use crate::audit_log;
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
use crate::stores::Stores;
use crate::tls::{Certificates, Door, QuicDoor, TlsDial, TlsListen};
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
    let stores = Stores::open(&config, &directory).await?;
    let memory = stores.memory();
    let api = listen(&config, Door::Api, &certificates).await?;
    let quic = listen_quic(&config, &api, &certificates)?;
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
        log: stores.log,
        state: stores.state,
        api: Box::new(api),
        quic,
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
        audit_log: open_audit_log(&config)?,
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
    memory.register(&mut node.registry().lock());
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

/// The files of the audit trail, where they are wanted.
fn open_audit_log(config: &Config) -> Result<Option<audit_log::Log>, Failure> {
    let (directory, files_max) = config.audit_files();
    if files_max == 0 {
        return Ok(None);
    }
    let opened = audit_log::Log::open(&directory, config.audit.file_bytes_max, files_max);
    opened.map(Some).map_err(|error| {
        let why = format!("`audit.directory`: {}: {error}", directory.display());
        Failure::new(Exit::Failed, why)
    })
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

/// The QUIC listener beside the API's own, where it is wanted.
fn listen_quic(
    config: &Config,
    api: &TlsListen,
    certificates: &Arc<Certificates>,
) -> Result<Option<Box<dyn QuicListen>>, Failure> {
    if !config.api.http3 {
        return Ok(None);
    }
    let address = api
        .local_addr()
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    match QuicDoor::bind(address, certificates.clone(), config) {
        Ok(door) => Ok(Some(Box::new(door))),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!(
                "`api.listen`: {address} cannot be listened on over UDP: {error}. HTTP/3 needs it; to do without, set \
                 `api.http3 = false`"
            ),
        )),
    }
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

//! Three etcd members on this machine, TLS on client and peer ports, everything else as etcd comes.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use api_client::{Endpoint, TlsConnect};
use bytes::Bytes;
use node_harness::{Programs, Running};
use tonic::{Request, Status};

use crate::{Error, Result, link::Link, load::Target};

pub mod messages;

use messages::{PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse};

/// What to do where etcd is not installed.
const INSTALL: &str =
    "etcd is not there: `apt-get install etcd-server` (Debian 12 brings 3.4), or name the program in ETCD";

const MEMBERS: usize = 3;

/// How long the members may take to have a leader.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The running members. Dropping it kills them.
pub struct Cluster {
    members: Vec<Running>,
    endpoints: Vec<Endpoint>,
    tls: Arc<TlsConnect>,
    version: String,
}

struct Files {
    directory: PathBuf,
    ca: PathBuf,
}

impl Cluster {
    /// Starts three members with their data below `directory`, which should be on the disk that the mesh uses.
    /// Certificates are made by `meshkit-node certs`, so that both sides have keys of one kind.
    ///
    /// # Errors
    /// Where etcd is not installed, or the members do not agree on a leader within 30 s.
    pub async fn start(programs: &Programs, directory: &Path) -> Result<Self> {
        let program = find()?;
        let files = certificates(programs, directory)?;
        let (client_ports, peer_ports) = (free_ports()?, free_ports()?);
        let initial: Vec<_> = peer_ports
            .iter()
            .enumerate()
            .map(|(member, port)| format!("m{member}=https://127.0.0.1:{port}"))
            .collect();
        let mut members = Vec::new();
        for (member, (client, peer)) in client_ports.iter().zip(&peer_ports).enumerate() {
            members.push(member_process(
                &program,
                &files,
                member,
                (*client, *peer),
                &initial.join(","),
            )?);
        }
        let ca = read(&files.ca)?;
        let tls = TlsConnect::new(Some(&ca), None).map_err(|error| Error::Call {
            doing: "TLS".into(),
            error,
        })?;
        let endpoints = client_ports
            .iter()
            .map(|port| endpoint(*port))
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = Self {
            members,
            endpoints,
            tls: Arc::new(tls),
            version: String::new(),
        };
        let start = Instant::now();
        loop {
            if let Some((_, version)) = cluster.ask().await {
                cluster.version = version;
                return Ok(cluster);
            }
            if start.elapsed() > READY_WITHIN {
                let seconds = READY_WITHIN.as_secs();
                return Err(Error::Late {
                    what: format!("etcd to elect a leader; logs in {}", directory.display()),
                    seconds,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The program's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The members' process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Running::pid).collect()
    }

    /// The endpoint of the member that leads, and what is needed to connect.
    ///
    /// # Errors
    /// Where none says that it leads.
    pub async fn leader(&self) -> Result<(Arc<TlsConnect>, Endpoint)> {
        let late = || Error::Late {
            what: "an etcd member to lead".into(),
            seconds: 0,
        };
        let (endpoint, _) = self.ask().await.ok_or_else(late)?;
        Ok((Arc::clone(&self.tls), endpoint))
    }

    /// The endpoint and process id of a member that does not lead.
    pub async fn follower(&self) -> Option<(Endpoint, u32)> {
        let (leader, _) = self.ask().await?;
        let at = self.endpoints.iter().position(|endpoint| *endpoint != leader)?;
        Some((self.endpoints.get(at)?.clone(), self.members.get(at)?.pid()))
    }

    /// The leader's endpoint and version, where all members answer and one says that it leads.
    async fn ask(&self) -> Option<(Endpoint, String)> {
        let mut leader = None;
        for endpoint in &self.endpoints {
            let link = Link::open(&self.tls, endpoint).await.ok()?;
            let status: StatusResponse = link
                .unary("/etcdserverpb.Maintenance/Status", Request::new(StatusRequest {}))
                .await
                .ok()?;
            let member = status.header?.member_id;
            if status.leader != 0 && status.leader == member {
                leader = Some((endpoint.clone(), status.version));
            }
        }
        leader
    }
}

/// The load, as etcd takes it.
#[derive(Debug, Clone, Copy)]
pub struct Etcd;

impl Target for Etcd {
    async fn put(&self, link: &Link, key: usize, value: String) -> std::result::Result<(), Status> {
        put_at(link, name(key), value).await
    }

    async fn get(&self, link: &Link, key: usize) -> std::result::Result<(), Status> {
        let request = RangeRequest {
            key: name(key),
            range_end: Bytes::new(),
        };
        let answer: RangeResponse = link.unary("/etcdserverpb.KV/Range", Request::new(request)).await?;
        match answer.kvs.first() {
            Some(found) if !found.value.is_empty() => Ok(()),
            Some(_) | None => Err(Status::not_found("no value")),
        }
    }
}

pub(crate) async fn put_at(link: &Link, key: Bytes, value: String) -> std::result::Result<(), Status> {
    let value = Bytes::from(value);
    let request = Request::new(PutRequest { key, value });
    let _: PutResponse = link.unary("/etcdserverpb.KV/Put", request).await?;
    Ok(())
}

pub(crate) fn name(key: usize) -> Bytes {
    Bytes::from(format!("bench-{key}"))
}

fn find() -> Result<PathBuf> {
    let program = std::env::var_os("ETCD").map_or_else(|| PathBuf::from("etcd"), PathBuf::from);
    let works = Command::new(&program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match works {
        Ok(status) if status.success() => Ok(program),
        Ok(_) | Err(_) => Err(Error::Worthless(INSTALL.to_owned())),
    }
}

fn certificates(programs: &Programs, directory: &Path) -> Result<Files> {
    std::fs::create_dir_all(directory).map_err(|error| Error::File {
        path: directory.to_owned(),
        error,
    })?;
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let (ca, ca_key) = (path("ca.crt"), path("ca.key"));
    programs
        .node(["certs", "ca", "--mesh", "etcd", "--out", path("ca").as_str()])
        .ok()?;
    for member in 0..MEMBERS {
        let (number, out) = ((member + 1).to_string(), path(&format!("m{member}")));
        let mut arguments = vec![
            "certs",
            "node",
            "--ca",
            &ca,
            "--ca-key",
            &ca_key,
            "--mesh",
            "etcd",
            "--cluster",
            "etcd",
        ];
        arguments.extend(["--node", &number, "--host", "127.0.0.1", "--out", &out]);
        programs.node(arguments).ok()?;
    }
    Ok(Files {
        directory: directory.to_owned(),
        ca: PathBuf::from(ca),
    })
}

fn member_process(program: &Path, files: &Files, member: usize, ports: (u16, u16), initial: &str) -> Result<Running> {
    let file = |name: String| files.directory.join(name);
    let (cert, key) = (file(format!("m{member}.crt")), file(format!("m{member}.key")));
    let (client, peer) = (
        format!("https://127.0.0.1:{}", ports.0),
        format!("https://127.0.0.1:{}", ports.1),
    );
    let log = file(format!("m{member}.log"));
    let told = File::create(&log).map_err(|error| Error::File {
        path: log.clone(),
        error,
    })?;
    let told_too = told.try_clone().map_err(|error| Error::File { path: log, error })?;
    let mut command = dying_with_us(program);
    command
        .args(["--name", &format!("m{member}"), "--data-dir"])
        .arg(file(format!("m{member}.data")))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args([
            "--initial-cluster",
            initial,
            "--initial-cluster-state",
            "new",
            "--initial-cluster-token",
            "bench",
        ])
        .arg("--cert-file")
        .arg(&cert)
        .arg("--key-file")
        .arg(&key)
        .arg("--peer-cert-file")
        .arg(&cert)
        .arg("--peer-key-file")
        .arg(&key)
        .arg("--peer-trusted-ca-file")
        .arg(&files.ca)
        .args([
            "--peer-client-cert-auth",
            "--log-level",
            "error",
            "--quota-backend-bytes",
            "8589934592",
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(told)
        .stderr(told_too);
    // Its tools are found by path, as `find` did.
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    Ok(Running::start(command)?)
}

/// etcd itself does not notice that whoever started it is gone; util-linux's setpriv makes the kernel see to it.
fn dying_with_us(program: &Path) -> Command {
    let setpriv = Command::new("setpriv")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if setpriv.is_ok_and(|status| status.success()) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn free_ports() -> Result<Vec<u16>> {
    let failed = |error| Error::File {
        path: PathBuf::from("127.0.0.1:0"),
        error,
    };
    // Held until all are known, so that they differ.
    let held = (0..MEMBERS)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    held.iter()
        .map(|listener| listener.local_addr().map(|address| address.port()).map_err(failed))
        .collect()
}

fn endpoint(port: u16) -> Result<Endpoint> {
    let text = format!("https://127.0.0.1:{port}");
    Endpoint::parse_any(&text).map_err(|error| Error::Connect {
        endpoint: text,
        why: error.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::File {
        path: path.to_owned(),
        error,
    })
}

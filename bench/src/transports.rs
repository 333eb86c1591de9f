//! What a request costs the server over HTTP/2 and over HTTP/3: one REST read, with everything else equal.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_quic::config;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Error, Result, mesh::Mesh, usage::Usage};

/// Clients that share one connection.
const CLIENTS_PER_CONNECTION: usize = 16;

/// How long a measurement runs before it counts.
const WARMUP: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Clients, each of which asks again when it is answered.
    pub clients: usize,
    /// Measurements of each.
    pub rounds: u32,
    /// How long one counts.
    pub window: Duration,
}

/// What came of one round of one transport.
#[derive(Debug, Clone, Copy)]
struct Sample {
    per_second: f64,
    cpu_us: f64,
}

/// An open connection over either; clones share it.
#[derive(Clone)]
enum Link {
    H2(http2::SendRequest<Empty<Bytes>>),
    H3(api_quic::Client),
}

struct To {
    tls: Arc<ClientConfig>,
    address: SocketAddr,
    token: String,
    pid: u32,
}

/// Starts a mesh and measures both in turns. Answers a table.
///
/// # Errors
/// Where the mesh does not start, or a request fails.
pub fn run(plan: Plan, mut say: impl FnMut(&str)) -> Result<String> {
    let mesh = Mesh::start()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| worthless("a runtime", &error))?;
    runtime.block_on(async {
        mesh.register(1).await?;
        let to = to(&mesh)?;
        let mut samples = [Vec::new(), Vec::new()];
        for round in 1..=plan.rounds {
            for (over_h3, samples) in [false, true].into_iter().zip(&mut samples) {
                let sample = measure(&to, over_h3, plan).await?;
                let name = name(over_h3);
                say(&format!(
                    "round {round}: {name}: {:.0}/s, {:.1} µs",
                    sample.per_second, sample.cpu_us
                ));
                samples.push(sample);
            }
        }
        Ok(table(plan, samples))
    })
}

fn name(over_h3: bool) -> &'static str {
    if over_h3 { "HTTP/3" } else { "HTTP/2" }
}

fn table(plan: Plan, samples: [Vec<Sample>; 2]) -> String {
    let [h2, h3] = samples.map(|samples| Sample {
        per_second: median(samples.iter().map(|sample| sample.per_second)),
        cpu_us: median(samples.iter().map(|sample| sample.cpu_us)),
    });
    let mut text = format!(
        "One peer read as REST and JSON from the node that is asked, {} clients, medians of {} rounds of {} s each.\n\n\
         | | per second | server's CPU µs/request |\n|---|---|---|\n",
        plan.clients,
        plan.rounds,
        plan.window.as_secs()
    );
    for (over_h3, sample) in [(false, h2), (true, h3)] {
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} |",
            name(over_h3),
            sample.per_second,
            sample.cpu_us
        );
    }
    let _ = writeln!(text, "\nHTTP/3 costs **{:.2}** times HTTP/2's.", h3.cpu_us / h2.cpu_us);
    text
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn to(mesh: &Mesh) -> Result<To> {
    let info = mesh.processes().info();
    let node = info.clusters.iter().flat_map(|cluster| &cluster.nodes).next();
    let node = node.ok_or_else(|| Error::Worthless("there is no node".to_owned()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&info.ca).map_err(|error| worthless("the CA", &error))? {
        let certificate = certificate.map_err(|error| worthless("the CA", &error))?;
        roots.add(certificate).map_err(|error| worthless("the CA", &error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| worthless("TLS", &error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = node.api.trim_start_matches("https://").parse();
    Ok(To {
        tls: Arc::new(tls),
        address: address.map_err(|error| worthless("the node's address", &error))?,
        token: info.tokens.by_name()["read"].to_owned(),
        pid: node.pid,
    })
}

fn worthless(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Worthless(format!("{what}: {why}"))
}

async fn measure(to: &To, over_h3: bool, plan: Plan) -> Result<Sample> {
    let mut links = Vec::new();
    for _ in 0..plan.clients.div_ceil(CLIENTS_PER_CONNECTION) {
        links.push(open(to, over_h3).await?);
    }
    let answered = Arc::new(AtomicU64::new(0));
    // Stops them when it is dropped.
    let mut clients = tokio::task::JoinSet::new();
    for (_, link) in (0..plan.clients).zip(links.iter().cycle()) {
        let request = request(to)?;
        clients.spawn(client(link.clone(), request, Arc::clone(&answered)));
    }
    tokio::time::sleep(WARMUP).await;
    let look = || {
        Ok::<_, Error>((
            Instant::now(),
            Usage::of(&[to.pid])?.cpu,
            answered.load(Ordering::Relaxed),
        ))
    };
    let before = look()?;
    tokio::select! {
        () = tokio::time::sleep(plan.window) => {}
        Some(Ok(failed)) = clients.join_next() => return Err(failed),
    }
    let after = look()?;
    let requests = (after.2 - before.2) as f64;
    Ok(Sample {
        per_second: requests / (after.0 - before.0).as_secs_f64(),
        cpu_us: after.1.saturating_sub(before.1).as_secs_f64() * 1e6 / requests,
    })
}

fn request(to: &To) -> Result<Request<()>> {
    let request = Request::get(format!("https://{}/meshkit/peers/{}", to.address, crate::mesh::id(0)));
    let request = request
        .header("authorization", format!("Bearer {}", to.token))
        .header("mesh-consistency", "local");
    request.body(()).map_err(|error| worthless("a request", &error))
}

async fn open(to: &To, over_h3: bool) -> Result<Link> {
    let host = to.address.ip().to_string();
    if over_h3 {
        let failed = |error: api_quic::Error| worthless("QUIC", &error);
        let config = config::client(&to.tls, &config::Transport::default()).map_err(failed)?;
        let endpoint = config::client_endpoint(to.address).map_err(|error| worthless("a socket", &error))?;
        let connecting = endpoint.connect_with(config, to.address, &host);
        let quic = connecting.map_err(|error| worthless("QUIC", &error))?.await;
        let quic = quic.map_err(|error| worthless("QUIC", &error))?;
        return Ok(Link::H3(api_quic::Client::new(quic).await.map_err(failed)?));
    }
    let mut tls = ClientConfig::clone(&to.tls);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(to.address)
        .await
        .map_err(|error| worthless("TCP", &error))?;
    stream.set_nodelay(true).map_err(|error| worthless("TCP", &error))?;
    let name = ServerName::try_from(host).map_err(|error| worthless("TLS", &error))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    let stream = TokioIo::new(stream.map_err(|error| worthless("TLS", &error))?);
    let (send, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .map_err(|error| worthless("HTTP/2", &error))?;
    tokio::spawn(connection);
    Ok(Link::H2(send))
}

/// Asks without pause. Ends only where a request fails.
async fn client(mut link: Link, request: Request<()>, answered: Arc<AtomicU64>) -> Error {
    loop {
        let request = request.clone().map(|()| Empty::<Bytes>::new());
        let answer = match &mut link {
            Link::H2(send) => match send.send_request(request).await {
                Ok(answer) => {
                    let status = answer.status();
                    answer
                        .into_body()
                        .collect()
                        .await
                        .map(|_| status)
                        .map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
            Link::H3(client) => match client.send(request).await {
                Ok(answer) => {
                    let status = answer.status();
                    answer
                        .into_body()
                        .collect()
                        .await
                        .map(|_| status)
                        .map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        match answer {
            Ok(status) if status.is_success() => answered.fetch_add(1, Ordering::Relaxed),
            Ok(status) => return Error::Worthless(format!("a request was answered {status}")),
            Err(why) => return Error::Worthless(format!("a request failed: {why}")),
        };
    }
}

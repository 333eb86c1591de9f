//! Certificates and keys are replaced under load, by the commands of the runbook, and nobody whose credential is good
//! notices (S4). What is not good any more is refused, also on connections that were open.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use api_client::Client;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use node_harness::{Mesh, Options, wait_until};
use proto::v1::RegisterPeerRequest;
use serde_json::{Value, json};

use super::{
    http3::counted,
    wire::{Caller, Reply, Tls, Wire, runtime},
    world::{SOON, agreed, caller, dev_file, follower, leader, registration, tls, unique, wait},
};

const RUNBOOK: &str = "../../docs/runbooks/rotate-certificates-and-keys.md";

/// The commands under each heading of the runbook, in order.
fn runbook() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(RUNBOOK)).unwrap();
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.to_owned();
        } else if let Some(heading) = line.strip_prefix("### ") {
            steps.push((format!("{section}: {heading}"), Vec::new()));
            continue;
        }
        if line.starts_with("## ") {
            steps.push((section.clone(), Vec::new()));
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.last_mut().unwrap().1.push(command.to_owned());
        }
    }
    steps.retain(|(_, commands)| !commands.is_empty());
    steps
}

/// Runs commands of the runbook in the directory of the mesh.
fn play(mesh: &Mesh, commands: &[String]) {
    let pids: Vec<_> = mesh
        .ids()
        .iter()
        .map(|node| mesh.node(*node).unwrap().pid.to_string())
        .collect();
    let programs = mesh.programs().path("mesh").parent().unwrap().to_owned();
    let path = std::env::join_paths([programs.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    for command in commands {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-e", "-c", command])
            .env_clear()
            .env("PATH", &path)
            .env("MESH", &mesh.info().mesh)
            .env("CLUSTER", &mesh.info().clusters[0].id)
            .env("PIDS", pids.join(" "))
            .stdin(Stdio::null())
            .current_dir(mesh.info().ca.parent().unwrap());
        let done = shell.output().unwrap();
        assert!(
            done.status.success(),
            "`{command}`: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// What a node's `/metrics` says of certificates of one use.
fn ends(mesh: &Mesh, node: u64, of: &str) -> Vec<String> {
    let text = caller(mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
    let begin = format!("meshkit_certificate_expiry_seconds{{use=\"{of}\"");
    text.lines()
        .filter(|line| line.starts_with(&begin))
        .map(str::to_owned)
        .collect()
}

fn until_all(mesh: &Mesh, what: &str, is_so: impl Fn(u64) -> bool) {
    wait_until(SOON, what, || mesh.ids().into_iter().all(&is_so)).unwrap();
}

/// Callers of the SDK that read and write without pause, each as whoever it is told to be.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<Arc<Working>>,
    threads: Vec<JoinHandle<()>>,
}

struct Working {
    client: Mutex<Client>,
    done: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn start(clients: Vec<Client>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = clients
            .into_iter()
            .map(|client| {
                Arc::new(Working {
                    client: Mutex::new(client),
                    done: AtomicU64::new(0),
                    failed: Mutex::default(),
                })
            })
            .collect();
        let threads = callers.iter().map(|caller| {
            let (caller, stop) = (caller.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    caller.work();
                }
            })
        });
        let threads = threads.collect();
        Self { stop, callers, threads }
    }

    /// One caller goes by another credential from its next request on.
    fn switch(&self, caller: usize, client: Client) {
        *self.callers[caller].client.lock().unwrap() = client;
    }

    /// Waits until every caller has done some more with what it has now.
    fn goes_on(&self) {
        let before: Vec<_> = self.callers.iter().map(|c| c.done.load(Ordering::Relaxed)).collect();
        let moved = wait_until(SOON, "the load goes on", || {
            self.callers
                .iter()
                .zip(&before)
                .all(|(caller, before)| caller.done.load(Ordering::Relaxed) >= before + 5)
        });
        self.no_failures();
        moved.unwrap();
    }

    fn no_failures(&self) {
        for (number, caller) in self.callers.iter().enumerate() {
            let failed = caller.failed.lock().unwrap();
            assert!(failed.is_empty(), "caller {number}: {failed:#?}");
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.callers
            .iter()
            .map(|caller| caller.done.load(Ordering::Relaxed))
            .sum()
    }
}

impl Working {
    /// Writes something and reads it.
    fn work(&self) {
        let client = self.client.lock().unwrap().clone();
        let id = unique("rotated");
        let request = RegisterPeerRequest {
            id: id.clone(),
            endpoints: vec!["127.0.0.1:9000".to_owned()],
            ..RegisterPeerRequest::default()
        };
        let written = wait(client.register_peer(request)).map(drop);
        let read = wait(client.get_peer(proto::v1::GetPeerRequest { id: id.clone() }));
        for failure in [written.err(), read.map(drop).err()].into_iter().flatten() {
            self.failed.lock().unwrap().push(format!("{id}: {failure}"));
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        // Steady, not as fast as the machine can: others use it too.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The SDK with a credential, as a context file says it; trusts what the mesh's bundle holds now.
fn sdk(mesh: &Mesh, credential: &str) -> Client {
    let file = mesh.scratch().join(format!("{}.toml", unique("sdk")));
    let bundle = file.with_extension("ca");
    fs::copy(&mesh.info().ca, &bundle).unwrap();
    let text = format!("endpoints = {:?}\nca = {bundle:?}\n{credential}\n", mesh.endpoints());
    fs::write(&file, text).unwrap();
    let flags = api_client::context::Flags {
        context: Some(file),
        ..Default::default()
    };
    let context = api_client::Context::load(&flags, &Default::default()).unwrap();
    api_client::Builder::from_context(&context).unwrap().build().unwrap()
}

fn with_certificate(mesh: &Mesh) -> Client {
    let copy = mesh.scratch().join(unique("ops"));
    for extension in ["crt", "key"] {
        fs::copy(
            dev_file(mesh, &format!("ops.{extension}")),
            copy.with_extension(extension),
        )
        .unwrap();
    }
    let (cert, key) = (copy.with_extension("crt"), copy.with_extension("key"));
    sdk(mesh, &format!("cert = {cert:?}\nkey = {key:?}"))
}

fn with_token(mesh: &Mesh, token: &Path) -> Client {
    sdk(
        mesh,
        &format!("token = {:?}", fs::read_to_string(token).unwrap().trim()),
    )
}

/// A connection of a client with a certificate that stays open.
struct Open(Sender, String);

/// Over TCP and over UDP.
const OVER_BOTH: [Wire; 2] = [Wire::H2, Wire::H3];

enum Sender {
    H2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
    H3(api_quic::Client),
}

impl Open {
    fn to(mesh: &Mesh, node: u64, wire: Wire, cert: &[u8], key: &[u8]) -> Result<Self, String> {
        let address = mesh
            .node(node)
            .unwrap()
            .api
            .strip_prefix("https://")
            .unwrap()
            .to_owned();
        let tls = Tls::new(&fs::read(&mesh.info().ca).unwrap(), Some((cert, key)));
        runtime().block_on(async {
            if wire == Wire::H3 {
                return Ok(Self(Sender::H3(tls.connect_h3(&address).await?), address));
            }
            let stream = tls.connect(&address, b"h2").await?;
            let connect = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (sender, connection) = connect.await.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            Ok(Self(Sender::H2(sender), address))
        })
    }

    /// Status and code of a read; an error where the connection carries no more.
    fn read(&mut self) -> Result<(u16, String), String> {
        let request = Request::get(format!("https://{}/meshkit/peers?limit=1", self.1));
        let request = request
            .header("mesh-consistency", "local")
            .body(Full::default())
            .unwrap();
        let answer = async {
            match &mut self.0 {
                Sender::H2(sender) => {
                    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
                    let status = answer.status().as_u16();
                    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
                    Ok((status, body.to_bytes()))
                }
                Sender::H3(client) => {
                    let answer = client.send(request).await.map_err(|error| error.to_string())?;
                    let status = answer.status().as_u16();
                    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
                    Ok((status, body.to_bytes()))
                }
            }
        };
        let answer = runtime().block_on(async { tokio::time::timeout(Duration::from_secs(10), answer).await });
        let (status, body) = answer.map_err(|_| "no answer".to_owned()).flatten()?;
        let json: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok((status, json["code"].as_str().unwrap_or_default().to_owned()))
    }
}

/// A certificate and its key.
type Identity = (Vec<u8>, Vec<u8>);

fn shown(mesh: &Mesh, node: u64, wire: Wire, (cert, key): &Identity) -> Caller {
    let tls = Tls::new(&fs::read(&mesh.info().ca).unwrap(), Some((cert, key)));
    Caller::new(&mesh.node(node).unwrap().api, wire, tls)
}

/// Watches at every node, in every form, by a certificate.
fn watch_with(mesh: &Mesh, identity: &Identity) -> Vec<(Wire, JoinHandle<Reply>)> {
    const WIRES: [Wire; 5] = Wire::ALL;
    let open = |node| counted(mesh, node, &["meshkit_api_watches{"]);
    let before: Vec<u64> = mesh.ids().into_iter().map(open).collect();
    let mut watching = Vec::new();
    for node in mesh.ids() {
        for wire in WIRES {
            let at = shown(mesh, node, wire, identity);
            let watch = std::thread::spawn(move || match wire.is_rest() {
                true => at.get("/meshkit/peers:watch?progressInterval=10s"),
                false => {
                    let answer = at.grpc_raw("/meshkit.v1.WatchService/WatchPeers", Bytes::new());
                    Reply::of_stream(answer, String::new())
                }
            });
            watching.push((wire, watch));
        }
    }
    let all = || {
        let mut nodes = mesh.ids().into_iter().zip(&before);
        nodes.all(|(node, before)| open(node) == before + WIRES.len() as u64)
    };
    wait_until(SOON, "all watches to be open", all).unwrap();
    watching
}

/// A watch was ended with the reason, and with a token that goes on by another certificate.
fn are_told(mesh: &Mesh, wire: Wire, ended: &Reply, identity: &Identity) {
    let problem = match wire.is_rest() {
        false => ended.json.clone(),
        true => {
            let last = ended.text.rsplit("event: error\n").next().unwrap();
            let data = last.lines().find_map(|line| line.strip_prefix("data: "));
            let data = data.unwrap_or_else(|| panic!("{wire:?}: the stream ended without a word: {ended:?}"));
            serde_json::from_str(data).unwrap()
        }
    };
    assert_eq!(problem["code"], "credential_expired", "{wire:?}: {ended:?}");
    let token = problem["token"].as_str().unwrap();
    let again = shown(mesh, leader(mesh), Wire::H2, identity).with("mesh-timeout", "500ms");
    let again = again.get(&format!("/meshkit/peers:watch?token={token}"));
    assert!(again.text.contains("event: begun"), "{again:?}");
}

/// A client's certificate of the CA in `ca` that is good for this long. `certs client` counts in days.
fn short_lived(mesh: &Mesh, ca: &str, lives: Duration) -> (String, String) {
    let read = |extension: &str| fs::read_to_string(dev_file(mesh, &format!("{ca}.{extension}"))).unwrap();
    let signing = rcgen::KeyPair::from_pem(&read("key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("crt"), signing).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = format!("spiffe://{}/client/brief", mesh.info().mesh);
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.as_str().try_into().unwrap())];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(60));
    params.not_after = epoch + now + lives;
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn rotating() -> Options {
    let binding = r#"[{ spiffe = "spiffe://MESH/client/*", scopes = ["mesh.operate"] }]"#;
    Options {
        environment: vec![
            ("MESHKIT_TLS__RELOAD_INTERVAL_MS".to_owned(), "200".to_owned()),
            ("MESHKIT_AUTH__BINDING".to_owned(), binding.replace("MESH", "dev")),
        ],
        ..Options::default()
    }
}

/// Issues the client `ops` a certificate of the CA in force.
fn issue_ops(mesh: &Mesh) {
    let issue = "meshkit-node certs client --ca ca.crt --ca-key ca.key --mesh $MESH --name ops --out ops --force";
    play(mesh, &[issue.to_owned()]);
}

fn bytes(file: PathBuf) -> Vec<u8> {
    fs::read(file).unwrap()
}

#[test]
fn everything_is_replaced_under_load_as_the_runbook_says() {
    let mesh = Mesh::start(rotating()).unwrap();
    let steps = runbook();
    let mut steps = steps.iter();
    let mut step = |expected: &str| {
        let (heading, commands) = steps
            .next()
            .unwrap_or_else(|| panic!("{RUNBOOK} has no step `{expected}`"));
        assert!(
            heading.contains(expected),
            "{RUNBOOK}: `{heading}` where `{expected}` was expected"
        );
        play(&mesh, commands);
    };
    issue_ops(&mesh);
    let old_ops = (bytes(dev_file(&mesh, "ops.crt")), bytes(dev_file(&mesh, "ops.key")));
    let load = Load::start(vec![
        with_token(&mesh, &mesh.scratch().join("operate.jwt")),
        with_certificate(&mesh),
    ]);
    load.goes_on();

    // Nodes' certificates: new ends for all, a new key for the first.
    let before: Vec<_> = mesh.ids().iter().map(|&node| ends(&mesh, node, "node")).collect();
    assert!(before.iter().all(|ends| ends.len() == 1), "{before:?}");
    step("Renew a node's certificate");
    until_all(&mesh, "renewed certificates", |node| {
        ends(&mesh, node, "node") != before[usize::try_from(node).unwrap() - 1]
    });
    load.goes_on();

    // The CA. First both are trusted, by clients too.
    step("Trust both");
    until_all(&mesh, "two authorities", |node| ends(&mesh, node, "ca").len() == 2);
    load.switch(0, with_token(&mesh, &mesh.scratch().join("operate.jwt")));
    load.switch(1, with_certificate(&mesh));
    load.goes_on();
    let before: Vec<_> = mesh.ids().iter().map(|&node| ends(&mesh, node, "node")).collect();
    step("Issue everything anew");
    until_all(&mesh, "certificates of the new authority", |node| {
        ends(&mesh, node, "node") != before[usize::try_from(node).unwrap() - 1]
    });
    load.switch(1, with_certificate(&mesh));
    load.goes_on();
    // The certificate before still counts …
    let mut left: Vec<_> = mesh
        .ids()
        .iter()
        .flat_map(|&node| OVER_BOTH.map(|wire| Open::to(&mesh, node, wire, &old_ops.0, &old_ops.1).unwrap()))
        .collect();
    for open in &mut left {
        assert_eq!(open.read().unwrap(), (200, String::new()));
    }
    let watching = watch_with(&mesh, &old_ops);
    // … until its authority is dropped: then neither an open connection nor a new one is good for anything.
    step("Drop the old one");
    until_all(&mesh, "one authority", |node| ends(&mesh, node, "ca").len() == 1);
    let new_ops = (bytes(dev_file(&mesh, "ops.crt")), bytes(dev_file(&mesh, "ops.key")));
    for (wire, watch) in watching {
        are_told(&mesh, wire, &watch.join().unwrap(), &new_ops);
    }
    for open in &mut left {
        match open.read() {
            Ok(answer) => assert_eq!(answer, (401, "unauthenticated".to_owned())),
            Err(closed) => assert!(!closed.contains("no answer"), "{closed}"),
        }
    }
    for (node, wire) in mesh
        .ids()
        .into_iter()
        .flat_map(|node| OVER_BOTH.map(|wire| (node, wire)))
    {
        let new = Open::to(&mesh, node, wire, &old_ops.0, &old_ops.1).and_then(|mut open| open.read());
        assert!(
            new.is_err(),
            "node {node} lets an old certificate in over {wire:?}: {new:?}"
        );
    }
    load.goes_on();
    // Requests are still carried from node to node.
    let (from, id) = (follower(&mesh), unique("forwarded"));
    caller(&mesh, from, Wire::H2, "operate")
        .with("mesh-route", "forward")
        .call("RegisterPeer", registration(&id))
        .ok();

    // The key that signs tokens, with a SIGHUP on the way.
    let old_token = mesh.info().tokens.operate.clone();
    step("Accept both");
    step("Issue tokens anew");
    let new_token = dev_file(&mesh, "ops.jwt");
    let text = fs::read_to_string(&new_token).unwrap();
    let with = |node: u64, token: &str| {
        let caller = Caller::new(&mesh.node(node).unwrap().api, Wire::H2, tls(&mesh)).bearer(token.trim());
        caller.call("CanI", json!({ "what": "mesh.operate" })).status
    };
    until_all(&mesh, "the new key", |node| with(node, &text) == 200);
    load.switch(0, with_token(&mesh, &new_token));
    load.goes_on();
    step("Drop the old one");
    until_all(&mesh, "the old key refused", |node| with(node, &old_token) == 401);
    load.goes_on();
    assert!(steps.next().is_none(), "{RUNBOOK} has steps that nothing plays");
    load.no_failures();
    let done = load.stop();
    assert!(done >= 70, "only {done} rounds were under way");
    // The context's token is of the old key.
    let reader = mesh.scratch().join("read.jwt");
    let token = "meshkit-node certs token --key jwt.key --mesh $MESH --subject reader --scope mesh.read --force --out";
    play(&mesh, &[format!("{token} {}", reader.display())]);
    agreed(&mesh);
    mesh.stop().unwrap();
}

#[test]
fn half_a_file_changes_nothing_and_an_expired_certificate_nothing_either() {
    let mesh = Mesh::start(rotating()).unwrap();
    issue_ops(&mesh);
    let node = leader(&mesh);
    let load = Load::start(vec![with_certificate(&mesh)]);

    // Expired on an open connection.
    let (cert, key) = short_lived(&mesh, "ca", Duration::from_secs(6));
    let mut brief = OVER_BOTH.map(|wire| Open::to(&mesh, node, wire, cert.as_bytes(), key.as_bytes()).unwrap());
    for brief in &mut brief {
        assert_eq!(brief.read().unwrap(), (200, String::new()));
    }

    // Half a bundle, half a key file, and none at all.
    let (ca, pem) = (mesh.info().ca.clone(), bytes(mesh.info().ca.clone()));
    let (jwt, public) = (dev_file(&mesh, "jwt.pub"), bytes(dev_file(&mesh, "jwt.pub")));
    fs::write(&ca, &pem[..pem.len() / 2]).unwrap();
    fs::write(&jwt, &public[..public.len() / 2]).unwrap();
    let told = |section: &str, node: u64| {
        let log = fs::read_to_string(&mesh.node(node).unwrap().log).unwrap_or_default();
        let mut lines = log.lines().filter(|line| line.contains("was not reloaded"));
        lines.any(|line| line.contains(section) && line.contains("WARN"))
    };
    until_all(&mesh, "the warning", |node| told("tls", node) && told("auth", node));
    load.goes_on();
    fs::remove_file(&ca).unwrap();
    load.goes_on();
    fs::write(&ca, &pem).unwrap();
    fs::write(&jwt, &public).unwrap();
    load.goes_on();

    for brief in &mut brief {
        let refused = wait_until(SOON, "credential_expired", || match brief.read() {
            Ok((200, _)) => false,
            Ok(answer) => {
                assert_eq!(answer, (401, "credential_expired".to_owned()));
                true
            }
            Err(closed) => panic!("closed instead of told: {closed}"),
        });
        refused.unwrap();
    }
    for wire in OVER_BOTH {
        let again = Open::to(&mesh, node, wire, cert.as_bytes(), key.as_bytes()).and_then(|mut open| open.read());
        assert!(
            again.is_err(),
            "an expired certificate is let in over {wire:?}: {again:?}"
        );
    }
    load.stop();
    agreed(&mesh);
    mesh.stop().unwrap();
}

//! What the table of verbs is run against: a mesh, the ways to it, and what is noted of every call for the end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError, atomic::AtomicU64},
};

use bytes::Bytes;
use node_harness::{Mesh, wait_until};
use prost::Message as _;
use proto::{methods::Form, v1::AuditRecord};
use serde_json::{Value, json};

use super::shards::{Prepared, TARGET};
use crate::e2e::{
    http3::{UdpOnly, address},
    wire::{Caller, Reply, Tls, Wire, encoded, method},
    world::{SOON, audit, caller, leader, register, tls, unique, wait},
};

/// Both forms of the API over both versions of HTTP.
pub const WIRES: [Wire; 4] = [Wire::H2, Wire::Grpc, Wire::H3, Wire::GrpcH3];

/// Who there is, with what they hold at most.
pub const PEOPLE: [(&str, &str); 4] = [
    ("read", "mesh.read"),
    ("observe", "mesh.observe"),
    ("operate", "mesh.operate"),
    ("admin", "mesh.admin"),
];

/// A mesh, and what was sent to it.
pub struct World<'a> {
    pub mesh: &'a Mesh,
    pub leader: u64,
    /// A node that says that its disk is full.
    pub full: u64,
    /// A member that does not vote, and that nobody has heard of.
    pub learner: OnceLock<u64>,
    /// The only ways to the nodes that HTTP/3 is sent over: TCP does not go there.
    ways: BTreeMap<u64, UdpOnly>,
    tls: Tls,
    subjects: BTreeMap<&'static str, String>,
    sent: Mutex<BTreeMap<Counted, u64>>,
    expected: Mutex<Vec<Expected>>,
    refusals: Mutex<BTreeMap<Refused, u64>>,
    /// How many cases failed.
    pub failed: AtomicU64,
    /// Shards to do something with.
    pub shards: Prepared,
}

/// A sample of `meshkit_api_requests_total`: action, form, protocol.
type Counted = (String, &'static str, &'static str);

/// A line of `audit.refusals`: actor, action, code.
pub type Refused = (String, String, String);

/// What the trail has to have of one request.
#[derive(Debug)]
pub struct Expected {
    pub of: String,
    pub request_id: String,
    pub actor: String,
    pub action: String,
    pub transport: &'static str,
    pub trail: Trail,
}

/// What the trail has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trail {
    /// One record: outcome, target, code.
    Record(&'static str, String, &'static str),
    /// Nothing: nothing was changed, or it is counted and logged only.
    Nothing,
}

/// One call: what is asked, of what, and as whom.
#[derive(Clone, Debug)]
pub struct Ask {
    pub request: Value,
    /// What the trail names; `{id}` stands for the id in the answer.
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    /// Whose token is shown, if any is.
    pub who: Option<&'static str>,
}

impl Ask {
    pub fn new(request: Value, target: impl Into<String>) -> Self {
        Self {
            request,
            target: target.into(),
            headers: Vec::new(),
            who: Some("admin"),
        }
    }

    pub fn by(mut self, who: &'static str) -> Self {
        self.who = Some(who);
        self
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with other fields.
    pub fn and(mut self, more: Value) -> Self {
        let fields = self.request.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        self
    }
}

/// What came of a call, whatever it is made of.
pub struct Came {
    pub request_id: String,
    pub reply: Reply,
}

impl<'a> World<'a> {
    pub fn new(mesh: &'a Mesh, full: u64) -> Self {
        let ways = mesh.ids().into_iter().map(|id| (id, UdpOnly::to(address(mesh, id))));
        let leader = leader(mesh);
        let mut world = Self {
            mesh,
            leader,
            full,
            learner: OnceLock::new(),
            ways: ways.collect(),
            tls: tls(mesh),
            subjects: BTreeMap::new(),
            sent: Mutex::default(),
            expected: Mutex::default(),
            refusals: Mutex::default(),
            failed: AtomicU64::new(0),
            shards: Prepared::on(mesh),
        };
        let peer = format!("spiffe://{}/peer/{TARGET}", mesh.info().mesh);
        world.subjects.insert("peer", peer);
        for who in ["read", "observe", "operate", "admin", "admin2"] {
            let told = caller(mesh, leader, Wire::H2, who).call("CanI", json!({ "what": "mesh.read" }));
            world.subjects.insert(who, told.ok().str("principal").to_owned());
        }
        world
    }

    /// A caller of a node, over UDP alone where it speaks HTTP/3. Whoever is asked carries what only the leader does.
    pub fn at(&self, node: u64, wire: Wire) -> Caller {
        let api = match wire {
            Wire::H3 | Wire::GrpcH3 => format!("https://{}", self.ways[&node].address),
            Wire::H1 | Wire::H2 | Wire::Grpc => self.mesh.node(node).unwrap().api.clone(),
        };
        Caller::new(&api, wire, self.tls.clone()).with("mesh-route", "forward")
    }

    /// Prepares something: nothing of it is looked at at the end.
    #[track_caller]
    pub fn make(&self, who: &str, rpc: &str, request: Value) -> Reply {
        let token = self.mesh.info().tokens.by_name()[who];
        self.at(self.leader, Wire::H2).bearer(token).call(rpc, request)
    }

    /// A peer of its own.
    pub fn peer(&self) -> String {
        let id = unique("verb");
        register(self.mesh, &id);
        id
    }

    pub fn subject(&self, who: &str) -> &str {
        &self.subjects[who]
    }

    /// Calls a method, whatever it answers, and counts that.
    pub fn call(&self, rpc: &str, node: u64, wire: Wire, ask: &Ask, more: &[(&'static str, &str)]) -> Came {
        let method = method(rpc);
        let request_id = unique("verbs-request");
        let mut at = self.at(node, wire).with("mesh-request-id", &request_id);
        if let Some(who) = ask.who {
            at = at.bearer(match who {
                "peer" => &self.shards.alive.tokens[TARGET],
                who => self.mesh.info().tokens.by_name()[who],
            });
        }
        for (name, value) in ask
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(more.iter().copied())
        {
            at = at.with(name, value);
        }
        let api = if wire.is_rest() { "rest" } else { "grpc" };
        let counted = (method.action.clone(), api, wire.label());
        *lock(&self.sent).entry(counted).or_default() += 1;
        let reply = match method.form {
            Form::Message => at.call(rpc, ask.request.clone()),
            Form::Download | Form::Events => stream(&at, rpc, &ask.request),
        };
        Came { request_id, reply }
    }

    /// Notes what the trail has to have of a call that was made by `who`.
    pub fn expect(&self, of: String, rpc: &str, wire: Wire, who: &str, came: &Came, trail: Trail) {
        let trail = match trail {
            Trail::Record(outcome, target, code) => {
                Trail::Record(outcome, target.replace("{id}", came.reply.str("id")), code)
            }
            Trail::Nothing => Trail::Nothing,
        };
        lock(&self.expected).push(Expected {
            of,
            request_id: came.request_id.clone(),
            actor: self.subject(who).to_owned(),
            action: method(rpc).action.clone(),
            transport: wire.label(),
            trail,
        });
    }

    /// Notes that the trail has to have one more refusal.
    pub fn expect_refusal(&self, rpc: &str, who: &str, code: &str) {
        let key = (
            self.subject(who).to_owned(),
            method(rpc).action.clone(),
            code.to_owned(),
        );
        *lock(&self.refusals).entry(key).or_default() += 1;
    }

    /// Waits until the trail has every refusal that was noted.
    pub fn refusals_are_there(&self) {
        let mut seen = BTreeMap::new();
        let wanted = lock(&self.refusals).clone();
        let all = wait_until(SOON, "every refusal in the trail", || {
            seen = recorded_refusals(self.mesh);
            wanted
                .iter()
                .all(|(key, count)| seen.get(key).copied().unwrap_or_default() >= *count)
        });
        let missing = wanted
            .iter()
            .filter(|(key, count)| seen.get(*key).copied().unwrap_or_default() < **count);
        let missing: Vec<_> = missing.collect();
        all.unwrap_or_else(|error| panic!("{error}: {missing:?}"));
    }

    /// Holds the trail against what was noted: one record for each call, with who, what, how and what came of it.
    pub fn trail_is_as_expected(&self) {
        let mut by_request: BTreeMap<String, Vec<AuditRecord>> = BTreeMap::new();
        for record in audit(self.mesh) {
            by_request.entry(record.request_id.clone()).or_default().push(record);
        }
        let mut wrong = Vec::new();
        for expected in lock(&self.expected).iter() {
            let found = by_request.remove(&expected.request_id).unwrap_or_default();
            let found: Vec<_> = found.iter().map(told).collect();
            let wanted: Vec<_> = match &expected.trail {
                Trail::Nothing => Vec::new(),
                Trail::Record(outcome, target, code) => vec![(
                    expected.actor.clone(),
                    expected.action.clone(),
                    target.clone(),
                    (*outcome).to_owned(),
                    (*code).to_owned(),
                    expected.transport.to_owned(),
                )],
            };
            if found != wanted {
                wrong.push(format!("{}: found {found:?}, wanted {wanted:?}", expected.of));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} records are wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }

    /// Holds the nodes' own count of requests against what was sent, above all that what came over UDP is HTTP/3.
    pub fn everything_was_counted(&self) {
        let mut counted: BTreeMap<Counted, u64> = BTreeMap::new();
        for node in self.mesh.ids() {
            let text = caller(self.mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
            for (key, sent) in lock(&self.sent).iter() {
                let (action, api, transport) = key;
                let words = [
                    "meshkit_api_requests_total{".to_owned(),
                    format!("action=\"{action}\""),
                    format!("api=\"{api}\""),
                    format!("transport=\"{transport}\""),
                ];
                let samples = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
                let sum: u64 = samples
                    .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                    .sum();
                assert!(*sent > 0);
                *counted.entry(key.clone()).or_default() += sum;
            }
        }
        let sent = lock(&self.sent);
        let less: Vec<_> = sent.iter().filter(|(key, sent)| counted[*key] < **sent).collect();
        assert!(less.is_empty(), "sent, and not counted as such: {less:?}");
    }
}

fn told(record: &AuditRecord) -> (String, String, String, String, String, String) {
    (
        record.actor.clone(),
        record.action.clone(),
        record.target.clone(),
        record.outcome().as_str_name().to_owned(),
        record.code.clone(),
        record.transport.clone(),
    )
}

/// How often each refusal is in the trail.
fn recorded_refusals(mesh: &Mesh) -> BTreeMap<Refused, u64> {
    let mut seen: BTreeMap<Refused, u64> = BTreeMap::new();
    let client = crate::e2e::world::client(mesh, "observe");
    let mut cursor = String::new();
    loop {
        let request = proto::v1::ListAuditRecordsRequest {
            limit: 500,
            cursor,
            action: "audit.refusals".into(),
            ..Default::default()
        };
        let page = wait(client.list_audit_records(request)).unwrap().message;
        for line in page.items.iter().flat_map(|record| record.detail.split("; ")) {
            // `dev-reader peers.drain peer/p1: scope_missing`
            let Some((what, code)) = line.rsplit_once(": ") else {
                continue;
            };
            let mut words = what.split(' ');
            if let (Some(actor), Some(action)) = (words.next(), words.next()) {
                *seen.entry((actor.into(), action.into(), code.into())).or_default() += 1;
            }
        }
        if page.next_cursor.is_empty() {
            return seen;
        }
        cursor = page.next_cursor;
    }
}

/// A method whose answer is a stream, read to its end.
fn stream(at: &Caller, rpc: &str, request: &Value) -> Reply {
    let method = method(rpc);
    if at.wire.is_rest() {
        let pairs = request.as_object().unwrap().iter();
        let query: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={}", encoded(value.as_str().unwrap_or(&value.to_string()))))
            .collect();
        return at.get(&format!("{}?{}", method.http.template.text, query.join("&")));
    }
    let message = proto::json::read(&method.input, request.to_string().as_bytes()).unwrap();
    let answer = at.grpc_raw(&method.path, Bytes::from(message.encode_to_vec()));
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Reply::of_stream(answer, text)
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

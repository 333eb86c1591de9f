//! The clients of a story: what they ask for, in an order that follows from the seed.
//!
//! A few peers serve as registers, written and read by all; others belong to one client, which registers, cordons,
//! drains and deregisters them. Every command carries an idempotency key, and keeps it over all its attempts.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng, rngs::StdRng};
use statemachine::{
    ClusterId, Command, Conditions, CordonPeer, DeregisterPeer, DrainPeer, Idempotency, InvalidId, NodeId, Origin,
    PatchPeer, PeerId, RegisterPeer, UncordonPeer, UndrainPeer, audit,
    record::{Attributes, PeerSpec, WEIGHT_DEFAULT},
};
use tokio::time::sleep;

use crate::{
    clock,
    history::{Call, History, Outcome},
    network::CLUSTER,
    schedule::{MACHINES, rng},
    sdk,
    session::Session,
};

/// How many clients there are.
pub const CLIENTS: u64 = 4;
/// The peers that all clients write and read.
pub const REGISTERS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];
/// The label that writes write.
pub const VALUE: &str = "value";
/// The most peers that a client has of its own at a time.
const OWN_MAX: usize = 4;

/// What clients and the story tell each other.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Set once the registers are there.
    pub ready: Arc<AtomicBool>,
    /// Set when clients are to write once more and end.
    pub stop: Arc<AtomicBool>,
}

/// How a client reaches the cluster.
enum Door {
    /// Consensus itself: is told the audit chain with every answer.
    Direct(Box<Session>),
    /// The API, through the SDK.
    Api(Box<sdk::Session>),
}

/// One client.
pub struct Client {
    name: String,
    rng: StdRng,
    door: Door,
    history: History,
    signals: Signals,
    /// Operations so far: numbers keys.
    count: u64,
    /// Its own peers that are there, as far as it knows.
    own: VecDeque<String>,
    /// ETags that it read.
    etags: BTreeMap<String, String>,
}

impl Client {
    /// The client of a number, in the story of a seed. Every second one uses the SDK.
    ///
    /// # Errors
    /// The SDK cannot be set up: a bug here.
    pub fn new(number: u64, seed: u64, history: History, signals: Signals) -> Result<Self, api_client::Error> {
        let random = rng(seed, 0x2000 + number);
        let door = if number.is_multiple_of(2) {
            Door::Api(Box::new(sdk::Session::new(random, MACHINES)?))
        } else {
            Door::Direct(Box::new(Session::new(random)))
        };
        Ok(Self {
            name: format!("c{number}"),
            rng: rng(seed, 0x1000 + number),
            door,
            history,
            signals,
            count: 0,
            own: VecDeque::new(),
            etags: BTreeMap::new(),
        })
    }

    /// Runs until told to stop. The first client makes the registers first; the others wait for them.
    ///
    /// # Errors
    /// An id that it made is none: a bug here.
    pub async fn run(mut self) -> Result<(), InvalidId> {
        if self.name == "c1" {
            for register in REGISTERS {
                while !self
                    .perform(Call::Register(register.to_owned()))
                    .await?
                    .is_acknowledged()
                {}
            }
            self.signals.ready.store(true, Ordering::Relaxed);
        }
        while !self.signals.ready.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await;
        }
        while !self.signals.stop.load(Ordering::Relaxed) {
            let call = self.choose();
            self.perform(call).await?;
            sleep(Duration::from_millis(self.rng.random_range(1..40))).await;
        }
        let last = Call::Write {
            peer: self.register(),
            if_match: None,
        };
        self.perform(last).await?;
        Ok(())
    }

    fn register(&mut self) -> String {
        REGISTERS[self.rng.random_range(0..REGISTERS.len())].to_owned()
    }

    fn choose(&mut self) -> Call {
        let register = self.register();
        match self.rng.random_range(0..100) {
            0..30 => Call::Write {
                peer: register,
                if_match: None,
            },
            30..42 => match self.etags.get(&register) {
                Some(etag) => Call::Write {
                    if_match: Some(etag.clone()),
                    peer: register,
                },
                None => Call::Read(register),
            },
            42..67 => Call::Read(register),
            67..72 => Call::ReadLocal(register),
            kind => self.choose_own(kind),
        }
    }

    /// Something with a peer of its own: the last part of the scale goes to making and removing them.
    fn choose_own(&mut self, kind: u32) -> Call {
        let fresh = Call::Register(format!("p-{}-{}", self.name, self.count));
        if kind >= 90 && self.own.len() >= OWN_MAX {
            return self.own.pop_front().map_or(fresh, Call::Deregister);
        }
        if kind >= 90 || self.own.is_empty() {
            return fresh;
        }
        let peer = self.own[self.rng.random_range(0..self.own.len())].clone();
        match kind {
            72..76 => Call::Cordon(peer),
            76..80 => Call::Uncordon(peer),
            80..85 => Call::Drain(peer),
            _ => Call::Undrain(peer),
        }
    }

    async fn perform(&mut self, call: Call) -> Result<Outcome, InvalidId> {
        self.count += 1;
        let key = format!("{}-{:05}", self.name, self.count);
        let number = self.history.invoke(&self.name, key.clone(), call.clone());
        let origin = self.origin(&key, &call);
        let ended = match (&mut self.door, &call) {
            (Door::Api(session), _) => session.perform(&call, &key).await,
            (Door::Direct(session), Call::Read(peer)) => session.read(&PeerId::new(peer)?, true).await,
            (Door::Direct(session), Call::ReadLocal(peer)) => session.read(&PeerId::new(peer)?, false).await,
            (Door::Direct(session), _) => {
                let (command, conditions) = command(&call, &key)?;
                session.propose(&origin, &conditions, &command).await
            }
        };
        self.learn(&call, &ended.outcome);
        self.history
            .complete(number, ended.node, ended.attempts, ended.outcome.clone());
        Ok(ended.outcome)
    }

    fn origin(&self, key: &str, call: &Call) -> Origin {
        Origin {
            actor: self.name.clone(),
            reason: "simulation".to_owned(),
            request_id: key.to_owned(),
            transport: "sim".to_owned(),
            node: NodeId(0),
            received_wall_ms: clock::EPOCH_MS,
            idempotency: Some(Idempotency {
                key: key.to_owned(),
                request: audit::request_hash(&[format!("{call:?}").as_bytes()]),
            }),
            ..Origin::default()
        }
    }

    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Read(peer), Outcome::Seen(_, _, Some(seen))) => {
                self.etags.insert(peer.clone(), seen.etag.clone());
            }
            (Call::Register(peer), Outcome::Applied(..) | Outcome::Replayed { .. } | Outcome::Unknown(_))
                if peer.starts_with('p') =>
            {
                self.own.push_back(peer.clone());
            }
            _ => {}
        }
    }
}

/// The command of a call, and its condition. Reads have none: they are not commands.
fn command(call: &Call, key: &str) -> Result<(Command, Conditions), InvalidId> {
    let mut conditions = Conditions::default();
    let command = match call {
        Call::Register(peer) => RegisterPeer {
            id: PeerId::new(peer)?,
            spec: spec()?,
        }
        .into(),
        Call::Deregister(peer) => DeregisterPeer { id: PeerId::new(peer)? }.into(),
        Call::Write { peer, if_match } => {
            conditions.if_match.clone_from(if_match);
            write(PeerId::new(peer)?, key)
        }
        Call::Cordon(peer) => CordonPeer { id: PeerId::new(peer)? }.into(),
        Call::Uncordon(peer) => UncordonPeer { id: PeerId::new(peer)? }.into(),
        Call::Drain(peer) => DrainPeer { id: PeerId::new(peer)? }.into(),
        Call::Undrain(peer) | Call::Read(peer) | Call::ReadLocal(peer) => UndrainPeer { id: PeerId::new(peer)? }.into(),
    };
    Ok((command, conditions))
}

fn write(id: PeerId, value: &str) -> Command {
    let labels = Attributes::from([(VALUE.to_owned(), value.to_owned())]);
    PatchPeer {
        id,
        labels,
        metadata: Attributes::new(),
        remove_labels: Vec::new(),
        remove_metadata: Vec::new(),
    }
    .into()
}

fn spec() -> Result<PeerSpec, InvalidId> {
    Ok(PeerSpec {
        cluster: ClusterId::new(CLUSTER)?,
        role: "worker".to_owned(),
        region: String::new(),
        zone: String::new(),
        endpoints: vec!["peer:443".to_owned()],
        labels: Attributes::new(),
        metadata: Attributes::new(),
        weight: WEIGHT_DEFAULT,
    })
}

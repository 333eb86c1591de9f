//! One operator's work: changes of peers, one after the other, as the board suggests them.

use std::{collections::BTreeMap, sync::Arc};

use api_client::{
    Answer, CallOptions, Error, Method, Mutation,
    methods::{CordonPeer, DeregisterPeer, DrainPeer, PatchPeer, RegisterPeer, UncordonPeer, UndrainPeer},
};
use proto::v1::{
    CordonPeerRequest, DeregisterPeerRequest, DrainPeerRequest, GetPeerRequest, PatchPeerRequest, Peer,
    RegisterPeerRequest, UncordonPeerRequest, UndrainPeerRequest, peer,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    journal::{End, Entry, Record, ticket},
    people::Person,
    stage::{Known, Stage},
};

/// Of a thousand changes, how many are asked for twice with one idempotency key.
const AGAIN_PER_MILLE: u32 = 40;

/// Of those, every so many-th has its key used for something else besides.
const REUSED_EVERY: u64 = 4;

/// One operator at work.
pub struct Operator {
    pub(super) person: Person,
    pub(super) stage: Arc<Stage>,
    pub(super) rng: StdRng,
    pub(super) entries: Vec<Entry>,
    /// Peers that this one registered for a while.
    extras: Vec<String>,
}

/// What is asked for, beside the request itself.
pub(super) struct Ask {
    pub action: &'static str,
    pub target: String,
    pub number: u64,
    pub mark: Option<String>,
}

impl Operator {
    /// Somebody who has done nothing yet.
    pub fn new(person: Person, stage: Arc<Stage>, seed: u64) -> Self {
        Self {
            person,
            stage,
            rng: StdRng::seed_from_u64(seed),
            entries: Vec::new(),
            extras: Vec::new(),
        }
    }

    /// Works until everybody stops.
    pub async fn work(&mut self) {
        while !self.stage.is_over() {
            if !self.approvals().await {
                self.change_a_peer().await;
            }
        }
    }

    /// What this one asked and was told.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Something that a change may leave behind and nothing else does.
    pub(super) fn ask(&self, action: &'static str, target: String) -> Ask {
        Ask {
            action,
            target,
            number: self.stage.number(),
            mark: None,
        }
    }

    /// Sends a change and writes down what came of it; some twice with one key, one after the other or at once.
    pub(super) async fn send<M>(&mut self, ask: Ask, mut request: M::Request) -> Result<Answer<M::Response>, Error>
    where
        M: Method,
        M::Request: Mutation + Clone,
        M::Response: Record,
    {
        request.set_ticket(ticket(ask.number));
        request.set_reason("a test of many operators".to_owned());
        let again = self.rng.random_range(0..1_000) < AGAIN_PER_MILLE;
        if !again {
            let answer = self.call::<M>(request).await;
            self.note(&ask, &answer);
            return answer;
        }
        request.set_idempotency_key(ticket(ask.number));
        let (first, second) = if self.rng.random() {
            tokio::join!(self.call::<M>(request.clone()), self.call::<M>(request))
        } else {
            let first = self.call::<M>(request.clone()).await;
            (first, self.call::<M>(request).await)
        };
        self.note(&ask, &first);
        self.note(&ask, &second);
        if ask.number.is_multiple_of(REUSED_EVERY) {
            self.reuse(ask.number).await;
        }
        first
    }

    async fn call<M: Method>(&self, request: M::Request) -> Result<Answer<M::Response>, Error> {
        self.person.client.call::<M>(request, CallOptions::default()).await
    }

    /// Uses a key for something else than it stands for.
    async fn reuse(&mut self, of: u64) {
        let id = format!("never-{of}");
        let ask = self.ask("peers.cordon", format!("peer/{id}"));
        let request = CordonPeerRequest {
            id,
            ticket: ticket(ask.number),
            idempotency_key: ticket(of),
            ..CordonPeerRequest::default()
        };
        let answer = self.call::<CordonPeer>(request).await;
        self.note(&ask, &answer);
    }

    fn note<R: Record>(&mut self, ask: &Ask, answer: &Result<Answer<R>, Error>) {
        let end = End::of(answer, ask.action.starts_with("approvals."));
        if end.is_news() {
            self.stage
                .acknowledged
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.entries.push(Entry {
            number: ask.number,
            actor: Arc::clone(&self.person.name),
            action: ask.action,
            target: ask.target.clone(),
            mark: ask.mark.clone(),
            end,
        });
    }

    /// One change of some peer, of which all others may change the same one.
    async fn change_a_peer(&mut self) {
        let index = self.rng.random_range(0..self.stage.peers.len());
        let known = self.stage.peers[index].lock().clone();
        let dice = self.rng.random_range(0..100_u32);
        let answer = match known.status {
            peer::Status::Active => match dice {
                0..50 => self.count_up(&known).await,
                50..76 => self.describe(&known).await,
                76..88 => self.cordon(&known).await,
                88..92 if self.person.admin => return self.come_and_go().await,
                // Those of the batches are drained together; now and then somebody does not know.
                88..95 if known.batch.is_none() || dice == 88 => self.drain(&known).await,
                _ => self.describe(&known).await,
            },
            peer::Status::Cordoned => match dice {
                0..50 => self.uncordon(&known).await,
                50..80 => self.count_up(&known).await,
                _ => self.describe(&known).await,
            },
            peer::Status::Draining | peer::Status::Drained | peer::Status::Unspecified => match dice {
                // What is drained together is left alone until that is over; now and then somebody does not know.
                0..50 if dice == 0 || self.stage.is_free(&known) => self.undrain(&known).await,
                50..75 => self.count_up(&known).await,
                _ => self.describe(&known).await,
            },
        };
        match answer {
            Ok(answer) => self.stage.learn(&answer.message),
            Err(_) => self.look(&known.id).await,
        }
    }

    /// What a conflict is answered with by somebody who wants to go on: a look at the record.
    async fn look(&self, id: &str) {
        let request = GetPeerRequest { id: id.to_owned() };
        if let Ok(answer) = self.person.client.get_peer(request).await {
            self.stage.learn(&answer.message);
        }
    }

    /// Read, change, write where nobody else did: no change of the label may be lost.
    async fn count_up(&mut self, known: &Known) -> Result<Answer<Peer>, Error> {
        let mut ask = self.ask("peers.patch", format!("peer/{}", known.id));
        let labels = BTreeMap::from([
            ("count".to_owned(), (known.count + 1).to_string()),
            ("by".to_owned(), ask.number.to_string()),
        ]);
        ask.mark = Some(format!("label/{}", ask.number));
        let request = PatchPeerRequest {
            id: known.id.clone(),
            labels,
            if_match: known.etag.clone(),
            ..PatchPeerRequest::default()
        };
        self.send::<PatchPeer>(ask, request).await
    }

    /// A change that does not depend on what was there.
    async fn describe(&mut self, known: &Known) -> Result<Answer<Peer>, Error> {
        let mut ask = self.ask("peers.patch", format!("peer/{}", known.id));
        ask.mark = Some(format!("metadata/{}", ask.number));
        let request = PatchPeerRequest {
            id: known.id.clone(),
            metadata: BTreeMap::from([("by".to_owned(), ask.number.to_string())]),
            ..PatchPeerRequest::default()
        };
        self.send::<PatchPeer>(ask, request).await
    }

    /// Sometimes only where the peer is as it was seen.
    fn if_match(&mut self, known: &Known) -> String {
        match self.rng.random_range(0..3) {
            0 => known.etag.clone(),
            _ => String::new(),
        }
    }

    async fn cordon(&mut self, known: &Known) -> Result<Answer<Peer>, Error> {
        let ask = self.ask("peers.cordon", format!("peer/{}", known.id));
        let request = CordonPeerRequest {
            id: known.id.clone(),
            if_match: self.if_match(known),
            ..CordonPeerRequest::default()
        };
        self.send::<CordonPeer>(ask, request).await
    }

    async fn uncordon(&mut self, known: &Known) -> Result<Answer<Peer>, Error> {
        let ask = self.ask("peers.uncordon", format!("peer/{}", known.id));
        let request = UncordonPeerRequest {
            id: known.id.clone(),
            if_match: self.if_match(known),
            ..UncordonPeerRequest::default()
        };
        self.send::<UncordonPeer>(ask, request).await
    }

    async fn drain(&mut self, known: &Known) -> Result<Answer<Peer>, Error> {
        let ask = self.ask("peers.drain", format!("peer/{}", known.id));
        let request = DrainPeerRequest {
            id: known.id.clone(),
            if_match: self.if_match(known),
            ..DrainPeerRequest::default()
        };
        self.send::<DrainPeer>(ask, request).await
    }

    async fn undrain(&mut self, known: &Known) -> Result<Answer<Peer>, Error> {
        let ask = self.ask("peers.undrain", format!("peer/{}", known.id));
        let request = UndrainPeerRequest {
            id: known.id.clone(),
            if_match: self.if_match(known),
            ..UndrainPeerRequest::default()
        };
        self.send::<UndrainPeer>(ask, request).await
    }

    /// Brings back what is drained, so that no drain waits for a cluster to have more active peers.
    pub async fn bring_back(&mut self) {
        for index in 0..self.stage.peers.len() {
            let known = self.stage.peers[index].lock().clone();
            let answer = match known.status {
                peer::Status::Drained if self.stage.is_free(&known) => self.undrain(&known).await,
                peer::Status::Cordoned => self.uncordon(&known).await,
                peer::Status::Active | peer::Status::Draining | peer::Status::Drained | peer::Status::Unspecified => {
                    continue;
                }
            };
            match answer {
                Ok(answer) => self.stage.learn(&answer.message),
                Err(_) => self.look(&known.id).await,
            }
        }
    }

    /// A peer of some weight comes, and goes when its operator has time again.
    async fn come_and_go(&mut self) {
        if let Some(id) = self.extras.pop() {
            let ask = self.ask("peers.deregister", format!("peer/{id}"));
            let request = DeregisterPeerRequest {
                id,
                ..DeregisterPeerRequest::default()
            };
            let _ = self.send::<DeregisterPeer>(ask, request).await;
            return;
        }
        let mut ask = self.ask("peers.register", String::new());
        let id = format!("extra-{}", ask.number);
        ask.target = format!("peer/{id}");
        let request = RegisterPeerRequest {
            id: id.clone(),
            endpoints: vec!["127.0.0.1:9000".into()],
            weight: self.rng.random_range(1..=10_000),
            ..RegisterPeerRequest::default()
        };
        if self.send::<RegisterPeer>(ask, request).await.is_ok() {
            self.extras.push(id);
        }
    }
}

//! What a change would move, held against the guardrails and the limits. Nothing is done, and nothing of it is on the write
//! path: any node plays it on its own view.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use proto::{
    codes::Code,
    v1::{self, simulate_shards_response::Guardrail},
};
use statemachine::{
    MeshState, NamespaceId, PeerId, percent,
    plan::{drain_peers, simulate},
    record::{HandOff, Namespace, ShardId},
};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Response;

use super::{asked_about, bounded, namespace_id};
use crate::{
    Error,
    context::Call,
    convert,
    history::Wanted,
    services::{
        Api, Received, length_ms,
        namespaces::{existing, strategy},
    },
    shares::Share,
};

/// How long a move takes where nothing is said.
const MOVE_TIME_MS: u64 = 2_000;
/// How long a move can be said to take: a millisecond to a day, as the longest step may.
const MOVE_TIMES_MS: RangeInclusive<u64> = 1..=86_400_000;
/// The most peers that one scenario names.
const NAMED_MAX: usize = 10_000;

/// A request that has been taken apart.
struct Asked {
    namespace: Option<NamespaceId>,
    scenario: simulate::Scenario,
    moved_permille_max: Option<u32>,
    move_time_ms: u64,
}

impl Asked {
    fn of(message: v1::SimulateShardsRequest) -> Result<Self, Error> {
        if message.nodes.len() + message.without.len() + message.without_zones.len() > NAMED_MAX {
            let why = format!("a simulation names at most {NAMED_MAX} peers and zones");
            return Err(Error::invalid("nodes", why));
        }
        let peer = |field: &str, id: &str| PeerId::new(id).map_err(|error| Error::invalid(field, error.to_string()));
        let nodes = message.nodes.into_iter().map(|node| {
            Ok(simulate::Node {
                id: peer("nodes", &node.id)?,
                weight: node.weight,
                region: node.region,
                zone: node.zone,
            })
        });
        let nodes = nodes.collect::<Result<Vec<_>, Error>>()?;
        let without = message.without.iter().map(|id| peer("without", id));
        let move_time_ms = length_ms("moveTime", message.move_time)?.unwrap_or(MOVE_TIME_MS);
        if !MOVE_TIMES_MS.contains(&move_time_ms) {
            let why = format!("within {} ms to {} ms", MOVE_TIMES_MS.start(), MOVE_TIMES_MS.end());
            return Err(Error::invalid("moveTime", why));
        }
        check_ceiling(message.moved_permille_max)?;
        Ok(Self {
            namespace: match message.namespace.as_str() {
                "" => None,
                given => Some(namespace_id("namespace", given)?),
            },
            scenario: simulate::Scenario {
                without: without.collect::<Result<_, _>>()?,
                nodes,
                without_zones: message.without_zones,
                strategy: strategy(message.strategy)?,
                replicas: message.replicas,
                region: message.region,
                peers: message.selector,
            },
            moved_permille_max: message.moved_permille_max,
            move_time_ms,
        })
    }
}

/// The ceiling that a request brings along.
pub(in crate::services) fn check_ceiling(moved_permille_max: Option<u32>) -> Result<(), Error> {
    match moved_permille_max {
        Some(1_001..) => Err(Error::invalid("movedPermilleMax", "tenths of a percent: 0 to 1000")),
        Some(_) | None => Ok(()),
    }
}

/// What comes of a scenario, over all namespaces that it is about.
#[derive(Default)]
struct Played {
    changes: Vec<v1::ShardChange>,
    loads: BTreeMap<PeerId, v1::ShardLoad>,
    shards: u32,
    unavoidable: u32,
    copied: u32,
    unowned: u32,
    held: u32,
    /// The namespace that has the most shards left without an owner, and how many.
    bare: Option<(u32, NamespaceId)>,
    /// The namespace with the least distance to its ceiling: share, ceiling.
    widest: Option<(u32, u32, NamespaceId)>,
    /// Moves of the namespace in which they take the most rounds.
    rounds: u64,
    /// Moves that each peer takes part in.
    peers: BTreeMap<PeerId, u64>,
    /// The longest that one move may take, in ms.
    move_ms_max: u64,
}

/// A place among the simulations of this node, and of the caller's share of them.
struct Simulating {
    _share: Share<String>,
    _place: OwnedSemaphorePermit,
}

/// It was not played in time.
pub(in crate::services) fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "it was not worked out in time")
        .hint("ask about one namespace, or wait longer: the time grows with shards, peers and replicas")
}

impl Api {
    /// Works out what keeps a processor busy for long, once there is a place for it.
    ///
    /// # Errors
    /// What the work says, `rate_limited` where the caller has as many already as it may, `deadline_exceeded` where it takes
    /// too long, or others do.
    pub(in crate::services) async fn worked_out<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce(&Wanted) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.simulation(call).await?;
        let work = move |wanted: &Wanted| {
            // Given back when it ends, whether or not anybody still waits for it.
            let _place = place;
            work(wanted)
        };
        let done = self.core.history.read(&call.request_id, call.deadline, work).await;
        done.map_err(|error| match error.code() {
            Code::DeadlineExceeded => late(),
            _ => error,
        })
    }

    /// A place for what keeps a processor busy for long.
    async fn simulation(&self, call: &Call) -> Result<Simulating, Error> {
        let share = self
            .simulated_for
            .take_of(&call.principal.subject, "simulations and reshapings", 1_000)?;
        let place = std::sync::Arc::clone(&self.simulations).acquire_owned();
        match tokio::time::timeout_at(call.deadline, place).await {
            Ok(Ok(place)) => Ok(Simulating {
                _share: share,
                _place: place,
            }),
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    pub(super) async fn shards_simulated(
        &self,
        received: Received<v1::SimulateShardsRequest>,
    ) -> Result<Response<v1::SimulateShardsResponse>, Error> {
        let Received { call, headers, message } = received;
        // Large requests are made small before anything is waited for.
        let asked = Asked::of(message)?;
        let view = self.viewed(&headers, &call).await?;
        let revision = view.position().revision;
        let play = move |wanted: &Wanted| play(&view.state().mesh, &asked, wanted);
        let answer = v1::SimulateShardsResponse {
            revision: revision.0,
            ..self.worked_out(&call, play).await?
        };
        Ok(self.at(revision, answer))
    }
}

fn play(mesh: &MeshState, asked: &Asked, wanted: &Wanted) -> Result<v1::SimulateShardsResponse, Error> {
    if let Some(id) = &asked.namespace {
        existing(mesh, id)?;
    }
    let mut played = Played::default();
    let stage = simulate::Stage::new(mesh, &asked.scenario)?;
    for id in asked_about(mesh, asked.namespace.as_ref()) {
        let namespace = existing(mesh, &id)?;
        let simulation = stage.play(mesh, namespace, &|| !wanted.is_over())?.ok_or_else(late)?;
        played.add(mesh, namespace, &simulation, asked.moved_permille_max);
    }
    Ok(played.answer(mesh, asked))
}

impl Played {
    fn add(
        &mut self,
        mesh: &MeshState,
        namespace: &Namespace,
        simulation: &simulate::Simulation,
        ceiling: Option<u32>,
    ) {
        let (id, policy) = (&namespace.id, &namespace.spec.policy);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.shards += simulation.shards;
        self.unavoidable += small(simulation.unavoidable());
        self.copied += small(simulation.copied);
        self.unowned += small(simulation.unowned);
        self.held += small(simulation.held);
        if simulation.unowned > 0
            && self
                .bare
                .as_ref()
                .is_none_or(|(most, _)| u64::from(*most) < simulation.unowned)
        {
            self.bare = Some((small(simulation.unowned), id.clone()));
        }
        let (share, limit) = (
            small(simulation.avoidable_permille()),
            ceiling.unwrap_or(policy.moved_permille_max),
        );
        let nearer = |(other, most, _): &(u32, u32, NamespaceId)| {
            i64::from(*most) - i64::from(*other) > i64::from(limit) - i64::from(share)
        };
        if self.widest.as_ref().is_none_or(nearer) {
            self.widest = Some((share, limit, id.clone()));
        }
        let moves = simulation.moved.len() as u64;
        self.rounds = self.rounds.max(moves.div_ceil(u64::from(policy.moves_max.max(1))));
        if moves > 0 {
            let steps = match policy.hand_off {
                HandOff::Exclusive => 2,
                HandOff::Overlap => 1,
            };
            self.move_ms_max = self.move_ms_max.max(policy.step_ms.saturating_mul(steps));
        }
        for moved in &simulation.moved {
            for peer in moved.from.iter().chain(&moved.to) {
                *self.peers.entry(peer.clone()).or_default() += 1;
            }
            let name = |owner: &Option<PeerId>| owner.as_ref().map(ToString::to_string).unwrap_or_default();
            let shard = ShardId {
                namespace: id.clone(),
                index: moved.shard,
            };
            let epoch = mesh.shard(&shard).map_or(0, |shard| shard.epoch);
            self.changes.push(v1::ShardChange {
                namespace: id.to_string(),
                shard: moved.shard,
                owner_before: name(&moved.from),
                owner_after: name(&moved.to),
                epoch_before: epoch,
                epoch_after: epoch.saturating_add(1),
                unavoidable: moved.unavoidable,
            });
        }
        for (peer, (before, after)) in &simulation.loads {
            let load = self.loads.entry(peer.clone()).or_insert_with(|| v1::ShardLoad {
                peer: peer.to_string(),
                ..v1::ShardLoad::default()
            });
            load.owned_before += small(before.owned);
            load.owned_after += small(after.owned);
            load.replicas_before += small(before.copies);
            load.replicas_after += small(after.copies);
        }
    }

    fn answer(self, mesh: &MeshState, asked: &Asked) -> v1::SimulateShardsResponse {
        let moved = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        let permille = (u64::from(moved) * 1_000).div_ceil(u64::from(self.shards.max(1)));
        let settings = mesh.settings();
        let of_all = u64::from(moved).div_ceil(settings.moves_max.max(1));
        let of_peer = self.peers.values().max().copied().unwrap_or_default();
        let of_peer = of_peer.div_ceil(settings.moves_per_peer_max.max(1));
        let rounds = self.rounds.max(of_all).max(of_peer);
        let guardrails = self.guardrails(mesh, &asked.scenario);
        let (changes, truncated) = bounded(self.changes);
        v1::SimulateShardsResponse {
            changes,
            loads: self.loads.into_values().collect(),
            shards: self.shards,
            moved,
            unavoidable: self.unavoidable,
            moved_permille: u32::try_from(permille).unwrap_or(u32::MAX),
            copied: self.copied,
            unowned: self.unowned,
            guardrails,
            revision: 0,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            estimated: Some(convert::duration(rounds.saturating_mul(asked.move_time_ms))),
            at_most: Some(convert::duration(rounds.saturating_mul(self.move_ms_max))),
            truncated,
        }
    }

    /// What the change would be held against, each by the code that it would be refused with.
    fn guardrails(&self, mesh: &MeshState, scenario: &simulate::Scenario) -> Vec<Guardrail> {
        let mut all = Vec::new();
        if let Some((share, limit, id)) = &self.widest {
            all.push(Guardrail {
                rule: "moves_too_many".to_owned(),
                measured: format!("{} of namespace {id}", percent(*share)),
                limit: percent(*limit),
                passed: share <= limit,
            });
        }
        let bare = match &self.bare {
            Some((count, id)) => format!("{count} shards of namespace {id} without an owner"),
            None => "every shard has an owner".to_owned(),
        };
        all.push(Guardrail {
            rule: "no_eligible_peer".to_owned(),
            measured: bare,
            limit: "every shard has an owner".to_owned(),
            passed: self.unowned == 0,
        });
        if self.held > 0 {
            all.push(Guardrail {
                rule: "peer_owns_shards".to_owned(),
                measured: format!(
                    "{} paused or disabled shards on peers that go: a drain waits until they are resumed, enabled or left behind",
                    self.held
                ),
                limit: "any number".to_owned(),
                passed: true,
            });
        }
        let zones: BTreeSet<&str> = scenario.without_zones.iter().map(String::as_str).collect();
        let named: BTreeSet<&PeerId> = scenario.without.iter().collect();
        let going = mesh.peers_after(None).map(|peer| &**peer);
        let going = going.filter(|peer| named.contains(&peer.id) || zones.contains(peer.spec.zone.as_str()));
        let going: BTreeSet<&PeerId> = going.map(|peer| &peer.id).collect();
        // As the drain itself would have it: of one peer by name, or of several at once.
        let needed = match going.len() {
            0 | 1 if zones.is_empty() => mesh.settings().peers_active_min,
            _ => drain_peers::needed(mesh),
        };
        if let Some(worst) = drain_peers::active_left(mesh, &going, needed) {
            all.push(Guardrail {
                rule: "active_peers_low".to_owned(),
                measured: format!("{} in cluster {}", worst.left, worst.cluster),
                limit: needed.to_string(),
                passed: worst.left >= needed,
            });
        }
        all
    }
}

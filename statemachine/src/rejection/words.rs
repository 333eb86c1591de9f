//! What a rejection says to people.

use super::{Rejection, percent};
use crate::{
    Revision,
    record::{ClusterPhase, ShardStatus},
};

impl Rejection {
    /// What happened, with names and values, in one line.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::InvalidArgument { field, why } => format!("{field}: {why}"),
            Self::NotFound { kind, id } => format!("there is no {kind} `{id}`"),
            Self::AlreadyExists { kind, id, current } => {
                format!("{kind} `{id}` exists; its ETag is {current}")
            }
            Self::EtagMismatch {
                given,
                current: Some(current),
            } => {
                format!("the record has changed: its ETag is {current}, not `{given}`")
            }
            Self::EtagMismatch { given, current: None } => {
                format!("there is no such record, so no ETag matches `{given}`")
            }
            Self::RevisionMismatch { given, current } => {
                format!("the mesh is at revision {current}, not {given}")
            }
            Self::IdempotencyKeyReused { revision } => {
                format!("the idempotency key was used for a different request at revision {revision}")
            }
            Self::IdempotencyKeyExpired { age_ms, ttl_ms } => {
                format!("the idempotency key is {age_ms} ms old; keys of this form are kept for {ttl_ms} ms")
            }
            Self::ResourceExhausted { what, measured, limit } => {
                format!("{what}: {measured} of at most {limit} are in use")
            }
            Self::PeerDraining {
                peer,
                operation: Some(operation),
            } => {
                format!("peer `{peer}` is draining or drained by operation `{operation}`")
            }
            Self::PeerDraining { peer, operation: None } => format!("peer `{peer}` is draining or drained"),
            Self::PeerOwnsShards { peer, shards } => {
                format!("peer `{peer}` has {shards} shards or copies of shards, those on their way to it counted")
            }
            Self::OperationFinished { operation, state } => {
                format!("operation `{operation}` has ended: {}", state.word())
            }
            Self::OperationMoved { operation, step } => {
                format!("operation `{operation}` is not at step {step} any more")
            }
            Self::CheckpointStale { revision } => {
                format!("the checkpoint of revision {revision} does not match the chain, or is too old to tell")
            }
            Self::MeshInitialized => "the mesh is initialized already".to_owned(),
            Self::MeshNotInitialized => "the mesh is not initialized yet".to_owned(),
            Self::LastActiveCluster { cluster } => {
                format!("cluster `{cluster}` is the only active one: without it the mesh takes no mutations")
            }
            Self::ReplicationNotConfigured { cluster } => {
                format!("cluster `{cluster}` is not known to follow the active one, so it would go on with nothing")
            }
            Self::ClusterTransition { cluster, from, to } => {
                format!(
                    "cluster `{cluster}` is {}, and does not become {} in this way",
                    from.word(),
                    to.word()
                )
            }
            Self::FeatureLevelTooLow { needed, current } => {
                format!("this takes feature level {needed}; the mesh is at {current}")
            }
            Self::FeatureLevelUnknown { asked, current, known } => {
                format!("feature level {asked}: the mesh is at {current}, and the newest program knows up to {known}")
            }
            Self::HistoryInUse { to, age_ms, needed_ms } => {
                format!("revision {to} is {age_ms} ms old; for {needed_ms} ms a retry may have to be answered from it")
            }
            Self::ApprovalStale { approval, why } => {
                format!("request `{approval}` is not what would happen now: {why}")
            }
            Self::ApprovalOwn { approval } => {
                format!("request `{approval}` is your own: somebody else has to agree to it")
            }
            Self::ApprovalGiven { approval, actor } => {
                format!("`{actor}` has agreed to request `{approval}` already; it waits for another person")
            }
            Self::ApprovalFinished { approval, state } => {
                format!("request `{approval}` was decided: {}", state.word())
            }
            Self::ApprovalExpired { approval, for_ms } => {
                format!("request `{approval}` was not decided in time; it ran out {for_ms} ms ago")
            }
            Self::ScopeMissing { needed, approvers } => {
                format!(
                    "this has to be decided by {}, which takes the scope {}",
                    approvers.said(),
                    needed.word()
                )
            }
            Self::ActivePeersLow { cluster, left, needed } => {
                format!("cluster `{cluster}` would be left with {left} active peers; at least {needed} have to stay")
            }
            Self::NothingSelected { selector, set_aside: 0 } => format!("`{selector}` selects no peer"),
            Self::NothingSelected { selector, set_aside } => {
                format!("`{selector}` selects {set_aside} peers, and all of them are drained, draining, or about to be")
            }
            Self::SelectionTooLarge { selected, limit } => {
                format!("{selected} peers are selected; one operation drains at most {limit}")
            }
            Self::SelectionChanged {
                selected,
                expected,
                first,
            } => format!(
                "{selected} peers are selected, {expected} were expected, and they are not the same: the first to differ is `{first}`"
            ),
            Self::NoEligiblePeer {
                peer: Some(peer),
                namespace,
            } => format!(
                "nobody else can take the shards of namespace `{namespace}` that peer `{peer}` owns: the other peers that it \
                 selects are suspect, dead, cordoned or being drained, or there are none"
            ),
            Self::NoEligiblePeer { peer: None, namespace } => {
                format!(
                    "nobody could take the shards of namespace `{namespace}`: the peers that it would select are suspect, dead, \
                     cordoned or being drained, or there are none"
                )
            }
            Self::NamespaceBusy {
                namespace,
                phase,
                operation,
            } => {
                let by = operation
                    .as_ref()
                    .map(|id| format!(" by operation `{id}`"))
                    .unwrap_or_default();
                format!("namespace `{namespace}` is {}{by}", phase.word())
            }
            Self::NamespaceInUse { namespace, served } => {
                format!("{served} shards of namespace `{namespace}` are not disabled")
            }
            Self::ShardTransition { shard, status, action } => {
                format!("shard `{shard}` is {}: no {action} from there", status.word())
            }
            Self::ShardThere { shard, peer } => format!("shard `{shard}` is owned by `{peer}` already"),
            Self::TargetUnfit { peer, why } => format!("peer `{peer}` is not given the shard: it is {why}"),
            Self::MoveOver {
                shard,
                begun: Revision(0),
                ..
            } => format!("shard `{shard}` is not on its way"),
            Self::MoveOver { shard, begun, step } => {
                format!(
                    "shard `{shard}` is not at step {} of the move that began at revision {begun}",
                    step.word()
                )
            }
            Self::NotWaitedFor { shard, peer, waits_for } => {
                format!("the move of shard `{shard}` waits for `{waits_for}`, not for `{peer}`")
            }
            Self::StaleToken { shard, token, current } => {
                format!("shard `{shard}` has the token {current}, not {token}")
            }
            Self::ShardCountFixed {
                namespace,
                shards,
                asked,
            } => {
                format!("namespace `{namespace}` has {shards} shards; {asked} would put its keys into other shards")
            }
            Self::MovesTooMany {
                namespace,
                measured,
                limit,
            } => format!(
                "{} of the shards of namespace `{namespace}` would move beyond what has to; {} may",
                percent(*measured),
                percent(*limit)
            ),
        }
    }

    /// What to do next, in one line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::InvalidArgument { .. } => "correct the field and send the request again".to_owned(),
            Self::NotFound { kind, .. } => match kind.as_str() {
                "operation" => "`mesh operations list` shows what there is".to_owned(),
                _ => format!("`mesh {kind}s list` shows what there is"),
            },
            Self::AlreadyExists { kind, id, .. } if kind == "peer" => format!(
                "choose another id, or change the one there: `mesh peers set {id}`, `mesh peers label {id}`; another cluster takes \
                 `mesh peers drain {id} --wait`, `mesh peers deregister {id}`, and this again"
            ),
            Self::AlreadyExists { .. } => "choose another id, or change the existing record".to_owned(),
            Self::EtagMismatch { current: Some(_), .. } => {
                "read the record again, check that the change still makes sense, and send its new ETag".to_owned()
            }
            Self::EtagMismatch { current: None, .. } => "send the request without If-Match".to_owned(),
            Self::RevisionMismatch { .. } => "preview again with --dry-run and use the revision it names".to_owned(),
            Self::IdempotencyKeyReused { .. } => "use a new key for a new request".to_owned(),
            Self::IdempotencyKeyExpired { .. } => {
                "look whether the first attempt took effect (`mesh audit list`), then use a new key".to_owned()
            }
            Self::ResourceExhausted { .. } => "remove what is not needed, wait, or have the limit raised".to_owned(),
            Self::PeerDraining { peer, .. } => format!("`mesh peers undrain {peer}` first"),
            Self::PeerOwnsShards { peer, .. } => format!("`mesh peers drain {peer} --wait` first"),
            Self::OperationFinished { operation, .. } => {
                format!("`mesh operations get {operation}` shows how it ended")
            }
            Self::OperationMoved { .. } => "read the operation again".to_owned(),
            Self::CheckpointStale { .. } => "sign a newer revision".to_owned(),
            Self::MeshInitialized => "nothing is left to do".to_owned(),
            Self::MeshNotInitialized => "wait for the first leader; `mesh status` shows when there is one".to_owned(),
            Self::LastActiveCluster { .. } => {
                "promote another cluster: that demotes this one in the same step".to_owned()
            }
            Self::ReplicationNotConfigured { cluster } => {
                format!(
                    "set up replication first: describe where it is reached with `mesh clusters apply {cluster}`, then wait \
                     until `mesh clusters get {cluster}` shows it ready"
                )
            }
            Self::ClusterTransition { cluster, to, .. } => match to {
                ClusterPhase::Active => format!("`mesh clusters promote {cluster}`"),
                ClusterPhase::Passive | ClusterPhase::Draining | ClusterPhase::Maintenance => {
                    "`apply` moves a cluster between passive and maintenance only".to_owned()
                }
            },
            Self::FeatureLevelTooLow { .. } => {
                "run the newer program on every node, then `mesh upgrade finalize`".to_owned()
            }
            Self::FeatureLevelUnknown { .. } => "`mesh upgrade status` shows what the nodes can do".to_owned(),
            Self::HistoryInUse { .. } => {
                "name an older revision, or wait; `mesh config get retention.idempotency_key` shows for how long"
                    .to_owned()
            }
            Self::ApprovalStale { .. } => {
                "look at what has changed; whoever asked for it has to ask again, with the same command".to_owned()
            }
            Self::ApprovalOwn { approval } => {
                format!("`mesh approvals reject {approval}` takes it back; to have it done, ask another person")
            }
            Self::ApprovalGiven { approval, .. } | Self::ApprovalFinished { approval, .. } => {
                format!("`mesh approvals get {approval}` shows who decided what")
            }
            Self::ApprovalExpired { .. } => "whoever asked for it has to ask again, with the same command".to_owned(),
            Self::ScopeMissing { needed, .. } => {
                format!(
                    "ask somebody who holds {}; `mesh auth can-i` shows what you may do",
                    needed.word()
                )
            }
            Self::ActivePeersLow { cluster, .. } => format!(
                "drain fewer at a time, or bring others back first (`mesh peers list --cluster {cluster}`); `--force` takes no \
                 notice of it, and `mesh config get policy.peers_active_min` shows the rule"
            ),
            Self::NothingSelected { .. } => {
                "`mesh peers list -l SELECTOR` shows what a selector selects; selectors see labels only".to_owned()
            }
            Self::SelectionTooLarge { .. } => {
                "select fewer, or have `limits.drain_peers` raised (`mesh config get limits.drain_peers`)".to_owned()
            }
            Self::SelectionChanged { .. } => "preview again with --dry-run, and decide again".to_owned(),
            Self::NoEligiblePeer { peer: None, .. } => {
                "`mesh presence list` shows who is suspect or dead, `mesh peers list -l SELECTOR` whom a selector selects; bring \
                 those back, register or uncordon a peer, or select others"
                    .to_owned()
            }
            Self::NoEligiblePeer { namespace, .. } => format!(
                "`mesh presence list` shows who is suspect or dead: bring those back, or register or uncordon a peer that \
                 `mesh namespaces get {namespace}` selects; `--force` leaves the shards behind"
            ),
            Self::NamespaceBusy {
                operation: Some(id), ..
            } => {
                format!("wait for it (`mesh operations get {id}`), or cancel it (`mesh operations cancel {id}`)")
            }
            Self::NamespaceBusy { namespace, .. } => format!("`mesh namespaces get {namespace}` shows how far it is"),
            Self::NamespaceInUse { namespace, .. } => format!(
                "`mesh shards disable {namespace} --all` first; `--force --confirm {namespace}` takes them away as they are"
            ),
            Self::ShardTransition { shard, status, .. } => match status {
                ShardStatus::Moving => format!("wait until it has moved, or `mesh shards cancel-move {shard}`"),
                ShardStatus::Paused => format!("`mesh shards resume {shard}` first"),
                ShardStatus::Disabled => format!("`mesh shards enable {shard}` first"),
                ShardStatus::Active => format!("`mesh shards get {shard}` shows what it is"),
            },
            Self::ShardThere { .. } => "nothing is left to do, or name another peer".to_owned(),
            Self::TargetUnfit { peer, .. } => {
                format!(
                    "`mesh namespaces get` shows whom the namespace selects, `mesh peers get {peer}` what the peer is, and \
                     `mesh shards simulate` who would take it"
                )
            }
            Self::MoveOver { shard, .. } | Self::NotWaitedFor { shard, .. } | Self::StaleToken { shard, .. } => {
                format!("read the shard again: `mesh shards get {shard}`")
            }
            Self::ShardCountFixed { .. } => {
                "make another namespace with as many shards as are wanted, and bring the keys over".to_owned()
            }
            Self::MovesTooMany { namespace, .. } => format!(
                "`mesh shards simulate --namespace {namespace}` shows what would move; allow it with `--max-moved`, or raise \
                 the policy's ceiling"
            ),
        }
    }
}

//! What the requests of watches ask for: one function for each of them.

use prost_types::Duration as ProtoDuration;
use proto::v1;
use statemachine::record::Kind;

use super::subject::{Asked, Filters, KINDS, Selects, records};
use crate::{Error, filter};

/// What a request selects, what it asks of any watch, and everything that selects, in text.
pub(super) type Read = Result<(Selects, Asked, Vec<String>), Error>;

/// # Errors
/// `invalid_argument`.
pub(super) fn decode<M: proto::codec::Wire>(message: &[u8]) -> Result<M, Error> {
    proto::codec::request(bytes::Bytes::copy_from_slice(message)).map_err(|why| {
        Error::new(
            proto::codes::Code::InvalidArgument,
            format!("the request does not decode: {why}"),
        )
        .hint("compare the contract that the client was built from")
    })
}

pub(super) fn asked(token: String, snapshot: bool, progress: Option<ProtoDuration>) -> Asked {
    Asked {
        token,
        snapshot,
        progress,
    }
}

pub(super) fn all(request: v1::WatchRequest) -> Read {
    let v1::WatchRequest {
        token,
        snapshot,
        progress_interval,
        mut kinds,
        cluster,
        selector,
        id,
    } = request;
    kinds.sort_unstable();
    kinds.dedup();
    let mut wanted = Vec::new();
    for word in &kinds {
        let known = KINDS.iter().find(|kind| kind.word() == word.as_str());
        let kind = known.ok_or_else(|| {
            let words: Vec<&str> = KINDS.iter().map(|kind| kind.word()).collect();
            Error::invalid("kinds", format!("the kinds are {}", words.join(", ")))
        })?;
        wanted.push(*kind);
    }
    if wanted.is_empty() {
        wanted.extend_from_slice(KINDS);
    }
    // What has no labels, or belongs to no cluster, is not what is asked for.
    if !selector.trim().is_empty() {
        wanted.retain(|kind| *kind == Kind::Peer);
    } else if !cluster.is_empty() {
        wanted.retain(|kind| matches!(kind, Kind::Peer | Kind::Cluster));
    }
    let key = vec![kinds.join(","), cluster.clone(), selector.clone(), id.clone()];
    let filters = Filters {
        id,
        peers: filter::Peers::new(0, &cluster, &selector)?,
        cluster,
        ..Filters::default()
    };
    let selects = records(&wanted, filters);
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn peers(request: v1::WatchPeersRequest) -> Read {
    let v1::WatchPeersRequest {
        token,
        snapshot,
        progress_interval,
        status,
        cluster,
        selector,
        id: wanted,
    } = request;
    let filters = Filters {
        peers: filter::Peers::new(status, &cluster, &selector)?,
        id: wanted.clone(),
        ..Filters::default()
    };
    let selects = records(&[Kind::Peer], filters);
    let key = vec![status.to_string(), cluster, selector, wanted];
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn operations(request: v1::WatchOperationsRequest) -> Read {
    let v1::WatchOperationsRequest {
        token,
        snapshot,
        progress_interval,
        state,
        target,
        id: wanted,
    } = request;
    let filters = Filters {
        operations: filter::Operations::new(state, &target)?,
        id: wanted.clone(),
        ..Filters::default()
    };
    let selects = records(&[Kind::Operation], filters);
    let key = vec![state.to_string(), target, wanted];
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn clusters(request: v1::WatchClustersRequest) -> Read {
    let v1::WatchClustersRequest {
        token,
        snapshot,
        progress_interval,
        state,
        id: wanted,
    } = request;
    let filters = Filters {
        clusters: filter::Clusters::new(state)?,
        id: wanted.clone(),
        ..Filters::default()
    };
    let selects = records(&[Kind::Cluster], filters);
    let key = vec![state.to_string(), wanted];
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn approvals(request: v1::WatchApprovalsRequest) -> Read {
    let v1::WatchApprovalsRequest {
        token,
        snapshot,
        progress_interval,
        status,
        target,
        requester,
        id: wanted,
        action,
    } = request;
    let filters = Filters {
        approvals: filter::Approvals::new(status, &target, &requester, &action)?,
        id: wanted.clone(),
        ..Filters::default()
    };
    let selects = records(&[Kind::Approval], filters);
    let key = vec![status.to_string(), target, requester, action, wanted];
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn namespaces(request: v1::WatchNamespacesRequest) -> Read {
    let v1::WatchNamespacesRequest {
        token,
        snapshot,
        progress_interval,
        phase,
        id: wanted,
    } = request;
    let filters = Filters {
        namespaces: filter::Namespaces::new(phase)?,
        id: wanted.clone(),
        ..Filters::default()
    };
    let selects = records(&[Kind::Namespace], filters);
    let key = vec![phase.to_string(), wanted];
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn shards(request: v1::WatchShardsRequest) -> Read {
    let v1::WatchShardsRequest {
        token,
        snapshot,
        progress_interval,
        namespace,
        owner,
        status,
        peer,
        shard,
    } = request;
    let filters = Filters {
        shards: filter::Shards::new(&namespace, &owner, status, &peer, shard)?,
        ..Filters::default()
    };
    let selects = records(&[Kind::Shard], filters);
    let number = shard.map(|index| index.to_string()).unwrap_or_default();
    let key = vec![namespace, owner, status.to_string(), peer, number];
    Ok((selects, asked(token, snapshot, progress_interval), key))
}

pub(super) fn audit(request: v1::WatchAuditRequest) -> Read {
    let v1::WatchAuditRequest {
        token,
        snapshot,
        progress_interval,
        actor,
        target,
        action,
        outcome,
        ticket,
        include_canonical,
    } = request;
    let key = vec![
        actor.clone(),
        target.clone(),
        action.clone(),
        outcome.to_string(),
        ticket.clone(),
        include_canonical.to_string(),
    ];
    let outcome = v1::audit_record::Outcome::try_from(outcome)
        .map_err(|_| Error::invalid("outcome", "there is no such outcome"))?;
    let trail = filter::Trail {
        actor,
        target,
        action,
        ticket,
        outcome,
    };
    let canonical = include_canonical;
    Ok((
        Selects::Trail { trail, canonical },
        asked(token, snapshot, progress_interval),
        key,
    ))
}

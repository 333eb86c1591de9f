//! Telling an old copy of a data directory from what a node really has.
//!
//! Every hello, and every welcome, carries the life that its sender runs on. Who reads it compares it with what the
//! cluster's state says of that node: a process that started on an older copy, or on another directory that is not
//! new, is neither listened to nor spoken to. So it gets no vote, gives none, and acknowledges nothing.
//!
//! What this cannot tell: a copy made since the node was last started looks just like the node itself after one more
//! start; and members that have not applied the entry in which the node told of its last start do not know better.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use statemachine::NodeId;
use statemachine::cluster::{Incarnation, Stale};
use statemachine::codec::{self, Format};

use crate::net::identity::{Refusal, RefusalCode};
use crate::state::publish::Publisher;

/// The life of a node's data directory, as the node tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Life {
    pub incarnation: Incarnation,
    /// Whether this process began with an empty log, and does as one that knows nothing until it has recovered.
    pub new: bool,
}

impl Life {
    /// As a part of a hello or a welcome.
    pub(crate) fn to_parts(self) -> Vec<Bytes> {
        vec![codec::encode(Format::Wire, &self).into()]
    }

    /// A release before this one sends none: the life of one who does not tell.
    pub(crate) fn of_parts(parts: &[Bytes]) -> Result<Self, Refusal> {
        let wrong = |why: String| (RefusalCode::Protocol, why);
        match parts {
            [] => Ok(Self::default()),
            [part] => codec::decode(Format::Wire, part).map_err(|e| wrong(e.to_string())),
            _ => Err(wrong(format!("{} parts in a hello", parts.len()))),
        }
    }
}

/// The life of this node's own data directory.
#[derive(Debug, Default)]
pub(crate) struct OwnLife {
    incarnation: Incarnation,
    new: AtomicBool,
}

impl OwnLife {
    pub(crate) fn new(incarnation: Incarnation, new: bool) -> Self {
        Self {
            incarnation,
            new: AtomicBool::new(new),
        }
    }

    /// Notes that this node forms a cluster, as one that has nothing to recover. Where the cluster is there already, and
    /// the node with it, this is not how it comes back.
    pub(crate) fn founds(&self) {
        self.new.store(false, Ordering::Release);
    }

    pub(crate) fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    pub(crate) fn told(&self) -> Life {
        Life {
            incarnation: self.incarnation,
            new: self.new.load(Ordering::Acquire),
        }
    }
}

/// What a node tells of itself, and judges others by.
#[derive(Clone)]
pub(crate) struct Lives {
    pub own: Arc<OwnLife>,
    /// What the cluster knows. `None` where nothing is known of anybody.
    pub known: Option<Publisher>,
}

impl Lives {
    /// Whether a node may come with this life.
    pub(crate) fn judge(&self, node: NodeId, life: &Life) -> Result<(), Refusal> {
        let Some(known) = &self.known else { return Ok(()) };
        let view = known.view();
        let Some(facts) = view.state().cluster.node(node) else {
            return Ok(());
        };
        let stale = match facts.incarnation.followed_by(&life.incarnation, life.new) {
            Ok(()) => return Ok(()),
            Err(stale) => stale,
        };
        let (boots, shown) = (facts.incarnation.boots, life.incarnation.boots);
        let what = match stale {
            Stale::Older => format!("was started {shown} times, the one that the cluster knows {boots} times"),
            Stale::Forked => format!("is a copy that was started {shown} times, as often as its original"),
            Stale::Foreign => "is not the one that the cluster knows, and not new".to_owned(),
        };
        let detail = format!("the data directory of node {node} {what}");
        Err((RefusalCode::StaleDirectory, detail))
    }
}

//! The links of a node, one per other node and lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::handle::Endpoint;
use crate::net::identity::RefusalCode;
use crate::net::link::{Dialer, Link};
use crate::net::message::Lane;

/// The nodes that will have nothing to do with this one, and why: it was removed, or its data is an old copy.
#[derive(Clone)]
pub(crate) struct RefusedBy {
    nodes: Arc<watch::Sender<BTreeMap<u64, RefusalCode>>>,
}

impl RefusedBy {
    pub(crate) fn new() -> Self {
        Self {
            nodes: Arc::new(watch::Sender::new(BTreeMap::new())),
        }
    }

    pub(crate) fn note(&self, node: u64, code: RefusalCode) {
        self.nodes
            .send_if_modified(|nodes| nodes.insert(node, code) != Some(code));
    }

    /// Notes that a node has to do with this one.
    pub(crate) fn forgive(&self, node: u64) {
        self.nodes.send_if_modified(|nodes| nodes.remove(&node).is_some());
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BTreeMap<u64, RefusalCode>> {
        self.nodes.subscribe()
    }
}

type Links = BTreeMap<(u64, Lane), Arc<Link>>;

/// All links. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) dialer: Arc<Dialer>,
    links: Arc<Mutex<Links>>,
}

impl Pool {
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self {
            dialer: Arc::new(dialer),
            links: Arc::default(),
        }
    }

    /// The link to a node, which is to be found at `endpoint`.
    pub(crate) fn link(&self, node: u64, endpoint: &Endpoint, lane: Lane) -> Arc<Link> {
        let mut links = self.links.lock();
        match links.get(&(node, lane)) {
            Some(link) if link.endpoint == *endpoint => link.clone(),
            _ => {
                let link = Arc::new(Link::new(self.dialer.clone(), node, endpoint.clone(), lane));
                links.insert((node, lane), link.clone());
                link
            }
        }
    }

    /// Closes links to nodes that are not members any more.
    pub(crate) fn retain(&self, members: &BTreeSet<u64>) {
        self.links.lock().retain(|(node, _), _| members.contains(node));
    }

    /// Closes all links.
    pub(crate) fn close(&self) {
        self.links.lock().clear();
    }
}

//! Peers that act: their credentials, and heartbeats in their name for as long as a test needs them alive.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use node_harness::{Mesh, Programs, wait_until};
use serde_json::json;

use super::{
    wire::{Caller, Tls, Wire},
    world::{SOON, admin, dev_file, tls},
};

/// Often enough for a busy machine: a peer is suspected after five seconds.
const EVERY: Duration = Duration::from_millis(700);

/// The credential of a peer, as the development mesh's own key signs it.
pub fn token(mesh: &Mesh, peer: &str) -> String {
    let key = dev_file(mesh, "jwt.key");
    let out = dev_file(mesh, &format!("peer-{peer}.jwt"));
    let (key, out_text) = (key.to_str().unwrap(), out.to_str().unwrap());
    let id = &mesh.info().mesh;
    let arguments = [
        "certs", "token", "--key", key, "--mesh", id, "--peer", peer, "--out", out_text, "--force",
    ];
    Programs::find().unwrap().node(arguments).ok().unwrap();
    std::fs::read_to_string(out).unwrap().trim().to_owned()
}

/// Peers that send heartbeats, until this is dropped.
pub struct Alive {
    pub tokens: BTreeMap<String, String>,
    stop: Arc<AtomicBool>,
    beating: Option<JoinHandle<()>>,
}

impl Alive {
    /// Waits until the mesh sees all of them alive. They are registered already.
    pub fn begin(mesh: &Mesh, ids: &[&str]) -> Self {
        let tokens: BTreeMap<String, String> = ids.iter().map(|id| ((*id).to_owned(), token(mesh, id))).collect();
        let nodes = mesh
            .ids()
            .into_iter()
            .map(|id| mesh.node(id).unwrap().api.clone())
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let beating = {
            let (tokens, tls, stop) = (tokens.clone(), tls(mesh), Arc::clone(&stop));
            thread::spawn(move || beat(&nodes, &tokens, &tls, &stop))
        };
        let alive = Self {
            tokens,
            stop,
            beating: Some(beating),
        };
        let admin = admin(mesh);
        let seen = |id: &&str| admin.call("GetPeer", json!({ "id": id })).ok().str("health") == "ALIVE";
        wait_until(SOON, "the peers to be seen alive", || ids.iter().all(&seen)).unwrap();
        alive
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(beating) = self.beating.take() {
            // A panic in there has been printed; what misses the heartbeats fails by itself.
            drop(beating.join());
        }
    }
}

fn beat(nodes: &Vec<String>, tokens: &BTreeMap<String, String>, tls: &Tls, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for (id, token) in tokens {
            for api in nodes {
                // Whoever leads answers; a node that is down is no concern of a peer's.
                let at = Caller::new(api, Wire::H2, tls.clone()).bearer(token);
                if at
                    .try_call("Heartbeat", json!({ "id": id }))
                    .is_ok_and(|reply| reply.is_ok())
                {
                    break;
                }
            }
        }
        thread::sleep(EVERY);
    }
}

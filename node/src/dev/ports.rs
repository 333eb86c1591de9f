//! Which ports the nodes listen on.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::exit::{Exit, Failure};

/// The ports of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The node's number, from 1.
    pub node: u16,
    /// Its API port.
    pub api: u16,
    /// Its Raft port.
    pub raft: u16,
}

/// The Raft port's distance from the API port.
const RAFT_OFFSET: u16 = 100;

/// Where free ports are looked for: below what the system hands out to outgoing connections
/// (from 32768), so that no connection sits on a node's port while that node is down.
const FREE: std::ops::Range<u16> = 10_000..32_000;

/// How often a free port is looked for before giving up.
const ATTEMPTS: u32 = 10_000;

/// Reads `--base-port`.
pub fn base(text: &str) -> Result<u16, String> {
    let port: u16 = text.parse().map_err(|_| format!("{text:?} is not a port"))?;
    // The highest node's Raft port has to be one too.
    if port == 0 || (1_024..=65_000).contains(&port) {
        Ok(port)
    } else {
        Err("give 0, or 1024 to 65000".to_owned())
    }
}

/// Assigns ports to nodes 1 to `nodes`: from `base`, or free ones when it is 0.
pub fn assign(nodes: u16, base: u16) -> Result<Vec<Ports>, Failure> {
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    let mut assigned = Vec::new();
    for node in 1..=nodes {
        let (api, raft) = if base == 0 {
            (free(&mut held)?, free(&mut held)?)
        } else {
            (base + node, base + RAFT_OFFSET + node)
        };
        for port in [api, raft] {
            if base != 0 && (TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() || !udp_is_free(port)) {
                return Err(Failure::new(
                    Exit::Config,
                    format!("port {port} is taken; choose others with --base-port, or 0 for free ones"),
                ));
            }
        }
        assigned.push(Ports { node, api, raft });
    }
    Ok(assigned)
}

/// Whether HTTP/3 finds the same port.
fn udp_is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn free(held: &mut Vec<TcpListener>) -> Result<u16, Failure> {
    for _ in 0..ATTEMPTS {
        let mut random = [0_u8; 2];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| Failure::new(Exit::Failed, "the operating system gives no randomness"))?;
        let port = FREE.start + u16::from_be_bytes(random) % (FREE.end - FREE.start);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            && udp_is_free(port)
        {
            held.push(listener);
            return Ok(port);
        }
    }
    Err(Failure::new(Exit::Failed, "no free port was found"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_follow_the_rule_or_are_free_and_different() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert!(assign(1, taken - 1).unwrap_err().message.contains(&taken.to_string()));

        let free = assign(9, 0).unwrap();
        let mut all: Vec<_> = free.iter().flat_map(|ports| [ports.api, ports.raft]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 18);
    }

    #[test]
    fn base_ports_leave_room() {
        assert_eq!(base("0"), Ok(0));
        assert_eq!(base("7400"), Ok(7400));
        for wrong in ["1", "65001", "70000", "x", "-1"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }
}

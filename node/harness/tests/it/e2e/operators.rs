//! Many operators at one record (M2, M12): one wins per version, the others hear what the record is now. That they lose no
//! change among them is tested in `jepsen-style-tests/` (`operators`).

use std::{sync::Barrier, thread, time::Duration};

use node_harness::Mesh;
use serde_json::json;

use super::{
    shared::on_one_mesh,
    wire::Wire,
    world::{admin, agreed, audit, caller, drains_take, register, unique, verify_audit},
};

on_one_mesh! {
    || drains_take(Duration::from_millis(100));
    one_of_twenty_wins_each_version,
}

const OPERATORS: usize = 20;

/// In each round all send a change of the same version at once, in every form and through every node.
fn one_of_twenty_wins_each_version(mesh: &Mesh) {
    const ROUNDS: u64 = 8;
    let id = unique("contended");
    register(mesh, &id);
    let barrier = Barrier::new(OPERATORS);
    let outcomes: Vec<Vec<(bool, String)>> = thread::scope(|scope| {
        let operators: Vec<_> = (0..OPERATORS)
            .map(|operator| {
                let (id, barrier) = (&id, &barrier);
                scope.spawn(move || {
                    let node = mesh.ids()[operator % 3];
                    let wire = Wire::ALL[operator / 3 % Wire::ALL.len()];
                    let at = caller(mesh, node, wire, "operate").with("mesh-route", "forward");
                    (0..ROUNDS)
                        .map(|round| {
                            barrier.wait();
                            let seen = at.call("GetPeer", json!({ "id": id })).ok();
                            assert_eq!(seen.json["version"], round + 1, "one change per round");
                            barrier.wait();
                            let change = json!({ "id": id, "labels": { format!("round-{round}"): operator.to_string() }, "ifMatch": seen.etag() });
                            let reply = at.call("PatchPeer", change);
                            if reply.is_ok() {
                                return (true, reply.etag().to_owned());
                            }
                            let refused = reply.refused("etag_mismatch");
                            assert!(refused.str("detail").contains(seen.etag()), "what was sent: {refused:?}");
                            (false, refused.str("currentEtag").to_owned())
                        })
                        .collect()
                })
            })
            .collect();
        operators.into_iter().map(|operator| operator.join().unwrap()).collect()
    });
    for round in 0..usize::try_from(ROUNDS).unwrap() {
        let winners: Vec<_> = outcomes
            .iter()
            .map(|rounds| &rounds[round])
            .filter(|(won, _)| *won)
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: exactly one wins");
        let current = &winners[0].1;
        for (won, etag) in outcomes.iter().map(|rounds| &rounds[round]) {
            assert_eq!(
                etag, current,
                "round {round}: won {won}; the ETag that the losers hear is the winner's"
            );
        }
    }
    let last = admin(mesh).call("GetPeer", json!({ "id": id })).ok();
    assert_eq!(last.json["version"], ROUNDS + 1);
    let target = format!("peer/{id}");
    let trail = audit(mesh)
        .into_iter()
        .filter(|record| record.target == target)
        .collect::<Vec<_>>();
    let rejected = trail.iter().filter(|record| record.code == "etag_mismatch").count();
    assert_eq!(
        rejected as u64,
        (OPERATORS as u64 - 1) * ROUNDS,
        "every conflict is in the trail"
    );
    verify_audit(mesh);
    agreed(mesh);
}

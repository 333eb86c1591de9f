//! A killed leader is replaced in time.

use std::time::Duration;

use meshkit_jepsen_style_tests::failover::{Plan, run};

#[test]
fn the_first_write_after_a_kill_of_the_leader_takes_less_than_five_seconds() {
    let _alone = super::registers::alone();
    let report = run(
        &Plan {
            kills: 3,
            nodes: 3,
            environment: Vec::new(),
        },
        |_, _| {},
    )
    .unwrap();
    println!("{}", report.told());
    assert_eq!(report.trials.len(), 3);
    assert!(report.worst() < Duration::from_secs(5), "\n{}", report.told());
}

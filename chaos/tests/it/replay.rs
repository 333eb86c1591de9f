//! The same seed tells the same story, to the last line; another seed tells another.

use crate::{chaos, text};

fn story(seed: u64) -> String {
    text(&chaos(&["run", "--seed", &seed.to_string(), "--trace"]))
}

#[test]
fn a_seed_run_twice_gives_the_same_log() {
    for seed in [3, 11] {
        let (first, second) = (story(seed), story(seed));
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.lines().count(), second.lines().count(), "seed {seed}");
        assert!(first.lines().count() > 300, "seed {seed} has no log:\n{first}");
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(story(3), story(4));
}

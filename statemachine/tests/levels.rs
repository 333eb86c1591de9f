//! The program of the level before writes and reads what the golden files of its levels hold, byte by byte. Built with the
//! feature `previous-level` only; today's program is held to the same files by `it`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "tests; the world is shared"
)]

#[path = "it/encodings.rs"]
mod encodings;
#[path = "it/world.rs"]
mod world;

#[test]
fn this_is_the_program_of_the_level_before() {
    assert_eq!(meshkit_statemachine::FEATURE_LEVEL, 1);
}

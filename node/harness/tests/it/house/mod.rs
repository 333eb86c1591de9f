//! The rules of the house, checked by machine.
//!
//! Each rule is a function from files to complaints. Each is itself tested on a planted violation,
//! so that a rule that has stopped seeing anything is noticed.

mod arrows;
mod banned;
mod errors;
mod source;
mod tree;

use tree::Tree;

/// Fails with all complaints at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    none(&arrows::complaints(&Tree::load().manifests()));
}

#[test]
fn the_pure_core_is_pure() {
    none(&banned::impure(&Tree::load().sources()));
}

#[test]
fn openraft_and_rocksdb_are_named_only_under_raft() {
    let tree = Tree::load();
    none(&banned::outside_raft(&tree.sources()));
    none(&arrows::outside_raft(&tree.manifests()));
}

#[test]
fn bincode_stays_in_one_module() {
    none(&banned::second_bincode(&Tree::load().sources()));
}

#[test]
fn files_are_small_enough_to_read() {
    none(&source::too_long(&Tree::load().sources()));
}

#[test]
fn every_error_code_has_its_page() {
    none(&errors::without_page(&errors::codes(), &Tree::load().error_pages()));
}

//! Every error code has a page that says what happened and what to do.

use proto::codes::Code;

/// Every code that an answer can carry: the general ones, and the domain's rules by their names.
pub fn codes() -> Vec<String> {
    let general = Code::ALL
        .into_iter()
        .filter(|code| *code != Code::Rule)
        .map(|code| code.as_str().to_owned());
    let rules = statemachine::REJECTION_CODES.iter().map(|code| (*code).to_owned());
    let mut codes: Vec<_> = general.chain(rules).collect();
    codes.sort();
    codes.dedup();
    assert!(codes.len() > 20, "only {} codes were found", codes.len());
    codes
}

pub fn without_page(codes: &[String], pages: &[String]) -> Vec<String> {
    let missing = codes.iter().filter(|code| !pages.contains(code));
    missing
        .map(|code| format!("docs/errors/{code}.md is missing"))
        .collect()
}

#[test]
fn a_missing_page_is_seen() {
    let (codes, pages) = (
        ["not_found".to_owned(), "compacted".to_owned()],
        ["not_found".to_owned()],
    );
    assert_eq!(
        without_page(&codes, &pages),
        vec!["docs/errors/compacted.md is missing"]
    );
}

//! The page of faults names a test for each: each of them exists and is run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::Path;

const FAULTS: &str = include_str!("../../docs/faults.md");

/// What the last column of a row names: files, and functions in them.
fn named(row: &str) -> Vec<(String, Option<String>)> {
    let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
    let quoted = shown_by.split('`').skip(1).step_by(2);
    quoted
        .map(|name| match name.split_once("::") {
            Some((file, function)) => (file.to_owned(), Some(function.to_owned())),
            None => (name.to_owned(), None),
        })
        .collect()
}

#[test]
fn every_fault_is_shown_by_a_test_that_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| fault |");
    let rows: Vec<&str> = FAULTS.lines().filter(is_row).collect();
    assert!(rows.len() >= 25, "the page lost its rows");
    for row in rows {
        let tests = named(row);
        assert!(!tests.is_empty(), "no test named: {row}");
        for (file, function) in tests {
            let text = std::fs::read_to_string(workspace.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let Some(function) = function else {
                assert!(text.contains("test]"), "{file} holds no test");
                continue;
            };
            assert!(text.contains(&format!("fn {function}(")), "{file} has no {function}");
            let is_test = text.contains(&format!("test]\nfn {function}("))
                || text.contains(&format!("test]\nasync fn {function}("))
                || text.contains(&format!("test]\n    fn {function}("));
            let is_called = text.matches(&format!("{function}(")).count() > 1;
            assert!(is_test || is_called, "{function} of {file} is never run");
        }
    }
}

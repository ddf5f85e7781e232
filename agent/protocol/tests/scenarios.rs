//! Every shipped scenario ends as its file says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

#[path = "../examples/simulate/play.rs"]
mod play;
#[path = "world/world.rs"]
mod world;

use std::path::Path;

#[test]
fn every_shipped_scenario_ends_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scenarios");
    let mut played = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let told = play::play(&std::fs::read_to_string(&path).unwrap());
        println!("{}\n{}", path.display(), told.as_ref().unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        played += 1;
    }
    assert!(played >= 5, "{played}");
}

#[test]
fn a_scenario_that_ends_otherwise_fails() {
    let text = "title: x\nends: RolledBack\n";
    assert!(play::play(text).unwrap_err().contains("came to Committed"));
    assert!(play::play("title: x\nends: Committed\nevents: [{do: pray}]\n").unwrap_err().contains("pray"));
}

#[test]
fn a_line_shows_the_mark_that_was_published_and_the_step_of_the_look_after_it() {
    let told = play::play("title: x\nmembers: 1\nends: Committed\n").unwrap();
    let lines: Vec<_> = told.lines().map(str::trim_end).collect();
    let after = |mark: &str, step: &str| lines.iter().any(|line| line.contains(&format!("marks {mark}; {step}")));
    assert!(after("verified", "journal: Attempted Commit"), "{told}");
    assert!(after("learned", "journal: IntendObeyed"), "{told}");
    assert!(after("ended", "done: Committed"), "{told}");
}

//! Plays a restore of three masters from a small file and prints what each of them does, side by side:
//! `cargo run -p lifeboat-protocol --example simulate -- agent/protocol/examples/scenarios/power-cut.yaml`
//!
//! Every step comes from the shipped `decide`; only hosts, store and time are imagined.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

mod play;
#[path = "../../tests/world/world.rs"]
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        println!("usage: simulate FILE; see agent/protocol/examples/scenarios");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            println!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    match play::play(&text) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}

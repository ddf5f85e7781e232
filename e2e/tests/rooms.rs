//! Arrows never turn back: the pure crates cannot reach a runtime, a client or a store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::process::Command;

/// Names of everything a crate is built from, itself included.
fn dependencies(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_reach_no_runtime_client_or_store() {
    for package in ["lifeboat-crds", "lifeboat-decisions", "lifeboat-protocol", "lifeboat-snapshot"] {
        for name in dependencies(package) {
            let impure = ["tokio", "hyper", "kube-client", "kube-runtime", "reqwest", "tonic", "etcd-client"];
            assert!(!impure.contains(&name.as_str()) && !name.starts_with("aws-"), "{package} can reach {name}");
        }
    }
}

#[test]
fn the_operator_can_reach_neither_stores_nor_etcd() {
    for name in dependencies("lifeboat-operator") {
        assert!(
            !name.starts_with("aws-") && name != "etcd-client" && name != "lifeboat-storage",
            "operator reaches {name}"
        );
    }
}

/// The agent takes one thing from the operator's side: the decider that `lifeboat backup retention` shares with it.
#[test]
fn the_agent_takes_no_more_of_the_operator_than_its_pure_deciders() {
    let names = dependencies("lifeboat-agent");
    assert!(names.iter().any(|name| name == "lifeboat-decisions"));
    assert!(!names.iter().any(|name| name == "lifeboat-operator"));
}

#[test]
fn one_crypto_provider_is_linked() {
    for package in ["lifeboat-operator", "lifeboat-agent"] {
        let names = dependencies(package);
        assert!(names.iter().any(|name| name == "ring"), "{package}");
        assert!(!names.iter().any(|name| name == "aws-lc-rs" || name == "openssl-sys"), "{package}");
    }
}

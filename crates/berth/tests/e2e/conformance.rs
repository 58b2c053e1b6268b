//! The recorded cases of a stock API server, when they are beside the checkout (they are in CI).

use std::path::Path;
use std::process::Command;

use crate::cluster::{Cluster, words};

/// Cases that are known to differ, with the reason.
const DIFFERENT: [&str; 1] = [
    // The recording answers 201 here; a pod that names a missing class has to be refused (403).
    "pod class missing",
];

#[test]
fn recorded_cases_of_a_stock_server_pass() {
    let shared = std::env::var_os("BERTH_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    let runner = shared.join("conformance/run.py");
    if !runner.exists() {
        eprintln!("{} is not there: nothing to compare with", runner.display());
        return;
    }
    // As it was recorded: an API server and nobody else who writes.
    let cluster = Cluster::server_only();
    let token =
        std::fs::read_to_string(cluster.data().join("server/pki/admin.token")).expect("the token");
    let output = Command::new("python3")
        .arg(&runner)
        .arg(format!("https://127.0.0.1:{}", cluster.port()))
        .arg(token.trim())
        .output()
        .expect("python3 runs");
    let said = words(&output);
    let failed: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once('[').map(|(name, _)| name))
        .filter(|name| !DIFFERENT.contains(name))
        .collect();
    assert!(failed.is_empty(), "{} cases differ:\n{said}", failed.len());
    assert!(said.contains(" passed, "), "{said}");
}

//! The recorded cases of a stock API server, when they are beside the checkout (they are in CI).

use std::path::Path;
use std::process::{Child, Command, Stdio};

use berth_testkit::wait_for;

use crate::cluster::{LIMIT, berth, free_port, short_dir, words};

/// Cases that are known to differ, with the reason.
const DIFFERENT: [&str; 1] = [
    // The recording answers 201 here; a pod that names a missing class has to be refused (403).
    "pod class missing",
];

/// `berth server` alone, as the recorded server was: no node is there to bind pods to or to change them.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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
    let dir = short_dir();
    let data = dir.path().join("d");
    let port = free_port().to_string();
    let _server = Server(
        berth()
            .args(["--log", "warn", "server", "--data-dir"])
            .arg(&data)
            .args(["--bind-address", "127.0.0.1", "--secure-port", &port])
            .stdin(Stdio::null())
            .spawn()
            .expect("berth server starts"),
    );
    wait_for("the server to be ready", LIMIT, || {
        let asked = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(data.join("admin.kubeconfig"))
            .args(["get", "--raw", "/readyz"])
            .output()
            .expect("kubectl runs");
        if asked.status.success() {
            Ok(())
        } else {
            Err(words(&asked))
        }
    });
    let token = std::fs::read_to_string(data.join("server/pki/admin.token")).expect("the token");
    let output = Command::new("python3")
        .arg(&runner)
        .arg(format!("https://127.0.0.1:{port}"))
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

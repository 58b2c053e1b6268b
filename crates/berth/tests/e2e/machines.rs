//! Pods in virtual machines: of the suite's own shim (`tests/shim`), whose guests have their network behind a tap device as
//! Kata's have, or of a handler that this machine really has.

use std::net::SocketAddr;
use std::path::PathBuf;

use berth_testkit::wait_for;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, LIMIT, short_dir};

/// The handler's name in the table.
pub(crate) const HANDLER: &str = "machine";
/// Names a TOML file whose `[handlers.machine]` is taken in place of the suite's own.
const GIVEN: &str = "BERTH_TEST_MACHINE";

/// What the clusters of one test have for virtual machines.
pub(crate) struct Machines {
    dir: TempDir,
    is_real: bool,
}

impl Machines {
    pub(crate) fn new() -> Self {
        let dir = short_dir();
        let given = std::env::var_os(GIVEN).map(PathBuf::from);
        let handler = given.as_ref().map_or_else(
            || {
                let shim = env!("CARGO_BIN_EXE_containerd-shim-testvm-v2");
                let vm = dir.path().join("vm/shared/sandboxes");
                let vm = vm.display();
                format!(
                    "[handlers.{HANDLER}]\nkind = \"shim\"\nbinary = \"{shim}\"\nvm = true\nwarm = 1\nsandbox_dirs = [\"{vm}\"]\n"
                )
            },
            |path| std::fs::read_to_string(path).expect("the table that was given"),
        );
        let text =
            format!("default_handler = \"runc\"\n[handlers.runc]\n[handlers.runsc]\n{handler}");
        std::fs::write(dir.path().join("config.toml"), text).expect("config.toml");
        let machines = Self {
            dir,
            is_real: given.is_some(),
        };
        std::fs::create_dir(machines.directory()).expect("a directory");
        std::fs::write(machines.directory().join("tap"), "").expect("a file");
        machines
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("vm")
    }

    /// Starts a cluster whose node has the handler.
    pub(crate) fn cluster(&self) -> Cluster {
        let directory = format!("BERTH_TESTVM_DIR={}", self.directory().display());
        let config = self.dir.path().join("config.toml");
        let config = config.display().to_string();
        Cluster::through(vec!["env", directory.leak()], &["--config", &config])
    }

    /// Guests that boot from now on try to connect there before they say that they have booted. The suite's own do.
    pub(crate) fn connect_at_boot(&self, to: SocketAddr) {
        std::fs::write(self.directory().join("tap"), to.to_string()).expect("a file");
    }

    /// How that ended for each that has booted since, with its pod's name; of real ones nobody tells.
    pub(crate) fn connections_at_boot(&self) -> Option<Vec<(String, String)>> {
        if self.is_real {
            return None;
        }
        let text = std::fs::read_to_string(self.directory().join("calls")).unwrap_or_default();
        let calls = text.lines().map(serde_json::from_str);
        let calls = calls.map(|call: Result<Value, _>| call.expect("JSON"));
        let calls = calls.filter(|call| call["call"] == "FirstPacket");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let outcomes = calls.map(|call| (text(&call["pod"]), text(&call["outcome"])));
        Some(outcomes.collect())
    }

    /// Waits until no process of the suite's own machines is left.
    pub(crate) fn wait_gone(&self) {
        let own = self.directory().display().to_string();
        wait_for("the machines to be gone", LIMIT, || {
            let all = std::fs::read_dir("/proc").expect("/proc").flatten();
            let words = all.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
            let words = words.map(|words| String::from_utf8_lossy(&words).replace('\0', " "));
            let left: Vec<String> = words.filter(|words| words.contains(&own)).collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(left.join("\n"))
            }
        });
    }
}

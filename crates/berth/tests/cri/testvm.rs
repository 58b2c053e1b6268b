//! The suite's own third-party shim (`tests/shim`), which behaves as Kata Containers' does.

use std::path::PathBuf;

use berth_testkit::wait_for_async;
use serde_json::Value;

use crate::daemon::{Daemon, LIMIT};

/// The handler `testvm`, for [`Daemon::start`], with more lines of its own.
pub(crate) fn handler(more: &str) -> String {
    let shim = env!("CARGO_BIN_EXE_containerd-shim-testvm-v2");
    format!("[handlers.testvm]\nkind = \"shim\"\nbinary = \"{shim}\"\nvm = true\n{more}\n")
}

/// The shim's directory.
pub(crate) fn dir(daemon: &Daemon) -> PathBuf {
    daemon.path().join("vm")
}

/// The calls that have reached shims, those of a name.
pub(crate) fn calls(daemon: &Daemon, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir(daemon).join("calls")).unwrap_or_default();
    let calls = text.lines().map(serde_json::from_str);
    let calls = calls.map(|call: Result<Value, _>| call.expect("JSON"));
    calls.filter(|call| call["call"] == name).collect()
}

/// What `Create` or `CreateSandbox` brought for a container or sandbox.
pub(crate) fn record(daemon: &Daemon, id: &str) -> Value {
    let path = dir(daemon).join(format!("record/{id}.json"));
    let text = std::fs::read(&path).expect("a record of what was created");
    serde_json::from_slice(&text).expect("JSON")
}

/// Lets the shim publish that a container ran out of memory, and waits until it has begun to.
pub(crate) async fn run_out_of_memory(daemon: &Daemon, id: &str) {
    let folder = dir(daemon).join("oom");
    std::fs::create_dir_all(&folder).expect("a directory");
    let wish = folder.join(id);
    std::fs::write(&wish, "").expect("a wish");
    wait_for_async("the event", LIMIT, async || {
        if wish.exists() {
            Err("it is not yet published")
        } else {
            Ok(())
        }
    })
    .await;
}

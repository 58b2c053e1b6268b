//! One call of one plugin: environment, standard input, answer.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{CniError, INTERFACE, Network, Pod};

/// Plugins may ask a server for addresses (DHCP), so it is generous.
const DEADLINE: Duration = Duration::from_secs(60);

fn kind(plugin: &Value) -> &str {
    plugin
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a plugin would only hand its input on: `portmap` without a port, `bandwidth` without a
/// limit. That spares a process.
pub(super) fn idle(plugin: &Value, pod: &Pod) -> bool {
    let needed = match kind(plugin) {
        "portmap" => "portMappings",
        "bandwidth" => "bandwidth",
        _ => return false,
    };
    // Configured without the capability it works from its own settings.
    let by_capability =
        plugin.pointer(&format!("/capabilities/{needed}")) == Some(&Value::Bool(true));
    by_capability && !pod.capabilities.contains_key(needed)
}

/// The values for the capabilities that a plugin declares.
pub(super) fn runtime_config(wanted: Option<&Value>, pod: &Pod) -> Map<String, Value> {
    let Some(wanted) = wanted.and_then(Value::as_object) else {
        return Map::new();
    };
    wanted
        .iter()
        .filter(|(_, on)| **on == Value::Bool(true))
        .filter_map(|(name, _)| Some((name.clone(), pod.capabilities.get(name)?.clone())))
        .collect()
}

pub(super) fn find(
    plugin: &Value,
    network: &Network,
    bin_dirs: &[PathBuf],
) -> Result<PathBuf, CniError> {
    bin_dirs
        .iter()
        .map(|dir| dir.join(kind(plugin)))
        .find(|path| path.is_file())
        .ok_or_else(|| CniError::NoPlugin {
            plugin: kind(plugin).to_owned(),
            network: network.name.clone(),
            dirs: bin_dirs.to_vec(),
        })
}

pub(super) async fn run(
    plugin: &Value,
    input: &Value,
    network: &Network,
    pod: &Pod,
    command: &'static str,
    bin_dirs: &[PathBuf],
) -> Result<Option<Value>, CniError> {
    let path = find(plugin, network, bin_dirs)?;
    let failed = |source| CniError::Run {
        plugin: kind(plugin).to_owned(),
        network: network.name.clone(),
        source,
    };
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.id, pod.uid
    );
    // A DEL for a namespace that is gone gets no namespace: the plugin frees what it gave out.
    let netns = if command == "DEL" && !pinned(&pod.netns) {
        PathBuf::new()
    } else {
        pod.netns.clone()
    };
    let mut child = Command::new(path)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &pod.id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", INTERFACE)
        .env("CNI_ARGS", args)
        .env(
            "CNI_PATH",
            std::env::join_paths(bin_dirs).unwrap_or_default(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that ends early closes its input; its answer says why.
        let _ = stdin.write_all(input.to_string().as_bytes()).await;
    }
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .map_err(|_| CniError::Timeout {
            plugin: kind(plugin).to_owned(),
            network: network.name.clone(),
            seconds: DEADLINE.as_secs(),
        })?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).ok());
    }
    Err(CniError::Plugin {
        plugin: kind(plugin).to_owned(),
        network: network.name.clone(),
        command,
        message: explain(&output),
    })
}

/// An error's `msg` and `details`, or whatever the plugin printed.
fn explain(output: &std::process::Output) -> String {
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let Ok(error) = serde_json::from_slice::<Value>(&output.stdout) else {
        return format!(
            "{}: {}{}",
            output.status,
            printed(&output.stdout),
            printed(&output.stderr)
        );
    };
    let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    match part("details") {
        "" => part("msg").to_owned(),
        details => format!("{}; {details}", part("msg")),
    }
}

fn pinned(netns: &std::path::Path) -> bool {
    const NSFS: i64 = 0x6e73_6673;
    nix::sys::statfs::statfs(netns).is_ok_and(|stat| stat.filesystem_type().0 == NSFS)
}

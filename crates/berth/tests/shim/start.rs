//! The actions `start` and `delete`.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use protobuf::{Message, MessageField};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::journal;
use crate::message::stamp;

/// Tells the daemon which descriptor is its socket.
pub(crate) const SOCKET_VARIABLE: &str = "BERTH_TESTVM_SOCKET_FD";

/// Gives the sandbox's address; the first container of a pod gets a daemon.
pub(crate) fn start(arguments: &Arguments) -> Result<(), String> {
    journal::call(
        &arguments.dir,
        &json!({
            "call": "start",
            "id": arguments.id,
            "address": arguments.address,
            "publish_binary": arguments.publish_binary,
            "TTRPC_ADDRESS": std::env::var("TTRPC_ADDRESS").ok(),
            "GRPC_ADDRESS": std::env::var("GRPC_ADDRESS").ok(),
        }),
    );
    let sandbox = sandbox_of(&arguments.id, Path::new("."));
    let path = arguments.socket(&sandbox);
    if sandbox == arguments.id {
        daemon(arguments, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    print!("unix://{}", path.display());
    std::io::stdout().flush().map_err(|e| e.to_string())
}

fn daemon(arguments: &Arguments, path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let listener = UnixListener::bind(path)?;
    keep_open(&listener)?;
    Command::new(std::env::current_exe()?)
        .args(["-id", &arguments.id, "-namespace", &arguments.namespace])
        .args(["-address", &arguments.address])
        .args(["-publish-binary", &arguments.publish_binary])
        .arg("-dir")
        .arg(&arguments.dir)
        .env(SOCKET_VARIABLE, listener.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

/// The daemon inherits the descriptor.
fn keep_open(listener: &UnixListener) -> std::io::Result<()> {
    nix::fcntl::fcntl(
        listener,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )?;
    Ok(())
}

/// Whose sandbox the container of a bundle belongs to; its own, when it is none of a pod's later containers.
pub(crate) fn sandbox_of(id: &str, bundle: &Path) -> String {
    let spec = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    let spec: Value = serde_json::from_slice(&spec).unwrap_or_default();
    let annotation = |name: &str| spec["annotations"][name].as_str().map(str::to_owned);
    match annotation("io.kubernetes.cri.container-type").as_deref() {
        Some("container") => {
            annotation("io.kubernetes.cri.sandbox-id").unwrap_or_else(|| id.to_owned())
        }
        Some(_) | None => id.to_owned(),
    }
}

/// Answers 137, and leaves what the sandbox has.
pub(crate) fn delete(arguments: &Arguments) -> Result<(), String> {
    journal::call(
        &arguments.dir,
        &json!({"call": "delete", "id": arguments.id, "bundle": arguments.bundle}),
    );
    let answer = DeleteResponse {
        exit_status: 137,
        exited_at: MessageField::some(stamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    let bytes = answer.write_to_bytes().map_err(|e| e.to_string())?;
    std::io::stdout()
        .write_all(&bytes)
        .map_err(|e| e.to_string())
}

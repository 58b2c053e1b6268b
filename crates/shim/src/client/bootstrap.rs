//! Starting a shim, its answer in three forms, and the note of it in the bundle.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use containerd_shim_protos::{api, bootstrap_api};
use protobuf::Message;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Exit, SHIM_ID, ShimConfig, ShimError, task};

const FILE: &str = "bootstrap.json";
/// How long a shim's `delete` may take, the end of a virtual machine included.
const DELETE: Duration = Duration::from_secs(30);

/// Where a shim listens, and which version of the task service it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bootstrap {
    pub(super) version: i32,
    pub(super) address: String,
    pub(super) protocol: String,
}

/// Runs `SHIM ... start`.
pub(super) async fn start(
    config: &ShimConfig,
    id: &str,
    bundle: &Path,
) -> Result<Bootstrap, ShimError> {
    if config.own {
        let out = run(config, id, bundle, "start", None).await?;
        return parse(&out);
    }
    // The newest shims want parameters on stdin; older ones ignore or choke on them, and get a second try without.
    let params = bootstrap_api::BootstrapParams {
        instance_id: id.to_owned(),
        namespace: config.namespace.clone(),
        containerd_version: "2.2.0".to_owned(),
        containerd_ttrpc_address: events(config),
        containerd_grpc_address: config.address.clone(),
        ..Default::default()
    };
    let stdin = params.write_to_bytes().ok();
    match run(config, id, bundle, "start", stdin.as_deref()).await {
        Ok(out) => parse(&out),
        Err(first @ ShimError::Action { .. }) => {
            match run(config, id, bundle, "start", None).await {
                Ok(out) => parse(&out),
                Err(second) => Err(both(first, second)),
            }
        }
        Err(e) => Err(e),
    }
}

/// The error of two failed starts, of which either may have the reason: an older shim chokes on parameters, a newer one on
/// none.
fn both(first: ShimError, second: ShimError) -> ShimError {
    match (first, second) {
        (
            ShimError::Action {
                command,
                action,
                status,
                stderr,
            },
            ShimError::Action { stderr: later, .. },
        ) if stderr != later => ShimError::Action {
            command,
            action,
            status,
            stderr: format!("{stderr}; started without parameters on stdin: {later}"),
        },
        (first, ShimError::Action { .. }) => first,
        (_, second) => second,
    }
}

/// Runs `SHIM ... -bundle B delete`.
pub(super) async fn delete(
    config: &ShimConfig,
    id: &str,
    bundle: &Path,
) -> Result<Exit, ShimError> {
    let out = tokio::time::timeout(DELETE, run(config, id, bundle, "delete", None))
        .await
        .unwrap_or(Err(ShimError::Timeout(DELETE)))?;
    let answer =
        api::DeleteResponse::parse_from_bytes(&out).map_err(|source| ShimError::Decode {
            method: "delete",
            source,
        })?;
    Ok(Exit {
        code: answer.exit_status,
        at: task::time(answer.exited_at.as_ref()),
    })
}

/// Notes where the shim is.
pub(super) fn save(bundle: &Path, bootstrap: &Bootstrap) -> Result<(), ShimError> {
    let path = bundle.join(FILE);
    let text = serde_json::to_vec(bootstrap).map_err(ShimError::Encode)?;
    let temporary = bundle.join(".bootstrap.json");
    crate::private::write(&temporary, &text)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(|source| ShimError::File { path, source })
}

/// Reads the note.
pub(super) fn load(bundle: &Path) -> Result<Bootstrap, ShimError> {
    let absent = |source| ShimError::NotRecorded {
        bundle: bundle.to_owned(),
        source,
    };
    let text = std::fs::read(bundle.join(FILE)).map_err(absent)?;
    serde_json::from_slice(&text).map_err(|e| absent(e.into()))
}

async fn run(
    config: &ShimConfig,
    id: &str,
    bundle: &Path,
    action: &'static str,
    stdin: Option<&[u8]>,
) -> Result<Vec<u8>, ShimError> {
    let program = config
        .command
        .first()
        .cloned()
        .unwrap_or_else(|| PathBuf::from("containerd-shim-runc-v2"));
    let mut command = Command::new(&program);
    command
        .args(config.command.iter().skip(1))
        .arg("-namespace")
        .arg(&config.namespace)
        .arg("-address")
        .arg(&config.address)
        .arg("-publish-binary")
        // Ours, which has containerd's `publish` (crate::publish). No shim may be without one.
        .args(config.keeper.first())
        .arg("-id")
        .arg(id);
    if !config.own {
        command.env(SHIM_ID, id);
    }
    if action == "delete" {
        command.arg("-bundle").arg(bundle);
    }
    command
        .arg(action)
        .current_dir(bundle)
        .env("NAMESPACE", &config.namespace)
        .env("GRPC_ADDRESS", &config.address)
        .env("MAX_SHIM_VERSION", "3")
        .env("BERTH_SHIM_SOCKET_DIR", &config.socket_dir);
    match events(config) {
        address if address.is_empty() => command.env_remove("TTRPC_ADDRESS"),
        address => command.env("TTRPC_ADDRESS", address),
    };
    output(command, program, action, stdin).await
}

/// Where the shim's events go; empty where nobody listens for them. Our own publishes none.
fn events(config: &ShimConfig) -> String {
    let path = config.events.as_ref().filter(|_| !config.own);
    path.map_or_else(String::new, |path| path.to_string_lossy().into_owned())
}

/// What a command prints that has to succeed.
pub(super) async fn output(
    mut command: Command,
    program: PathBuf,
    action: &'static str,
    stdin: Option<&[u8]>,
) -> Result<Vec<u8>, ShimError> {
    command
        .stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            ShimError::MissingBinary(program.clone())
        } else {
            ShimError::Run {
                command: program.clone(),
                source,
            }
        }
    })?;
    if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A shim that does not read its stdin is no failure.
        let _ = pipe.write_all(bytes).await;
    }
    let out = child
        .wait_with_output()
        .await
        .map_err(|source| ShimError::Run {
            command: program.clone(),
            source,
        })?;
    if !out.status.success() {
        let text = [out.stdout, out.stderr].concat();
        return Err(ShimError::Action {
            command: program,
            action,
            status: out.status,
            stderr: String::from_utf8_lossy(&text).trim().to_owned(),
        });
    }
    Ok(out.stdout)
}

/// Protobuf, then JSON, then a plain address.
fn parse(out: &[u8]) -> Result<Bootstrap, ShimError> {
    if let Ok(json) = serde_json::from_slice::<Bootstrap>(out) {
        return Ok(json);
    }
    let text = String::from_utf8_lossy(out).trim().to_owned();
    if text.starts_with("unix://") || text.starts_with('/') || text.starts_with('@') {
        return Ok(Bootstrap {
            version: 2,
            address: text,
            protocol: "ttrpc".to_owned(),
        });
    }
    match bootstrap_api::BootstrapResult::parse_from_bytes(out) {
        Ok(result) if result.address.contains("://") => Ok(Bootstrap {
            version: result.version,
            address: result.address,
            protocol: result.protocol,
        }),
        _ => Err(ShimError::Bootstrap(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim(dir: &Path, script: &str) -> ShimConfig {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("containerd-shim-test-v2");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
        ShimConfig {
            command: vec![path],
            own: false,
            keeper: Vec::new(),
            namespace: "k8s.io".to_owned(),
            socket_dir: dir.to_owned(),
            address: "/x.sock".to_owned(),
            events: None,
        }
    }

    #[tokio::test]
    async fn a_start_that_fails_twice_tells_both_reasons() {
        let dir = tempfile::tempdir().expect("a directory");
        // As one built for the newest protocol: without parameters it says only that.
        let script = "if [ -n \"$(cat | tr -d '\\0')\" ]; then echo no OOM score >&2; else echo too old >&2; fi; exit 1";
        let config = shim(dir.path(), script);
        let error = start(&config, "c", dir.path()).await.expect_err("it fails");
        let said = error.to_string();
        assert!(
            said.contains("no OOM score; started without parameters on stdin: too old"),
            "{said}"
        );
        let config = shim(dir.path(), "echo same >&2; exit 1");
        let error = start(&config, "c", dir.path()).await.expect_err("it fails");
        assert!(error.to_string().ends_with(": same"), "{error}");
    }

    #[test]
    fn answers_in_all_three_forms() {
        let plain = parse(b"unix:///run/containerd/s/abc\n").expect("plain");
        assert_eq!(
            (plain.version, plain.address.as_str()),
            (2, "unix:///run/containerd/s/abc")
        );
        let json =
            parse(br#"{"version":3,"address":"unix:///x","protocol":"ttrpc"}"#).expect("json");
        assert_eq!((json.version, json.address.as_str()), (3, "unix:///x"));
        let result = bootstrap_api::BootstrapResult {
            version: 3,
            address: "unix:///y".into(),
            protocol: "ttrpc".into(),
            ..Default::default()
        };
        let proto = parse(&result.write_to_bytes().expect("encode")).expect("protobuf");
        assert_eq!((proto.version, proto.address.as_str()), (3, "unix:///y"));
        assert!(parse(b"panic: oh no").is_err());
    }
}

//! `start`: sockets first, then the daemon, then the address.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sha2::{Digest, Sha256};

use super::args::Args;
use super::config::Config;
use super::error::Error;
use super::serve::{self, Daemon};
use crate::stdio::stream_socket;

/// Where sockets go when nobody says otherwise.
const SOCKET_DIR: &str = "/run/berth/s";
/// Says otherwise.
const SOCKET_DIR_VARIABLE: &str = "BERTH_SHIM_SOCKET_DIR";

pub(super) fn start(args: &Args) -> Result<ExitCode, Error> {
    let bundle = std::env::current_dir().map_err(Error::io("working directory"))?;
    let config = if bundle.join("config.json").exists() {
        Config::load(&bundle)?
    } else {
        Config::default()
    };
    let group = config.sandbox_id().unwrap_or(&args.id);
    let dir = std::env::var_os(SOCKET_DIR_VARIABLE)
        .map_or_else(|| PathBuf::from(SOCKET_DIR), PathBuf::from);
    let socket = socket_path(&dir, &args.namespace, group);
    let address = format!("unix://{}", socket.display());

    if group != args.id && UnixStream::connect(&socket).is_ok() {
        // The pod's shim is there already: it takes this container, too.
        return answer(&bundle, &address);
    }
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir);
    made.map_err(|source| Error::File {
        what: "socket directory",
        path: dir.clone(),
        source,
    })?;
    let Some(task) = bind(&socket)? else {
        return answer(&bundle, &address);
    };
    let streams_path = stream_socket(&address);
    let _ = std::fs::remove_file(&streams_path);
    let bind_failed = |source| Error::File {
        what: "socket",
        path: streams_path.clone(),
        source,
    };
    let streams = UnixListener::bind(&streams_path).map_err(bind_failed)?;

    let daemon = Daemon {
        namespace: args.namespace.clone(),
        socket_dir: dir,
        sockets: vec![socket, streams_path.clone()],
        task,
        streams,
        debug: args.debug,
    };
    // SAFETY: there is one thread only, so the child may do everything that the parent may.
    match unsafe { nix::unistd::fork() } {
        Err(e) => Err(Error::Io {
            what: "fork",
            source: e.into(),
        }),
        Ok(nix::unistd::ForkResult::Child) => {
            Ok(detach(&bundle, &daemon).map_or(ExitCode::FAILURE, |()| serve::serve(daemon)))
        }
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            let _ = std::fs::write(bundle.join("shim.pid"), child.to_string());
            answer(&bundle, &address)
        }
    }
}

/// One short name for each pod: a socket's path may have 107 bytes.
fn socket_path(dir: &Path, namespace: &str, group: &str) -> PathBuf {
    let digest = Sha256::digest(format!("{namespace}/{group}"));
    dir.join(hex::encode(digest.get(..12).unwrap_or_default()))
}

/// Binds, or finds that a live shim has the socket already. A dead one's socket is replaced.
fn bind(path: &Path) -> Result<Option<UnixListener>, Error> {
    let failed = |source| Error::File {
        what: "socket",
        path: path.to_owned(),
        source,
    };
    match UnixListener::bind(path) {
        Ok(listener) => Ok(Some(listener)),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(None);
            }
            std::fs::remove_file(path).map_err(failed)?;
            UnixListener::bind(path).map(Some).map_err(failed)
        }
        Err(e) => Err(failed(e)),
    }
}

/// The address in the form that the caller understands.
fn answer(bundle: &Path, address: &str) -> Result<ExitCode, Error> {
    let _ = std::fs::write(bundle.join("address"), address);
    let version = std::env::var("MAX_SHIM_VERSION")
        .ok()
        .and_then(|v| v.parse::<u32>().ok())
        .unwrap_or(2);
    let text = if version >= 3 {
        serde_json::json!({"version": 3, "address": address, "protocol": "ttrpc"}).to_string()
    } else {
        address.to_owned()
    };
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::io("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the caller's session, directory and descriptors behind. Messages go to `shim.log` in the bundle.
fn detach(bundle: &Path, daemon: &Daemon) -> Result<(), Error> {
    rustix::process::setsid().map_err(Error::errno("setsid"))?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(Error::io("/dev/null"))?;
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(bundle.join("shim.log"));
    let log = log.unwrap_or(null.try_clone().map_err(Error::io("/dev/null"))?);
    nix::unistd::dup2_stdin(&null).map_err(|e| Error::Io {
        what: "stdin",
        source: e.into(),
    })?;
    nix::unistd::dup2_stdout(&null).map_err(|e| Error::Io {
        what: "stdout",
        source: e.into(),
    })?;
    nix::unistd::dup2_stderr(&log).map_err(|e| Error::Io {
        what: "stderr",
        source: e.into(),
    })?;
    drop((null, log));
    let _ = std::env::set_current_dir("/");
    close_others(&[
        daemon.task.as_fd().as_raw_fd(),
        daemon.streams.as_fd().as_raw_fd(),
    ]);
    Ok(())
}

/// Closes what was inherited, beyond the standard three and `keep`.
fn close_others(keep: &[i32]) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        // SAFETY: nothing in this process uses these descriptors: they were inherited, or belonged to the list above.
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_are_short_and_differ_by_pod_and_namespace() {
        let id = "a".repeat(64);
        let a = socket_path(Path::new("/run/berth/s"), "k8s.io", &id);
        assert!(a.as_os_str().len() + ".io".len() < 100);
        assert_ne!(a, socket_path(Path::new("/run/berth/s"), "other", &id));
        assert_ne!(a, socket_path(Path::new("/run/berth/s"), "k8s.io", "b"));
    }
}

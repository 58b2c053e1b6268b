//! What the daemons have in common: a socket with a short name, a process that nobody's end takes along, one thread.

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt;
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::error::Error;
use crate::private;

/// Where sockets go when nobody says otherwise.
const SOCKET_DIR: &str = "/run/berth/s";
/// Says otherwise.
const SOCKET_DIR_VARIABLE: &str = "BERTH_SHIM_SOCKET_DIR";

/// The directory of the sockets.
pub(super) fn socket_dir() -> PathBuf {
    std::env::var_os(SOCKET_DIR_VARIABLE).map_or_else(|| PathBuf::from(SOCKET_DIR), PathBuf::from)
}

/// Makes it, for us alone.
pub(super) fn make_socket_dir(dir: &Path) -> Result<(), Error> {
    private::create_dir(dir).map_err(|source| Error::File {
        what: "socket directory",
        path: dir.to_owned(),
        source,
    })
}

/// One short name for each pod: a socket's path may have 107 bytes.
pub(crate) fn socket_path(dir: &Path, namespace: &str, group: &str) -> PathBuf {
    let digest = Sha256::digest(format!("{namespace}/{group}"));
    dir.join(hex::encode(digest.get(..12).unwrap_or_default()))
}

/// Binds, or finds that somebody alive has the socket already. A dead one's socket is replaced.
pub(super) fn bind(path: &Path) -> Result<Option<UnixListener>, Error> {
    private::listen(path).map_err(|source| Error::File {
        what: "socket",
        path: path.to_owned(),
        source,
    })
}

/// Forks; the child, which is to be the daemon, gets `None`, its parent the child's pid.
pub(super) fn fork() -> Result<Option<i32>, Error> {
    // SAFETY: there is one thread only, so the child may do everything that the parent may.
    match unsafe { nix::unistd::fork() } {
        Err(e) => Err(Error::Io {
            what: "fork",
            source: e.into(),
        }),
        Ok(nix::unistd::ForkResult::Child) => Ok(None),
        Ok(nix::unistd::ForkResult::Parent { child }) => Ok(Some(child.as_raw())),
    }
}

/// Leaves the caller's session, directory and descriptors (but `keep`) behind. Messages go to the file `log`.
pub(super) fn detach(log: &Path, keep: &[BorrowedFd<'_>]) -> Result<(), Error> {
    rustix::process::setsid().map_err(Error::errno("setsid"))?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(Error::io("/dev/null"))?;
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log);
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
    let keep: Vec<i32> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    close_others(&keep);
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

/// Runs a daemon to its end and removes its sockets.
pub(super) fn run(
    level: tracing::Level,
    sockets: &[PathBuf],
    work: impl Future<Output = io::Result<()>>,
) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(level)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(work);
            runtime.shutdown_timeout(Duration::from_millis(100));
            result
        }
        Err(e) => Err(e),
    };
    for socket in sockets {
        let _ = std::fs::remove_file(socket);
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = %e, "the daemon ends");
            ExitCode::FAILURE
        }
    }
}

/// Only a call ends a daemon: a service manager's TERM to the whole group must not take the pod along. And the kernel
/// should rather take a container; without the right to say so, so be it.
pub(super) fn endure() -> io::Result<JoinHandle<()>> {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::spawn(async move {
        while terminate.recv().await.is_some() {}
    }))
}

/// How long a task that has failed waits before it begins again.
const AGAIN: Duration = Duration::from_millis(100);

/// Begins a task that the daemon can't be without, and begins it anew when it panics or ends: the daemon is all that its
/// pod's containers have, so its own end is no answer.
pub(super) fn keep<F>(name: &'static str, begin: impl Fn() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            let reason = match AssertUnwindSafe(begin()).catch_unwind().await {
                Ok(()) => "it ended".to_owned(),
                Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
            };
            tracing::error!(task = name, reason, "a task of the daemon begins anew");
            tokio::time::sleep(AGAIN).await;
        }
    })
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_begins_anew() {
        let (begun, mut times) = tokio::sync::mpsc::channel(1);
        let task = keep("test", move || {
            let begun = begun.clone();
            async move {
                // A panic and an end in turn, until nobody counts any more.
                if begun.send(()).await.is_ok() {
                    panic!("again");
                }
            }
        });
        for _ in 0..3 {
            assert!(times.recv().await.is_some());
        }
        task.abort();
    }

    #[test]
    fn socket_paths_are_short_and_differ_by_pod_and_namespace() {
        let id = "a".repeat(64);
        let a = socket_path(Path::new("/run/berth/s"), "k8s.io", &id);
        assert!(a.as_os_str().len() + ".io".len() < 100);
        assert_ne!(a, socket_path(Path::new("/run/berth/s"), "other", &id));
        assert_ne!(a, socket_path(Path::new("/run/berth/s"), "k8s.io", "b"));
    }
}

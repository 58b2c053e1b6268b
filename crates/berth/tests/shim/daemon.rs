//! The daemon that serves one sandbox.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::events::task::TaskOOM;
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use ttrpc::r#async::Server;
use ttrpc::r#async::transport::Listener;

use crate::arguments::Arguments;
use crate::pod::Pod;
use crate::publisher::Publisher;
use crate::start::SOCKET_VARIABLE;
use crate::{sandbox, task};

/// How often a test's wish is looked for.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn serve(arguments: Arguments) -> Result<(), String> {
    // From here on the mounts are our own, while there is one thread only.
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("unshare: {e}"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|e| format!("make / private: {e}"))?;
    let _ = nix::unistd::setsid();
    log_to_fifo();
    let fd = std::env::var(SOCKET_VARIABLE).map_err(|e| format!("{SOCKET_VARIABLE}: {e}"))?;
    let fd = fd.parse().map_err(|e| format!("{SOCKET_VARIABLE}: {e}"))?;
    // SAFETY: whoever started us left this descriptor open for us, and we open nothing under its number.
    let listener = UnixListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let _ = nix::fcntl::fcntl(
        &listener,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let done = runtime.block_on(run(arguments, listener));
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

/// Messages go into the bundle's `log`, a FIFO of which somebody reads the other end.
fn log_to_fifo() {
    let fifo = std::fs::File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("log");
    if let Ok(fifo) = fifo {
        let _ = nix::unistd::dup2_stderr(&fifo);
    }
}

async fn run(arguments: Arguments, listener: UnixListener) -> Result<(), String> {
    let events = Publisher::connect(&arguments.namespace)
        .await
        .map_err(|error| format!("failed run shim: new shim server: {error}"))?;
    let pod = Arc::new(Pod::new(arguments, events));
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|e| e.to_string())?;
    let tasks = create_task(Arc::new(task::Service(Arc::clone(&pod))))
        .into_values()
        .map(|service| ("containerd.task.v2.Task".to_owned(), service))
        .collect();
    let mut server = Server::new()
        .add_listener(Listener::from(listener))
        .register_service(tasks)
        .register_service(create_sandbox(Arc::new(sandbox::Service(Arc::clone(&pod)))));
    server.start().await.map_err(|e| e.to_string())?;
    let wishes = tokio::spawn(grant(Arc::clone(&pod)));
    pod.shutdown.notified().await;
    wishes.abort();
    // The answer is still on its way.
    let _ = tokio::time::timeout(Duration::from_secs(1), server.shutdown()).await;
    Ok(())
}

/// Publishes that containers ran out of memory, as tests want it.
async fn grant(pod: Arc<Pod>) {
    loop {
        let wishes = std::fs::read_dir(pod.dir().join("oom"));
        for wish in wishes.into_iter().flatten().flatten() {
            let id = wish.file_name().to_string_lossy().into_owned();
            if pod.has(&id) && std::fs::remove_file(wish.path()).is_ok() {
                let event = TaskOOM {
                    container_id: id,
                    ..TaskOOM::default()
                };
                pod.events.publish("/tasks/oom", "TaskOOM", &event);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

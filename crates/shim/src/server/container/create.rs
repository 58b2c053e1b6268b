//! `Create`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use berth_oci::runtime::GvisorNetwork;
use containerd_shim_protos::api::CreateTaskRequest;
use parking_lot::Mutex;

use super::Container;
use crate::server::config::Config;
use crate::server::console::ConsoleSocket;
use crate::server::error::Error;
use crate::server::io::{ChildStdio, Io, Wiring};
use crate::server::kills::Kills;
use crate::server::process::{Fields, Phase, Process};
use crate::server::reaper::Reaper;
use crate::server::runtime::Runtime;
use crate::server::{options, persist, rootfs};

/// Creates a container with its runtime.
pub(in crate::server) async fn create(
    request: &CreateTaskRequest,
    namespace: &str,
    socket_dir: &Path,
    reaper: &Arc<Reaper>,
    kills: &Arc<Mutex<Kills>>,
) -> Result<Arc<Container>, Error> {
    let bundle = PathBuf::from(&request.bundle);
    let config = Config::load(&bundle)?;
    let mut command = options::command(request.options.as_ref(), namespace)?;
    if !config.has_network_namespace() {
        // gVisor's own stack would take the host's addresses away from the host.
        command.network = GvisorNetwork::Host;
    }
    persist::save_command(&bundle, &command)?;
    let runtime = Runtime::new(command, Arc::clone(reaper));

    let wiring = Wiring::new(
        &request.stdin,
        &request.stdout,
        &request.stderr,
        request.terminal,
    );
    let (io, child) = Io::new(wiring, None)?;
    child.belong_to(config.root());
    let mounting = berth_trace::stage("mount root filesystem");
    rootfs::mount(&request.rootfs, &bundle.join("rootfs"))?;
    drop(mounting);
    let late = runtime.is_gvisor() && config.joins_sandbox() && !request.terminal;
    let (now, later) = if late {
        (ChildStdio::default(), Some(child))
    } else {
        (child, None)
    };

    let fields = Fields {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    let container = Arc::new(Container {
        id: request.id.clone(),
        bundle,
        runtime,
        init: Arc::new(Process::new(fields, io, Phase::Created)),
        execs: Mutex::default(),
        begun: AtomicBool::new(false),
        config,
        reaper: Arc::clone(reaper),
        kills: Arc::clone(kills),
        changing: tokio::sync::Mutex::default(),
        late_stdio: Mutex::new(later),
        mounted: request.rootfs.len(),
        socket_dir: socket_dir.to_owned(),
        groups: OnceLock::new(),
        own_process: OnceLock::new(),
        cpu_time: AtomicU64::new(0),
        answered: AtomicBool::new(false),
    });
    match container.create(now).await {
        Ok(()) => Ok(container),
        Err(e) => {
            let force = ["--force", container.id.as_str()];
            let _ = container
                .runtime
                .call(&container.bundle, "delete", &force, ChildStdio::default())
                .await;
            container.init.io.close().await;
            for _ in 0..container.mounted {
                rootfs::unmount(&container.bundle.join("rootfs"));
            }
            Err(e)
        }
    }
}

impl Container {
    async fn create(self: &Arc<Self>, stdio: ChildStdio) -> Result<(), Error> {
        let pid_file = self.bundle.join("init.pid");
        let console = self
            .init
            .io
            .terminal()
            .then(|| ConsoleSocket::bind(&self.socket_dir))
            .transpose()?;
        let mut args = vec![
            "--bundle".to_owned(),
            self.bundle.to_string_lossy().into_owned(),
            "--pid-file".to_owned(),
            pid_file.to_string_lossy().into_owned(),
        ];
        if let Some(console) = &console {
            args.extend([
                "--console-socket".to_owned(),
                console.path().to_string_lossy().into_owned(),
            ]);
        }
        args.push(self.id.clone());
        let guard = self.reaper.call();
        self.runtime
            .call(&self.bundle, "create", &args, stdio)
            .await?;
        let pid = read_pid(&pid_file)?;
        self.init.set_pid(pid);
        // Now, while the process shows them.
        if let Some(cgroup) = self.groups().unified() {
            self.kills.lock().watch(&cgroup);
        }
        // All of a gVisor pod's containers share one host process. Its end is the sandbox container's; the other
        // containers' is the runtime's to tell.
        let exit = match (self.runtime.is_gvisor(), self.config.joins_sandbox()) {
            (false, _) => Some(self.reaper.watch(pid)),
            (true, false) => self.reaper.watch_child(pid),
            (true, true) => None,
        };
        let _ = self.own_process.set(exit.is_some());
        if let Some(exit) = exit {
            self.wait_by_pid(exit);
        }
        drop(guard);
        if let Some(console) = console {
            self.init.io.set_console(console.receive().await?)?;
        }
        self.init.io.run()
    }
}

/// A runtime's pid file.
pub(super) fn read_pid(path: &Path) -> Result<i32, Error> {
    let wrong = |source| Error::File {
        what: "pid file",
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    text.trim()
        .parse()
        .map_err(|_| wrong(std::io::ErrorKind::InvalidData.into()))
}

//! A pod of containers made of busybox, driven through the real shim binary.

use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_oci::runtime::{RuntimeCommand, RuntimeKind, probe};
use berth_oci::{CgroupDriver, Container, Host, Namespace, Sandbox, Spec};
use berth_shim::client::{CreateRequest, RuntimeOptions, Shim, ShimConfig};

/// The runtimes that the suite runs over.
pub(crate) const RUNTIMES: [&str; 3] = ["runc", "crun", "runsc"];

/// A directory, a shim and a way to make containers.
pub(crate) struct Pod {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: ShimConfig,
    shim: Option<Shim>,
    pub(crate) kind: RuntimeKind,
    pub(crate) id: String,
    options: RuntimeOptions,
    host: Host,
    sandbox: Sandbox,
    /// The profile of containers made from now on.
    pub(crate) seccomp: berth_oci::SeccompProfile,
    /// Whether containers made from now on are privileged, without the host's devices.
    pub(crate) privileged: bool,
    /// Of containers made from now on; 0 for none.
    pub(crate) memory_limit: i64,
    ids: std::sync::Mutex<Vec<String>>,
}

/// One container's settings, with defaults.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
}

impl Pod {
    /// Starts a shim; for gVisor also the sandbox container.
    pub(crate) async fn start(runtime: &str) -> Self {
        Self::start_with(runtime, None).await
    }

    /// A pod on the host's network.
    pub(crate) async fn start_on_host_network(runtime: &str) -> Self {
        let mut pod = Self::prepare(runtime, None);
        pod.sandbox.network = Namespace::Host;
        pod.start_sandbox().await;
        pod
    }

    /// A pod under containerd's shim for runc, with a sandbox container as it wants one.
    pub(crate) async fn start_stranger() -> Self {
        let mut pod = Self::prepare("runc", None);
        pod.config.own = false;
        pod.config.command = vec![PathBuf::from("/usr/bin/containerd-shim-runc-v2")];
        pod.options = RuntimeOptions::Runc {
            binary: "runc".to_owned(),
            root: pod.dir.path().join("r").to_string_lossy().into_owned(),
            systemd_cgroup: false,
        };
        pod.start_sandbox().await;
        pod
    }

    pub(crate) async fn start_with(runtime: &str, binary: Option<&Path>) -> Self {
        let mut pod = Self::prepare(runtime, binary);
        if pod.kind.needs_sandbox_container() {
            pod.start_sandbox().await;
        } else {
            let bundle = pod.dir.path().join("pod");
            std::fs::create_dir_all(&bundle).expect("bundle");
            pod.shim = Some(
                Shim::launch(&pod.config, &pod.id, &bundle)
                    .await
                    .expect("shim starts"),
            );
        }
        pod
    }

    fn prepare(runtime: &str, binary: Option<&Path>) -> Self {
        let found = probe(Path::new(runtime), &[]).expect("runtime is installed");
        let dir = tempfile::Builder::new()
            .prefix("bs")
            .tempdir_in("/run")
            .expect("tempdir");
        let id = format!("pod{:012x}", rand::random::<u64>() >> 16);
        let bin = binary.unwrap_or(&found.binary);
        let command = RuntimeCommand::new(found.kind, bin, dir.path().join("r"));
        let own = vec![PathBuf::from(env!(
            "CARGO_BIN_EXE_containerd-shim-berth-v2"
        ))];
        let config = ShimConfig {
            command: own.clone(),
            own: true,
            keeper: own,
            namespace: "test".to_owned(),
            socket_dir: dir.path().join("s"),
            address: "/nowhere".to_owned(),
            events: None,
        };
        let sandbox = Sandbox {
            id: id.clone(),
            hostname: "pod".to_owned(),
            cgroup_parent: format!("/berth-test-{id}"),
            cgroup_driver: CgroupDriver::Cgroupfs,
            network: Namespace::Private,
            ..Sandbox::default()
        };
        Self {
            dir,
            config,
            shim: None,
            kind: found.kind,
            id,
            options: RuntimeOptions::Command(command),
            host: Host::detect(),
            sandbox,
            seccomp: berth_oci::SeccompProfile::Unconfined,
            privileged: false,
            memory_limit: 0,
            ids: std::sync::Mutex::default(),
        }
    }

    async fn start_sandbox(&mut self) {
        let id = self.id.clone();
        let bundle = self.bundle(&id, &["sleep", "100000"], true, false);
        // Where tests look for the pod's notes.
        std::os::unix::fs::symlink(&bundle, self.dir.path().join("pod")).expect("link");
        self.shim = Some(
            Shim::launch(&self.config, &id, &bundle)
                .await
                .expect("shim starts"),
        );
        let request = self.request(&id, &bundle, &Settings::default());
        self.shim()
            .create(&request)
            .await
            .expect("sandbox is created");
        self.ids.lock().expect("lock").push(id.clone());
        self.shim().start(&id).await.expect("sandbox starts");
    }

    /// From now on the client treats the shim as a stranger's.
    pub(crate) async fn as_stranger(&mut self) {
        self.config.own = false;
        self.return_to().await;
    }

    /// Lets go of the shim, as a server that ends.
    pub(crate) fn leave(&mut self) {
        self.shim = None;
    }

    /// Finds the shim again.
    pub(crate) async fn return_to(&mut self) {
        let bundle = self.dir.path().join("pod");
        self.shim = Some(
            Shim::reconnect(&self.config, &bundle)
                .await
                .expect("reconnect"),
        );
    }

    pub(crate) fn shim(&self) -> &Shim {
        self.shim.as_ref().expect("a shim is running")
    }

    /// Writes a bundle with busybox as its root.
    pub(crate) fn bundle(&self, id: &str, args: &[&str], sandbox: bool, terminal: bool) -> PathBuf {
        let bundle = self.dir.path().join(id);
        let bin = bundle.join("rootfs/bin");
        std::fs::create_dir_all(&bin).expect("rootfs");
        for d in ["proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(bundle.join("rootfs").join(d)).expect("rootfs");
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in [
            "sh", "sleep", "echo", "cat", "true", "ls", "id", "stty", "dd", "head", "kill", "ps",
            "mount", "grep", "unshare", "wc", "yes", "trap", "hostname", "printf", "touch",
        ] {
            let _ = std::os::unix::fs::symlink("busybox", bin.join(applet));
        }
        let mut container = Container {
            id: id.to_owned(),
            name: "c".to_owned(),
            ..Container::default()
        };
        container.process.args = args.iter().map(|a| (*a).to_owned()).collect();
        container.process.terminal = terminal;
        container.security.seccomp = self.seccomp.clone();
        container.resources.memory_limit = self.memory_limit;
        container.security.privileged = self.privileged;
        container.security.privileged_without_host_devices = self.privileged;
        let spec = if sandbox {
            berth_oci::sandbox_spec(&self.host, self.kind, &self.sandbox, &container)
        } else {
            berth_oci::container_spec(&self.host, self.kind, &self.sandbox, &container)
        };
        let text = serde_json::to_vec_pretty(&spec.expect("spec")).expect("json");
        std::fs::write(bundle.join("config.json"), text).expect("config.json");
        bundle
    }

    pub(crate) fn request(&self, id: &str, bundle: &Path, settings: &Settings) -> CreateRequest {
        CreateRequest {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            rootfs: Vec::new(),
            terminal: settings.terminal,
            stdin: settings.stdin,
            stdin_once: settings.stdin_once,
            log: Some(self.log_path(id)),
            options: self.options.clone(),
        }
    }

    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.dir.path().join("log").join(id).join("0.log")
    }

    /// Creates a container that runs `args`.
    pub(crate) async fn create(&self, args: &[&str], settings: &Settings) -> String {
        let id = format!("c{:012x}", rand::random::<u64>() >> 16);
        let bundle = self.bundle(&id, args, false, settings.terminal);
        self.shim()
            .create(&self.request(&id, &bundle, settings))
            .await
            .expect("container is created");
        self.ids.lock().expect("lock").push(id.clone());
        id
    }

    /// Creates and starts one.
    pub(crate) async fn run(&self, args: &[&str], settings: &Settings) -> String {
        let id = self.create(args, settings).await;
        self.shim().start(&id).await.expect("container starts");
        id
    }

    pub(crate) fn spec(&self, id: &str) -> Spec {
        let text =
            std::fs::read(self.dir.path().join(id).join("config.json")).expect("config.json");
        serde_json::from_slice(&text).expect("spec")
    }

    pub(crate) fn exec_process(
        &self,
        id: &str,
        args: &[&str],
        terminal: bool,
    ) -> oci_spec::runtime::Process {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        berth_oci::exec_process(&self.spec(id), &args, terminal)
    }

    /// The texts of a log, stream and tag first.
    pub(crate) fn log(&self, id: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.log_path(id)).unwrap_or_default();
        text.lines()
            .map(|l| l.split_once(' ').expect("time").1.to_owned())
            .collect()
    }

    /// Kills and deletes everything.
    pub(crate) async fn end(self) {
        let ids = std::mem::take(&mut *self.ids.lock().expect("lock"));
        for id in ids.iter().rev() {
            match self.shim().kill(id, 9, true).await {
                Ok(()) => {}
                Err(e) => assert!(e.is_not_found(), "kill {id}: {e}"),
            }
            match within(self.shim().wait(id)).await {
                Ok(_) => drop(self.shim().delete(id).await.expect("delete")),
                Err(e) => assert!(e.is_not_found(), "wait {id}: {e}"),
            }
        }
        self.shim()
            .shutdown(&self.id, true)
            .await
            .expect("shutdown");
        for controller in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::remove_dir(
                controller
                    .path()
                    .join(self.sandbox.cgroup_parent.trim_start_matches('/')),
            );
        }
        let _ = std::fs::remove_dir(
            Path::new("/sys/fs/cgroup").join(self.sandbox.cgroup_parent.trim_start_matches('/')),
        );
    }
}

/// Nothing here takes longer.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("done within a minute")
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_so(what, async || holds()).await;
}

/// Waits for a condition that has to be asked for.
pub(crate) async fn eventually_so(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

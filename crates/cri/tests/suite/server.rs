//! A server of a test's own: directories, network, sockets; everything gone at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use berth_cri::{Config, DefaultNetwork, HandlerSource, RunError};
use berth_cri_api::v1::image_service_client::ImageServiceClient;
use berth_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::image;

/// Distinguishes the networks of the tests of one process.
static NEXT: AtomicU8 = AtomicU8::new(1);

pub(crate) struct Server {
    /// Short, since unix sockets lie below it.
    dir: tempfile::TempDir,
    config: Config,
    pub(crate) bridge: String,
    running: Option<(CancellationToken, JoinHandle<Result<(), RunError>>)>,
    pub(crate) client: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// Starts with settings that `adjust` has changed; it also gets the directory.
    pub(crate) async fn start_with(adjust: impl FnOnce(&mut Config, &Path)) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bcri")
            .rand_bytes(5)
            .tempdir_in("/tmp")
            .unwrap();
        let shim = PathBuf::from(env!("CARGO_BIN_EXE_berth-cri-shim"));
        let mut config = Config::new(
            &dir.path().join("d"),
            &dir.path().join("r"),
            vec![shim.clone().into()],
        );
        config.embedded_command = vec![shim.into(), "oci".into()];
        // A test process has its own second and each test its own third byte of the address.
        let (process, test) = (
            std::process::id() % 200,
            NEXT.fetch_add(1, Ordering::Relaxed),
        );
        let bridge = format!("bt{}x{test}", std::process::id());
        config.cni.conf_dirs = Vec::new();
        config.cni.default_network = Some(DefaultNetwork {
            name: bridge.clone(),
            bridge: bridge.clone(),
            subnet: format!("10.{}.{test}.0/24", process + 20),
        });
        under_the_driver_asked_for(&mut config, dir.path());
        adjust(&mut config, dir.path());
        let store = berth_image::ImageStore::open(
            config.root_dir.join("images"),
            berth_image::StoreOptions::default(),
        )
        .unwrap();
        store
            .import(&image::archive(dir.path()), None, Arc::new(|_| ()))
            .await
            .unwrap();
        drop(store);
        let channel = channel(&config.socket);
        let mut server = Self {
            dir,
            config,
            bridge,
            running: None,
            client: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        };
        server.resume().await;
        server
    }

    /// Imports a docker-archive into the store of this server, which does not run meanwhile.
    pub(crate) async fn import(&mut self, archive: &Path) {
        self.stop().await;
        let store = berth_image::ImageStore::open(
            self.config.root_dir.join("images"),
            berth_image::StoreOptions::default(),
        )
        .unwrap();
        store.import(archive, None, Arc::new(|_| ())).await.unwrap();
        drop(store);
        self.resume().await;
    }

    /// A container's bundle.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.config.state_dir.join("bundles").join(id)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn metrics_address(&self) -> std::net::SocketAddr {
        self.config.metrics_addr.unwrap()
    }

    /// Whether systemd makes the cgroups, as the environment asks.
    pub(crate) fn has_slices(&self) -> bool {
        self.config.handlers == HandlerSource::Berth(self.path().join(BY_SYSTEMD))
    }

    /// Whether it serves.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Serves (again) on the same directories.
    pub(crate) async fn resume(&mut self) {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(berth_cri::run(self.config.clone(), shutdown.clone()));
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // A killed server's connection may still answer; the new server's socket is what counts.
            let request = berth_cri_api::v1::VersionRequest::default();
            let listens = tokio::net::UnixStream::connect(&self.config.socket).await;
            if listens.is_ok() && self.client.version(request).await.is_ok() {
                break;
            }
            assert!(!task.is_finished(), "the server ended: {:?}", task.await);
            assert!(Instant::now() < end, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.running = Some((shutdown, task));
    }

    /// Starts a server that does not want to run on the directories as they are; gives why.
    pub(crate) async fn refuses(&self) -> String {
        let run = berth_cri::run(self.config.clone(), CancellationToken::new());
        let ended = tokio::time::timeout(Duration::from_secs(30), run).await;
        ended.expect("it ends").expect_err("it refuses").to_string()
    }

    /// Ends the server in order.
    pub(crate) async fn stop(&mut self) {
        let (shutdown, task) = self.running.take().unwrap();
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }

    /// Ends the server as a kill would: wherever it is.
    pub(crate) async fn kill(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Removes all pods, ends the server and says what it left behind.
    pub(crate) async fn finish(mut self) {
        if self.running.is_none() {
            self.resume().await;
        }
        let pods = self
            .client
            .list_pod_sandbox(berth_cri_api::v1::ListPodSandboxRequest::default())
            .await
            .unwrap();
        for pod in pods.into_inner().items {
            let request = berth_cri_api::v1::RemovePodSandboxRequest {
                pod_sandbox_id: pod.id,
            };
            self.client.remove_pod_sandbox(request).await.unwrap();
        }
        self.stop().await;
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Mounts, records, bundles and addresses of pods.
    fn leftovers(&self) -> Vec<String> {
        let dir = self.dir.path().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut left: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(&dir))
            .map(str::to_owned)
            .collect();
        for folder in [
            "d/cri/sandboxes",
            "d/cri/containers",
            "d/cri/images/snapshots",
            "r/cri/bundles",
            "r/cri/pods",
            &format!("d/cri/cni/ipam/{}", self.bridge),
        ] {
            let Ok(entries) = std::fs::read_dir(self.dir.path().join(folder)) else {
                continue;
            };
            left.extend(
                entries
                    .flatten()
                    .filter(|entry| {
                        !matches!(
                            entry.file_name().to_str(),
                            Some("lock" | "last_reserved_ip.0")
                        )
                    })
                    .map(|entry| entry.path().display().to_string()),
            );
        }
        left
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.cancel();
            task.abort();
        }
        // Of a failed test: whatever its shims still run, then its mounts.
        let dir = self.dir.path().to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid != nix::unistd::getpid().as_raw()
                && String::from_utf8_lossy(&command).contains(&dir)
            {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(4))
        {
            if point.starts_with(&dir) {
                let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let _ = Command::new("ip")
            .args(["link", "del", &self.bridge])
            .output();
        let chain = format!("BERTH-{}", self.bridge);
        let comment = format!("name: \"{0}\" id: \"all pods\"", self.bridge);
        for words in [
            &[
                "-D",
                "POSTROUTING",
                "-m",
                "comment",
                "--comment",
                &comment,
                "-j",
                &chain,
            ][..],
            &["-F", &chain],
            &["-X", &chain],
        ] {
            let _ = Command::new("iptables")
                .args(["-w", "-t", "nat"])
                .args(words)
                .output();
        }
    }
}

fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://cri").connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?))
        }
    }))
}

/// The table of a server whose cgroups systemd makes.
const BY_SYSTEMD: &str = "systemd.toml";

/// With `BERTH_TEST_CGROUP_DRIVER=systemd` in the environment systemd makes the cgroups of all handlers, unless a test has a
/// table of its own: so the suite runs in the guest of `make test-vm`.
fn under_the_driver_asked_for(config: &mut Config, dir: &Path) {
    if std::env::var("BERTH_TEST_CGROUP_DRIVER").as_deref() != Ok("systemd") {
        return;
    }
    let path = dir.join(BY_SYSTEMD);
    let handlers = ["runc", "crun", "berth", "runsc"]
        .map(|name| format!("[handlers.{name}]\nsystemd_cgroup = true\n"));
    let text = format!("default_handler = \"runc\"\n{}", handlers.concat());
    std::fs::write(&path, text).unwrap();
    config.handlers = HandlerSource::Berth(path);
}

/// Settings with a handler table in berth's own TOML.
pub(crate) fn handlers(text: &'static str) -> impl FnOnce(&mut Config, &Path) {
    move |config, dir| {
        let path = dir.join("config.toml");
        std::fs::write(&path, text).unwrap();
        config.handlers = HandlerSource::Berth(path);
    }
}

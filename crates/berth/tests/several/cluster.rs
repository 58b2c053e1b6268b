//! The processes: on each machine a member of the etcd and a server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_testkit::wait_for_async;
use k8s_openapi::api::coordination::v1::Lease;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::{NODES, Network};

const PATIENCE: Duration = Duration::from_secs(40);

/// A machine's processes.
#[derive(Default)]
struct Node {
    etcd: Option<Child>,
    server: Option<Child>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    Etcd,
    Server,
}

pub(crate) struct Cluster<'a> {
    pub(crate) network: &'a Network,
    nodes: Vec<Node>,
    dir: tempfile::TempDir,
}

/// Where the servers are, for clients.
#[derive(Clone)]
pub(crate) struct Servers {
    configs: Vec<kube::Config>,
}

impl Servers {
    /// A client with connections of its own.
    pub(crate) fn client(&self, server: usize) -> kube::Client {
        kube::Client::try_from(self.configs[server].clone()).unwrap()
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            for child in [&mut node.server, &mut node.etcd].into_iter().flatten() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl<'a> Cluster<'a> {
    pub(crate) async fn start(network: &'a Network) -> Self {
        let mut cluster = Self {
            network,
            nodes: (0..NODES).map(|_| Node::default()).collect(),
            dir: tempfile::tempdir().unwrap(),
        };
        for node in 0..NODES {
            cluster.run(node, Process::Etcd);
        }
        // The first makes the certificates that all share.
        cluster.run(0, Process::Server);
        wait_for_async("the first server", PATIENCE, || cluster.ready(0)).await;
        for node in 1..NODES {
            cluster.run(node, Process::Server);
        }
        cluster.all_ready().await;
        cluster
    }

    fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("data{node}"))
    }

    fn log(&self, name: &str) -> Stdio {
        let path = self.dir.path().join(name);
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        file.unwrap().into()
    }

    /// Starts a process of a machine.
    pub(crate) fn run(&mut self, node: usize, process: Process) {
        let namespace = self.network.node(node);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace]);
        match process {
            Process::Etcd => self.etcd_arguments(node, &mut command),
            Process::Server => self.server_arguments(node, &mut command),
        }
        let name = format!("{process:?}{node}.log");
        command
            .stdin(Stdio::null())
            .stdout(self.log(&name))
            .stderr(self.log(&name));
        let child = command.spawn().unwrap();
        *self.slot(node, process) = Some(child);
    }

    fn slot(&mut self, node: usize, process: Process) -> &mut Option<Child> {
        match process {
            Process::Etcd => &mut self.nodes[node].etcd,
            Process::Server => &mut self.nodes[node].server,
        }
    }

    fn etcd_arguments(&self, node: usize, command: &mut Command) {
        let peer = |node| format!("http://{}:2380", Network::address(node));
        let client = format!("http://{}:2379", Network::address(node));
        let all: Vec<String> = (0..NODES).map(|n| format!("e{n}={}", peer(n))).collect();
        command
            .arg("etcd")
            .arg(format!("--name=e{node}"))
            .args(["--log-level=error", "--logger=zap", "--unsafe-no-fsync"])
            .args(["--heartbeat-interval=50", "--election-timeout=500"])
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={}", peer(node)))
            .arg(format!("--initial-advertise-peer-urls={}", peer(node)))
            .arg(format!("--initial-cluster={}", all.join(",")))
            .arg(format!(
                "--data-dir={}",
                self.dir.path().join(format!("etcd{node}")).display()
            ));
    }

    fn server_arguments(&self, node: usize, command: &mut Command) {
        let etcd: Vec<String> = (0..NODES)
            .map(|n| format!("http://{}:2379", Network::address(n)))
            .collect();
        command
            .arg(env!("CARGO_BIN_EXE_berth"))
            .arg("server")
            .arg("--data-dir")
            .arg(self.data_dir(node))
            .arg("--cert-dir")
            .arg(self.dir.path().join("pki"))
            .args(["--bind-address", &Network::address(node)])
            .args(["--etcd-servers", &etcd.join(",")])
            .args(["--leader-elect-lease-duration", "6"])
            .args(["--leader-elect-renew-deadline", "4"])
            .args(["--leader-elect-retry-period", "1"]);
    }

    /// Sends a signal to a process of a machine; a killed one is waited for.
    pub(crate) fn signal(&mut self, node: usize, process: Process, signal: Signal) {
        let slot = self.slot(node, process);
        let child = slot.as_mut().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, signal).unwrap();
        if signal == Signal::SIGKILL {
            let _ = child.wait();
            *slot = None;
        }
    }

    pub(crate) fn servers(&self) -> Servers {
        let configs = (0..NODES).map(|node| self.config(node).unwrap()).collect();
        Servers { configs }
    }

    fn config(&self, node: usize) -> Result<kube::Config, String> {
        let path = self.data_dir(node).join("admin.kubeconfig");
        let file = Kubeconfig::read_from(path).map_err(|e| e.to_string())?;
        let options = KubeConfigOptions::default();
        let reading = kube::Config::from_custom_kubeconfig(file, &options);
        let mut config = futures::executor::block_on(reading).map_err(|e| e.to_string())?;
        config.connect_timeout = Some(Duration::from_secs(2));
        config.read_timeout = None;
        Ok(config)
    }

    /// Whether a server answers, and is sure of its caches.
    async fn ready(&self, node: usize) -> Result<(), String> {
        let config = self.config(node)?;
        let client = kube::Client::try_from(config).map_err(|e| e.to_string())?;
        let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
        let asking = client.request_text(request);
        match tokio::time::timeout(Duration::from_secs(2), asking).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{error}; {}", self.last_words(node))),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    fn last_words(&self, node: usize) -> String {
        let log = self.dir.path().join(format!("Server{node}.log"));
        let text = std::fs::read_to_string(log).unwrap_or_default();
        text.lines().rev().take(3).collect::<Vec<_>>().join(" | ")
    }

    pub(crate) async fn all_ready(&self) {
        for node in 0..NODES {
            wait_for_async("a server to be ready", PATIENCE, || self.ready(node)).await;
        }
    }

    /// The scheduler and the controllers are somebody's work: their leases are renewed.
    pub(crate) async fn leads(&self) {
        let client = self.servers().client(0);
        let api: kube::Api<Lease> = kube::Api::namespaced(client, "kube-system");
        for name in ["kube-scheduler", "berth-controllers"] {
            let renewed = async || {
                let spec = api.get(name).await.map_err(|e| e.to_string())?.spec;
                let spec = spec.ok_or("no spec")?;
                Ok::<_, String>((spec.holder_identity, spec.renew_time))
            };
            let before = wait_for_async("a lease", PATIENCE, renewed).await;
            wait_for_async("the lease to be renewed", PATIENCE, || async {
                match renewed().await {
                    Ok(now)
                        if now.1 != before.1 && now.0.as_deref().is_some_and(|h| !h.is_empty()) =>
                    {
                        Ok(())
                    }
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
    }

    /// Where the logs are, for a look after a failure.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

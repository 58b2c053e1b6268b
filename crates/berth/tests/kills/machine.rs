//! The machine: an API server, a node and a runtime, each a process of its own, and what they have on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use berth_testkit::{free_port, wait_for_async};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tempfile::TempDir;

use crate::LIMIT;

/// The name of the Node.
const NODE: &str = "n1";
const HANDLERS: &str = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.berth]\n[handlers.runsc]\n\
    [handlers.stranger]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";
/// RuntimeClasses and their handlers.
const CLASSES: [(&str, &str); 3] = [
    ("inside", "berth"),
    ("stranger", "stranger"),
    ("gvisor", "runsc"),
];

/// A process that a service manager would start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Server,
    Cri,
    Node,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Server => "server",
            Part::Cri => "cri",
            Part::Node => "node",
        }
    }
}

pub(crate) struct Machine {
    /// Short, since unix sockets lie below it.
    dir: TempDir,
    port: u16,
    children: BTreeMap<Part, Child>,
}

fn berth() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command.env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

fn fine(what: &str, output: Output) -> Vec<u8> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {} {said}", output.status);
    output.stdout
}

impl Machine {
    /// Starts one with an image and classes, and waits until pods can run.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bx")
            .rand_bytes(5)
            .tempdir_in("/tmp")
            .expect("a directory");
        let mut machine = Self {
            dir,
            port: free_port(),
            children: BTreeMap::new(),
        };
        for name in ["net.d", "notes"] {
            fs::create_dir(machine.path(name)).expect("a directory");
        }
        fs::write(machine.path("config.toml"), HANDLERS).expect("config.toml");
        let archive = machine.path("image.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo-image");
        let made = Command::new(script).arg(&archive).output().expect("runs");
        fine("scripts/demo-image", made);
        let mut import = berth();
        import.args(["image", "import"]).arg(&archive);
        let imported = import.arg("--data-dir").arg(machine.data()).output();
        fine("berth image import", imported.expect("runs"));
        machine.launch(Part::Server);
        machine.wait_for_server().await;
        let mut kubeconfig = berth();
        kubeconfig.args(["kubeconfig", "--node", NODE, "--server"]);
        kubeconfig.arg(format!("https://127.0.0.1:{}", machine.port));
        let made = kubeconfig.arg("--data-dir").arg(machine.path("s")).output();
        let text = fine("berth kubeconfig", made.expect("runs"));
        fs::write(machine.path("kubeconfig"), text).expect("a kubeconfig");
        machine.launch(Part::Cri);
        machine.launch(Part::Node);
        machine.make_classes().await;
        machine.wait_until_ready().await;
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is the machine's alone.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory of runtime and node.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("d")
    }

    /// The run directory, which a reboot empties.
    pub(crate) fn run(&self) -> PathBuf {
        self.path("r")
    }

    /// Where containers note that they begin.
    pub(crate) fn notes(&self) -> PathBuf {
        self.path("notes")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("r/cri.sock")
    }

    /// The bridge of the pods' network.
    pub(crate) fn bridge(&self) -> String {
        let file = self.data().join("cri/cni/net.d/10-berth.conflist");
        let text = fs::read(file).expect("berth's network");
        let network: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let bridge = network["plugins"][0]["bridge"].as_str();
        bridge.expect("a bridge").to_owned()
    }

    fn command(&self, part: Part) -> Command {
        let mut command = berth();
        command.args(["--log", "info,berth=debug", part.name()]);
        match part {
            Part::Server => {
                command.arg("--data-dir").arg(self.path("s"));
                command.args(["--bind-address", "127.0.0.1", "--secure-port"]);
                command.arg(self.port.to_string());
            }
            Part::Cri => {
                command.arg("--data-dir").arg(self.data());
                command.arg("--run-dir").arg(self.run());
                command.arg("--config").arg(self.path("config.toml"));
                command.arg("--cni-conf-dir").arg(self.path("net.d"));
            }
            Part::Node => {
                command.args(["--node-name", NODE, "--kubelet-address", "127.0.0.1:0"]);
                command.arg("--kubeconfig").arg(self.path("kubeconfig"));
                command.arg("--root-dir").arg(self.data().join("node"));
                command.arg("--pod-logs-dir").arg(self.path("logs"));
                command.arg("--cri-socket").arg(self.socket());
            }
        }
        command
    }

    /// Starts a part (again).
    pub(crate) fn launch(&mut self, part: Part) {
        let path = self.path(&format!("{}.log", part.name()));
        let log = fs::File::options().append(true).create(true).open(path);
        let log = log.expect("a log");
        let mut command = self.command(part);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.children
            .insert(part, command.spawn().expect("berth starts"));
    }

    /// SIGKILL. It must not have ended by itself before.
    pub(crate) fn kill(&mut self, part: Part) {
        let mut child = self.children.remove(&part).expect("it was started");
        let ended = child.try_wait().expect("its state");
        assert!(ended.is_none(), "berth {} ended: {ended:?}", part.name());
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// The processes of the parts.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.values().map(Child::id).collect()
    }

    /// The API as the administrator sees it, with connections of its own.
    pub(crate) async fn client(&self) -> Result<kube::Client, String> {
        let path = self.path("s/admin.kubeconfig");
        let file = Kubeconfig::read_from(path).map_err(|e| e.to_string())?;
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options).await;
        kube::Client::try_from(config.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    }

    /// Waits until the server answers and has what pods need of it.
    pub(crate) async fn wait_for_server(&self) {
        wait_for_async("the API server", LIMIT, async || {
            let client = self.client().await?;
            let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
            let account = accounts.get("default").await;
            account.map(drop).map_err(|e| e.to_string())
        })
        .await;
    }

    async fn make_classes(&self) {
        let client = self.client().await.expect("a client");
        let api: Api<k8s_openapi::api::node::v1::RuntimeClass> = Api::all(client);
        for (name, handler) in CLASSES {
            let class = json!({"metadata": {"name": name}, "handler": handler});
            let class = serde_json::from_value(class).expect("a class");
            let made = api.create(&Default::default(), &class).await;
            made.expect("a class is made");
        }
    }

    /// Waits until the Node is ready and has all handlers.
    pub(crate) async fn wait_until_ready(&self) {
        let client = self.client().await.expect("a client");
        let api: Api<Node> = Api::all(client);
        wait_for_async("the Node to be ready", LIMIT, async || {
            let node = api.get(NODE).await.map_err(|e| e.to_string())?;
            let status = node.status.unwrap_or_default();
            let conditions = status.conditions.iter().flatten();
            let ready = conditions
                .filter(|c| c.type_ == "Ready" && c.status == "True")
                .count();
            let handlers = status.runtime_handlers.unwrap_or_default();
            let names: Vec<String> = handlers.into_iter().filter_map(|h| h.name).collect();
            let all = CLASSES.iter().all(|(_, h)| names.iter().any(|n| n == h));
            match ready == 1 && all {
                true => Ok(()),
                false => Err(format!("ready: {ready}, handlers: {names:?}")),
            }
        })
        .await;
    }

    /// Ends all parts in order.
    pub(crate) fn stop(&mut self) {
        for part in [Part::Node, Part::Cri, Part::Server] {
            let mut child = self.children.remove(&part).expect("it runs");
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is told");
            let status = child.wait().expect("it ends");
            assert!(status.success(), "berth {}: {status}", part.name());
        }
    }

    /// Keeps the logs of a run that failed, and says where.
    fn keep_logs(&self) {
        let to = std::env::temp_dir().join(format!("berth-kills-{}", std::process::id()));
        let _ = fs::create_dir_all(&to);
        for part in [Part::Server, Part::Cri, Part::Node] {
            let name = format!("{}.log", part.name());
            let _ = fs::copy(self.path(&name), to.join(&name));
        }
        eprintln!("logs of the parts are in {}", to.display());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            self.keep_logs();
        }
        let mut reset = berth();
        reset
            .args(["reset", "--yes", "--data-dir"])
            .arg(self.data());
        let _ = reset.arg("--run-dir").arg(self.run()).output();
    }
}

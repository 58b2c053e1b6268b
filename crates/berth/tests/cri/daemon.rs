//! A `berth cri` of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use berth_cri_api::v1::VersionRequest;
use berth_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use berth_testkit::wait_for_async;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

pub(crate) const IMAGE: &str = "berth.dev/demo:1";
/// How long anything may take that should take moments. The machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) type Client = RuntimeServiceClient<Channel>;

pub(crate) struct Daemon {
    /// Short, since unix sockets lie below it.
    dir: TempDir,
    child: Option<Child>,
    pub(crate) client: Client,
}

fn berth() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command
}

fn fine(what: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {} {said}", output.status);
}

impl Daemon {
    /// Starts one with an image and, in berth's own TOML, these handlers, in which `@dir@` is its directory.
    pub(crate) async fn start(handlers: &str) -> Self {
        let mut daemon = Self::prepare(handlers);
        daemon.begin().await;
        daemon
    }

    /// As [`Daemon::start`], which begins only with [`Daemon::begin`].
    pub(crate) fn prepare(handlers: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bk")
            .rand_bytes(5)
            .tempdir_in("/tmp")
            .expect("a directory");
        let handlers = handlers.replace("@dir@", &dir.path().to_string_lossy());
        std::fs::write(dir.path().join("config.toml"), handlers).expect("config.toml");
        std::fs::create_dir(dir.path().join("net.d")).expect("net.d");
        let archive = dir.path().join("image.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo-image");
        fine(
            "scripts/demo-image",
            &Command::new(script).arg(&archive).output().expect("runs"),
        );
        let socket = dir.path().join("cri.sock");
        let channel = Endpoint::from_static("http://cri").connect_with_connector_lazy(
            tower::service_fn(move |_| {
                let socket = socket.clone();
                async move {
                    let stream = tokio::net::UnixStream::connect(socket).await?;
                    Ok::<_, std::io::Error>(TokioIo::new(stream))
                }
            }),
        );
        Self {
            dir,
            child: None,
            client: RuntimeServiceClient::new(channel),
        }
    }

    /// Starts it for the first time.
    pub(crate) async fn begin(&mut self) {
        self.launch().await;
        self.import(&self.path().join("image.tar"));
    }

    /// Imports an archive of images.
    pub(crate) fn import(&self, archive: &Path) {
        let imported = berth()
            .args(["image", "import"])
            .arg(archive)
            .arg("--data-dir")
            .arg(self.data())
            .output()
            .expect("runs");
        fine("berth image import", &imported);
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("d")
    }

    /// The bridge of the network that berth wrote for itself.
    pub(crate) fn bridge(&self) -> String {
        let file = self.data().join("cri/cni/net.d/10-berth.conflist");
        let text = std::fs::read(file).expect("berth's network");
        let network: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        network["plugins"][0]["bridge"]
            .as_str()
            .expect("a bridge")
            .to_owned()
    }

    /// Starts it (again) on the same directories and waits until it answers.
    pub(crate) async fn launch(&mut self) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.path().join("log"))
            .expect("a log");
        let mut child = berth()
            .arg("cri")
            .arg("--data-dir")
            .arg(self.data())
            .arg("--run-dir")
            .arg(self.path().join("r"))
            .arg("--socket")
            .arg(self.path().join("cri.sock"))
            .arg("--config")
            .arg(self.path().join("config.toml"))
            .arg("--cni-conf-dir")
            .arg(self.path().join("net.d"))
            .env("BERTH_TESTVM_DIR", self.path().join("vm"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("berth cri starts");
        wait_for_async("an answer of berth cri", LIMIT, || {
            if let Some(status) = child.try_wait().expect("its state") {
                panic!("berth cri ended: {status}\n{}", self.log());
            }
            let mut client = self.client.clone();
            let log = self.log();
            async move {
                let answer = client.version(VersionRequest::default()).await;
                answer.map_err(|error| format!("{error}\n{log}"))
            }
        })
        .await;
        self.child = Some(child);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let pid = i32::try_from(child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it can be told");
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of berth cri\n{}", self.log());
        }
        let _ = berth()
            .args(["reset", "--yes", "--data-dir"])
            .arg(self.data())
            .arg("--run-dir")
            .arg(self.path().join("r"))
            .output();
    }
}

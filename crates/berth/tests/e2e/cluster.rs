//! A `berth up` of a test's own.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use berth_testkit::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// The name of the image that every cluster has.
pub(crate) const IMAGE: &str = "berth.dev/demo:1";
/// How long anything may take that should take moments. The machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const BERTH: &str = env!("CARGO_BIN_EXE_berth");
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The berth binary with the system's administration tools in its path.
pub(crate) fn berth() -> Command {
    let mut command = Command::new(BERTH);
    command.env("PATH", path()).env_remove("KUBECONFIG");
    command
}

/// Where programs are looked for, with those for administrators.
pub(crate) fn path() -> String {
    format!("{}:{SBIN}", std::env::var("PATH").unwrap_or_default())
}

/// A TCP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

/// The demo's image as a docker-archive, made once a run.
pub(crate) fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let tar = std::env::temp_dir().join(format!("berth-e2e-{}.tar", std::process::id()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo-image");
        let status = Command::new(script)
            .arg(&tar)
            .status()
            .expect("scripts/demo-image runs");
        assert!(status.success(), "scripts/demo-image: {status}");
        tar
    })
}

/// A directory for a cluster, with a short path: sockets live in it.
pub(crate) fn short_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("b")
        .rand_bytes(5)
        .tempdir_in("/tmp")
        .expect("a directory")
}

/// What a finished command said, in one text.
pub(crate) fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A running cluster. Dropping it removes everything that it made.
pub(crate) struct Cluster {
    dir: TempDir,
    arguments: Vec<String>,
    /// What berth is started through.
    wrapper: Vec<&'static str>,
    child: Option<Child>,
    port: u16,
}

impl Cluster {
    /// Starts one and imports the image.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with further arguments for `berth up`.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::through(Vec::new(), arguments)
    }

    /// Starts one through another program, which has to become berth.
    pub(crate) fn through(wrapper: Vec<&'static str>, arguments: &[&str]) -> Self {
        let mut cluster = Self {
            dir: short_dir(),
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            wrapper,
            child: None,
            port: free_port(),
        };
        cluster.launch();
        let imported = berth()
            .args(["image", "import"])
            .arg(image())
            .arg("--data-dir")
            .arg(cluster.data())
            .output()
            .expect("berth image import runs");
        assert!(
            imported.status.success(),
            "image import: {}",
            words(&imported)
        );
        cluster
    }

    /// Starts an API server without scheduler, controllers and node.
    pub(crate) fn server_only() -> Self {
        Self::server(&["--scheduler=false", "--controllers=false"])
    }

    /// Starts `berth server` with these arguments, and no node.
    pub(crate) fn server(arguments: &[&str]) -> Self {
        let mut cluster = Self {
            dir: short_dir(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
            child: None,
            port: free_port(),
        };
        let log = fs::File::create(cluster.log_path()).expect("the log");
        let child = berth()
            .arg("server")
            .args(arguments)
            .arg("--data-dir")
            .arg(cluster.data())
            .args([
                "--bind-address",
                "127.0.0.1",
                "--secure-port",
                &cluster.port.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("berth server starts");
        cluster.child = Some(child);
        wait_for("the API server to be ready", LIMIT, || {
            let answer = cluster.try_kubectl(&["get", "--raw", "/readyz"]);
            if answer.status.success() {
                Ok(())
            } else {
                Err(words(&answer))
            }
        });
        cluster
    }

    /// Starts berth (again) on the same directory and port, and waits until it is ready.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log");
        let start = log.metadata().map_or(0, |metadata| metadata.len());
        let errors = log.try_clone().expect("the log again");
        let mut command = match self.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(BERTH);
                command.env("PATH", path()).env_remove("KUBECONFIG");
                command
            }
            None => berth(),
        };
        let child = command
            .args([
                "--log",
                "info,berth=debug",
                "up",
                "--node-name",
                "n1",
                "--data-dir",
            ])
            .arg(self.data())
            .args([
                "--bind-address",
                "127.0.0.1",
                "--secure-port",
                &self.port.to_string(),
            ])
            .args(["--kubelet-address", "0.0.0.0:0"])
            // Tests make the classes that they look at, some of them under handlers' names.
            .args(own_classes(&self.arguments))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("berth up starts");
        self.child = Some(child);
        wait_for("berth to be ready", LIMIT, || {
            let log = self.log();
            let fresh = log
                .get(usize::try_from(start).unwrap_or(0)..)
                .unwrap_or_default();
            if fresh.contains("berth is ready") {
                return Ok(());
            }
            let child = self.child.as_mut().expect("it was started");
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                panic!("berth up ended: {status}\n{fresh}");
            }
            Err(fresh.to_owned())
        });
    }

    /// Changes the arguments of the next launch.
    pub(crate) fn set_arguments(&mut self, arguments: &[&str]) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        self.arguments = arguments.collect();
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("d")
    }

    /// Beside the data directory, for parts of a test that run apart.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data directory of the runtime, which may be apart.
    pub(crate) fn runtime_data(&self) -> PathBuf {
        let apart = self.beside("c");
        if apart.exists() { apart } else { self.data() }
    }

    /// The API server's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// berth's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Everything that berth has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// kubectl for this cluster as its admin.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("PATH", path())
            .env("KUBECONFIG", self.data().join("admin.kubeconfig"))
            // Discovery is cached by server address, and ports come back.
            .arg(format!(
                "--cache-dir={}",
                self.dir.path().join("cache").display()
            ));
        command
    }

    /// Runs kubectl to its end.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl runs")
    }

    /// Runs kubectl, which has to succeed, and gives what it printed.
    pub(crate) fn kube(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            words(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `kubectl get ... -o json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        serde_json::from_str(&self.kube(&all)).expect("kubectl prints JSON")
    }

    /// `kubectl apply -f -` with this manifest; may fail.
    pub(crate) fn try_apply(&self, manifest: &str) -> Output {
        let mut child = self
            .kubectl()
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut input = child.stdin.take().expect("its input");
        input.write_all(manifest.as_bytes()).expect("kubectl reads");
        drop(input);
        child.wait_with_output().expect("kubectl ends")
    }

    /// `kubectl apply -f -`, which has to succeed.
    pub(crate) fn apply(&self, manifest: &str) {
        let output = self.try_apply(manifest);
        assert!(
            output.status.success(),
            "kubectl apply: {}\n{manifest}",
            words(&output)
        );
    }

    /// Waits until all these pods are Ready.
    pub(crate) fn wait_ready(&self, pods: &[&str]) {
        for pod in pods {
            self.wait_pod(pod, "Ready", |found| {
                let conditions = found["status"]["conditions"].as_array();
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            });
        }
    }

    /// Waits for a phase.
    pub(crate) fn wait_phase(&self, pod: &str, phase: &str) -> Value {
        self.wait_pod(pod, phase, |found| found["status"]["phase"] == phase)
    }

    /// Waits until a pod is as it should be.
    pub(crate) fn wait_pod(
        &self,
        pod: &str,
        what: &str,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Value {
        wait_for(&format!("pod {pod}: {what}"), LIMIT, || {
            let found = self.json(&["pod", pod]);
            if holds(&found) {
                Ok(found)
            } else {
                Err(format!("{:#}\n{}", found["status"], self.events_of(pod)))
            }
        })
    }

    /// Events about an object, one a line: reason and message.
    pub(crate) fn events_of(&self, name: &str) -> String {
        let selector = format!("involvedObject.name={name}");
        self.kube(&[
            "get",
            "events",
            "--field-selector",
            &selector,
            "-o",
            r#"jsonpath={range .items[*]}{.type} {.reason} {.message}{"\n"}{end}"#,
        ])
    }

    /// Waits for an event about an object that contains these words.
    pub(crate) fn wait_event(&self, name: &str, words: &[&str]) {
        wait_for(
            &format!("an event about {name} with {words:?}"),
            LIMIT,
            || {
                let events = self.events_of(name);
                let found = events
                    .lines()
                    .any(|line| words.iter().all(|word| line.contains(word)));
                if found { Ok(()) } else { Err(events) }
            },
        );
    }

    /// SIGTERM; answers how long berth took to end.
    pub(crate) fn stop(&mut self) -> Duration {
        let start = Instant::now();
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("it runs");
        let status = wait_for("berth to stop", LIMIT, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        assert!(
            status.success(),
            "berth up ended with {status}\n{}",
            self.log()
        );
        start.elapsed()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("a signal can be sent");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        let mut reset = berth();
        reset
            .args(["reset", "--yes", "--data-dir"])
            .arg(self.data());
        if let Some(at) = self.arguments.iter().position(|word| word == "--run-dir") {
            reset.args(self.arguments.iter().skip(at).take(2));
        }
        let reset = reset.output().expect("berth reset runs");
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(80).collect();
            eprintln!("--- the end of berth's log ---");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        } else {
            assert!(reset.status.success(), "berth reset: {}", words(&reset));
        }
    }
}

/// A pod's manifest: one container `main` that runs a shell command.
pub(crate) fn pod(name: &str, class: Option<&str>, command: &str) -> String {
    let class = class.map_or(String::new(), |class| {
        format!("  runtimeClassName: {class}\n")
    });
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n\
         \x20 name: {name}\n\
         spec:\n\
         {class}\
         \x20 terminationGracePeriodSeconds: 5\n\
         \x20 containers:\n\
         \x20 - name: main\n\
         \x20   image: {IMAGE}\n\
         \x20   command: [sh, -c, {command:?}]\n"
    )
}

/// That no classes are made by themselves, unless a test says something of it.
fn own_classes(arguments: &[String]) -> Option<&'static str> {
    const FLAG: &str = "--create-runtime-classes";
    let is_said = arguments.iter().any(|argument| argument.starts_with(FLAG));
    (!is_said).then_some("--create-runtime-classes=false")
}

/// A RuntimeClass's manifest.
pub(crate) fn class(name: &str, handler: &str) -> String {
    format!(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {name}\nhandler: {handler}\n"
    )
}

/// A shell command that goes on until it is told to stop, and then stops at once.
pub(crate) const FOREVER: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 3600 & wait; done";

//! Server, runtime and node agent as processes of their own, which share nothing but sockets.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use berth_testkit::wait_for;
use nix::mount::{MntFlags, umount2};

use crate::cluster::{Cluster, LIMIT, berth, image, words};

/// `berth server`, `berth cri` and `berth node`. Dropping it removes everything that they made.
pub(crate) struct Parts {
    /// The server, with kubectl for it.
    pub(crate) cluster: Cluster,
    children: Vec<(&'static str, Child)>,
}

impl Parts {
    /// A server and a runtime that has the image; no node agent yet.
    pub(crate) fn start() -> Self {
        let cluster = Cluster::server(&["--local-node", "n1"]);
        let children = Vec::new();
        let mut parts = Self { cluster, children };
        parts.start_cri();
        let imported = berth()
            .args(["image", "import"])
            .arg(image())
            .arg("--data-dir")
            .arg(parts.cluster.beside("c"))
            .output()
            .expect("berth image import runs");
        assert!(imported.status.success(), "{}", words(&imported));
        parts
    }

    /// Starts the runtime (again).
    pub(crate) fn start_cri(&mut self) {
        let mut command = berth();
        command.args(["cri", "--data-dir"]);
        command.arg(self.cluster.beside("c"));
        let socket = self.cluster.beside("c/run/cri.sock");
        let _none = fs::remove_file(&socket);
        self.spawn("cri", &mut command);
        wait_for("the runtime", LIMIT, || match socket.exists() {
            true => Ok(()),
            false => Err(self.log("cri")),
        });
    }

    /// Starts the node agent (again), with further arguments, and waits until its node is ready.
    pub(crate) fn start_node(&mut self, arguments: &[&str]) {
        let own = self.kubeconfig("node", &["--node", "n1"]);
        let mut command = berth();
        command
            .args(["--log", "info,berth_net=debug", "node", "--kubeconfig"])
            .arg(own)
            .args(["--node-name", "n1", "--kubelet-address", "0.0.0.0:0"])
            .arg("--root-dir")
            .arg(self.cluster.beside("n"))
            .arg("--pod-logs-dir")
            .arg(self.cluster.beside("logs"))
            .arg("--cri-socket")
            .arg(self.cluster.beside("c/run/cri.sock"))
            .args(arguments);
        self.spawn("node", &mut command);
        let wait = ["wait", "--for=condition=Ready", "node/n1", "--timeout=1s"];
        wait_for("the node to be ready", LIMIT, || {
            let output = self.cluster.try_kubectl(&wait);
            match output.status.success() {
                true => Ok(()),
                false => Err(format!("{}{}", words(&output), self.log("node"))),
            }
        });
    }

    /// A kubeconfig for this server, of `berth kubeconfig` with these arguments.
    pub(crate) fn kubeconfig(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let server = format!("https://127.0.0.1:{}", self.cluster.port());
        let output = berth()
            .args(["kubeconfig", "--server", &server])
            .args(arguments)
            .arg("--data-dir")
            .arg(self.cluster.data())
            .output()
            .expect("berth kubeconfig runs");
        assert!(output.status.success(), "{}", words(&output));
        let path = self.cluster.beside(&format!("{name}.kubeconfig"));
        fs::write(&path, output.stdout).expect("the kubeconfig");
        path
    }

    fn spawn(&mut self, name: &'static str, command: &mut Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path(name))
            .expect("the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log)
            .spawn()
            .expect("berth starts");
        self.children.push((name, child));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, name: &str) {
        let at = self.children.iter().position(|(other, _)| *other == name);
        let (_, mut child) = self.children.remove(at.expect("it runs"));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.cluster.beside(&format!("{name}.log"))
    }

    /// What a part has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        let reset = berth()
            .args(["reset", "--yes", "--data-dir"])
            .arg(self.cluster.beside("c"))
            .output()
            .expect("berth reset runs");
        // Volumes of pods that were never deleted.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.cluster.beside("n");
        for line in mounts.lines().rev() {
            if let Some(target) = line.split(' ').nth(1)
                && target.starts_with(&*root.to_string_lossy())
            {
                let _busy = umount2(target, MntFlags::MNT_DETACH);
            }
        }
        if std::thread::panicking() {
            for name in ["cri", "node"] {
                let log = self.log(name);
                let tail: Vec<&str> = log.lines().rev().take(60).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                eprintln!("--- the end of the log of {name}\n{}", tail.join("\n"));
            }
        } else {
            assert!(reset.status.success(), "berth reset: {}", words(&reset));
        }
    }
}

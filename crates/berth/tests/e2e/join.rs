//! A second machine joins with a token: server and node have a network namespace each, and share nothing but the network.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use berth_testkit::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{FOREVER, LIMIT, image, path, pod, short_dir, words};

const SERVER: &str = "10.97.0.1";
const NODE: &str = "10.97.0.2";
const URL: &str = "https://10.97.0.1:6443";

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        words(&output)
    );
}

/// Two machines with a cable between them.
struct Machines {
    dir: TempDir,
    children: Vec<(&'static str, Child)>,
}

impl Machines {
    fn make() -> Self {
        let machines = Self {
            dir: short_dir(),
            children: Vec::new(),
        };
        let (a, b) = (machines.namespace("s"), machines.namespace("n"));
        ip(&["netns", "add", &a]);
        ip(&["netns", "add", &b]);
        ip(&[
            "-n", &a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &b,
        ]);
        for (namespace, own, other) in [(&a, SERVER, NODE), (&b, NODE, SERVER)] {
            let address = format!("{own}/24");
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            ip(&["-n", namespace, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", namespace, "link", "set", "eth0", "up"]);
            ip(&["-n", namespace, "route", "add", "default", "via", other]);
        }
        machines
    }

    fn namespace(&self, which: &str) -> String {
        let name = self.dir.path().file_name().unwrap().to_string_lossy();
        format!("{name}-{which}")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program on one of the machines: its network is its own, its files are not.
    fn on(&self, which: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--net=/run/netns/{}", self.namespace(which));
        command.arg(namespace).arg("--").arg(program);
        command.env("PATH", path());
        command.env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    fn berth(&self, which: &str) -> Command {
        self.on(which, env!("CARGO_BIN_EXE_berth"))
    }

    /// Starts a daemon, whose log is in a file of its name.
    fn start(&mut self, name: &'static str, command: &mut Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap();
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push((name, child));
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn child(&mut self, name: &str) -> &mut Child {
        let found = self.children.iter_mut().find(|(other, _)| *other == name);
        &mut found.unwrap().1
    }

    fn pid(&mut self, name: &str) -> Pid {
        Pid::from_raw(i32::try_from(self.child(name).id()).unwrap())
    }

    fn stop(&mut self, name: &str) {
        kill(self.pid(name), Signal::SIGTERM).unwrap();
        let child = self.child(name);
        wait_for(&format!("{name} to stop"), LIMIT, || {
            match child.try_wait() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        self.children.retain(|(other, _)| *other != name);
    }

    /// The server with its own CA as that of the nodes: a node that shows another certificate is not reached. It gives nodes the
    /// addresses of their pods.
    fn start_server(&mut self) {
        let mut command = self.berth("s");
        command
            .args(["server", "--data-dir"])
            .arg(self.path("s"))
            .args(["--bind-address", SERVER, "--kubelet-certificate-authority"])
            .arg(self.path("s/server/pki/ca.crt"))
            .args(["--allocate-node-cidrs", "--cluster-cidr", "10.98.0.0/20"]);
        self.start("server", &mut command);
        wait_for("the server", LIMIT, || {
            let answer = self.try_kubectl(&["get", "--raw", "/readyz"]);
            let well = answer.status.success();
            well.then_some(()).ok_or_else(|| words(&answer))
        });
    }

    fn start_cri(&mut self) {
        let mut command = self.berth("n");
        command.args(["cri", "--data-dir"]).arg(self.path("c"));
        self.start("cri", &mut command);
        let socket = self.path("c/run/cri.sock");
        wait_for("the runtime", LIMIT, || {
            socket.exists().then_some(()).ok_or_else(|| self.log("cri"))
        });
        let imported = self
            .berth("n")
            .args(["image", "import"])
            .arg(image())
            .arg("--data-dir")
            .arg(self.path("c"))
            .output()
            .unwrap();
        assert!(imported.status.success(), "{}", words(&imported));
    }

    /// `berth node` with these flags beside those of the machine.
    fn node(&self, root: &str, join: &[&str]) -> Command {
        let mut command = self.berth("n");
        command
            .args(["--log", "debug", "node"])
            .args(join)
            .args(["--node-name", "m1", "--node-ip", NODE, "--root-dir"])
            .arg(self.path(root))
            .arg("--pod-logs-dir")
            .arg(self.path("logs"))
            .arg("--cri-socket")
            .arg(self.path("c/run/cri.sock"));
        command
    }

    fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.on("s", "kubectl")
            .env("KUBECONFIG", self.path("s/admin.kubeconfig"))
            .arg(format!("--cache-dir={}", self.path("cache").display()))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn kube(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            words(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `berth token` on the server's machine.
    fn token(&self, arguments: &[&str]) -> String {
        let output = self
            .berth("s")
            .arg("token")
            .args(arguments)
            .arg("--data-dir")
            .arg(self.path("s"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What a join that must fail says.
    fn refused(&self, root: &str, join: &[&str]) -> String {
        let output = self.node(root, join).output().unwrap();
        assert!(!output.status.success(), "{}", words(&output));
        words(&output)
    }

    fn wait(&self, what: &str, mut holds: impl FnMut() -> Result<(), String>) {
        wait_for(what, LIMIT, || {
            holds().map_err(|why| format!("{why}\n--- node\n{}", tail(&self.log("node"))))
        });
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(40).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

impl Drop for Machines {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (which, data) in [("n", "c"), ("s", "s")] {
            let reset = self
                .berth(which)
                .args(["reset", "--yes", "--data-dir"])
                .arg(self.path(data))
                .output();
            if let Ok(reset) = reset
                && !reset.status.success()
            {
                eprintln!("berth reset: {}", words(&reset));
            }
        }
        for which in ["s", "n"] {
            let namespace = self.namespace(which);
            let _ = Command::new("ip")
                .args(["netns", "del", &namespace])
                .output();
        }
        if std::thread::panicking() {
            for log in ["server", "cri", "node"] {
                eprintln!("--- the end of the log of {log}\n{}", tail(&self.log(log)));
            }
        }
    }
}

fn lease_renewed(machines: &Machines) -> String {
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m1";
    let lease: Value = serde_json::from_str(&machines.kube(&["get", "--raw", path])).unwrap();
    lease["spec"]["renewTime"].as_str().unwrap().to_owned()
}

#[test]
fn a_second_machine_joins_with_a_token_and_needs_it_once() {
    let mut machines = Machines::make();
    machines.start_server();
    machines.start_cri();

    let command = machines.token(&["create", "--print-join-command", "--description", "m1"]);
    let join: Vec<&str> = command.split_whitespace().skip(2).collect();
    assert_eq!(join[..2], ["--server", URL], "{command}");
    let (token, hash) = (join[3], join[5]);
    assert!(hash.starts_with("sha256:"), "{command}");
    let listed = machines.token(&["list"]);
    assert!(listed.contains(token) && listed.contains("23h"), "{listed}");

    // Whoever knows the token sees by the signature that whoever has written `cluster-info` knows it, too.
    let id = token.split_once('.').unwrap().0;
    let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    let key = format!("jws-kubeconfig-{id}");
    machines.wait("cluster-info to be signed", || {
        let info: Value = serde_json::from_str(&machines.kube(&["get", "--raw", path])).unwrap();
        let signature = info["data"][&key].as_str().unwrap_or_default();
        let is_signed = signature.split("..").count() == 2;
        is_signed.then_some(()).ok_or_else(|| info.to_string())
    });
    let other = machines.token(&["create", "--usages", "authentication"]);
    let other = other.split_once('.').unwrap().0.to_owned();
    machines.token(&["delete", &other]);

    // Another cluster's hash: the token stays here.
    let other = format!("sha256:{}", "0".repeat(64));
    let wrong = ["--server", URL, "--token", token, "--ca-cert-hash", &other];
    let error = machines.refused("other", &wrong);
    assert!(
        error.contains("cannot trust") && error.contains(hash),
        "{error}"
    );
    assert!(!machines.path("other").exists());

    let mut node = machines.node("n", &join);
    machines.start("node", &mut node);
    machines.wait("the node to be ready", || {
        let said =
            machines.try_kubectl(&["wait", "node/m1", "--for=condition=Ready", "--timeout=1s"]);
        let well = said.status.success();
        well.then_some(()).ok_or_else(|| words(&said))
    });
    let pid = machines.pid("node");
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let secret = token.split_once('.').unwrap().1;
    assert!(
        line.contains("--token x") && !line.contains(secret),
        "{line}"
    );
    assert!(
        !machines.log("node").contains(secret),
        "the log has the token"
    );

    // Two nodes of one machine are two places.
    let host = r"jsonpath={.metadata.labels.kubernetes\.io/hostname}";
    assert_eq!(machines.kube(&["get", "node", "m1", "-o", host]), "m1");

    // Its pods have the addresses that the cluster has given it, not those of its runtime's own.
    let cidr = machines.kube(&["get", "node", "m1", "-o", "jsonpath={.spec.podCIDRs}"]);
    assert_eq!(cidr, r#"["10.98.0.0/24"]"#);
    machines.wait("the runtime to know it", || {
        let log = machines.log("node");
        let is_told = log.contains("told the runtime the addresses");
        is_told.then_some(()).ok_or(log)
    });

    // A pod, its log and a program in it: the node's server has a certificate of the cluster.
    let manifest = machines.path("pod.yaml");
    fs::write(&manifest, pod("web", None, FOREVER)).unwrap();
    machines.wait("the pod to be made", || {
        let made = machines.try_kubectl(&["apply", "-f", &manifest.display().to_string()]);
        made.status
            .success()
            .then_some(())
            .ok_or_else(|| words(&made))
    });
    machines.wait("the pod to run", || {
        let said =
            machines.try_kubectl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=1s"]);
        let well = said.status.success();
        well.then_some(()).ok_or_else(|| words(&said))
    });
    let address = machines.kube(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"]);
    assert!(address.starts_with("10.98.0."), "{address}");
    machines.wait("the pod's log", || {
        let said = machines.try_kubectl(&["logs", "web"]);
        words(&said)
            .contains("up")
            .then_some(())
            .ok_or_else(|| words(&said))
    });
    assert_eq!(
        machines.kube(&["exec", "web", "--", "echo", "hello"]),
        "hello\n"
    );
    let requests = machines.kube(&["get", "csr"]);
    assert_eq!(requests.matches("Approved,Issued").count(), 2, "{requests}");

    // Without the token, which is gone, and without anything else.
    machines.token(&["delete", token]);
    let uid = machines.kube(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]);
    machines.stop("node");
    let before = lease_renewed(&machines);
    let mut node = machines.node("n", &[]);
    machines.start("node", &mut node);
    machines.wait("the Lease to be renewed", || {
        let now = lease_renewed(&machines);
        (now != before).then_some(()).ok_or(now)
    });
    machines.wait("exec after the restart", || {
        let said = machines.try_kubectl(&["exec", "web", "--", "echo", "again"]);
        words(&said)
            .contains("again")
            .then_some(())
            .ok_or_else(|| words(&said))
    });
    let same = machines.kube(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]);
    assert_eq!(uid, same);
    let requests = machines.kube(&["get", "csr"]);
    assert_eq!(requests.matches("Approved,Issued").count(), 2, "{requests}");

    // A token that was deleted, and one that has expired.
    let rest = ["--server", URL, "--ca-cert-hash", hash, "--token"];
    let error = machines.refused("other", &[&rest[..], &[token]].concat());
    assert!(
        error.contains("does not know the bootstrap token"),
        "{error}"
    );
    let short = machines.token(&["create", "--ttl", "1s"]);
    let id = short.split_once('.').unwrap().0.to_owned();
    machines.wait("the expired token to be removed", || {
        let name = format!("bootstrap-token-{id}");
        let said = machines.try_kubectl(&["get", "secret", "-n", "kube-system", &name]);
        words(&said)
            .contains("NotFound")
            .then_some(())
            .ok_or_else(|| words(&said))
    });
    let error = machines.refused("other", &[&rest[..], &[short.as_str()]].concat());
    assert!(
        error.contains("does not know the bootstrap token"),
        "{error}"
    );

    // Who has a token is no node that there is already.
    let good = machines.token(&["create"]);
    let mut thief = machines.node("thief", &[&rest[..], &[good.as_str()]].concat());
    machines.start("thief", &mut thief);
    wait_for("the request to wait", LIMIT, || {
        let log = machines.log("thief");
        log.contains("waits for approval").then_some(()).ok_or(log)
    });
    let requests = machines.kube(&["get", "csr"]);
    assert_eq!(requests.matches("Pending").count(), 1, "{requests}");
    assert!(!machines.path("thief/kubeconfig").exists());
    machines.stop("thief");
    machines.kube(&["delete", "pod", "web", "--timeout=60s"]);
}

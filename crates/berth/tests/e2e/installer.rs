//! `berth installer`: handlers on a node with containerd, put there and taken back. It is Debian's, 1.6, or another that is found
//! first in PATH: 2.x has a configuration of version 3 that imports a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use berth_testkit::wait_for;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, FOREVER, IMAGE, LIMIT, berth, image, path, pod, short_dir, words};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts");
const NODE: &str = "stock1";

/// A node with containerd and an agent in the kubelet's place.
struct Node {
    dir: TempDir,
    /// What root runs on the node: not below a folder in which others can write, as /tmp is.
    own: TempDir,
    /// By the name of their log.
    children: Vec<(String, Child)>,
    is_merged: bool,
}

impl Node {
    fn start(cluster: &Cluster) -> Self {
        let version = Command::new("containerd")
            .arg("--version")
            .env("PATH", path())
            .output()
            .unwrap();
        let version = words(&version);
        let node = Self {
            dir: short_dir(),
            own: tempfile::Builder::new()
                .prefix("b")
                .tempdir_in("/run")
                .unwrap(),
            children: Vec::new(),
            is_merged: !version.contains(" 1."),
        };
        fs::create_dir(node.at("conf.d")).unwrap();
        fs::set_permissions(node.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let pause = node.at("pause.tar");
        let forever = "[\"sh\",\"-c\",\"trap 'exit 0' TERM; while :; do sleep 3600 & wait; done\"]";
        let made = Command::new(format!("{SCRIPTS}/demo-image"))
            .arg(&pause)
            .args(["berth.dev/pause:1", forever])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", words(&made));
        fs::create_dir(node.at("cni")).unwrap();
        // Addresses of one node only, on a link of its own for each pod.
        let third = std::process::id() % 250;
        let network = serde_json::json!({"cniVersion": "1.0.0", "name": "stock", "plugins": [{"type": "ptp", "ipam": {"type": "host-local",
            "dataDir": node.at("ipam"), "ranges": [[{"subnet": format!("10.233.{third}.0/24")}]]}}]});
        fs::write(node.at("cni/10-stock.conflist"), network.to_string()).unwrap();
        fs::write(node.config(), node.main()).unwrap();
        let root = node.dir.path().display();
        let restart = format!(
            "#!/bin/sh\nold=$(cat {root}/pid 2>/dev/null) && kill $old; while grep -qs '^State:.[^Z]' /proc/$old/status; do sleep 0.05; done\n\
             grep -qs trapped {root}/config.toml {root}/conf.d/* && exit 1\n\
             setsid containerd --config {root}/config.toml >>{root}/containerd.log 2>&1 </dev/null &\necho $! >{root}/pid\n"
        );
        fs::write(node.at("restart"), restart).unwrap();
        fs::set_permissions(node.at("restart"), fs::Permissions::from_mode(0o755)).unwrap();
        let started = Command::new(node.at("restart"))
            .env("PATH", path())
            .output()
            .unwrap();
        assert!(started.status.success(), "{}", words(&started));
        for tar in [image(), &pause] {
            wait_for("containerd to take an image", LIMIT, || {
                let done = node.ctr(&["image", "import", &tar.display().to_string()]);
                if done.status.success() {
                    Ok(())
                } else {
                    Err(format!("{}\n{}", words(&done), node.log()))
                }
            });
        }
        node.agent(cluster)
    }

    /// The configuration of an administrator, who has never heard of other handlers.
    fn main(&self) -> String {
        let root = self.dir.path().display();
        if self.is_merged {
            return format!(
                "version = 3\nroot = \"{root}/root\"\nstate = \"{root}/state\"\nimports = [\"{root}/conf.d/*.toml\"]\n[grpc]\n\
                 address = \"{root}/cd.sock\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{root}/opt\"\n\
                 [plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"berth.dev/pause:1\" # ours\n\
                 [plugins.\"io.containerd.grpc.v1.cri\"]\ndisable_tcp_service = true\n\
                 [plugins.\"io.containerd.cri.v1.runtime\"]\ndisable_apparmor = true\nrestrict_oom_score_adj = true\n\
                 [plugins.\"io.containerd.cri.v1.runtime\".cni]\nbin_dirs = [\"/usr/lib/cni\"]\nconf_dir = \"{root}/cni\""
            );
        }
        format!(
            "version = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\n[grpc]\naddress = \"{root}/cd.sock\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{root}/opt\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"berth.dev/pause:1\" # ours\ndisable_apparmor = true\n\
             restrict_oom_score_adj = true\ndisable_tcp_service = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{root}/cni\""
        )
    }

    fn agent(mut self, cluster: &Cluster) -> Self {
        let server = format!("https://127.0.0.1:{}", cluster.port());
        let kubeconfig = berth()
            .args([
                "kubeconfig",
                "--node",
                NODE,
                "--server",
                &server,
                "--data-dir",
            ])
            .arg(cluster.data())
            .output()
            .unwrap();
        assert!(kubeconfig.status.success(), "{}", words(&kubeconfig));
        fs::write(self.at("node.kubeconfig"), kubeconfig.stdout).unwrap();
        let mut command = berth();
        command
            .args([
                "node",
                "--node-name",
                NODE,
                "--kubelet-address",
                "127.0.0.1:0",
                "--node-ip",
                "127.0.0.1",
                "--kubeconfig",
            ])
            .arg(self.at("node.kubeconfig"))
            .arg("--cri-socket")
            .arg(self.at("cd.sock"))
            .arg("--root-dir")
            .arg(self.at("node"))
            .arg("--pod-logs-dir")
            .arg(self.at("logs"));
        self.spawn("node.log", &mut command);
        self
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a program that ends with the node; what it says is in this file.
    fn spawn(&mut self, log: &str, command: &mut Command) {
        let log_file = fs::File::create(self.at(log)).unwrap();
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log_file).spawn().unwrap();
        self.children.push((log.to_owned(), child));
    }

    /// Ends the program with this log.
    fn end(&mut self, log: &str) {
        let at = self.children.iter().position(|(name, _)| name == log);
        let (_, mut child) = self.children.remove(at.unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What containerd reads.
    fn read(&self) -> String {
        let main = fs::read_to_string(self.config()).unwrap();
        main + &fs::read_to_string(self.at("conf.d/99-berth.toml")).unwrap_or_default()
    }

    fn config(&self) -> PathBuf {
        self.at("config.toml")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("containerd.log")).unwrap_or_default()
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.at("pid")).unwrap()
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        Command::new("ctr")
            .arg("-a")
            .arg(self.at("cd.sock"))
            .args(["-n", "k8s.io"])
            .args(arguments)
            .env("PATH", path())
            .output()
            .unwrap()
    }

    /// The processes of all containers.
    fn tasks(&self) -> String {
        let listed = self.ctr(&["task", "list"]);
        assert!(listed.status.success(), "{}", words(&listed));
        let mut lines: Vec<String> = words(&listed).lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- containerd ---\n{}", tail(&self.log()));
            for log in ["node.log", "installer.log", "classes.log"] {
                eprintln!(
                    "--- {log} ---\n{}",
                    tail(&fs::read_to_string(self.at(log)).unwrap_or_default())
                );
            }
        }
        // Sandboxes that a failed test has left, then containerd, then what it has mounted.
        for id in words(&self.ctr(&["task", "list", "-q"])).split_whitespace() {
            let _gone = self.ctr(&["task", "delete", "-f", id]);
        }
        let _gone = Command::new("kill").arg(self.pid().trim()).output();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = |line: &str| {
            line.split(' ')
                .nth(4)
                .filter(|at| Path::new(at).starts_with(self.dir.path()))
                .map(str::to_owned)
        };
        for at in mounts
            .lines()
            .filter_map(below)
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            let _gone = Command::new("umount").args(["-l", at]).output();
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(40).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// The chart's objects and those of its uninstall, without the programs, which run here.
fn apply_chart(cluster: &Cluster, handlers: &str) {
    for first in [None, Some("--uninstall")] {
        let rendered = Command::new(format!("{SCRIPTS}/render-chart"))
            .args(first)
            .args([
                "image=IMAGE",
                r#"imagePullSecrets=[{"name":"registry"}]"#,
                &format!("handlers={handlers}"),
            ])
            .output()
            .unwrap();
        assert!(rendered.status.success(), "{}", words(&rendered));
        let text = String::from_utf8(rendered.stdout).unwrap();
        let is_program = |object: &str| {
            ["DaemonSet", "Deployment", "Job"]
                .iter()
                .any(|kind| object.contains(&format!("kind: {kind}\n")))
        };
        let objects = text.split("---\n").filter(|object| !is_program(object));
        cluster.apply(&objects.collect::<Vec<_>>().join("---\n"));
    }
}

/// The list alone.
fn set_handlers(cluster: &Cluster, handlers: &str) {
    let patch = serde_json::json!({"data": {"handlers.yaml": handlers}}).to_string();
    cluster.kube(&[
        "patch",
        "configmap",
        "berth-handlers",
        "-n",
        "berth",
        "--type=merge",
        "-p",
        &patch,
    ]);
}

/// A kubeconfig with the token of an account of the chart, bound to a pod of the node as a DaemonSet's pod has it.
fn account(cluster: &Cluster, node: &Node, name: &str) -> PathBuf {
    let holder = format!("holder-{name}");
    let component = name.trim_start_matches("berth-");
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {holder}\n  namespace: berth\n  labels: {{app.kubernetes.io/component: {component}}}\nspec:\n  nodeName: {NODE}\n  serviceAccountName: {name}\n  containers:\n  - name: x\n    image: {IMAGE}\n    command: [sh, -c, {FOREVER:?}]\n"
    ));
    let token = cluster.kube(&[
        "create",
        "token",
        name,
        "-n",
        "berth",
        "--bound-object-kind=Pod",
        &format!("--bound-object-name={holder}"),
    ]);
    let admin = fs::read_to_string(cluster.data().join("admin.kubeconfig")).unwrap();
    let mut config: Value = serde_saphyr::from_str(&admin).unwrap();
    config["users"][0]["user"] = serde_json::json!({"token": token.trim()});
    let file = node.at(&format!("{name}.kubeconfig"));
    fs::write(&file, config.to_string()).unwrap();
    file
}

fn run_installer(node: &mut Node, kubeconfig: &Path) {
    let mut command = berth();
    command
        .args([
            "installer",
            "node",
            "--node-name",
            NODE,
            "--proof-timeout",
            "25s",
            "--look-period",
            "500ms",
            "--proof-image",
            IMAGE,
        ])
        .args([
            "--proof-command=sh",
            "--proof-command=-c",
            "--proof-command=cat /proc/version >/dev/termination-log",
        ])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--cri-socket")
        .arg(node.at("cd.sock"))
        .arg("--host-dir")
        .arg(node.own.path().join("installed"))
        .arg(format!(
            "--restart-command={}",
            node.at("restart").display()
        ))
        .env("PROOF_PULL_SECRETS", "\n registry")
        .env("PROOF_PRIORITY_CLASS", "humble");
    node.spawn("installer.log", &mut command);
}

fn run_classes(node: &mut Node, kubeconfig: &Path) {
    let mut command = berth();
    command
        .args([
            "installer",
            "classes",
            "--look-period",
            "500ms",
            "--program-labels=app.kubernetes.io/component=node",
            "--program-away=2s",
            "--kubeconfig",
        ])
        .arg(kubeconfig);
    node.spawn("classes.log", &mut command);
}

fn uninstall(kubeconfig: &Path, wait: &str) -> Output {
    berth()
        .args(["installer", "uninstall", "--wait", wait, "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .unwrap()
}

/// The handlers that the node advertises.
fn labels(cluster: &Cluster) -> Vec<String> {
    let node = cluster.json(&["node", NODE]);
    let labels = node["metadata"]["labels"].as_object().unwrap();
    labels
        .keys()
        .filter_map(|label| label.strip_prefix("handler.berth.dev/"))
        .map(str::to_owned)
        .collect()
}

fn told(cluster: &Cluster) -> Value {
    let node = cluster.json(&["node", NODE]);
    let told = node["metadata"]["annotations"]["installer.berth.dev/handlers"].as_str();
    told.map_or(Value::Null, |told| serde_json::from_str(told).unwrap())
}

/// The priority of pods that try handlers.
const HUMBLE: &str =
    "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata:\n  name: humble\nvalue: -1\n";

fn wait_told(cluster: &Cluster, what: &str) -> Value {
    wait_for(&format!("{what:?} to be told"), LIMIT, || {
        let told = told(cluster);
        if told.to_string().contains(what) {
            Ok(told)
        } else {
            Err(told.to_string())
        }
    })
}

fn wait_labels(cluster: &Cluster, node: &Node, want: &[&str]) {
    wait_for(&format!("the node to advertise {want:?}"), LIMIT, || {
        let found = labels(cluster);
        if found == want {
            Ok(())
        } else {
            Err(format!(
                "{found:?} {}\n{}",
                told(cluster),
                tail(&fs::read_to_string(node.at("installer.log")).unwrap_or_default())
            ))
        }
    });
}

const GVISOR: &str = "{\"name\":\"gvisor\",\"kind\":\"gvisor\",\"binary\":\"/usr/bin/runsc\"}";
// containerd's own shim and crun don't go together on hybrid cgroups.
const CRUN: &str = "{\"name\":\"fast\",\"kind\":\"oci\",\"binary\":\"/usr/bin/crun\",\"shim\":\"berth\",\"class\":\"quick\"}";

#[test]
fn handlers_come_to_a_stock_node_and_go_again() {
    let cluster = Cluster::server(&["--create-runtime-classes=false"]);
    let mut node = Node::start(&cluster);
    let before = fs::read_to_string(node.config()).unwrap();
    apply_chart(&cluster, &format!("[{GVISOR},{CRUN}]"));
    let installer = account(&cluster, &node, "berth-node");
    let classes = account(&cluster, &node, "berth-classes");
    let remover = account(&cluster, &node, "berth-uninstall");
    cluster.kube(&[
        "wait",
        "-n",
        "berth",
        "--for=condition=Ready",
        "pod",
        "--all",
        "--timeout=60s",
    ]);
    let held = node.tasks();
    cluster.apply(HUMBLE);
    run_classes(&mut node, &classes);
    run_installer(&mut node, &installer);

    // Advertised when seen to work, with classes that lead there.
    wait_labels(&cluster, &node, &["fast", "gvisor"]);
    assert_eq!(
        told(&cluster),
        serde_json::json!({"handlers": {"fast": {"state": "works"}, "gvisor": {"state": "works"}}})
    );
    cluster.wait_event(NODE, &["HandlerWorks", "gvisor"]);
    wait_for("the classes", LIMIT, || {
        let found = cluster.try_kubectl(&["get", "runtimeclass", "gvisor", "quick"]);
        if found.status.success() {
            Ok(())
        } else {
            Err(words(&found))
        }
    });
    let class = cluster.json(&["runtimeclass", "quick"]);
    assert_eq!(
        (
            &class["handler"],
            &class["scheduling"]["nodeSelector"]["handler.berth.dev/fast"]
        ),
        (&"fast".into(), &"true".into())
    );
    // The pods that were there, under runc, live in the same processes behind a restarted containerd.
    let still = node.tasks();
    assert!(
        held.lines().all(|line| still.contains(line)),
        "{held}\n{still}"
    );
    for (name, class) in [("sandboxed", "gvisor"), ("quickly", "quick")] {
        cluster.apply(&pod(
            name,
            Some(class),
            "cat /proc/version >/dev/termination-log",
        ));
    }
    cluster.apply(&pod("lasting", Some("gvisor"), FOREVER));
    for (name, own) in [("sandboxed", true), ("quickly", false)] {
        let ended = cluster.wait_pod(name, "an end", |found| {
            found["status"]["containerStatuses"][0]
                .to_string()
                .contains("Linux version")
        });
        let host = fs::read_to_string("/proc/version").unwrap();
        let seen = ended["status"]["containerStatuses"][0].to_string();
        assert_eq!(
            seen.contains(host.split_whitespace().nth(2).unwrap()),
            !own,
            "{seen}"
        );
        cluster.kube(&["delete", "pod", name, "--now"]);
    }
    cluster.wait_ready(&["lasting"]);

    // The accounts can do no more than they must.
    refused(&cluster, &installer);
    refused_to_uninstall(&cluster, &remover);

    // A handler goes from the list: label, then entry, under a pod of another handler.
    // Another node is at it: until that is done, this one's runtime is not started again.
    let lasting = node.tasks();
    let pid = node.pid();
    let lease = cluster.json(&["lease", "berth-restart-0", "-n", "berth"]);
    assert_eq!(lease["spec"]["holderIdentity"], Value::Null, "{lease}");
    assert_eq!(
        lease["metadata"]["ownerReferences"][0]["name"],
        "berth-handlers"
    );
    let hold = |holder: &str| {
        let patch = format!(r#"{{"spec":{{"holderIdentity":{holder}}}}}"#);
        let lease = ["patch", "lease", "berth-restart-0", "-n", "berth"];
        cluster.kube(&[&lease[..], &["--type=merge", "-p", &patch]].concat());
    };
    hold("\"other\"");
    set_handlers(&cluster, &format!("[{GVISOR}]"));
    let waits = wait_told(&cluster, "waits for its turn");
    assert_eq!(waits["handlers"]["fast"]["state"], "kept", "{waits}");
    assert_eq!(
        (labels(&cluster), node.pid()),
        (vec!["gvisor".to_owned()], pid)
    );
    hold("null");
    wait_labels(&cluster, &node, &["gvisor"]);
    wait_for("the entry to be gone", LIMIT, || {
        let text = node.read();
        if text.contains("fast") {
            Err(text)
        } else {
            Ok(())
        }
    });
    wait_for("the class to be gone", LIMIT, || {
        let found = cluster.try_kubectl(&["get", "runtimeclass", "quick"]);
        if words(&found).contains("not found") {
            Ok(())
        } else {
            Err(words(&found))
        }
    });
    assert_eq!(node.tasks(), lasting);

    // An uninstall names what it waits for, and ends nothing.
    let early = uninstall(&remover, "4s");
    assert!(!early.status.success(), "{}", words(&early));
    assert!(words(&early).contains(&format!("node {NODE}: handler \"gvisor\": it is to be removed; it stays while pods on this node use it: default/lasting")), "{}", words(&early));
    assert_eq!(labels(&cluster), [""; 0]);
    assert_eq!(node.tasks(), lasting);
    assert!(node.read().contains("gvisor"));
    cluster.kube(&["delete", "pod", "lasting", "--now"]);
    let done = uninstall(&remover, "60s");
    assert!(done.status.success(), "{}", words(&done));
    assert_eq!(node.read(), before);
    assert_eq!(told(&cluster), Value::Null);
    assert!(!node.own.path().join("installed").exists());
    assert_eq!(cluster.kube(&["get", "runtimeclass", "-o", "name"]), "");
    let still = node.tasks();
    assert!(
        held.lines().all(|line| still.contains(line)),
        "{held}\n{still}"
    );
    cluster.kube(&["delete", "pod", "-n", "berth", "--all", "--now"]);
}

/// Whether kubectl succeeds with this kubeconfig, and what it says.
fn run_as(kubeconfig: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("kubectl")
        .env("PATH", path())
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .output()
        .unwrap();
    (output.status.success(), words(&output))
}

/// What the account of an uninstall may do, and what not.
fn refused_to_uninstall(cluster: &Cluster, kubeconfig: &Path) {
    let before = cluster.json(&["configmap", "berth-handlers", "-n", "berth"]);
    let label = |label: &str| {
        run_as(
            kubeconfig,
            &[
                "label",
                "node",
                NODE,
                label,
                "--overwrite",
                "--dry-run=server",
            ],
        )
    };
    let write = |patch: &str| {
        run_as(
            kubeconfig,
            &[
                "patch",
                "configmap",
                "berth-handlers",
                "-n",
                "berth",
                "--type=merge",
                "--dry-run=server",
                "-p",
                patch,
            ],
        )
    };
    let away = "may take labels handler.berth.dev/* away alone";
    let empty = "may write the empty list alone";
    for ((succeeded, told), want) in [
        (label("handler.berth.dev/gvisor-"), ""),
        (label("handler.berth.dev/x=true"), away),
        (label("handler.berth.dev/gvisor=false"), away),
        (label("kubernetes.io/hostname-"), away),
        (write(r#"{"data":{"handlers.yaml":"[]\n"}}"#), ""),
        (
            write(r#"{"data":{"handlers.yaml":"- {name: x, kind: oci, binary: /bin/sh}\n"}}"#),
            empty,
        ),
        (write(r#"{"data":{"handlers.yaml":null}}"#), empty),
        (
            write(r#"{"data":{"handlers.yaml":"[]\n"},"immutable":true}"#),
            empty,
        ),
    ] {
        assert!(
            succeeded == want.is_empty() && told.contains(want),
            "{want}: {told}"
        );
    }
    let after = cluster.json(&["configmap", "berth-handlers", "-n", "berth"]);
    assert_eq!(before["data"], after["data"]);
}

/// What the account of a node's program may not do.
fn refused(cluster: &Cluster, kubeconfig: &Path) {
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata:\n  name: other\n");
    let run = |arguments: &[&str]| run_as(kubeconfig, arguments);
    let pod = |node: &str, class: &str, more: &str| {
        format!(
            r#"{{"metadata":{{"name":"evil","namespace":"berth"}},"spec":{{"nodeName":"{node}","runtimeClassName":"{class}","automountServiceAccountToken":false,
            "securityContext":{{"runAsNonRoot":true}},"containers":[{{"name":"c","image":"i","securityContext":{{"allowPrivilegeEscalation":false}}}}]{more}}}}}"#
        )
    };
    let create = |manifest: String| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let whole = manifest.replacen('{', r#"{"apiVersion":"v1","kind":"Pod","#, 1);
        fs::write(file.path(), whole).unwrap();
        run(&[
            "create",
            "--dry-run=server",
            "-f",
            file.path().to_str().unwrap(),
        ])
    };
    let label = |node: &str, label: &str| {
        run(&[
            "label",
            "node",
            node,
            label,
            "--overwrite",
            "--dry-run=server",
        ])
    };
    let lease = |name: &str, holder: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let whole = format!(
            r#"{{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{{"name":"{name}","namespace":"berth"}},"spec":{{"holderIdentity":"{holder}"}}}}"#
        );
        fs::write(file.path(), whole).unwrap();
        let file = file.path().to_str().unwrap();
        run(&["create", "--dry-run=server", "-f", file])
    };
    let proof = "berth-verify-gvisor";
    // What a pod names, its node's kubelet may read.
    let container = |more: &str| {
        pod(NODE, proof, "").replacen(r#""image":"i""#, &format!(r#""image":"i",{more}"#), 1)
    };
    for ((succeeded, told), want) in [
        (label(NODE, "handler.berth.dev/x=true"), ""),
        (
            label("other", "handler.berth.dev/x=true"),
            "may change the node alone on which it runs",
        ),
        (
            label(NODE, "node-role.kubernetes.io/control-plane="),
            "may change labels handler.berth.dev/* alone",
        ),
        (
            label(NODE, "kubernetes.io/hostname-"),
            "may change labels handler.berth.dev/* alone",
        ),
        (
            run(&["annotate", "node", NODE, "a=b", "--dry-run=server"]),
            "may change its own annotation alone",
        ),
        (
            run(&[
                "patch",
                "node",
                NODE,
                "-p",
                r#"{"spec":{"unschedulable":true}}"#,
                "--dry-run=server",
            ]),
            "may not change a node's spec",
        ),
        (
            run(&["delete", "node", "other", "--dry-run=server"]),
            "cannot delete resource",
        ),
        (create(pod(NODE, proof, "")), ""),
        (
            create(pod("other", proof, "")),
            "pods that try handlers on its own node alone",
        ),
        (
            create(pod(NODE, "gvisor", "")),
            "pods that try handlers on its own node alone",
        ),
        (
            create(pod(NODE, proof, r#","hostNetwork":true"#)),
            "no volumes, no rights on the node",
        ),
        (
            create(pod(
                NODE,
                proof,
                r#","initContainers":[{"name":"i","image":"i"}]"#,
            )),
            "one container",
        ),
        (
            create(pod(NODE, proof, r#","serviceAccountName":"berth-classes""#)),
            "has the account \"default\"",
        ),
        (
            create(pod(
                NODE,
                proof,
                r#","imagePullSecrets":[{"name":"registry"}]"#,
            )),
            "",
        ),
        (
            create(pod(
                NODE,
                proof,
                r#","imagePullSecrets":[{"name":"registry"},{"name":"other"}]"#,
            )),
            "imagePullSecrets of the chart alone",
        ),
        (create(container(r#""env":[{"name":"A","value":"b"}]"#)), ""),
        (
            create(container(
                r#""env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"other","key":"k"}}}]"#,
            )),
            "names no Secrets",
        ),
        (
            create(container(r#""envFrom":[{"secretRef":{"name":"other"}}]"#)),
            "names no Secrets",
        ),
        (
            create(pod(
                NODE,
                proof,
                r#","priorityClassName":"system-node-critical""#,
            )),
            "no system priority",
        ),
        (
            run(&[
                "delete",
                "pod",
                "-n",
                "berth",
                "holder-berth-classes",
                "--dry-run=server",
            ]),
            "pods that try handlers on its own node alone",
        ),
        (lease("berth-restart-1", NODE), ""),
        (lease("berth-restart-1", "other"), "for its own node alone"),
        (lease("leader", NODE), "for its own node alone"),
        (
            run(&["get", "secrets", "-n", "berth"]),
            "cannot list resource",
        ),
        (
            run(&["delete", "runtimeclass", "gvisor", "--dry-run=server"]),
            "cannot delete resource",
        ),
    ] {
        assert!(
            succeeded == want.is_empty() && told.contains(want),
            "{want}: {told}"
        );
    }
    // And nobody else uses the classes with which handlers are tried.
    let admin = cluster.try_apply(&format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: sly\nspec:\n  runtimeClassName: {proof}\n  containers:\n  - name: c\n    image: i\n"));
    assert!(
        words(&admin).contains(
            "RuntimeClass \"berth-verify-gvisor\" is for the installer of handlers alone"
        ),
        "{}",
        words(&admin)
    );
    // Nor makes such classes, for another handler or any.
    let class = cluster.try_apply("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: berth-verify-kata\nhandler: runc\n");
    assert!(
        words(&class).contains(
            "names that begin with berth-verify- are for the installer of handlers alone"
        ),
        "{}",
        words(&class)
    );
    cluster.kube(&["delete", "node", "other"]);
}

#[test]
fn what_does_not_work_is_not_advertised_and_breaks_nothing() {
    let cluster = Cluster::server(&["--create-runtime-classes=false"]);
    let mut node = Node::start(&cluster);
    let broken = node.own.path().join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let broken = format!(
        "{{\"name\":\"broken\",\"kind\":\"oci\",\"binary\":\"{}\"}}",
        broken.display()
    );
    let absent = "{\"name\":\"absent\",\"kind\":\"oci\",\"binary\":\"/usr/bin/no-such-runtime\"}";
    apply_chart(&cluster, &format!("[{GVISOR},{broken},{absent}]"));
    let installer = account(&cluster, &node, "berth-node");
    let classes = account(&cluster, &node, "berth-classes");
    run_classes(&mut node, &classes);
    run_installer(&mut node, &installer);
    // The pods have the chart's priority, and can't be made without.
    wait_told(&cluster, "humble");
    cluster.apply(HUMBLE);
    wait_labels(&cluster, &node, &["gvisor"]);
    let reasons = wait_for("both reasons", LIMIT, || {
        let told = told(&cluster);
        let states = ["absent", "broken"].map(|name| told["handlers"][name]["state"] == "broken");
        if states == [true, true] {
            Ok(told)
        } else {
            Err(told.to_string())
        }
    });
    let reason = |name: &str| {
        reasons["handlers"][name]["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(reason("absent"), "no /usr/bin/no-such-runtime on the node");
    assert!(
        reason("broken").contains("FailedCreatePodSandBox")
            && reason("broken").contains("/broken did not terminate"),
        "{}",
        reason("broken")
    );
    cluster.wait_event(NODE, &["HandlerBroken", "broken", "did not terminate"]);
    assert_eq!(labels(&cluster), ["gvisor"]);

    // A configuration that its administrator has broken is not touched, and neither is the runtime that runs.
    let whole = fs::read_to_string(node.config()).unwrap();
    let torn = format!("{whole}[oops\n");
    fs::write(node.config(), &torn).unwrap();
    let pid = node.pid();
    set_handlers(&cluster, &format!("[{GVISOR},{CRUN}]"));
    wait_for("the problem to be told", LIMIT, || {
        let problem = told(&cluster)["problem"].to_string();
        if problem.contains("config.toml") {
            Ok(())
        } else {
            Err(problem)
        }
    });
    assert_eq!(
        (fs::read_to_string(node.config()).unwrap(), node.pid()),
        (torn, pid)
    );
    // While nothing can be read, nothing is known to be registered as it is wanted.
    assert_eq!(labels(&cluster), [""; 0]);
    // One that containerd would refuse, and TOML does not.
    fs::write(
        node.config(),
        whole.replacen("disable_apparmor = true", "disable_apparmor = \"yes\"", 1),
    )
    .unwrap();
    wait_for("containerd's own words", LIMIT, || {
        let problem = told(&cluster)["problem"].to_string();
        if problem.contains("containerd cannot load the configuration that is there") {
            Ok(())
        } else {
            Err(problem)
        }
    });
    // Mended, it goes on.
    fs::write(node.config(), &whole).unwrap();
    wait_labels(&cluster, &node, &["fast", "gvisor"]);

    // A list that makes no sense changes nothing.
    set_handlers(&cluster, "- {name: x, kind: vm, binary: /x}");
    wait_for("the list to be refused", LIMIT, || {
        let problem = told(&cluster)["problem"].to_string();
        if problem.contains("handlers.yaml") {
            Ok(())
        } else {
            Err(problem)
        }
    });
    assert_eq!(labels(&cluster), ["fast", "gvisor"]);

    // A node where the program does not run any more loses its labels.
    node.end("installer.log");
    cluster.kube(&["delete", "pod", "-n", "berth", "holder-berth-node", "--now"]);
    wait_labels(&cluster, &node, &[]);
    assert_eq!(told(&cluster), Value::Null);
    cluster.kube(&["delete", "pod", "-n", "berth", "--all", "--now"]);
}

#[test]
fn a_runtime_that_does_not_start_again_goes_back_to_what_it_was() {
    let cluster = Cluster::server(&["--create-runtime-classes=false"]);
    let mut node = Node::start(&cluster);
    cluster.apply(HUMBLE);
    apply_chart(&cluster, &format!("[{GVISOR}]"));
    let installer = account(&cluster, &node, "berth-node");
    let classes = account(&cluster, &node, "berth-classes");
    run_classes(&mut node, &classes);
    run_installer(&mut node, &installer);
    wait_labels(&cluster, &node, &["gvisor"]);
    cluster.apply(&pod("lasting", Some("gvisor"), FOREVER));
    cluster.wait_ready(&["lasting"]);
    let (text, tasks) = (node.read(), node.tasks());
    let held: Vec<&str> = tasks.lines().collect();

    // The configuration is right as far as can be told before, and the runtime does not start with it.
    let trapped = CRUN.replace("fast", "trapped");
    set_handlers(&cluster, &format!("[{GVISOR},{trapped}]"));
    let told = wait_told(&cluster, "what there was before is in force again");
    assert_eq!(told["handlers"]["trapped"]["state"], "verifying", "{told}");
    assert_eq!(node.read(), text);
    let still = node.tasks();
    assert!(held.iter().all(|task| still.contains(task)), "{still}");
    // The node works on, and what works stays advertised.
    wait_labels(&cluster, &node, &["gvisor"]);
    cluster.apply(&pod("next", Some("gvisor"), FOREVER));
    cluster.wait_ready(&["next"]);
    cluster.kube(&["delete", "pod", "next", "--now"]);

    // A new pod of the installer does not try at once what has failed.
    let pid = node.pid();
    node.end("installer.log");
    fs::remove_file(node.at("installer.log")).unwrap();
    cluster.kube(&["annotate", "node", NODE, "installer.berth.dev/handlers-"]);
    run_installer(&mut node, &installer);
    wait_told(&cluster, "what there was before is in force again");
    wait_labels(&cluster, &node, &["gvisor"]);
    assert_eq!((node.read(), node.pid()), (text, pid));

    // Another list is another change.
    set_handlers(&cluster, &format!("[{GVISOR},{CRUN}]"));
    wait_labels(&cluster, &node, &["fast", "gvisor"]);
    assert!(!node.own.path().join("installed/failure.json").exists());
    cluster.kube(&["delete", "pod", "lasting", "--now"]);
    cluster.kube(&["delete", "pod", "-n", "berth", "--all", "--now"]);
}

#[test]
fn the_plain_manifests_are_the_charts() {
    let rendered = Command::new(format!("{SCRIPTS}/render-chart"))
        .arg("image=IMAGE")
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{}", words(&rendered));
    let there = fs::read(format!("{SCRIPTS}/../charts/manifests.yaml")).unwrap();
    assert!(
        rendered.stdout == there,
        "charts/manifests.yaml is stale: scripts/render-chart image=IMAGE >charts/manifests.yaml"
    );
}

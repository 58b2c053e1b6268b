//! The Debian package in a bare Debian: dpkg installs it, it runs a pod, kubectl finds its plugin, and it is removed again.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use berth_testkit::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{self, IMAGE, LIMIT, words};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A bare Debian in a directory, with a network and mounts of its own.
struct Debian {
    dir: tempfile::TempDir,
    /// Holds the namespaces.
    holder: Child,
    /// `berth up` in it.
    up: Option<Child>,
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", words(&output));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The package of this build, without what debuggers need.
fn package(dir: &Path) -> PathBuf {
    let stripped = dir.join("berth");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(BERTH));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/package");
    let made = run(Command::new(script)
        .arg(&stripped)
        .arg(dir.join("out"))
        .env("PACKAGE_COMPRESSION", "gzip"));
    PathBuf::from(text(&made))
}

impl Debian {
    /// With these packages.
    fn with(packages: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-package")
            .tempdir_in("/tmp")
            .expect("a directory");
        let root = dir.path().join("root");
        let mut command = Command::new("mmdebstrap");
        command
            .args([
                "--quiet",
                "--variant=essential",
                "--aptopt=Acquire::Retries \"3\"",
            ])
            .arg(format!("--include={packages}"))
            .arg("bookworm")
            .arg(&root)
            .env("PATH", cluster::path());
        // The machine's own mirrors.
        for list in [
            "/etc/apt/sources.list",
            "/etc/apt/sources.list.d/debian.sources",
        ] {
            if fs::metadata(list).is_ok_and(|file| file.len() > 0) {
                command.arg(list);
            }
        }
        run(&mut command);
        // Its root has to be a mount, or runc can't change a container's.
        let script = r#"
            set -e
            mount --bind "$0" "$0"
            for dir in proc dev; do mount --rbind "/$dir" "$0/$dir"; done
            # Its own, for the interfaces of its network.
            mount -t sysfs sysfs "$0/sys"
            mount --rbind /sys/fs/cgroup "$0/sys/fs/cgroup"
            ip link set lo up
            echo ready
            exec sleep infinity"#;
        let ready = dir.path().join("ready");
        let holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
            ])
            .arg(&root)
            .env("PATH", cluster::path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&ready).expect("a file"))
            .spawn()
            .expect("unshare runs");
        let debian = Self {
            dir,
            holder,
            up: None,
        };
        wait_for("the namespaces", LIMIT, || {
            let said = fs::read_to_string(&ready).unwrap_or_default();
            said.contains("ready").then_some(()).ok_or(said)
        });
        debian
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A command in it.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--mount", "--net", "chroot"])
            .arg(self.root())
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// kubectl of this machine in its network, with the plugin that it has installed.
    fn kubectl(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--net", "kubectl"])
            .env("KUBECACHEDIR", self.dir.path().join("cache"))
            .env(
                "PATH",
                format!(
                    "{}:{}",
                    self.root().join("usr/bin").display(),
                    cluster::path()
                ),
            )
            .env(
                "KUBECONFIG",
                self.root().join("var/lib/berth/admin.kubeconfig"),
            );
        command
    }

    fn copy_in(&self, file: &Path) -> String {
        let name = file.file_name().and_then(OsStr::to_str).expect("a name");
        fs::copy(file, self.root().join("root").join(name)).expect("it is copied");
        format!("/root/{name}")
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if let Some(up) = &mut self.up {
            let _ = up.kill();
            let _ = up.wait();
        }
        if self.root().join("usr/bin/berth").exists() {
            let _ = self.inside("berth").args(["reset", "--yes"]).output();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn the_package_runs_a_pod_in_a_bare_debian() {
    let made = tempfile::tempdir().expect("a directory");
    let package = package(made.path());
    let depends = run(Command::new("dpkg-deb")
        .arg("--field")
        .arg(&package)
        .arg("Depends"));
    let names: Vec<String> = text(&depends)
        .split(',')
        .filter_map(|one| one.split_whitespace().next().map(str::to_owned))
        .collect();
    let mut debian = Debian::with(&format!("{},runc", names.join(",")));
    let inside = debian.copy_in(&package);
    run(debian.inside("dpkg").args(["--install", &inside]));
    // Pages, completions and units stand where the system looks for them, and the units start what is there.
    for file in [
        "usr/share/man/man1/berth-cri-handlers.1.gz",
        "usr/share/bash-completion/completions/berth",
        "usr/share/doc/berth/sbom.cdx.json",
        "etc/default/berth",
    ] {
        assert!(debian.root().join(file).exists(), "{file}");
    }
    for unit in ["berth.service", "berth-cri.service"] {
        let unit = fs::read_to_string(debian.root().join("lib/systemd/system").join(unit))
            .expect("the unit");
        assert!(
            unit.contains("KillMode=process") && unit.contains("ExecStart=/usr/bin/berth "),
            "{unit}"
        );
    }
    let example = "--config=/usr/share/doc/berth/examples/config.toml";
    let handlers = run(debian.inside("berth").args(["cri", "handlers", example]));
    assert!(words(&handlers).contains("gvisor"), "{}", words(&handlers));
    let bill = fs::read_to_string(debian.root().join("usr/share/doc/berth/sbom.cdx.json"))
        .expect("the bill");
    let bill: serde_json::Value = serde_json::from_str(&bill).expect("JSON");
    let components = bill["components"].as_array().expect("components");
    assert!(
        components.iter().any(|part| part["name"] == "rustls"),
        "{bill}"
    );
    assert!(
        !components.iter().any(|part| part["name"] == "proptest"),
        "tests are not linked"
    );

    let up = debian
        .inside("berth")
        .args(["up", "--node-name", "n1"])
        .stdin(Stdio::null())
        .stdout(fs::File::create(made.path().join("log")).expect("the log"))
        .stderr(fs::File::create(made.path().join("errors")).expect("the log"))
        .spawn()
        .expect("berth up starts");
    let pid = i32::try_from(up.id()).expect("a process id");
    debian.up = Some(up);
    let log = || {
        let read = |name: &str| fs::read_to_string(made.path().join(name)).unwrap_or_default();
        read("log") + &read("errors")
    };
    wait_for("berth to be ready", LIMIT, || {
        let log = log();
        log.contains("berth is ready").then_some(()).ok_or(log)
    });
    let image = debian.copy_in(cluster::image());
    run(debian.inside("berth").args(["image", "import", &image]));
    let class =
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: plain}\nhandler: runc\n";
    fs::write(made.path().join("class.yaml"), class).expect("the class");
    run(debian
        .kubectl()
        .args(["apply", "-f"])
        .arg(made.path().join("class.yaml")));
    wait_for("the account of pods", LIMIT, || {
        let account = debian
            .kubectl()
            .args(["get", "serviceaccount", "default"])
            .output();
        let account = account.expect("kubectl runs");
        account
            .status
            .success()
            .then_some(())
            .ok_or_else(|| words(&account))
    });
    // The plugin: the program's words and its exit code come back, and the pod is gone.
    let ran = debian
        .kubectl()
        .args([
            "berth",
            "run",
            "--class",
            "plain",
            "--env",
            "WORD=packaged",
            IMAGE,
            "--",
        ])
        .args(["sh", "-c", "echo this is $WORD; exit 3"])
        .stdin(Stdio::null())
        .output()
        .expect("kubectl runs");
    assert!(
        words(&ran).contains("this is packaged"),
        "{}\n{}",
        words(&ran),
        log()
    );
    assert_eq!(ran.status.code(), Some(3), "{}", words(&ran));
    wait_for("the pod to be gone", LIMIT, || {
        let pods = text(&run(debian.kubectl().args(["get", "pods", "-o", "name"])));
        pods.is_empty().then_some(()).ok_or(pods)
    });
    let top = words(&run(debian.kubectl().args(["berth", "top", "--once"])));
    let lines: Vec<&str> = top.lines().collect();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("plain ") && line.contains("runc")),
        "{top}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("n1 ") && line.contains("True")),
        "{top}"
    );
    let checked = run(debian.kubectl().args(["berth", "check"]));
    assert!(
        !words(&checked).contains("admin.kubeconfig"),
        "{}",
        words(&checked)
    );

    let mut up = debian.up.take().expect("it runs");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("berth is told to end");
    assert!(up.wait().expect("it ends").success(), "{}", log());
    run(debian.inside("berth").args(["reset", "--yes"]));
    run(debian.inside("dpkg").args(["--purge", "berth"]));
    assert!(!debian.root().join("usr/bin/berth").exists());
    assert!(!debian.root().join("etc/default/berth").exists());
}

/// Every Rust source below a directory, in one text.
fn sources(dir: &Path, all: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension() == Some(OsStr::new("rs")) {
            all.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all = String::new();
    for entry in fs::read_dir(root.join("crates")).expect("the crates") {
        sources(&entry.expect("a crate").path().join("src"), &mut all);
    }
    let prefixes = [
        "aggregator_",
        "apiserver_",
        "berth_",
        "container_",
        "kubelet_",
        "process_",
    ];
    for file in [
        "packaging/grafana/berth.json",
        "packaging/prometheus/berth.rules.yaml",
    ] {
        let text = fs::read_to_string(root.join(file)).expect("the file");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<_> = words
            .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
            .collect();
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            // The writer of the format adds these.
            let family = name.trim_end_matches("_bucket").trim_end_matches("_total");
            assert!(all.contains(family), "{file}: nothing has {name}");
        }
    }
}

//! Faults of the machine and of whoever starts berth: one clear message each, and nothing lost.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use berth_testkit::wait_for;

use crate::cluster::{Cluster, LIMIT, berth, short_dir, words};

/// Runs `berth up`, which must end by itself, soon, and with an error.
fn refused(command: &mut Command) -> String {
    if !command
        .get_args()
        .any(|argument| argument == "--secure-port")
    {
        command.args(["--secure-port", "0"]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("berth starts");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match child.try_wait().expect("its state") {
            Some(status) => {
                assert!(!status.success(), "it must not succeed");
                break;
            }
            None if Instant::now() > end => {
                let _gone = child.kill();
                panic!("it did not give up: {}", words(&output(child)));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    words(&output(child))
}

fn output(child: std::process::Child) -> Output {
    child.wait_with_output().expect("its words")
}

fn up(dir: &std::path::Path) -> Command {
    up_on(dir, "0")
}

fn up_on(dir: &std::path::Path, port: &str) -> Command {
    let mut command = berth();
    command
        .args([
            "up",
            "--secure-port",
            port,
            "--kubelet-address",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(dir);
    command
}

fn last_line(said: &str) -> &str {
    said.lines()
        .rfind(|line| line.starts_with("berth: "))
        .unwrap_or(said)
}

#[test]
fn a_port_in_use_is_named() {
    let dir = short_dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let said = refused(up_on(&dir.path().join("d"), &port).args(["--bind-address", "127.0.0.1"]));
    assert!(
        last_line(&said).contains(&port) && said.contains("in use"),
        "{said}"
    );
    assert!(!dir.path().join("d").exists(), "nothing is left behind");
}

#[test]
fn a_second_berth_on_one_directory_is_told_about_the_first() {
    let cluster = Cluster::start();
    let said = refused(&mut up(&cluster.data()));
    assert!(
        last_line(&said).contains(&format!("process {}", cluster.pid())),
        "{said}"
    );
    cluster.kube(&["get", "nodes"]);
}

#[test]
fn foreign_and_damaged_directories_are_left_alone() {
    let dir = short_dir();
    fs::write(dir.path().join("thesis.tex"), "years of work").expect("a file");
    let said = refused(&mut up(dir.path()));
    assert!(last_line(&said).contains("thesis.tex"), "{said}");
    assert_eq!(
        fs::read_dir(dir.path()).expect("it is there").count(),
        1,
        "nothing was added"
    );

    let mut cluster = Cluster::start();
    cluster.stop();
    let server = cluster.data().join("server");
    let database = fs::read_dir(&server)
        .expect("the server's files")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "db" || extension == "sqlite")
        })
        .expect("the database");
    let good = fs::read(&database).expect("it can be read");
    let mut bad = good.clone();
    bad[..64].fill(b'x');
    fs::write(&database, &bad).expect("it can be damaged");
    let said = refused(&mut up(&cluster.data()));
    let name = database
        .file_name()
        .and_then(|name| name.to_str())
        .expect("its name");
    assert!(last_line(&said).contains(name), "{said}");
    assert_eq!(
        fs::read(&database).expect("it is there"),
        bad,
        "it was not touched"
    );
    fs::write(&database, good).expect("it can be mended");
    cluster.launch();
    cluster.kube(&["get", "nodes"]);
}

#[test]
fn without_root_it_says_so() {
    let dir = short_dir();
    fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("open to all");
    // The build may lie where nobody else can look.
    let copy = dir.path().join("berth");
    fs::copy(env!("CARGO_BIN_EXE_berth"), &copy).expect("a copy");
    let mut command = Command::new(&copy);
    command.args(["up", "--data-dir"]).arg(dir.path().join("d"));
    let said = refused(command.uid(65534).gid(65534));
    assert!(last_line(&said).contains("needs root"), "{said}");
}

#[test]
fn unknown_gates_and_plugins_are_refused_with_the_known_ones() {
    let dir = short_dir();
    let said = refused(up(&dir.path().join("d")).args(["--feature-gates", "RuntimeKlass=true"]));
    assert!(
        last_line(&said).contains("RuntimeKlass") && said.contains("PodOverhead"),
        "{said}"
    );
    let said = refused(up(&dir.path().join("d")).args(["--enable-admission-plugins", "Runtime"]));
    assert!(
        last_line(&said).contains("Runtime") && said.contains("RuntimeClass"),
        "{said}"
    );
}

#[test]
fn a_default_runtime_that_is_missing_stops_the_start_and_another_does_not() {
    let dir = short_dir();
    let config = dir.path().join("config.toml");
    let containerd = |default: &str| {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"{default}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.lost]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.lost.options]\nBinaryName = \"/opt/no/such-runc\"\n"
        )
    };
    fs::write(&config, containerd("lost")).expect("a configuration");
    let said = refused(
        up(&dir.path().join("d"))
            .arg("--containerd-config")
            .arg(&config),
    );
    assert!(last_line(&said).contains("/opt/no/such-runc"), "{said}");

    fs::write(&config, containerd("runc")).expect("a configuration");
    let listed = berth()
        .args(["cri", "handlers", "--containerd-config"])
        .arg(&config)
        .output()
        .expect("berth cri handlers");
    let table = words(&listed);
    let row = table
        .lines()
        .find(|line| line.contains("lost"))
        .unwrap_or_default();
    assert!(
        row.contains("/opt/no/such-runc"),
        "listed with the reason: {table}"
    );
    let leftover = berth()
        .args(["reset", "--yes", "--data-dir"])
        .arg(dir.path().join("d"))
        .output();
    assert!(leftover.expect("berth reset").status.success());
}

/// A small file system, gone at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: &str) -> Self {
        let dir = short_dir();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status()
            .expect("mount");
        assert!(status.success());
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let disk = Tmpfs::new("24m");
    let data = disk.0.path().join("d");
    let log = fs::File::create(disk.0.path().with_extension("log")).expect("a log");
    let port = crate::cluster::free_port().to_string();
    let mut child = berth()
        .args(["up", "--bind-address", "127.0.0.1", "--secure-port", &port])
        .args(["--kubelet-address", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .spawn()
        .expect("berth up");
    let kubectl = |arguments: &[&str]| {
        Command::new("kubectl")
            .env("KUBECONFIG", data.join("admin.kubeconfig"))
            .arg(format!("--cache-dir=/tmp/{port}-cache"))
            .args(arguments)
            .output()
            .expect("kubectl")
    };
    wait_for("the service account", LIMIT, || {
        let got = kubectl(&["get", "serviceaccount", "default"]);
        if got.status.success() {
            Ok(())
        } else {
            Err(words(&got))
        }
    });
    let made = kubectl(&["create", "configmap", "before", "--from-literal=a=b"]);
    assert!(made.status.success(), "{}", words(&made));
    fs::write(disk.0.path().join("ballast"), vec![0; 64 << 20]).expect_err("the disk fills up");
    let big = disk.0.path().with_extension("big");
    fs::write(&big, "x".repeat(900_000)).expect("a file");
    let from = format!("--from-file={}", big.display());
    let mut said = String::new();
    for number in 0..40 {
        let refused = kubectl(&["create", "configmap", &format!("big-{number}"), &from]);
        if !refused.status.success() {
            said = words(&refused);
            break;
        }
    }
    assert!(
        said.contains("full") || said.contains("space"),
        "it says what is wrong: {said:?}"
    );
    let there = kubectl(&["get", "configmap", "before"]);
    assert!(there.status.success(), "reading goes on: {}", words(&there));
    fs::remove_file(disk.0.path().join("ballast")).expect("room again");
    wait_for("writes to work again", LIMIT, || {
        let made = kubectl(&["create", "configmap", "after", "--from-literal=a=b"]);
        let said = words(&made);
        if made.status.success() || said.contains("already exists") {
            Ok(())
        } else {
            Err(said)
        }
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let reset = berth()
        .args(["reset", "--yes", "--data-dir"])
        .arg(&data)
        .output()
        .expect("reset");
    assert!(reset.status.success(), "{}", words(&reset));
    for leftover in ["log", "big"] {
        let _gone = fs::remove_file(disk.0.path().with_extension(leftover));
    }
    let _gone = fs::remove_dir_all(format!("/tmp/{port}-cache"));
}

#[test]
fn images_may_come_before_the_first_start() {
    let dir = short_dir();
    let list = |data: &std::path::Path| {
        berth()
            .args(["image", "ls", "--data-dir"])
            .arg(data)
            .output()
            .expect("berth image runs")
    };
    let new = dir.path().join("new");
    let output = list(&new);
    assert!(output.status.success(), "{}", words(&output));
    assert!(words(&output).starts_with("IMAGE"), "{}", words(&output));
    assert!(!new.exists(), "looking makes nothing");
    let imported = berth()
        .args(["image", "import", "--data-dir"])
        .arg(&new)
        .arg(crate::cluster::image())
        .output()
        .expect("berth image runs");
    assert!(imported.status.success(), "{}", words(&imported));
    assert!(new.join("berth.json").is_file(), "it is marked as berth's");
    assert!(words(&list(&new)).contains("berth.dev/demo:1"));

    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).expect("a directory");
    fs::write(foreign.join("theirs"), "").expect("a file");
    let output = list(&foreign);
    assert!(!output.status.success());
    assert!(
        words(&output).contains("is not a berth data directory"),
        "{}",
        words(&output)
    );
    assert!(!foreign.join("cri").exists(), "nothing was touched");
}

#[test]
fn a_node_that_cannot_reach_its_server_says_so_at_once_and_then_seldom() {
    let mut cluster = Cluster::server_only();
    let server = format!("https://127.0.0.1:{}", cluster.port());
    let made = berth()
        .args(["kubeconfig", "--node", "n9", "--server", &server])
        .arg("--data-dir")
        .arg(cluster.data())
        .output()
        .expect("berth kubeconfig runs");
    assert!(made.status.success(), "{}", words(&made));
    let dir = short_dir();
    let (kubeconfig, root) = (dir.path().join("kubeconfig"), dir.path().join("node"));
    fs::write(&kubeconfig, made.stdout).expect("the kubeconfig");
    // A directory from before, open to all.
    fs::create_dir(&root).expect("the root directory");
    cluster.kill();

    let log = dir.path().join("log");
    let mut node = berth()
        .args([
            "node",
            "--node-name",
            "n9",
            "--kubelet-address",
            "127.0.0.1:0",
        ])
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .arg("--root-dir")
        .arg(&root)
        .arg("--pod-logs-dir")
        .arg(dir.path().join("logs"))
        .arg("--cri-socket")
        .arg(dir.path().join("none.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("the log"))
        .spawn()
        .expect("berth node starts");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    // The pause between tries grows: several have failed when this one has said so.
    let wanted = [
        "cannot write the node's status",
        "cannot watch RuntimeClasses",
    ];
    wait_for("both warnings", LIMIT, || {
        let text = read();
        let said = |w: &&str| text.lines().any(|l| l.contains("WARN") && l.contains(*w));
        if wanted.iter().all(said) {
            Ok(())
        } else {
            Err(text)
        }
    });
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&root)
            .expect("the root directory")
            .permissions(),
    );
    let signal = i32::try_from(node.id()).expect("a process id");
    let begun = Instant::now();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(signal),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("it can be stopped");
    let status = node.wait().expect("it ends");
    assert!(status.success() && begun.elapsed() < LIMIT, "{}", read());
    assert_eq!(mode & 0o777, 0o700);
    let text = read();
    assert!(text.contains("onnection refused"), "{text}");
    for warning in wanted {
        let count = text.lines().filter(|l| l.contains(warning)).count();
        assert!(count <= 3, "{count} times: {text}");
    }
}

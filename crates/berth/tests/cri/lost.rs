//! A third-party shim is killed: nothing of what it had stays, and nobody says so before it is true.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Client, Daemon, LIMIT};
use crate::kill::{ended, nothing_left};
use crate::leftovers::{processes, remove_cgroup};
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, sandboxes, shell, status};

/// The shim of `tests/shim`, which leaks its virtual machine when it is killed.
fn handlers(more: &str) -> String {
    testvm::handler(&format!(
        "sandbox_dirs = [\"@dir@/vm/shared/sandboxes\"]\n{more}"
    ))
}

/// A process of a test's own that ends with it.
struct Bystander(Child);

impl Bystander {
    fn naming(words: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh", words]);
        Self(command.stdin(Stdio::piped()).spawn().expect("sh runs"))
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("its state").is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pids(wanted: &str) -> Vec<i32> {
    let found = processes(wanted);
    let pid = |line: &String| line.split(' ').nth(1)?.parse().ok();
    found.iter().filter_map(pid).collect()
}

/// SIGKILL for the shim of a sandbox, and for it alone: its words go on so after the id.
pub(crate) fn kill_shim(id: &str, next: &str) {
    let [pid] = pids(&format!("-id {id} {next}"))[..] else {
        panic!("{:?}", processes(id))
    };
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it can be killed");
}

/// The virtual machine's monitor and what serves it files.
fn monitors(id: &str) -> Vec<String> {
    processes(&format!("-name sandbox-{id} "))
}

fn shared(daemon: &Daemon, id: &str) -> PathBuf {
    testvm::dir(daemon).join("shared/sandboxes").join(id)
}

async fn state(client: &mut Client, id: &str) -> PodSandboxState {
    let all = sandboxes(client).await;
    let found = all.iter().find(|sandbox| sandbox.id == id);
    found.expect("it is listed").state()
}

async fn wait_for_end_of_monitors(id: &str, shared: &Path) {
    wait_for_async("the end of what the shim had", LIMIT, async || {
        let left = monitors(id);
        match left.is_empty() && !shared.exists() {
            true => Ok(()),
            false => Err(format!("{left:?}, directory: {}", shared.exists())),
        }
    })
    .await;
}

async fn stop(client: &mut Client, id: &str) -> Result<(), tonic::Status> {
    let pod_sandbox_id = id.to_owned();
    let request = StopPodSandboxRequest { pod_sandbox_id };
    client.stop_pod_sandbox(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shims_virtual_machine_ends_and_no_other() {
    let mut daemon = Daemon::start(&handlers("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-lost-{}", std::process::id());
    let logs = daemon.path().join("logs");
    let mut pods = Vec::new();
    for name in ["lost", "other"] {
        let config = pod(name, &logs, &parent);
        let id = run(&mut client, &config, "testvm").await.expect("a pod");
        let container = shell("last", "exec sleep 10000");
        let container = launch(&mut client, &id, &config, container)
            .await
            .expect("starts");
        assert_eq!(monitors(&id).len(), 2, "{:?}", processes(&id));
        pods.push((id, container));
    }
    let [(id, container), (other, other_container)] = &pods[..] else {
        panic!("two pods")
    };
    // Whoever is at work with the pod's id is nobody's virtual machine.
    let mut admin = Bystander::naming(&format!("crictl inspectp {id}"));
    // What is mounted in the sandbox's directory goes, and no link in it leads anywhere else.
    let (shared, outside) = (shared(&daemon, id), daemon.path().join("outside"));
    std::fs::create_dir(&outside).expect("a directory");
    std::fs::write(outside.join("file"), "theirs").expect("a file");
    let none = None::<&str>;
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &shared.join("shared"), tmpfs, MsFlags::empty(), none).expect("a mount");
    symlink(&outside, shared.join("shared/link")).expect("a link");
    symlink(&outside, shared.join("link")).expect("a link");

    kill_shim(id, "-namespace");
    wait_for_async("the pod not to be ready", LIMIT, async || {
        match state(&mut client.clone(), id).await {
            PodSandboxState::SandboxNotready => Ok(()),
            PodSandboxState::SandboxReady => Err("it is ready".to_owned()),
        }
    })
    .await;
    // Nobody has to stop the pod for it.
    wait_for_end_of_monitors(id, &shared).await;
    assert_eq!(ended(&mut client, container).await.exit_code, 137);
    assert!(admin.lives());
    let kept = std::fs::read_to_string(outside.join("file")).expect("the file");
    assert_eq!(kept, "theirs");
    remove(&mut client, id).await.expect("it can be removed");
    // The other pod has noticed nothing.
    assert_eq!(
        state(&mut client, other).await,
        PodSandboxState::SandboxReady
    );
    let said = exec(&mut client, other_container, "echo on").await;
    assert_eq!(said.expect("an exec"), "on\n");
    assert_eq!(monitors(other).len(), 2);
    remove(&mut client, other).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// A shim that is killed while nobody serves leaves nothing either.
async fn killed_while_nobody_serves(name: &str, more: &str) {
    let mut daemon = Daemon::start(&handlers(more)).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-{name}-{}", std::process::id());
    let config = pod("away", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let container = shell("last", "exec sleep 10000");
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let shared = shared(&daemon, &id);
    daemon.kill();
    kill_shim(&id, "-namespace");
    assert_eq!(monitors(&id).len(), 2);
    daemon.launch().await;
    wait_for_end_of_monitors(&id, &shared).await;
    assert_eq!(
        state(&mut client, &id).await,
        PodSandboxState::SandboxNotready
    );
    let state = status(&mut client, &container).await.expect("a status");
    assert_eq!(state.state(), ContainerState::ContainerExited);
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_is_killed_while_nobody_serves_leaves_nothing() {
    killed_while_nobody_serves("away", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_that_makes_sandboxes_itself() {
    killed_while_nobody_serves("sandboxer", "sandboxer = \"shim\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_ended_is_told_until_it_is_gone() {
    let mut daemon = Daemon::start(&handlers("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-told-{}", std::process::id());
    let config = pod("told", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let shared = shared(&daemon, &id);
    // It may be the pod's, but nothing shows it.
    let mut user = Bystander::naming(&shared.join("shared").to_string_lossy());
    kill_shim(&id, "-namespace");
    for _ in 0..2 {
        let error = stop(&mut client, &id).await.expect_err("it is refused");
        let process = format!("process {} (sh) names {}", user.0.id(), shared.display());
        assert!(error.message().contains(&process), "{error}");
        assert!(error.message().contains(&id), "{error}");
    }
    assert!(user.lives() && monitors(&id).is_empty());
    let request = RemovePodSandboxRequest {
        pod_sandbox_id: id.clone(),
    };
    let error = client.remove_pod_sandbox(request).await;
    error.expect_err("what is left is not forgotten");
    // The next server knows of it, too.
    daemon.kill();
    daemon.launch().await;
    stop(&mut client, &id).await.expect_err("it is refused");
    let mut stdin = user.0.stdin.take().expect("stdin");
    stdin.write_all(b"\n").expect("it is told");
    user.0.wait().expect("it ends");
    stop(&mut client, &id).await.expect("nothing is left");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// containerd's shim, whose `delete` ends containers: the root file systems that it mounted on the host go with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_containerd_shim_leaves_no_mounts() {
    let handlers = "[handlers.stranger]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";
    let mut daemon = Daemon::start(handlers).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-mounts-{}", std::process::id());
    let config = pod("mounts", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "stranger").await.expect("a pod");
    let container = shell("last", "exec sleep 10000");
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let bundles = daemon.path().join("r/cri/bundles");
    let mounted = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let dir = bundles.to_string_lossy().into_owned();
        table.lines().filter(|line| line.contains(&dir)).count()
    };
    assert_eq!(mounted(), 2);
    kill_shim(&id, "-address");
    assert_eq!(ended(&mut client, &container).await.exit_code, 137);
    stop(&mut client, &id).await.expect("nothing is left");
    assert_eq!(mounted(), 0);
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// A shim that ends in the middle of its work, as Kata's does when it is told to shut down too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shim_leaves_at_a_normal_stop_goes_too() {
    let mut daemon = Daemon::start(&handlers("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-careless-{}", std::process::id());
    let config = pod("careless", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let container = launch(&mut client, &id, &config, shell("c", "exec sleep 10000"));
    container.await.expect("starts");
    std::fs::write(testvm::dir(&daemon).join("careless"), "").expect("a file");
    stop(&mut client, &id).await.expect("it can be stopped");
    assert_eq!(monitors(&id), Vec::<String>::new());
    assert!(!shared(&daemon, &id).exists());
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

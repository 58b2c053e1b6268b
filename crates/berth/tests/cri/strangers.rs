//! A pod under somebody else's shim while the server is away.

use std::path::{Path, PathBuf};

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;

use crate::daemon::{Daemon, LIMIT};
use crate::kill::{ended, nothing_left};
use crate::leftovers::{processes, remove_cgroup};
use crate::words::{exec, launch, pod, remove, run, shell, status};

const HANDLERS: &str = "[handlers.runc]\n[handlers.stranger]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";

/// A directory in which a file lets containers go on.
pub(crate) struct Gate(PathBuf);

impl Gate {
    pub(crate) fn new(daemon: &Daemon) -> Self {
        let dir = daemon.path().join("gate");
        std::fs::create_dir(&dir).expect("a directory");
        Self(dir)
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.0.join("open"), "").expect("the gate opens");
    }

    /// A container that waits for the gate to open, then does the rest.
    pub(crate) fn container(&self, name: &str, rest: &str) -> ContainerConfig {
        let script = format!("until [ -e /gate/open ]; do sleep 0.05; done; {rest}");
        let mut config = shell(name, &script);
        config.mounts.push(Mount {
            container_path: "/gate".to_owned(),
            host_path: self.0.to_string_lossy().into_owned(),
            ..Mount::default()
        });
        config
    }
}

/// The lines of a log, without their times.
fn lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(_, rest)| rest.to_owned()).collect()
}

async fn wait_for_lines(log: &Path, wanted: &[&str]) {
    wait_for_async("the log", LIMIT, async || {
        let seen = lines(log);
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

/// The shim holds the containers, and our keeper their streams: what they write is in their logs before anybody is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_shim_is_found_again() {
    let mut daemon = Daemon::start(HANDLERS).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-stranger-{}", std::process::id());
    let logs = daemon.path().join("logs");
    let config = pod("stranger", &logs, &parent);
    let id = run(&mut client, &config, "stranger").await.expect("a pod");
    let gate = Gate::new(&daemon);
    let lasting = gate.container("last", "echo late; exec sleep 10000");
    let lasting = launch(&mut client, &id, &config, lasting)
        .await
        .expect("starts");
    let ending = gate.container(
        "end",
        "for n in 1 2 3; do echo line $n; done; printf rest; exit 9",
    );
    let ending = launch(&mut client, &id, &config, ending)
        .await
        .expect("starts");
    daemon.kill();
    // Both write, and one ends, while nobody serves.
    gate.open();
    let whole = [
        "stdout F line 1",
        "stdout F line 2",
        "stdout F line 3",
        "stdout P rest",
    ];
    wait_for_lines(&logs.join("stranger/end.log"), &whole).await;
    wait_for_lines(&logs.join("stranger/last.log"), &["stdout F late"]).await;
    daemon.launch().await;

    let ended = ended(&mut client, &ending).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (9, "Error"));
    assert_eq!(lines(&logs.join("stranger/end.log")), whole);
    let state = status(&mut client, &lasting)
        .await
        .expect("a status")
        .state();
    assert_eq!(state, ContainerState::ContainerRunning);
    assert_eq!(
        exec(&mut client, &lasting, "echo on")
            .await
            .expect("an exec"),
        "on\n"
    );
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// What runs against a timeout does so without the server, or until the next one under a shim that knows no timeouts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commands_timeout_outlives_the_server() {
    let mut daemon = Daemon::start(HANDLERS).await;
    let client = daemon.client.clone();
    let parent = format!("berth-timeout-{}", std::process::id());
    let logs = daemon.path().join("logs");
    // Numbers that no other process has among its words.
    let number = |handler: usize| format!("3{}{handler}", std::process::id());
    let runs = async |number: String, wanted: bool| {
        wait_for_async("the command", LIMIT, async || {
            let seen = processes(&format!("sleep {number} "));
            if seen.is_empty() != wanted {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await;
    };
    let mut pods = Vec::new();
    for (handler, name) in ["runc", "stranger"].into_iter().enumerate() {
        let mut client = client.clone();
        let config = pod(name, &logs, &parent);
        let id = run(&mut client, &config, name).await.expect("a pod");
        let lasting = shell("last", "exec sleep 10000");
        let container_id = launch(&mut client, &id, &config, lasting)
            .await
            .expect("starts");
        let cmd = ["sleep".to_owned(), number(handler)].to_vec();
        let started = container_id.clone();
        tokio::spawn(async move {
            let request = ExecSyncRequest {
                container_id,
                cmd,
                timeout: 2,
            };
            client.exec_sync(request).await
        });
        runs(number(handler), true).await;
        // A shim whose client goes while it still starts the command loses track of it.
        wait_for_async("the end of `runc exec`", LIMIT, async || {
            let mut seen = processes(&started);
            seen.retain(|process| process.contains(" exec "));
            if seen.is_empty() {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await;
        pods.push(id);
    }
    daemon.kill();
    runs(number(0), false).await;
    daemon.launch().await;
    runs(number(1), false).await;
    for id in pods {
        let mut client = client.clone();
        remove(&mut client, &id).await.expect("it can be removed");
    }
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

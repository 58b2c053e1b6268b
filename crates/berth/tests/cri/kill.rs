//! `kill -9` at any moment: no container, exit code or log line is lost, and nothing half-made stays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use tokio::sync::Mutex;

use crate::daemon::{Client, Daemon, LIMIT};
use crate::leftovers::{leftovers, remove_cgroup};
use crate::words::{exec, launch, pod, remove, run, sandboxes, shell, status};

/// How often the server is killed, and how many clients it has.
const KILLS: u32 = 6;
const CLIENTS: u32 = 4;
const LINES: u32 = 200;

/// What the server has said it did.
#[derive(Default)]
struct Told {
    /// Containers that write all lines and end with 7, and their logs.
    counting: Vec<(String, String)>,
    /// Containers that run on.
    lasting: Vec<String>,
    /// Containers that were stopped.
    stopped: Vec<String>,
    /// Sandboxes that were removed.
    removed: Vec<String>,
    /// Sandboxes that were not.
    kept: Vec<String>,
}

fn count() -> String {
    format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done; exit 7")
}

/// One pod's life; ends at the first error, which must come of the kill.
async fn live(
    client: &mut Client,
    config: &PodSandboxConfig,
    leave: bool,
    told: &Mutex<Told>,
) -> Result<(), tonic::Status> {
    let id = run(client, config, "").await?;
    told.lock().await.kept.push(id.clone());
    let counting = launch(client, &id, config, shell("count", &count())).await?;
    let log = format!("{}/count.log", config.log_directory);
    told.lock().await.counting.push((counting, log));
    let lasting = launch(client, &id, config, shell("last", "exec sleep 10000")).await?;
    told.lock().await.lasting.push(lasting.clone());
    assert_eq!(exec(client, &lasting, "echo here").await?, "here\n");
    let stopping = launch(client, &id, config, shell("stop", "exec sleep 10000")).await?;
    let request = StopContainerRequest {
        container_id: stopping.clone(),
        timeout: 0,
    };
    client.stop_container(request).await?;
    told.lock().await.stopped.push(stopping);
    if leave {
        return Ok(());
    }
    {
        // From here on nobody knows how far it got.
        let mut told = told.lock().await;
        let told = &mut *told;
        let log = &config.log_directory;
        told.kept.retain(|kept| *kept != id);
        told.counting.retain(|(_, path)| !path.starts_with(log));
        told.lasting.retain(|kept| *kept != lasting);
        told.stopped.pop();
    }
    remove(client, &id).await?;
    told.lock().await.removed.push(id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_leaks() {
    let mut daemon = Daemon::start("[handlers.runc]\n").await;
    let parent = format!("berth-kill-{}", std::process::id());
    let logs = daemon.path().join("logs");
    let told: Vec<Arc<Mutex<Told>>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for (number, told) in told.iter().cloned().enumerate() {
        let (mut client, over) = (daemon.client.clone(), Arc::clone(&over));
        let (logs, parent) = (logs.clone(), parent.clone());
        clients.spawn(async move {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                round += 1;
                let config = pod(&format!("c{number}x{round}"), &logs, &parent);
                if let Err(error) = live(&mut client, &config, round % 3 == 0, &told).await {
                    let killed = match error.code() {
                        tonic::Code::Unavailable | tonic::Code::Cancelled => true,
                        tonic::Code::Unknown => error.message().contains("transport"),
                        _ => false,
                    };
                    assert!(killed, "{error:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    let mut delays = Vec::new();
    for _ in 0..KILLS {
        let delay = 100 + rand::random::<u64>() % 1200;
        delays.push(delay);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        daemon.kill();
        daemon.launch().await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("a client's calls");
    }
    eprintln!("killed after {delays:?} ms");

    let mut client = daemon.client.clone();
    let listed = sandboxes(&mut client).await;
    let listed: BTreeSet<String> = listed.into_iter().map(|sandbox| sandbox.id).collect();
    let mut pods = 0;
    for told in &told {
        let told = told.lock().await;
        pods += told.kept.len() + told.removed.len();
        for id in &told.kept {
            assert!(listed.contains(id), "pod sandbox {id} is lost");
        }
        for id in &told.removed {
            assert!(!listed.contains(id), "pod sandbox {id} is back");
        }
        for (id, log) in &told.counting {
            assert_eq!(ended(&mut client, id).await.exit_code, 7, "{id}");
            check_log(log);
        }
        for id in &told.lasting {
            let state = status(&mut client, id).await.expect("a status").state();
            assert_eq!(state, ContainerState::ContainerRunning, "{id}");
            assert_eq!(
                exec(&mut client, id, "echo on").await.expect("an exec"),
                "on\n"
            );
        }
        for id in &told.stopped {
            assert_eq!(ended(&mut client, id).await.exit_code, 137, "{id}");
        }
    }
    assert!(pods > 5, "only {pods} pods were made");
    for id in &listed {
        remove(&mut client, id).await.expect("it can be removed");
    }
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// Shims that were told to end take a moment.
pub(crate) async fn nothing_left(daemon: &Daemon, cgroup_parent: &str) {
    wait_for_async("the end of all that pods had", LIMIT, async || {
        let left = leftovers(daemon, cgroup_parent);
        left.is_empty()
            .then_some(())
            .ok_or_else(|| format!("left behind: {left:#?}"))
    })
    .await;
}

pub(crate) async fn ended(client: &mut Client, id: &str) -> ContainerStatus {
    wait_for_async(&format!("the end of container {id}"), LIMIT, || {
        let mut client = client.clone();
        async move {
            let status = status(&mut client, id).await.expect("a status");
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            Err(format!("{status:?}"))
        }
    })
    .await
}

/// Every line once and in order.
fn check_log(path: &str) {
    let text = std::fs::read_to_string(path).expect("a log");
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default())
        .collect();
    let wanted: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, wanted, "{path}");
}

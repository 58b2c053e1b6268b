//! Sandboxes that wait for their pod, under another's shim with virtual machines and under a server that is killed.

use std::collections::BTreeSet;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use serde_json::Value;

use crate::daemon::{Client, Daemon, LIMIT};
use crate::kill::nothing_left;
use crate::leftovers::{processes, remove_cgroup};
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, sandboxes, shell};

/// What the verbose Status says of a handler's.
async fn report(client: &mut Client, handler: &str) -> Value {
    let request = StatusRequest { verbose: true };
    let status = client.status(request).await.expect("a status").into_inner();
    let text = status.info.get("waitingSandboxes").cloned();
    let report: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    report[handler].clone()
}

/// The ids of those that wait, once there are so many.
async fn waiting(daemon: &Daemon, handler: &str, count: usize) -> BTreeSet<String> {
    wait_for_async(&format!("{count} waiting {handler}"), LIMIT, || {
        let mut client = daemon.client.clone();
        async move {
            let report = report(&mut client, handler).await;
            let all = report["sandboxes"].as_array().cloned().unwrap_or_default();
            let waits = all.iter().filter(|one| one["state"] == "waiting");
            let ids: BTreeSet<String> = waits
                .filter_map(|one| Some(one["id"].as_str()?.to_owned()))
                .collect();
            if ids.len() == count && all.len() == count {
                Ok(ids)
            } else {
                Err(report.to_string())
            }
        }
    })
    .await
}

/// A table of handlers without `warm`.
fn none_wait(daemon: &Daemon) {
    let path = daemon.path().join("config.toml");
    let text = std::fs::read_to_string(&path).expect("config.toml");
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("warm"))
        .collect();
    std::fs::write(&path, kept.join("\n") + "\n").expect("config.toml");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_machine_waits_for_a_pod_of_its_size() {
    let daemon = Daemon::start(&testvm::handler("warm = 1")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-warmvm-{}", std::process::id());
    let waited = waiting(&daemon, "testvm", 1).await;
    let mut config = pod("warmvm", &daemon.path().join("logs"), &parent);
    config.hostname = "in-the-guest".to_owned();
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(
        waited.contains(&id),
        "{}",
        report(&mut client, "testvm").await
    );
    let calls = testvm::calls(&daemon, "Create");
    assert!(
        calls.iter().any(|call| call["id"] == id.as_str()),
        "{calls:?}"
    );
    // Told in the sandbox container, by a command that may do nothing else.
    let told = testvm::calls(&daemon, "Exec");
    assert!(
        told.iter().any(|call| call["id"] == id.as_str()),
        "{told:?}"
    );
    let container = launch(&mut client, &id, &config, shell("c", "exec sleep 1000"));
    let container = container.await.expect("a container");
    let name = exec(&mut client, &container, "hostname")
        .await
        .expect("a name");
    assert_eq!(name.trim(), "in-the-guest");
    remove(&mut client, &id).await.expect("its end");

    // One with limits needs a machine of its own size: the first is cold, the next finds one.
    waiting(&daemon, "testvm", 1).await;
    config.metadata.as_mut().expect("metadata").name = "sized".to_owned();
    let linux = config.linux.as_mut().expect("linux");
    linux.resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 1 << 30,
        cpu_quota: 200_000,
        cpu_period: 100_000,
        ..LinuxContainerResources::default()
    });
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let counts = report(&mut client, "testvm").await;
    assert_eq!(
        (&counts["taken"], &counts["cold"]["limits"]),
        (&1.into(), &1.into())
    );
    remove(&mut client, &id).await.expect("its end");
    wait_for_async("one of that size", LIMIT, || {
        let mut client = client.clone();
        async move {
            let report = report(&mut client, "testvm").await;
            let all = report["sandboxes"].as_array().cloned().unwrap_or_default();
            let fits =
                |one: &Value| one["memoryLimitBytes"] == 1 << 30 && one["state"] == "waiting";
            all.iter().any(fits).then_some(()).ok_or(report.to_string())
        }
    })
    .await;
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert_eq!(report(&mut client, "testvm").await["taken"], 2);
    let memory =
        testvm::record(&daemon, &id)["annotations"]["io.kubernetes.cri.sandbox-memory"].clone();
    assert_eq!(memory, (1 << 30).to_string());
    remove(&mut client, &id).await.expect("its end");

    // A machine that dies while it waits is noticed, and nothing of it stays.
    let waited = waiting(&daemon, "testvm", 1).await;
    let victim = waited.first().expect("one");
    let monitor = processes(&format!("vmm -name sandbox-{victim}"));
    let pid = monitor[0].split(' ').nth(1).expect("a PID");
    let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a PID"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
    wait_for_async("another one", LIMIT, async || {
        let next = waiting(&daemon, "testvm", 1).await;
        if next.contains(victim) {
            Err(format!("{victim} waits"))
        } else {
            Ok(())
        }
    })
    .await;
    none_wait(&daemon);
    waiting(&daemon, "testvm", 0).await;
    nothing_left(&daemon, &parent).await;
    remove_cgroup(&parent);
}

/// How often the server is killed.
const KILLS: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_none_and_gives_none_twice() {
    let mut daemon = Daemon::start("[handlers.runc]\nwarm = 2\n[handlers.runsc]\nwarm = 2\n").await;
    let parent = format!("berth-warmkill-{}", std::process::id());
    let logs = daemon.path().join("logs");
    let mut told = BTreeSet::new();
    for round in 0..KILLS {
        // As pods come: some take one that waits, some are cold, and others are booted meanwhile.
        let mut runs = tokio::task::JoinSet::new();
        for number in 0..4 {
            let mut client = daemon.client.clone();
            let config = pod(&format!("r{round}x{number}"), &logs, &parent);
            let handler = if number % 2 == 0 { "runc" } else { "runsc" };
            runs.spawn(async move { run(&mut client, &config, handler).await });
        }
        let delay = rand::random::<u64>() % 700;
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        daemon.kill();
        daemon.launch().await;
        while let Some(run) = runs.join_next().await {
            if let Ok(id) = run.expect("a client's call") {
                assert!(told.insert(id.clone()), "{id} was given twice");
            }
        }
    }
    let mut client = daemon.client.clone();
    let listed = sandboxes(&mut client).await;
    let ids: BTreeSet<String> = listed.iter().map(|one| one.id.clone()).collect();
    assert!(told.is_subset(&ids), "lost: {told:?} {ids:?}");
    // Each has a name, and an address, of its own.
    let names: BTreeSet<String> = listed
        .iter()
        .filter_map(|one| Some(one.metadata.clone()?.name))
        .collect();
    assert_eq!(names.len(), listed.len());
    let waits = waiting(&daemon, "runsc", 2).await;
    assert!(waits.is_disjoint(&ids));
    waiting(&daemon, "runc", 2).await;
    for id in &ids {
        remove(&mut client, id).await.expect("its end");
    }
    none_wait(&daemon);
    for handler in ["runc", "runsc"] {
        waiting(&daemon, handler, 0).await;
    }
    nothing_left(&daemon, &parent).await;
    // Others' tests have theirs below the same.
    let dir = daemon.path().join("r/cri/runtime/runsc");
    let states = std::fs::read_dir(dir).expect("runsc's state");
    let states = states
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "state"));
    assert_eq!(states.count(), 0);
    remove_cgroup(&parent);
}

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
pub(crate) async fn waiting(daemon: &Daemon, handler: &str, count: usize) -> BTreeSet<String> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_of_older_files_is_given_to_nobody() {
    let table = testvm::handler("warm = 1\nconfig = \"@dir@/vm.toml\"");
    let mut daemon = Daemon::prepare(&table);
    let change = |daemon: &Daemon, text: &str| {
        std::fs::write(daemon.path().join("vm.toml"), text).expect("a file");
    };
    change(&daemon, "first");
    daemon.begin().await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-warmfiles-{}", std::process::id());
    let first = waiting(&daemon, "testvm", 1).await;
    // Before anybody had time to look.
    change(&daemon, "stricter");
    let config = pod("between", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(!first.contains(&id));
    remove(&mut client, &id).await.expect("its end");
    wait_for_async("the first to be discarded", LIMIT, || {
        let mut client = client.clone();
        async move {
            let report = report(&mut client, "testvm").await;
            let is_gone = report["discarded"]["handler"] == 1;
            is_gone.then_some(()).ok_or(report.to_string())
        }
    })
    .await;
    let second = waiting(&daemon, "testvm", 1).await;
    assert!(second.is_disjoint(&first));
    // One that was booted from the files as they are is given, and what it was booted from outlives the server.
    daemon.kill();
    daemon.launch().await;
    assert_eq!(waiting(&daemon, "testvm", 1).await, second);
    daemon.kill();
    change(&daemon, "as strict");
    daemon.launch().await;
    let config = pod("after", &daemon.path().join("logs"), &parent);
    let mut client = daemon.client.clone();
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(!second.contains(&id));
    remove(&mut client, &id).await.expect("its end");
    none_wait(&daemon);
    waiting(&daemon, "testvm", 0).await;
    nothing_left(&daemon, &parent).await;
    remove_cgroup(&parent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pod_asks_of_its_machine_is_not_lost_in_one_that_waited() {
    let table = testvm::handler("warm = 1\npod_annotations = [\"io.katacontainers.*\"]");
    let daemon = Daemon::start(&table).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-warmasks-{}", std::process::id());
    let name = "io.katacontainers.config.hypervisor.default_memory";
    let others = ["io.kubernetes.cri.sandbox-memory", "other"];
    for (number, (annotation, is_cold)) in [(name, true), (others[0], false), (others[1], false)]
        .into_iter()
        .enumerate()
    {
        let waited = waiting(&daemon, "testvm", 1).await;
        let logs = daemon.path().join("logs");
        let mut config = pod(&format!("asks{number}"), &logs, &parent);
        config.annotations = [(annotation.to_owned(), "4096".to_owned())].into();
        let id = run(&mut client, &config, "testvm").await.expect("a pod");
        let report = report(&mut client, "testvm").await;
        assert_eq!(waited.contains(&id), !is_cold, "{annotation}: {report}");
        assert_eq!(report["cold"]["spec"], 1, "{report}");
        let seen = testvm::record(&daemon, &id)["annotations"][annotation].clone();
        assert_eq!(seen == "4096", is_cold, "{annotation}: {seen}");
        remove(&mut client, &id).await.expect("its end");
    }
    // One that would have more memory than the machine waits for nobody, and leaves those that do.
    let waited = waiting(&daemon, "testvm", 1).await;
    let mut config = pod("greedy", &daemon.path().join("logs"), &parent);
    let linux = config.linux.as_mut().expect("linux");
    linux.resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 1 << 50,
        ..LinuxContainerResources::default()
    });
    // Whether it can be had cold is the kernel's matter.
    let greedy = run(&mut client, &config, "testvm").await;
    let counts = report(&mut client, "testvm").await;
    assert_eq!(counts["cold"]["too_large"], 1, "{counts}");
    if let Ok(id) = greedy {
        remove(&mut client, &id).await.expect("its end");
    }
    let config = pod("modest", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(waited.contains(&id));
    remove(&mut client, &id).await.expect("its end");
    none_wait(&daemon);
    waiting(&daemon, "testvm", 0).await;
    nothing_left(&daemon, &parent).await;
    remove_cgroup(&parent);
}

/// The cgroups of a guest's monitor, one a line.
fn cgroups_of(id: &str) -> String {
    let monitor = processes(&format!("vmm -name sandbox-{id}"));
    let pid = monitor[0].split(' ').nth(1).expect("a PID");
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

async fn wait_placed(id: &str, parent: &str, what: &str) {
    wait_for_async(&format!("the pod's cgroup {what}"), LIMIT, async || {
        let found = cgroups_of(id);
        let is_placed = found.contains(parent) && !found.contains("berth-waiting");
        is_placed.then_some(()).ok_or(found)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_waited_stays_within_its_pods_limits() {
    let daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-warmplace-{}", std::process::id());
    std::fs::create_dir_all(testvm::dir(&daemon)).expect("a directory");
    std::fs::write(testvm::dir(&daemon).join("place"), "").expect("a file");
    let table = testvm::handler("warm = 1");
    std::fs::write(daemon.path().join("config.toml"), table).expect("config.toml");
    let waited = waiting(&daemon, "testvm", 1).await;
    let config = pod("placed", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(waited.contains(&id));
    wait_placed(&id, &parent, "when it is taken").await;
    // The shim puts it back with each of these.
    let places = |least: usize| {
        let calls = testvm::calls(&daemon, "Place");
        let own = calls.iter().filter(|call| call["id"] == id.as_str());
        let count = own.count();
        assert!(count >= least, "{count}");
        count
    };
    let mut containers = Vec::new();
    for name in ["stays", "goes"] {
        let before = places(1);
        let container = launch(&mut client, &id, &config, shell(name, "exec sleep 1000"));
        containers.push(container.await.expect("a container"));
        places(before + 1);
        wait_placed(&id, &parent, "when a container has come").await;
    }
    let before = places(1);
    let request = UpdateContainerResourcesRequest {
        container_id: containers[0].clone(),
        linux: Some(LinuxContainerResources {
            cpu_shares: 512,
            ..LinuxContainerResources::default()
        }),
        ..UpdateContainerResourcesRequest::default()
    };
    let updated = client.update_container_resources(request).await;
    updated.expect("an update");
    places(before + 1);
    let found = cgroups_of(&id);
    assert!(!found.contains("berth-waiting"), "{found}");
    let before = places(1);
    let request = StopContainerRequest {
        container_id: containers[1].clone(),
        timeout: 0,
    };
    client.stop_container(request).await.expect("its end");
    let request = RemoveContainerRequest {
        container_id: containers[1].clone(),
    };
    client.remove_container(request).await.expect("removed");
    wait_for_async("the shim to put it back", LIMIT, async || {
        let calls = testvm::calls(&daemon, "Place");
        let count = calls
            .iter()
            .filter(|call| call["id"] == id.as_str())
            .count();
        (count > before).then_some(()).ok_or(count.to_string())
    })
    .await;
    wait_placed(&id, &parent, "when a container has gone").await;
    remove(&mut client, &id).await.expect("its end");
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

//! Containers in a guest: whom they see there, and what is counted there.

use std::collections::BTreeMap;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use serde_json::{Value, json};

use crate::daemon::{Daemon, LIMIT};
use crate::kill::nothing_left;
use crate::leftovers::{leftovers, processes, remove_cgroup};
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, shell};

fn pids(mode: NamespaceMode) -> Option<NamespaceOption> {
    Some(NamespaceOption {
        pid: mode.into(),
        ..NamespaceOption::default()
    })
}

fn container(name: &str, script: &str, mode: NamespaceMode) -> ContainerConfig {
    let mut container = shell(name, script);
    let linux = container.linux.as_mut().expect("linux");
    let security = linux.security_context.as_mut().expect("security");
    security.namespace_options = pids(mode);
    container
}

/// The PID namespace of a container's spec.
fn pid_namespace(record: &Value) -> Option<Value> {
    let all = record["spec"]["linux"]["namespaces"].as_array();
    let mut all = all.expect("namespaces").iter();
    all.find(|namespace| namespace["type"] == "pid").cloned()
}

/// The node's PIDs are the sandbox's in a guest, as under containerd: a namespace that is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_pid_is_the_guests() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-hostpid-{}", std::process::id());
    let mut config = pod("hostpid", &daemon.path().join("logs"), &parent);
    let linux = config.linux.as_mut().expect("linux");
    let security = linux.security_context.as_mut().expect("security");
    security.namespace_options = pids(NamespaceMode::Node);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert_eq!(pid_namespace(&testvm::record(&daemon, &id)), None);
    let vmm = processes(&format!("vmm -name sandbox-{id}"));
    let vmm = vmm[0].split(' ').nth(1).expect("a PID");
    let path = format!("/proc/{vmm}/ns/pid");
    let shared = json!({"type": "pid", "path": path});
    let mut made = BTreeMap::new();
    for (name, mode) in [
        ("node", NamespaceMode::Node),
        ("pod", NamespaceMode::Pod),
        ("own", NamespaceMode::Container),
    ] {
        let script = format!("exec sleep 54321 {}", made.len());
        let container = container(name, &script, mode);
        let container = launch(&mut client, &id, &config, container).await;
        made.insert(name, container.expect("starts"));
    }
    for (name, wanted) in [
        ("node", shared.clone()),
        ("pod", shared),
        ("own", json!({"type": "pid"})),
    ] {
        let record = testvm::record(&daemon, &made[name]);
        assert_eq!(pid_namespace(&record), Some(wanted), "{name}");
    }
    let script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    for (name, sees) in [("node", [true, true]), ("own", [false, false])] {
        let seen = exec(&mut client, &made[name], script).await.expect("runs");
        let others = ["sleep 54321 0", "sleep 54321 1"].map(|words| seen.contains(words));
        assert_eq!(others, sees, "{name}: {seen}");
    }
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// The figures are those of `tests/shim/figures.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_of_a_container_are_the_guests() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-metrics-{}", std::process::id());
    let config = pod("metrics", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let mut limited = shell("c", "exec sleep 10000");
    let linux = limited.linux.as_mut().expect("linux");
    linux.resources = Some(LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 1024,
        memory_limit_in_bytes: 200 << 20,
        ..LinuxContainerResources::default()
    });
    let container = launch(&mut client, &id, &config, limited).await;
    let container = container.expect("starts");
    for _ in 0..2 {
        testvm::run_out_of_memory(&daemon, &container).await;
    }
    let metrics = async || {
        let request = ListPodSandboxMetricsRequest::default();
        let mut client = daemon.client.clone();
        let answer = client.list_pod_sandbox_metrics(request).await;
        let mut pods = answer.expect("metrics").into_inner().pod_metrics;
        assert_eq!(pods.len(), 1);
        let mut containers = pods.remove(0).container_metrics;
        assert_eq!(containers.len(), 1);
        let metrics = containers.remove(0).metrics.into_iter();
        let metrics = metrics.map(|metric| {
            let mut name = metric.name;
            for label in metric.label_values.iter().skip(3) {
                name.push_str(&format!(" {label}"));
            }
            (name, metric.value.expect("a value").value)
        });
        metrics.collect::<BTreeMap<_, _>>()
    };
    // The shim publishes, and nobody waits for its events to be heard.
    wait_for_async("the events", LIMIT, async || {
        let events = metrics().await.get("container_oom_events_total").copied();
        if events == Some(2) {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })
    .await;
    let mut seen = metrics().await;
    for (name, wanted) in [
        ("cpu_usage_seconds_total", 70),
        ("cpu_user_seconds_total", 41),
        ("cpu_system_seconds_total", 29),
        ("cpu_cfs_periods_total", 90),
        ("cpu_cfs_throttled_periods_total", 20),
        ("cpu_cfs_throttled_seconds_total", 5),
        ("memory_usage_bytes", 100 << 20),
        ("memory_working_set_bytes", 70 << 20),
        ("memory_max_usage_bytes", 105 << 20),
        ("memory_failcnt", 8),
        ("memory_kernel_usage", 9 << 20),
        ("memory_cache", 40 << 20),
        ("memory_rss", 12 << 20),
        ("memory_mapped_file", 0),
        ("memory_swap", 0),
        ("memory_failures_total pgfault container", 0),
        ("memory_failures_total pgmajfault container", 0),
        ("oom_events_total", 2),
        ("processes", 17),
        ("threads", 17),
        ("threads_max", u64::MAX),
        ("spec_cpu_period", 100_000),
        ("spec_cpu_shares", 1024),
        ("spec_memory_limit_bytes", 200 << 20),
    ] {
        let name = format!("container_{name}");
        assert_eq!(seen.remove(&name), Some(wanted), "{name}");
    }
    // The monitor's, on the host: it has its streams and more.
    let files = seen.remove("container_file_descriptors");
    assert!(files.is_some_and(|files| files >= 3), "{files:?}");
    let others: Vec<&str> = seen.keys().map(String::as_str).collect();
    let limits = others.iter().filter(|name| name.contains("_spec_"));
    assert_eq!(limits.count(), 0, "{others:?}");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// A shim may insist on the type of its configuration, as gVisor's does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_has_the_type_that_its_handler_says() {
    use base64::Engine as _;
    let handler = "config = \"@dir@/config.toml\"\nconfig_type = \"io.example.v1.options\"";
    let mut daemon = Daemon::start(&testvm::handler(handler)).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-config-type-{}", std::process::id());
    let config = pod("typed", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let options = &testvm::record(&daemon, &id)["options"];
    assert_eq!(options["type_url"], "runtimeoptions.v1.Options");
    let value = options["value"].as_str().expect("base64");
    let value = base64::engine::general_purpose::STANDARD.decode(value);
    let path = daemon.path().join("config.toml").display().to_string();
    // Fields 1 and 2 of the message.
    let name = "io.example.v1.options";
    let mut wanted = vec![0x0a, u8::try_from(name.len()).expect("short")];
    wanted.extend(name.as_bytes());
    wanted.extend([0x12, u8::try_from(path.len()).expect("short")]);
    wanted.extend(path.as_bytes());
    assert_eq!(value.expect("base64"), wanted);
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// A shim tells of the sandbox before it is whole and after it is gone, which is no reason to warn anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pods_whole_life_gives_no_warning_of_events() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-quiet-{}", std::process::id());
    let config = pod("quiet", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let container = launch(&mut client, &id, &config, shell("c", "exec sleep 10000"));
    container.await.expect("starts");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    let log = daemon.log();
    assert!(!log.contains("an event of a shim was ignored"), "{log}");
    remove_cgroup(&parent);
}

/// A server that is told to stop while a machine boots takes it along: nobody knows of the pod, and the next server may come
/// late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_boots_at_the_servers_end_is_not_left() {
    for (handler, call) in [("", "Create"), ("sandboxer = \"shim\"", "StartSandbox")] {
        let dirs = "sandbox_dirs = [\"@dir@/vm/shared/sandboxes\"]";
        let mut daemon = Daemon::start(&testvm::handler(&format!("{dirs}\n{handler}"))).await;
        let parent = format!("berth-booting-{}-{call}", std::process::id());
        let config = pod("booting", &daemon.path().join("logs"), &parent);
        std::fs::create_dir_all(testvm::dir(&daemon)).expect("a directory");
        std::fs::write(testvm::dir(&daemon).join("slow"), "").expect("a file");
        let mut client = daemon.client.clone();
        let request = tokio::spawn(async move { run(&mut client, &config, "testvm").await });
        let dir = daemon.path().to_string_lossy().into_owned();
        wait_for_async("the machine", LIMIT, async || {
            let seen = testvm::calls(&daemon, call);
            let booted = processes("virtiofsd -name sandbox-");
            let booted = booted.iter().filter(|line| line.contains(&dir)).count();
            if seen.len() == 1 && booted == 1 {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await;
        // The client goes, as one whose time is over.
        request.abort();
        daemon.stop();
        let left = leftovers(&daemon, &parent);
        assert!(left.is_empty(), "{left:#?}\n{}", daemon.log());
        remove_cgroup(&parent);
    }
}

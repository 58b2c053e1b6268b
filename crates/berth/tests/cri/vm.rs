//! What a shim that runs virtual machines is told of a pod: by what containerd's CRI plugin would tell it.

use std::collections::BTreeMap;

use berth_cri_api::v1::*;
use serde_json::{Value, json};

use crate::daemon::{Daemon, IMAGE};
use crate::kill::nothing_left;
use crate::leftovers::remove_cgroup;
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, shell};

/// The annotations of the runtime's own that a record has.
fn annotations(record: &Value) -> BTreeMap<String, String> {
    let all = record["annotations"].as_object().expect("annotations");
    let all = all.iter();
    all.map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()))
        .collect()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A pod of 2 CPUs and 1 GiB, with overhead, that tries to be taken for another one's container in a larger machine.
fn sized(daemon: &Daemon, parent: &str) -> PodSandboxConfig {
    let mut config = pod("sized", &daemon.path().join("logs"), parent);
    let linux = config.linux.as_mut().expect("linux");
    linux.resources = Some(LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 200_000,
        cpu_shares: 2048,
        memory_limit_in_bytes: 1 << 30,
        ..LinuxContainerResources::default()
    });
    linux.overhead = Some(LinuxContainerResources {
        cpu_shares: 256,
        memory_limit_in_bytes: 160 << 20,
        ..LinuxContainerResources::default()
    });
    linux.sysctls = [("net.ipv4.ip_unprivileged_port_start", "77")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    config.annotations = [
        ("io.katacontainers.config.hypervisor.default_vcpus", "3"),
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-id", "another"),
        ("io.kubernetes.cri.sandbox-memory", "999999999999"),
        ("io.kubernetes.cri.container-name", "evil"),
        ("io.kubernetes.cri-o.ContainerType", "container"),
        ("io.kubernetes.cri-o.SandboxID", "another"),
        ("other", "kept back"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_sized_and_named_by_containerds_annotations() {
    let patterns = "pod_annotations = [\"io.*\"]\ncontainer_annotations = [\"*\"]\n";
    let mut daemon = Daemon::start(&testvm::handler(patterns)).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-sized-{}", std::process::id());
    let config = sized(&daemon, &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let sandbox = testvm::record(&daemon, &id);
    let of_pod = [
        ("io.kubernetes.cri.sandbox-id", id.as_str()),
        ("io.kubernetes.cri.sandbox-name", "sized"),
        ("io.kubernetes.cri.sandbox-namespace", "test"),
        ("io.kubernetes.cri.sandbox-uid", "uid-sized"),
        ("io.katacontainers.config.hypervisor.default_vcpus", "3"),
    ];
    let of_sandbox = [
        ("io.kubernetes.cri.container-type", "sandbox"),
        (
            "io.kubernetes.cri.podsandbox.image-name",
            "localhost/berth/pause",
        ),
        (
            "io.kubernetes.cri.sandbox-log-directory",
            config.log_directory.as_str(),
        ),
        ("io.kubernetes.cri.sandbox-cpu-period", "100000"),
        ("io.kubernetes.cri.sandbox-cpu-quota", "200000"),
        ("io.kubernetes.cri.sandbox-cpu-shares", "2048"),
        ("io.kubernetes.cri.sandbox-memory", "1073741824"),
    ];
    let wanted = texts(&[&of_pod[..], &of_sandbox].concat());
    assert_eq!(annotations(&sandbox), wanted);
    // The machine is not limited by its first process' cgroup, which would be in the guest.
    let resources = &sandbox["spec"]["linux"]["resources"];
    assert_eq!(resources["cpu"], json!({ "shares": 2 }), "{resources}");
    assert!(resources["memory"].is_null(), "{resources}");

    let mut container = shell("c", "exec sleep 10000");
    container.annotations = [
        (
            "io.kubernetes.cri.container-type".to_owned(),
            "sandbox".to_owned(),
        ),
        ("own".to_owned(), "yes".to_owned()),
    ]
    .into();
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let of_container = [
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.container-name", "c"),
        ("io.kubernetes.cri.image-name", IMAGE),
        ("own", "yes"),
    ];
    let record = testvm::record(&daemon, &container);
    let wanted = texts(&[&of_pod[..], &of_container].concat());
    assert_eq!(annotations(&record), wanted);
    // The guest's kernel gets the sysctls with the sandbox, once.
    let sysctl = json!({ "net.ipv4.ip_unprivileged_port_start": "77" });
    assert_eq!(sandbox["spec"]["linux"]["sysctl"], sysctl);
    assert!(record["spec"]["linux"]["sysctl"].is_null());
    // Nobody gave a name for it: /etc/hostname and HOSTNAME have the machine's.
    assert!(sandbox["spec"]["hostname"].is_null(), "{}", sandbox["spec"]);
    let own = nix::unistd::gethostname().expect("a name");
    let own = own.to_string_lossy();
    let seen = exec(&mut client, &container, "cat /etc/hostname; echo $HOSTNAME")
        .await
        .expect("an exec");
    assert_eq!(seen, format!("{own}\n{own}\n"));
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// Rules for devices, and how many nodes, of a privileged container.
async fn privileged(handler: &str) -> (Value, usize) {
    let mut daemon = Daemon::start(&testvm::handler(handler)).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-privileged-{}-{}", handler.len(), std::process::id());
    let mut config = pod("privileged", &daemon.path().join("logs"), &parent);
    let linux = config.linux.as_mut().expect("linux");
    linux
        .security_context
        .as_mut()
        .expect("security")
        .privileged = true;
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let mut container = shell("c", "exec sleep 10000");
    let linux = container.linux.as_mut().expect("linux");
    linux
        .security_context
        .as_mut()
        .expect("security")
        .privileged = true;
    let request = CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let created = client.create_container(request).await.expect("a container");
    // It need not run: a host's devices can't be made everywhere.
    let request = ContainerStatusRequest {
        container_id: created.into_inner().container_id,
        verbose: true,
    };
    let status = client.container_status(request).await.expect("a status");
    let info = &status.into_inner().info["info"];
    let info: Value = serde_json::from_str(info).expect("JSON");
    let spec = info["runtimeSpec"].clone();
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
    assert_eq!(spec["linux"]["maskedPaths"], json!([]));
    let nodes = spec["linux"]["devices"].as_array().map_or(0, Vec::len);
    (spec["linux"]["resources"]["devices"].clone(), nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_privileged_container_in_a_machine_has_no_devices_of_the_host() {
    let none = json!([{ "allow": false, "access": "rwm" }]);
    let all = json!([{ "allow": true, "access": "rwm" }]);
    assert_eq!(privileged("").await, (none, 0));
    let setting = "privileged_without_host_devices_all_devices_allowed = true\n";
    assert_eq!(privileged(setting).await, (all.clone(), 0));
    let (rules, nodes) = privileged("privileged_without_host_devices = false\n").await;
    assert_eq!(rules, all);
    assert!(nodes > 0);
}

/// One read-only file system is read-only all through in a guest, so what is mounted below it is given for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writable_mounts_below_a_read_only_one_are_given_for_themselves() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-below-{}", std::process::id());
    let config = pod("below", &daemon.path().join("logs"), &parent);
    let volume = daemon.path().join("volume");
    let below = volume.join("below");
    std::fs::create_dir_all(&below).expect("a directory");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), flags, None::<&str>).expect("a tmpfs");
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let mut container = shell("c", "exec sleep 10000");
    container.mounts.push(Mount {
        container_path: "/data".to_owned(),
        host_path: volume.to_string_lossy().into_owned(),
        readonly: true,
        ..Mount::default()
    });
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let record = testvm::record(&daemon, &container);
    let mounts = record["spec"]["mounts"].as_array().expect("mounts");
    let mounts = mounts.iter().filter(|mount| {
        mount["destination"]
            .as_str()
            .is_some_and(|d| d.starts_with("/data"))
    });
    let mounts: Vec<_> = mounts
        .map(|mount| {
            (
                mount["destination"].clone(),
                mount["source"].clone(),
                mount["options"].clone(),
            )
        })
        .collect();
    let wanted = [
        (
            json!("/data"),
            json!(volume),
            json!(["rbind", "rprivate", "ro"]),
        ),
        (
            json!("/data/below"),
            json!(below),
            json!(["rbind", "rprivate", "rw"]),
        ),
    ];
    assert_eq!(mounts, wanted);
    let script = "touch /data/below/x && echo written; touch /data/y 2>/dev/null || echo refused";
    let seen = exec(&mut client, &container, script)
        .await
        .expect("an exec");
    assert_eq!(seen, "written\nrefused\n");
    remove(&mut client, &id).await.expect("it can be removed");
    nix::mount::umount2(&below, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

//! What the CRI promises and gVisor does not do by itself, or does inside only.

use berth_cri_api::v1::*;

use crate::client::{options, pod, security, shell};
use crate::server::Server;

fn sleeper(name: &str, pid: NamespaceOption) -> ContainerConfig {
    let mut container = shell(name, &format!("exec sleep 10{name}"));
    security(&mut container).namespace_options = Some(pid);
    container
}

/// The commands that a container sees, once it sees `wanted`.
async fn sees(server: &mut Server, id: &str, wanted: &str) -> String {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let processes = server.exec(id, "ps -o args").await;
        if processes.contains(wanted) {
            return processes;
        }
        assert!(std::time::Instant::now() < end, "{wanted}: {processes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pid_namespaces_are_shared_as_asked() {
    let mut server = Server::start().await;
    let config = pod(&server, "pids");
    let id = server.run(&config, "runsc").await;
    let shared = options(NamespaceMode::Pod);
    let one = server
        .launch(&id, &config, sleeper("1", shared.clone()))
        .await;
    let two = server.launch(&id, &config, sleeper("2", shared)).await;
    let own = options(NamespaceMode::Container);
    let three = server.launch(&id, &config, sleeper("3", own)).await;
    let target = NamespaceOption {
        target_id: three.clone(),
        ..options(NamespaceMode::Target)
    };
    let four = server.launch(&id, &config, sleeper("4", target)).await;

    let processes = sees(&mut server, &one, "sleep 102").await;
    assert!(processes.contains("/pause"), "{processes}");
    assert!(
        sees(&mut server, &two, "sleep 101")
            .await
            .contains("/pause")
    );
    let processes = sees(&mut server, &four, "sleep 103").await;
    assert!(!processes.contains("/pause"), "{processes}");
    let processes = sees(&mut server, &three, "sleep 104").await;
    assert!(!processes.contains("sleep 101"), "{processes}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_mounts_are_as_read_only_as_asked() {
    let mut server = Server::start().await;
    let config = pod(&server, "paths");
    let id = server.run(&config, "runsc").await;
    let volume = server.path().join("volume");
    let below = volume.join("below");
    std::fs::create_dir_all(&below).unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        &below,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let mount = |path: &str, recursive| Mount {
        container_path: path.to_owned(),
        host_path: volume.to_string_lossy().into_owned(),
        readonly: true,
        recursive_read_only: recursive,
        ..Mount::default()
    };
    let mut container = shell("c", "sleep 1000");
    container.mounts = vec![mount("/plain", false), mount("/whole", true)];
    security(&mut container).masked_paths = vec!["/etc".to_owned()];
    security(&mut container).readonly_paths = vec!["/tmp".to_owned()];
    security(&mut container).supplemental_groups = vec![900, 70];
    let container = server.launch(&id, &config, container).await;
    for (script, wanted) in [
        ("touch /tmp/x", "Read-only"),
        ("touch /plain/x", "Read-only"),
        ("touch /plain/below/x", ""),
        ("touch /whole/below/y", "Read-only"),
        ("cat /etc/group", "No such file"),
        ("touch /root/x", ""),
    ] {
        let (code, text) = server.try_exec(&container, script, 30).await.unwrap();
        assert_eq!(code == 0, wanted.is_empty(), "{script}: {text}");
        assert!(text.contains(wanted), "{script}: {text}");
    }
    assert!(below.join("x").exists() && !below.join("y").exists());
    assert_eq!(server.exec(&container, "id -G").await, "0 70 900\n");

    let mut both_ways = shell("shared", "true");
    both_ways.mounts = vec![Mount {
        propagation: MountPropagation::PropagationBidirectional.into(),
        ..mount("/shared", false)
    }];
    let error = server
        .try_create(&id, &config, both_ways)
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    nix::mount::umount(&below).unwrap();
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_limited_by_its_filter_and_its_memory() {
    let mut server = Server::start().await;
    let config = pod(&server, "limits");
    let id = server.run(&config, "runsc").await;
    let profile = server.path().join("seccomp.json");
    std::fs::write(
        &profile,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let mut filtered = shell("filtered", "mkdir /tmp/x; echo $?");
    security(&mut filtered).seccomp = Some(SecurityProfile {
        profile_type: security_profile::ProfileType::Localhost.into(),
        localhost_ref: profile.to_string_lossy().into_owned(),
    });
    let filtered = server.launch(&id, &config, filtered).await;
    server.ended(&filtered).await;
    let log = server.log(&config, "filtered");
    assert!(log.contains("Operation not permitted\n1\n"), "{log}");

    // Commands executed later are under it, too.
    let mut lasting = shell("lasting", "sleep 1000");
    security(&mut lasting).seccomp = Some(SecurityProfile {
        profile_type: security_profile::ProfileType::Localhost.into(),
        localhost_ref: profile.to_string_lossy().into_owned(),
    });
    security(&mut lasting).run_as_user = Some(Int64Value { value: 1234 });
    let lasting = server.launch(&id, &config, lasting).await;
    let (code, text) = server
        .try_exec(&lasting, "id -u; mkdir /tmp/x", 30)
        .await
        .unwrap();
    assert!(code == 1 && text.starts_with("1234\n"), "{text}");
    assert!(text.contains("Operation not permitted"), "{text}");

    // With one that may use what it wants the pod would have no limit.
    server.stop_container(&lasting, 0).await;
    let mut hungry = shell("hungry", "dd if=/dev/zero of=/dev/null bs=64M count=1000");
    hungry.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        ..LinuxContainerResources::default()
    });
    let hungry = server.launch(&id, &config, hungry).await;
    let status = server.ended(&hungry).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled")
    );
    server.finish().await;
}

/// A limit in the cgroup that a process is in: files of version 1 and 2.
fn limit(pid: u32, controller: &str, one: &str, two: &str) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            wanted(controllers).then(|| path.to_owned())
        })
    };
    let file = match path(&|all| all.split(',').any(|name| name == controller)) {
        Some(path) => format!("/sys/fs/cgroup/{controller}{path}/{one}"),
        None => format!("/sys/fs/cgroup{}/{two}", path(&str::is_empty).unwrap()),
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_running_pod_change() {
    let mut server = Server::start().await;
    let config = pod(&server, "resized");
    let id = server.run(&config, "runsc").await;
    let limits = |memory_limit_in_bytes, cpu_quota| LinuxContainerResources {
        memory_limit_in_bytes,
        cpu_quota,
        cpu_period: 50_000,
        ..LinuxContainerResources::default()
    };
    let mut container = shell("c", "sleep 1000");
    container.linux.as_mut().unwrap().resources = Some(limits(64 << 20, 10_000));
    let container = server.launch(&id, &config, container).await;
    let pid = server.pid(&container).await;
    let memory = || -> i64 {
        limit(pid, "memory", "memory.limit_in_bytes", "memory.max")
            .parse()
            .unwrap()
    };
    let cpu = || limit(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    let (before, time) = (memory(), cpu());
    assert!(
        before > 64 << 20 && time.starts_with("20000"),
        "{before} {time}"
    );

    // A client that gives the pod no limits: they are the containers'.
    let request = UpdateContainerResourcesRequest {
        container_id: container.clone(),
        linux: Some(limits(96 << 20, 30_000)),
        ..UpdateContainerResourcesRequest::default()
    };
    server
        .client
        .update_container_resources(request)
        .await
        .unwrap();
    assert_eq!(memory(), before + (32 << 20));
    assert!(cpu().starts_with("60000"), "{}", cpu());
    let told = server.container(&container).await.resources.unwrap();
    assert_eq!(told.linux.unwrap().memory_limit_in_bytes, 96 << 20);

    // A kubelet gives the pod its own.
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: id,
        resources: Some(limits(256 << 20, 25_000)),
        overhead: None,
    };
    server
        .client
        .update_pod_sandbox_resources(request)
        .await
        .unwrap();
    assert_eq!(memory(), 256 << 20);
    assert!(cpu().starts_with("25000"), "{}", cpu());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_are_gvisors_own_or_refused() {
    let mut server = Server::start().await;
    let mut config = pod(&server, "sysctls");
    let sysctls = |config: &mut PodSandboxConfig, name: &str, value: &str| {
        config.linux.as_mut().unwrap().sysctls = [(name.to_owned(), value.to_owned())].into();
    };
    sysctls(&mut config, "net.ipv4.ip_local_port_range", "40000 41000");
    let id = server.run(&config, "runsc").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let read = "cat /proc/sys/net/ipv4/ip_local_port_range";
    let range = server.exec(&container, read).await;
    assert_eq!(
        range.split_whitespace().collect::<Vec<_>>(),
        ["40000", "41000"]
    );

    let mut config = pod(&server, "unknown");
    sysctls(&mut config, "kernel.shm_rmid_forced", "1");
    let error = server.try_run(&config, "runsc").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unimplemented, "{error}");
    assert!(error.message().contains("kernel.shm_rmid_forced"));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_network_pod_sees_the_hosts_sockets() {
    let mut server = Server::start().await;
    let mut config = pod(&server, "net");
    let security = config.linux.as_mut().unwrap().security_context.as_mut();
    security.unwrap().namespace_options = Some(NamespaceOption {
        network: NamespaceMode::Node.into(),
        ..options(NamespaceMode::Container)
    });
    let id = server.run(&config, "runsc").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let table = server.exec(&container, "cat /proc/net/tcp").await;
    assert!(table.contains(&format!("0100007F:{port:04X}")), "{table}");
    server.finish().await;
}

/// runsc gives its streams to the user that its sandbox runs as; the host's /dev/null is not among them.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_null_device_stays_roots() {
    std::os::unix::fs::chown("/dev/null", Some(0), Some(0)).unwrap();
    let mut server = Server::start().await;
    let config = pod(&server, "null");
    let id = server.run(&config, "runsc").await;
    let container = server.launch(&id, &config, shell("c", "sleep 100")).await;
    assert_eq!(server.exec(&container, "cat; echo read").await, "read\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/dev/null").unwrap());
    assert_eq!(owner, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_pod_stays_in_runscs_directory() {
    let mut server = Server::start().await;
    let root = server.path().join("r/cri/runtime/runsc");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&root).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let config = pod(&server, "locks");
    let id = server.run(&config, "runsc").await;
    let one = server.launch(&id, &config, shell("1", "sleep 1000")).await;
    server.launch(&id, &config, shell("2", "sleep 1000")).await;
    assert!(
        names().iter().any(|name| name.contains(&one)),
        "runsc has its notes somewhere else: {:?}",
        names()
    );
    // One in order, the other with its pod.
    let request = RemoveContainerRequest { container_id: one };
    server.client.remove_container(request).await.unwrap();
    let pod_sandbox_id = id;
    let request = StopPodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
    };
    server.client.stop_pod_sandbox(request).await.unwrap();
    let request = RemovePodSandboxRequest { pod_sandbox_id };
    server.client.remove_pod_sandbox(request).await.unwrap();
    assert_eq!(names(), Vec::<String>::new());
    server.finish().await;
}

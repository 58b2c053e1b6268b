//! Whole specs as runtimes get them, on a made-up host.

#![allow(clippy::expect_used)] // a test that can not go on says why and fails

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use berth_oci::cgroup::{CgroupMode, Cgroups};
use berth_oci::runtime::RuntimeKind;
use berth_oci::{
    CgroupDriver, Container, Host, HugepageLimit, IdMapping, Mount, Namespace, PodSize,
    Propagation, Rlimit, Sandbox, SeccompProfile, SpecError, UserNamespace, container_spec,
    exec_process, sandbox_spec,
};

fn host(mode: CgroupMode) -> Host {
    let controllers: BTreeSet<String> = ["cpu", "cpuset", "memory", "pids"]
        .map(str::to_owned)
        .into();
    Host {
        cgroups: Cgroups {
            mode,
            controllers,
            mounts: BTreeMap::new(),
            unified: None,
        },
        capabilities: [
            "CHOWN",
            "KILL",
            "NET_ADMIN",
            "NET_RAW",
            "SETUID",
            "SYS_ADMIN",
        ]
        .map(str::to_owned)
        .into(),
        min_oom_score_adj: 0,
        apparmor: false,
        selinux: false,
        swap_accounting: false,
        max_open_files: 4096,
    }
}

fn sandbox() -> Sandbox {
    Sandbox {
        id: "sandbox1".into(),
        name: "web".into(),
        namespace: "default".into(),
        uid: "1234".into(),
        hostname: "web".into(),
        network: Namespace::Path("/run/netns/web".into()),
        ipc: Namespace::Path("/run/ipcns/web".into()),
        uts: Namespace::Path("/run/utsns/web".into()),
        cgroup_parent: "/kubepods/pod1234".into(),
        sysctls: [("net.ipv4.ip_unprivileged_port_start".into(), "0".into())].into(),
        shm: Some("/run/berth/sandbox1/shm".into()),
        ..Sandbox::default()
    }
}

fn container() -> Container {
    let mut c = Container {
        id: "container1".into(),
        name: "nginx".into(),
        image: "nginx:1".into(),
        ..Container::default()
    };
    c.process.args = ["nginx", "-g", "daemon off;"].map(str::to_owned).to_vec();
    c.process.env = vec!["A=1".into(), "PATH=/bin".into()];
    c.process.user.uid = 101;
    c.process.user.additional_gids = vec![5, 6];
    c.process.rlimits = vec![Rlimit {
        name: "RLIMIT_NOFILE".into(),
        soft: 1024,
        hard: 1 << 20,
    }];
    c.resources.cpu_shares = 512;
    c.resources.cpu_quota = 50_000;
    c.resources.cpu_period = 100_000;
    c.resources.memory_limit = 128 << 20;
    c.resources.memory_swap_limit = 128 << 20;
    c.resources.oom_score_adj = -997;
    c.resources.hugepage_limits = vec![HugepageLimit {
        page_size: "2MB".into(),
        limit: 0,
    }];
    c.resources.unified = [("memory.high".into(), "100".into())].into();
    c.security.no_new_privs = true;
    c.security.add_capabilities = vec!["NET_ADMIN".into(), "SYS_TIME".into()];
    c.security.drop_capabilities = vec!["CAP_KILL".into()];
    c.security.ambient_capabilities = vec!["net_admin".into()];
    c.mounts = vec![
        Mount {
            container_path: "/data/sub".into(),
            host_path: "/srv/sub".into(),
            ..Mount::default()
        },
        Mount {
            container_path: "/data".into(),
            host_path: "/srv/data".into(),
            readonly: true,
            ..Mount::default()
        },
    ];
    c.annotations.insert("example.com/x".into(), "y".into());
    c
}

/// Sets in JSON have no order: sort them, so that goldens have one.
fn sorted(spec: &berth_oci::Spec) -> serde_json::Value {
    let mut value = serde_json::to_value(spec).expect("json");
    if let Some(sets) = value
        .pointer_mut("/process/capabilities")
        .and_then(|c| c.as_object_mut())
    {
        for set in sets.values_mut().filter_map(|s| s.as_array_mut()) {
            set.sort_by_key(ToString::to_string);
        }
    }
    // Objects of serde_json are ordered by key already.
    value
}

#[test]
fn a_pods_container_under_runc() {
    let spec = container_spec(
        &host(CgroupMode::Hybrid),
        RuntimeKind::Runc,
        &sandbox(),
        &container(),
    )
    .expect("spec");
    insta::assert_json_snapshot!(sorted(&spec));
}

#[test]
fn a_sandbox_under_gvisor() {
    let mut pause = Container {
        id: "sandbox1".into(),
        ..Container::default()
    };
    pause.process.args = vec!["/pause".into()];
    pause.security.seccomp = SeccompProfile::Unconfined;
    let spec = sandbox_spec(
        &host(CgroupMode::Hybrid),
        RuntimeKind::Runsc,
        &sandbox(),
        &pause,
    )
    .expect("spec");
    insta::assert_json_snapshot!(sorted(&spec));
}

fn annotations(spec: &berth_oci::Spec) -> BTreeMap<String, String> {
    let annotations = spec.annotations().clone().unwrap_or_default();
    annotations.into_iter().collect()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// The names and forms that containerd's CRI plugin gives to shims.
#[test]
fn shims_get_containerds_annotations() {
    let host = host(CgroupMode::Hybrid);
    let mut sandbox = Sandbox {
        log_directory: "/var/log/pods/web".into(),
        image: "pause:1".into(),
        size: Some(PodSize {
            cpu_quota: 200_000,
            cpu_period: 100_000,
            cpu_shares: 2048,
            memory_limit: 0,
        }),
        ..sandbox()
    };
    let of_pod = [
        ("io.kubernetes.cri.sandbox-id", "sandbox1"),
        ("io.kubernetes.cri.sandbox-name", "web"),
        ("io.kubernetes.cri.sandbox-namespace", "default"),
        ("io.kubernetes.cri.sandbox-uid", "1234"),
    ];
    let of_sandbox = [
        ("io.kubernetes.cri.container-type", "sandbox"),
        (
            "io.kubernetes.cri.sandbox-log-directory",
            "/var/log/pods/web",
        ),
        ("io.kubernetes.cri.podsandbox.image-name", "pause:1"),
    ];
    // Zero where the client announced limits, but not this one.
    let size = [
        ("io.kubernetes.cri.sandbox-cpu-period", "100000"),
        ("io.kubernetes.cri.sandbox-cpu-quota", "200000"),
        ("io.kubernetes.cri.sandbox-cpu-shares", "2048"),
        ("io.kubernetes.cri.sandbox-memory", "0"),
    ];
    let mut pause = Container {
        id: "sandbox1".into(),
        ..Container::default()
    };
    pause.process.args = vec!["/pause".into()];
    let spec =
        |sandbox: &Sandbox| sandbox_spec(&host, RuntimeKind::Vm, sandbox, &pause).expect("spec");
    let sized = [&of_pod[..], &of_sandbox, &size].concat();
    assert_eq!(annotations(&spec(&sandbox)), texts(&sized));
    let of_container = [
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.container-name", "nginx"),
        ("io.kubernetes.cri.image-name", "nginx:1"),
        ("example.com/x", "y"),
    ];
    let made = container_spec(&host, RuntimeKind::Vm, &sandbox, &container()).expect("spec");
    assert_eq!(
        annotations(&made),
        texts(&[&of_pod[..], &of_container].concat())
    );
    sandbox.size = None;
    assert_eq!(
        annotations(&spec(&sandbox)),
        texts(&[&of_pod[..], &of_sandbox].concat())
    );
    // Empty ones are there, too.
    sandbox.uid = String::new();
    sandbox.log_directory = String::new();
    let given = annotations(&spec(&sandbox));
    assert_eq!(given["io.kubernetes.cri.sandbox-uid"], "");
    assert_eq!(given["io.kubernetes.cri.sandbox-log-directory"], "");
}

/// Whatever a handler lets through, a pod can't make itself another one's container or its machine larger.
#[test]
fn a_pods_annotations_never_pass_for_the_runtimes_own() {
    let host = host(CgroupMode::Hybrid);
    let attack: BTreeMap<String, String> = [
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri.sandbox-id",
        "io.kubernetes.cri.sandbox-memory",
        "io.kubernetes.cri.sandbox-cpu-quota",
        "io.kubernetes.cri.sandbox-log-directory",
        "io.kubernetes.cri.container-name",
        "io.kubernetes.cri.image-name",
        "io.kubernetes.cri.podsandbox.image-name",
        "io.kubernetes.cri.anything",
        "io.kubernetes.cri-o.ContainerType",
        "io.kubernetes.cri-o.SandboxID",
        "io.kubernetes.docker.type",
        "io.kubernetes.sandbox.id",
    ]
    .map(|name| (name.to_owned(), "evil".to_owned()))
    .into();
    let sandbox = Sandbox {
        annotations: attack.clone(),
        ..sandbox()
    };
    let mut container = container();
    container.annotations.extend(attack);
    for kind in [RuntimeKind::Runc, RuntimeKind::Runsc, RuntimeKind::Vm] {
        for spec in [
            container_spec(&host, kind, &sandbox, &container),
            sandbox_spec(&host, kind, &sandbox, &container),
        ] {
            let given = annotations(&spec.expect("spec"));
            assert!(given.values().all(|value| value != "evil"), "{given:?}");
            assert_eq!(given["io.kubernetes.cri.sandbox-id"], "sandbox1");
            assert_eq!(given["example.com/x"], "y");
        }
    }
}

#[test]
fn a_privileged_container_can_do_without_the_hosts_devices() {
    let host = host(CgroupMode::Hybrid);
    let made = |all_devices_allowed| {
        let mut privileged = container();
        privileged.security.privileged = true;
        privileged.security.privileged_without_host_devices = true;
        privileged.security.all_devices_allowed = all_devices_allowed;
        let spec = container_spec(&host, RuntimeKind::Vm, &sandbox(), &privileged).expect("spec");
        let linux = spec.linux().clone().expect("linux");
        let rules = linux
            .resources()
            .clone()
            .expect("resources")
            .devices()
            .clone();
        assert!(linux.devices().is_none(), "no nodes of the host");
        assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
        serde_json::to_value(rules).expect("json")
    };
    assert_eq!(
        made(false),
        serde_json::json!([{"allow": false, "access": "rwm"}])
    );
    assert_eq!(
        made(true),
        serde_json::json!([{"allow": true, "access": "rwm"}])
    );
}

#[test]
fn user_namespace_systemd_and_cgroup_v2() {
    let ids = vec![IdMapping {
        container_id: 0,
        host_id: 65536,
        length: 65536,
    }];
    let sandbox = Sandbox {
        user: Some(UserNamespace {
            path: Some("/run/userns/web".into()),
            uids: ids.clone(),
            gids: ids,
        }),
        cgroup_parent: "kubepods-pod1234.slice".into(),
        cgroup_driver: CgroupDriver::Systemd,
        ..sandbox()
    };
    let spec = container_spec(
        &host(CgroupMode::V2),
        RuntimeKind::Crun,
        &sandbox,
        &container(),
    )
    .expect("spec");
    let value = sorted(&spec);
    insta::assert_json_snapshot!(value["linux"]);
}

#[test]
fn privileged_with_the_hosts_namespaces() {
    let mut c = container();
    c.security.privileged = true;
    c.security.privileged_without_host_devices = true;
    c.pid = Namespace::Host;
    let sandbox = Sandbox {
        network: Namespace::Host,
        ipc: Namespace::Host,
        uts: Namespace::Host,
        ..sandbox()
    };
    let spec =
        container_spec(&host(CgroupMode::V1), RuntimeKind::Runc, &sandbox, &c).expect("spec");
    let value = sorted(&spec);
    assert_eq!(
        value["process"]["capabilities"]["bounding"]
            .as_array()
            .map(Vec::len),
        Some(6)
    );
    assert_eq!(
        value["linux"]["maskedPaths"].as_array().map(Vec::len),
        Some(0)
    );
    assert_eq!(
        value["linux"]["namespaces"],
        serde_json::json!([{"type": "mount"}])
    );
    assert_eq!(
        value["linux"]["resources"]["devices"],
        serde_json::json!([{"allow": false, "access": "rwm"}])
    );
    assert!(value["hostname"].is_null() && value["linux"]["seccomp"].is_null());
}

#[test]
fn refusals_say_what_and_why() {
    let host = host(CgroupMode::Hybrid);
    let refused = |kind, change: &dyn Fn(&mut Sandbox, &mut Container)| {
        let (mut s, mut c) = (sandbox(), container());
        change(&mut s, &mut c);
        container_spec(&host, kind, &s, &c).expect_err("refused")
    };
    let rro = |c: &mut Container| {
        c.mounts = vec![Mount {
            container_path: PathBuf::from("/m"),
            readonly: true,
            recursive_read_only: true,
            ..Mount::default()
        }];
    };
    let error = refused(RuntimeKind::Runc, &|_, c| c.process.args.clear());
    assert!(matches!(error, SpecError::NoCommand));
    let error = refused(RuntimeKind::Runc, &|_, c| {
        c.security.add_capabilities = vec!["FLY".into()]
    });
    assert!(error.to_string().contains("FLY"));
    let error = refused(RuntimeKind::Runc, &|_, c| {
        rro(c);
        c.mounts[0].propagation = Propagation::HostToContainer;
        c.mounts[0].host_path = "/proc".into();
    });
    assert!(
        matches!(
            error,
            SpecError::RecursiveReadOnly(_) | SpecError::Propagation { .. }
        ),
        "{error}"
    );
    let error = refused(RuntimeKind::Runsc, &|s, _| {
        s.user = Some(UserNamespace::default())
    });
    assert!(matches!(error, SpecError::UserNamespaces));
    let error = refused(RuntimeKind::Runc, &|_, c| {
        c.cdi_devices = vec!["vendor.com/gpu=0".into()]
    });
    assert!(error.to_string().contains("vendor.com/gpu=0"));
}

#[test]
fn an_exec_is_the_containers_process_with_other_arguments() {
    let spec = container_spec(
        &host(CgroupMode::Hybrid),
        RuntimeKind::Runc,
        &sandbox(),
        &container(),
    )
    .expect("spec");
    let process = exec_process(&spec, &["ls".into()], true);
    assert_eq!(process.args().as_deref(), Some(&["ls".to_owned()][..]));
    assert_eq!(process.terminal(), Some(true));
    assert!(process.env().iter().flatten().any(|e| e == "TERM=xterm"));
    assert_eq!(process.user().uid(), 101);
    assert_eq!(
        process.capabilities(),
        spec.process().as_ref().expect("process").capabilities()
    );
}

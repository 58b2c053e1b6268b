//! A scene for tests: one pod on the host's kernel, one in a sandbox.

use std::sync::Arc;

use berth_cri_api::v1::{ContainerStats, CpuUsage, MemoryUsage, UInt64Value};
use jiff::Timestamp;

use crate::usage::{CgroupUsage, ContainerScene, InterfaceUsage, MachineUsage, PodScene, Scene};

/// A name that would end a label's value and add a sample.
pub(super) const EVIL: &str = "a\"} 1\nnode_cpu_usage_seconds_total 666\n#";

fn container(name: &str) -> ContainerScene {
    ContainerScene {
        name: name.to_owned(),
        id: format!("id-{name}"),
        image: "busybox:1".to_owned(),
        started: Timestamp::from_second(1_699_999_000).ok(),
        path: format!("/kubepods/podu1/id-{name}"),
        cgroup: None,
        reported: None,
    }
}

fn pod(name: &str, container: ContainerScene) -> PodScene {
    PodScene {
        pod: Arc::default(),
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        sandbox_id: format!("sandbox-{name}"),
        handler: String::new(),
        sandbox_created: None,
        path: format!("/kubepods/pod{name}"),
        cgroup: Some(CgroupUsage {
            cpu_ns: Some(9_000_000_000),
            working_set: Some(90),
            ..CgroupUsage::default()
        }),
        sandbox_cgroup: None,
        containers: vec![container],
        interfaces: vec![InterfaceUsage {
            name: "eth0".to_owned(),
            receive: [Some(1), Some(2), Some(3), None],
            transmit: [Some(5), Some(6), Some(7), Some(8)],
        }],
        processes: Some(3),
    }
}

/// The scene, at 1700000000 seconds.
pub(super) fn scene() -> Scene {
    let plain = ContainerScene {
        cgroup: Some(CgroupUsage {
            cpu_ns: Some(1_500_000_000),
            working_set: Some(4096),
            rss: Some(4000),
            memory_usage: Some(5000),
            throttled_ns: Some(20_000_000),
            ..CgroupUsage::default()
        }),
        ..container("plain")
    };
    let at = 1_699_999_995_000_000_000;
    let of = |value| Some(UInt64Value { value });
    let guest = ContainerScene {
        reported: Some(ContainerStats {
            cpu: Some(CpuUsage {
                timestamp: at,
                usage_core_nano_seconds: of(250_000_000),
                ..CpuUsage::default()
            }),
            memory: Some(MemoryUsage {
                timestamp: at,
                working_set_bytes: of(77),
                usage_bytes: of(78),
                ..MemoryUsage::default()
            }),
            ..ContainerStats::default()
        }),
        ..container("guest")
    };
    Scene {
        at: Timestamp::from_second(1_700_000_000).unwrap(),
        machine: MachineUsage {
            cpu_ns: 2_000_000_000,
            total: 1000,
            available: 400,
            swap_total: 10,
            swap_free: 5,
            ..MachineUsage::default()
        },
        groups: Vec::new(),
        pods: vec![pod("web", plain), pod("boxed", guest)],
        is_current: true,
    }
}

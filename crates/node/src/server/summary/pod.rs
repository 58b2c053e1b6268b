//! Pods and containers.

use berth_tree::Usage as TreeUsage;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::form::{cpu, figures, io, memory, nanos, network, of_cgroup, of_fs, put, swap};
use crate::usage::{ContainerScene, DiskUsage, FsUsage, PodScene, Rates, Scene};

pub(super) fn of_pod(
    rates: &Rates,
    pod: &PodScene,
    scene: &Scene,
    disk: &DiskUsage,
    node: Option<FsUsage>,
    layers: Option<FsUsage>,
) -> Value {
    let (at, name) = (scene.at, format!("{}/", pod.uid));
    let mut out = match &pod.cgroup {
        Some(cgroup) => of_cgroup(rates, &name, at, cgroup),
        None => {
            let mut out = Map::new();
            put(
                &mut out,
                "cpu",
                cpu(rates, &name, nanos(at), pod.cpu_ns(), None),
            );
            let used = [None, None, pod.working_set(), None, None, None];
            put(&mut out, "memory", memory(nanos(at), used, None));
            out
        }
    };
    let about = json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid});
    put(&mut out, "podRef", Some(about));
    let started = pod
        .pod
        .status
        .as_ref()
        .and_then(|s| s.start_time.as_ref())
        .map(|t| t.0);
    put(
        &mut out,
        "startTime",
        started.or(pod.sandbox_created).map(|t| t.to_string()),
    );
    put(&mut out, "network", network(at, &pod.interfaces));
    let processes = pod
        .cgroup
        .as_ref()
        .and_then(|cgroup| cgroup.pids)
        .or(pod.processes);
    put(
        &mut out,
        "process_stats",
        processes.map(|count| json!({"process_count": count})),
    );
    let containers = pod.containers.iter();
    let containers: Vec<Value> = containers
        .map(|c| of_container(rates, pod, c, at, disk.logs.get(&c.name), node, layers))
        .collect();
    put(&mut out, "containers", Some(containers));
    if let Some(fs) = node {
        let volumes: Vec<Value> = disk
            .volumes
            .iter()
            .map(|(name, used)| {
                let mut volume = of_fs(fs, at, Some(used.bytes), Some(used.inodes));
                volume["name"] = json!(name);
                volume
            })
            .collect();
        put(&mut out, "volume", Some(volumes).filter(|v| !v.is_empty()));
        let (bytes, inodes) = on_disk(pod, disk);
        put(
            &mut out,
            "ephemeral-storage",
            Some(of_fs(fs, at, Some(bytes), Some(inodes))),
        );
    }
    Value::Object(out)
}

/// What a pod holds in volumes, logs and writable layers, as far as it is known.
fn on_disk(pod: &PodScene, disk: &DiskUsage) -> (u64, u64) {
    let mut all = TreeUsage::default();
    disk.volumes
        .values()
        .chain(disk.logs.values())
        .for_each(|part| all.add(*part));
    let layers = pod
        .containers
        .iter()
        .filter_map(|c| c.reported.as_ref()?.writable_layer.as_ref());
    layers.fold((all.bytes, all.inodes), |(bytes, inodes), layer| {
        let value = |v: &Option<berth_cri_api::v1::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
        (
            bytes.saturating_add(value(&layer.used_bytes)),
            inodes.saturating_add(value(&layer.inodes_used)),
        )
    })
}

fn of_container(
    rates: &Rates,
    pod: &PodScene,
    container: &ContainerScene,
    at: Timestamp,
    logs: Option<&TreeUsage>,
    node: Option<FsUsage>,
    layers: Option<FsUsage>,
) -> Value {
    let time = container.taken(at);
    let mut out = Map::new();
    put(&mut out, "name", Some(container.name.as_str()));
    put(
        &mut out,
        "startTime",
        container.started.map(|t| t.to_string()),
    );
    let name = format!("{}/{}", pod.uid, container.id);
    let psi = container
        .cgroup
        .as_ref()
        .map(|c| c.pressures)
        .unwrap_or_default();
    put(
        &mut out,
        "cpu",
        cpu(rates, &name, time, container.cpu_ns(), psi.cpu),
    );
    let reported = container.reported.as_ref();
    let used = match &container.cgroup {
        Some(cgroup) => figures(cgroup),
        None => {
            let memory = reported.and_then(|r| r.memory.as_ref());
            let of = |value: fn(&berth_cri_api::v1::MemoryUsage) -> Option<u64>| value(memory?);
            [
                of(|m| Some(m.available_bytes.as_ref()?.value)),
                container.memory_usage(),
                container.working_set(),
                container.rss(),
                of(|m| Some(m.page_faults.as_ref()?.value)),
                of(|m| Some(m.major_page_faults.as_ref()?.value)),
            ]
        }
    };
    put(&mut out, "memory", memory(time, used, psi.memory));
    put(&mut out, "io", io(at, &psi));
    let limit = container.cgroup.as_ref().and_then(|c| c.swap_limit);
    put(
        &mut out,
        "swap",
        container.swap().map(|used| swap(at, used, limit)),
    );
    if let Some((layer, fs)) = reported.and_then(|r| r.writable_layer.as_ref()).zip(layers) {
        let value = |v: &Option<berth_cri_api::v1::UInt64Value>| v.as_ref().map(|v| v.value);
        let rootfs = of_fs(fs, at, value(&layer.used_bytes), value(&layer.inodes_used));
        put(&mut out, "rootfs", Some(rootfs));
    }
    if let Some((used, fs)) = logs.zip(node) {
        put(
            &mut out,
            "logs",
            Some(of_fs(fs, at, Some(used.bytes), Some(used.inodes))),
        );
    }
    Value::Object(out)
}

//! What containers and pods use.

mod asked;
mod network;
mod pressure;
mod rate;

pub(crate) use asked::Asked;
pub(crate) use network::interfaces;
pub(crate) use rate::Rate;

use berth_cri_api::v1::{
    ContainerAttributes, ContainerStats, ContainerStatsFilter, CpuUsage, FilesystemIdentifier,
    FilesystemUsage, IoUsage, LinuxPodSandboxStats, MemoryUsage, PodSandboxAttributes,
    PodSandboxConfig, PodSandboxStats, PodSandboxStatsFilter, ProcessUsage, PsiStats, SwapUsage,
    UInt64Value,
};
use berth_shim::client::Stats;

use crate::container::{self, Container};
use crate::engine::{Shared, blocking, now};
use crate::error::CriError;
use crate::record::ContainerPhase;
use crate::sandbox::Sandbox;

fn value(value: Option<u64>) -> Option<UInt64Value> {
    value.map(|value| UInt64Value { value })
}

/// One container's; of one that does not run only the writable layer.
pub(crate) async fn of_container(
    engine: &Shared,
    container: &Container,
) -> Result<ContainerStats, CriError> {
    Ok(look(engine, container).await?.0)
}

/// As [`of_container`], with the runtime's own figures.
async fn look(
    engine: &Shared,
    container: &Container,
) -> Result<(ContainerStats, Option<Stats>), CriError> {
    let record = container.record();
    let taken = if record.phase == ContainerPhase::Running {
        let sandbox = engine.sandboxes.get(&record.sandbox_id)?;
        let shim = sandbox.shim()?;
        container.asked.stats(&shim, &container.id).await
    } else {
        None
    };
    let usage = written(engine, container).await.ok();
    let timestamp = now();
    let (stats, taken) = (taken.map(|t| t.stats), taken.map_or(timestamp, |t| t.at));
    let config = &record.config.0;
    let cgroup = berth_oci::cgroup::directory(&record.cgroup);
    let pressure = |resource| pressure::of(&engine.host.cgroups, &cgroup, resource);
    let answer = ContainerStats {
        attributes: Some(ContainerAttributes {
            id: record.id.clone(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        cpu: stats.map(|stats| CpuUsage {
            psi: pressure("cpu"),
            ..cpu(&stats, taken, &container.cpu)
        }),
        memory: stats.map(|stats| MemoryUsage {
            psi: pressure("memory"),
            ..memory(&stats, taken)
        }),
        io: stats.and(pressure("io")).map(|psi| IoUsage {
            timestamp,
            psi: Some(psi),
        }),
        writable_layer: usage.map(|usage| FilesystemUsage {
            timestamp,
            fs_id: Some(FilesystemIdentifier {
                mountpoint: engine.images.root().to_string_lossy().into_owned(),
            }),
            used_bytes: value(Some(usage.bytes)),
            inodes_used: value(Some(usage.inodes)),
        }),
        swap: stats.and_then(|stats| {
            Some(SwapUsage {
                timestamp,
                swap_available_bytes: None,
                swap_usage_bytes: value(Some(stats.swap_usage?)),
            })
        }),
    };
    Ok((answer, stats))
}

/// Entries of a container's volumes that are looked at in one go.
const ENTRIES: usize = 20_000;
/// Stands for what is nested too deep to be counted.
const BEYOND_COUNT: u64 = 1 << 60;

/// What a container has written: its layer, and the volumes that its image declares, which are as little limited by
/// anything else.
async fn written(engine: &Shared, container: &Container) -> Result<berth_image::Usage, CriError> {
    let (images, id) = (engine.images.clone(), container.id.clone());
    let volumes = container::declared_volumes(engine, &id);
    let meter = std::sync::Arc::clone(&container.volumes);
    blocking(move || {
        let mut usage = images.snapshot_usage(&id)?;
        let mut meter = meter.lock();
        match meter.step(&volumes, ENTRIES) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(usage),
            Err(error) => return Err(CriError::io("look at", volumes)(error)),
        }
        let more = meter.usage();
        usage += berth_image::Usage {
            bytes: if more.hidden {
                BEYOND_COUNT
            } else {
                more.bytes
            },
            inodes: more.inodes,
        };
        Ok(usage)
    })
    .await
}

fn cpu(stats: &Stats, timestamp: i64, rate: &Rate) -> CpuUsage {
    CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(stats.cpu_usage_ns),
        usage_nano_cores: value(
            stats
                .cpu_usage_ns
                .and_then(|used| rate.update(timestamp, used)),
        ),
        psi: None,
    }
}

fn memory(stats: &Stats, timestamp: i64) -> MemoryUsage {
    let available = match (stats.memory_limit, stats.memory_working_set) {
        (Some(limit), Some(used)) => Some(limit.saturating_sub(used)),
        _ => None,
    };
    MemoryUsage {
        timestamp,
        working_set_bytes: value(stats.memory_working_set),
        available_bytes: value(available),
        usage_bytes: value(stats.memory_usage),
        rss_bytes: value(stats.memory_rss),
        page_faults: value(stats.page_faults),
        major_page_faults: value(stats.major_page_faults),
        psi: None,
    }
}

/// Those of all containers that a filter lets through; one that vanishes meanwhile is left out.
pub(crate) async fn of_containers(
    engine: &Shared,
    filter: Option<ContainerStatsFilter>,
) -> Vec<ContainerStats> {
    let filter = filter.unwrap_or_default();
    let chosen: Vec<_> = engine
        .containers
        .all()
        .into_iter()
        .filter(|container| {
            let record = container.record();
            let labels = &record.config.0.labels;
            !matches!(record.phase, ContainerPhase::Exited(_))
                && record.id.starts_with(&filter.id)
                && record.sandbox_id.starts_with(&filter.pod_sandbox_id)
                && filter
                    .label_selector
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
        })
        .collect();
    let stats = chosen
        .iter()
        .map(|container| of_container(engine, container));
    futures::future::join_all(stats)
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// A pod's: its containers' summed, and its interfaces.
pub(crate) async fn of_sandbox(
    engine: &Shared,
    sandbox: &Sandbox,
) -> Result<PodSandboxStats, CriError> {
    let record = sandbox.record();
    let config = &record.config.0;
    let mut containers = Vec::new();
    let mut parts = Vec::new();
    let mut running = container::of_sandbox(engine, &sandbox.id);
    running.retain(|container| container.phase() == ContainerPhase::Running);
    let looks = running.iter().map(|container| look(engine, container));
    for look in futures::future::join_all(looks).await {
        let (answer, stats) = look?;
        containers.push(answer);
        parts.extend(stats);
    }
    if record.runtime.gvisor().is_some() {
        // Its figures are the whole sandbox's, whichever container is asked for.
        parts.clear();
    }
    if record.pause
        && let Ok(shim) = sandbox.shim()
        && let Some(taken) = sandbox.asked.stats(&shim, &record.id).await
    {
        parts.push(taken.stats);
    }
    let mut pod = Stats::default();
    for part in &parts {
        add(&mut pod, part);
    }
    let processes = parts.iter().filter_map(|part| part.pids).sum();
    let timestamp = now();
    let pins = engine.layout.pod(&record.id).join("net");
    let network = blocking(move || Ok(network::usage(&pins, timestamp))).await?;
    let io = pressure(engine, &record.config.0, "io").map(|psi| IoUsage {
        timestamp,
        psi: Some(psi),
    });
    Ok(PodSandboxStats {
        attributes: Some(PodSandboxAttributes {
            id: record.id.clone(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        linux: Some(LinuxPodSandboxStats {
            cpu: Some(CpuUsage {
                psi: pressure(engine, &record.config.0, "cpu"),
                ..cpu(&pod, timestamp, &sandbox.cpu)
            }),
            memory: Some(MemoryUsage {
                psi: pressure(engine, &record.config.0, "memory"),
                ..memory(&pod, timestamp)
            }),
            network,
            process: Some(ProcessUsage {
                timestamp,
                process_count: value(Some(processes)),
            }),
            containers,
            io,
        }),
    })
}

/// The pressure in the pod's own cgroup, which its client has made.
fn pressure(engine: &Shared, config: &PodSandboxConfig, resource: &str) -> Option<PsiStats> {
    let parent = &config.linux.as_ref()?.cgroup_parent;
    let below = berth_oci::cgroup::directory(format!("{parent}:x:x").as_ref());
    let path = match parent.strip_suffix(".slice") {
        // Where systemd has a scope in that slice.
        Some(_) => below.parent()?.to_owned(),
        None => parent.into(),
    };
    let named = !parent.is_empty() && parent != "/";
    named
        .then(|| pressure::of(&engine.host.cgroups, &path, resource))
        .flatten()
}

fn add(sum: &mut Stats, more: &Stats) {
    for (sum, more) in [
        (&mut sum.cpu_usage_ns, more.cpu_usage_ns),
        (&mut sum.memory_usage, more.memory_usage),
        (&mut sum.memory_working_set, more.memory_working_set),
        (&mut sum.memory_rss, more.memory_rss),
        (&mut sum.page_faults, more.page_faults),
        (&mut sum.major_page_faults, more.major_page_faults),
    ] {
        if let Some(more) = more {
            *sum = Some(sum.unwrap_or(0) + more);
        }
    }
}

pub(crate) async fn of_sandboxes(
    engine: &Shared,
    filter: Option<PodSandboxStatsFilter>,
) -> Vec<PodSandboxStats> {
    let filter = filter.unwrap_or_default();
    let chosen: Vec<_> = engine
        .sandboxes
        .all()
        .into_iter()
        .filter(|sandbox| {
            let record = sandbox.record();
            let labels = &record.config.0.labels;
            record.phase == crate::record::Phase::Ready
                && record.id.starts_with(&filter.id)
                && filter
                    .label_selector
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
        })
        .collect();
    let stats = chosen.iter().map(|sandbox| of_sandbox(engine, sandbox));
    futures::future::join_all(stats)
        .await
        .into_iter()
        .flatten()
        .collect()
}

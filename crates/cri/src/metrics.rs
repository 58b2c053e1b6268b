//! `ListMetricDescriptors` and `ListPodSandboxMetrics`: the metrics that a kubelet used to take
//! from cAdvisor.

mod cgroup;
mod descriptors;
mod guest;
mod process;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use berth_cri_api::v1::{
    ContainerMetrics, Metric, MetricDescriptor, PodSandboxMetrics, UInt64Value,
};

use crate::container::{self, Container};
use crate::engine::{Engine, Shared, blocking, now};
use crate::error::CriError;
use crate::record::{ContainerPhase, Phase};
use crate::sandbox::Sandbox;
use crate::stats;
use descriptors::{BASE_LABELS, DESCRIPTORS};

/// One value: its metric, the labels beyond [`BASE_LABELS`], the number.
type Sample = (&'static str, Vec<String>, u64);

pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    DESCRIPTORS
        .iter()
        .map(|descriptor| MetricDescriptor {
            name: descriptor.name.to_owned(),
            help: descriptor.help.to_owned(),
            label_keys: BASE_LABELS
                .iter()
                .chain(descriptor.labels)
                .map(|label| (*label).to_owned())
                .collect(),
        })
        .collect()
}

/// Those of all ready pods.
pub(crate) async fn list(engine: &Shared) -> Result<Vec<PodSandboxMetrics>, CriError> {
    let ready = |sandbox: &Arc<Sandbox>| sandbox.phase() == Phase::Ready;
    let pods: Vec<_> = engine.sandboxes.all().into_iter().filter(ready).collect();
    let guests = pods
        .iter()
        .filter(|sandbox| has_own_kernel(sandbox))
        .flat_map(|sandbox| running(engine, &sandbox.id))
        .map(|container| async move {
            let figures = guest::ask(engine, &container).await;
            (container.id.clone(), figures)
        });
    let guests: Guests = futures::future::join_all(guests)
        .await
        .into_iter()
        .collect();
    let engine = Shared::clone(engine);
    blocking(move || {
        let pods = pods.iter();
        Ok(pods
            .map(|sandbox| of_sandbox(&engine, sandbox, &guests))
            .collect())
    })
    .await
}

/// Whether the host's kernel does not see what runs in it.
fn has_own_kernel(sandbox: &Sandbox) -> bool {
    let runtime = &sandbox.record().runtime;
    runtime.is_vm() || runtime.gvisor().is_some()
}

/// What was heard of containers with a kernel of their own; others have no entry.
type Guests = HashMap<String, Option<guest::Figures>>;

fn running(engine: &Engine, sandbox_id: &str) -> Vec<Arc<Container>> {
    let mut containers = container::of_sandbox(engine, sandbox_id);
    containers.retain(|container| container.phase() == ContainerPhase::Running);
    containers
}

fn of_sandbox(engine: &Shared, sandbox: &Sandbox, guests: &Guests) -> PodSandboxMetrics {
    let record = sandbox.record();
    let metadata = record.config.0.metadata.clone().unwrap_or_default();
    let labels = [record.id.clone(), metadata.name, String::new()];
    let pins = engine.layout.pod(&record.id).join("net");
    let mut samples = Vec::new();
    for interface in stats::interfaces(&pins) {
        for (name, value) in interface.counters {
            samples.push((name, vec![interface.name.clone()], value));
        }
    }
    let guest = has_own_kernel(sandbox);
    let of_container = |container: &Arc<Container>| {
        let samples = match guests.get(&container.id) {
            Some(figures) => figures.as_ref().map(|figures| {
                guest::samples(figures, &container.record(), container.oom_events())
            }),
            // It was started since the guests were asked.
            None if guest => None,
            None => Some(of_cgroup(engine, container)),
        };
        of_container(engine, container, samples.unwrap_or_default())
    };
    let containers = running(engine, &record.id);
    PodSandboxMetrics {
        pod_sandbox_id: record.id.clone(),
        metrics: metrics(samples, &labels),
        container_metrics: containers.iter().map(of_container).collect(),
    }
}

/// What the host's kernel counts.
fn of_cgroup(engine: &Engine, container: &Container) -> Vec<Sample> {
    let cgroups = &engine.host.cgroups;
    let path = berth_oci::cgroup::directory(&container.record().cgroup);
    let mut samples = cgroup::samples(cgroups, &path);
    samples.extend(process::samples(&cgroup::processes(cgroups, &path)));
    samples
}

fn of_container(
    engine: &Engine,
    container: &Container,
    mut samples: Vec<Sample>,
) -> ContainerMetrics {
    let record = container.record();
    let config = &record.config.0;
    let name = config.metadata.clone().unwrap_or_default().name;
    let image = config.image.clone().unwrap_or_default().image;
    samples.extend(filesystem(engine, &record.id));
    let seconds = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0);
    samples.push((
        "container_start_time_seconds",
        Vec::new(),
        seconds(record.started_at),
    ));
    samples.push(("container_last_seen", Vec::new(), seconds(now())));
    ContainerMetrics {
        metrics: metrics(samples, &[record.id.clone(), name, image]),
        container_id: record.id.clone(),
    }
}

fn filesystem(engine: &Engine, id: &str) -> Vec<Sample> {
    let device = || vec![engine.images.root().to_string_lossy().into_owned()];
    let mut samples = Vec::new();
    if let Ok(stat) = nix::sys::statvfs::statvfs(engine.images.root()) {
        samples.push(("container_fs_inodes_free", device(), stat.files_free()));
        samples.push(("container_fs_inodes_total", device(), stat.files()));
        samples.push((
            "container_fs_limit_bytes",
            device(),
            stat.blocks() * stat.fragment_size(),
        ));
    }
    if let Ok(usage) = engine.images.snapshot_usage(id) {
        samples.push(("container_fs_usage_bytes", device(), usage.bytes));
    }
    samples
}

fn metrics(samples: Vec<Sample>, labels: &[String; 3]) -> Vec<Metric> {
    let kinds: BTreeMap<&str, _> = DESCRIPTORS
        .iter()
        .map(|descriptor| (descriptor.name, descriptor.kind))
        .collect();
    let timestamp = now();
    samples
        .into_iter()
        .filter_map(|(name, more, value)| {
            Some(Metric {
                name: name.to_owned(),
                timestamp,
                metric_type: (*kinds.get(name)?).into(),
                label_values: labels.iter().cloned().chain(more).collect(),
                value: Some(UInt64Value { value }),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_descriptor_and_its_labels() {
        let host = berth_oci::Host::detect();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own
            .lines()
            .find_map(|line| line.split(':').nth(2))
            .unwrap()
            .to_owned();
        let mut samples = cgroup::samples(&host.cgroups, path.as_ref());
        samples.extend(process::samples(&[std::process::id()]));
        assert!(samples.len() > 10, "{samples:?}");
        for (name, labels, _) in samples {
            let descriptor = DESCRIPTORS
                .iter()
                .find(|descriptor| descriptor.name == name);
            let descriptor = descriptor.unwrap_or_else(|| panic!("{name} has no descriptor"));
            assert_eq!(descriptor.labels.len(), labels.len(), "{name}");
        }
    }
}

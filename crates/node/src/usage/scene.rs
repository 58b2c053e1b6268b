//! One look at all pods, whole: what every answer of the node's server about usage is made of.

use std::path::PathBuf;
use std::sync::Arc;

use berth_lifecycle::RunState;
use berth_supervise::unblock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::cgroup::{self, CgroupUsage};
use super::hierarchy::Hierarchy;
use super::machine::MachineUsage;
use super::runtime::InterfaceUsage;
use crate::agent::Agent;
use berth_cri_api::v1::{ContainerStats, UInt64Value};

/// Everything at one moment.
pub(crate) struct Scene {
    pub(crate) at: Timestamp,
    pub(crate) machine: MachineUsage,
    /// `kubepods` and what is between it and the pods, with their paths.
    pub(crate) groups: Vec<(String, CgroupUsage)>,
    pub(crate) pods: Vec<PodScene>,
    /// Whether the runtime has answered now.
    pub(crate) is_current: bool,
}

/// One pod with a sandbox.
pub(crate) struct PodScene {
    pub(crate) pod: Arc<Pod>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) sandbox_id: String,
    pub(crate) handler: String,
    pub(crate) sandbox_created: Option<Timestamp>,
    /// The cgroup's path; empty without one.
    pub(crate) path: String,
    /// None where the node makes no cgroups for pods.
    pub(crate) cgroup: Option<CgroupUsage>,
    /// The sandbox container's own cgroup (pause), where there is one.
    pub(crate) sandbox_cgroup: Option<CgroupUsage>,
    pub(crate) containers: Vec<ContainerScene>,
    pub(crate) interfaces: Vec<InterfaceUsage>,
    pub(crate) processes: Option<u64>,
}

/// One container that runs.
pub(crate) struct ContainerScene {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) started: Option<Timestamp>,
    pub(crate) path: String,
    /// What the host's kernel counts; none where its processes are in a sandbox of their own.
    pub(crate) cgroup: Option<CgroupUsage>,
    /// What the runtime says.
    pub(crate) reported: Option<ContainerStats>,
}

impl ContainerScene {
    /// CPU time in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.cpu_ns);
        cgroup.or_else(|| {
            value(
                self.reported
                    .as_ref()?
                    .cpu
                    .as_ref()?
                    .usage_core_nano_seconds
                    .as_ref(),
            )
        })
    }

    /// The working set in bytes.
    pub(crate) fn working_set(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.working_set);
        cgroup.or_else(|| {
            value(
                self.reported
                    .as_ref()?
                    .memory
                    .as_ref()?
                    .working_set_bytes
                    .as_ref(),
            )
        })
    }

    /// Memory in use, page cache included.
    pub(crate) fn memory_usage(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.memory_usage);
        cgroup.or_else(|| {
            value(
                self.reported
                    .as_ref()?
                    .memory
                    .as_ref()?
                    .usage_bytes
                    .as_ref(),
            )
        })
    }

    /// Anonymous memory.
    pub(crate) fn rss(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.rss);
        cgroup.or_else(|| value(self.reported.as_ref()?.memory.as_ref()?.rss_bytes.as_ref()))
    }

    /// Swap in use.
    pub(crate) fn swap(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.swap);
        cgroup.or_else(|| {
            value(
                self.reported
                    .as_ref()?
                    .swap
                    .as_ref()?
                    .swap_usage_bytes
                    .as_ref(),
            )
        })
    }

    /// When the numbers were taken, in nanoseconds since 1970: `now` for what was read here.
    pub(crate) fn taken(&self, now: Timestamp) -> i64 {
        let here = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
        if self.cgroup.is_some() {
            return here;
        }
        let reported = self.reported.as_ref().and_then(|r| r.cpu.as_ref());
        // What a clock ahead of ours says is of now.
        reported
            .map(|cpu| cpu.timestamp)
            .filter(|t| *t > 0)
            .map_or(here, |t| t.min(here))
    }
}

pub(super) fn value(value: Option<&UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

impl PodScene {
    /// CPU time of the whole pod: its cgroup's, or its containers' together.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.cpu_ns);
        cgroup.or_else(|| sum(self.containers.iter().map(ContainerScene::cpu_ns)))
    }

    /// The working set of the whole pod.
    pub(crate) fn working_set(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.working_set);
        cgroup.or_else(|| sum(self.containers.iter().map(ContainerScene::working_set)))
    }

    /// Swap of the whole pod.
    pub(crate) fn swap(&self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.swap);
        cgroup.or_else(|| sum(self.containers.iter().map(ContainerScene::swap)))
    }
}

/// All together; none when one of them is missing, or there is none.
fn sum(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut all = None;
    for part in parts {
        all = Some(u64::saturating_add(all.unwrap_or(0), part?));
    }
    all
}

/// Looks at everything. The runtime is asked first: a container that ends meanwhile has no cgroup any more, and what was said of
/// it is of when it ran.
pub(crate) async fn gather(agent: &Agent) -> Scene {
    let (reported, is_current) = agent.usage.asked.stats(&agent.cri).await;
    let systemd = agent.runtime.borrow().systemd_cgroups;
    let mut found = Vec::new();
    for handle in agent.handles() {
        let observed = handle.observed.read();
        let Some(sandbox) = observed.sandbox().filter(|sandbox| sandbox.ready) else {
            continue;
        };
        let pod = handle.pod.borrow().clone();
        let running = observed
            .containers
            .iter()
            .filter(|c| c.state == RunState::Running);
        let containers = running.map(|c| ContainerScene {
            name: c.name.clone(),
            id: c.id.clone(),
            image: c.image.clone(),
            started: c.started_at,
            path: String::new(),
            cgroup: None,
            reported: reported.containers.get(&c.id).cloned(),
        });
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        found.push(PodScene {
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            uid: handle.uid.clone(),
            sandbox_id: sandbox.id.clone(),
            handler: sandbox.runtime_handler.clone(),
            sandbox_created: sandbox.created_at,
            path: agent
                .cgroups
                .path(&pod, systemd)
                .map_or_else(String::new, shown),
            cgroup: None,
            sandbox_cgroup: None,
            containers: containers.collect(),
            interfaces: reported
                .networks
                .get(&sandbox.id)
                .cloned()
                .unwrap_or_default(),
            processes: reported.processes.get(&sandbox.id).copied(),
            pod,
        });
    }
    found.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    let hierarchy = agent.cgroups.hierarchy();
    let groups = agent.cgroups.groups(systemd);
    unblock(move || look(found, &hierarchy, groups, is_current)).await
}

fn shown(path: PathBuf) -> String {
    format!("/{}", path.display())
}

fn look(
    mut pods: Vec<PodScene>,
    hierarchy: &Hierarchy,
    groups: Vec<PathBuf>,
    is_current: bool,
) -> Scene {
    for pod in pods.iter_mut().filter(|pod| !pod.path.is_empty()) {
        look_at(pod, hierarchy);
    }
    let groups = groups.into_iter().filter(|group| hierarchy.has(group));
    let groups = groups.map(|group| {
        let usage = cgroup::read(hierarchy, &group);
        (shown(group), usage)
    });
    Scene {
        groups: groups.collect(),
        at: Timestamp::now(),
        machine: MachineUsage::read(),
        pods,
        is_current,
    }
}

fn look_at(pod: &mut PodScene, hierarchy: &Hierarchy) {
    let path = PathBuf::from(pod.path.trim_start_matches('/'));
    if !hierarchy.has(&path) {
        return;
    }
    pod.cgroup = Some(cgroup::read(hierarchy, &path));
    let sandbox = hierarchy.container(&path, &pod.sandbox_id);
    pod.sandbox_cgroup = sandbox.map(|cgroup| cgroup::read(hierarchy, &cgroup));
    for container in &mut pod.containers {
        let Some(path) = hierarchy.container(&path, &container.id) else {
            continue;
        };
        container.path = shown(path.clone());
        // Without a process in it, its processes are somewhere else: the cgroup says nothing of them.
        if cgroup::is_populated(hierarchy, &path) {
            container.cgroup = Some(cgroup::read(hierarchy, &path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_with_a_part_missing_is_none() {
        assert_eq!(sum([Some(1), Some(2)].into_iter()), Some(3));
        assert_eq!(sum([Some(1), None].into_iter()), None);
        assert_eq!(sum(std::iter::empty()), None);
        assert_eq!(sum([Some(u64::MAX), Some(2)].into_iter()), Some(u64::MAX));
    }
}

//! Requests and limits in the kernel's units.

use berth_cri_api::v1::{HugepageLimit, LinuxContainerResources};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use berth_lifecycle::qos::{cpu_quota, cpu_shares, oom_score_adj, qos};

use crate::agent::Agent;
use crate::amount;
use crate::huge_pages::{self, Pool};

const PERIOD: i64 = 100_000;
const CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// A container's own resources.
pub(crate) fn container_resources(
    agent: &Agent,
    pod: &Pod,
    c: &Container,
) -> LinuxContainerResources {
    let r = c.resources.as_ref();
    let quota = cpu_quota(amount::container_limit(pod, c, "cpu"));
    let critical = pod
        .spec
        .as_ref()
        .and_then(|s| s.priority)
        .is_some_and(|p| p >= CRITICAL_PRIORITY);
    let memory = amount::container_limit(pod, c, "memory");
    let mut all = LinuxContainerResources {
        cpu_period: if quota > 0 { PERIOD } else { 0 },
        cpu_quota: quota,
        cpu_shares: cpu_shares(amount::request(r, "cpu")),
        memory_limit_in_bytes: memory,
        oom_score_adj: oom_score_adj(
            qos(pod),
            critical,
            amount::request(r, "memory"),
            agent.machine.memory_bytes,
        ),
        hugepage_limits: hugepages(c),
        ..LinuxContainerResources::default()
    };
    agent.swap.bound(pod, c, &mut all);
    all
}

/// None of each size that the container has no limit of, as under the stock kubelet: what nobody asked for is another
/// pod's.
fn hugepages(c: &Container) -> Vec<HugepageLimit> {
    let limit = |pool: Pool| {
        let bytes = amount::limit(c.resources.as_ref(), &pool.resource());
        HugepageLimit {
            page_size: pool.size(),
            limit: u64::try_from(bytes).unwrap_or(0),
        }
    };
    huge_pages::pools().into_iter().map(limit).collect()
}

/// The pod's resources without overhead, and the overhead by itself, as RunPodSandbox carries them.
pub(crate) fn resources_of_pod(
    agent: &Agent,
    spec: &PodSpec,
) -> (LinuxContainerResources, Option<LinuxContainerResources>) {
    let limit = |name| amount::pod_limit(spec, name, false).unwrap_or(0);
    let of = |request: i64, cpu: i64, memory: i64| LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: cpu_quota(cpu),
        cpu_shares: cpu_shares(request),
        memory_limit_in_bytes: memory,
        ..LinuxContainerResources::default()
    };
    let pod = of(
        amount::pod_request(spec, "cpu", false),
        limit("cpu"),
        limit("memory"),
    );
    let overhead = spec
        .overhead
        .as_ref()
        .filter(|_| agent.config.gates.pod_overhead)
        .map(|o| {
            let cpu = amount::units(Some(o), "cpu");
            of(cpu, cpu, amount::units(Some(o), "memory"))
        });
    (pod, overhead)
}

//! `linux.resources`: limits, only where the kernel has the controller.

use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources,
};

use crate::cgroup::CgroupMode;
use crate::{Host, Resources};

pub(super) fn resources(
    host: &Host,
    r: &Resources,
    rules: Vec<LinuxDeviceCgroup>,
) -> LinuxResources {
    let cgroups = &host.cgroups;
    let mut out = LinuxResources::default();
    out.set_devices(Some(rules));
    if let Some(cpu) = cpu(r) {
        out.set_cpu(Some(cpu));
    }
    if cgroups.has("memory")
        && let Some(memory) = memory(host, r)
    {
        out.set_memory(Some(memory));
    }
    if r.pids_limit != 0 && cgroups.has("pids") {
        let mut pids = LinuxPids::default();
        pids.set_limit(r.pids_limit);
        out.set_pids(Some(pids));
    }
    if cgroups.has("hugetlb") && !r.hugepage_limits.is_empty() {
        let limits = r.hugepage_limits.iter().map(|h| {
            let mut limit = LinuxHugepageLimit::default();
            limit.set_page_size(h.page_size.clone());
            limit.set_limit(i64::try_from(h.limit).unwrap_or(i64::MAX));
            limit
        });
        out.set_hugepage_limits(Some(limits.collect()));
    }
    if cgroups.mode == CgroupMode::V2 && !r.unified.is_empty() {
        out.set_unified(Some(r.unified.clone().into_iter().collect()));
    }
    out
}

fn cpu(r: &Resources) -> Option<LinuxCpu> {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(u64::try_from(r.cpu_shares).ok().filter(|v| *v > 0));
    cpu.set_quota(Some(r.cpu_quota).filter(|q| *q != 0));
    cpu.set_period(u64::try_from(r.cpu_period).ok().filter(|v| *v > 0));
    cpu.set_cpus(text(&r.cpuset_cpus));
    cpu.set_mems(text(&r.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn memory(host: &Host, r: &Resources) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(r.memory_limit).filter(|v| *v != 0));
    if host.swap_accounting {
        memory.set_swap(Some(r.memory_swap_limit).filter(|v| *v != 0));
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

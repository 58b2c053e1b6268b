//! The pod's quality-of-service class and what the kernel is told because of it.

use k8s_openapi::api::core::v1::Pod;

pub use berth_core::qos::QosClass as Qos;

/// The pod's class; a pod without a spec asks for nothing.
pub fn qos(pod: &Pod) -> Qos {
    pod.spec
        .as_ref()
        .map_or(Qos::BestEffort, berth_core::qos::class)
}

/// `oom_score_adj` of a container: -997 for Guaranteed and node-critical pods, 1000 for
/// BestEffort, between them by the share of the machine's memory that it requests.
pub fn oom_score_adj(qos: Qos, critical: bool, memory_request: i64, capacity: i64) -> i64 {
    if critical {
        return -997;
    }
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let adj = 1000 - (1000 * i128::from(memory_request)) / i128::from(capacity.max(1));
            i64::try_from(adj.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// `cpu.shares` for millicores: 1024 a core, at least 2, at most 262144.
pub fn cpu_shares(milli: i64) -> i64 {
    if milli == 0 {
        return 2;
    }
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// `cpu.cfs_quota_us` for millicores in a period of 100 ms: at least 1 ms; 0 where there is no limit.
pub fn cpu_quota(milli: i64) -> i64 {
    if milli == 0 {
        return 0;
    }
    milli.saturating_mul(100).max(1000)
}

/// `cpu.weight` (cgroup v2) for `cpu.shares`, the linear mapping of the stock kubelet.
pub fn cpu_weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

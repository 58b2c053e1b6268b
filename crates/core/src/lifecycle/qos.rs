//! The pod's quality-of-service class and what the kernel is told because of it.

use k8s_openapi::api::core::v1::{Container, Pod};

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits for cpu and memory, and requests equal to them.
    Guaranteed,
    /// Some container requests or limits something.
    Burstable,
    /// None does.
    BestEffort,
}

impl Qos {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

const RESOURCES: [&str; 2] = ["cpu", "memory"];

fn amount(
    list: Option<
        &std::collections::BTreeMap<
            String,
            k8s_openapi::apimachinery::pkg::api::resource::Quantity,
        >,
    >,
    name: &str,
) -> Option<berth_api::quantity::Quantity> {
    let quantity: berth_api::quantity::Quantity = list?.get(name)?.0.parse().ok()?;
    (!quantity.is_zero()).then_some(quantity)
}

/// Computes the class from the containers' cpu and memory; pod-level resources win where present.
pub fn qos(pod: &Pod) -> Qos {
    let Some(spec) = &pod.spec else {
        return Qos::BestEffort;
    };
    let pod_level = spec.resources.as_ref().map(|r| Container {
        resources: Some(r.clone()),
        ..Container::default()
    });
    let containers: Vec<&Container> = match &pod_level {
        Some(c) => vec![c],
        None => spec
            .containers
            .iter()
            .chain(super::init_containers(spec))
            .collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for c in containers {
        let limits = c.resources.as_ref().and_then(|r| r.limits.as_ref());
        let requests = c.resources.as_ref().and_then(|r| r.requests.as_ref());
        for name in RESOURCES {
            let (limit, request) = (amount(limits, name), amount(requests, name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= match (&limit, &request) {
                (Some(l), Some(r)) => l == r,
                (Some(_), None) => true,
                (None, _) => false,
            };
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
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

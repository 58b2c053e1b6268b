//! Pods and classes against quotas.

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::gather::namespace_of;
use super::{Facts, Kind, Placed, Problem, Workload, text};
use berth_core::advice::Advice;
use berth_core::gates::FeatureGates;
use berth_core::resource_list::WireList;
use berth_core::resources::{self, Amounts, Overhead};
use berth_core::usage;
use berth_rules::admission::{Rejection, namespace_policy, quota};

/// What quotas say to a workload's pods, beside what runs already.
pub(super) fn of_workload(
    facts: &Facts,
    workload: &Placed<Workload>,
    pod: &Pod,
    object: &str,
    gates: &FeatureGates,
) -> Vec<Problem> {
    let namespace = namespace_of(pod);
    let quotas = facts.quotas.iter().map(|quota| &quota.it);
    let quotas = quotas.filter(|q| text(&q.metadata.namespace) == namespace);
    let mut problems = Vec::new();
    for quota in quotas {
        let used = used(facts, workload, quota, namespace, gates);
        if let Err(rejection) = quota::check_pod(quota, &used, pod, gates) {
            let share = match rejection {
                Rejection::QuotaExceeded { .. } => overhead_share(pod),
                _ => String::new(),
            };
            problems.push(Problem::new(
                &workload.place,
                object,
                Kind::Quota,
                format!("{rejection}{share}"),
                "ask for less, raise the quota, or lower the class's overhead",
            ));
            continue;
        }
        let replicas = workload.it.replicas;
        if replicas < 2 || !usage::counts_pod(quota, pod) {
            continue;
        }
        let all = times(&usage::pod_usage(pod, gates), replicas);
        if let Err(Rejection::QuotaExceeded {
            quota,
            requested,
            used,
            limited,
        }) = quota::check(quota, &used, &all)
        {
            let advice = Advice::QuotaReplicas {
                quota,
                replicas,
                requested,
                used,
                limited,
            };
            problems.extend(Problem::advised(&workload.place, object, vec![advice]));
        }
    }
    problems
}

/// What the pods of a cluster use of a quota, without those of the workload itself: they go when it is changed.
fn used(
    facts: &Facts,
    workload: &Placed<Workload>,
    quota: &ResourceQuota,
    namespace: &str,
    gates: &FeatureGates,
) -> Amounts {
    let name = text(&workload.it.pod.metadata.name);
    let is_own = |pod: &Pod| {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(
            |owner| match (workload.it.kind.as_str(), owner.kind.as_str()) {
                // A ReplicaSet is named by its Deployment and a hash, a Job by its CronJob and a time.
                ("Deployment", "ReplicaSet") | ("CronJob", "Job") => owner
                    .name
                    .rsplit_once('-')
                    .is_some_and(|(of, _)| of == name),
                (kind, owner_kind) => kind == owner_kind && owner.name == name,
            },
        )
    };
    let running = facts.workloads.iter().map(|w| &w.it);
    let running = running.filter(|w| w.admitted && namespace_of(&w.pod) == namespace);
    let others = running.map(|w| &w.pod).filter(|pod| !is_own(pod));
    usage::used(quota, others, &usage::Counts::new(), gates)
}

/// So many times as much, by doubling: a manifest may want any number.
fn times(amounts: &Amounts, count: i64) -> Amounts {
    let (mut sum, mut power) = (Amounts::new(), amounts.clone());
    let mut left = count;
    while left > 0 {
        if left % 2 == 1 {
            resources::add(&mut sum, &power);
        }
        left /= 2;
        if left > 0 {
            let same = power.clone();
            resources::add(&mut power, &same);
        }
    }
    sum
}

/// Says how much of a pod's requests is overhead.
fn overhead_share(pod: &Pod) -> String {
    let Some(spec) = &pod.spec else {
        return String::new();
    };
    let empty = WireList::new();
    let overhead = resources::amounts(Some(spec.overhead.as_ref().unwrap_or(&empty)));
    if overhead.is_empty() {
        return String::new();
    }
    let whole = resources::pod_requests(spec, Overhead::Counted);
    let parts: Vec<String> = overhead
        .iter()
        .map(|(name, amount)| {
            format!(
                "{amount} of {} {name}",
                whole.get(name).cloned().unwrap_or_default()
            )
        })
        .collect();
    format!(" (overhead is {})", parts.join(", "))
}

/// The quotas that are smaller than the overhead of a class alone. Quotas of a scope count other pods, perhaps.
pub(super) fn of_class(facts: &Facts, class: &Placed<RuntimeClass>) -> Vec<Problem> {
    let name = text(&class.it.metadata.name);
    let overhead = class.it.overhead.as_ref().and_then(|o| o.pod_fixed.clone());
    if overhead.is_none() {
        return Vec::new();
    }
    let pod = Pod {
        spec: Some(PodSpec {
            overhead,
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    let mut usage = usage::pod_usage(&pod, &FeatureGates::default());
    usage.retain(|resource, _| !matches!(resource.as_str(), "pods" | "count/pods"));
    let unscoped = |quota: &&ResourceQuota| {
        let spec = quota.spec.as_ref();
        spec.is_none_or(|s| s.scopes.is_none() && s.scope_selector.is_none())
    };
    let mut problems = Vec::new();
    for quota in facts.quotas.iter().map(|q| &q.it).filter(unscoped) {
        let namespace = text(&quota.metadata.namespace);
        if !may_use(facts, namespace, name) {
            continue;
        }
        let refused = quota::check(quota, &Amounts::new(), &usage);
        if let Err(Rejection::QuotaExceeded {
            quota,
            requested,
            limited,
            ..
        }) = refused
        {
            problems.push(Problem::new(
                &class.place,
                &format!("RuntimeClass {name}"),
                Kind::Quota,
                format!(
                    "no pod of it fits into quota {namespace}/{quota}: overhead {requested}, limited: {limited}"
                ),
                "raise the quota, lower the overhead, or forbid the class in that namespace",
            ));
        }
    }
    problems
}

/// Whether the policy of a namespace allows a class.
fn may_use(facts: &Facts, namespace: &str, class: &str) -> bool {
    let found = facts
        .namespaces
        .iter()
        .find(|n| text(&n.it.metadata.name) == namespace);
    let annotations = found.and_then(|n| n.it.metadata.annotations.as_ref());
    annotations
        .and_then(|a| a.get(namespace_policy::ALLOWED))
        .is_none_or(|list| list.split(',').any(|c| c.trim() == class))
}

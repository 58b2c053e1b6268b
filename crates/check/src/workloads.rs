//! Pods, and the pods that workloads would make.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use berth_core::advice::{Advice, pod as of_pods};
use berth_core::gates::FeatureGates;
use berth_core::nearest::nearest;
use berth_placement::early::{self, Host};
use berth_rules::admission::{Rejection, namespace_policy, runtime_class};

use super::{
    Facts, Kind, Placed, Problem, Workload, class_missing, find_class, policy, quotas, text,
};

pub(super) fn of_workload(
    facts: &Facts,
    hosts: &[Host],
    workload: &Placed<Workload>,
) -> Vec<Problem> {
    let mut pod = workload.it.pod.clone();
    let namespace = pod
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    pod.metadata.namespace = Some(namespace.clone());
    let object = format!(
        "{} {namespace}/{}",
        workload.it.kind,
        text(&pod.metadata.name)
    );
    let place = workload.place.as_str();
    let rejected = |message: String, suggestion: &str| {
        vec![Problem::new(
            place,
            &object,
            Kind::PodRejected,
            message,
            suggestion,
        )]
    };
    let gates = FeatureGates::default();
    if !workload.it.admitted
        && let Some(annotations) = policy(facts, &namespace)
        && let Err(rejection) = namespace_policy::admit(&mut pod, annotations, &gates)
    {
        return rejected(
            rejection.to_string(),
            "name an allowed class, or change the annotation of the namespace",
        );
    }
    let named = pod
        .spec
        .as_ref()
        .and_then(|s| s.runtime_class_name.clone())
        .filter(|n| !n.is_empty());
    let class = named.as_deref().and_then(|name| find_class(facts, name));
    if let (Some(name), None) = (&named, class) {
        if facts.unseen.contains_key("runtimeclasses") {
            return Vec::new();
        }
        return Problem::advised(place, &object, vec![class_missing(facts, name)]);
    }
    if !workload.it.admitted
        && let Err(rejection) = runtime_class::admit(&mut pod, class, &gates)
    {
        let suggestion = match rejection {
            Rejection::OverheadMismatch | Rejection::OverheadWithoutClass => {
                "leave overhead out of the pod; the class sets it"
            }
            _ => "make pod and class agree",
        };
        return rejected(rejection.to_string(), suggestion);
    }
    let mut advice = Vec::new();
    // A pod that has its node stays there, whatever its class and the labels say now.
    let node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
    match (node.filter(|name| !name.is_empty()), class) {
        (None, Some(class)) if !hosts.is_empty() => {
            advice.extend(early::of_pod(&pod, class, hosts))
        }
        (None, _) => {}
        (Some(_), _) if workload.it.admitted => {}
        (Some(name), class) => advice.extend(on_node(&pod, &name, class, hosts)),
    }
    if !workload.it.admitted {
        advice.extend(of_pods::annotations(&pod.metadata, pod.spec.as_ref()));
        advice.extend(pod.spec.as_ref().map_or_else(Vec::new, fractions));
    }
    let mut problems = Problem::advised(place, &object, advice);
    for problem in &mut problems {
        // As the file has them.
        if let Some(rest) = problem.message.strip_prefix("spec.") {
            problem.message = format!("{}.{rest}", workload.it.at);
        }
    }
    if !workload.it.admitted {
        problems.extend(quotas::of_workload(facts, workload, &pod, &object, &gates));
    }
    problems
}

/// Of a pod that brings its node.
fn on_node(
    pod: &Pod,
    name: &str,
    class: Option<&k8s_openapi::api::node::v1::RuntimeClass>,
    hosts: &[Host],
) -> Vec<Advice> {
    let name_of = |host: &&Host| host.info.node().metadata.name.as_deref() == Some(name);
    let known: Vec<&Host> = hosts.iter().filter(|host| !host.is_bare).collect();
    if known.is_empty() {
        return Vec::new();
    }
    match (known.iter().copied().find(name_of), class) {
        (Some(host), Some(class)) => early::of_pod_on(pod, class, host),
        (Some(_), None) => Vec::new(),
        (None, _) => {
            let names = known
                .iter()
                .filter_map(|host| host.info.node().metadata.name.as_deref());
            vec![Advice::NodeMissing {
                name: name.to_owned(),
                meant: nearest(name, names).map(str::to_owned),
            }]
        }
    }
}

fn fractions(spec: &PodSpec) -> Vec<Advice> {
    let mut advice = of_pods::fractions(spec.overhead.as_ref(), "spec.overhead");
    for (at, container) in of_pods::containers(spec) {
        if let Some(resources) = &container.resources {
            for (name, list) in [
                ("limits", &resources.limits),
                ("requests", &resources.requests),
            ] {
                advice.extend(of_pods::fractions(
                    list.as_ref(),
                    &format!("{at}.resources.{name}"),
                ));
            }
        }
    }
    advice
}

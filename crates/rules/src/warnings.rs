//! What is odd about a new pod or class though it is accepted: the warnings of the stock API server, in its words.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::api::node::v1::RuntimeClass;

use berth_core::advice::pod;
use berth_core::resource_list::WireList;

/// Node labels that have a better name, and since when.
const OLD_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
];

/// How many warnings one object gets: each is a header of the answer.
const LIMIT: usize = 100;

fn old_label(key: &str) -> Option<String> {
    let (_, since, better) = OLD_LABELS.into_iter().find(|(old, _, _)| *old == key)?;
    Some(format!("deprecated since {since}; use {better:?} instead"))
}

/// Of a class.
#[must_use]
pub fn of_class(class: &RuntimeClass) -> Vec<String> {
    let selector = class
        .scheduling
        .as_ref()
        .and_then(|s| s.node_selector.as_ref());
    let keys = selector.into_iter().flatten().map(|(key, _)| key);
    let mut warnings: Vec<String> = keys
        .filter_map(|key| old_label(key))
        .map(|why| format!("scheduling.nodeSelector: {why}"))
        .collect();
    let overhead = class.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref());
    fractions(overhead, "overhead.podFixed", &mut warnings);
    warnings
}

/// Of a pod.
#[must_use]
pub fn of_pod(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(why) = old_label(key) {
            warnings.push(format!("spec.nodeSelector[{key}]: {why}"));
        }
    }
    for (i, constraint) in spec
        .topology_spread_constraints
        .iter()
        .flatten()
        .enumerate()
    {
        let at = format!("spec.topologySpreadConstraints[{i}]");
        let key = &constraint.topology_key;
        if let Some(why) = old_label(key) {
            warnings.push(format!("{at}.topologyKey: {key} is {why}"));
        }
        if constraint.label_selector.is_none() {
            warnings.push(format!(
                "{at}.labelSelector: a null labelSelector results in matching no pod"
            ));
        }
    }
    let aliases = spec.host_aliases.iter().flatten().map(|a| a.ip.as_str());
    warnings.extend(repeated(aliases, |i, ip| {
        format!("spec.hostAliases[{i}].ip: duplicate ip {ip:?}")
    }));
    let secrets = || {
        spec.image_pull_secrets
            .iter()
            .flatten()
            .map(|s| s.name.as_str())
    };
    warnings.extend(repeated(secrets(), |i, name| {
        format!("spec.imagePullSecrets[{i}].name: duplicate name {name:?}")
    }));
    for (i, _) in secrets().enumerate().filter(|(_, name)| name.is_empty()) {
        warnings.push(format!(
            "spec.imagePullSecrets[{i}].name: invalid empty name \"\""
        ));
    }
    fractions(spec.overhead.as_ref(), "spec.overhead", &mut warnings);
    for (at, container) in containers(spec) {
        if let Some(resources) = &container.resources {
            for (name, list) in [
                ("limits", &resources.limits),
                ("requests", &resources.requests),
            ] {
                fractions(
                    list.as_ref(),
                    &format!("{at}.resources.{name}"),
                    &mut warnings,
                );
            }
        }
        hidden_variables(
            container.env.as_deref().unwrap_or_default(),
            &at,
            &mut warnings,
        );
    }
    ports(spec, &mut warnings);
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        warnings.push(
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1."
                .to_owned(),
        );
    }
    if warnings.len() > LIMIT {
        warnings.truncate(LIMIT);
        warnings.push(format!("only the first {LIMIT} warnings are shown"));
    }
    warnings
}

/// Of a pod template at a path.
#[must_use]
pub fn of_template(template: &PodTemplateSpec, at: &str) -> Vec<String> {
    let pod = Pod {
        spec: template.spec.clone(),
        ..Pod::default()
    };
    let moved = |warning: String| match warning.strip_prefix("spec.") {
        Some(rest) => format!("{at}.spec.{rest}"),
        None => warning,
    };
    of_pod(&pod).into_iter().map(moved).collect()
}

/// Containers with their paths, in the order in which the stock server looks at them.
fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let main = spec.containers.iter().enumerate();
    init.chain(main.map(|(i, c)| (format!("spec.containers[{i}]"), c)))
}

fn repeated<'v>(
    values: impl Iterator<Item = &'v str>,
    say: impl Fn(usize, &str) -> String,
) -> Vec<String> {
    let mut before = HashSet::new();
    values
        .enumerate()
        .filter(|(_, value)| !before.insert(*value))
        .map(|(i, value)| say(i, value))
        .collect()
}

fn fractions(list: Option<&WireList>, at: &str, warnings: &mut Vec<String>) {
    let advice = pod::fractions(list, at);
    warnings.extend(advice.iter().map(ToString::to_string));
}

/// Variables that replace an earlier one of the same name without referring to it.
fn hidden_variables(env: &[EnvVar], at: &str, warnings: &mut Vec<String>) {
    let mut before = HashSet::new();
    for (i, variable) in env.iter().enumerate() {
        if before.insert(variable.name.as_str()) {
            continue;
        }
        let reference = format!("$({})", variable.name);
        let value = variable.value.as_deref().unwrap_or_default();
        if variable.value_from.is_some() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{at}.env[{i}]: hides previous definition of {:?}, which may be dropped when using apply",
                variable.name
            ));
        }
    }
}

/// The ports of one number and protocol that were declared so far.
#[derive(Default)]
struct Declared<'p> {
    paths: Vec<String>,
    /// Those of one address and port of the host; a second one of them is a duplicate.
    by_host: HashMap<(&'p str, i32), Vec<usize>>,
    /// Those without a port of the host; any other one overlaps.
    without_host: Vec<usize>,
}

/// Ports that two containers, or one twice, declare. Ends with the first warning more than are shown, since each port
/// may overlap with each other.
fn ports(spec: &PodSpec, warnings: &mut Vec<String>) {
    let mut seen: BTreeMap<(i32, &str), Declared<'_>> = BTreeMap::new();
    for (at, container) in containers(spec) {
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let at = format!("{at}.ports[{i}]");
            let number = (
                port.container_port,
                port.protocol.as_deref().unwrap_or("TCP"),
            );
            let host = (
                port.host_ip.as_deref().unwrap_or_default(),
                port.host_port.unwrap_or(0),
            );
            let declared = seen.entry(number).or_default();
            let same = declared.by_host.entry(host).or_default();
            let others: Vec<usize> = if host.1 == 0 {
                (0..declared.paths.len()).take(LIMIT + 1).collect()
            } else {
                let overlapping = declared.without_host.iter().take(LIMIT + 1);
                let mut both: Vec<usize> = same
                    .iter()
                    .take(LIMIT + 1)
                    .chain(overlapping)
                    .copied()
                    .collect();
                both.sort_unstable();
                both
            };
            for other in others {
                let how = if same.binary_search(&other).is_ok() {
                    "duplicate"
                } else {
                    "overlapping"
                };
                if let Some(other) = declared.paths.get(other) {
                    warnings.push(format!("{at}: {how} port definition with {other}"));
                }
            }
            if warnings.len() > LIMIT {
                return;
            }
            let own = declared.paths.len();
            same.push(own);
            if host.1 == 0 {
                declared.without_host.push(own);
            }
            declared.paths.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(spec: Value) -> Vec<String> {
        let body = json!({"metadata": {"name": "p"}, "spec": spec});
        of_pod(&berth_api::decode::from_value(&body).unwrap())
    }

    fn one(container: Value) -> Value {
        json!({"containers": [container]})
    }

    #[test]
    fn of_pods() {
        for (spec, want) in [
            (
                one(json!({"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 81}]})),
                vec![],
            ),
            (
                json!({"containers": [], "nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
                vec![
                    "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                ],
            ),
            (
                json!({"containers": [], "overhead": {"memory": "1500m"}, "terminationGracePeriodSeconds": -1}),
                vec![
                    "spec.overhead[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                    "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1.",
                ],
            ),
            (
                one(
                    json!({"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 80}, {"containerPort": 80, "hostPort": 1}]}),
                ),
                vec![
                    "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                    "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
                    "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
                ],
            ),
            (
                one(
                    json!({"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}),
                ),
                vec![
                    "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                ],
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": ""}, {"name": "a"}, {"name": "a"}],
                    "hostAliases": [{"ip": "::1"}, {"ip": "::1"}]}),
                vec![
                    "spec.hostAliases[1].ip: duplicate ip \"::1\"",
                    "spec.imagePullSecrets[2].name: duplicate name \"a\"",
                    "spec.imagePullSecrets[0].name: invalid empty name \"\"",
                ],
            ),
        ] {
            assert_eq!(told(spec.clone()), want, "{spec}");
        }
    }

    #[test]
    fn of_classes() {
        let body = json!({"metadata": {"name": "c"}, "handler": "h",
            "scheduling": {"nodeSelector": {"a": "b", "beta.kubernetes.io/arch": "x"}}});
        let class: RuntimeClass = berth_api::decode::from_value(&body).unwrap();
        assert_eq!(
            of_class(&class),
            ["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/arch\" instead"]
        );
    }
}

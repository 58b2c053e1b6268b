//! From objects and reports to rows: pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_controllers::class_overhead::{cores, declared, mebibytes};
use berth_core::annotations::BROKEN_HANDLERS;
use berth_cost::{NodeReport, SandboxReport};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt as _;

/// What there is.
pub(super) struct Seen<'a> {
    pub(super) classes: Vec<RuntimeClass>,
    pub(super) nodes: Vec<Node>,
    pub(super) pods: Vec<Pod>,
    /// What each node says, or why it says nothing.
    pub(super) reports: BTreeMap<String, Result<NodeReport, String>>,
    /// Starts by UID, in microseconds.
    pub(super) starts: &'a HashMap<String, Option<u64>>,
}

/// A table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
}

/// What is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) classes: Table,
    pub(super) nodes: Table,
    pub(super) pods: Table,
}

const CLASSES: [&str; 9] = [
    "CLASS",
    "HANDLER",
    "NODES",
    "PODS",
    "MEMORY-P50",
    "P99",
    "DECLARED",
    "CPU-P99",
    "DECLARED",
];
const NODES: [&str; 5] = [
    "NODE",
    "READY",
    "PODS",
    "HANDLERS",
    "WHAT KEEPS OTHERS OR REPORTS AWAY",
];
const PODS: [&str; 9] = [
    "NAMESPACE",
    "POD",
    "CLASS",
    "NODE",
    "PHASE",
    "START",
    "MEMORY",
    "DECLARED",
    "CPU",
];
/// What is not known.
const UNKNOWN: &str = "-";

impl Picture {
    pub(super) fn new(seen: &Seen<'_>) -> Self {
        let mut classes: Vec<Vec<String>> = seen
            .classes
            .iter()
            .map(|class| class_row(class, seen))
            .collect();
        classes.sort();
        let mut nodes: Vec<Vec<String>> =
            seen.nodes.iter().map(|node| node_row(node, seen)).collect();
        nodes.sort();
        // A node's word counts for what runs on it.
        let reports = seen.reports.iter();
        let sandboxes: HashMap<(&str, &str), &SandboxReport> = reports
            .filter_map(|(node, report)| Some((node.as_str(), report.as_ref().ok()?)))
            .flat_map(|(node, report)| report.sandboxes.iter().map(move |one| (node, one)))
            .map(|(node, sandbox)| ((node, sandbox.uid.as_str()), sandbox))
            .collect();
        let declared: HashMap<String, String> = seen
            .classes
            .iter()
            .map(|class| (class.name_any(), memory_of(class)))
            .collect();
        let row = |pod: &Pod| pod_row(pod, &sandboxes, &declared, seen.starts);
        let mut pods: Vec<Vec<String>> = seen.pods.iter().map(row).collect();
        pods.sort();
        let table = |columns, rows| Table { columns, rows };
        Self {
            classes: table(&CLASSES, classes),
            nodes: table(&NODES, nodes),
            pods: table(&PODS, pods),
        }
    }
}

fn handlers(node: &Node) -> BTreeSet<&str> {
    let status = node.status.iter();
    let all = status.flat_map(|status| status.runtime_handlers.iter().flatten());
    all.filter_map(|handler| handler.name.as_deref())
        .filter(|name| !name.is_empty())
        .collect()
}

fn memory_of(class: &RuntimeClass) -> String {
    declared(class).map_or_else(|_| "?".into(), |declared| mebibytes(declared.memory))
}

fn class_row(class: &RuntimeClass, seen: &Seen<'_>) -> Vec<String> {
    let name = class.name_any();
    let nodes = seen
        .nodes
        .iter()
        .filter(|node| handlers(node).contains(class.handler.as_str()));
    let of_class = |pod: &&Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.runtime_class_name.as_deref())
            == Some(&name)
    };
    let pods = seen.pods.iter().filter(of_class);
    // The node where it costs most; a proposal looks at the same.
    let reports = seen
        .reports
        .values()
        .flatten()
        .flat_map(|report| &report.classes);
    let worst = reports
        .filter(|report| report.runtime_class == name && report.handler == class.handler)
        .map(|report| {
            if report.load.samples > 0 {
                &report.load
            } else {
                &report.idle
            }
        })
        .filter(|state| state.samples > 0)
        .max_by_key(|state| state.memory_bytes.p99);
    let figure = |figure: Option<String>| figure.unwrap_or_else(|| UNKNOWN.into());
    let declared_cpu = declared(class).map_or_else(|_| "?".into(), |declared| cores(declared.cpu));
    vec![
        name.clone(),
        class.handler.clone(),
        nodes.count().to_string(),
        pods.count().to_string(),
        figure(worst.map(|state| mebibytes(state.memory_bytes.p50))),
        figure(worst.map(|state| mebibytes(state.memory_bytes.p99))),
        memory_of(class),
        figure(worst.map(|state| cores(state.cpu_micro_cores.p99))),
        declared_cpu,
    ]
}

fn node_row(node: &Node, seen: &Seen<'_>) -> Vec<String> {
    let name = node.name_any();
    let status = node.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    let ready = ready.map_or(UNKNOWN, |condition| condition.status.as_str());
    let on_it =
        |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name);
    let broken = node.annotations().get(BROKEN_HANDLERS).cloned();
    let silent = seen
        .reports
        .get(&name)
        .and_then(|report| report.as_ref().err())
        .cloned();
    let notes: Vec<String> = broken.into_iter().chain(silent).collect();
    vec![
        name.clone(),
        ready.to_owned(),
        seen.pods.iter().filter(on_it).count().to_string(),
        handlers(node).into_iter().collect::<Vec<_>>().join(","),
        notes.join("; "),
    ]
}

fn pod_row(
    pod: &Pod,
    sandboxes: &HashMap<(&str, &str), &SandboxReport>,
    declared: &HashMap<String, String>,
    starts: &HashMap<String, Option<u64>>,
) -> Vec<String> {
    let spec = pod.spec.as_ref();
    let class = spec.and_then(|spec| spec.runtime_class_name.as_deref());
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let node = spec.and_then(|spec| spec.node_name.as_deref());
    let sandbox = node.and_then(|node| sandboxes.get(&(node, uid)));
    let known = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.into());
    let start = starts.get(uid).copied().flatten();
    vec![
        pod.namespace().unwrap_or_default(),
        pod.name_any(),
        known(class.map(str::to_owned)),
        known(node.map(str::to_owned)),
        known(pod.status.as_ref().and_then(|status| status.phase.clone())),
        known(
            start.map(|micros| format!("{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)),
        ),
        known(sandbox.map(|sandbox| mebibytes(sandbox.memory_bytes.total()))),
        known(class.and_then(|class| declared.get(class).cloned())),
        known(sandbox.map(|sandbox| cores(sandbox.cpu_micro_cores.total()))),
    ]
}

#[cfg(test)]
mod tests {
    use berth_cost::{ClassReport, Parts, Quantiles, State, StateReport};
    use serde_json::json;

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn picture() -> Picture {
        let class = object(json!({"metadata": {"name": "gvisor"}, "handler": "runsc",
            "overhead": {"podFixed": {"memory": "64Mi", "cpu": "50m"}}}));
        let node = object(
            json!({"metadata": {"name": "n1", "annotations": {BROKEN_HANDLERS: "{\"kata\":\"no /dev/kvm\"}"}},
            "status": {"runtimeHandlers": [{"name": ""}, {"name": "runsc"}], "conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        let silent = object(json!({"metadata": {"name": "n2"}}));
        let pod = object(
            json!({"metadata": {"name": "p", "namespace": "ci", "uid": "u"},
            "spec": {"runtimeClassName": "gvisor", "nodeName": "n1", "containers": []}, "status": {"phase": "Running"}}),
        );
        let plain = object(
            json!({"metadata": {"name": "q", "namespace": "ci", "uid": "v"}, "spec": {"containers": []}}),
        );
        let state = |p99| StateReport {
            samples: 3,
            memory_bytes: Quantiles {
                p50: 20 << 20,
                p99,
                max: p99,
            },
            ..StateReport::default()
        };
        let report = NodeReport {
            node: "n1".into(),
            classes: vec![ClassReport {
                runtime_class: "gvisor".into(),
                handler: "runsc".into(),
                idle: state(30 << 20),
                load: state(40 << 20),
                ..ClassReport::default()
            }],
            sandboxes: vec![SandboxReport {
                namespace: "ci".into(),
                pod: "p".into(),
                uid: "u".into(),
                runtime_class: "gvisor".into(),
                handler: "runsc".into(),
                state: State::Load,
                memory_bytes: Parts {
                    sandbox: 25 << 20,
                    ..Parts::default()
                },
                cpu_micro_cores: Parts::default(),
            }],
            ..NodeReport::default()
        };
        let reports = [
            ("n1".to_owned(), Ok(report)),
            ("n2".to_owned(), Err("no answer".to_owned())),
        ];
        let starts = HashMap::from([("u".to_owned(), Some(1_234_567))]);
        Picture::new(&Seen {
            classes: vec![class],
            nodes: vec![node, silent],
            pods: vec![plain, pod],
            reports: reports.into(),
            starts: &starts,
        })
    }

    #[test]
    fn a_class_stands_beside_what_it_declares() {
        let row = &picture().classes.rows[0];
        assert_eq!(row[..6], ["gvisor", "runsc", "1", "1", "20Mi", "40Mi"]);
        assert_eq!(row[6], "64Mi");
    }

    #[test]
    fn a_node_says_what_it_can_run_and_what_not() {
        let nodes = picture().nodes.rows;
        assert_eq!(
            nodes[0],
            ["n1", "True", "1", "runsc", "{\"kata\":\"no /dev/kvm\"}"]
        );
        assert_eq!(nodes[1], ["n2", "-", "0", "", "no answer"]);
    }

    #[test]
    fn a_pod_has_its_start_and_its_cost() {
        let pods = picture().pods.rows;
        assert_eq!(
            pods[0][..8],
            [
                "ci", "p", "gvisor", "n1", "Running", "1.234 s", "25Mi", "64Mi"
            ]
        );
        assert_eq!(pods[1], ["ci", "q", "-", "-", "-", "-", "-", "-", "-"]);
    }
}

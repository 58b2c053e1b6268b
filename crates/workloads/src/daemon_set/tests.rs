//! A DaemonSet on nodes that do what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::{at, object};

struct Cluster {
    set: DaemonSet,
    hash: String,
    nodes: Vec<Arc<Node>>,
    pods: BTreeMap<String, Pod>,
    created: usize,
    now: i64,
}

fn node(name: &str, spec: Value) -> Arc<Node> {
    Arc::new(object(
        json!({"metadata": {"name": name, "labels": {"name": name}}, "spec": spec}),
    ))
}

impl Cluster {
    fn new(spec: Value, nodes: usize) -> Self {
        let mut spec = spec;
        if spec["template"].is_null() {
            spec["template"] = json!({"metadata": {"labels": {"d": "s"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        }
        Self {
            set: object(
                json!({"metadata": {"name": "d", "namespace": "n", "uid": "d"}, "spec": spec}),
            ),
            hash: "one".to_owned(),
            nodes: (0..nodes)
                .map(|i| node(&format!("n{i}"), json!({})))
                .collect(),
            pods: BTreeMap::new(),
            created: 0,
            now: 0,
        }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<_> = self.pods.values().cloned().map(Arc::new).collect();
        plan(&self.set, &self.hash, &pods, &self.nodes, at(self.now))
    }

    fn step(&mut self) -> bool {
        self.now += 1;
        let plan = self.plan();
        let changed = self.set.status.as_ref() != Some(&plan.status)
            || !plan.create.is_empty()
            || !plan.delete.is_empty()
            || !plan.ended.is_empty();
        self.set.status = Some(plan.status);
        for pod in plan
            .delete
            .iter()
            .chain(plan.ended.iter().map(|(_, pod)| pod))
        {
            self.pods
                .remove(pod.metadata.name.as_deref().expect("a name"));
        }
        for mut pod in plan.create {
            let name = format!(
                "{}{:03}",
                pod.metadata.generate_name.as_deref().expect("a prefix"),
                self.created
            );
            self.created += 1;
            pod.metadata.name = Some(name.clone());
            pod.metadata.uid = Some(name.clone());
            let node = pod::target(&pod).expect("a node").to_owned();
            pod.spec.as_mut().expect("a spec").node_name = Some(node);
            pod.metadata.creation_timestamp = Some(
                k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(self.now)),
            );
            pod.status = Some(object(json!({"phase": "Running"})));
            self.pods.insert(name, pod);
        }
        changed
    }

    /// Up to this many pods become ready.
    fn ready(&mut self, number: usize) -> bool {
        let now = at(self.now).to_string();
        let all = self
            .pods
            .values_mut()
            .filter(|pod| !crate::pod::is_ready(pod));
        let mut changed = false;
        for pod in all.take(number) {
            pod.status = Some(object(json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]})));
            changed = true;
        }
        changed
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let (a, b) = (self.step(), self.ready(1));
            if !a && !b {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.plan());
    }

    fn on(&self) -> Vec<String> {
        let mut nodes: Vec<_> = self
            .pods
            .values()
            .filter_map(|pod| pod::target(pod).map(str::to_owned))
            .collect();
        nodes.sort();
        nodes
    }
}

#[test]
fn a_pod_on_each_node_that_lets_it() {
    let mut cluster = Cluster::new(json!({}), 2);
    cluster.nodes.push(node(
        "cordoned",
        json!({"unschedulable": true, "taints": [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}),
    ));
    cluster.nodes.push(node(
        "tainted",
        json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}),
    ));
    cluster.settle();
    assert_eq!(cluster.on(), ["cordoned", "n0", "n1"]);
    let status = cluster.set.status.clone().expect("a status");
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.number_ready,
            status.number_misscheduled
        ),
        (3, 3, 0)
    );
    // A taint that comes later keeps new pods away, one that drives away takes them.
    cluster.nodes[0] = node(
        "n0",
        json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}),
    );
    cluster.nodes[1] = node(
        "n1",
        json!({"taints": [{"key": "gpu", "effect": "NoExecute"}]}),
    );
    cluster.settle();
    assert_eq!(cluster.on(), ["cordoned", "n0"]);
    assert_eq!(
        cluster.set.status.as_ref().map(|s| s.number_misscheduled),
        Some(1)
    );
    // A node that is gone takes its pod along.
    cluster.nodes.remove(0);
    cluster.settle();
    assert_eq!(cluster.on(), ["cordoned"]);
}

#[test]
fn only_where_the_template_says() {
    let template = json!({"spec": {"nodeSelector": {"name": "n1"}, "containers": []}});
    let mut cluster = Cluster::new(json!({"template": template}), 3);
    cluster.settle();
    assert_eq!(cluster.on(), ["n1"]);
    let pod = cluster.pods.values().next().expect("a pod");
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.as_ref())
        .expect("tolerations");
    assert_eq!(tolerations.len(), 6);
    assert_eq!(
        pod.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(REVISION_HASH))
            .map(String::as_str),
        Some("one")
    );
}

#[test]
fn what_has_ended_is_replaced_and_a_second_one_goes() {
    let mut cluster = Cluster::new(json!({}), 1);
    cluster.settle();
    let (name, pod) = cluster
        .pods
        .iter()
        .next()
        .map(|(n, p)| (n.clone(), p.clone()))
        .expect("a pod");
    let mut second = pod.clone();
    second.metadata.name = Some("z".to_owned());
    cluster.pods.insert("z".to_owned(), second);
    cluster.settle();
    assert_eq!(cluster.pods.keys().collect::<Vec<_>>(), [&name]);
    cluster.pods.get_mut(&name).expect("a pod").status = Some(object(json!({"phase": "Failed"})));
    assert_eq!(cluster.plan().ended.len(), 1);
    cluster.settle();
    assert_eq!(cluster.on(), ["n0"]);
    assert!(!cluster.pods.contains_key(&name));
}

proptest! {
    /// However an update goes: not more nodes without an available pod, or with two, than it may.
    #[test]
    fn updates_keep_their_bounds(nodes in 1..8_usize, most in 1..4_i32, by_surge: bool, ready in 0..3_usize) {
        let rolling = if by_surge { json!({"maxSurge": most, "maxUnavailable": 0}) } else { json!({"maxUnavailable": most}) };
        let mut cluster = Cluster::new(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}), nodes);
        cluster.settle();
        cluster.hash = "two".to_owned();
        for _ in 0..20 {
            cluster.step();
            let available = cluster.pods.values().filter(|pod| crate::pod::is_ready(pod)).count();
            let most = usize::try_from(most).expect("small");
            if by_surge {
                prop_assert!(available >= nodes);
                prop_assert!(cluster.pods.len() <= nodes + most);
            } else {
                prop_assert!(available + most >= nodes);
                prop_assert!(cluster.pods.len() <= nodes);
            }
            cluster.ready(ready);
        }
        cluster.settle();
        prop_assert_eq!(cluster.pods.len(), nodes);
        prop_assert_eq!(cluster.set.status.as_ref().and_then(|s| s.updated_number_scheduled), i32::try_from(nodes).ok());
    }
}

//! What is sent.

use serde_json::{Value, json};

use crate::server::Sent;

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pod(number: usize) -> Value {
    let environment: Vec<Value> = (0..6)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": format!("value-{at}")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": "load", "number": number.to_string()}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "registry.example/app:1", "command": ["/app"],
            "env": environment, "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}}]}})
}

fn class(number: usize) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": format!("class-{number}")},
        "handler": "runc", "overhead": {"podFixed": {"memory": "16Mi"}}})
}

fn node(number: usize) -> Value {
    let room = json!({"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "labels": {"kubernetes.io/hostname": format!("node-{number}"),
            "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": format!("zone-{}", number % 3)}},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}],
            "runtimeHandlers": [{"name": ""}, {"name": "runc"}, {"name": "runsc"}]}})
}

pub(crate) fn create_pod(number: usize) -> Sent {
    ("POST", PODS.to_owned(), pod(number).to_string())
}

pub(crate) fn create_class(number: usize) -> Sent {
    ("POST", CLASSES.to_owned(), class(number).to_string())
}

pub(crate) fn create_node(number: usize) -> Sent {
    ("POST", NODES.to_owned(), node(number).to_string())
}

/// A small object, so that the events and not their bytes are counted.
pub(crate) fn create_config_map(number: usize) -> Sent {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w-{number}")},
        "data": {"key": "value"}});
    ("POST", CONFIG_MAPS.to_owned(), object.to_string())
}

pub(crate) fn get(path: &str) -> Sent {
    ("GET", path.to_owned(), String::new())
}

pub(crate) fn delete_all(path: &str) -> Sent {
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    ("DELETE", path.to_owned(), options.to_string())
}

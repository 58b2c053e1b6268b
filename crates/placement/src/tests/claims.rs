//! Persistent volumes and the claims that wait for their first pod.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use berth_core::resources::Overhead;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use crate::claims::{Claims, Step, Storage};
use crate::preempt::victims;
use crate::{HandlerRule, NodeInfo, PodInfo, Surroundings, filter};

fn node(name: &str) -> NodeInfo {
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "pods": "10"}}});
    NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()))
}

fn pod(name: &str, claims: &[&str], priority: i32) -> PodInfo {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    let pod = json!({"metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}")},
        "spec": {"containers": [], "volumes": volumes, "priority": priority}});
    PodInfo::new(
        Arc::new(serde_json::from_value(pod).unwrap()),
        Overhead::Counted,
    )
}

#[derive(Default)]
struct Shelf {
    claims: HashMap<String, PersistentVolumeClaim>,
    volumes: HashMap<String, PersistentVolume>,
    classes: HashMap<String, StorageClass>,
    reserved: BTreeSet<String>,
}

impl Shelf {
    fn storage(&self) -> Storage<'_> {
        Storage {
            claims: &self.claims,
            volumes: &self.volumes,
            classes: &self.classes,
            reserved: &self.reserved,
        }
    }

    fn class(mut self, name: &str, mode: &str, provisioner: &str) -> Self {
        let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        self.classes
            .insert(name.to_owned(), serde_json::from_value(class).unwrap());
        self
    }

    /// A claim of 2Gi; bound to `volume` where that says so.
    fn claim(mut self, name: &str, class: &str, mode: &str, volume: &str) -> Self {
        let mut claim = json!({"metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}")},
            "spec": {"storageClassName": class, "accessModes": [mode],
                "resources": {"requests": {"storage": "2Gi"}}}});
        if !volume.is_empty() {
            claim["spec"]["volumeName"] = json!(volume);
            claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        }
        self.claims
            .insert(format!("a/{name}"), serde_json::from_value(claim).unwrap());
        self
    }

    /// A volume on a node, of a claim where that says so.
    fn volume(mut self, name: &str, size: &str, node: &str, owner: Value) -> Self {
        let volume = json!({"metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
                "claimRef": owner, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}});
        self.volumes
            .insert(name.to_owned(), serde_json::from_value(volume).unwrap());
        self
    }

    /// Why each node refuses the pod, or why all do.
    fn refusals(&self, pod: &PodInfo, nodes: &[NodeInfo]) -> Vec<String> {
        let claims = match Claims::of(pod, self.storage()) {
            Ok(Some(claims)) => claims,
            Ok(None) => return vec![String::new(); nodes.len()],
            Err(why) => return vec![why],
        };
        let around = Surroundings::default().with_claims(claims, nodes.iter());
        nodes
            .iter()
            .map(|node| {
                let reasons = filter(pod, node, &HandlerRule::Any, &around);
                let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                words.join(", ")
            })
            .collect()
    }

    /// What is done for the pod's claims on a node.
    fn steps(&self, pod: &PodInfo, node: &NodeInfo) -> Option<Vec<String>> {
        let claims = Claims::of(pod, self.storage()).unwrap().unwrap();
        let steps = claims.steps(node.node())?;
        let name = |name: &Option<String>| name.clone().unwrap();
        let words = steps.iter().map(|step| match step {
            Step::Reserve(volume, claim) => format!(
                "{} for {}",
                name(&volume.metadata.name),
                name(&claim.metadata.name)
            ),
            Step::Provision(claim) => format!("new for {}", name(&claim.metadata.name)),
        });
        Some(words.collect())
    }
}

const FAR: &str = "node(s) didn't match PersistentVolume's node affinity";
const NONE: &str = "node(s) didn't find available persistent volumes to bind";
const IN_USE: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
const RWO: &str = "ReadWriteOnce";

fn of(name: &str, uid: &str) -> Value {
    json!({"namespace": "a", "name": name, "uid": uid})
}

#[test]
fn a_bound_claim_leads_to_its_volume() {
    let nodes = [node("n1"), node("n2")];
    let shelf =
        Shelf::default()
            .claim("c", "slow", RWO, "v")
            .volume("v", "2Gi", "n1", of("c", "uid-c"));
    let pod = pod("p", &["c"], 0);
    assert_eq!(shelf.refusals(&pod, &nodes), ["", FAR]);
    // The volume of an older claim of this name, or of nobody, is not this claim's.
    for owner in [of("c", "uid-before"), Value::Null] {
        let shelf = Shelf::default()
            .claim("c", "slow", RWO, "v")
            .volume("v", "2Gi", "n1", owner);
        let lost = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
        assert_eq!(shelf.refusals(&pod, &nodes), [lost; 2]);
    }
}

#[test]
fn what_keeps_a_pod_from_all_nodes() {
    let nodes = [node("n1")];
    let pod = pod("p", &["c"], 0);
    let shelf = Shelf::default();
    assert_eq!(
        shelf.refusals(&pod, &nodes),
        ["persistentvolumeclaim \"c\" not found"]
    );
    let unbound = ["pod has unbound immediate PersistentVolumeClaims"];
    let shelf = Shelf::default().claim("c", "slow", RWO, "");
    assert_eq!(shelf.refusals(&pod, &nodes), unbound, "no such class");
    let shelf = shelf.class("slow", "Immediate", "example.com/p");
    assert_eq!(shelf.refusals(&pod, &nodes), unbound);
    let mut shelf = shelf.class("slow", "WaitForFirstConsumer", "example.com/p");
    assert_eq!(shelf.refusals(&pod, &nodes), [""]);
    let claim = shelf.claims.get_mut("a/c").unwrap();
    claim.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        jiff::Timestamp::UNIX_EPOCH,
    ));
    assert_eq!(
        shelf.refusals(&pod, &nodes),
        ["persistentvolumeclaim \"c\" is being deleted"]
    );
}

#[test]
fn a_claim_that_waits_gets_a_volume_that_is_there_or_a_new_one() {
    let nodes = [node("n1"), node("n2")];
    let pod = pod("p", &["c", "d"], 0);
    let shelf = |provisioner: &str| {
        Shelf::default()
            .class("slow", "WaitForFirstConsumer", provisioner)
            .claim("c", "slow", RWO, "")
            .claim("d", "slow", RWO, "")
            .volume("large", "9Gi", "n1", Value::Null)
            .volume("fits", "2Gi", "n1", Value::Null)
            .volume("small", "1Gi", "n2", Value::Null)
            .volume("taken", "2Gi", "n2", of("x", "uid-x"))
    };
    let only = shelf("kubernetes.io/no-provisioner");
    assert_eq!(only.refusals(&pod, &nodes), ["", NONE]);
    let steps = only.steps(&pod, &nodes[0]).unwrap();
    assert_eq!(steps, ["fits for c", "large for d"], "each its own");
    let mut makes = shelf("example.com/p");
    let steps = makes.steps(&pod, &nodes[1]).unwrap();
    assert_eq!(steps, ["new for c", "new for d"]);
    makes.reserved.insert("fits".to_owned());
    let steps = makes.steps(&pod, &nodes[0]).unwrap();
    assert_eq!(steps, ["large for c", "new for d"]);
    // A volume that is being made for a node stays with it.
    let claim = makes.claims.get_mut("a/c").unwrap();
    let selected = (
        "volume.kubernetes.io/selected-node".to_owned(),
        "n2".to_owned(),
    );
    claim.metadata.annotations = Some([selected].into());
    assert_eq!(makes.refusals(&pod, &nodes), [NONE, ""]);
}

#[test]
fn another_namespaces_volume_is_not_free() {
    let shelf = Shelf::default()
        .class(
            "slow",
            "WaitForFirstConsumer",
            "kubernetes.io/no-provisioner",
        )
        .claim("c", "slow", RWO, "")
        .volume("v", "2Gi", "n1", json!({"namespace": "b", "name": "c"}));
    assert_eq!(shelf.refusals(&pod("p", &["c"], 0), &[node("n1")]), [NONE]);
}

#[test]
fn a_claim_of_one_pod_at_a_time() {
    let mut nodes = [node("n1"), node("n2")];
    let shelf = Shelf::default()
        .claim("c", "slow", "ReadWriteOncePod", "v")
        .volume("v", "2Gi", "n1", of("c", "uid-c"));
    let next = pod("next", &["c"], 5);
    assert_eq!(shelf.refusals(&next, &nodes), ["", FAR]);
    nodes[0].add(&pod("user", &["c"], 1));
    assert_eq!(shelf.refusals(&next, &nodes), [IN_USE; 2]);
    // Who has it may have to leave.
    let claims = Claims::of(&next, shelf.storage()).unwrap().unwrap();
    let around = Surroundings::default().with_claims(claims, nodes.iter());
    let found = victims(&next, &nodes[0], &HandlerRule::Any, &around, &[], &[]);
    assert_eq!(found.map(|found| found.pods.len()), Some(1));
    let equal = pod("equal", &["c"], 1);
    let claims = Claims::of(&equal, shelf.storage()).unwrap().unwrap();
    let around = Surroundings::default().with_claims(claims, nodes.iter());
    assert!(victims(&equal, &nodes[0], &HandlerRule::Any, &around, &[], &[]).is_none());
}

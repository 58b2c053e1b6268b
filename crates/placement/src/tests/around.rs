//! Affinity between pods, topology spread, and who makes room for whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_core::resources::Overhead;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::preempt::{Victims, may_preempt, pick, victims};
use crate::{
    HandlerRule, ImageSpread, Namespaces, NodeInfo, PodInfo, Surroundings, filter, filter_beside,
    fits, score, siblings_of,
};

fn node(name: &str, zone: &str) -> NodeInfo {
    let mut labels = json!({"kubernetes.io/hostname": name});
    if !zone.is_empty() {
        labels["zone"] = json!(zone);
    }
    let node = json!({"metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()))
}

/// A pod of `ns/name` with labels, and more in its spec.
fn pod(name: &str, labels: Value, more: Value) -> PodInfo {
    let (namespace, name) = name.split_once('/').unwrap();
    let mut spec = json!({"containers": []});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{namespace}-{name}"), "labels": labels},
        "spec": spec,
    }))
    .unwrap();
    pod.spec.get_or_insert_default().containers = vec![Default::default()];
    PodInfo::new(Arc::new(pod), Overhead::Counted)
}

fn web(name: &str) -> PodInfo {
    pod(name, json!({"app": "web"}), json!({}))
}

fn namespaces() -> Namespaces {
    ["a", "b"]
        .map(|name| {
            let labels = BTreeMap::from([("team".to_owned(), name.to_owned())]);
            (name.to_owned(), labels)
        })
        .into()
}

/// Why each node refuses the pod, in words.
fn refusals(pod: &PodInfo, nodes: &[NodeInfo]) -> Vec<String> {
    let (all, any) = (namespaces(), HandlerRule::Any);
    let terms = nodes
        .iter()
        .flat_map(NodeInfo::placed)
        .any(PodInfo::has_terms);
    let around = Surroundings::of(pod, nodes.iter(), &all, terms);
    nodes
        .iter()
        .map(|node| {
            let reasons = filter(pod, node, &any, &around);
            assert_eq!(reasons.is_empty(), fits(pod, node, &any, &around));
            let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            words.join(", ")
        })
        .collect()
}

fn term(more: Value) -> Value {
    let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
    for (key, value) in more.as_object().unwrap() {
        term[key] = value.clone();
    }
    term
}

fn affinity(kind: &str, term: Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

const NOT_NEAR: &str = "node(s) didn't match pod affinity rules";
const NOT_APART: &str = "node(s) didn't match pod anti-affinity rules";
const REPELLED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// Two nodes of zone x, one of zone y, one of no zone; a web pod of namespace a on the first.
fn zones() -> Vec<NodeInfo> {
    let mut nodes = vec![
        node("n1", "x"),
        node("n2", "x"),
        node("n3", "y"),
        node("n4", ""),
    ];
    nodes[0].add(&web("a/one"));
    nodes
}

#[test]
fn pods_near_and_apart_by_place_and_namespace() {
    let nodes = zones();
    let of = |from: &str, kind: &str, more: Value| {
        let pod = pod(from, json!({"app": "db"}), affinity(kind, term(more)));
        refusals(&pod, &nodes)
    };
    let near = ["", "", NOT_NEAR, NOT_NEAR];
    let nowhere = [NOT_NEAR; 4];
    assert_eq!(of("a/p", "podAffinity", json!({})), near);
    assert_eq!(
        of("b/p", "podAffinity", json!({})),
        nowhere,
        "another namespace"
    );
    assert_eq!(of("b/p", "podAffinity", json!({"namespaces": ["a"]})), near);
    let team = json!({"namespaceSelector": {"matchLabels": {"team": "a"}}});
    assert_eq!(of("b/p", "podAffinity", team), near);
    assert_eq!(
        of("b/p", "podAffinity", json!({"namespaceSelector": {}})),
        near
    );
    assert_eq!(
        of("a/p", "podAffinity", json!({"labelSelector": null})),
        nowhere
    );

    let apart = [NOT_APART, NOT_APART, "", ""];
    assert_eq!(of("a/p", "podAntiAffinity", json!({})), apart);
    assert_eq!(of("b/p", "podAntiAffinity", json!({})), [""; 4]);
    let host = json!({"topologyKey": "kubernetes.io/hostname"});
    assert_eq!(of("a/p", "podAntiAffinity", host), [NOT_APART, "", "", ""]);
}

#[test]
fn the_first_of_a_group_goes_anywhere_that_has_the_label() {
    let nodes = vec![node("n1", "x"), node("n2", "")];
    let first = pod(
        "a/p",
        json!({"app": "web"}),
        affinity("podAffinity", term(json!({}))),
    );
    assert_eq!(refusals(&first, &nodes), ["", NOT_NEAR]);
    let other = pod(
        "b/p",
        json!({"app": "db"}),
        affinity("podAffinity", term(json!({}))),
    );
    assert_eq!(refusals(&other, &nodes), [NOT_NEAR; 2]);
}

#[test]
fn pods_that_are_there_keep_others_away() {
    let mut nodes = zones();
    let alone = pod(
        "a/alone",
        json!({}),
        affinity("podAntiAffinity", term(json!({}))),
    );
    nodes[2].add(&alone);
    assert_eq!(refusals(&web("a/two"), &nodes), ["", "", REPELLED, ""]);
    assert_eq!(refusals(&web("b/two"), &nodes), [""; 4]);
    assert_eq!(
        refusals(&pod("a/db", json!({}), json!({})), &nodes),
        [""; 4]
    );
    nodes[2].remove(&alone);
    assert_eq!(refusals(&web("a/two"), &nodes), [""; 4]);
}

fn spread(more: Value) -> Value {
    let mut one = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    for (key, value) in more.as_object().unwrap() {
        one[key] = value.clone();
    }
    json!({"topologySpreadConstraints": [one]})
}

#[test]
fn pods_are_spread_over_places() {
    let nodes = zones();
    let of = |more: Value| {
        let labels = json!({"app": "web", "hash": "2"});
        refusals(&pod("a/p", labels, spread(more)), &nodes)
    };
    let uneven = [UNEVEN, UNEVEN, "", NO_LABEL];
    let free = ["", "", "", NO_LABEL];
    assert_eq!(of(json!({})), uneven);
    assert_eq!(of(json!({"maxSkew": 2})), free);
    assert_eq!(of(json!({"whenUnsatisfiable": "ScheduleAnyway"})), [""; 4]);
    // The pod that is there has no such hash.
    assert_eq!(of(json!({"matchLabelKeys": ["hash"]})), free);
    // With fewer places than there should be, none may have more than the skew.
    assert_eq!(of(json!({"minDomains": 3})), uneven);
    assert_eq!(of(json!({"minDomains": 2, "maxSkew": 2})), free);
    let other = pod("b/p", json!({"app": "web"}), spread(json!({})));
    assert_eq!(
        refusals(&other, &nodes),
        free,
        "pods of other namespaces don't count"
    );
}

#[test]
fn places_that_the_pod_may_not_go_to_count_by_the_policies() {
    let mut nodes = zones();
    let tainted = json!({"metadata": {"name": "n5", "labels": {"zone": "z", "kubernetes.io/hostname": "n5"}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    nodes.push(NodeInfo::new(Arc::new(
        serde_json::from_value(tainted).unwrap(),
    )));
    nodes[2].add(&web("a/two"));
    let of = |more: Value| {
        let mut spec = spread(more);
        spec["nodeSelector"] = json!({"zone": "x"});
        refusals(&pod("a/p", json!({"app": "web"}), spec), &nodes)[0].clone()
    };
    // Zone x alone counts, so nothing is uneven.
    assert_eq!(of(json!({})), "");
    // Zone z is empty, and counts.
    assert_eq!(of(json!({"nodeAffinityPolicy": "Ignore"})), UNEVEN);
    let both = json!({"nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"});
    assert_eq!(of(both), "", "a tainted node's place does not count");
}

#[test]
fn a_pod_that_is_being_deleted_is_not_spread() {
    let mut nodes = vec![node("n1", "x"), node("n2", "y")];
    let mut leaving = Pod::clone(web("a/one").pod());
    leaving.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
    );
    nodes[0].add(&PodInfo::new(Arc::new(leaving), Overhead::Counted));
    let next = pod("a/p", json!({"app": "web"}), spread(json!({})));
    assert_eq!(refusals(&next, &nodes), ["", ""]);
}

#[test]
fn what_is_preferred_decides_between_nodes_that_fit() {
    let mut nodes = zones();
    // As much on each of the others as on the first.
    nodes[1].add(&pod("b/fill", json!({}), json!({})));
    nodes[2].add(&pod("b/fill", json!({}), json!({})));
    let all = namespaces();
    let best = |pod: &PodInfo| {
        let around = Surroundings::of(pod, nodes.iter(), &all, true);
        let candidates: Vec<&NodeInfo> = nodes[..3].iter().collect();
        score(pod, &candidates, &around, &ImageSpread::default())
    };
    let preferred = |kind: &str| {
        let term = json!({"weight": 10, "podAffinityTerm": term(json!({}))});
        let affinity = json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}});
        best(&pod("a/p", json!({}), affinity))
    };
    let near = preferred("podAffinity");
    assert!(near[0] == near[1] && near[0] > near[2], "{near:?}");
    let apart = preferred("podAntiAffinity");
    assert!(apart[0] == apart[1] && apart[0] < apart[2], "{apart:?}");
    let soft = spread(json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    let even = best(&pod("a/p", json!({"app": "web"}), soft));
    assert!(even[0] == even[1] && even[0] < even[2], "{even:?}");
}

#[test]
fn pods_of_a_kind_go_apart_without_a_word() {
    let zoned = |name: &str, zone: Option<&str>| {
        let mut labels = json!({"kubernetes.io/hostname": name});
        if let Some(zone) = zone {
            labels["topology.kubernetes.io/zone"] = json!(zone);
        }
        let node = json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
        NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()))
    };
    let all = namespaces();
    let scores = |pod: &PodInfo, nodes: &[NodeInfo]| {
        let around = Surroundings::of(pod, nodes.iter(), &all, false);
        let candidates: Vec<&NodeInfo> = nodes.iter().collect();
        score(pod, &candidates, &around, &ImageSpread::default())
    };
    let siblings = siblings_of(
        web("a/p").pod(),
        [&BTreeMap::from([("app".to_owned(), "web".to_owned())])],
        None,
    );
    let next = web("a/p").with_siblings(siblings.clone());
    // All nodes are equally full; the first has a sibling.
    let fill = |nodes: &mut [NodeInfo]| {
        nodes[0].add(&web("a/one"));
        for node in &mut nodes[1..] {
            node.add(&pod("b/fill", json!({"app": "web"}), json!({})));
        }
    };
    let mut plain = [zoned("n1", None), zoned("n2", None)];
    fill(&mut plain);
    let found = scores(&next, &plain);
    assert!(found[0] < found[1], "over nodes: {found:?}");
    let mut zones = [
        zoned("n1", Some("x")),
        zoned("n2", Some("x")),
        zoned("n3", Some("y")),
    ];
    fill(&mut zones);
    let found = scores(&next, &zones);
    assert!(
        found[0] < found[1] && found[1] < found[2],
        "over nodes and zones: {found:?}"
    );
    // It never keeps a pod away, and what a pod says itself goes before.
    assert_eq!(refusals(&next, &plain), ["", ""]);
    let own = spread(json!({"whenUnsatisfiable": "ScheduleAnyway", "topologyKey": "none"}));
    let own = pod("a/p", json!({"app": "web"}), own).with_siblings(siblings);
    let found = scores(&own, &plain);
    assert_eq!(found[0], found[1]);
    let found = scores(&web("a/p"), &plain);
    assert_eq!(found[0], found[1], "of nobody's kind");
}

#[test]
fn siblings_are_what_services_and_the_owner_select() {
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let labels = json!({"app": "web", "tier": "front", "hash": "1"});
    let pod = pod("a/p", labels, json!({}));
    let of = |services: &[BTreeMap<String, String>], owner: Value| {
        let owner: Option<LabelSelector> = serde_json::from_value(owner).unwrap();
        let found = siblings_of(pod.pod(), services, owner.as_ref());
        serde_json::to_value(found).unwrap()
    };
    assert_eq!(of(&[], Value::Null), Value::Null);
    assert_eq!(of(&[map("app", "db")], Value::Null), Value::Null);
    let both = [map("app", "web"), map("tier", "front"), map("app", "db")];
    assert_eq!(
        of(&both, Value::Null),
        json!({"matchLabels": {"app": "web", "tier": "front"}})
    );
    let owner = json!({"matchLabels": {"hash": "1"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]});
    assert_eq!(
        of(&both[..1], owner),
        json!({"matchLabels": {"app": "web", "hash": "1"},
            "matchExpressions": [{"key": "app", "operator": "Exists"}]})
    );
}

/// A pod that takes so many CPUs, of a priority, that started so many seconds after the epoch.
fn worker(name: &str, cpu: &str, priority: i32, started: i64) -> PodInfo {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}"), "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"startTime": jiff::Timestamp::from_second(started).unwrap().to_string()},
    }))
    .unwrap();
    PodInfo::new(Arc::new(pod), Overhead::Counted)
}

fn budget(app: &str, allowed: i32) -> PodDisruptionBudget {
    serde_json::from_value(json!({"metadata": {"namespace": "a", "name": app},
        "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": allowed,
        "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}))
    .unwrap()
}

fn names(victims: Option<&Victims<'_>>) -> Option<Vec<String>> {
    let names = |victims: &Victims<'_>| {
        let names = victims.pods.iter();
        names
            .map(|pod| pod.pod().metadata.name.clone().unwrap())
            .collect()
    };
    victims.map(names)
}

#[test]
fn as_few_as_possible_and_the_least_important_leave() {
    let mut node = node("n", "x");
    for one in [
        worker("high", "1", 9, 1),
        worker("mid", "1", 5, 1),
        worker("old", "1", 1, 1),
        worker("young", "1", 1, 2),
    ] {
        node.add(&one);
    }
    let around = Surroundings::default();
    let of = |cpu: &str, priority: i32, budgets: &[PodDisruptionBudget]| {
        let pod = worker("next", cpu, priority, 3);
        let budgets: Vec<&PodDisruptionBudget> = budgets.iter().collect();
        let found = victims(&pod, &node, &HandlerRule::Any, &around, &[], &budgets);
        (
            names(found.as_ref()),
            found.map_or(0, |found| found.violations),
        )
    };
    let list = |all: &[&str]| {
        Some(
            all.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(of("1", 6, &[]), (list(&["young"]), 0));
    assert_eq!(of("2", 6, &[]), (list(&["old", "young"]), 0));
    assert_eq!(of("3", 6, &[]), (list(&["mid", "old", "young"]), 0));
    assert_eq!(of("4", 6, &[]), (None, 0), "not the one of higher priority");
    assert_eq!(of("1", 1, &[]), (None, 0), "nobody of the same priority");
    assert_eq!(of("1", -5, &[]), (None, 0));
    let young = [budget("young", 0)];
    assert_eq!(of("1", 6, &young), (list(&["old"]), 0), "a budget protects");
    assert_eq!(
        of("3", 6, &young),
        (list(&["mid", "old", "young"]), 1),
        "but not for ever"
    );
    assert_eq!(of("1", 6, &[budget("young", 1)]), (list(&["young"]), 0));
}

#[test]
fn the_node_where_least_is_lost() {
    let workers = [
        worker("a", "1", 1, 1),
        worker("b", "1", 1, 9),
        worker("c", "1", 5, 1),
        worker("d", "1", 1, 5),
    ];
    let of = |all: &[usize], violations: usize| Victims {
        pods: all.iter().map(|at| &workers[*at]).collect(),
        violations,
    };
    let best = |all: &[Victims<'_>]| pick(all).unwrap();
    assert_eq!(best(&[of(&[0], 1), of(&[2, 0], 0)]), 1, "budgets first");
    assert_eq!(
        best(&[of(&[2], 0), of(&[0, 1], 0)]),
        1,
        "then the highest priority"
    );
    assert_eq!(best(&[of(&[0, 1], 0), of(&[0], 0)]), 1, "then the sum");
    assert_eq!(
        best(&[of(&[0], 0), of(&[1], 0), of(&[3], 0)]),
        1,
        "then the youngest"
    );
    assert_eq!(best(&[of(&[0], 0), of(&[0], 0)]), 0, "then the first");
    assert_eq!(pick(&[]), None);
}

#[test]
fn who_keeps_a_pod_away_can_be_a_victim_and_a_far_one_cannot() {
    let mut nodes = zones();
    let mut alone = affinity("podAntiAffinity", term(json!({})));
    alone["priority"] = json!(0);
    let alone = pod("a/alone", json!({}), alone);
    nodes[2].add(&alone);
    let next = pod("a/next", json!({"app": "web"}), json!({"priority": 1}));
    let (all, any) = (namespaces(), HandlerRule::Any);
    let around = Surroundings::of(&next, nodes.iter(), &all, true);
    let found = victims(&next, &nodes[2], &any, &around, &[], &[]);
    assert_eq!(names(found.as_ref()), Some(vec!["alone".to_owned()]));
    // The same zone, another node: its pods leaving doesn't help.
    let mut far = [node("n1", "y"), node("n2", "y")];
    far[0].add(&alone);
    far[1].add(&pod("a/bystander", json!({}), json!({})));
    let around = Surroundings::of(&next, far.iter(), &all, true);
    assert!(victims(&next, &far[1], &any, &around, &[], &[]).is_none());
}

#[test]
fn a_promised_node_is_full_for_others() {
    let node = node("n", "x");
    let promised = worker("promised", "3", 5, 1);
    let around = Surroundings::default();
    let of = |cpu: &str| {
        let pod = worker("next", cpu, 1, 1);
        filter_beside(&pod, &node, &HandlerRule::Any, &around, &[&promised]).len()
    };
    assert_eq!((of("2"), of("1")), (1, 0));
}

#[test]
fn a_policy_of_never_is_kept() {
    assert!(may_preempt(&web("a/p")));
    let never = pod("a/p", json!({}), json!({"preemptionPolicy": "Never"}));
    assert!(!may_preempt(&never));
}

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerImage, ContainerPort, Node, NodeAffinity, NodeRuntimeHandler,
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, NodeSpec, NodeStatus, Pod, PodSpec,
    PreferredSchedulingTerm, ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use berth_core::resources::Overhead;

mod around;
mod claims;

fn list(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).into(), Quantity((*amount).into())))
        .collect()
}

fn node(change: impl FnOnce(&mut Node)) -> NodeInfo {
    let mut node = Node {
        metadata: ObjectMeta {
            name: Some("n".into()),
            labels: Some(BTreeMap::from([
                ("disk".into(), "ssd".into()),
                ("size".into(), "7".into()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            allocatable: Some(list(&[("cpu", "2"), ("memory", "1Gi"), ("pods", "3")])),
            ..NodeStatus::default()
        }),
    };
    change(&mut node);
    NodeInfo::new(Arc::new(node))
}

fn pod(change: impl FnOnce(&mut PodSpec)) -> PodInfo {
    let mut spec = PodSpec {
        containers: vec![Container {
            resources: Some(ResourceRequirements {
                requests: Some(list(&[("cpu", "1"), ("memory", "512Mi")])),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    };
    change(&mut spec);
    let pod = Pod {
        spec: Some(spec),
        ..Pod::default()
    };
    PodInfo::new(Arc::new(pod), Overhead::Counted)
}

fn reasons(pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
    filter(pod, node, &HandlerRule::Any, &Surroundings::default())
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn with_handlers(names: &[&str]) -> NodeInfo {
    node(|node| {
        let handlers = names.iter().map(|name| NodeRuntimeHandler {
            name: Some((*name).into()),
            ..Default::default()
        });
        node.status.get_or_insert_default().runtime_handlers = Some(handlers.collect());
    })
}

#[test]
fn resources_with_overhead_decide() {
    let plain = pod(|_| {});
    let heavy = pod(|spec| spec.overhead = Some(list(&[("cpu", "1500m"), ("memory", "1Gi")])));
    let mut node = node(|_| {});
    assert!(reasons(&plain, &node).is_empty());
    assert_eq!(
        reasons(&heavy, &node),
        ["Insufficient cpu", "Insufficient memory"]
    );
    node.add(&plain);
    node.add(&plain);
    assert_eq!(
        reasons(&plain, &node),
        ["Insufficient cpu", "Insufficient memory"]
    );
    node.remove(&plain);
    assert!(reasons(&plain, &node).is_empty(), "what left is free again");
}

#[test]
fn a_pod_without_requests_needs_only_a_place() {
    let tiny = pod(|spec| spec.containers[0].resources = None);
    let mut node = node(|_| {});
    for _ in 0..3 {
        assert!(reasons(&tiny, &node).is_empty());
        node.add(&tiny);
    }
    assert_eq!(reasons(&tiny, &node), ["Too many pods"]);
}

#[test]
fn taints_keep_out_who_does_not_tolerate() {
    let tainted = node(|node| {
        node.spec.get_or_insert_default().taints = Some(vec![Taint {
            key: "gpu".into(),
            value: Some("yes".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        }]);
    });
    assert_eq!(
        reasons(&pod(|_| {}), &tainted),
        ["node(s) had untolerated taint {gpu: yes}"]
    );
    let tolerant = pod(|spec| {
        spec.tolerations = Some(vec![Toleration {
            key: Some("gpu".into()),
            operator: Some("Exists".into()),
            ..Toleration::default()
        }]);
    });
    assert!(reasons(&tolerant, &tainted).is_empty());
}

#[test]
fn a_cordoned_node_takes_nobody() {
    let cordoned = node(|node| node.spec.get_or_insert_default().unschedulable = Some(true));
    assert_eq!(
        reasons(&pod(|_| {}), &cordoned),
        ["node(s) were unschedulable"]
    );
}

fn require(operator: &str, key: &str, values: &[&str]) -> PodInfo {
    let requirement = NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values: Some(values.iter().map(|value| (*value).into()).collect()),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        ..Default::default()
    };
    pod(|spec| {
        spec.affinity = Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![term],
                }),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        });
    })
}

#[test]
fn selectors_and_affinity() {
    let node = node(|_| {});
    let selected = |value: &str| {
        pod(|spec| spec.node_selector = Some(BTreeMap::from([("disk".into(), value.into())])))
    };
    assert!(reasons(&selected("ssd"), &node).is_empty());
    let no = ["node(s) didn't match Pod's node affinity/selector"];
    assert_eq!(reasons(&selected("hdd"), &node), no);
    let cases: [(&str, &str, &[&str], bool); 10] = [
        ("In", "disk", &["hdd", "ssd"], true),
        ("In", "disk", &["hdd"], false),
        ("NotIn", "disk", &["hdd"], true),
        ("NotIn", "colour", &["red"], true),
        ("Exists", "disk", &[], true),
        ("DoesNotExist", "disk", &[], false),
        ("Gt", "size", &["6"], true),
        ("Gt", "size", &["7"], false),
        ("Lt", "size", &["8"], true),
        ("Lt", "disk", &["8"], false),
    ];
    for (operator, key, values, fits) in cases {
        let got = reasons(&require(operator, key, values), &node);
        assert_eq!(got.is_empty(), fits, "{operator} {key} {values:?}: {got:?}");
    }
}

#[test]
fn host_ports_clash_by_address_and_protocol() {
    let at = |address: &str, port: i32| {
        pod(|spec| {
            spec.containers[0].resources = None;
            spec.containers[0].ports = Some(vec![ContainerPort {
                host_port: Some(port),
                host_ip: Some(address.into()),
                ..ContainerPort::default()
            }]);
        })
    };
    let mut node = node(|_| {});
    node.add(&at("127.0.0.1", 80));
    let taken = ["node(s) didn't have free ports for the requested pod ports"];
    assert_eq!(reasons(&at("", 80), &node), taken);
    assert_eq!(reasons(&at("127.0.0.1", 80), &node), taken);
    assert!(reasons(&at("127.0.0.2", 80), &node).is_empty());
    assert!(reasons(&at("", 81), &node).is_empty());
}

#[test]
fn the_handler_binds_while_a_node_has_it() {
    let (with, without) = (
        with_handlers(&["", "runc", "runsc"]),
        with_handlers(&["", "runc"]),
    );
    let silent = node(|_| {});
    let among = |handler, nodes: &[&NodeInfo]| {
        HandlerRule::of(handler, |name| {
            nodes
                .iter()
                .any(|node| node.has_handler(name) == Some(true))
        })
    };
    let rule = among(Some("runsc"), &[&with, &without, &silent]);
    let (plain, around) = (pod(|_| {}), Surroundings::default());
    assert!(filter(&plain, &with, &rule, &around).is_empty());
    let refused = filter(&plain, &without, &rule, &around);
    assert_eq!(refused, [Reason::NoHandler("runsc".into())]);
    assert!(
        filter(&plain, &silent, &rule, &around).is_empty(),
        "an old kubelet reports none"
    );
    assert_eq!(among(Some("runsc"), &[&without, &silent]), HandlerRule::Any);
    assert_eq!(among(None, &[&with]), HandlerRule::Any);
    let text = summarize([refused.as_slice()]);
    assert_eq!(
        text,
        "0/1 nodes are available: 1 node(s) lack runtime handler \"runsc\"."
    );
}

#[test]
fn reasons_are_counted_over_nodes() {
    let by_node = [
        vec![
            Reason::Insufficient("cpu".into()),
            Reason::Insufficient("memory".into()),
        ],
        vec![Reason::Insufficient("cpu".into())],
        vec![Reason::Selector],
    ];
    assert_eq!(
        summarize(by_node.iter().map(Vec::as_slice)),
        "0/3 nodes are available: 1 Insufficient memory, 1 node(s) didn't match Pod's node \
         affinity/selector, 2 Insufficient cpu."
    );
    assert_eq!(summarize([]), "no nodes available to schedule pods");
}

/// What speaks for each of all nodes.
fn best_of(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let spread = ImageSpread::of(nodes.iter().copied());
    score(pod, nodes, &Surroundings::default(), &spread)
}

#[test]
fn the_emptier_node_and_the_preferred_one_win() {
    let plain = pod(|_| {});
    let (empty, mut busy) = (node(|_| {}), node(|_| {}));
    busy.add(&plain);
    let scores = best_of(&plain, &[&busy, &empty]);
    assert!(scores[1] > scores[0], "{scores:?}");

    let picky = pod(|spec| {
        let requirement = NodeSelectorRequirement {
            key: "zone".into(),
            operator: "In".into(),
            values: Some(vec!["a".into()]),
        };
        let preferred = PreferredSchedulingTerm {
            weight: 100,
            preference: NodeSelectorTerm {
                match_expressions: Some(vec![requirement]),
                ..NodeSelectorTerm::default()
            },
        };
        spec.affinity = Some(Affinity {
            node_affinity: Some(NodeAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        });
    });
    let mut zoned = node(|node| {
        node.metadata
            .labels
            .get_or_insert_default()
            .insert("zone".into(), "a".into());
    });
    zoned.add(&plain);
    let scores = best_of(&picky, &[&zoned, &empty]);
    assert!(scores[0] > scores[1], "{scores:?}");
}

#[test]
fn a_prefer_no_schedule_taint_loses() {
    let plain = pod(|_| {});
    let tainted = node(|node| {
        node.spec.get_or_insert_default().taints = Some(vec![Taint {
            key: "old".into(),
            effect: "PreferNoSchedule".into(),
            ..Taint::default()
        }]);
    });
    assert!(reasons(&plain, &tainted).is_empty());
    let scores = best_of(&plain, &[&tainted, &node(|_| {})]);
    assert!(scores[1] > scores[0], "{scores:?}");
}

/// A node with these images, by name and MiB.
fn with_images(images: &[(&str, i64)]) -> NodeInfo {
    node(|node| {
        let images = images.iter().map(|(name, size)| ContainerImage {
            names: Some(vec![(*name).to_owned()]),
            size_bytes: Some(size << 20),
        });
        node.status.get_or_insert_default().images = Some(images.collect());
    })
}

#[test]
fn an_image_counts_by_its_size_and_by_how_many_nodes_have_it() {
    let wants = |images: &[&str]| {
        pod(|spec| {
            let containers = images.iter().map(|image| Container {
                image: Some((*image).to_owned()),
                ..Container::default()
            });
            spec.containers = containers.collect();
        })
    };
    let (big, none) = (with_images(&[("big:1", 1000)]), with_images(&[]));
    let gain = |pod: &PodInfo, with: &NodeInfo, all: &[&NodeInfo]| {
        let spread = ImageSpread::of(all.iter().copied());
        let scores = score(pod, &[with, &none], &Surroundings::default(), &spread);
        scores[0] - scores[1]
    };
    let one = wants(&["big:1"]);
    assert_eq!(gain(&one, &big, &[&big, &big]), 100, "all have it");
    assert_eq!(gain(&one, &big, &[&big, &none]), 48, "half of them");
    let ten = [
        &big, &none, &none, &none, &none, &none, &none, &none, &none, &none,
    ];
    assert_eq!(gain(&one, &big, &ten), 7, "one of ten");
    // Another image of the pod that isn't there makes it count less; the same one twice counts twice.
    assert_eq!(gain(&wants(&["big:1", "x:1"]), &big, &[&big]), 49);
    assert_eq!(gain(&wants(&["big:1", "big:1"]), &big, &[&big]), 100);
    // Without a tag the latest is meant; a port in the registry's name is none.
    for name in ["r:5000/a/b", "r:5000/a/b:latest"] {
        let latest = with_images(&[("r:5000/a/b:latest", 1000)]);
        assert_eq!(gain(&wants(&[name]), &latest, &[&latest]), 100, "{name}");
    }
    // A node that goes takes its images along.
    let mut spread = ImageSpread::of([&big, &none]);
    spread.remove(&none);
    let scores = score(&one, &[&big, &none], &Surroundings::default(), &spread);
    assert_eq!(scores[0] - scores[1], 100);
}

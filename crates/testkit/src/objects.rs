//! Builders of Kubernetes objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Node, NodeCondition, NodeRuntimeHandler, NodeSpec, NodeStatus, Pod, PodSpec,
    PodStatus, ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Quantities by name, as written.
fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect()
}

/// A RuntimeClass with nothing but its handler.
#[must_use]
pub fn runtime_class(name: &str, handler: &str) -> RuntimeClass {
    RuntimeClass {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        handler: handler.to_owned(),
        ..RuntimeClass::default()
    }
}

/// Builds a Pod with one container named `main`.
#[derive(Debug, Clone)]
pub struct PodBuilder(Pod);

impl PodBuilder {
    /// A pod in namespace `default`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let container = Container {
            name: "main".to_owned(),
            image: Some("example.com/app:1".to_owned()),
            ..Container::default()
        };
        Self(Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("default".to_owned()),
                uid: Some(format!("uid-{name}")),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some("Pending".to_owned()),
                ..PodStatus::default()
            }),
        })
    }

    fn spec(&mut self) -> &mut PodSpec {
        self.0.spec.get_or_insert_default()
    }

    /// Names a RuntimeClass.
    #[must_use]
    pub fn class(mut self, name: &str) -> Self {
        self.spec().runtime_class_name = Some(name.to_owned());
        self
    }

    /// Sets the requests of the container.
    #[must_use]
    pub fn requests(mut self, pairs: &[(&str, &str)]) -> Self {
        self.spec().containers[0].resources = Some(ResourceRequirements {
            requests: Some(quantities(pairs)),
            ..ResourceRequirements::default()
        });
        self
    }

    /// Sets the pod's overhead.
    #[must_use]
    pub fn overhead(mut self, pairs: &[(&str, &str)]) -> Self {
        self.spec().overhead = Some(quantities(pairs));
        self
    }

    /// Binds the pod to a node.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        self.spec().node_name = Some(name.to_owned());
        self
    }

    /// Adds a label to the node selector.
    #[must_use]
    pub fn select(mut self, key: &str, value: &str) -> Self {
        self.spec()
            .node_selector
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a toleration of everything with this key.
    #[must_use]
    pub fn tolerate(mut self, key: &str) -> Self {
        self.spec()
            .tolerations
            .get_or_insert_default()
            .push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            });
        self
    }

    /// Sets `status.phase`.
    #[must_use]
    pub fn phase(mut self, phase: &str) -> Self {
        self.0.status.get_or_insert_default().phase = Some(phase.to_owned());
        self
    }

    /// The pod.
    #[must_use]
    pub fn build(self) -> Pod {
        self.0
    }
}

/// Builds a ready Node.
#[derive(Debug, Clone)]
pub struct NodeBuilder(Node);

impl NodeBuilder {
    /// A node with 4 CPUs, 8Gi of memory and room for 110 pods.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let room = quantities(&[("cpu", "4"), ("memory", "8Gi"), ("pods", "110")]);
        Self(Node {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(
                    "kubernetes.io/hostname".to_owned(),
                    name.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec::default()),
            status: Some(NodeStatus {
                capacity: Some(room.clone()),
                allocatable: Some(room),
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".to_owned(),
                    status: "True".to_owned(),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
        })
    }

    /// Sets one allocatable resource.
    #[must_use]
    pub fn allocatable(mut self, name: &str, amount: &str) -> Self {
        self.0
            .status
            .get_or_insert_default()
            .allocatable
            .get_or_insert_default()
            .insert(name.to_owned(), Quantity(amount.to_owned()));
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a taint.
    #[must_use]
    pub fn taint(mut self, key: &str, effect: &str) -> Self {
        self.0
            .spec
            .get_or_insert_default()
            .taints
            .get_or_insert_default()
            .push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                ..Taint::default()
            });
        self
    }

    /// Reports these runtime handlers.
    #[must_use]
    pub fn handlers(mut self, names: &[&str]) -> Self {
        self.0.status.get_or_insert_default().runtime_handlers = Some(
            names
                .iter()
                .map(|name| NodeRuntimeHandler {
                    name: Some((*name).to_owned()),
                    ..NodeRuntimeHandler::default()
                })
                .collect(),
        );
        self
    }

    /// The node.
    #[must_use]
    pub fn build(self) -> Node {
        self.0
    }
}

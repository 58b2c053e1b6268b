//! metrics.k8s.io/v1beta1 NodeMetrics and PodMetrics: they are only read, and made when they are asked for.

use std::collections::BTreeMap;

use berth_api::field::{FieldError, FieldPath};
use berth_rules::Rules;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::VERSION;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, items, name, text};
use crate::registry::{Measured, ResourceHandler, Scope, Subresource};

/// What a node uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct NodeMetrics {
    metadata: ObjectMeta,
    timestamp: String,
    window: String,
    usage: BTreeMap<String, Quantity>,
}

/// What the containers of a pod use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PodMetrics {
    metadata: ObjectMeta,
    timestamp: String,
    window: String,
    containers: Vec<ContainerMetrics>,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, Quantity>,
}

macro_rules! measured {
    ($kind:ident: $text:literal $plural:literal $scope:ident $resource_scope:ident $what:ident $total:ident) => {
        impl k8s_openapi::Resource for $kind {
            const API_VERSION: &'static str = "metrics.k8s.io/v1beta1";
            const GROUP: &'static str = super::GROUP;
            const KIND: &'static str = $text;
            const VERSION: &'static str = VERSION;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $resource_scope;
        }

        impl Metadata for $kind {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl Rules for $kind {
            fn validate(&self) -> Vec<FieldError> {
                vec![FieldError::forbidden(
                    &FieldPath::new("[]"),
                    "objects of this kind are only read",
                )]
            }

            fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
                self.validate()
            }
        }

        impl Kind for $kind {
            type Object = Self;

            const VERSIONS: &'static [&'static str] = &[VERSION];
            const SCOPE: Scope = Scope::$scope;
            const SHORT_NAMES: &'static [&'static str] = &[];
            const CATEGORIES: &'static [&'static str] = &[];
            const FIELD_LABELS: &'static [FieldLabel] = &[];
            const GENERATION: Option<MovedOn<Self>> = None;
            const UPDATES: Updates = Updates {
                create: false,
                unconditional: false,
            };
            const DELETION: Deletion<Self> = Deletion::Immediate;

            fn handler() -> ResourceHandler {
                ResourceHandler::Measured(Measured::$what)
            }

            fn subresources() -> Vec<Subresource> {
                Vec::new()
            }

            fn printer() -> Printer {
                Printer::new(
                    &[
                        ("Name", "string", 0),
                        ("cpu", "string", 0),
                        ("memory", "string", 0),
                        ("Window", "string", 0),
                    ],
                    |object, _| {
                        let (cpu, memory) = $total(object);
                        let window = text(object, "/window").into();
                        vec![name(object), cpu, memory, window]
                    },
                )
            }
        }
    };
}

measured!(NodeMetrics: "NodeMetrics" "nodes" Cluster ClusterResourceScope Nodes of_node);
measured!(PodMetrics: "PodMetrics" "pods" Namespaced NamespaceResourceScope Pods of_pod);

fn of_node(object: &Value) -> (Value, Value) {
    let amount = |of: &str| object["usage"][of].clone();
    (amount("cpu"), amount("memory"))
}

/// All containers together.
fn of_pod(object: &Value) -> (Value, Value) {
    let containers = items(object, "/containers");
    let sum = |of: &str| -> Option<berth_api::quantity::Quantity> {
        let mut sum = berth_api::quantity::Quantity::default();
        for container in containers {
            sum += &container["usage"][of].as_str()?.parse().ok()?;
        }
        Some(sum)
    };
    let shown = |of: &str| sum(of).map_or(Value::Null, |sum| json!(sum.to_string()));
    (shown("cpu"), shown("memory"))
}

fn schema(description: &str, more: Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": description,
        "required": ["timestamp", "window"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "timestamp": {"type": "string", "format": "date-time",
                "description": "The end of the time over which use was measured"},
            "window": {"type": "string", "description": "The length of that time"},
        },
    });
    if let (Some(properties), Value::Object(more)) = (schema["properties"].as_object_mut(), more) {
        properties.extend(more);
    }
    schema
}

fn usage() -> Value {
    json!({"type": "object", "description": "Use of each resource: cpu in cores, memory as the working set in bytes",
        "additionalProperties": {"type": "string"}})
}

/// The OpenAPI schema of NodeMetrics.
pub(super) fn node_schema() -> Value {
    schema("What a node uses", json!({"usage": usage()}))
}

/// The OpenAPI schema of PodMetrics.
pub(super) fn pod_schema() -> Value {
    let container =
        json!({"type": "object", "properties": {"name": {"type": "string"}, "usage": usage()}});
    schema(
        "What the containers of a pod use",
        json!({"containers": {"type": "array", "items": container}}),
    )
}

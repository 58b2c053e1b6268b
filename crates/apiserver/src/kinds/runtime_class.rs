//! node.k8s.io RuntimeClass in its three versions: each is read as itself, and becomes v1.
//!
//! kubectl's wide output shows besides NODES able to run the class, PODS that name it, how far those nodes keep them apart
//! (ISOLATION), whether the server has made the class by itself (MANAGED), and why the other nodes can't run it (UNABLE).

use std::collections::HashMap;
use std::sync::Arc;

use berth_api::runtimeclass::{self, Version};
use berth_api::status::ApiError;
use berth_core::managed_class::is_managed;
use berth_placement::{ClassNode, class_status};
use berth_rules::warnings;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates, decode_as};
use crate::printer::{Printer, created_ago, name, text};
use crate::registry::{Convert, Scope, Subresource};
use crate::storage::Storage;
use crate::strategy::Cluster;

/// Fields at the top of a v1alpha1 object.
const TOP: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
/// Fields of its spec, and what they are called in v1.
const SPEC: [(&str, &str); 3] = [
    ("runtimeHandler", "handler"),
    ("overhead", "overhead"),
    ("scheduling", "scheduling"),
];

impl Kind for RuntimeClass {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1", "v1beta1", "v1alpha1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: true,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Handler", "string", 0),
                ("Age", "string", 0),
            ],
            |class, now| {
                vec![
                    name(class),
                    class["handler"].clone(),
                    created_ago(class, now),
                ]
            },
        )
    }

    fn decode(version: &str, object: Value, unknown: &mut Vec<String>) -> Result<Self, ApiError> {
        decode(version, object, unknown)
    }

    fn convert() -> Option<Convert> {
        Some(Arc::new(convert))
    }

    /// The stock server's warnings; what no node can run as they are now is told by admission.
    fn warnings(class: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(warnings::of_class(class))
    }

    fn wide_printer(storage: &Storage) -> Option<Printer> {
        Some(printer_with_use(storage))
    }
}

/// The stock columns and how far each class is in use at this moment.
fn printer_with_use(storage: &Storage) -> Printer {
    let nodes: Vec<ClassNode> = storage
        .readable::<Node>("core/nodes", None)
        .into_iter()
        .map(|node| ClassNode::new(Arc::new(node)))
        .collect();
    let mut pods: HashMap<String, usize> = HashMap::new();
    for pod in storage.list("core/pods", None) {
        // One that cannot be read was reported; it does not run.
        let Ok(pod) = pod.value() else {
            continue;
        };
        let class = text(&pod, "/spec/runtimeClassName").to_owned();
        if !class.is_empty() {
            *pods.entry(class).or_default() += 1;
        }
    }
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Handler", "string", 0),
            ("Age", "string", 0),
            ("Nodes", "string", 1),
            ("Pods", "string", 1),
            ("Isolation", "string", 1),
            ("Managed", "string", 1),
            ("Unable", "string", 1),
        ],
        move |class, now| {
            let decoded = serde_json::from_value::<RuntimeClass>(class.clone());
            let status = decoded
                .as_ref()
                .map(|class| class_status(class, &nodes))
                .unwrap_or_default();
            let managed = decoded.is_ok_and(|class| is_managed(&class));
            let used = pods
                .get(text(class, "/metadata/name"))
                .copied()
                .unwrap_or(0);
            let stock: [Value; 3] = [
                name(class),
                class["handler"].clone(),
                created_ago(class, now),
            ];
            let mut cells = stock.to_vec();
            cells.push(json!(format!("{}/{}", status.able, nodes.len())));
            cells.push(json!(used.to_string()));
            cells.push(json!(status.isolation()));
            cells.push(json!(if managed { "yes" } else { "no" }));
            cells.push(json!(match status.why() {
                why if why.is_empty() => "<none>".to_owned(),
                why => why,
            }));
            cells
        },
    )
}

/// Reads an object in any version as a v1 RuntimeClass.
///
/// # Errors
/// `BadRequest` for what does not fit the version's type.
fn decode(
    version: &str,
    mut object: Value,
    unknown: &mut Vec<String>,
) -> Result<RuntimeClass, ApiError> {
    let alpha = Version::from_name(version) == Some(Version::V1Alpha1);
    if alpha {
        take_unknown(&mut object, unknown);
    }
    let object = runtimeclass::convert(object, Version::V1)
        .map_err(|e| ApiError::BadRequest(e.to_string()))?;
    let mut found = Vec::new();
    let decoded = decode_as::<RuntimeClass>(&object, &mut found).map_err(|error| match error {
        ApiError::BadRequest(why) if alpha => ApiError::BadRequest(renamed(&why)),
        other => other,
    })?;
    unknown.extend(
        found
            .iter()
            .map(|path| if alpha { renamed(path) } else { path.clone() }),
    );
    Ok(decoded)
}

/// A path or message that begins with a field of v1, as v1alpha1 calls it.
fn renamed(path: &str) -> String {
    for (alpha, v1) in SPEC {
        if let Some(rest) = path.strip_prefix(v1) {
            return format!("spec.{alpha}{rest}");
        }
    }
    path.to_owned()
}

/// Removes what v1alpha1 does not have, so that a field of v1 is not mistaken for its own.
fn take_unknown(object: &mut Value, unknown: &mut Vec<String>) {
    if let Some(map) = object.as_object_mut() {
        map.retain(|key, _| keep(TOP.contains(&key.as_str()), key.clone(), unknown));
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| {
            let known = SPEC.iter().any(|(alpha, _)| alpha == key);
            keep(known, format!("spec.{key}"), unknown)
        });
    }
}

fn keep(known: bool, path: String, unknown: &mut Vec<String>) -> bool {
    if !known {
        unknown.push(path);
    }
    known
}

/// [`crate::registry::Convert`] of the row.
///
/// # Errors
/// `Internal`: what is stored or decoded converts.
fn convert(object: &mut Value, _from: &str, to: &str) -> Result<(), ApiError> {
    let to = Version::parse(to)
        .ok_or_else(|| ApiError::Internal(format!("{to} is no version of RuntimeClass")))?;
    let converted =
        runtimeclass::convert(object.take(), to).map_err(|e| ApiError::Internal(e.to_string()))?;
    *object = converted;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn v1alpha1_is_read_as_itself() {
        let mut unknown = Vec::new();
        let object = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "x"},
            "handler": "no", "spec": {"runtimeHandler": "runsc", "frob": 1, "overhead": {"podFixed": {"cpu": "1000m"}, "x": 1}}});
        let got = decode("v1alpha1", object, &mut unknown).unwrap();
        let got = serde_json::to_value(got).unwrap();
        assert_eq!(got["apiVersion"], "node.k8s.io/v1");
        assert_eq!(got["handler"], "runsc");
        assert_eq!(got["overhead"]["podFixed"]["cpu"], "1");
        assert_eq!(unknown, ["handler", "spec.frob", "spec.overhead.x"]);
        let bad = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "spec": {"runtimeHandler": 1}});
        assert!(
            decode("v1alpha1", bad, &mut unknown)
                .unwrap_err()
                .to_string()
                .starts_with("spec.runtimeHandler")
        );
    }
}
